"""Who may do what: rules are rows {table, operation, roles, field?, hide?}
from the data files; ``*`` stands for every table that has no rule.

Rules of the nearest class win.  An ``admin`` passes every rule.
"""


class Acl:
    def __init__(self, platform):
        self.platform = platform
        self.rules = {}         # (table, operation, field) -> rule
        self.hides = {}         # table -> [encoded query]

    def load(self, rows):
        for rule in rows:
            if rule.get("hide"):
                self.hides.setdefault(rule["table"], []).append(rule["hide"])
                continue
            operations = rule.get("operation", "*")
            if isinstance(operations, str):
                operations = [operations]
            for operation in operations:
                if operation == "*":
                    names = ["read", "create", "write", "delete"]
                else:
                    names = [operation]
                for name in names:
                    self.rules[(rule["table"], name, rule.get("field"))] = rule

    def allows(self, user, table, operation):
        if "admin" in user.roles:
            return True
        if (table in ("sys_dictionary", "sys_db_object")
                and self.platform.switches["hardened_dictionary"]):
            return "personalize_dictionary" in user.roles
        info = self.platform.schema.tables[table]
        for name in [t.name for t in info.chain] + ["*"]:
            rule = self.rules.get((name, operation, None))
            if rule is not None:
                return _has_role(user, rule)
        return False

    def hidden_columns(self, user, table):
        """Columns that are left out of the record, silently (§2.2)."""
        if "admin" in user.roles:
            return ()
        info = self.platform.schema.tables[table]
        names = {t.name for t in info.chain}
        return {field for (t, op, field), rule in self.rules.items()
                if field and op == "read" and t in names
                and not _has_role(user, rule)}

    def column_hidden(self, user, table, column):
        if "admin" in user.roles or table not in self.platform.schema.tables:
            return False
        return column in self.hidden_columns(user, table)

    def column_writable(self, user, table, column):
        if "admin" in user.roles:
            return True
        info = self.platform.schema.tables[table]
        for ancestor in info.chain:
            rule = self.rules.get((ancestor.name, "write", column))
            if rule is not None:
                return _has_role(user, rule)
        return True

    def row_hidden(self, user, row):
        """Row-level rules, applied after the limit (§2.4)."""
        if "admin" in user.roles:
            return False
        info = self.platform.schema.tables[row.table]
        for ancestor in info.chain:
            for query in self.hides.get(ancestor.name, ()):
                if query == "$not_own_user":
                    if row.get("user") != user.sys_id:
                        return True
                elif self.platform.queries.matches(row.table, query, row):
                    return True
        return False


def _has_role(user, rule):
    roles = rule.get("roles", [])
    return "*" in roles or any(r in user.roles for r in roles)
