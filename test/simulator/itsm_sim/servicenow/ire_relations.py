"""Relations of an IRE payload (§5.2, §5.5): idempotent, and failing one by
one in the enhanced call."""


class Relation:
    def __init__(self, index, spec):
        self.inputs = [index]
        self.spec = spec if isinstance(spec, dict) else {}
        self.ends = {}              # 'parent', 'child' -> item index
        self.errors = []
        self.operation = None
        self.sys_id = "Unknown"
        self.parked_id = ""

    def error(self, code, message):
        self.errors.append({"error": code, "message": message})


class Relations:
    def __init__(self, run):
        self.run = run
        self.platform = run.platform
        self.store = run.platform.store
        self.all = []

    def any_error(self):
        return any(r.errors for r in self.all)

    # -- input --------------------------------------------------------------

    def read(self, specs):
        for index, spec in enumerate(specs):
            relation = Relation(index, spec)
            for end in ("parent", "child"):
                self._end(relation, end, index)
            self.all.append(relation)
            self.run.relation_ends.append(
                (relation.ends.get("parent"), relation.ends.get("child")))

    def _end(self, relation, end, index):
        """By index into items, or by internal_id."""
        spec = relation.spec
        if end + "_id" in spec:
            item = self.run.by_internal.get(str(spec[end + "_id"]))
            if item is not None:
                relation.ends[end] = item.index
                return
            shown = spec[end + "_id"]
        else:
            shown = spec.get(end)
            if (isinstance(shown, int) and not isinstance(shown, bool)
                    and 0 <= shown < len(self.run.items)):
                relation.ends[end] = shown
                return
        relation.error("INVALID_INPUT_DATA",
                       "Payload relations '%d' has invalid %s record index: "
                       "[%s]" % (index, end, shown))

    def _type(self, relation):
        """Exact text of a cmdb_rel_type name."""
        name = relation.spec.get("type")
        name = name if isinstance(name, str) else ""
        rows = [r for r in self.store.find("cmdb_rel_type", "name", name)
                if r.get("name") == name and name]
        if len(rows) == 1:
            return rows[0]
        if rows:
            relation.error("DUPLICATE_RELATIONSHIP_TYPES",
                           "Found duplicate rows named [%s] in cmdb_rel_type"
                           % name)
        else:
            relation.error("INVALID_INPUT_DATA",
                           "No such relationship with name [%s] exist in table "
                           "[cmdb_rel_type]" % name)
        return None

    # -- writing ------------------------------------------------------------

    def write(self):
        seen, kept = {}, []
        for relation in self.all:
            kind = self._type(relation)
            info = relation.spec.get("sys_rel_source_info")
            if isinstance(info, dict):
                source = str(info.get("source_name") or "")
                if not self.run.source_known(source):
                    relation.error("INVALID_INPUT_DATA",
                                   self.run.bad_source(source))
            if relation.errors:
                self._park_failed(relation)
                kept.append(relation)
                continue
            parent = self.run.group_of(relation.ends["parent"])
            child = self.run.group_of(relation.ends["child"])
            key = (id(parent), id(child), kind["sys_id"])
            if key in seen:
                seen[key].inputs += relation.inputs
                continue
            seen[key] = relation
            kept.append(relation)
            self._write(relation, parent, child, kind)
        self.all = kept

    def _write(self, relation, parent, child, kind):
        for item in (parent, child):
            if item.errors and not item.parked:
                relation.error("ABANDONED",
                               "Abandoning processing of relation, since it "
                               "depends on payload item '%d', which has "
                               "errors" % item.index)
                return
        parked = {i.parked for i in (parent, child) if i.parked}
        if parked:
            how = "incomplete" if "incomplete" in parked else "partial"
            relation.operation = "INSERT_AS_" + how.upper()
            return
        if not (parent.table.is_a("cmdb_ci") and child.table.is_a("cmdb_ci")):
            relation.error("INVALID_INPUT_DATA",
                           "Relations are not supported for table [%s]"
                           % parent.class_name)
            return
        row, new = self.link(parent.sys_id, child.sys_id, kind["sys_id"],
                             self.run.user.user_name)
        relation.sys_id = row["sys_id"]
        relation.operation = "INSERT" if new else "NO_CHANGE"

    def link(self, parent, child, kind, actor):
        return link(self.platform, parent, child, kind, actor)

    def _park_failed(self, relation):
        if self.run.options["partial_payloads"]:
            relation.operation = "INSERT_AS_INCOMPLETE"

    def abandon_all(self):
        for relation in self.all:
            if not relation.errors:
                relation.error("ABANDONED",
                               "While processing relations encountered errors")
            relation.operation, relation.sys_id = None, "Unknown"

    # -- answer -------------------------------------------------------------

    def show(self):
        shown = []
        for relation in self.all:
            entry = {"className": "cmdb_rel_ci"}
            if relation.operation:
                entry["operation"] = relation.operation
            if not self.run.dry:        # a dry run gives no sysId (§5.5)
                entry["sysId"] = relation.sys_id
            entry.update(identifierEntrySysId="Unknown",
                         errorCount=len(relation.errors), markers=[],
                         mergedPayloadIds=[], inputIndices=relation.inputs)
            if relation.errors:
                entry["errors"] = relation.errors
            shown.append(entry)
        return shown


def link(platform, parent, child, kind, actor):
    """(row, whether it is new): one row for (parent, child, type) (§0.6)."""
    for row in platform.store.find_pair("cmdb_rel_ci", "parent", parent,
                                        "child", child):
        if row.get("type") == kind:
            return row, False
    row = platform.records.insert(
        platform.schema.tables["cmdb_rel_ci"],
        {"parent": parent, "child": child, "type": kind}, actor)
    return row, True
