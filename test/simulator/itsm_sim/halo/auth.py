"""The authorisation server (§1.3).  It is OpenIddict, so errors follow
RFC 6749; a wrong address or tenant is an HTML page."""
import random
import string
import urllib.parse

from ..wire import html_reply, json_reply
from .access import SCOPES, Caller
from .errors import empty

LETTERS = string.ascii_letters + string.digits + "-_"
MAX_TOKENS = 20000
FORM = "application/x-www-form-urlencoded"
DOCS = "https://documentation.openiddict.com/errors/"


class Refused(Exception):
    def __init__(self, error, text, number, status=400):
        super().__init__(error)
        self.error, self.text = error, text
        self.number, self.status = number, status


class Auth:
    def __init__(self, platform):
        self.platform = platform
        self.store = platform.store
        self.switches = platform.switches
        self.random = random.SystemRandom() if platform.seed is None \
            else random.Random(platform.seed)
        self.access = {}            # token -> grant
        self.refresh = {}
        self.issued = 0

    def expire_all(self):
        self.access.clear()

    def secrets(self):
        found = set(self.access) | set(self.refresh)
        for app in self.store.rows("Application"):
            found.add(app.get("client_secret", ""))
        for agent in self.store.rows("Agent"):
            found.add(agent.get("password", ""))
        for hook in self.store.rows("Webhook"):
            found.add(hook.get("basic_password", ""))
        return {s for s in found if len(s) >= 4}

    # -- every call ---------------------------------------------------------

    def caller(self, request):
        """The agent behind the token, or the 401 with an empty body."""
        scheme, _, token = request.headers.get(
            "authorization", "").partition(" ")
        grant = self.access.get(token.strip())
        if scheme.lower() != "bearer" or grant is None \
                or grant["expires"] <= self.platform.now():
            raise self.unauthorized()
        agent = self.store.get("Agent", grant["agent_id"])
        if agent is None or agent.get("inactive"):
            raise self.unauthorized()
        return Caller(agent, grant["scopes"], self.switches)

    def unauthorized(self):
        headers = {"WWW-Authenticate": "Bearer"} \
            if self.switches["halo_401_header"] else {}
        return empty(401, headers)

    # -- the token endpoint -------------------------------------------------

    def token(self, request):
        form = {}
        if request.headers.get("content-type", "").partition(";")[0] \
                .strip().lower() == FORM:
            for name, value in urllib.parse.parse_qsl(
                    request.body.decode("utf-8", "replace"),
                    keep_blank_values=True):
                form.setdefault(name, value)
        if not self._tenant(request, form):
            return html_reply(self.switches["halo_wrong_tenant_status"],
                              "Tenant not found")
        try:
            return self._grant(request, form)
        except Refused as refused:
            return json_reply(refused.status, {
                "error": refused.error, "error_description": refused.text,
                "error_uri": DOCS + "ID%d" % refused.number})

    def _tenant(self, request, form):
        """As a parameter of the query or a field of the form (§1.3)."""
        own = self.switches["halo_tenant"]
        if not own:
            return True             # on premises nobody asks
        said = request.query.get("tenant") or form.get("tenant", "")
        if not said:
            return not self.switches["halo_tenant_required"]
        return said.lower() == own.lower()

    def _grant(self, request, form):
        if request.method != "POST" or not form:
            raise Refused("invalid_request",
                          "The mandatory 'grant_type' parameter is missing.",
                          2081 if request.method == "POST" else 2084)
        kind = form.get("grant_type", "")
        grants = {"client_credentials": self._client_credentials,
                  "password": self._password,
                  "refresh_token": self._refresh}
        if not kind:
            raise Refused("invalid_request", "The mandatory 'grant_type' "
                          "parameter is missing.", 2081)
        if kind not in grants:
            raise Refused("unsupported_grant_type", "The specified "
                          "'grant_type' is not supported.", 2032)
        return grants[kind](form)

    def _invalid_client(self):
        return Refused("invalid_client",
                       "The specified client credentials are invalid.", 2055,
                       int(self.switches["halo_invalid_client_status"]))

    def _application(self, form, kinds):
        """The application, with its secret and of the right kind; only
        'Client ID and Secret (Services)' signs in by itself (§1.3)."""
        for app in self.store.find("Application", "client_id",
                                   form.get("client_id", "")):
            secret = app.get("client_secret", "")
            if app.get("kind", "services") not in kinds \
                    or secret and secret != form.get("client_secret", ""):
                continue
            return app
        raise self._invalid_client()

    def _scopes(self, app, form):
        permitted = set(app.get("scopes", ["all"]))
        asked = set(form.get("scope", "").split())
        if not asked <= SCOPES or not (
                "all" in permitted or asked - {"offline_access"} <= permitted):
            raise Refused("invalid_scope",
                          "The specified 'scope' is invalid.", 2052)
        return asked

    def _client_credentials(self, form):
        app = self._application(form, ("services",))
        scopes = self._scopes(app, form)
        agent = self.store.get("Agent", app.get("agent_id"))
        if agent is None or agent.get("inactive"):
            raise self._invalid_client()
        return self._issue(app, agent, scopes, False)

    def _password(self, form):
        app = self._application(form, ("password", "interactive"))
        scopes = self._scopes(app, form)
        for agent in self.store.find("Agent", "username",
                                     form.get("username", "")):
            if agent.get("username") and agent.get("password") \
                    and agent["password"] == form.get("password") \
                    and not agent.get("inactive"):
                return self._issue(app, agent, scopes,
                                   "offline_access" in scopes)
        raise Refused("invalid_grant", "The username/password couple is "
                      "invalid.", 2057)

    def _refresh(self, form):
        app = self._application(form, ("services", "password", "interactive"))
        grant = self.refresh.get(form.get("refresh_token", ""))
        if grant is None or grant["client_id"] != app["client_id"]:
            raise Refused("invalid_grant",
                          "The specified refresh token is invalid.", 2003)
        agent = self.store.get("Agent", grant["agent_id"])
        if agent is None or agent.get("inactive"):
            raise Refused("invalid_grant",
                          "The specified refresh token is invalid.", 2003)
        return self._issue(app, agent, grant["scopes"], True)

    def _issue(self, app, agent, scopes, with_refresh):
        for table in (self.access, self.refresh):
            if len(table) > MAX_TOKENS:
                for token in list(table)[:MAX_TOKENS // 2]:
                    del table[token]
        life = float(self.switches["halo_token_seconds"])
        grant = {"client_id": app["client_id"], "agent_id": agent["id"],
                 "scopes": scopes, "expires": self.platform.now() + life}
        token = self._random(180)
        self.access[token] = grant
        self.issued += 1
        body = {"access_token": token, "token_type": "Bearer"}
        if self.switches["halo_expires_in"]:
            body["expires_in"] = int(life)
        if with_refresh:
            body["refresh_token"] = self._random(90)
            self.refresh[body["refresh_token"]] = grant
        body["scope"] = " ".join(sorted(scopes))
        return json_reply(200, body, {"Cache-Control": "no-store"})

    def _random(self, length):
        return "".join(self.random.choice(LETTERS) for _ in range(length))
