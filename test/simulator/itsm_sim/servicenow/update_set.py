"""Reads the XML of Import Update Set from XML, and of Import XML on a list
(§11): checks the whole file first, then previews and commits it in one go.

Written from §11.1 to §11.3.  Where those leave a thing open, the harsher
reading holds: an unknown column, a reference to nothing, a name that does
not fit its record are refused.
"""
import collections
import datetime
import re
import xml.etree.ElementTree as ElementTree

from .base_rows import BaseRows
from .schema import SYSTEM_COLUMNS

SYS_ID = re.compile(r"[0-9a-f]{32}\Z")
HASH = re.compile(r"-?\d{1,10}\Z")
WHOLE = re.compile(r"[+-]?\d{1,18}\Z")
# columns of every configuration record (sys_metadata) beside its own
METADATA = {"sys_class_name", "sys_name", "sys_package", "sys_policy",
            "sys_scope", "sys_update_name"}
SET_COLUMNS = set("""application application_name application_scope
    application_version collisions commit_date deleted description inserted
    name origin_sys_id parent release_date remote_base_update_set
    remote_parent_id remote_sys_id state summary sys_class_name update_set
    update_source updated""".split()) | set(SYSTEM_COLUMNS)
SET_NEEDS = {"application", "name", "remote_sys_id", "state",
             "sys_class_name"} | set(SYSTEM_COLUMNS)
UPDATE_COLUMNS = set("""action application category comments name payload
    payload_hash remote_update_set replace_on_upgrade sys_recorded_at table
    target_name type update_domain update_guid update_guid_history update_set
    view""".split()) | set(SYSTEM_COLUMNS)
UPDATE_NEEDS = {"action", "application", "category", "name", "payload",
                "remote_update_set", "target_name", "type"} | set(SYSTEM_COLUMNS)
CHOICE_NEEDS = {"dependent_value", "element", "hint", "inactive", "label",
                "language", "name", "sequence", "value"}
WRAPPERS = {"sys_choice": ("1", "2", "3"), "sys_choice_set": ("3",),
            "sys_choice_v2": ("4",)}


class Refused(ValueError):
    pass


def refuse(text, *values):
    raise Refused(text % values)


class Operation:
    """A row to be written, or a query of rows to be deleted."""

    def __init__(self, table, values, action="INSERT_OR_UPDATE", query=None):
        self.table = table
        self.values = values
        self.action = action
        self.query = query


class UpdateSets:
    def __init__(self, platform):
        self.platform = platform
        self.schema = platform.schema
        self.store = platform.store

    # -- entry ----------------------------------------------------------------

    def import_update_set(self, body):
        root = self._root(body)
        elements = list(root)
        if not elements or elements[0].tag != "sys_remote_update_set":
            refuse("the first element of an update set is sys_remote_update_set")
        head = self._head(elements[0])
        operations, updates = [], []
        for element in elements[1:]:
            if element.tag != "sys_update_xml":
                refuse("<%s> is no part of an update set", element.tag)
            update = self._update(element, head)
            updates.append(update)
            operations.extend(self._payload(update))
        if not updates:
            refuse("the update set is empty")
        for column in ("name", "sys_id"):
            _distinct("updates", column, [u[column] for u in updates])
        self._references(operations)
        again = self.store.get("sys_remote_update_set", head["sys_id"])
        report = self._commit(operations)
        report["again"] = again is not None
        head["state"] = "committed"
        self._keep("sys_remote_update_set", head)
        for update in updates:
            self._keep("sys_update_xml", update)
        report["name"], report["sys_id"] = head["name"], head["sys_id"]
        return report

    def import_xml(self, body):
        """Import XML on a list: plain records."""
        operations = []
        for element in self._root(body):
            if element.tag in ("sys_remote_update_set", "sys_update_xml"):
                refuse("an update set is imported by Import Update Set from XML")
            operations.append(self._record(element, None))
        if not operations:
            refuse("there is no record in the file")
        _distinct("records", "sys_id",
                  [(o.table, o.values["sys_id"]) for o in operations])
        self._references(operations)
        return self._commit(operations)

    # -- file -----------------------------------------------------------------

    @staticmethod
    def _root(body):
        root = _parse(body)
        if root.tag != "unload":
            refuse("the root is <%s>, not <unload>", root.tag)
        if set(root.attrib) != {"unload_date"}:
            refuse("unload has an unload_date and nothing else")
        _date("unload_date", root.get("unload_date"))
        _no_text(root)
        return root

    @staticmethod
    def _head(element):
        _action(element)
        head = _columns(element, SET_COLUMNS, SET_NEEDS)
        if head["sys_class_name"] != "sys_remote_update_set":
            refuse("sys_class_name of an update set is sys_remote_update_set")
        if head["state"] != "loaded":
            refuse("the state of an update set in a file is loaded, not %s",
                   head["state"])
        if not head["name"]:
            refuse("an update set has a name")
        _sys_id("remote_sys_id", head["remote_sys_id"])
        return head

    @staticmethod
    def _update(element, head):
        _action(element)
        update = _columns(element, UPDATE_COLUMNS, UPDATE_NEEDS)
        name = update["name"]
        back = element.find("remote_update_set")
        if update["remote_update_set"] != head["sys_id"]:
            refuse("%s belongs to another update set", name)
        if back.get("display_value") != head["name"]:
            refuse("%s shows another update set's name", name)
        if update["category"] != "customer":
            refuse("%s: category is customer", name)
        if update["action"] not in ("INSERT_OR_UPDATE", "DELETE"):
            refuse("%s: action %s", name, update["action"])
        if update.get("payload_hash") and not HASH.match(update["payload_hash"]):
            refuse("%s: payload_hash is no number", name)
        if update.get("update_guid"):
            _sys_id("update_guid", update["update_guid"])
        if not update["type"]:
            refuse("%s has no type", name)
        return update

    # -- payload --------------------------------------------------------------

    def _payload(self, update):
        root = _parse(update["payload"].encode())
        name = update["name"]
        if root.tag != "record_update":
            refuse("%s: the payload is a <record_update>", name)
        if not set(root.attrib) <= {"table", "sys_domain"}:
            refuse("%s: record_update has table and sys_domain", name)
        if root.get("sys_domain", "global") != "global":
            refuse("%s: another domain", name)
        _no_text(root)
        if len(root) != 1:
            refuse("%s: one record a payload", name)
        inner = root[0]
        if inner.tag in WRAPPERS and inner.get("field") is not None:
            return self._choice_list(inner, update)
        if root.get("table") != inner.tag:
            refuse("%s: record_update names table %s, the record is <%s>",
                   name, root.get("table"), inner.tag)
        operation = self._record(inner, update["action"])
        if name != "%s_%s" % (operation.table, operation.values["sys_id"]):
            refuse("%s is not table and sys_id of its record", name)
        if operation.values.get("sys_update_name") != name:
            refuse("%s: sys_update_name differs", name)
        return [operation]

    def _record(self, element, action):
        """A row of any table; ``action``: what the update says."""
        table = self.schema.get(element.tag)
        if table is None:
            refuse("there is no table %s", element.tag)
        _action(element, action or "INSERT_OR_UPDATE")
        own = set(table.columns)
        plain = element.tag == "sys_choice"
        needs = set(SYSTEM_COLUMNS) | (
            CHOICE_NEEDS if plain else METADATA - {"sys_policy"})
        values = _columns(element, own if plain else own | METADATA, needs)
        if plain:
            _choice_row(values)
        else:
            self._metadata(element, table, values)
        self._types(table, values)
        self._meaning(table, values)
        return Operation(table.name, values, action or "INSERT_OR_UPDATE")

    @staticmethod
    def _metadata(element, table, values):
        if values["sys_class_name"] != table.name:
            refuse("%s: sys_class_name is %s", table.name,
                   values["sys_class_name"])
        for name in ("sys_scope", "sys_package"):
            shown = element.find(name).get("display_value")
            if values[name] != "global" or shown != "Global":
                refuse("%s: %s is not global", table.name, name)

    @staticmethod
    def _types(table, values):
        for name, value in values.items():
            column = table.columns.get(name)
            if column is None or value == "":
                continue
            if column.kind == "bool" and value not in ("true", "false"):
                refuse("%s.%s is true or false, not %s", table.name, name, value)
            if column.kind == "int" and not WHOLE.match(value):
                refuse("%s.%s is no number: %s", table.name, name, value)
            if column.kind == "string" and len(value) > column.max_length:
                refuse("%s.%s is longer than %d", table.name, name,
                       column.max_length)
            if column.kind == "ref" and column.ref_key == "sys_id":
                _sys_id("%s.%s" % (table.name, name), value)

    def _meaning(self, table, values):
        """Rules name classes and columns of theirs that exist."""
        if not table.name.startswith("cmdb_"):
            return
        name = values.get("applies_to") or values.get("table")
        if name is None:
            return
        target = self.schema.get(name)
        if target is None or not target.is_a("cmdb_ci"):
            refuse("%s is about %s, which is no class of CIs", table.name, name)
        for column in ("attributes", "null_update"):
            for each in values.get(column, "").split(","):
                if each and each not in target.columns:
                    refuse("%s: %s has no column %s", table.name, name, each)
        if table.name == "cmdb_reconciliation_definition" and not values.get(
                "attributes"):
            refuse("a rule without attributes is about all of them")

    # -- choices (§11.3) ------------------------------------------------------

    def _choice_list(self, wrapper, update):
        attributes = {"action", "field", "table", "version"}
        if not attributes <= set(wrapper.attrib) <= attributes | {"query"}:
            refuse("%s: a choice list has action, field, table, version",
                   update["name"])
        _action(wrapper, extra=attributes | {"query"})
        table, field = wrapper.get("table"), wrapper.get("field")
        if update["name"] != "sys_choice_%s_%s" % (table, field):
            refuse("%s is the choice list of %s.%s", update["name"], table, field)
        if wrapper.get("version") not in WRAPPERS[wrapper.tag]:
            refuse("%s has no version %s", wrapper.tag, wrapper.get("version"))
        info = self.schema.get(table)
        if info is None or field not in info.columns:
            refuse("there is no column %s.%s", table, field)
        _no_text(wrapper)
        merge = wrapper.tag == "sys_choice_v2"
        rows = list(wrapper)
        operations = []
        if rows and rows[0].tag == "sys_choice_set":
            operations.append(self._choice_set(rows.pop(0), update, table, field))
        elif merge:
            refuse("%s: the choice set comes first", update["name"])
        for number, row in enumerate(rows):
            operations.append(self._choice(row, table, field, merge,
                                           number and operations[-1]))
        choices = [o for o in operations
                   if o.table == "sys_choice" and o.query is None]
        _distinct("choices", "value", [
            tuple(o.values[c] for c in ("value", "language", "dependent_value"))
            for o in choices])
        if not merge:
            # the list as a whole: what is not in it goes
            operations.insert(0, Operation("sys_choice", {}, "DELETE",
                              "name=%s^element=%s" % (table, field)))
        return operations

    def _choice_set(self, element, update, table, field):
        _action(element)
        values = _columns(
            element, {"element", "name"} | METADATA | set(SYSTEM_COLUMNS),
            {"element", "name", "sys_class_name", "sys_id"})
        if (values["name"], values["element"]) != (table, field):
            refuse("%s: the choice set of another column", update["name"])
        if values["sys_class_name"] != "sys_choice_set":
            refuse("%s: sys_class_name is sys_choice_set", update["name"])
        if values.get("sys_update_name", update["name"]) != update["name"]:
            refuse("%s: sys_update_name differs", update["name"])
        return Operation("sys_choice_set", values)

    def _choice(self, row, table, field, merge, before):
        if row.tag != "sys_choice":
            refuse("<%s> is no choice", row.tag)
        if row.get("action") == "delete_multiple":
            if not merge or set(row.attrib) != {"action", "query"} or len(row):
                refuse("delete_multiple has a query, in a sys_choice_v2")
            if before and before.table == "sys_choice" and before.query is None:
                refuse("delete_multiple precedes the choices")
            return Operation("sys_choice", {}, "DELETE", row.get("query"))
        operation = self._record(row, None)
        values = operation.values
        if (values["name"], values["element"]) != (table, field):
            refuse("a choice of another column: %s.%s", values["name"],
                   values["element"])
        return operation

    # -- preview: references are there or come with the file ------------------

    def _references(self, operations):
        coming = {(o.table, o.values["sys_id"]) for o in operations
                  if o.query is None and o.action != "DELETE"}
        for operation in operations:
            columns = self.schema.tables[operation.table].columns
            for name, value in operation.values.items():
                column = columns.get(name)
                if (column is None or column.kind != "ref" or value == ""
                        or column.ref_key != "sys_id"):
                    continue
                if (column.reference, value) not in coming and self.store.get(
                        column.reference, value) is None:
                    refuse("could not find a record in %s for column %s "
                           "referenced in this update", column.reference, name)

    # -- commit ---------------------------------------------------------------

    def _commit(self, operations):
        known = set(self.store.by_id.get("sys_choice", {}))
        count = {"inserted": collections.Counter(), "updated":
                 collections.Counter(), "deleted": 0}
        removed = set()
        for operation in operations:
            if operation.query is not None:
                removed |= self._delete_by(operation)
            elif operation.action == "DELETE":
                count["deleted"] += self._delete(operation)
            else:
                old = self._write(operation, known)
                count["updated" if old else "inserted"][operation.table] += 1
        left = {i for i in removed
                if self.store.get("sys_choice", i) is None}
        count["deleted"] += len(left)
        return {name: dict(value) if name != "deleted" else value
                for name, value in count.items()}

    def _delete_by(self, operation):
        hits = [r for r in self.store.of(operation.table)
                if self.platform.queries.matches(operation.table,
                                                 operation.query, r)]
        for row in hits:
            self.store.drop(row)
            self.platform.row_written(operation.table, row)
        return {r["sys_id"] for r in hits}

    def _delete(self, operation):
        row = self.store.get(operation.table, operation.values["sys_id"])
        if row is None:
            return 0
        self.store.drop(row)
        self.platform.row_written(operation.table, row)
        return 1

    def _write(self, operation, known_choices):
        """True if the record had been there."""
        table, values = operation.table, operation.values
        sys_id = values["sys_id"]
        if table == "sys_choice":
            sys_id = self._same_choice(values) or sys_id
        old = (self.store.get(table, sys_id) is not None
               or table == "sys_choice" and sys_id in known_choices)
        row = self._keep(table, dict(values, sys_id=sys_id))
        if table in ("sys_choice", "cmdb_identifier",
                     "cmdb_identifier_entry") and not old:
            # caches notice it later (§5.7)
            self.platform.rest_births[sys_id] = self.platform.clock.now()
        if table == "cmdb_identifier" and row.get("active") == "true":
            self._one_identifier(row)
        return old

    def _same_choice(self, values):
        """Choices are one by table, column, value, language, dependence."""
        for row in self.store.find("sys_choice", "value", values["value"]):
            if all(row.get(c, "") == values[c] for c in (
                    "name", "element", "language", "dependent_value")):
                return row["sys_id"]
        return None

    def _one_identifier(self, rule):
        """One rule per class: a new one replaces the base rule (§11.2)."""
        for row in self.store.find("cmdb_identifier", "applies_to",
                                   rule["applies_to"]):
            if row["sys_id"] != rule["sys_id"]:
                self.store.set(row, "active", "false")

    def _keep(self, table, values):
        row = BaseRows(self.platform).put(table, values)
        self.platform.row_written(table, row)
        return row


# -- small checks -----------------------------------------------------------------

def _parse(body):
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        refuse("a document type is not accepted")
    try:
        return ElementTree.fromstring(body)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        refuse("not well-formed: %s", error)


def _no_text(element):
    texts = [element.text] + [child.tail for child in element]
    if any(t and t.strip() for t in texts):
        refuse("text between the elements of <%s>", element.tag)


def _action(element, action="INSERT_OR_UPDATE", extra=("action",)):
    if element.get("action") != action:
        refuse("<%s>: action is %s, not %s", element.tag, action,
               element.get("action"))
    if not set(element.attrib) <= set(extra):
        refuse("<%s> has more attributes than an action", element.tag)


def _columns(element, known, needs):
    """{column: text}, in alphabetical order, none twice, none nested."""
    _no_text(element)
    names = [child.tag for child in element]
    if names != sorted(set(names)):
        refuse("<%s>: columns are not in alphabetical order, or twice: %s",
               element.tag, ", ".join(names))
    unknown, missing = set(names) - known, needs - set(names)
    if unknown:
        refuse("<%s> has no column %s", element.tag, ", ".join(sorted(unknown)))
    if missing:
        refuse("<%s> lacks %s", element.tag, ", ".join(sorted(missing)))
    values = {}
    for child in element:
        if len(child):
            refuse("<%s> in <%s> is not text", child.tag, element.tag)
        if not set(child.attrib) <= {"display_value", "source"}:
            refuse("<%s> in <%s>: unknown attribute", child.tag, element.tag)
        values[child.tag] = child.text or ""
    _sys_id("sys_id", values.get("sys_id", ""))
    for name in ("sys_created_on", "sys_updated_on"):
        if name in values:
            _date(name, values[name])
    return values


def _choice_row(values):
    for name in ("value", "label", "language"):
        if not values[name]:
            refuse("a choice has a %s", name)


def _sys_id(what, text):
    if not SYS_ID.match(text):
        refuse("%s is no sys_id: %s", what, text)


def _date(what, text):
    try:
        datetime.datetime.strptime(text or "", "%Y-%m-%d %H:%M:%S")
    except ValueError:
        refuse("%s is no date: %s", what, text)


def _distinct(what, column, values):
    if len(values) != len(set(values)):
        refuse("two %s have the same %s", what, column)
