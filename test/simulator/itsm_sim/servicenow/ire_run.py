"""One IRE payload from input to answer (§5.2 to §5.6).

Everything is written through the store's journal, so that a dry run and a
refused classic call are simply rolled back: they show exactly what would
have happened, and nothing has.
"""
import json

from .errors import OperationRefused
from .ire_items import Reader
from .ire_relations import Relations
from .reconcile import Reconciler
from .rules import abort_text


class Run:
    def __init__(self, platform, doc, source, options, enhanced, dry, user,
                 inject):
        self.platform = platform
        self.store = platform.store
        self.doc = doc
        self.source = source
        self.options = options
        self.enhanced = enhanced
        self.dry = dry
        self.user = user
        self.inject = inject
        self.busy = lambda keys: False
        self.lock_keys = set()
        self.items = []             # one per input
        self.groups = []            # those that are left after merging
        self.by_internal = {}
        self.relation_ends = []     # (parent index, child index) where known
        self.parked_to_drop = []
        self.reader = Reader(self)
        self.relations = Relations(self)
        self.reconciler = Reconciler(platform)
        self._rules, self._sources = {}, {}
        self.payload_errors = []

    # -- the whole ----------------------------------------------------------

    def execute(self):
        self.items = [self.reader.read(n, s)
                      for n, s in enumerate(self.doc.get("items", []))]
        if not self.source_known(self.source):
            return self._refuse_source()
        self._internal_ids()
        self.relations.read(self.doc.get("relations", []))
        self.store.begin()
        try:
            self._process()
            failed = self._any_error()
            if failed and not self.options["partial_commits"]:
                # classic: all or nothing (§5.1)
                self.store.rollback()
                self.store.begin()
                self._abandon_all()
            result = self._result()
        except BaseException:
            self.store.rollback()
            raise
        if self.dry:
            self.store.rollback()
        else:
            self.store.commit()
        return result

    def _process(self):
        for item in self.items:
            self.reader.identify(item)
        self._merge_duplicates()
        self.references = self._reference_edges()
        for item in self._order():
            self._one(item)
            self.lock_keys |= item.lock_keys()
        for row in self.parked_to_drop:
            self.store.drop(row)
        self.relations.write()

    def _any_error(self):
        return (bool(self.payload_errors)
                or any(i.errors for i in self.groups)
                or self.relations.any_error())

    def _abandon_all(self):
        for item in self.groups:
            if not item.errors:
                item.error("ABANDONED",
                           "Abandoning processing payload item '%d'. Too many "
                           "other errors" % item.index)
            item.operation, item.sys_id, item.row = None, "Unknown", None
        self.relations.abandon_all()

    def _internal_ids(self):
        for item in self.items:
            if item.internal_id is None:
                continue
            key = str(item.internal_id)
            if key in self.by_internal:
                item.error("INVALID_INPUT_DATA",
                           "internal_id [%s] is not unique in the payload" % key)
            else:
                self.by_internal[key] = item

    # -- data sources and rules ---------------------------------------------

    def source_known(self, name):
        if name not in self._sources:
            self._sources[name] = self.platform.choices.data_source_registered(
                name)
        return self._sources[name]

    @staticmethod
    def bad_source(name):
        return ("In payload invalid data source [%s] exist. Provide a valid "
                "choice value from field [discovery_source] in table "
                "[cmdb_ci]" % (name or "null"))

    def _refuse_source(self):
        """§0.4: HTTP 200, every item refused, no relation listed [L]."""
        shown = []
        for item in self.items:
            item.errors = [{"error": "INVALID_INPUT_DATA",
                            "message": self.bad_source(self.source)}]
            shown.append(self._show(item))
        return self._envelope(shown, [])

    def rule_for(self, table):
        """The active rule of the nearest class; it replaces inherited ones
        entirely (§5.3 [L])."""
        if table.name not in self._rules:
            self._rules[table.name] = None
            for ancestor in table.chain:
                rows = [r for r in self.store.find(
                            "cmdb_identifier", "applies_to", ancestor.name)
                        if r.get("active") != "false" and self._cached(r)]
                if rows:
                    self._rules[table.name] = rows[0]
                    break
        return self._rules[table.name]

    def entries_of(self, rule):
        rows = [r for r in self.store.find("cmdb_identifier_entry",
                                           "identifier", rule["sys_id"])
                if r.get("active") != "false" and self._cached(r)]
        return sorted(rows, key=lambda r: int(r.get("order") or 100))

    def _cached(self, row):
        born = self.platform.rest_births.get(row["sys_id"])
        wait = self.platform.switches["choice_cache_seconds"]
        return born is None or self.platform.clock.now() - born >= wait

    # -- duplicates in the payload ------------------------------------------

    def _merge_duplicates(self):
        """Items that mean one CI: enhanced merges them into one result with
        several inputIndices; classic refuses (§5.5, §5.6)."""
        owner = {}
        for item in self.items:
            if item.errors or item.missing:
                self.groups.append(item)
                continue
            twin = next((owner[t] for t in item.tokens if t in owner), None)
            if twin is None:
                self.groups.append(item)
                for token in item.tokens:
                    owner[token] = item
            elif self.options["deduplicate_payloads"]:
                self._merge(twin, item)
                for token in item.tokens:
                    owner.setdefault(token, twin)
            else:
                self.groups.append(item)
                self._duplicate(twin, item)

    @staticmethod
    def _merge(twin, item):
        twin.inputs += item.inputs
        twin.values.update(item.values)
        twin.native_keys += [k for k in item.native_keys
                             if k not in twin.native_keys]
        twin.merged_payloads += item.merged_payloads
        item.merged_into = twin

    @staticmethod
    def _duplicate(twin, item):
        fields = sorted({n for i in (twin, item) for t in i.tokens
                         if t[0] == "rule" for n in t[2]})
        for each in (twin, item):
            each.error("DUPLICATE_PAYLOAD_RECORDS",
                       "Found duplicate items in the payload (index %d and "
                       "%d), using className [%s] and fields [%s]"
                       % (twin.index, item.index, each.class_name,
                          ",".join(fields)))

    def group_of(self, index):
        item = self.items[index]
        while item.merged_into is not None:
            item = item.merged_into
        return item

    # -- reference items ----------------------------------------------------

    def _reference_edges(self):
        """[(referenced, referencedBy, field)] of items (§5.2)."""
        edges = []
        for spec in self.doc.get("referenceItems", []):
            spec = spec if isinstance(spec, dict) else {}
            to = self.by_internal.get(str(spec.get("referenced")))
            by = self.by_internal.get(str(spec.get("referencedBy")))
            field = spec.get("referenceField")
            if to is None or by is None:
                self._bad_reference(by or to, spec)
                continue
            to, by = self.group_of(to.index), self.group_of(by.index)
            column = by.table.columns.get(field) if by.table else None
            if column is None or not column.is_ref:
                self._bad_reference(by, spec)
                continue
            edges.append((to, by, field))
        return edges

    def _bad_reference(self, item, spec):
        error = ("INVALID_INPUT_DATA",
                 "Invalid reference item [%s] [%s] [%s]" % (
                     spec.get("referenced"), spec.get("referencedBy"),
                     spec.get("referenceField")))
        if item is not None:
            self.group_of(item.index).error(*error)
        else:
            self.payload_errors.append(error)

    def _order(self):
        """Groups so that what is referenced comes first."""
        needs = {}
        for to, by, _ in self.references:
            needs.setdefault(id(by), []).append(to)
        for parent, child in self.relation_ends:
            if parent is None or child is None:
                continue
            item = self.items[parent]
            rule = item.table and self.rule_for(item.table)
            if rule and rule["independent"] != "true":
                needs.setdefault(id(self.group_of(parent)), []).append(
                    self.group_of(child))
        ordered, seen = [], set()
        for start in self.groups:
            stack = [(start, False)]
            while stack:
                item, ready = stack.pop()
                if ready:
                    ordered.append(item)
                elif id(item) not in seen:
                    seen.add(id(item))
                    stack.append((item, True))
                    stack.extend((n, False) for n in needs.get(id(item), ()))
        return ordered

    def _fill_references(self, item):
        for to, by, field in self.references:
            if by is not item or not to.done:
                continue
            if to.failed:
                item.error("ABANDONED",
                           "Abandoning processing payload item '%d', since it "
                           "depends on payload item '%d', which has errors"
                           % (item.index, to.index))
            else:
                item.values[field] = to.sys_id

    # -- one item -----------------------------------------------------------

    def _one(self, item):
        self._fill_references(item)
        self._injected(item)
        if not item.errors and self.busy(item.lock_keys()):
            self._lock_timeout(item)
        mark = self.store.mark()
        if not item.errors and not item.missing:
            try:
                if item.match is None:
                    self._insert(item)
                else:
                    self._update(item)
            except OperationRefused as refused:
                item.error("ABANDONED", refused.detail)
        if item.missing:
            self._missing(item)
        if item.errors:
            self.store.rollback_to(mark)
            self._failed(item)
        item.done = True

    def _injected(self, item):
        spec = self.inject.get("lock_timeout")
        if spec is not None and self._hit(spec, item):
            self._lock_timeout(item)
        spec = self.inject.get("business_rule")
        if spec is not None and self._hit(spec, item):
            name = spec.get("name", "Abort")
            item.error("ABANDONED", abort_text(
                item.class_name, name,
                self.platform.stable_id("sys_script", name)))

    @staticmethod
    def _hit(spec, item):
        if spec.get("all"):
            return True
        return bool(set(spec.get("indices", [0])) & set(item.inputs))

    @staticmethod
    def _lock_timeout(item):
        item.error("LOCK_TIMEOUT",
                   "Failed to acquire synchronization lock for %s"
                   % (item.native_key or item.given_id
                      or item.values.get("name", "item")))

    def _missing(self, item):
        message = ("In payload missing minimum set of input values for "
                   "criterion (matching) attributes from identify rule for "
                   "table [%s]" % item.class_name)
        if item.errors:
            return
        if self.options["partial_payloads"]:
            # a warning, and the payload is parked (§5.5, §5.6)
            item.warnings.append({"error": "MISSING_MATCHING_ATTRIBUTES",
                                  "message": message})
            self._park(item, "partial")
        else:
            item.error("MISSING_MATCHING_ATTRIBUTES", message)

    def _failed(self, item):
        item.row, item.sys_id, item.operation = None, "Unknown", None
        retry = {"LOCK_TIMEOUT", "ABANDONED"}
        if (self.options["partial_payloads"] and item.table is not None
                and item.errors[0]["error"] not in retry):
            self._park(item, "incomplete")

    def _park(self, item, how):
        table = "cmdb_ire_%s_payloads" % how
        row = self.platform.records.insert(
            self.platform.schema.tables[table], {
                "class_name": item.class_name, "source_name": item.source_name,
                "source_native_key": item.native_key,
                "payload": json.dumps({"values": item.values})[:60000],
                "data_source": self.source}, self.user.user_name)
        item.parked, item.parked_id = how, row["sys_id"]
        item.operation = "INSERT_AS_" + how.upper()

    @staticmethod
    def parked_values(row):
        try:
            return json.loads(row.get("payload", "{}")).get("values", {})
        except ValueError:
            return {}

    def _stamps(self, item, first):
        """IRE always sets these two (§5.4)."""
        now = self.platform.clock.stamp()
        stamps = {"last_discovered": now, "discovery_source": self.source}
        if first:
            stamps["first_discovered"] = now
        return {n: v for n, v in stamps.items() if n in item.table.columns}

    def _insert(self, item):
        self._insert_allowed(item)
        self._required(item)
        if item.errors:
            return
        item.row = self.platform.records.insert(
            item.table, item.values, self.user.user_name,
            stamps=self._stamps(item, True))
        item.sys_id, item.operation = item.row["sys_id"], "INSERT"
        self.reconciler.wrote(item.row, item.values, self.source)
        self._native_rows(item)

    def _insert_allowed(self, item):
        for row in self.store.find("cmdb_ire_data_source_rule",
                                   "discovery_source", self.source):
            if (row.get("active") != "false"
                    and item.table.is_a(row.get("applies_to", ""))):
                item.error("INSERT_NOT_ALLOWED_FOR_SOURCE",
                           "Insert into [%s] is blocked for data source [%s] "
                           "by IRE data source rule"
                           % (item.class_name, self.source))
                return

    def _required(self, item):
        """§5.4: IRE enforces the dictionary, unlike the Table API."""
        if not (self.platform.switches["ire_required_attributes"]
                and self.platform.truth("glide.required.attribute.enabled",
                                        True)):
            return
        for name, column in item.table.columns.items():
            if (column.mandatory and not column.default
                    and item.values.get(name, "") == ""):
                item.error("REQUIRED_ATTRIBUTE_EMPTY",
                           "Missing mandatory field [%s] in table [%s]. Add "
                           "input value for mandatory field in payload"
                           % (name, item.class_name))

    def _update(self, item):
        row = item.match
        if self._stale(item):
            item.row, item.sys_id = row, row["sys_id"]
            item.operation, item.skipped = "NO_CHANGE", True
            return
        operation = self._reclassify(item, row)
        if item.errors:
            return
        changes, item.masked = self.reconciler.filter(row, item.values,
                                                      self.source)
        stamps = self._stamps(item, False)
        if item.is_reference and \
                not self.platform.switches["ire_stamps_references"]:
            stamps = {}
        changed = self.platform.records.update(
            row, changes, self.user.user_name, stamps=stamps)
        self.reconciler.wrote(row, changes, self.source)
        item.row, item.sys_id = row, row["sys_id"]
        if operation:
            item.operation = operation
        elif changed:
            item.operation = "UPDATE"
        elif stamps:
            item.operation = self.platform.switches["ire_equal_item_operation"]
        else:
            item.operation = "NO_CHANGE"
        for other in item.duplicates:
            self.store.set(other, "duplicate_of", row["sys_id"])
        self._native_rows(item)

    def _stale(self, item):
        """§5.2: an older recency timestamp skips the item, without error."""
        if not item.recency or not self.platform.switches["ire_recency_skip"]:
            return False
        return any(r.get("source_recency_timestamp", "") > item.recency
                   for source, key in item.native_keys
                   for r in self.reader.source_rows(source, key))

    def _reclassify(self, item, row):
        """§5.7: the payload's class wins, unless settings say otherwise."""
        have = self.platform.schema.tables[row.table]
        want = item.table
        if have is want:
            return ""
        if want.is_a(have.name):
            word = "Upgrade"
        elif have.is_a(want.name):
            word = "Downgrade"
        else:
            word = "Switch"
        keep = item.settings.get("updateWithout" + word)
        if keep is True or str(keep).lower() == "true":
            item.info.append({
                "code": "SKIPPED_CLASS_" + word.upper(), "ruleSysId": "",
                "message": "Class %s from [%s] to [%s] was skipped"
                           % (word.lower(), have.name, want.name)})
            return ""
        skip = str(item.settings.get("skipReclassificationRestrictionRules"))
        if (self.platform.switches["ire_reclassification"] == "deny"
                and skip.lower() != "true"):
            item.error("RECLASSIFICATION_NOT_ALLOWED",
                       "CI Reclassification not allowed from class: [%s] to "
                       "[%s]" % (have.name, want.name))
            return ""
        for name in list(row):
            if name not in want.columns:
                self.store.set(row, name, "")   # columns of the old class go
        self.store.reclass(row, want.name)
        return "UPDATE_WITH_" + word.upper()

    def _native_rows(self, item):
        """(source_name, source_native_key) maps to one CI (§0.5 [L])."""
        table = self.platform.schema.tables["sys_object_source"]
        now = self.platform.clock.stamp()
        for source, key in item.native_keys:
            values = {"target_sys_id": item.sys_id,
                      "target_table": item.row.table, "last_scan": now,
                      "source_feed": item.source_feed}
            if item.recency:
                values["source_recency_timestamp"] = item.recency
            rows = self.reader.source_rows(source, key)
            if rows:
                for name, value in values.items():
                    self.store.set(rows[0], name, value)
            else:
                self.platform.records.insert(
                    table, dict(values, name=source, id=key),
                    self.user.user_name)

    # -- answer -------------------------------------------------------------

    def _result(self):
        items = [self._show(i) for i in self.groups]
        relations = self.relations.show()
        if self.platform.switches["ire_shuffle"]:
            # the order is not promised: inputIndices tell (§5.5)
            self.platform.random.shuffle(items)
            self.platform.random.shuffle(relations)
        return self._envelope(items, relations)

    def _show(self, item):
        shown = {"className": item.row.table if item.row is not None
                 else item.class_name}
        if item.operation:
            shown["operation"] = item.operation
        shown.update(sysId=item.sys_id,
                     identifierEntrySysId=item.identifier_entry,
                     identificationAttempts=item.attempts,
                     errors=item.errors, errorCount=len(item.errors),
                     warnings=item.warnings, warningCount=len(item.warnings),
                     info=item.info, markers=[],
                     mergedPayloadIds=item.merged_payloads,
                     inputIndices=item.inputs)
        if item.masked:
            shown["maskedAttributes"] = item.masked
        if item.parked and not self.dry:
            shown[item.parked + "SysIds"] = [item.parked_id]
        return shown

    def _envelope(self, items, relations):
        result = {"items": items, "relations": relations,
                  "additionalCommittedItems": [],
                  "additionalCommittedRelations": []}
        if not self.platform.switches["ire_omit_has_error"]:
            everything = items + relations
            result["hasError"] = bool(self.payload_errors) or any(
                s.get("errors") for s in everything)
            result["hasWarning"] = any(s.get("warnings") for s in everything)
        result["logContextId"] = self.platform.new_sys_id()
        if self.payload_errors:
            result["errors"] = [{"error": c, "message": m}
                                for c, m in self.payload_errors]
        if self.enhanced and self.options["generate_summary"]:
            result["summary"] = self._summary()
        return result

    def _summary(self):
        summary = {}
        counts = {"INSERT": "inserted", "NO_CHANGE": "unchanged",
                  "INSERT_AS_PARTIAL": "partial",
                  "INSERT_AS_INCOMPLETE": "incomplete"}
        for item in self.groups or self.items:
            row = summary.setdefault(item.class_name or "", {
                "inserted": 0, "updated": 0, "unchanged": 0, "partial": 0,
                "incomplete": 0, "errors": 0, "warnings": 0, "skipped": 0,
                "additionalInserted": 0, "mergedPartialPayloads": 0})
            if item.skipped:
                row["skipped"] += 1
            elif item.operation:
                row[counts.get(item.operation, "updated")] += 1
            row["errors"] += len(item.errors)
            row["warnings"] += len(item.warnings)
            row["mergedPartialPayloads"] += len(item.merged_payloads)
        return summary
