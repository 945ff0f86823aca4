"""Sign-in: OAuth tokens, Basic, API key, client certificate (§1)."""
import base64
import binascii
import json
import urllib.parse

from ..wire import Reply, json_reply
from .errors import ApiError

MAX_TOKENS = 10000


class User:
    __slots__ = ("sys_id", "user_name", "roles", "time_zone")

    def __init__(self, row, roles):
        self.sys_id = row["sys_id"]
        self.user_name = row.get("user_name", "")
        self.roles = roles
        self.time_zone = row.get("time_zone", "")


def not_authenticated(headers=None):
    return ApiError(401, "User Not Authenticated",
                    "Required to provide Auth information",
                    headers or {"WWW-Authenticate": 'BASIC realm="Service-now"'})


class Auth:
    def __init__(self, platform):
        self.platform = platform
        self.passwords = {}         # user_name -> password
        self.api_keys = {}          # key -> (user_name, apis or None)
        self.access = {}            # token -> grant dict
        self.refresh = {}
        self.current = {}           # (client, user) -> access token
        self.issued = 0

    def reset_tokens(self):
        self.access.clear()
        self.refresh.clear()
        self.current.clear()

    def expire_all(self):
        """Access tokens only: what a test of token expiry wants."""
        self.access.clear()
        self.current.clear()

    # -- users --------------------------------------------------------------

    def user_row(self, user_name):
        hits = self.platform.store.find("sys_user", "user_name", user_name)
        return hits[0] if hits else None

    def user(self, user_name):
        """The active user with that name, or None."""
        row = self.user_row(user_name)
        if (row is None or row.get("active") == "false"
                or row.get("locked_out") == "true"):
            return None
        return User(row, self._roles(row))

    def _roles(self, row):
        roles = set()
        for grant in self.platform.store.find("sys_user_has_role", "user",
                                              row["sys_id"]):
            role = self.platform.store.get("sys_user_role",
                                           grant.get("role", ""))
            if role is not None:
                roles.add(role.get("name", ""))
        return roles

    def check_password(self, user_name, password):
        row = self.user_row(user_name)
        if row is None or not password:
            return False
        return self.passwords.get(row.get("user_name", "")) == password

    # -- every call ---------------------------------------------------------

    def authenticate(self, request):
        """Sets request.user or raises the 401 envelope."""
        header = request.headers.get("authorization", "")
        scheme, _, credential = header.partition(" ")
        credential = credential.strip()
        key = (request.headers.get("x-sn-apikey")
               or request.query.get("x-sn-apikey"))
        if scheme.lower() == "bearer":
            user = self._bearer(credential)
            request.auth_kind = "bearer"
        elif scheme.lower() == "basic":
            user = self._basic(credential)
            request.auth_kind = "basic"
        elif key:
            user = self._api_key(key, request)
            request.auth_kind = "api_key"
        elif request.peer_cert and not header:
            user = self._certificate(request.peer_cert)
            request.auth_kind = "certificate"
        else:
            user = None
        if user is None:
            raise not_authenticated()
        request.user = user
        switches = self.platform.switches
        if request.auth_kind == "bearer" and switches["oauth_unscoped_denied"]:
            raise ApiError(403, "User Not Authorized",
                           "Access to unscoped api is not allowed")   # §1.5
        if (switches["rest_role_required"]
                and not user.roles & {"admin", "snc_platform_rest_api_access"}):
            raise ApiError(403, "User Not Authorized",
                           "Failed API level ACL Validation")

    def _bearer(self, token):
        grant = self.access.get(token)
        if grant is None or grant["expires"] <= self.platform.clock.now():
            self.access.pop(token, None)
            return None
        return self.user(grant["user"])

    def _basic(self, credential):
        if self.platform.switches["basic_auth_restricted"]:
            return None
        try:
            text = base64.b64decode(credential, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            return None
        name, colon, password = text.partition(":")
        if not colon or not self.check_password(name, password):
            return None
        if self.platform.switches["mfa"]:
            raise not_authenticated({"X-MFA_TOKEN": "invalid"})
        return self.user(name)

    def _api_key(self, key, request):
        entry = self.api_keys.get(key)
        if entry is None:
            return None
        user_name, apis = entry
        allowed = apis if apis is not None else \
            self.platform.switches["api_key_policies"].split(",")
        api = request.path.replace("/v1/", "/").replace("/v2/", "/").split("/")
        # §1.3: a REST API access policy for each API
        if "*" not in allowed and (len(api) < 4 or api[3] not in allowed):
            return None
        return self.user(user_name)

    def _certificate(self, cert):
        """§1.4: the certificate is mapped to a user, here by common name or
        e-mail."""
        for group in cert.get("subject", ()):
            for name, value in group:
                if name == "commonName" and self.user_row(value) is not None:
                    return self.user(value)
                if name in ("commonName", "emailAddress"):
                    hits = self.platform.store.find("sys_user", "email", value)
                    if hits:
                        return self.user(hits[0].get("user_name", ""))
        return None

    # -- token endpoint -----------------------------------------------------

    def token(self, request):
        """POST /oauth_token.do (§1.1)."""
        if request.method != "POST":
            raise ApiError(405, "Method not supported",
                           request.method + " method not supported for API")
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind.lower() != "application/x-www-form-urlencoded":
            return self._refuse()       # JSON "gives an unspecified error"
        form = dict(urllib.parse.parse_qsl(
            request.body.decode("utf-8", "replace"), keep_blank_values=True))
        client = self._client(form, request)
        grant = form.get("grant_type", "")
        if client is None:
            return self._refuse()
        if grant == "password":
            return self._password_grant(client, form)
        if grant == "refresh_token":
            return self._refresh_grant(client, form)
        if grant == "client_credentials":
            return self._client_grant(client, form)
        return self._refuse()

    @staticmethod
    def _refuse():
        # One body for every reason: it cannot be told apart (§1.1 [L])
        return json_reply(401, {"error_description": "access_denied",
                                "error": "server_error"})

    def _client(self, form, request):
        client_id = form.get("client_id")
        secret = form.get("client_secret")
        header = request.headers.get("authorization", "")
        if client_id is None and header.lower().startswith("basic "):
            try:
                text = base64.b64decode(header[6:].strip()).decode("utf-8")
            except (binascii.Error, UnicodeDecodeError):
                return None
            client_id, _, secret = text.partition(":")
        for row in self.platform.store.find("oauth_entity", "client_id",
                                            client_id or ""):
            if (client_id and row.get("client_id") == client_id
                    and secret and row.get("client_secret") == secret
                    and row.get("active") != "false"):
                return row
        return None

    def _password_grant(self, client, form):
        name = form.get("username", "")
        if not self.check_password(name, form.get("password", "")):
            return self._refuse()
        user = self.user(name)
        row = self.user_row(name)
        # needs an interactive session: active, not locked out, not
        # restricted to web services (§1.1)
        if user is None or row.get("web_service_access_only") == "true":
            return self._refuse()
        return self._issue(client, row.get("user_name", ""), True)

    def _client_grant(self, client, form):
        on = (self.platform.switches["client_credentials"]
              or self.platform.truth(
                  "glide.oauth.inbound.client.credential.grant_type.enabled"))
        row = self.platform.store.get("sys_user", client.get("user", ""))
        if not on or row is None or self.user(row.get("user_name", "")) is None:
            return self._refuse()
        scope = form.get("scope", "useraccount")
        if scope not in ("", "useraccount"):
            return self._refuse()
        return self._issue(
            client, row["user_name"],
            self.platform.switches["client_credentials_refresh_token"])

    def _refresh_grant(self, client, form):
        grant = self.refresh.get(form.get("refresh_token", ""))
        now = self.platform.clock.now()
        if (grant is None or grant["expires"] <= now
                or grant["client"] != client["client_id"]
                or self.user(grant["user"]) is None):
            return self._refuse()
        rotate = self.platform.switches["refresh_rotates"]
        if rotate:
            del self.refresh[form["refresh_token"]]
        return self._issue(client, grant["user"], rotate)

    def _issue(self, client, user_name, with_refresh):
        """While an access token lives, the same one is returned (§1.1)."""
        now = self.platform.clock.now()
        key = (client["client_id"], user_name)
        token = self.current.get(key)
        grant = self.access.get(token)
        if grant is None or grant["expires"] <= now:
            self._prune(now)
            token = self.platform.random_text(86)
            life = (client.get("access_token_lifespan")
                    or self.platform.switches["access_token_seconds"])
            grant = {"client": key[0], "user": user_name,
                     "expires": now + float(life), "refresh": None}
            self.access[token] = grant
            self.current[key] = token
            self.issued += 1
        body = {"access_token": token}
        if with_refresh:
            if grant["refresh"] not in self.refresh:
                grant["refresh"] = self.platform.random_text(86)
                life = (client.get("refresh_token_lifespan")
                        or self.platform.switches["refresh_token_seconds"])
                self.refresh[grant["refresh"]] = {
                    "client": key[0], "user": user_name,
                    "expires": now + float(life)}
            body["refresh_token"] = grant["refresh"]
        body.update(scope="useraccount", token_type="Bearer",
                    expires_in=max(0, int(grant["expires"] - now - 0.001)))
        reply = Reply(200, json.dumps(body).encode(),
                      {"Content-Type": "application/json;charset=utf-8"})
        return reply

    def _prune(self, now):
        for table in (self.access, self.refresh):
            if len(table) > MAX_TOKENS:
                for token in [t for t, g in table.items()
                              if g["expires"] <= now] or list(table)[:100]:
                    del table[token]

    def revoke(self, request):
        """/oauth_revoke_token.do?token=…, no authentication asked (§1.1)."""
        form = dict(urllib.parse.parse_qsl(
            request.body.decode("utf-8", "replace")))
        token = request.query.get("token") or form.get("token", "")
        self.access.pop(token, None)
        self.refresh.pop(token, None)
        return Reply(200)

    def secrets(self):
        """What the request log must not show."""
        found = set(self.passwords.values()) | set(self.api_keys)
        for row in self.platform.store.of("oauth_entity"):
            found.add(row.get("client_secret", ""))
        found |= set(self.access) | set(self.refresh)
        return {s for s in found if len(s) >= 4}
