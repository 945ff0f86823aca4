"""Halo: lists, filters, pages, order, single objects (§0, §2.1 to §2.3, §3.1,
§6)."""
import json

from halo_support import (HaloCase, LIVE, NAME, NOT_THERE, RETIRED, SERIAL,
                          SERVER, APPLICATION)

ROW = {"id", "inventory_number", "key_field", "key_field2", "key_field3",
       "client_id", "client_name", "site_id", "site_name", "assettype_id",
       "assettype_name", "inactive", "supplier_id", "supplier_name"}


class Envelopes(HaloCase):
    def test_3_1_rows_key_of_each_resource(self):
        keys = {"Asset": "assets", "Client": "clients", "Site": "sites",
                "Users": "users", "Supplier": "suppliers",
                "SupplierContract": "contracts", "ClientContract": "contracts",
                "Service": "services", "ServiceStatus": "service_status",
                "SoftwareLicence": "licences", "CRMNote": "actions",
                "Agent": "results", "WebhookEvent": "events",
                "ExternalLink": "links"}
        for name, key in keys.items():
            value = self.get(name)
            self.assertEqual(set(value), {"page_no", "page_size", "columns",
                                          "record_count", "columns_id", key},
                             name)
            self.assertIsInstance(value[key], list)
        for name in ("AssetType", "AssetTypeInfo", "AssetGroup", "Field",
                     "FieldInfo", "Status", "Lookup", "ServiceCategory",
                     "Webhook", "Notification", "AssetSoftware"):
            self.assertIsInstance(self.get(name), list, name)

    def test_3_1_agents_are_a_bare_array_on_older_builds(self):
        self.switch(build="2025")
        self.assertEqual([a["id"] for a in self.get("Agent")], [1, 4, 5])

    def test_2_1_envelope_of_nothing(self):
        value = self.get("Asset")
        self.assertEqual((value["record_count"], value["assets"]), (0, []))

    def test_2_1_rows_are_reduced(self):
        self.asset(notes="long", fields=[{"id": SERIAL, "value": "S"}])
        row, = self.get("Asset")["assets"]
        self.assertEqual(set(row), ROW)
        self.assertEqual((row["key_field"], row["key_field3"],
                          row["supplier_id"], row["supplier_name"]),
                         ("S", "", 0, ""))

    def test_0_members_without_value_are_left_out(self):
        made = self.asset()
        self.assertNotIn("notes", made)
        self.assertNotIn("status_id", made)
        self.assertNotIn(None, made.values())
        self.switch(omit_empty="all")
        row, = self.get("Asset")["assets"]
        self.assertEqual(ROW - set(row), {
            "key_field", "key_field2", "key_field3", "supplier_id",
            "supplier_name"})

    def test_0_nothing_and_zero_are_no_values(self):
        key, = self.load(Asset=[{
            "assettype_id": SERVER, "client_id": self.client, "notes": "",
            "site_id": self.site, "contract_id": 0}])["Asset"]
        shown = self.get("Asset/%d" % key)
        self.assertNotIn("notes", shown)
        self.assertNotIn("contract_id", shown)

    def test_2_6_unset_dates(self):
        made = self.asset(warranty_start="2026-01-02")
        self.assertNotIn("warranty_end", made)
        self.switch(unset_dates="1900")
        again = self.get("Asset/%d" % made["id"])
        self.assertEqual((again["warranty_start"], again["warranty_end"]),
                         ("2026-01-02T00:00:00", "1900-01-01T00:00:00"))


class Pages(HaloCase):
    def setUp(self):
        super().setUp()
        self.load(Asset=[{"inventory_number": "A-%03d" % n, "inactive": False,
                          "assettype_id": SERVER, "client_id": self.client,
                          "site_id": self.site} for n in range(130)])

    def page(self, **query):
        value = self.get("Asset", order="id", **query)
        return value["record_count"], [a["id"] for a in value["assets"]], value

    def test_2_1_pageinate(self):
        ids = []
        for number in (1, 2, 3):
            total, rows, value = self.page(pageinate="true", page_size=50,
                                           page_no=number)
            self.assertEqual((total, value["page_no"], value["page_size"]),
                             (130, number, 50))
            ids += rows
        self.assertEqual(ids, list(range(1, 131)))
        self.assertEqual(self.page(pageinate="true", page_size=50,
                                   page_no=4)[:2], (130, []))
        self.assertEqual(len(self.page(pageinate="true")[1]), 50)

    def test_2_1_paginate_spelt_well_is_unknown(self):
        total, rows, _ = self.page(paginate="true", page_size=10, page_no=2)
        self.assertEqual((total, rows[0]), (50, 1))

    def test_2_1_page_size_is_cut(self):
        _, rows, value = self.page(pageinate="true", page_size=500)
        self.assertEqual((len(rows), value["page_size"]), (100, 100))
        self.switch(page_cap=0)
        self.assertEqual(len(self.page(pageinate="true", page_size=500)[1]),
                         130)

    def test_2_1_count_is_no_total(self):
        self.assertEqual(self.page(count=7)[:2], (7, list(range(1, 8))))
        # with paging count means nothing
        self.assertEqual(self.page(count=7, pageinate="true",
                                   page_size=10)[0], 130)
        self.switch(count_cap=20)
        self.assertEqual(self.page(count=50)[0], 20)
        self.switch(count_cap=0)
        self.assertEqual(self.page(count=60)[0], 60)

    def test_2_1_without_paging(self):
        self.assertEqual(self.page()[0], 50)
        self.switch(unpaged=0)
        self.assertEqual(self.page()[0], 130)

    def test_2_1_idonly(self):
        value = self.get("Asset", order="id", idonly="true", count=2)
        self.assertEqual(value["assets"], [{"id": 1}, {"id": 2}])

    def test_2_1_order(self):
        rows = self.get("Asset", order="inventory_number", orderdesc="true",
                        count=2)["assets"]
        self.assertEqual([r["inventory_number"] for r in rows],
                         ["A-129", "A-128"])
        self.call("POST", "Asset", [{"id": 5, "status_id": LIVE}])
        rows = self.get("Asset", order="status_id", orderdesc="true",
                        order2="id", orderdesc2="true", count=2)["assets"]
        self.assertEqual([r["id"] for r in rows], [5, 130])

    def test_2_1_no_order_no_promise(self):
        def ids(**query):
            return [a["id"] for a in self.get("Asset", **query)["assets"]]
        self.assertNotEqual(ids(count=100), ids(count=100))
        self.assertNotEqual(ids(count=100, order="client_id"),
                            ids(count=100, order="client_id"))
        self.assertNotEqual(ids(count=100, order="no_such"),
                            ids(count=100, order="no_such"))
        self.switch(shuffle_unordered=False)
        self.assertEqual(ids(count=100), list(range(1, 101)))

    def test_6_order_by_change(self):
        self.advance(60)
        self.post("Asset", {"id": 77, "notes": "x"})
        def newest():
            return self.get("Asset", order="last_modified", orderdesc="true",
                            count=1, pageinate="false")["assets"][0]["id"]
        found = {newest() for _ in range(5)}
        self.assertNotEqual(found, {77})
        self.switch(order_by_change=True)
        self.assertEqual(newest(), 77)

    def test_3_1_some_lists_ignore_paging(self):
        for _ in range(3):
            self.make("CRMNote", client_id=self.client, note="n")
        value = self.get("CRMNote", pageinate="true", page_size=1, page_no=2)
        self.assertEqual((value["record_count"], len(value["actions"])), (3, 3))
        self.assertEqual(len(self.get("CRMNote", count=2)["actions"]), 2)
        # bare arrays, too
        self.assertEqual(len(self.get("Status", pageinate="true",
                                      page_size=1)), 6)


class Filters(HaloCase):
    def setUp(self):
        super().setUp()
        self.supplier = self.make("Supplier", name="Contoso")["id"]
        self.a = self.asset("APP-1", status_id=LIVE, supplier_id=self.supplier)
        self.b = self.asset("APP-10", assettype_id=APPLICATION, fields=[
            {"id": NAME, "value": "Payroll"}])
        self.c = self.asset("OLD-1", inactive=True)

    def test_0_unknown_parameters_return_everything(self):
        self.assertEqual(self.tags(inventorynumber="APP-1"), ["APP-1", "APP-10"])
        self.assertEqual(self.tags(Inventory_Number="APP-10", nonsense="1"),
                         ["APP-1", "APP-10"])

    def test_2_6_inventory_number(self):
        """§10 gap 7"""
        self.asset("X-APP-1")
        for way, found in (("contains", ["APP-1", "APP-10", "X-APP-1"]),
                           ("prefix", ["APP-1", "APP-10"]),
                           ("exact", ["APP-1"])):
            self.switch(tag_filter=way)
            self.assertEqual(self.tags(inventory_number="app-1"), found, way)

    def test_2_1_filters_by_id(self):
        for query, found in (
                ({"assettype_id": APPLICATION}, ["APP-10"]),
                ({"assettypes": "%d,7" % SERVER}, ["APP-1"]),
                ({"assetgroup_id": 101}, ["APP-10"]),
                ({"assetgroups": "102"}, ["APP-1"]),
                ({"client_id": NOT_THERE}, []),
                ({"client_id": self.client}, ["APP-1", "APP-10"]),
                ({"client_ids": "%d" % self.client}, ["APP-1", "APP-10"]),
                ({"site_id": 1}, []),
                ({"assetstatuses": str(LIVE)}, ["APP-1"]),
                ({"supplier_id": self.supplier}, ["APP-1"]),
                ({"assets": "%d,999" % self.b["id"]}, ["APP-10"]),
                ({"assets": "x"}, []),
                ({"excludethese": str(self.a["id"])}, ["APP-10"])):
            self.assertEqual(self.tags(**query), found, query)

    def test_2_1_search(self):
        self.assertEqual(self.tags(search="payr"), ["APP-10"])
        self.assertEqual(self.tags(search="payr",
                                   search_inventory_number_only="true"), [])
        self.assertEqual(self.tags(search="app-1"), ["APP-1", "APP-10"])

    def test_2_1_inactive_is_hidden(self):
        self.assertEqual(self.tags(), ["APP-1", "APP-10"])
        both = ["APP-1", "APP-10", "OLD-1"]
        self.assertEqual(self.tags(includeactive="true",
                                   includeinactive="true"), both)
        self.assertEqual(self.tags(activeinactive="true,true"), both)
        self.assertEqual(self.tags(activeinactive="false,true"), ["OLD-1"])
        self.assertEqual(self.tags(includeinactive="true"), ["OLD-1"])
        self.switch(includeinactive_alone="both")
        self.assertEqual(self.tags(includeinactive="true"), both)
        # by its id it is there all the same
        self.assertTrue(self.get("Asset/%d" % self.c["id"])["inactive"])

    def test_2_1_inactive_elsewhere(self):
        for name, key in (("Supplier", "suppliers"), ("Users", "users"),
                          ("Client", "clients"), ("Site", "sites")):
            self.make(name, name="Gone", inactive=True, **(
                {"site_id": self.site} if name == "Users" else
                {"client_id": self.client} if name == "Site" else {}))
            names = [r["name"] for r in self.get(name)[key]]
            self.assertNotIn("Gone", names)
            names = [r["name"] for r in self.get(
                name, includeactive="true", includeinactive="true")[key]]
            self.assertIn("Gone", names)

    def test_5_3_values_that_do_not_parse(self):
        for name, value in (("client_id", "abc"), ("page_no", "x"),
                            ("pageinate", "yes"), ("includeinactive", "1"),
                            ("count", "many")):
            query = dict({"pageinate": "true"} if name == "page_no" else {},
                         **{name: value})
            answer = self.get("Asset", 400, **query)
            self.assertEqual(answer.json, {
                name: ["The value '%s' is not valid." % value]})

    def test_2_1_asset_fields_only_with_a_type(self):
        row, = self.get("Asset", assettype_id=APPLICATION,
                        includeassetfields="true")["assets"]
        self.assertEqual(row["fields"], [{
            "id": NAME, "name": "Name", "mandatory": False, "validate": "X",
            "value": "Payroll", "display": "Payroll"}])
        for row in self.get("Asset", includeassetfields="true")["assets"]:
            self.assertNotIn("fields", row)

    def test_2_1_custom_fields_only_when_asked_for(self):
        field = self.make("FieldInfo", name="CFcost", typeid=5)["id"]
        self.post("Asset", {"id": self.a["id"], "customfields": [
            {"name": "CFcost", "value": "12"}]})
        query = {"include_custom_fields": str(field), "assettype_id": SERVER}
        row, = self.get("Asset", **query)["assets"]
        self.assertEqual([f["value"] for f in row["customfields"]], ["12"])
        self.assertNotIn("customfields", self.get("Asset")["assets"][0])
        self.switch(build="2025")
        row, = self.get("Asset", **query)["assets"]
        self.assertNotIn("customfields", row)

    def test_2_2_advanced_search_is_not_built(self):
        self.assertEqual(self.tags(advanced_search=json.dumps([
            {"filter_name": "inventory_number", "filter_type": 0,
             "filter_value": "APP-10"}])), ["APP-1", "APP-10"])

    def test_6_change_window(self):
        """§10 gap 4"""
        for resource, key in (("Asset", "assets"), ("Users", "users"),
                              ("Client", "clients"), ("Site", "sites")):
            self.set_clock("2030-01-01T00:00:00")
            values = {"client_id": self.client} if resource == "Site" else \
                {"site_id": self.site} if resource == "Users" else \
                {"assettype_id": SERVER, "client_id": self.client} \
                if resource == "Asset" else {}
            made = self.make(resource, **dict(values, **(
                {"name": "new"} if resource != "Asset" else
                {"inventory_number": "new"})))
            self.set_clock("2030-01-02T00:00:00")

            def ids(**query):
                return [r["id"] for r in self.get(resource, **query)[key]]
            window = {"lastupdatefromdate": "2029-12-31T00:00:00"}
            late = {"lastupdatefromdate": "2030-01-01T12:00:00Z"}
            self.switch(change_window="ignore")
            self.assertIn(made["id"], ids(**late))
            self.switch(change_window="filter")
            self.assertIn(made["id"], ids(**window))
            self.assertNotIn(made["id"], ids(**late))
            self.assertNotIn(made["id"], ids(
                lastupdatetodate="2029-12-31T00:00:00"))
        # others do not have these parameters
        self.service()
        self.assertEqual([self.get(name, lastupdatefromdate="2031-01-01")[
            "record_count"] for name in ("Supplier", "Service")], [1, 1])
        answer = self.get("Asset", 400, lastupdatefromdate="soon")
        self.assertEqual(list(answer.json), ["lastupdatefromdate"])

    def test_6_clock_skew(self):
        self.set_clock("2030-01-01T00:00:00")
        self.switch(clock_skew_seconds=86400)
        self.bearer = self.scoped("all")
        made = self.make("Asset", id=self.a["id"])
        self.assertTrue(made["last_modified"].startswith("2030-01-02T"))


class Single(HaloCase):
    def test_2_3_bare_object(self):
        made = self.asset(status_id=LIVE, business_owner_id=0)
        shown = self.get("Asset/%d" % made["id"])
        self.assertEqual((shown["id"], shown["status_name"],
                          shown["assetgroup_name"], shown["client_name"]),
                         (made["id"], "Live", "Hardware", "Northwind"))
        for name in ("last_modified", "dlastupdate", "changeguid", "guid",
                     "fields"):
            self.assertIn(name, shown)
        self.assertNotIn("child_assets", shown)

    def test_2_3_missing_and_no_number(self):
        self.assertIsNone(self.refused(404, "GET", "Asset/%d" % NOT_THERE))
        for bad in ("abc", "1.5", "99999999999"):
            self.assertEqual(self.refused(400, "GET", "Asset/" + bad),
                             {"id": ["The value '%s' is not valid." % bad]})
        self.assertEqual(self.refused(400, "GET", "Webhook/1"),
                         {"id": ["The value '1' is not valid."]})

    def test_2_6_times_have_no_zone(self):
        self.set_clock("2030-03-04T09:15:00")
        made = self.make("Supplier", name="x")
        self.assertRegex(made["last_modified"],
                         r"^2030-03-04T09:15:0\d\.\d{3}$")

    def test_2_6_change_marks(self):
        made = self.asset(status_id=RETIRED)
        self.advance(5)
        after = self.make("Asset", id=made["id"], notes="x")
        self.assertGreater(after["last_modified"], made["last_modified"])
        self.assertNotEqual(after["changeguid"], made["changeguid"])
        self.assertEqual(after["guid"], made["guid"])
