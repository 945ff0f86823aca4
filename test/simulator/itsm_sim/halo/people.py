"""/Client, /Site, /Users, /Agent (§3.5, §3.6)."""
from . import errors
from . import members as m
from .listing import same
from .resource import Resource


class Client(Resource):
    name, rows, members = "Client", "clients", m.CLIENT
    scope, area, typeid = "customers", "Customers", 2
    required, defaults = ("name",), {"inactive": False}
    inactive_pair, active_member = True, "inactive"
    has_change_window = True
    filters = {"toplevel_id": same("toplevel_id")}

    def check(self, call, row, values, existing):
        super().check(call, row, values, existing)
        # [A], in the words that webhooks have for it (§3.6)
        if self.switches["halo_unique_client_name"]:
            unique_name(self, row)

    def after(self, call, row, existing):
        """A new client gets a first site of its own (§3.6 [A])."""
        if existing is None and self.switches["halo_client_first_site"]:
            self.store.put("Site", {
                "id": self.store.next_id("Site"), "name": "Main",
                "client_id": float(row["id"]), "inactive": False,
                "last_modified": row["last_modified"]})

    def in_use(self, key):
        return super().in_use(key) or any(
            self.platform.resources["site"].in_use(s["id"])
            for s in self.store.find("Site", "client_id", float(key)))

    def removed(self, call, row):
        for site in self.store.find("Site", "client_id", float(row["id"])):
            self.store.remove("Site", site["id"])


def unique_name(resource, row):
    for other in resource.store.rows(resource.name):
        if other["id"] != row["id"] and other.get("name", "").casefold() \
                == row.get("name", "").casefold():
            raise errors.exception_400("Name must be unique")


class Site(Resource):
    """client_id is a float here (§3.6)."""
    name, rows, members = "Site", "sites", m.SITE
    scope, area, typeid = "customers", "Customers", 3
    required, defaults = ("name", "client_id"), {"inactive": False}
    inactive_pair, active_member = True, "inactive"
    has_change_window = True
    filters = {"client_id": same("client_id")}
    joins = {"client_name": ("client_id", "Client", "name")}

    def check(self, call, row, values, existing):
        super().check(call, row, values, existing)
        if self.store.get("Client", int(row["client_id"])) is None:
            raise errors.foreign_key_400(self.platform.database(), "site",
                                         "sarea")

    def in_use(self, key):
        return super().in_use(key) or bool(
            self.store.find("Users", "site_id", float(key)))


class Users(Resource):
    """Contacts.  Reading them needs no scope (§1.4); site_id is a float and
    site_id_int the integer (§3.5)."""
    name, rows, members = "Users", "users", m.USERS
    write_scope, area, typeid = "customers", "Users", 4
    required, defaults = ("name", "site_id"), {"inactive": False}
    searched = ("name", "emailaddress", "firstname", "surname")
    inactive_pair, active_member = True, "inactive"
    has_change_window = True
    joins = {"client_name": ("client_id", "Client", "name"),
             "site_name": ("site_id", "Site", "name")}
    filters = {
        "client_id": same("client_id"), "site_id": same("site_id"),
        "supplier_id": same("supplier_id"),
        "department_id": same("department_id"),
        "exclude_agents": ("bool", lambda p, row, value: not (
            value and row.get("linked_agent_id"))),
        "asset_id": ("int", lambda p, row, value: value in
                     p.asset_users.of("user_id", row["id"]))}

    def value(self, row, name):
        if name == "site_id_int":
            return int(row.get("site_id", 0)) or None
        return super().value(row, name)

    def prepare(self, call, row, values, existing):
        if values.get("site_id", 1) <= 0:
            del values["site_id"]
        client = values.pop("client_id", 0)
        if client > 0 and "site_id" not in values \
                and client != row.get("client_id"):
            if self.store.get("Client", client) is None:
                raise errors.foreign_key_400(self.platform.database(),
                                             "users", "client_id")
            sites = self.store.find("Site", "client_id", float(client))
            if sites and existing is not None:
                values["site_id"] = min(s["id"] for s in sites) * 1.0

    def check(self, call, row, values, existing):
        super().check(call, row, values, existing)
        site = self.store.get("Site", int(row["site_id"]))
        if site is None:
            raise errors.foreign_key_400(self.platform.database(), "users",
                                         "usite")
        row["client_id"] = int(site["client_id"])


class Agent(Resource):
    """Reading needs no scope (§1.4).  An envelope, or on older builds a bare
    array (§3.1)."""
    name, members, can = "Agent", m.AGENT, ("list", "get")
    searched = ("name", "email")
    active_member = "inactive"

    @property
    def rows(self):
        return "results" if self.switches["halo_build"] >= "2026" else None

    def me(self, call):
        """Who the token is, with claims (§7)."""
        agent = self.store.get("Agent", call.caller.agent_id)
        return dict(self.full(agent), claims=[
            {"type": "scope", "value": s} for s in sorted(call.caller.scopes)])
