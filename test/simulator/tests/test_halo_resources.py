"""Halo: the other resources (§2.8, §3)."""
from halo_support import (HaloCase, NAME, NOT_THERE, SERIAL, SERVER,
                          SERVICE)


class Configuration(HaloCase):
    def test_2_8_asset_type(self):
        kind = self.make("AssetType", name="Desk", assetgroup_id=101, fields=[
            {"field_id": NAME, "keyfield_id": "2"},
            {"field_id": SERIAL, "keyfield_id": 1}])
        self.assertEqual(kind["assetgroup_name"], "Configuration Items")
        slots = {f["field_id"]: f for f in kind["fields"]}
        self.assertEqual(kind["keyfield_id"], slots[SERIAL]["id"])
        self.assertEqual(kind["keyfield2_id"], slots[NAME]["id"])
        self.assertEqual(slots[NAME]["field_name"], "Name")
        # the slot's id is not the field's, which assets use
        self.assertNotIn(slots[NAME]["id"], (NAME, SERIAL))
        made = self.asset(assettype_id=kind["id"], fields=[
            {"id": SERIAL, "value": "S"}, {"id": NAME, "value": "N"}])
        self.assertEqual((made["key_field"], made["key_field2"]), ("S", "N"))

    def test_2_8_type_is_read_with_details_only(self):
        path = "AssetType/%d" % SERVER
        self.assertNotIn("fields", self.get(path))
        for name in ("includedetails", "fieldsandlayoutonly"):
            self.assertEqual(self.get(path, **{name: "true"})["fields"][0][
                "field_id"], SERIAL)
        self.assertNotIn("fields", self.get("AssetType")[0])

    def test_2_8_fields_of_a_type(self):
        kind = self.make("AssetType", name="Desk", fields=[
            {"field_id": NAME, "keyfield_id": "1"}])
        slot = kind["fields"][0]["id"]
        more = self.make("AssetType", id=kind["id"], fields=[
            {"field_id": NAME, "keyfield_id": "1"}, {"field_id": SERIAL}])
        self.assertEqual((more["fields"][0]["id"], more["keyfield_id"]),
                         (slot, slot))
        less = self.make("AssetType", id=kind["id"], fields=[
            {"field_id": SERIAL}])
        self.assertEqual([f["field_id"] for f in less["fields"]], [SERIAL])
        self.assertNotIn("keyfield_id", less)
        self.switch(type_fields="add")
        both = self.make("AssetType", id=kind["id"], fields=[
            {"field_id": NAME}])
        self.assertEqual(len(both["fields"]), 2)
        self.exception("(547)", "AssetType", {"name": "x", "fields": [
            {"field_id": NOT_THERE}]})
        self.exception("(515)", "AssetType", {"assetgroup_id": 101})

    def test_2_8_type_flags_by_build(self):
        self.assertTrue(self.make("AssetType", name="p", is_portfolio=True)[
            "is_portfolio"])
        self.switch(build="2025")
        self.assertNotIn("is_portfolio", self.make("AssetType", name="q",
                                                   is_portfolio=True))
        self.assertTrue(self.make("AssetType", name="r", is_service=True)[
            "is_service"])

    def test_2_8_types_filter_and_delete(self):
        names = [t["name"] for t in self.get("AssetType", assetgroup_id=102)]
        self.assertEqual(names, ["Server"])
        kind = self.make("AssetType", name="Desk")["id"]
        self.assertEqual(self.call("DELETE", "AssetType/%d" % kind).status, 200)
        self.assertIsNone(self.refused(404, "GET", "AssetType/%d" % kind))
        self.assertIn({"id": SERVER, "name": "Server"},
                      self.get("AssetTypeInfo"))

    def test_2_8_asset_group(self):
        made = self.make("AssetGroup", name="Portfolio", use=1)
        self.assertIn(made, self.get("AssetGroup"))

    def test_2_8_field_needs_its_kind(self):
        text = "Field kind must be specified"
        for method in ("GET", "DELETE"):
            self.assertEqual(self.refused(400, method, "Field/%d" % NAME), text)
        self.assertEqual(self.get("Field/%d" % NAME, kind="T")["name"], "Name")
        self.get("Field/%d" % NAME, 404, kind="A")
        made = self.make("Field", name="Code", kind="T")
        self.assertEqual(made["validate"], "X")
        self.assertEqual(self.bad("Field", {"name": "Code"}), text)
        self.exception("column 'name'", "Field", {"kind": "T"})
        self.assertEqual(self.call("DELETE", "Field/%d?kind=T" % made["id"])
                         .status, 200)

    def test_2_8_field_filters(self):
        self.make("Field", name="Other", kind="A")
        self.assertEqual([f["name"] for f in self.get("Field", kind="A")],
                         ["Other"])
        self.assertEqual([f["id"] for f in self.get("Field", type_id=SERVER)],
                         [SERIAL])

    def test_2_8_field_info(self):
        self.make("FieldInfo", name="cost", typeid=5)
        self.make("FieldInfo", name="CFx", typeid=9)
        self.assertEqual([f["name"] for f in self.get("FieldInfo", typeid=5)],
                         ["CFcost"])
        self.exception("(515)", "FieldInfo", {"name": "y"})

    def test_2_8_status(self):
        """§10 gap 7"""
        everything = self.get("Status")
        self.assertEqual(len(everything), 6)
        self.assertNotIn("type", everything[0])
        self.assertEqual(self.get("Status", type=2), everything)
        self.assertEqual(self.get("Status", domain="asset"), everything)
        self.switch(status_filter="domain=asset")
        names = [s["name"] for s in self.get("Status", domain="asset")]
        self.assertEqual(names, ["Live", "In Build", "Retired"])
        self.assertEqual(len(self.get("Status", domain="other")), 6)
        self.assertEqual(self.get("Status/21"), {"id": 21, "name": "Live"})
        self.make("Status", name="Planned")
        self.exception("(515)", "Status", {"colour": "red"})

    def test_2_8_lookup(self):
        probe = self.get("Lookup", lookupid=11)
        self.assertTrue(all(r["lookupid"] == 11 for r in probe))
        self.assertIn(64, [r["id"] for r in probe])
        everything = self.get("Lookup")
        self.assertGreater(len(everything), len(probe))
        self.assertIsNone(self.refused(405, "POST", "Lookup", [{}]))


class Vendors(HaloCase):
    def setUp(self):
        super().setUp()
        self.supplier = self.make("Supplier", name="Contoso")["id"]

    def contract(self, **values):
        return self.make("SupplierContract", **dict({
            "ref": "VC-1", "supplier_id": self.supplier, "active": True},
            **values))

    def test_3_2_supplier(self):
        self.exception("column 'name'", "Supplier", {"website": "x"})
        self.make("Supplier", name="contoso")
        self.assertEqual(len(self.get("Supplier", search="CONT")["suppliers"]),
                         2)
        self.assertEqual(self.get("Supplier", search="zzz")["record_count"], 0)
        self.switch(unique_supplier_name=True)
        self.exception("Name must be unique", "Supplier", {"name": "CONTOSO"})
        other = self.make("Supplier", name="Other")["id"]
        self.make("Supplier", id=other, name="OTHER")
        self.contract()
        self.assertEqual(self.get("Supplier/%d" % self.supplier)[
            "contract_count"], 1)

    def test_3_3_contract_fields(self):
        made = self.contract(
            contract_description="Payroll SaaS", note="n", annual_cost=5,
            start_date="2026-01-01T00:00:00", end_date="2027-12-31T00:00:00Z",
            costing_information="48000 EUR per year", client_id=self.client)
        self.assertEqual(
            (made["supplier_name"], made["end_date"],
             made["costing_information"]),
            ("Contoso", "2027-12-31T00:00:00", "48000 EUR per year"))
        self.assertNotIn("annual_cost", made)
        self.assertNotIn("client_id", made)     # no client here

    def test_3_3_needs_a_supplier(self):
        self.exception("column 'supplier_id'", "SupplierContract",
                       {"ref": "r"})
        self.exception("(547)", "SupplierContract",
                       {"ref": "r", "supplier_id": NOT_THERE})

    def test_3_3_started_and_expired_are_computed(self):
        self.set_clock("2030-06-01T00:00:00")
        made = self.contract(start_date="2030-01-01", end_date="2030-12-31",
                             started=False, expired=True)
        self.assertEqual((made["started"], made["expired"]), (True, False))
        self.set_clock("2031-06-01T00:00:00")
        self.assertTrue(self.get("SupplierContract/%d" % made["id"])["expired"])

    def refs(self, **query):
        return sorted(c["ref"] for c in self.get("SupplierContract", **query)[
            "contracts"])

    def test_3_3_filters_and_what_is_active(self):
        self.contract()
        self.contract(ref="VC-2", active=False)
        other = self.make("Supplier", name="Other")["id"]
        self.contract(ref="VC-3", supplier_id=other,
                      contract_description="Telephones")
        self.assertEqual(self.refs(), ["VC-1", "VC-3"])
        self.assertEqual(self.refs(includeinactive="true"),
                         ["VC-1", "VC-2", "VC-3"])
        self.assertEqual(self.refs(supplier_id=other), ["VC-3"])
        self.assertEqual(self.refs(search="phones"), ["VC-3"])
        self.assertEqual(self.refs(client_id=77), ["VC-1", "VC-3"])

    def test_3_3_active_when_not_said(self):
        made = self.make("SupplierContract", ref="r", supplier_id=self.supplier)
        self.assertFalse(made["active"])
        self.switch(active_default=True)
        made = self.make("SupplierContract", ref="s", supplier_id=self.supplier)
        self.assertTrue(made["active"])
        self.assertTrue(self.make("SoftwareLicence", name="l")["is_active"])

    def test_3_3_configuration_items(self):
        one, two = self.asset("A-1")["id"], self.asset("A-2")["id"]
        made = self.contract(add_configuration_items=[{"id": one}])

        def items():
            return sorted(a["inventory_number"] for a in self.full(
                made["id"], "SupplierContract")["configuration_items"])
        self.assertEqual(items(), ["A-1"])
        self.make("SupplierContract", id=made["id"],
                  add_configuration_items=[{"id": two}, {"id": NOT_THERE}])
        self.assertEqual(items(), ["A-1", "A-2"])
        self.make("SupplierContract", id=made["id"], configuration_items=[],
                  delete_configuration_items=[{"id": one}])
        self.assertEqual(items(), ["A-1", "A-2"])
        self.switch(contract_items="replace")
        self.make("SupplierContract", id=made["id"],
                  configuration_items=[{"id": two}])
        self.assertEqual(items(), ["A-2"])
        self.assertEqual(self.tags(supplier_contract_id=made["id"]), ["A-2"])
        self.assertNotIn("configuration_items", self.get(
            "SupplierContract/%d" % made["id"]))

    def test_3_3_contract_on_the_asset(self):
        first, second = self.contract()["id"], self.contract(ref="VC-2")["id"]
        made = self.asset(supplier_contract_id=first)
        self.assertEqual(made["supplier_contract_ref"], "VC-1")
        made = self.make("Asset", id=made["id"], supplier_contract_id=second)
        self.assertEqual(made["supplier_contract_ref"], "VC-2")
        self.assertEqual(self.tags(suppliercontracts="%d" % second), ["A-1"])
        self.assertEqual(self.tags(supplier_contract_id=first), [])
        self.assertEqual([a["id"] for a in self.full(
            second, "SupplierContract")["assets"]], [made["id"]])

    def test_3_3_next_ref(self):
        self.contract(ref="00007")
        answer = self.call("POST", "SupplierContract/NextRef", [])
        self.assertEqual((answer.status, answer.json), (201, {"ref": "00008"}))
        self.assertIsNone(self.refused(404, "POST", "SupplierContract/Next",
                                       []))

    def test_3_3_client_contract_is_another_thing(self):
        self.exception("column 'client_id'", "ClientContract",
                       {"ref": "r", "supplier_id": self.supplier})
        vendor = self.contract()["id"]
        made = self.make("ClientContract", ref="r", client_id=self.client,
                         contracts=[{"supplier_contract_id": vendor}])
        self.assertEqual([c["contract_id"] for c in self.full(
            vendor, "SupplierContract")["contracts"]], [made["id"]])
        self.assertEqual(self.refs(), ["VC-1"])

    def test_3_7_licence(self):
        made = self.make("SoftwareLicence", name="Office", count="5", type=1,
                         supplier_id=self.supplier, purchase_price="9.5",
                         is_active=True)
        self.assertEqual((made["count"], made["purchase_price"],
                          made["supplier_name"]), (5, 9.5, "Contoso"))
        self.make("SoftwareLicence", name="Old")

        def names(**query):
            return sorted(r["name"] for r in self.get(
                "SoftwareLicence", **query)["licences"])
        self.assertEqual(names(), ["Office"])
        self.assertEqual(names(includeinactive="true"), ["Office", "Old"])
        self.assertEqual(names(licence_type=1), ["Office"])
        self.assertEqual(names(search="nothing"), [])
        self.exception("column 'name'", "SoftwareLicence", {"count": 1})

    def test_3_7_licences_of_assets(self):
        one = self.make("SoftwareLicence", name="One", is_active=True)["id"]
        two = self.make("SoftwareLicence", name="Two", is_active=True)["id"]
        made = self.asset(add_licences=[{"id": one}])
        self.make("SoftwareLicence", id=two, add_configuration_items=[
            {"id": made["id"]}])
        self.assertEqual(sorted(r["name"] for r in self.full(made["id"])[
            "licences"]), ["One", "Two"])
        self.assertEqual(self.tags(licence_id=two), ["A-1"])
        self.assertEqual([a["id"] for a in self.full(
            one, "SoftwareLicence")["configuration_items"]], [made["id"]])
        self.assertNotIn("configuration_items",
                         self.get("SoftwareLicence/%d" % one))

    def test_3_8_notes(self):
        made = self.make("CRMNote", supplier_id=self.supplier, note="hello")
        self.assertEqual(made["who"], "Integration")
        self.make("CRMNote", client_id=self.client, note="other")
        self.assertEqual([n["note"] for n in self.get(
            "CRMNote", supplier_id=self.supplier)["actions"]], ["hello"])
        self.exception("(515)", "CRMNote", {"note": "of nobody"})
        self.exception("(547)", "CRMNote", {"client_id": NOT_THERE})
        self.assertRegex(made["datetime"], "^20")
        self.set_clock("2040-01-01T00:00:00")
        again = self.make("CRMNote", id=made["id"], note="changed")
        self.assertEqual(again["datetime"], made["datetime"])

    def test_3_9_external_links(self):
        made = self.make("ExternalLink", table_id=5, halo_id=1,
                         third_party_id="abc", module_id=3)
        self.make("ExternalLink", table_id=9, halo_id=1, third_party_id="def")

        def ids(**query):
            return [r["id"] for r in self.get("ExternalLink", **query)["links"]]
        self.assertEqual(ids(table_id=5), [made["id"]])
        self.assertEqual(ids(third_party_id="abc"), [made["id"]])
        self.assertEqual(ids(third_party_id="ab"), [])
        self.assertEqual(ids(module_id=3, halo_id=1), [made["id"]])
        self.exception("(8152)", "ExternalLink", {
            "table_id": 5, "halo_id": 1, "third_party_id": "x" * 1001})
        self.exception("(515)", "ExternalLink", {"table_id": 5})
        self.set_clock("2040-01-01T00:00:00")
        again = self.make("ExternalLink", id=made["id"])
        self.assertEqual(again["date_created"], made["date_created"])
        self.assertRegex(again["date_updated"], "^2040")


class Services(HaloCase):
    def test_3_4_least_set(self):
        """[A]"""
        whole = dict(SERVICE, name="Pay")
        for name in whole:
            self.exception("column '%s'" % name, "Service",
                           {n: v for n, v in whole.items() if n != name})
        self.make("Service", **whole)
        self.switch(service_required="name")
        made = self.make("Service", name="Bare")
        self.assertEqual(made["name"], "Bare")

    def test_3_4_no_inactive_flag(self):
        made = self.service(inactive=True)
        self.assertNotIn("inactive", made)
        self.make("Service", id=made["id"], showintechcatalog=False)
        self.assertEqual(self.get("Service")["record_count"], 1)

    def test_3_4_filters(self):
        category = self.make("ServiceCategory", name="Applications")["id"]
        self.service("One")
        self.service("Two", service_category_id=category, summary="second")

        def names(**query):
            return sorted(s["name"] for s in self.get("Service", **query)[
                "services"])
        self.assertEqual(names(service_category_id=category), ["Two"])
        self.assertEqual(names(service_category_ids="1"), ["One"])
        self.assertEqual(names(search="SECOND"), ["Two"])
        self.assertEqual(self.get("ServiceCategory")[1]["name"],
                         "Applications")
        self.exception("(547)", "Service", dict(
            SERVICE, name="x", service_category_id=NOT_THERE))

    def test_3_4_assets_of_a_service(self):
        one, two = self.asset("A-1")["id"], self.asset("A-2")["id"]
        made = self.service(assets=[{"id": one}], device_id=two,
                            linked_services=[])

        def tags():
            return sorted(a["inventory_number"] for a in self.full(
                made["id"], "Service")["assets"])
        self.assertEqual(tags(), ["A-1"])
        for key in (one, two):
            self.assertEqual(self.get("Service", asset_ids=str(key))[
                "record_count"], 1)
        self.assertNotIn("assets", self.get("Service/%d" % made["id"]))
        self.switch(service_links="add")
        self.make("Service", id=made["id"], assets=[{"id": two}])
        self.assertEqual(tags(), ["A-1", "A-2"])
        self.switch(service_links="replace")
        self.make("Service", id=made["id"], assets=[{"id": two}])
        self.assertEqual(tags(), ["A-2"])
        hidden = self.asset("H", client_id=1)["id"]
        self.make("Service", id=made["id"], assets=[{"id": two},
                                                    {"id": hidden}])
        self.load(Agent=[{"id": 1, "clients": [self.client]}])
        self.assertEqual(tags(), ["A-2"])
        other = self.service("Other")["id"]
        self.make("Service", id=made["id"], linked_services=[{"id": other}])
        self.assertEqual([s["name"] for s in self.full(
            made["id"], "Service")["linked_services"]], ["Other"])

    def test_3_4_status_is_read_only_here(self):
        self.assertEqual(len(self.get("ServiceStatus")["service_status"]), 2)
        self.assertIsNone(self.refused(405, "POST", "ServiceStatus",
                                       [{"name": "x"}]))


class People(HaloCase):
    def test_3_5_users(self):
        made = self.make("Users", name="Bea Bee", firstname="Bea",
                         surname="Bee", emailaddress="bea@example.com",
                         client_id=self.client, site_id=self.site)
        self.assertIsInstance(made["site_id"], float)
        self.assertEqual((made["site_id_int"], made["client_id"],
                          made["site_name"]),
                         (self.site, self.client, "Main"))
        answer = self.call("GET", "Users/%d" % made["id"])
        self.assertIn(b'"site_id":%d.0' % self.site, answer.body)
        self.make("Users", name="Beatrice", emailaddress="xbea@example.com",
                  site_id=self.site)
        # a search is no comparison
        self.assertEqual(len(self.get("Users", search="bea@example.com")[
            "users"]), 2)
        self.assertEqual(self.get("Users", site_id=1)["record_count"], 0)
        self.assertEqual(self.get("Users", client_id=self.client)[
            "record_count"], 2)

    def test_3_5_users_need_name_and_site(self):
        self.exception("column 'site_id'", "Users", {"name": "x"})
        self.exception("column 'site_id'", "Users", {
            "name": "x", "client_id": self.client})
        self.exception("column 'name'", "Users", {"site_id": self.site})
        self.exception("(547)", "Users", {"name": "x", "site_id": NOT_THERE})

    def test_3_5_where_a_user_is(self):
        branch = self.make("Site", name="Branch", client_id=self.client)["id"]
        made = self.make("Users", name="x", site_id=branch, client_id=1)
        self.assertEqual((made["site_id_int"], made["client_id"]),
                         (branch, self.client))
        kept = self.make("Users", id=made["id"], client_id=self.client)
        self.assertEqual(kept["site_id_int"], branch)
        moved = self.make("Users", id=made["id"], client_id=1,
                          site_id=self.site)
        self.assertEqual(moved["site_id_int"], self.site)
        moved = self.make("Users", id=made["id"], client_id=1)
        self.assertEqual(moved["site_name"], "Unknown")
        self.exception("(547)", "Users", {"id": made["id"],
                                          "client_id": NOT_THERE})
        self.assertEqual(self.make("Users", id=made["id"], site_id=-1)[
            "site_name"], "Unknown")

    def test_3_5_same_address_twice(self):
        for _ in range(2):
            self.make("Users", name="x", emailaddress="x@example.com",
                      site_id=self.site)
        self.assertEqual(self.stats()["duplicates"]["Users"]["count"], 1)

    def test_3_5_exclude_agents(self):
        self.make("Users", name="x", site_id=self.site, linked_agent_id=4)
        self.make("Users", name="y", site_id=self.site)

        def names(**query):
            return sorted(u["name"] for u in self.get("Users", **query)["users"])
        self.assertEqual(names(), ["x", "y"])
        self.assertEqual(names(exclude_agents="true"), ["y"])
        self.assertEqual(names(exclude_agents="false"), ["x", "y"])

    def test_3_6_clients(self):
        self.exception("Name must be unique", "Client", {"name": "NORTHWIND"})
        self.exception("column 'name'", "Client", {"notes": "x"})
        self.switch(unique_client_name=False)
        again = self.make("Client", name="Northwind")["id"]
        self.assertEqual([s["name"] for s in self.dump("Site")
                          if s["client_id"] == again], ["Main"])
        self.switch(client_first_site=False)
        bare = self.make("Client", name="Bare")["id"]
        self.assertEqual([s for s in self.dump("Site")
                          if s["client_id"] == bare], [])
        # without a site there is no place for an asset
        made = self.make("Asset", assettype_id=SERVER, client_id=bare)
        self.assertEqual(made["client_name"], "Unknown")

    def test_3_6_sites(self):
        made = self.make("Site", name="Branch", client_id=self.client)
        self.assertIsInstance(made["client_id"], float)
        self.assertEqual(made["client_name"], "Northwind")
        self.assertEqual(len(self.get("Site", client_id=self.client)["sites"]),
                         2)
        self.exception("column 'client_id'", "Site", {"name": "x"})
        self.exception("(547)", "Site", {"name": "x", "client_id": NOT_THERE})

    def test_agents_are_read_only(self):
        self.assertIsNone(self.refused(405, "POST", "Agent", [{"name": "x"}]))
        self.assertEqual(self.get("Agent/4"), {
            "id": 4, "name": "Ada Agent", "email": "ada@example.com"})
