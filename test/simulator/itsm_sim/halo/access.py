"""The two gates of §1.4: the scopes of the token, and the access levels of
the agent behind it (§7).  Scopes can only narrow."""

NAMES = ("tickets calendar customers crm timesheets contracts suppliers items "
         "projects sales quotes sos pos invoices reporting software "
         "softwarelicensing kb assets").split()
SCOPES = frozenset(
    ["all", "all:standard", "admin", "editMine:timesheets", "access:chat",
     "access:adpasswordreset", "offline_access"]
    + ["%s:%s" % (verb, name) for verb in ("read", "edit") for name in NAMES])
LEVELS = {"none": 0, "read": 1, "modify": 2}


class Caller:
    """An agent with the scopes of its token."""

    def __init__(self, agent, scopes, switches):
        self.agent = agent
        self.scopes = scopes
        self.switches = switches

    @property
    def name(self):
        return self.agent.get("name", "")

    @property
    def agent_id(self):
        return self.agent["id"]

    def may(self, resource, write):
        return self._scoped(resource, write) and self._level(
            resource.area) >= (2 if write else 1)

    def _level(self, area):
        if area is None:
            return 2
        return LEVELS[self.agent.get("access", {}).get(area, "modify")]

    def _scoped(self, resource, write):
        if "all" in self.scopes:
            return True
        return all(self._has(scope, write)
                   for scope in self._needed(resource, write))

    def _needed(self, resource, write):
        scope = resource.write_scope if write and resource.write_scope \
            else resource.scope
        if scope == "supplier_contract":        # §10 gap 8
            way = self.switches["halo_supplier_contract_scope"]
            return ["suppliers", "contracts"] if way == "both" else [way]
        if scope == "service":                  # §10 gap 8
            way = self.switches["halo_service_scope"]
            return {"none": [], "assets": ["assets"],
                    "all": ["(all)"]}[way]
        if scope == "config":
            way = self.switches["halo_config_scope"]
            return [way]
        return [] if scope is None else [scope]

    def _has(self, scope, write):
        if scope == "admin":
            return "admin" in self.scopes
        if scope == "(all)":
            return bool(self.scopes & {"all:standard", "admin"})
        if "all:standard" in self.scopes:
            return True
        if write:
            return "edit:" + scope in self.scopes
        return ("read:" + scope in self.scopes
                or (self.switches["halo_edit_implies_read"]
                    and "edit:" + scope in self.scopes))

    def sees(self, resource, row):
        """An agent may be restricted to clients or asset groups (§7 [A])."""
        clients = self.agent.get("clients")
        if clients:
            key = row["id"] if resource.name == "Client" \
                else row.get("client_id")
            if key is not None and key not in clients:
                return False
        groups = self.agent.get("asset_groups")
        if groups and resource.name == "Asset":
            kind = resource.store.get("AssetType", row.get("assettype_id"))
            return kind is not None and kind.get("assetgroup_id") in groups
        return True


class Anyone(Caller):
    """Somebody who works on the screen, for the control endpoints."""

    def __init__(self, agent, switches, name=None):
        super().__init__(dict(agent, name=name or agent.get("name", "")),
                         {"all"}, switches)

    def sees(self, resource, row):
        return True
