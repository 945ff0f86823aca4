"""/Supplier, /SupplierContract, /ClientContract, /SoftwareLicence, /CRMNote
(§3.2, §3.3, §3.7, §3.8)."""
from . import dates, errors
from . import members as m
from .listing import same
from .people import unique_name
from .resource import Resource


class Supplier(Resource):
    name, rows, members = "Supplier", "suppliers", m.SUPPLIER
    scope, area, typeid = "suppliers", "Suppliers", 9
    required, defaults = ("name",), {"inactive": False, "is_supplier": True}
    inactive_pair, active_member = True, "inactive"
    filters = {"toplevel_id": same("toplevel_id")}

    def value(self, row, name):
        if name == "contract_count":
            return len(self.store.find("SupplierContract", "supplier_id",
                                       row["id"]))
        return super().value(row, name)

    def check(self, call, row, values, existing):
        super().check(call, row, values, existing)
        if self.switches["halo_unique_supplier_name"]:
            unique_name(self, row)


class ContractItems:
    """The CIs of a contract or licence, added one by one: there is no
    delete_ list (§3.3)."""

    def write_items(self, links, side, row, values):
        if "configuration_items" in values \
                and self.switches["halo_contract_items"] == "replace":
            links.replace(side, row["id"], self.platform.known(
                "Asset", values["configuration_items"]))
        for key in self.platform.known(
                "Asset", values.get("add_configuration_items", [])):
            links.add(side, row["id"], key)

    def shown_items(self, links, side, row):
        assets = self.platform.resources["asset"]
        found = [self.store.get("Asset", k) for k in links.of(side, row["id"])]
        return [assets.row(r) for r in found if r is not None]


class SupplierContract(ContractItems, Resource):
    """A contract with a vendor.  No money field, no client (§3.3)."""
    name, rows, members = "SupplierContract", "contracts", m.SUPPLIER_CONTRACT
    scope, area, typeid = "supplier_contract", "Supplier Contracts", 1001
    required = ("supplier_id",)
    searched = ("ref", "contract_description")
    active_member = "active"
    filters = {"supplier_id": same("supplier_id")}
    joins = {"supplier_name": ("supplier_id", "Supplier", "name")}

    def value(self, row, name):
        if name in ("started", "expired"):
            limit = row.get("start_date" if name == "started" else "end_date")
            now = dates.stamp(self.platform.now())
            return bool(limit) and limit <= now
        return super().value(row, name)

    def prepare(self, call, row, values, existing):
        if existing is None:
            row["active"] = self.switches["halo_active_default"]

    def linked(self, call, row, values, existing):
        super().linked(call, row, values, existing)
        self.write_items(self.platform.contract_items, "contract_id", row,
                         values)

    def details(self, shown, row, call):
        if not call or not call.flag("includedetails"):
            return
        shown["configuration_items"] = self.shown_items(
            self.platform.contract_items, "contract_id", row)
        assets = self.platform.resources["asset"]
        shown["assets"] = [assets.row(r) for r in self.store.find(
            "Asset", "supplier_contract_id", row["id"])]
        shown["contracts"] = [
            {"contract_id": r["id"], "supplier_contract_id": row["id"]}
            for r in self.store.rows("ClientContract")
            if row["id"] in r.get("_contracts", [])]

    def removed(self, call, row):
        self.platform.contract_items.remove("contract_id", row["id"])

    def next_ref(self, call):
        """POST /SupplierContract/NextRef; the answer's shape is assumed."""
        numbers = [int(r["ref"]) for r in self.store.rows(self.name)
                   if str(r.get("ref", "")).isdigit()]
        return {"ref": "%05d" % (max(numbers, default=0) + 1)}


class ClientContract(Resource):
    """The agreement with a customer, which drives invoicing: wrong for
    vendor contracts, and there so that a test can see it hit (§3.3)."""
    name, rows, members = "ClientContract", "contracts", m.CLIENT_CONTRACT
    scope, area = "contracts", "Client Contracts"
    required = ("client_id",)
    searched = ("ref",)
    active_member = "active"
    filters = {"client_id": same("client_id")}
    joins = {"client_name": ("client_id", "Client", "name")}
    defaults = {"active": True}

    def linked(self, call, row, values, existing):
        super().linked(call, row, values, existing)
        if "contracts" in values:
            self.store.put(self.name, dict(row, _contracts=[
                i["supplier_contract_id"] for i in values["contracts"]
                if "supplier_contract_id" in i]))


class SoftwareLicence(ContractItems, Resource):
    name, rows, members = "SoftwareLicence", "licences", m.LICENCE
    scope, area = "software", None
    required = ("name",)
    active_member = "is_active"
    filters = {"client_id": same("client_id"), "site_id": same("site_id"),
               "licence_type": same("type")}
    joins = {"client_name": ("client_id", "Client", "name"),
             "supplier_name": ("supplier_id", "Supplier", "name")}

    def prepare(self, call, row, values, existing):
        if existing is None:
            row["is_active"] = self.switches["halo_active_default"]

    def linked(self, call, row, values, existing):
        self.write_items(self.platform.licence_assets, "licence_id", row,
                         values)

    def details(self, shown, row, call):
        if call and call.flag("includedetails"):
            shown["configuration_items"] = self.shown_items(
                self.platform.licence_assets, "licence_id", row)

    def removed(self, call, row):
        self.platform.licence_assets.remove("licence_id", row["id"])


class CRMNote(Resource):
    """Ignores paging (§3.1)."""
    name, rows, members = "CRMNote", "actions", m.CRM_NOTE
    scope, area, ignores_paging = "crm", "Customers", True
    searched = ("note", "subject")
    filters = {"client_id": same("client_id"),
               "supplier_id": same("supplier_id")}

    def check(self, call, row, values, existing):
        super().check(call, row, values, existing)
        if not row.get("client_id") and not row.get("supplier_id"):
            raise errors.not_null_400(self.platform.database(), "crmnote",
                                      "client_id")

    def stamp(self, row, existing, now):
        row.setdefault("datetime", now)

    def after(self, call, row, existing):
        if existing is None:
            self.store.put(self.name, dict(row, who=call.caller.name))


class ExternalLink(Resource):
    """§3.9: an optional extra; that table_id has Halo's table numbers is
    assumed, so nothing checks it."""
    name, rows, members = "ExternalLink", "links", m.EXTERNAL_LINK
    scope = "admin"
    required = ("table_id", "halo_id", "third_party_id")
    searched = ("third_party_id", "third_party_desc")
    filters = dict(
        {n: same(n) for n in ("table_id", "module_id", "halo_id",
                              "details_id")},
        **{n: ("text", lambda p, row, value, n=n: row.get(n) == value)
           for n in ("third_party_id", "third_party_secondary_id",
                     "third_party_type")})

    def check(self, call, row, values, existing):
        super().check(call, row, values, existing)
        if len(row["third_party_id"]) > 1000:
            raise errors.exception_400(
                "A database error occurred (8152) - String or binary data "
                "would be truncated.")

    def stamp(self, row, existing, now):
        row.setdefault("date_created", now)
        row["date_updated"] = now
