"""Import Set API (§7).  Staging tables extend sys_import_set_row; transform
maps come from the data files: {name, source_table, target_table, fields
(staging column -> target column), coalesce [target columns]}."""
from ..wire import json_reply
from . import bodies
from .errors import ApiError, OperationRefused, invalid_table, no_resource, \
    not_found
from .ire import require_role

BASE = "sys_import_set_row"


class ImportSet:
    def __init__(self, platform):
        self.platform = platform

    def handle(self, request, parts):
        if not parts or not parts[0]:
            raise no_resource()
        table = self.platform.schema.get(parts[0])
        if table is None or not table.is_a(BASE):
            raise invalid_table(parts[0])
        require_role(request.user, "import_set_loader", "import_transformer",
                     "itil")
        if len(parts) == 1 and request.method == "POST":
            return self._one(request, table)
        if len(parts) == 2 and parts[1] == "insertMultiple" \
                and request.method == "POST":
            return self._many(request, table)
        if len(parts) == 2 and request.method == "GET":
            return self._read(table, parts[1])
        raise ApiError(405, "Method not supported",
                       request.method + " method not supported for API")

    def _new_set(self, table, actor):
        return self.platform.records.insert(
            self.platform.schema.tables["sys_import_set"],
            {"table_name": table.name, "state": "processed"}, actor)

    def _map(self, table):
        for each in self.platform.transform_maps:
            if each["source_table"] == table.name:
                return each
        # KB0791757
        raise ApiError(500, "null value in entry: transform_map=null", None)

    def _stage(self, table, values, import_set, actor):
        clean = self.platform.records.clean(table, values)
        clean["sys_import_set"] = import_set["sys_id"]
        return self.platform.records.insert(table, clean, actor)

    # -- one row: the transform runs within the call ------------------------

    def _one(self, request, table):
        values = bodies.read_object(request)
        transform = self._map(table)
        actor = request.user.user_name
        import_set = self._new_set(table, actor)
        row = self._stage(table, {k: v for k, v in values.items()
                                  if "." not in k}, import_set, actor)
        outcome = self._transform(transform, row, actor)
        return json_reply(201, self._answer(table, import_set, [outcome]))

    def _transform(self, transform, row, actor):
        target = self.platform.schema.tables[transform["target_table"]]
        values = {to: row.get(source, "")
                  for source, to in transform["fields"].items()}
        clean = self.platform.records.clean(target, values)
        outcome = {"transform_map": transform["name"], "table": target.name,
                   "display_name": target.display_column}
        try:
            found = self._coalesce(transform, target, clean)
            if found is None:
                found = self.platform.records.insert(target, clean, actor)
                status = "inserted"
            else:
                changed = self.platform.records.update(found, clean, actor)
                status = "updated" if changed else "ignored"
        except OperationRefused as refused:
            outcome.update(status="error", error_message=refused.detail,
                           status_message=refused.detail)
            self._note(row, outcome, "")
            return outcome
        self.platform.row_written(target.name, found)
        outcome.update(
            display_value=found.get(target.display_column, ""),
            record_link="%s/api/now/table/%s/%s" % (
                self.platform.base_url(), target.name, found["sys_id"]),
            status=status, sys_id=found["sys_id"])
        self._note(row, outcome, found["sys_id"])
        return outcome

    def _note(self, row, outcome, target):
        for name, value in (("sys_import_state", outcome["status"]),
                            ("sys_target_table", outcome["table"]),
                            ("sys_target_sys_id", target),
                            ("sys_import_state_comment",
                             outcome.get("error_message", ""))):
            self.platform.store.set(row, name, value)

    def _coalesce(self, transform, target, clean):
        names = transform.get("coalesce", [])
        if not names or any(clean.get(n, "") == "" for n in names):
            return None
        for row in self.platform.store.find(target.name, names[0],
                                            clean[names[0]]):
            if all(row.get(n, "").casefold() == clean[n].casefold()
                   for n in names):
                return row
        return None

    # -- many rows: no result per row, poll ---------------------------------

    def _many(self, request, table):
        doc = bodies.read_json(request)
        records = doc.get("records") if isinstance(doc, dict) else None
        if not isinstance(records, list) or not all(
                isinstance(r, dict) for r in records):
            raise ApiError(400, "Invalid payload", "records is required")
        transform = self._map(table)
        actor = request.user.user_name
        import_set = self._new_set(table, actor)
        names = self._keys(table)
        for record in records:
            values = {names[k]: v for k, v in record.items() if k in names}
            row = self._stage(table, values, import_set, actor)
            self._transform(transform, row, actor)
        return json_reply(201, {
            "import_set_id": import_set["sys_id"],
            "multi_import_set_id": request.query.get(
                "multi_import_set_id") or self.platform.new_sys_id()})

    def _keys(self, table):
        """Keys are column labels unless sys_rest_insert_multiple says names."""
        by_name = any(
            r.get("key_format") == "column_name" for r in
            self.platform.store.find("sys_rest_insert_multiple",
                                     "source_table", table.name))
        return {(n if by_name else c.label): n
                for n, c in table.columns.items()}

    # -- reading ------------------------------------------------------------

    def _read(self, table, sys_id):
        row = self.platform.store.get(table.name, sys_id)
        if row is None:
            raise not_found()
        import_set = self.platform.store.get("sys_import_set",
                                             row.get("sys_import_set", ""))
        transform = self._map(table)
        outcome = {"transform_map": transform["name"],
                   "table": row.get("sys_target_table", ""),
                   "status": row.get("sys_import_state", "pending"),
                   "sys_id": row.get("sys_target_sys_id", "")}
        return json_reply(200, self._answer(table, import_set, [outcome]))

    @staticmethod
    def _answer(table, import_set, outcomes):
        # not wrapped in "result" alone (§7)
        return {"import_set": import_set.get("number", "") if import_set else "",
                "staging_table": table.name, "result": outcomes}
