"""Addresses, the order of checks, and what serves each path (§1.1, §5.2).

A path is of the authorisation server or of the resource server; both are
settings, because a tenant on premises has them anywhere.  Nothing in paths is
case sensitive."""
import re
import uuid

from ..wire import html_reply
from . import errors
from .answers import json_value
from .call import Call
from .errors import EMPTY

JSON_KINDS = ("application/json", "application/json-patch+json", "text/json")
INTEGER = re.compile(r"[+-]?\d+\Z")
VERSIONS = {"2025": "2.190.7", "2026": "2.236.133"}
# what an agent's token may not call (§5.2 [L])
FOR_END_USERS = {("GET", "client", "me"), ("POST", "crmnotereply", "")}


class Routes:
    def __init__(self, platform):
        self.platform = platform
        self.switches = platform.switches

    # -- addresses ----------------------------------------------------------

    def _split(self, path):
        """("auth" or "api" or "", what follows)"""
        low = path.lower()
        for kind, name in (("auth", "halo_auth_path"),
                           ("api", "halo_resource_path")):
            base = self.switches[name].rstrip("/").lower()
            if low == base or low.startswith(base + "/"):
                # a doubled slash is part of the path, and leads nowhere
                return kind, path[len(base) + 1:] or "/"
        return "", path

    def serves(self, path):
        return self._split(path)[0] != "" or path.lower().startswith("/halo/")

    def endpoint(self, method, path):
        kind, rest = self._split(path)
        if kind == "auth":
            return "%s /halo/auth/%s" % (
                method, "token" if rest.lower() == "token" else "(other)")
        parts = rest.rstrip("/").split("/") if kind == "api" else []
        first = parts[0].lower() if parts else ""
        resource = self.platform.resources.get(first)
        known = {"authinfo": "authinfo", "instanceinfo": "InstanceInfo",
                 "clientcache": "ClientCache"}
        if resource is None and first not in known:
            return "%s /halo/(other)" % method
        name = resource.name if resource is not None else known[first]
        if len(parts) == 1:
            return "%s /halo/api/%s" % (method, name)
        last = parts[1] if parts[1].lower() in ("me", "nextref", "nexttag") \
            else "{id}"
        return "%s /halo/api/%s/%s" % (method, name, last)

    # -- the order of checks ------------------------------------------------

    def serve(self, request):
        kind, rest = self._split(request.path)
        platform = self.platform
        if kind == "auth":
            if self.switches["halo_rate_token"]:
                refusal = platform.rate.check()
                if refusal is not None:
                    return refusal
            if rest.lower() != "token":
                return html_reply(404, "Not Found")     # §1.3
            return platform.auth.token(request)
        if kind != "api":
            return html_reply(404, "Not Found")
        refusal = platform.rate.check()
        if refusal is not None:
            return refusal
        return self._api(request, rest)

    def _api(self, request, rest):
        parts = rest[:-1].split("/") if rest.endswith("/") \
            else rest.split("/")
        first, second = parts[0].lower(), \
            parts[1].lower() if len(parts) > 1 else ""
        method = request.method
        if first == "authinfo" and len(parts) == 1:
            return self._get_only(method, self._authinfo(request))
        if first == "instanceinfo" and len(parts) == 1:
            if self.switches["halo_build"] < "2026":
                self.platform.auth.caller(request)
            return self._get_only(method, self._instance_info(request))
        resource = self.platform.resources.get(first)
        special = first in ("clientcache", "crmnotereply")
        if len(parts) > 2 or (resource is None and not special):
            raise errors.empty(404)
        caller = self.platform.auth.caller(request)
        if (method, first, second) in FOR_END_USERS:
            raise self.platform.auth.unauthorized()
        if special:
            return self._odd(first, request)
        return self._resource(request, resource, second, parts, caller)

    @staticmethod
    def _get_only(method, value):
        if method != "GET":
            raise errors.empty(405)
        return json_value(200, value)

    def _odd(self, first, request):
        if first == "clientcache" and request.method == "GET":
            # 500 without parameters (§7 [L])
            if request.query.get("iscachebuild", "").lower() != "true":
                raise errors.empty(500)
            return json_value(200, {})
        raise errors.empty(405)

    def _resource(self, request, resource, second, parts, caller):
        method = request.method
        if method not in ("GET", "POST", "DELETE"):
            raise errors.empty(405)         # §0 rule 1
        if method == "POST" and not _is_json(request):
            raise errors.empty(415)
        if len(request.body) > self.switches["halo_max_body"]:
            raise errors.empty(413)         # §2.4 [A]
        # what a write answers does not depend on parameters
        call = Call(self.platform, caller,
                    {} if method == "POST" else request.query, method != "GET")
        off = self.switches["halo_modules_off"].lower().split(",")
        if resource.name.lower() in [o.strip() for o in off]:
            return self._module_off(method, resource, parts)
        if not caller.may(resource, method != "GET"):
            raise errors.empty(403)
        if len(parts) == 1:
            return self._whole(method, resource, call, request)
        return self._part(method, resource, call, second, parts[1])

    def _module_off(self, method, resource, parts):
        """403 or an empty list, not 404 (§8 [A])."""
        if self.switches["halo_module_off_as"] == "403" or method != "GET" \
                or len(parts) > 1:
            raise errors.empty(403)
        if resource.rows is None:
            return json_value(200, [])
        return json_value(200, {"page_no": 1, "page_size": 50, "record_count": 0,
                           "columns_id": 0, "columns": [], resource.rows: []})

    def _whole(self, method, resource, call, request):
        if method == "GET" and "list" in resource.can:
            return json_value(200, resource.list(call))
        if method == "POST" and "post" in resource.can:
            value = self.platform.poster.post(resource, call, request.body)
            return json_value(int(self.switches["halo_post_status"]), value)
        raise errors.empty(405)

    def _part(self, method, resource, call, second, raw):
        if method == "GET" and second == "me":
            if resource.name == "Agent":
                return json_value(200, resource.me(call))
            if resource.name == "Users":
                raise errors.empty(404)     # with an agent's token (§3.5)
        if resource.name == "Asset" and second == "nexttag" \
                and method == "GET":
            return json_value(200, {"inventory_number": resource.next_tag()})
        if resource.name == "SupplierContract" and second == "nextref" \
                and method == "POST":
            return json_value(int(self.switches["halo_post_status"]),
                         resource.next_ref(call))
        if method == "POST":
            raise errors.empty(404)         # no /Asset/Object (§0)
        key = _key(resource, raw)
        if method == "GET" and "get" in resource.can:
            return json_value(200, resource.get(call, key))
        if method == "DELETE" and "delete" in resource.can:
            return self._delete(resource, call, key)
        raise errors.empty(405)

    def _delete(self, resource, call, key):
        shown = resource.full(resource.fetch(call, key), call)
        resource.delete(call, key)
        call.flush()
        if self.switches["halo_delete_body"] == "object":
            return json_value(200, shown)
        return json_value(200, EMPTY)

    # -- what needs no resource ---------------------------------------------

    def _tenant_member(self):
        tenant = self.switches["halo_tenant"]
        if tenant or self.switches["halo_onprem_tenant_id"] == "empty":
            return {"tenant_id": tenant}
        return {}

    def _auth_url(self, request):
        return "%s://%s%s" % (request.scheme, request.host,
                              self.switches["halo_auth_path"].rstrip("/"))

    def _authinfo(self, request):
        """Where the authorisation server is; no token needed (§1.2)."""
        return dict({"auth_url": self._auth_url(request)},
                    **self._tenant_member())

    def _instance_info(self, request):
        """§7."""
        base = "%s://%s" % (request.scheme, request.host)
        return dict({
            "app_version": VERSIONS[self.switches["halo_build"]],
            "database_version": VERSIONS[self.switches["halo_build"]],
            "app_name": "HaloITSM", "agent_url": base + "/",
            "portal_url": base + "/portal",
            "auth_url": self._auth_url(request)}, **self._tenant_member())


def _key(resource, raw):
    """The id of a path; what is none is a 400 (§2.3 [L])."""
    if resource.uuid:
        try:
            return str(uuid.UUID(raw))
        except ValueError:
            raise errors.bad_value("id", raw)
    if not INTEGER.match(raw) or not -(1 << 31) <= int(raw) < 1 << 31:
        raise errors.bad_value("id", raw)
    return int(raw)


def _is_json(request):
    """§1.5; anything else is a 415."""
    kind = request.headers.get("content-type", "").partition(";")[0] \
        .strip().lower()
    return kind in JSON_KINDS or (kind.startswith("application/")
                                  and kind.endswith("+json"))
