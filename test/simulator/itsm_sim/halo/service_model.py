"""What Halo makes by itself in its own service model (§2.9): a catalogue
service behind an asset of a service type, and an instance of a business
application for each environment.  That it happens through the API too is
assumed; the switch halo_service_model turns it off."""


class ServiceModel:
    def __init__(self, platform):
        self.platform = platform
        self.store = platform.store
        self.busy = False

    def created(self, call, asset):
        if self.busy or not self.platform.switches["halo_service_model"]:
            return
        kind = self.store.get("AssetType", asset["assettype_id"])
        self.busy = True
        try:
            if kind.get("is_service"):
                self._service(asset)
            if kind.get("is_businessapp"):
                self._instances(call, asset)
        finally:
            self.busy = False

    def _name(self, asset):
        assets = self.platform.resources["asset"]
        return assets.value(asset, "key_field") \
            or asset.get("inventory_number", "")

    def _service(self, asset):
        row = {"id": self.store.next_id("Service"), "name": self._name(asset),
               "summary": self._name(asset), "device_id": asset["id"],
               "showinusercatalog": False, "showintechcatalog": False}
        self.store.put("Service", row)
        self.platform.service_assets.add("asset_id", asset["id"], row["id"])

    def _instances(self, call, asset):
        kind = self.store.get("AssetType", asset["assettype_id"])
        target = kind.get("primary_instance_type")
        if not target:
            flagged = [k["id"] for k in self.store.rows("AssetType")
                       if k.get("is_businessapp_instance")]
            target = min(flagged, default=None)
        if target is None:
            return
        assets = self.platform.resources["asset"]
        for place in sorted(self.store.rows("Environment"),
                            key=lambda r: r["id"]):
            made = assets.write(call, {
                "assettype_id": target, "site_id": asset["site_id"],
                "_donotvalidate": True,
                "inventory_number": "%s - %s" % (self._name(asset),
                                                 place["name"]),
                "environment": place["id"]})
            self.platform.relations.write(asset["id"], {
                "add_child_assets": [{
                    "id": made["id"], "child_id": made["id"]}]})
