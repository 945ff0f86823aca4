"""/Asset (§2): the CIs, their own fields, place, links and history."""
import uuid

from . import errors
from . import members as m
from .asset_fields import AssetFields
from .history import History
from .listing import among, boolean, integer, same
from .placing import Placing
from .resource import Resource

def _tag(platform, row, value):
    """§10 gap 7: how exact the filter is."""
    own, value = row.get("inventory_number", "").casefold(), value.casefold()
    way = platform.switches["halo_tag_filter"]
    if way == "exact":
        return own == value
    return own.startswith(value) if way == "prefix" else value in own


def _group(platform, row, groups):
    kind = platform.store.get("AssetType", row.get("assettype_id")) or {}
    return kind.get("assetgroup_id") in groups


def _contract(platform, row, contracts):
    return row.get("supplier_contract_id") in contracts or bool(
        contracts.intersection(
            platform.contract_items.of("asset_id", row["id"])))


def _links(name, side="asset_id"):
    """A filter by ids at the other side of a table of links."""
    return lambda p, row, ids: bool(
        ids.intersection(getattr(p, name).of(side, row["id"])))


def _username(platform, row, name):
    for key in platform.asset_users.of("asset_id", row["id"]):
        user = platform.store.get("Users", key) or {}
        if user.get("name", "").casefold() == name.casefold():
            return True
    return False


def _nothing(platform, row, value):
    """No tickets and articles here, so none of them has an asset."""
    return False


def _single(test):
    return lambda p, row, value: test(p, row, {value})


class Asset(Resource):
    name, rows = "Asset", "assets"
    members, row_members, always = m.ASSET, m.ASSET_ROW, m.ASSET_ALWAYS
    scope, area, typeid = "assets", "Assets", 5
    searched = ("inventory_number", "key_field", "key_field2", "key_field3")
    inactive_pair, active_member = True, "inactive"
    has_change_window = True
    defaults = {"inactive": False}
    joins = {
        "assettype_name": ("assettype_id", "AssetType", "name"),
        "client_name": ("client_id", "Client", "name"),
        "site_name": ("site_id", "Site", "name"),
        "status_name": ("status_id", "Status", "name"),
        "business_owner_name": ("business_owner_id", "Users", "name"),
        "technical_owner_name": ("technical_owner_id", "Agent", "name"),
        "supplier_name": ("supplier_id", "Supplier", "name"),
        "supplier_contract_ref": ("supplier_contract_id",
                                  "SupplierContract", "ref"),
        "contract_ref": ("contract_id", "ClientContract", "ref"),
        "related_service_name": ("service_id", "Service", "name")}
    # §2.1; every other parameter is ignored in silence
    filters = {
        "inventory_number": ("text", _tag),
        "assettype_id": same("assettype_id"),
        "assettypes": among("assettype_id"),
        "assetgroup_id": ("int", _single(_group)),
        "assetgroups": ("csv", _group),
        "client_id": same("client_id"), "client_ids": among("client_id"),
        "site_id": same("site_id"), "assetstatuses": among("status_id"),
        "supplier_id": same("supplier_id"),
        "contract_id": same("contract_id"), "item_id": same("item_id"),
        "supplier_contract_id": ("int", _single(_contract)),
        "suppliercontracts": ("csv", _contract),
        "user_id": ("int", _single(_links("asset_users"))),
        "username": ("text", _username),
        "ticket_id": ("int", _nothing), "kb_id": ("int", _nothing),
        "service_id": ("int", _single(_links("service_assets"))),
        "service_ids": ("csv", _links("service_assets")),
        "licence_id": ("int", _single(_links("licence_assets"))),
        "assets": among("id"),
        "excludethese": ("csv", lambda p, row, ids: row["id"] not in ids),
        "linkedto_id": ("int", lambda p, row, other: row["id"]
                        in p.relations.neighbours(other))}

    def __init__(self, platform):
        super().__init__(platform)
        self.fields = AssetFields(platform)
        self.placing = Placing(platform)
        self.history = History(platform)

    # -- reading ------------------------------------------------------------

    def value(self, row, name):
        if name in ("key_field", "key_field2", "key_field3"):
            return self.fields.key_field(row, name)
        if name in ("assetgroup_name", "is_portfolio",
                    "is_businessapp_instance"):
            kind = self.store.get("AssetType", row.get("assettype_id")) or {}
            if name != "assetgroup_name":
                return kind.get(name)
            group = self.store.get("AssetGroup", kind.get("assetgroup_id"))
            return (group or {}).get("name")
        return super().value(row, name)

    def row(self, row, call=None):
        shown = super().row(row, call)
        params = call.params if call else {}
        # only together with assettype_id (§2.1)
        if boolean(params, "includeassetfields") \
                and integer(params, "assettype_id"):
            shown["fields"] = self.fields.shown(row)
        wanted = params.get("include_custom_fields", "")
        if wanted and self.switches["halo_build"] >= "2026":
            ids = {int(i) for i in wanted.split(",") if i.strip().isdigit()}
            shown["customfields"] = [
                f for f in self.platform.custom_fields(self, row)
                if f["id"] in ids]
        return shown

    def details(self, shown, row, call):
        shown["fields"] = self.fields.shown(row)
        params = call.params if call else {}
        if boolean(params, "includedetails"):
            self._linked_details(shown, row, call)
        if boolean(params, "includehierarchy") \
                or boolean(params, "includediagramdetails"):
            for end, name in (("parent", "ascendant"), ("child", "descendant")):
                reached = [self.store.get("Asset", k) for k in
                           self.platform.relations.reach(row["id"], end)]
                seen = [r for r in reached if call.caller.sees(self, r)]
                shown[name + "_assets"] = [self.row(r) for r in seen]
                shown[name + "_count"] = len(seen)

    def _linked_details(self, shown, row, call):
        platform = self.platform
        for end in ("parent", "child", "sibling"):
            shown[end + "_assets"] = platform.relations.rows(
                row["id"], end, self, call)
        for name, table, links, other in (
                ("services", "Service", platform.service_assets, "service_id"),
                ("users", "Users", platform.asset_users, "user_id"),
                ("licences", "SoftwareLicence", platform.licence_assets,
                 "licence_id")):
            resource = platform.resources[table.lower()]
            found = [self.store.get(table, key)
                     for key in links.of("asset_id", row["id"])]
            shown[name] = [resource.row(r) for r in found if r is not None]
        shown["software"] = row.get("_software", [])

    # -- writing ------------------------------------------------------------

    def prepare(self, call, row, values, existing):
        self._type(row, values, existing)
        self.placing.write(row, values, existing)
        if existing is None:
            if not values.get("inventory_number") \
                    and self.switches["halo_auto_tag"]:
                values["inventory_number"] = self.next_tag()
            status = int(self.switches["halo_new_asset_status"])
            if status and not values.get("status_id"):
                row["status_id"] = status

    def _type(self, row, values, existing):
        """By id, or by a name that exists, in any case (§2.4)."""
        name = values.pop("assettype_name", None)
        if "assettype_id" not in values and name:
            for kind in self.store.rows("AssetType"):
                if kind.get("name", "").casefold() == name.strip().casefold():
                    values["assettype_id"] = kind["id"]
                    break
            else:
                raise errors.exception_400("Asset type %s does not exist"
                                           % name)
        if values.get("assettype_id", 1) <= 0:
            del values["assettype_id"]          # -1 and 0: not chosen
        if existing is None and "assettype_id" not in values:
            raise errors.not_null_400(self.platform.database(), "device",
                                      "dtype")
        if self.store.get("AssetType", values.get(
                "assettype_id", row.get("assettype_id"))) is None:
            raise errors.foreign_key_400(self.platform.database(), "device",
                                         "dtype")

    def next_tag(self):
        numbers = [int(r["inventory_number"])
                   for r in self.store.rows("Asset")
                   if r.get("inventory_number", "").isdigit()]
        return "%06d" % (max(numbers, default=0) + 1)

    def check(self, call, row, values, existing):
        super().check(call, row, values, existing)
        if not call.caller.sees(self, row):
            raise errors.empty(403)         # an agent of other clients
        tag = row.get("inventory_number")
        if tag and self.switches["halo_unique_asset_tag"] and any(
                r["id"] != row["id"] for r in
                self.store.find("Asset", "inventory_number", tag)):
            raise errors.string_400("Asset tag must be unique")
        self._check_status(row, values)
        if "fields" in values:
            self.fields.write(row, values)
        if not values.get("_donotvalidate"):
            self.fields.check_mandatory(row)

    def _check_status(self, row, values):
        """A type may allow some statuses only (§2.8)."""
        kind = self.store.get("AssetType", row["assettype_id"])
        allowed = kind.get("allowed_status") or []
        if (not self.switches["halo_status_checked"] or not row.get("status_id")
                or kind.get("allowall_status") or not allowed
                or "status_id" not in values):
            return
        if row["status_id"] not in allowed:
            raise errors.exception_400(
                "This status is not allowed for assets of this type")

    def stamp(self, row, existing, now):
        row["last_modified"] = row["dlastupdate"] = now
        row["changeguid"] = str(uuid.uuid4())
        row.setdefault("guid", str(uuid.uuid4()))

    def linked(self, call, row, values, existing):
        super().linked(call, row, values, existing)
        self._services(row, values)
        if "users" in values:
            self.platform.asset_users.replace(
                "asset_id", row["id"],
                self.platform.known("Users", values["users"]))
        for key in self.platform.known("SoftwareLicence",
                                       values.get("add_licences", [])):
            self.platform.licence_assets.add("asset_id", row["id"], key)
        if "software" in values:
            self.store.put("Asset", dict(self.store.get("Asset", row["id"]),
                                         _software=values["software"]))
        self.platform.relations.write(row["id"], values)

    def _services(self, row, values):
        """services and service_ids are the same set, service_id its main
        one (§2.6; item shape [A])."""
        wanted = None
        if "services" in values:
            wanted = [{"id": i.get("id", 0)} for i in values["services"]]
        elif "service_ids" in values:
            wanted = [{"id": int(p)} for p in values["service_ids"].split(",")
                      if p.strip().isdigit()]
        links = self.platform.service_assets
        if row.get("service_id") and "service_id" in values:
            links.add("asset_id", row["id"], row["service_id"])
        if wanted is None:
            return
        if self.switches["halo_service_links"] == "replace":
            links.remove("asset_id", row["id"])
        for key in self.platform.known("Service", wanted):
            links.add("asset_id", row["id"], key)
        if row.get("service_id") not in links.of("asset_id", row["id"]):
            self.store.put("Asset", {
                n: v for n, v in self.store.get("Asset", row["id"]).items()
                if n != "service_id"})

    def after(self, call, row, existing):
        if existing is None:
            self.platform.service_model.created(call, row)
        self.history.write(call, row, existing)
        call.event("asset", 0 if existing is None else 1, row["id"])

    # -- deleting -----------------------------------------------------------

    def removed(self, call, row):
        self.platform.relations.forget(row["id"])
        for links in (self.platform.service_assets, self.platform.asset_users,
                      self.platform.licence_assets,
                      self.platform.contract_items):
            links.remove("asset_id", row["id"])
        call.event("asset", 2, row["id"], self.full(row))


class AssetSoftware(Resource):
    """Read only; written through the asset (§2.8)."""
    name = "AssetSoftware"
    scope, area, can = "assets", "Assets", ("list",)

    def list(self, call):
        wanted = integer(call.params, "device_id")
        licence = integer(call.params, "licence_id")
        rows = []
        for asset in self.store.rows("Asset"):
            if wanted is not None and asset["id"] != wanted:
                continue
            for item in asset.get("_software", []):
                if licence is None or item.get("licence_id") == licence:
                    rows.append(dict(item, device_id=asset["id"]))
        return rows
