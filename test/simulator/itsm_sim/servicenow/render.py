"""Rows as the APIs show them (§2.2): all values strings, three display modes,
with or without links."""


class Render:
    def __init__(self, platform):
        self.platform = platform

    # -- references ---------------------------------------------------------

    def target(self, column, value):
        """The row a reference points to, or None."""
        if not value or column.reference not in self.platform.schema.tables:
            return None
        if column.ref_key == "sys_id":
            return self.platform.store.get(column.reference, value)
        hits = self.platform.store.find(column.reference, column.ref_key, value)
        return hits[0] if hits else None

    def reference_text(self, column, value):
        """Display value of a reference; '' if the target is gone (§2.2)."""
        row = self.target(column, value)
        return self.row_name(row) if row is not None else ""

    def row_name(self, row):
        info = self.platform.schema.tables[row.table]
        return row.get(info.display_column, "")

    def link(self, column, value):
        """By the instance's configured host, never the request's (§2.2); a
        CI's link is to cmdb_ci whatever its class."""
        table = column.reference
        info = self.platform.schema.tables.get(table)
        if info is not None and info.is_a("cmdb_ci"):
            table = "cmdb_ci"
        return "%s/api/now/table/%s/%s" % (self.platform.base_url(), table, value)

    # -- values -------------------------------------------------------------

    def display(self, column, row, value, user):
        if value == "":
            return ""
        if column.is_ref:
            return self.reference_text(column, value)
        if column.choice and row is not None:
            return self.platform.choices.of(row.table, column.name).get(
                value, value)
        if column.kind == "class":
            info = self.platform.schema.tables.get(value)
            return info.label if info else value
        if column.kind == "datetime":
            return self.platform.queries.dates.to_user(value, user)
        if column.kind == "list":
            names = []
            for each in value.split(","):
                target = self.platform.store.get(column.reference, each) \
                    if column.reference in self.platform.schema.tables else None
                names.append(self.row_name(target) if target else each)
            return ", ".join(names)
        if column.kind == "currency":
            return "$" + value
        if column.kind == "password":
            return "********"
        return value

    def cell(self, column, row, value, user, mode, no_link):
        if column.kind == "password":
            value = "********" if value else ""
        if mode == "all":
            return self._cell_all(column, row, value, user, no_link)
        shown = self.display(column, row, value, user) if mode == "true" else value
        if not column.is_ref or value == "" or no_link:
            return shown
        if mode == "true":
            return {"display_value": shown, "link": self.link(column, value)}
        return {"link": self.link(column, value), "value": value}

    def _cell_all(self, column, row, value, user, no_link):
        cell = {"display_value": self.display(column, row, value, user),
                "value": value}
        if column.choice and value == "":
            cell["display_value"] = None        # [L] §2.2
        if column.is_ref and value and not no_link:
            cell["link"] = self.link(column, value)
        if column.kind == "currency":
            cell["currency_display_value"] = "USD;" + (value or "0.00")
        return cell

    def record(self, table, row, user, mode="false", no_link=False, fields=None):
        """``table`` is the one that was asked: a parent shows only its own
        columns of a child's row (§2.4)."""
        info = self.platform.schema.tables[table]
        hidden = self.platform.acl.hidden_columns(user, row.table)
        shown = {}
        if fields is None:
            for name, column in info.columns.items():
                if name not in hidden:
                    shown[name] = self.cell(column, row, row.get(name, ""),
                                            user, mode, no_link)
            return shown
        for path in fields:
            column = self.platform.queries.column_at(table, path)
            if column is None:
                continue            # unknown names are ignored (§2.4)
            if "." in path:
                if self.platform.acl.column_hidden(user, column.table,
                                                   column.name):
                    continue
                value = self.platform.queries.getter(table, path)(row)
                owner = self._owner(table, path, row)
            elif path in hidden:
                continue
            else:
                value, owner = row.get(path, ""), row
            shown[path] = self.cell(column, owner, value, user, mode, no_link)
        return shown

    def _owner(self, table, path, row):
        """The row that holds the last column of a dotted path."""
        info = self.platform.schema.tables[table]
        for name in path.split(".")[:-1]:
            column = info.columns[name]
            row = self.target(column, row.get(name, ""))
            if row is None:
                return None
            info = self.platform.schema.tables[column.reference]
        return row
