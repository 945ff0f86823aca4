"""Table API (§2)."""
import urllib.parse

from ..wire import Reply, html_reply, json_reply
from . import bodies
from .errors import ApiError, OperationRefused, invalid_table, no_resource, \
    not_found
from .limits import quota_reply
from .query import FieldDenied
from .records import SYS_ID
from .rules import abort_text
from .schema import PROTECTED

DEFAULT_LIMIT = 10000

# §10.5: read-only once a contract has left draft
CONTRACT_FROZEN = {"starts", "ends", "renewable", "renewal_date",
                   "renewal_end_date", "renewal_options"}


def view_of(request):
    """(display mode, no links, fields) of a request."""
    mode = request.query.get("sysparm_display_value", "false").lower()
    if mode not in ("true", "false", "all"):
        mode = "false"
    no_link = request.query.get(
        "sysparm_exclude_reference_link", "false").lower() == "true"
    fields = request.query.get("sysparm_fields")
    if fields is not None:
        fields = [f.strip() for f in fields.split(",") if f.strip()]
    return mode, no_link, fields or None


class TableApi:
    def __init__(self, platform):
        self.platform = platform

    def handle(self, request, version, parts):
        if not 1 <= len(parts) <= 2 or not parts[0]:
            raise no_resource()
        table = self.platform.schema.get(parts[0])
        if table is None:
            raise invalid_table(parts[0])
        if not table.ws_access:
            raise ApiError(403, "User Not Authorized",
                           "Failed API level ACL Validation")
        one = len(parts) == 2 and parts[1] != ""
        method = request.method
        if method == "GET":
            if one:
                return self._get(request, table, parts[1])
            return self._list(request, table, version)
        if method == "POST" and not one:
            return self._post(request, table)
        if method in ("PUT", "PATCH") and one:
            return self._patch(request, table, parts[1])
        if method == "DELETE" and one:
            return self._delete(request, table, parts[1])
        raise ApiError(405, "Method not supported",
                       method + " method not supported for API")

    # -- reading ------------------------------------------------------------

    def _may_read(self, request, table):
        if not self.platform.acl.allows(request.user, table.name, "read"):
            raise ApiError(403, "Insufficient rights to query records")

    def _visible(self, request, table, sys_id):
        """The row, or the 404 that also hides rows behind ACLs (§2.3)."""
        row = self.platform.store.get(table.name, sys_id)
        if row is None or self.platform.acl.row_hidden(request.user, row):
            raise not_found()
        return row

    def _record(self, request, table, row):
        mode, no_link, fields = view_of(request)
        return self.platform.render.record(table.name, row, request.user,
                                           mode, no_link, fields)

    def _get(self, request, table, sys_id):
        if not self.platform.acl.allows(request.user, table.name, "read"):
            raise not_found()
        row = self._visible(request, table, sys_id)
        return bodies.reply(request, 200,
                            {"result": self._record(request, table, row)})

    def search(self, request, table):
        """Rows that match the request's query, ACLs of rows not applied."""
        extra = [(name, value) for name, value in request.query.items()
                 if not name.startswith("sysparm_") and name in table.columns]
        try:
            rows, query = self.platform.queries.run(
                table.name, request.query.get("sysparm_query", ""),
                request.user, extra)
        except FieldDenied as denied:
            raise ApiError(403, "Insufficient rights to query records",
                           str(denied)) from None
        return rows, query

    def _list(self, request, table, version):
        self._may_read(request, table)
        limit = _number(request, "sysparm_limit", DEFAULT_LIMIT)
        offset = _number(request, "sysparm_offset", 0)
        if limit < 0 or offset < 0:
            raise ApiError(400, "Invalid paging parameter",
                           "negative values are not allowed")     # §2.4
        rows, _ = self.search(request, table)
        total = len(rows)
        # The limit is applied before the ACLs: pages may be short (§2.4)
        page = [r for r in rows[offset:offset + limit]
                if not self.platform.acl.row_hidden(request.user, r)]
        cancelled = self.platform.limits.quota(len(page))
        if cancelled == "500":
            return quota_reply()
        mode, no_link, fields = view_of(request)
        shown = [self.platform.render.record(table.name, r, request.user,
                                             mode, no_link, fields)
                 for r in page]
        if not rows and version == "v1" \
                and self.platform.switches["v1_empty_list_404"]:
            raise ApiError(404, "No Record found",
                           "Records matching query not found. Check query "
                           "parameter or offset parameter")
        headers = self._list_headers(request, total, len(page), limit, offset)
        if len(headers.get("Link", "")) > \
                self.platform.switches["link_header_limit"]:
            # A long query breaks responses through this header (§2.4)
            return html_reply(500, "Internal Server Error")
        reply = bodies.reply(request, 200, {"result": shown}, headers)
        if cancelled:
            reply.body = reply.body[:len(reply.body) // 2]
        return reply

    def _list_headers(self, request, total, shown, limit, offset):
        headers = {}
        if request.query.get("sysparm_no_count", "false").lower() != "true":
            headers["X-Total-Count"] = str(total)
        elif self.platform.switches["no_count_header"] == "page":
            headers["X-Total-Count"] = str(shown)
        suppress = request.query.get("sysparm_suppress_pagination_header",
                                     "false").lower()
        if suppress != "true":
            headers["Link"] = self._link(request, total, limit, offset)
        return headers

    def _link(self, request, total, limit, offset):
        """One header, comma-joined; on the first page ``prev`` has a
        negative offset [L], on the last there is no ``next`` (§2.4)."""
        size = max(limit, 1)
        last = max(0, (total - 1) // size * size)
        base = self.platform.request_base(request) + request.path + "?"
        others = {n: v for n, v in request.query.items()
                  if n != "sysparm_offset"}

        def url(at):
            return base + urllib.parse.urlencode(
                dict(others, sysparm_offset=at), quote_via=urllib.parse.quote)
        links = ['<%s>;rel="first"' % url(0),
                 '<%s>;rel="prev"' % url(offset - limit)]
        if offset + limit < total:
            links.append('<%s>;rel="next"' % url(offset + limit))
        links.append('<%s>;rel="last"' % url(last))
        return ",".join(links)

    # -- writing ------------------------------------------------------------

    def _input(self, request, raw, table, target):
        """Clean values of a body, without what the caller may not write."""
        admin = "admin" in request.user.roles
        only_admin = self.platform.truth(
            "glide.rest.table_api.admin_only_sys_fields", True)
        wanted = {}
        for name, value in raw.items():
            column = table.columns.get(name)
            if column is None:
                continue            # dropped, and still 201 (§0.8 [L])
            if name == "sys_class_name":
                wanted[name] = value
                continue
            if name in PROTECTED:
                if not only_admin or admin:
                    wanted[name] = value
                continue
            if column.read_only and not admin:
                continue            # §2.8
            if not self.platform.acl.column_writable(request.user, table.name,
                                                     name):
                continue
            wanted[name] = value
        if request.query.get("sysparm_input_display_value",
                             "false").lower() == "true":
            wanted = {n: self._from_display(target, table.columns[n], v,
                                            request.user)
                      for n, v in wanted.items()}
        return self.platform.records.clean(target, wanted)

    def _from_display(self, target, column, value, user):
        """sysparm_input_display_value=true: names instead of keys (§2.8)."""
        if not isinstance(value, str) or value == "":
            return value
        if column.is_ref and column.reference in self.platform.schema.tables:
            info = self.platform.schema.tables[column.reference]
            hits = self.platform.store.find(column.reference,
                                            info.display_column, value)
            return hits[0]["sys_id"] if hits else value
        if column.choice:
            labels = self.platform.choices.by_label(target.name, column.name)
            return labels.get(value.casefold(), value)
        if column.kind == "datetime":
            return self.platform.queries.dates.from_user(value, user)
        return value

    @staticmethod
    def _stamps(clean):
        return {n: clean.pop(n) for n in list(clean) if n in PROTECTED}

    def _no_body(self, request):
        return request.headers.get("x-no-response-body", "").lower() == "true"

    def _post(self, request, table):
        acl = self.platform.acl
        raw = bodies.read_object(request)
        target = self._class_for(table, raw)
        if not acl.allows(request.user, target.name, "create"):
            raise _security("Insert")
        self._inject_abort(request, target)
        clean = self._input(request, raw, table, target)
        clean.pop("sys_class_name", None)
        stamps = self._stamps(clean)
        sys_id = raw.get("sys_id") if isinstance(raw.get("sys_id"), str) else None
        stamps.pop("sys_id", None)
        if sys_id is not None and not SYS_ID.match(sys_id):
            sys_id = None           # used as it is, if it is one (§2.8 [L])
        try:
            row = self.platform.records.insert(
                target, clean, request.user.user_name, sys_id, stamps)
        except OperationRefused as refused:
            raise self._refusal(refused) from None
        self._written(target, row, born=True)
        location = "%s/api/now/table/%s/%s" % (
            self.platform.request_base(request), table.name, row["sys_id"])
        if (not acl.allows(request.user, table.name, "read")
                or acl.row_hidden(request.user, row)):
            # The row was created all the same (§2.3)
            reply = json_reply(403, _security("Insert").envelope())
            reply.committed = True
            return reply
        if self._no_body(request):
            return Reply(201, headers={"Location": location})
        return bodies.reply(request, 201,
                            {"result": self._record(request, table, row)},
                            {"Location": location})

    def _class_for(self, table, raw):
        """sys_class_name in a POST makes the row in that child (§2.8)."""
        named = self.platform.schema.get(str(raw.get("sys_class_name", "")))
        if named is not None and named.is_a(table.name):
            return named
        return table

    def _patch(self, request, table, sys_id):
        row = self._visible(request, table, sys_id)
        target = self.platform.schema.tables[row.table]
        if not self.platform.acl.allows(request.user, target.name, "write"):
            raise _security("Update")
        self._inject_abort(request, target)
        clean = self._input(request, bodies.read_object(request), table,
                            target)
        clean.pop("sys_class_name", None)
        clean.pop("sys_id", None)
        stamps = self._stamps(clean)
        for name in list(clean):
            # An empty string clears a field, except choice fields (§2.9)
            if clean[name] == "" and table.columns[name].choice:
                del clean[name]
        self._frozen_contract(target, row, clean)
        touch = request.query.get("sysparm_suppress_auto_sys_field",
                                  "false").lower() != "true"
        try:
            self.platform.records.update(row, clean, request.user.user_name,
                                         touch, stamps or None)
        except OperationRefused as refused:
            raise self._refusal(refused) from None
        self._written(target, row)
        if self._no_body(request):
            return Reply(200)
        return bodies.reply(request, 200,
                            {"result": self._record(request, table, row)})

    def _frozen_contract(self, table, row, clean):
        how = self.platform.switches["contract_dates_after_draft"]
        if (not table.is_a("ast_contract") or how == "allow"
                or row.get("state", "draft") in ("", "draft")):
            return
        frozen = [n for n in clean
                  if (n in CONTRACT_FROZEN
                      or table.columns[n].kind == "currency")
                  and clean[n] != row.get(n, "")]
        if frozen and how == "refuse":
            raise _security("Update")
        for name in frozen:
            del clean[name]

    def _delete(self, request, table, sys_id):
        row = self._visible(request, table, sys_id)
        if not self.platform.acl.allows(request.user, row.table, "delete"):
            raise _security("Delete")
        self._inject_abort(request, self.platform.schema.tables[row.table])
        try:
            self.platform.records.delete(row, request.user.user_name)
        except OperationRefused as refused:
            raise self._refusal(refused) from None
        self._written(table, row)
        return Reply(204)

    def _written(self, table, row, born=False):
        if table.name in ("sys_choice", "cmdb_identifier",
                          "cmdb_identifier_entry") and born:
            # REST-made entries reach IRE's caches later (§5.7)
            self.platform.rest_births[row["sys_id"]] = self.platform.clock.now()
        self.platform.row_written(table.name, row)

    def _refusal(self, refused):
        status = 403
        if refused.detail.startswith("Unique Key"):
            status = self.platform.switches["unique_violation_status"]
        return ApiError(status, "Operation Failed", refused.detail)

    def _inject_abort(self, request, table):
        name = request.inject.get("business_rule_abort")
        if name:
            raise ApiError(403, "Operation Failed", abort_text(
                table.name, name, self.platform.stable_id("sys_script", name)))


def _security(what):
    return ApiError(403, "Operation Failed",
                    "ACL Exception %s Failed due to security constraints" % what)


def _number(request, name, default):
    try:
        return int(request.query.get(name, default))
    except ValueError:
        return default
