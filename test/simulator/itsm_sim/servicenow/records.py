"""How the platform writes a row, whichever API asked: defaults, numbering,
types, lengths, choices, unique keys, data policies, business rules (§2.8,
§10)."""
import re

from . import rules
from .errors import OperationRefused
from .store import Row

SYS_ID = re.compile(r"[0-9a-fA-F]{32}\Z")
DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?: (\d\d:\d\d:\d\d))?\Z")
INTEGER = re.compile(r"[+-]?\d{1,18}\Z")
DECIMAL = re.compile(r"[+-]?\d{1,15}(\.\d{1,9})?\Z")


def as_text(value):
    """A JSON value as the column's text: everything is a string (§2.2)."""
    if value is None:
        return ""
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        # A NUL cannot be stored by the platform's databases.
        return value.replace("\0", "")
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, dict) and isinstance(value.get("value"), str):
        return value["value"]      # a reference as it was read (§2.2)
    return ""


class Records:
    def __init__(self, platform):
        self.platform = platform

    @property
    def store(self):
        return self.platform.store

    # -- values -------------------------------------------------------------

    def normalise(self, table, column, text, check_choice=True):
        """The text as the column keeps it, or None if it is not accepted."""
        if column.choice and text != "":
            values = self.platform.choices.of(table.name, column.name)
            if values and text not in values:
                allow = self.platform.truth(
                    "glide.rest.choice.allow_non_existing_value")
                if check_choice and not allow:
                    return None     # §2.8: not accepted, and no error
        return self._by_kind(column, text)

    def _by_kind(self, column, text):
        kind = column.kind
        if text == "":
            return ""
        if kind == "bool":
            return "true" if text.lower() in ("true", "1", "yes") else "false"
        if kind in ("int", "intchoice"):
            return str(int(text)) if INTEGER.match(text.strip()) else ""
        if kind == "decimal":
            return text if DECIMAL.match(text) else ""
        if kind == "currency":
            amount = text.rpartition(";")[2]        # "USD;12.00" or "12"
            return amount if DECIMAL.match(amount) else ""
        if kind in ("date", "datetime"):
            return self._time(kind, text)
        if kind == "ref":
            if (column.ref_key == "sys_id" and not SYS_ID.match(text)
                    and self.platform.switches["bad_reference_dropped"]):
                return ""
            return text[:255]
        if kind == "list":
            return text[:column.max_length]
        if kind == "journal":
            return ""               # kept in another table, never read back
        return text[:column.max_length]     # truncated silently (§2.8)

    @staticmethod
    def _time(kind, text):
        match = DATE.match(text)
        if not match:
            return ""
        if kind == "date":
            return match.group(1)
        return match.group(1) + " " + (match.group(2) or "00:00:00")

    def clean(self, table, values, check_choice=True):
        """{column: text}: unknown columns are dropped (§0.8), and so are
        values that a choice list does not have."""
        cleaned = {}
        for name, value in values.items():
            column = table.columns.get(name)
            if column is None:
                continue
            text = self.normalise(table, column, as_text(value), check_choice)
            if text is not None:
                cleaned[name] = text
        return cleaned

    # -- writes -------------------------------------------------------------

    def insert(self, table, values, actor, sys_id=None, stamps=None):
        """``values`` are clean.  Raises OperationRefused."""
        row = Row(table.name)
        for name, column in table.columns.items():
            if column.default and values.get(name, "") == "":
                row[name] = column.default
        row.update((n, v) for n, v in values.items() if v != "")
        now = self.platform.clock.stamp()
        row["sys_id"] = sys_id or self.platform.new_sys_id()
        row["sys_created_on"] = row["sys_updated_on"] = now
        row["sys_created_by"] = row["sys_updated_by"] = actor
        row["sys_mod_count"] = "0"
        row.update(stamps or {})
        if table.in_hierarchy:
            row["sys_class_name"] = table.name
        self._policies(table, row)
        rules.before_write(self.platform, table, row, None)
        self._unique(table, row, None)
        self._number(table, row)
        for name in [n for n, v in row.items() if v == ""]:
            del row[name]
        self.store.put(row)
        return row

    def update(self, row, changes, actor, touch_sys=True, stamps=None):
        """Writes clean ``changes``; returns the columns that changed."""
        table = self.platform.schema.tables[row.table]
        new = dict(row)
        new.update(changes)
        if not self._differs(row, new, changes):
            if (not stamps
                    and not self.platform.switches["patch_without_change_bumps"]):
                return []
        self._policies(table, new)
        rules.before_write(self.platform, table, new, row)
        self._unique(table, new, row)
        changed = [n for n in new if new[n] != row.get(n, "")]
        for name in changed:
            self.store.set(row, name, new[name])
        if touch_sys:
            self.store.set(row, "sys_mod_count",
                           str(int(row.get("sys_mod_count") or 0) + 1))
            self.store.set(row, "sys_updated_on", self.platform.clock.stamp())
            self.store.set(row, "sys_updated_by", actor)
        for name, value in (stamps or {}).items():
            self.store.set(row, name, value)
        return changed

    @staticmethod
    def _differs(row, new, changes):
        return any(new[name] != row.get(name, "") for name in changes)

    def delete(self, row, actor):
        table = self.platform.schema.tables[row.table]
        rules.before_delete(self.platform, table, row)
        self.store.drop(row)
        self._audit_delete(table, row, actor)
        if table.is_a("cmdb_ci") and "cmdb_rel_ci" in self.platform.schema.tables:
            # Relations go with either end; sys_object_source rows stay and
            # point to nothing, which IRE must cope with (§5.3).
            for end in ("parent", "child"):
                for relation in self.store.find("cmdb_rel_ci", end,
                                                row["sys_id"]):
                    self.store.drop(relation)

    def _audit_delete(self, table, row, actor):
        audit = self.platform.schema.get("sys_audit_delete")
        if audit is None:
            return
        self.insert(audit, {
            "tablename": table.name, "documentkey": row["sys_id"],
            "display_value": row.get(table.display_column, "")}, actor)

    # -- checks -------------------------------------------------------------

    def _number(self, table, row):
        if "number" not in table.columns or row.get("number"):
            return
        for ancestor in table.chain:
            if ancestor.number_prefix:
                row["number"] = self.store.next_number(
                    ancestor.number_prefix, ancestor.number_digits)
                return

    def _unique(self, table, new, old):
        for name, column in table.columns.items():
            value = new.get(name, "")
            if not column.unique or value == "":
                continue
            if old is not None and old.get(name, "") == value:
                continue
            for other in self.store.find(column.table, name, value):
                if other is not old:
                    raise OperationRefused(
                        "Unique Key violation detected by database ((conn=1) "
                        "Duplicate entry '%s' for key '%s')" % (value, name))
        if old is None and self.store.get(table.root.name, new["sys_id"]):
            raise OperationRefused(
                "Unique Key violation detected by database ((conn=1) "
                "Duplicate entry '%s' for key 'PRIMARY')" % new["sys_id"])

    def _policies(self, table, row):
        """Data policies apply to REST, unlike the dictionary's mandatory
        flag (§2.3, §2.8)."""
        for policy in self.platform.data_policies:
            if not table.is_a(policy["table"]):
                continue
            missing = [table.columns[c].label for c in policy["mandatory"]
                       if row.get(c, "") == ""]
            if missing:
                raise OperationRefused(
                    "Data Policy Exception: The following fields are "
                    "mandatory: " + ", ".join(missing))
