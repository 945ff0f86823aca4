"""CMDB Instance API (§3): seven operations, none of which deletes a CI."""
from ..wire import Reply, json_reply
from . import bodies
from .errors import ApiError, OperationRefused, invalid_table, no_resource, \
    not_found
from .ire import require_role
from .ire_relations import link
from .ire_run import Run
from .query import FieldDenied

OPTIONS = {"partial_payloads": False, "partial_commits": True,
           "deduplicate_payloads": True, "generate_summary": False}
RELATIONS = ("outbound_relations", "inbound_relations")


class InstanceApi:
    def __init__(self, platform):
        self.platform = platform
        self.store = platform.store

    def handle(self, request, parts):
        if not parts or not parts[0]:
            raise no_resource()
        require_role(request.user, "itil")
        table = self.platform.schema.get(parts[0])
        if table is None or not table.is_a("cmdb_ci"):
            raise invalid_table(parts[0])
        method, depth = request.method, len(parts)
        if depth == 1 and method == "GET":
            return self._list(request, table)
        if depth == 1 and method == "POST":
            return self._create(request, table)
        if depth == 2 and method in ("GET", "PUT", "PATCH"):
            row = self._row(request, table, parts[1])
            if method == "GET":
                return self._show(request, row, 200)
            return self._update(request, table, row)
        if depth >= 3 and parts[2] == "relation":
            row = self._row(request, table, parts[1])
            if depth == 3 and method == "POST":
                return self._add_relations(request, row)
            if depth == 4 and method == "DELETE":
                return self._remove_relation(request, row, parts[3])
        if depth <= 2 or parts[2] == "relation":
            raise ApiError(405, "Method not supported",
                           method + " method not supported for API")
        raise no_resource()

    def _row(self, request, table, sys_id):
        row = self.store.get(table.name, sys_id)
        if row is None or self.platform.acl.row_hidden(request.user, row):
            raise not_found()
        return row

    # -- reading ------------------------------------------------------------

    def _list(self, request, table):
        """sys_id and name only; no choice of fields."""
        try:
            limit = int(request.query.get(
                "sysparm_limit", self.platform.switches["instance_default_limit"]))
            offset = int(request.query.get("sysparm_offset", 0))
        except ValueError:
            raise ApiError(400, "Invalid paging parameter") from None
        if limit < 0 or offset < 0:
            raise ApiError(400, "Invalid paging parameter")
        try:
            rows, _ = self.platform.queries.run(
                table.name, request.query.get("sysparm_query", ""),
                request.user)
        except FieldDenied as denied:
            raise ApiError(403, "Insufficient rights to query records",
                           str(denied)) from None
        page = [r for r in rows[offset:offset + limit]
                if not self.platform.acl.row_hidden(request.user, r)]
        return json_reply(200, {"result": [
            {"sys_id": r["sys_id"], "name": r.get("name", "")} for r in page]})

    def _show(self, request, row, status):
        render = self.platform.render
        attributes = {}
        table = self.platform.schema.tables[row.table]
        hidden = self.platform.acl.hidden_columns(request.user, row.table)
        for name, column in table.columns.items():
            if name in hidden:
                continue
            value = row.get(name, "")
            if column.is_ref and value:
                # here references always come with all three members (§3)
                attributes[name] = {
                    "display_value": render.reference_text(column, value),
                    "link": render.link(column, value), "value": value}
            else:
                attributes[name] = render.cell(column, row, value,
                                               request.user, "false", True)
        return json_reply(status, {"result": {
            "attributes": attributes,
            "outbound_relations": self._relations(row, "parent", "child"),
            "inbound_relations": self._relations(row, "child", "parent")}})

    def _relations(self, row, near, far):
        render, base = self.platform.render, self.platform.base_url()
        types = self.platform.schema.tables["cmdb_rel_ci"].columns["type"]
        shown = []
        for relation in self.store.find("cmdb_rel_ci", near, row["sys_id"]):
            target = self.store.get("cmdb_ci", relation.get(far, ""))
            kind = relation.get("type", "")
            shown.append({
                "sys_id": relation["sys_id"],
                "type": {"display_value": render.reference_text(types, kind),
                         "link": render.link(types, kind), "value": kind},
                "target": {
                    "display_value": target.get("name", "") if target else "",
                    "link": "%s/api/now/cmdb/instance/cmdb_ci/%s"
                            % (base, relation.get(far, "")),
                    "value": relation.get(far, "")}})
        return shown

    # -- writing ------------------------------------------------------------

    def _body(self, request):
        bodies.require_json(request)
        doc = bodies.read_json(request)
        if not isinstance(doc, dict):
            raise ApiError(400, "Invalid payload", "a JSON object is expected")
        if not doc.get("source"):
            raise ApiError(400, "Invalid payload", "source is required")
        attributes = doc.get("attributes", {})
        if not isinstance(attributes, dict):
            raise ApiError(400, "Invalid payload",
                           "attributes is a flat object")
        for name in RELATIONS:
            # empty arrays have been rejected: leave the members out (§3)
            if name in doc and (not isinstance(doc[name], list)
                                or not doc[name]):
                raise ApiError(400, "Invalid payload",
                               name + " is a list that is not empty")
        return doc

    def _run(self, request, item, source):
        """The call goes through IRE, without a native key (§3)."""
        run = Run(self.platform, {"items": [item]}, source, OPTIONS, True,
                  False, request.user, request.inject)
        run.busy = lambda keys: not keys.isdisjoint(self.platform.ire.held)
        result = run.execute()
        if result["items"][0]["errors"]:
            # the IRE envelope, not the error envelope (§3 [L])
            keep = ("sysId", "identifierEntrySysId", "identificationAttempts",
                    "errors")
            return None, json_reply(
                self.platform.switches["instance_refusal_status"],
                {"result": {"items": [{k: i[k] for k in keep}
                                      for i in result["items"]]}})
        return run.groups[0].row, None

    def _create(self, request, table):
        doc = self._body(request)
        links = self._read_relations(doc)
        row, refusal = self._run(
            request, {"className": table.name,
                      "values": doc.get("attributes", {})}, doc["source"])
        if refusal is not None:
            return refusal
        self._link(row, links, request.user)
        return self._show(request, row,
                          self.platform.switches["instance_create_status"])

    def _update(self, request, table, row):
        doc = self._body(request)
        values = dict(doc.get("attributes", {}), sys_id=row["sys_id"])
        # The class in the path may be a parent of the CI's own; the row is
        # known, so its class is not in question.
        row, refusal = self._run(
            request, {"className": row.table, "values": values}, doc["source"])
        return refusal or self._show(request, row, 200)

    def _read_relations(self, doc):
        """[(outbound, type, target)], all of them sys_ids that exist."""
        links = []
        for name in RELATIONS:
            for spec in doc.get(name, []):
                if not isinstance(spec, dict):
                    raise ApiError(400, "Invalid payload", name)
                kind, target = spec.get("type"), spec.get("target")
                if self.store.get("cmdb_rel_type", str(kind)) is None:
                    raise ApiError(400, "Invalid payload",
                                   "invalid relation type [%s]" % kind)
                if self.store.get("cmdb_ci", str(target)) is None:
                    raise ApiError(400, "Invalid payload",
                                   "invalid relation target [%s]" % target)
                links.append((name == RELATIONS[0], kind, target))
        return links

    def _link(self, row, links, user):
        for outbound, kind, target in links:
            ends = (row["sys_id"], target) if outbound else (target, row["sys_id"])
            link(self.platform, ends[0], ends[1], kind, user.user_name)

    def _add_relations(self, request, row):
        doc = self._body(request)
        if not self.platform.choices.data_source_registered(doc["source"]):
            return json_reply(
                self.platform.switches["instance_refusal_status"],
                {"result": {"items": [{
                    "sysId": "Unknown", "identifierEntrySysId": "Unknown",
                    "identificationAttempts": [], "errors": [{
                        "error": "INVALID_INPUT_DATA",
                        "message": Run.bad_source(doc["source"])}]}]}})
        links = self._read_relations(doc)
        if not links:
            raise ApiError(400, "Invalid payload", "no relation given")
        self._link(row, links, request.user)
        return self._show(request, row, 200)

    def _remove_relation(self, request, row, sys_id):
        relation = self.store.get("cmdb_rel_ci", sys_id)
        if relation is None or row["sys_id"] not in (
                relation.get("parent"), relation.get("child")):
            raise not_found()
        try:
            self.platform.records.delete(relation, request.user.user_name)
        except OperationRefused as refused:
            raise ApiError(403, "Operation Failed", refused.detail) from None
        how = self.platform.switches["instance_delete_relation_reply"]
        if how == "204":
            return Reply(204)
        if how == "body":
            return self._show(request, row, 200)
        return Reply(200)
