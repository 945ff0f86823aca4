"""One payload item of an IRE call: what was sent, and how it is found
(§5.3)."""
from .schema import PROTECTED

# Non-CMDB tables that IRE accepts, without relations (§5.7)
FOREIGN = ("cmn_location", "cmn_department", "cmn_cost_center",
           "cmn_building", "sys_user", "sys_user_group")
MAX_NATIVE_KEY = 1000


class Item:
    def __init__(self, index, spec):
        self.index = index
        self.inputs = [index]       # input indices that were merged into it
        self.spec = spec
        self.class_name = spec.get("className")
        self.internal_id = spec.get("internal_id")
        self.table = None
        self.values = {}            # clean
        self.given_id = ""
        self.source_name = self.native_key = self.source_feed = ""
        self.recency = ""
        self.native_keys = []       # of all merged inputs
        self.settings = {}
        self.match = None           # row found
        self.duplicates = []        # rows that lost against the oldest match
        self.insertable = False     # an identifier entry had all its criteria
        self.missing = False        # no entry had its criteria
        self.tokens = []            # what makes two items the same one
        self.identified = False
        self.attempts = []
        self.errors, self.warnings, self.info = [], [], []
        self.masked = []
        self.merged_payloads = []
        self.operation = None
        self.sys_id = "Unknown"
        self.identifier_entry = "Unknown"
        self.row = None
        self.parked = ""            # '', 'partial' or 'incomplete'
        self.parked_id = ""
        self.skipped = False
        self.done = False
        self.merged_into = None

    def error(self, code, message):
        self.errors.append({"error": code, "message": message})

    @property
    def failed(self):
        return bool(self.errors) or bool(self.parked)

    @property
    def is_reference(self):
        """Names a CI and writes nothing to it."""
        return not any(n != "sys_id" for n in self.values)

    def lock_keys(self):
        """Inserts and updates lock what identifies the CI; an item that only
        names one does not."""
        if self.is_reference:
            return set()
        keys = {("key",) + k for k in self.native_keys}
        if self.given_id:
            keys.add(("id", self.given_id))
        if self.match is not None:
            keys.add(("id", self.match["sys_id"]))
        if self.row is not None:
            keys.add(("id", self.row["sys_id"]))
        keys |= {("rule", t) for t in self.tokens if t[0] == "rule"}
        return keys


class Reader:
    """Turns input into Items and looks for their CIs."""

    def __init__(self, run):
        self.run = run
        self.platform = run.platform
        self.store = run.platform.store

    # -- input --------------------------------------------------------------

    def read(self, index, spec):
        item = Item(index, spec if isinstance(spec, dict) else {})
        if not isinstance(spec, dict) or not isinstance(item.class_name, str) \
                or not item.class_name:
            item.error("NO_CLASS_NAME_FOR_INDEPENDENT_CI",
                       "No className in payload item [%d]" % index)
            item.class_name = ""
            return item
        item.table = self.platform.schema.get(item.class_name)
        if item.table is None or not (item.table.is_a("cmdb_ci")
                                      or item.class_name in FOREIGN):
            item.table = None
            self._no_rule(item)
            return item
        self._values(item)
        self._source(item)
        settings = spec.get("settings")
        item.settings = settings if isinstance(settings, dict) else {}
        for member, code in (
                ("lookup", "IDENTIFICATION_RULE_FOR_LOOKUP_MISSING"),
                ("related", "IDENTIFICATION_RULE_FOR_RELATED_ITEM_MISSING")):
            if spec.get(member):
                item.error(code, "No %s rule for table [%s]"
                           % (member, item.class_name))
        return item

    @staticmethod
    def _no_rule(item):
        item.error("IDENTIFICATION_RULE_MISSING",
                   "Identity Rule Missing for table [%s]" % item.class_name)

    def _values(self, item):
        values = item.spec.get("values", {})
        if not isinstance(values, dict) or any(
                isinstance(v, (list, dict)) for v in values.values()):
            item.error("INVALID_INPUT_DATA",
                       "values of payload item [%d] must be an object of "
                       "column to value" % item.index)
            return
        item.given_id = str(values.get("sys_id") or "")
        # System columns are not IRE's to write, and discovery_source is the
        # parameter's (§5.2, §5.4)
        wanted = {n: v for n, v in values.items()
                  if n not in PROTECTED and n not in (
                      "discovery_source", "sys_class_name")}
        item.values = self.platform.records.clean(
            item.table, wanted, self.platform.switches["ire_choice_refusal"])

    def _source(self, item):
        info = item.spec.get("sys_object_source_info")
        if not isinstance(info, dict):
            return
        item.source_name = str(info.get("source_name") or "")
        item.native_key = str(info.get("source_native_key") or "")
        item.source_feed = str(info.get("source_feed") or "")
        item.recency = str(info.get("source_recency_timestamp") or "")
        if not self.run.source_known(item.source_name):
            item.error("INVALID_INPUT_DATA",
                       self.run.bad_source(item.source_name))
        if len(item.native_key) > MAX_NATIVE_KEY:
            item.error("INVALID_INPUT_DATA",
                       "source_native_key is longer than %d" % MAX_NATIVE_KEY)
        if item.source_name and item.native_key:
            item.native_keys = [(item.source_name, item.native_key)]

    # -- identification -----------------------------------------------------

    def identify(self, item, trail=()):
        """Finds the CI; sets match, attempts, tokens, or errors."""
        if item.identified or item.errors:
            return
        item.identified = True
        self._merge_parked(item)
        if item.given_id:
            self._by_sys_id(item)
            return
        if item.native_keys and self._by_native_key(item):
            return
        rule = self.run.rule_for(item.table)
        if rule is None:
            self._no_rule(item)
            return
        host = None
        if rule["independent"] != "true":
            host = self._host(item, trail)
            if item.errors:
                return
        self._by_rule(item, rule, host)
        for key in item.native_keys:
            item.tokens.append(("native",) + key)

    def _by_sys_id(self, item):
        row = self.store.get(item.table.root.name, item.given_id)
        if row is None or row.get("duplicate_of"):
            # §5.6: stale, or that record is a duplicate
            item.error("INVALID_INPUT_DATA",
                       "Found invalid sys_id in payload. No record with "
                       "sys_id [%s] exist in table [%s] or the record is a "
                       "duplicate" % (item.given_id, item.class_name))
            return
        item.match = row
        item.tokens.append(("id", row["sys_id"]))

    def _by_native_key(self, item):
        """§5.3 step 2: before any rule, unless the property skips it."""
        if self.platform.truth(
                "glide.identification_engine.skip_sys_object_source_matching"):
            return False
        source, key = item.native_keys[0]
        target = None
        for row in self.source_rows(source, key):
            target = self.store.get(item.table.root.name,
                                    row.get("target_sys_id", ""))
            if target is not None:
                break
        word = "NO_MATCH" if target is None else "MATCHED"
        item.attempts.append({
            "info": "sys_object_source " + word, "identifierName": "",
            "attemptResult": word, "attributes": [],
            "hybridEntryCiAttributes": []})
        if target is None:
            return False        # none, or it points to a deleted CI [A]
        item.match = target
        item.tokens.append(("id", target["sys_id"]))
        return True

    def source_rows(self, source, key):
        return [r for r in self.store.find("sys_object_source", "id", key)
                if r.get("id") == key and r.get("name") == source]

    def _by_rule(self, item, rule, host):
        """§5.3 step 3: entries in ascending order."""
        for entry in self.run.entries_of(rule):
            names = [a.strip() for a in entry["attributes"].split(",")]
            attempt = {"identifierName": rule["name"], "attemptResult": "",
                       "attributes": names, "searchOnTable": entry["table"],
                       "hybridEntryCiAttributes": []}
            item.attempts.append(attempt)
            given = [item.values.get(n, "") for n in names]
            if (any(v == "" for v in given)
                    and entry.get("allow_null_attribute") != "true"):
                attempt["attemptResult"] = "SKIPPED"
                continue
            item.insertable = True
            item.tokens.append(("rule", entry["table"], tuple(names),
                                tuple(v.casefold() for v in given),
                                host.index if host is not None else None))
            hits = self._search(entry, names, given, host)
            if not hits:
                attempt["attemptResult"] = "NO_MATCH"
                continue
            self._matched(item, attempt, entry, names, hits)
            return
        if not item.insertable:
            item.missing = True

    def _search(self, entry, names, given, host):
        table = entry["table"]
        if table not in self.platform.schema.tables:
            return []
        first = max(range(len(names)), key=lambda i: len(given[i]))
        hits = [r for r in self.store.find(table, names[first], given[first])
                if not r.get("duplicate_of")
                and all(r.get(n, "").casefold() == v.casefold()
                        for n, v in zip(names, given))]
        if entry.get("condition"):
            hits = [r for r in hits if self.platform.queries.matches(
                table, entry["condition"], r)]
        if host is not None:
            hits = [r for r in hits if host.match is not None
                    and self.store.find_pair("cmdb_rel_ci",
                                             "parent", r["sys_id"],
                                             "child", host.match["sys_id"])]
        return hits

    def _matched(self, item, attempt, entry, names, hits):
        hits.sort(key=lambda r: (r["sys_created_on"], r["sys_id"]))
        attempt["attemptResult"] = "MATCHED"
        if len(hits) > 1:
            attempt["attemptResult"] = "MULTI_MATCH"
            threshold = self.platform.switches["ire_duplicate_threshold"]
            if len(hits) > threshold:
                item.error("MULTIPLE_DUPLICATE_RECORDS",
                           "Found duplicate records in table [%s] using "
                           "fields [%s]" % (entry["table"], ",".join(names)))
                return
            item.duplicates = hits[1:]      # the oldest wins (§5.6)
        item.match = hits[0]
        item.identifier_entry = entry["sys_id"]
        item.tokens.append(("id", item.match["sys_id"]))

    def _host(self, item, trail):
        """The item that a dependent class needs in the payload (§5.2)."""
        if item.index in trail:
            item.error("QUALIFICATION_LOOP",
                       "Qualification loop at payload item [%d]" % item.index)
            return None
        for parent, child in self.run.relation_ends:
            if parent == item.index and child is not None:
                host = self.run.items[child]
                self.identify(host, trail + (item.index,))
                if host.errors:
                    item.error("ABANDONED",
                               "Abandoning processing payload item '%d', "
                               "since it depends on payload item '%d', which "
                               "has errors" % (item.index, child))
                return host
        item.error("MISSING_DEPENDENCY",
                   "Missing dependent relation for table [%s]"
                   % item.class_name)
        return None

    def _merge_parked(self, item):
        """A parked partial payload of the same native key is completed by
        this one (§5.5)."""
        if not item.native_keys or not self.run.enhanced:
            return
        source, key = item.native_keys[0]
        for row in self.store.find("cmdb_ire_partial_payloads",
                                   "source_native_key", key):
            if (row.get("source_native_key") == key
                    and row.get("source_name") == source
                    and row.get("class_name") == item.class_name):
                merged = self.run.parked_values(row)
                merged.update(item.values)
                item.values = merged
                item.merged_payloads.append(row["sys_id"])
                self.run.parked_to_drop.append(row)
