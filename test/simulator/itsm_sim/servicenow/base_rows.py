"""Rows at start: from the data files, and generated from the schema
(dictionary, table list, choices, relationship types, identification rules).
"""
from .store import Row

BORN = "2024-01-01 00:00:00"


class BaseRows:
    def __init__(self, platform):
        self.platform = platform
        self.schema = platform.schema

    def load(self):
        self._dictionary()
        self._choices()
        self._relationship_types()
        self._identification_rules()
        for table, rows in self.schema.rows.items():
            for values in rows:
                self.put(table, values)
        self._accounts()
        self.platform.choice_version += 1

    def put(self, table, values, sys_id=None):
        """Upserts one row by sys_id, without business rules.  Returns it."""
        info = self.schema.tables[table]
        named = self.schema.tables.get(values.get("sys_class_name", ""))
        if named is not None and named.is_a(table):
            info = named
        text = {n: v if isinstance(v, str) else _text(v)
                for n, v in values.items() if n in info.columns}
        key = text.get("sys_id") or sys_id or self._key(info, text)
        store = self.platform.store
        row = store.get(info.root.name, key)
        if row is not None:
            if named is not None and row.table != info.name:
                store.reclass(row, info.name)
            for name, value in text.items():
                if name != "sys_class_name":
                    store.set(row, name, value)
            return row
        row = Row(info.name)
        for name, column in info.columns.items():
            if column.default:
                row[name] = column.default
        row.update({n: v for n, v in text.items() if v != ""})
        row["sys_id"] = key
        row.setdefault("sys_created_on", BORN)
        row.setdefault("sys_updated_on", BORN)
        row.setdefault("sys_created_by", "system")
        row.setdefault("sys_updated_by", "system")
        row.setdefault("sys_mod_count", "0")
        if info.in_hierarchy:
            row["sys_class_name"] = info.name
        store.put(row)
        return row

    def _key(self, info, text):
        """Rows of data files need no sys_id: the same name, the same id, so
        that test runs can be compared; where the name is taken, a new one."""
        name = text.get(info.display_column) or text.get("name") or ""
        key = self.platform.stable_id(info.name, name, repr(sorted(text.items())))
        return key

    # -- generated ----------------------------------------------------------

    def _dictionary(self):
        stable = self.platform.stable_id
        for kind in sorted({c.type for t in self.schema.tables.values()
                            for c in t.columns.values()}):
            self._put_if("sys_glide_object", {"name": kind, "label": kind})
        for table in self.schema.tables.values():
            self._put_if("sys_db_object", {
                "name": table.name, "label": table.label,
                "super_class": (stable("sys_db_object", table.parent.name)
                                if table.parent else ""),
                "is_extendable": "true" if table.children else "false",
                "ws_access": "true" if table.ws_access else "false",
            }, stable("sys_db_object", table.name))
            self._put_if("sys_dictionary", {
                "name": table.name, "element": "", "active": "true",
                "internal_type": "collection", "column_label": table.label,
            }, stable("sys_dictionary", table.name, ""))
            for column in self._own_columns(table):
                self._put_if("sys_dictionary", self._entry(table, column),
                             stable("sys_dictionary", table.name, column.name))

    @staticmethod
    def _own_columns(table):
        """A child's dictionary has its own columns only: those of a class
        are the union over its parents (§12)."""
        if table.parent is not None:
            return list(table.own.values())
        return list(table.columns.values())

    @staticmethod
    def _entry(table, column):
        flag = {True: "true", False: "false"}
        choice = ""
        if column.choice:
            choice = "1"
        return {"name": table.name, "element": column.name,
                "column_label": column.label, "internal_type": column.type,
                "max_length": str(column.max_length),
                "mandatory": flag[column.mandatory],
                "read_only": flag[column.read_only],
                "reference": column.reference, "choice": choice,
                "default_value": column.default,
                "unique": flag[column.unique or column.name == "sys_id"],
                "display": flag[column.name == table.display_column],
                "active": "true"}

    def _put_if(self, table, values, sys_id=None):
        if table in self.schema.tables:
            self.put(table, values, sys_id)

    def _choices(self):
        for table, element, values in self.schema.choices:
            for number, pair in enumerate(values):
                value, label = pair if isinstance(pair, list) else (pair, pair)
                self.put("sys_choice", {
                    "name": table, "element": element, "value": str(value),
                    "label": label, "language": "en", "inactive": "false",
                    "sequence": str(number)},
                    self.platform.stable_id("sys_choice", table, element,
                                            str(value)))

    def _relationship_types(self):
        for spec in self.schema.relationship_types:
            parent, _, child = spec["name"].partition("::")
            self.put("cmdb_rel_type", {
                "name": spec["name"], "parent_descriptor": parent,
                "child_descriptor": child},
                spec.get("sys_id") or self.platform.stable_id(
                    "cmdb_rel_type", spec["name"]))

    def _identification_rules(self):
        stable = self.platform.stable_id
        for rule in self.schema.identification_rules:
            key = stable("cmdb_identifier", rule["applies_to"])
            self.put("cmdb_identifier", {
                "name": rule["name"], "applies_to": rule["applies_to"],
                "independent": "true" if rule.get("independent", True) else "false",
                "active": "true",
                "description": rule.get("description", "")}, key)
            for number, entry in enumerate(rule.get("entries", [])):
                self.put("cmdb_identifier_entry", {
                    "identifier": key,
                    "table": entry.get("table", rule["applies_to"]),
                    "attributes": entry["attributes"],
                    "order": str(entry.get("order", 100 * (number + 1))),
                    "active": "true",
                    "allow_null_attribute":
                        "true" if entry.get("allow_null_attribute") else "false",
                    "condition": entry.get("condition", "")},
                    stable("cmdb_identifier_entry", rule["applies_to"],
                           str(number)))

    # -- accounts of the command line ---------------------------------------

    def _accounts(self):
        auth, accounts = self.platform.auth, self.platform.accounts
        auth.passwords, auth.api_keys = {}, {}
        for name, password, roles in accounts.users:
            self._user(name, roles)
            auth.passwords[self._user_row(name)["user_name"]] = password
        for client_id, secret, user in accounts.clients:
            self._client(client_id, secret, user)
        for key, user, apis in accounts.api_keys:
            auth.api_keys[key] = (user or self._first_user(), apis)

    def _first_user(self):
        users = self.platform.accounts.users
        return users[0][0] if users else "admin"

    def _user_row(self, name):
        return self.platform.auth.user_row(name)

    def _user(self, name, roles):
        row = self._user_row(name)
        if row is None:
            row = self.put("sys_user", {
                "user_name": name, "name": name, "last_name": name,
                "email": name if "@" in name else name + "@example.com",
                "active": "true"}, self.platform.stable_id("sys_user", name))
        elif roles is None:
            return              # a user of the data files keeps its roles
        for role in roles if roles is not None else (
                "itil", "contract_manager", "asset"):
            self.grant(row["sys_id"], role)

    def grant(self, user, role):
        hits = self.platform.store.find("sys_user_role", "name", role)
        target = hits[0] if hits else self.put("sys_user_role", {"name": role})
        self.put("sys_user_has_role", {
            "user": user, "role": target["sys_id"], "state": "active",
            "inherited": "false"},
            self.platform.stable_id("sys_user_has_role", user, role))

    def _client(self, client_id, secret, user):
        row = self._user_row(user or self._first_user())
        self.put("oauth_entity", {
            "name": client_id, "client_id": client_id, "client_secret": secret,
            "user": row["sys_id"] if row is not None and (
                user or self.platform.switches["client_credentials"]) else "",
            "active": "true"},
            self.platform.stable_id("oauth_entity", client_id))


def _text(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
