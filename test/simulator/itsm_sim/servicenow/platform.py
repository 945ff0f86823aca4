"""The instance: its parts, its data at start, and which API serves a path."""
import asyncio
import hashlib
import random
import re
import string

from ..platform import Platform
from ..wire import html_reply, json_reply
from . import faults as faultlib
from .acl import Acl
from .aggregate import Aggregate
from .auth import Auth, User
from .base_rows import BaseRows
from .batch import Batch
from .choices import Choices
from .control import ServiceNowControl
from .errors import ApiError, no_resource
from .importset import ImportSet
from .instance_api import InstanceApi
from .ire import Ire
from .limits import Limits
from .meta import Meta
from .query import Queries
from .records import Records
from .render import Render
from .store import Store
from .table_api import TableApi

API = re.compile(r"/api/now(?:/(v1|v2))?/([^/]+)(?:/(.*))?\Z")
SYS_ID_PART = re.compile(r"[0-9a-fA-F]{32}\Z")


MAX_SESSIONS = 10000
SESSION_HOLD = 0.02         # seconds; makes overlap on one cookie visible


class Instance(Platform):
    """``accounts`` has users, clients and api_keys of the command line."""

    name = "servicenow"
    server = "ServiceNow"
    method_override = True          # §2.1: X-http-method-override
    fault_kinds = faultlib.KINDS

    def __init__(self, schema, clock, switches, accounts, seed=None):
        self.schema = schema
        self.clock = clock
        self.switches = switches
        self.accounts = accounts
        self.seed = seed
        self.start()

    def start(self):
        """Everything as a fresh instance has it; also what a reset does."""
        self.random = random.Random(self.seed)
        self.sessions = {}          # JSESSIONID -> in use
        self.store = Store(self.schema)
        self.choice_version = 0
        self.rest_births = {}       # sys_id -> when REST made a cached row
        # /__sim/load may add to these until the next reset
        self.data_policies = list(self.schema.data_policies)
        self.abort_rules = list(self.schema.abort_rules)
        self.transform_maps = list(self.schema.transform_maps)
        self.choices = Choices(self)
        self.render = Render(self)
        self.queries = Queries(self)
        self.acl = Acl(self)
        self.records = Records(self)
        self.auth = Auth(self)
        self.limits = Limits(self)
        self.table_api = TableApi(self)
        self.ire = Ire(self)
        self.instance_api = InstanceApi(self)
        self.meta = Meta(self)
        self.batch = Batch(self)
        self.import_set = ImportSet(self)
        self.aggregate = Aggregate(self)
        self.acl.load(self.schema.acl)
        BaseRows(self).load()

    # -- what the front asks ------------------------------------------------

    def serves(self, path):
        return path.startswith(("/api/now/", "/oauth_"))

    def control(self, front):
        return ServiceNowControl(front, self)

    def attach(self, front):
        self.batch.front = front

    def is_auth(self, endpoint):
        return endpoint.endswith(".do")

    def gate(self):
        return self.limits

    def expire_tokens(self):
        self.auth.expire_all()

    def secrets(self):
        return self.auth.secrets()

    def fault_reply(self, fault):
        return faultlib.fault_reply(fault)

    def spoil(self, fault, reply):
        return faultlib.spoil(fault, reply)

    def unreadable(self):
        return html_reply(400, "Bad Request")

    def defect(self):
        return json_reply(500, {"error": {
            "message": "simulator defect", "detail": "see its stderr"},
            "status": "failure"})

    def refuse(self, request):
        if len(request.target) > self.switches["max_url_length"]:
            # An HTML page, not the envelope (§2.3 [L])
            return html_reply(414, "Request-URI Too Large")
        if self.switches["hibernating"]:
            return html_reply(200, "Instance Hibernating page")
        return None

    async def exchange(self, request, answer):
        """Requests that share a session are serialised; those that come
        while one runs are turned away with 202, not done (§0.12)."""
        session = _cookie(request.headers.get("cookie", ""), "JSESSIONID")
        if not session:
            reply = await answer()
            if reply.status:
                reply.headers.setdefault(
                    "Set-Cookie", "JSESSIONID=%s; Path=/; HttpOnly"
                    % self.random_text(32))
            return reply
        sessions = self.sessions        # a reset may replace it meanwhile
        if sessions.get(session) and self.switches["session_conflicts"]:
            return html_reply(202, "Session busy")
        if len(sessions) > MAX_SESSIONS:
            sessions.clear()
        sessions[session] = True
        try:
            reply = await answer()
            await asyncio.sleep(SESSION_HOLD)
            return reply
        finally:
            sessions.pop(session, None)

    # -- small services -----------------------------------------------------

    def new_sys_id(self):
        return "%032x" % self.random.getrandbits(128)

    @staticmethod
    def stable_id(*parts):
        """The same sys_id in every process, for generated rows."""
        return hashlib.md5(":".join(parts).encode()).hexdigest()

    def random_text(self, length):
        letters = string.ascii_letters + string.digits + "-_"
        return "".join(self.random.choice(letters) for _ in range(length))

    def prop(self, name, default=""):
        for row in self.store.find("sys_properties", "name", name):
            return row.get("value", "")
        return default

    def truth(self, name, default=False):
        value = self.prop(name)
        return value == "true" if value else default

    def base_url(self):
        return "https://%s.service-now.com" % (self.prop("instance_name")
                                               or "instance")

    def request_base(self, request):
        """Host of links: the configured one while
        glide.rest.replace_request_host_with_property is true (§2.2)."""
        if self.truth("glide.rest.replace_request_host_with_property", True):
            return self.base_url()
        return "%s://%s" % (request.scheme, request.host)

    def row_written(self, table, row):
        """Called after REST or a load wrote a row that caches depend on."""
        if table == "sys_choice":
            self.choice_version += 1

    def system_user(self):
        row = self.auth.user_row("admin")
        return User(row, {"admin"})

    # -- routing ------------------------------------------------------------

    def endpoint(self, method, path):
        """A stable name for counters: versions left out, ids replaced."""
        if path.startswith("/oauth_"):
            return "%s %s" % (method, path) if path in (
                "/oauth_token.do", "/oauth_revoke_token.do") \
                else method + " (other)"
        match = API.match(path)
        if not match:
            return method + " (other)"
        version, api, rest = match.groups()
        if api == "batch":
            return "%s /api/now/%s%s" % (
                method, version + "/" if version else "", api)
        known = {"table", "cmdb", "identifyreconcile", "stats", "import"}
        if api not in known:
            return method + " (other)"
        parts = [p for p in (rest or "").split("/")][:6]
        tables = self.schema.tables
        names = []
        for part in parts:
            if SYS_ID_PART.match(part):
                names.append("{sys_id}")
            elif part in tables or part in (
                    "instance", "meta", "relation", "query", "enhanced",
                    "queryEnhanced", "insertMultiple", ""):
                names.append(part)
            else:
                names.append("(unknown)")
        path = "/".join(["/api/now", api] + [n for n in names if n])
        return "%s %s" % (method, path)

    @staticmethod
    def plain_path(path):
        """The path without its version, for rate rules."""
        return re.sub(r"^/api/now/v[12]/", "/api/now/", path)

    @staticmethod
    def is_read(method, path):
        """Reads for the counters: GET, and dry runs (§0.2)."""
        if method in ("GET", "HEAD"):
            return True
        return bool(re.match(
            r"/api/now/(v[12]/)?identifyreconcile/query(Enhanced)?\Z", path))

    async def serve(self, request):
        """The reply of the API that the path names."""
        try:
            return await self._serve(request)
        except ApiError as error:
            return json_reply(error.status, error.envelope(), error.headers)

    async def _serve(self, request):
        if request.path == "/oauth_token.do":
            return self.auth.token(request)
        if request.path == "/oauth_revoke_token.do":
            return self.auth.revoke(request)
        match = API.match(request.path)
        if not match:
            # §2.3; authentication comes first on real instances as well
            self.auth.authenticate(request)
            raise no_resource()
        self.auth.authenticate(request)
        headers, refusal = self.limits.check(
            request, self.plain_path(request.path))
        if refusal is not None:
            return refusal
        try:
            reply = await self._api(request, *match.groups())
        except ApiError as error:
            reply = json_reply(error.status, error.envelope(), error.headers)
        reply.headers.update(headers)
        return reply

    async def _api(self, request, version, api, rest):
        self._check_headers(request)
        parts = rest.split("/") if rest else []
        if api == "table":
            return self.table_api.handle(request, version, parts)
        if api == "stats":
            return self.aggregate.handle(request, parts)
        if api == "identifyreconcile":
            return await self.ire.handle(request, parts)
        if api == "cmdb" and parts[:1] == ["instance"]:
            return self.instance_api.handle(request, parts[1:])
        if api == "cmdb" and parts[:1] == ["meta"]:
            return self.meta.handle(request, parts[1:])
        if api == "import":
            return self.import_set.handle(request, parts)
        # Only the versioned URL of the Batch API is documented (§6)
        if api == "batch" and version == "v1" and not parts:
            return await self.batch.handle(request)
        raise no_resource()

    def _check_headers(self, request):
        """§2.1."""
        accept = request.headers.get("accept", "")
        if not accept:
            if not self.switches["tolerate_missing_accept"]:
                raise ApiError(400, "Missing header",
                               "Accept header is required")
        elif not any(kind in accept for kind in
                     ("application/json", "application/xml", "*/*",
                      "application/*", "text/xml")):
            raise ApiError(406, "Invalid Accept", accept[:200])
        if request.method not in ("POST", "PUT", "PATCH", "DELETE"):
            return
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if not kind:
            if (request.method == "DELETE"
                    and not self.switches["content_type_on_delete"]):
                return
            raise ApiError(400, "Missing header",
                           "Content-Type header is required")
        if kind.lower() not in ("application/json", "application/xml",
                                "text/xml"):
            raise ApiError(415, "Unsupported media type", kind[:200])
        limit = self.switches["max_body"]
        if request.headers.get("content-encoding") == "gzip":
            limit = min(limit, self.switches["max_gzip_body"])
        if len(request.body) > limit:
            raise ApiError(400, "Request body too large",
                           "maximum is %d bytes" % limit)     # §2.11


def _cookie(header, name):
    for pair in header.split(";"):
        key, _, value = pair.strip().partition("=")
        if key == name:
            return value
    return ""
