"""/Service, /ServiceCategory, /ServiceStatus (§3.4)."""
from . import members as m
from .listing import among, same
from .resource import Resource


def _assets(platform, row, ids):
    return row.get("device_id") in ids or bool(ids.intersection(
        platform.service_assets.of("service_id", row["id"])))


class Service(Resource):
    """No inactive flag: hidden with both catalogue flags false (§3.4)."""
    name, rows, members = "Service", "services", m.SERVICE
    scope, area, typeid = "service", "Services", 999
    searched = ("name", "summary")
    joins = {"service_category_name": ("service_category_id",
                                       "ServiceCategory", "name")}
    filters = {"service_category_id": same("service_category_id"),
               "service_category_ids": among("service_category_id"),
               "asset_ids": ("csv", _assets)}

    @property
    def required(self):
        """The least set is unknown (§3.4 [A])."""
        return [n for n in self.switches["halo_service_required"].split(",")
                if n]

    def linked(self, call, row, values, existing):
        super().linked(call, row, values, existing)
        links = self.platform.service_assets
        if "assets" in values:
            if self.switches["halo_service_links"] == "replace":
                links.remove("service_id", row["id"])
            for key in self.platform.known("Asset", values["assets"]):
                links.add("service_id", row["id"], key)
        if "linked_services" in values:
            self.store.put(self.name, dict(
                self.store.get(self.name, row["id"]),
                _linked=self.platform.known("Service",
                                            values["linked_services"])))

    def details(self, shown, row, call):
        if not call or not call.flag("includedetails"):
            return
        assets = self.platform.resources["asset"]
        found = [self.store.get("Asset", k) for k in
                 self.platform.service_assets.of("service_id", row["id"])]
        shown["assets"] = [assets.row(r) for r in found
                           if r is not None and call.caller.sees(assets, r)]
        linked = [self.store.get("Service", k) for k in row.get("_linked", [])]
        shown["linked_services"] = [self.row(r) for r in linked
                                    if r is not None]

    def removed(self, call, row):
        self.platform.service_assets.remove("service_id", row["id"])


class ServiceCategory(Resource):
    name, members = "ServiceCategory", m.SERVICE_CATEGORY
    scope, area, required = "service", "Services", ("name",)


class ServiceStatus(Resource):
    """Outage states; not needed to publish (§3.4)."""
    name, rows, members = "ServiceStatus", "service_status", m.SERVICE_STATUS
    scope, area, can = "service", "Services", ("list", "get")
