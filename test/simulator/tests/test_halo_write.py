"""Halo: creating, updating, deleting (§0, §2.4 to §2.6, §2.8, §5.3)."""
import json

from halo_support import (APPLICATION, BUSINESS_SERVICE, ENVIRONMENT,
                          HaloCase, INSTANCE, LIVE, NAME, NOT_THERE, RETIRED,
                          SERIAL, SERVER, SERVICE)


class Methods(HaloCase):
    def test_0_get_post_delete_only(self):
        made = self.asset()
        for method in ("PUT", "PATCH", "HEAD", "OPTIONS"):
            self.assertEqual(self.call(method, "Asset/%d" % made["id"],
                                       [{"notes": "x"}]).status, 405, method)
        self.assertIsNone(self.refused(405, "PUT", "Asset", [{}]))
        # no header turns a POST into another method
        answer = self.call("POST", "Asset", [{"id": made["id"], "notes": "x"}],
                           headers={"X-HTTP-Method-Override": "DELETE"})
        self.assertEqual(answer.status, 201)
        self.assertEqual(self.get("Asset/%d" % made["id"])["notes"], "x")

    def test_1_5_content_types(self):
        body = json.dumps([{"name": "S"}])
        for kind in ("application/json", "application/json; charset=utf-8",
                     "text/json", "application/json-patch+json",
                     "application/vnd.x+json"):
            answer = self.call("POST", "Supplier", body,
                               headers={"Content-Type": kind})
            self.assertEqual(answer.status, 201, kind)
        for kind in ("text/plain", "application/x-www-form-urlencoded", None):
            answer = self.call("POST", "Supplier", body,
                               headers={"Content-Type": kind})
            self.assertEqual((answer.status, answer.body), (415, b""), kind)


    def test_2_4_large_bodies(self):
        body = [{"name": "S", "notes": "x" * 2000}]
        self.switch(max_body=1000)
        self.assertIsNone(self.refused(413, "POST", "Supplier", body))
        self.switch(max_body=3000)
        self.assertEqual(self.call("POST", "Supplier", body).status, 201)

    def test_0_no_route_for_a_bare_object(self):
        made = self.asset()
        for path in ("Asset/Object", "Asset/%d" % made["id"]):
            self.assertIsNone(self.refused(404, "POST", path, {"notes": "x"}))

    def test_parameters_do_not_change_what_a_write_answers(self):
        answer = self.call("POST", "Asset?includedetails=true", [
            {"assettype_id": SERVER, "client_id": self.client}])
        self.assertNotIn("child_assets", answer.json)


class Arrays(HaloCase):
    def test_0_bare_object_is_refused(self):
        for body in ({"name": "S"}, "text", 1):
            value = self.refused(400, "POST", "Supplier", json.dumps(body))
            self.assertIn("requires a JSON array", value[""][0])
        self.assertEqual(self.get("Supplier")["suppliers"], [])

    def test_5_3_bodies_that_are_no_json(self):
        for body in ("", "   "):
            self.assertIn("non-empty", self.refused(
                400, "POST", "Supplier", body)[""][0])
        for body in ("[{", "nonsense", "[]", "[1]", '[{"name":NaN}]',
                     '[{"a":' * 3000):
            answer = self.call("POST", "Supplier", body)
            self.assertEqual(answer.status, 400, body[:20])
            (key, texts), = answer.json.items()
            self.assertIsInstance(texts, list)
        self.assertEqual(key, "")
        answer = self.call("POST", "Supplier", b"[{\"name\":\"\xff\"}]")
        self.assertEqual(answer.status, 400)

    def test_0_one_object_is_answered_bare_with_201(self):
        answer = self.post("Supplier", {"name": "S"})
        self.assertEqual(answer.status, 201)
        self.assertEqual(answer.json["name"], "S")
        self.switch(post_status=200)
        self.assertEqual(self.post("Supplier", {"name": "T"}).status, 200)

    def names(self):
        return sorted(s["name"] for s in self.dump("Supplier"))

    def test_2_4_answer_of_several(self):
        """§10 gap 2"""
        two = [{"name": "A"}, {"name": "B"}]
        answer = self.post("Supplier", *two)
        self.assertEqual([s["name"] for s in answer.json], ["A", "B"])
        self.switch(many_answer="first")
        self.assertEqual(self.post("Supplier", *two).json["name"], "A")
        self.switch(many_answer="last")
        self.assertEqual(self.post("Supplier", *two).json["name"], "B")

    def test_2_4_partial_failure(self):
        """§10 gap 2"""
        three = [{"name": "A"}, {"phone_number": "1"}, {"name": "C"}]
        self.exception("column 'name'", "Supplier", *three)
        self.assertEqual(self.names(), ["A"])
        self.switch(partial_array="atomic")
        self.bad("Supplier", {"name": "X"}, *three)
        self.assertEqual(self.names(), ["A"])
        self.switch(partial_array="skip")
        answer = self.post("Supplier", *three)
        self.assertEqual([s["name"] for s in answer.json], ["A", "C"])
        self.assertEqual(self.names(), ["A", "A", "C"])
        self.exception("column 'name'", "Supplier", {"phone_number": "1"})
        self.assertEqual(self.bad("Supplier", {}, {}),
                         "No object was accepted")

    def test_5_3_binding_comes_before_any_write(self):
        self.bad("Supplier", {"name": "A"}, {"name": "B", "toplevel_id": "x"})
        self.assertEqual(self.names(), [])


class Upsert(HaloCase):
    def test_0_without_id_a_duplicate(self):
        first, second = self.asset("A-1"), self.asset("A-1")
        third = self.asset("A-1", id=0)
        fourth = self.asset("A-1", id=None)
        self.assertEqual(len({a["id"] for a in (first, second, third,
                                                fourth)}), 4)
        self.assertEqual(self.stats()["duplicates"]["Asset"]["first"][0]["ids"],
                         [first["id"], second["id"], third["id"],
                          fourth["id"]])

    def test_0_update_merges(self):
        made = self.asset(notes="long", status_id=LIVE, fields=[
            {"id": SERIAL, "value": "S"}])
        answer = self.make("Asset", id=str(made["id"]), status_id=RETIRED)
        self.assertEqual((answer["notes"], answer["key_field"],
                          answer["status_id"], answer["inventory_number"]),
                         ("long", "S", RETIRED, "A-1"))
        self.assertEqual(len(self.dump("Asset")), 1)

    def test_2_4_unknown_id(self):
        """§10 gap 3"""
        body = {"id": NOT_THERE, "name": "S"}
        self.assertIsNone(self.refused(404, "POST", "Supplier", [body]))
        self.switch(unknown_id="400")
        self.assertIsInstance(self.bad("Supplier", body), str)
        self.assertEqual(self.dump("Supplier"), [])
        self.switch(unknown_id="create")
        made = self.make("Supplier", **body)
        self.assertNotEqual(made["id"], NOT_THERE)
        hidden = self.asset(client_id=1)["id"]
        self.load(Agent=[{"id": 1, "clients": [self.client]}])
        self.assertIsNone(self.refused(404, "POST", "Asset", [
            {"id": hidden, "assettype_id": SERVER, "site_id": self.site}]))

    def test_0_unknown_members_are_lost_in_silence(self):
        made = self.asset(asset_name="Payroll", linked_assets=[{"asset_id": 1}],
                          Notes="x", key_field="K", client="x",
                          last_modified="2001-01-01T00:00:00", import_guid="g")
        for name in ("asset_name", "linked_assets", "Notes", "notes",
                     "client", "import_guid"):
            self.assertNotIn(name, made)
        self.assertEqual(made["key_field"], "")
        self.assertGreater(made["last_modified"], "2002")

    def test_0_null_is_not_sent(self):
        made = self.asset(notes="long")
        self.assertEqual(self.make("Asset", id=made["id"], notes=None)["notes"],
                         "long")
        self.switch(null_clears=True)
        self.assertNotIn("notes", self.make("Asset", id=made["id"], notes=None))

    def test_empty_text_clears(self):
        made = self.asset(notes="long", warranty_end="2026-01-01T00:00:00Z")
        made = self.make("Asset", id=made["id"], notes="",
                         warranty_end="1900-01-01T00:00:00")
        self.assertNotIn("notes", made)
        self.assertNotIn("warranty_end", made)

    def test_empty_date_clears(self):
        made = self.asset(warranty_end="2026-01-01")
        self.assertNotIn("warranty_end", self.make("Asset", id=made["id"],
                                                   warranty_end=""))

    def test_2_4_minus_one(self):
        supplier = self.make("Supplier", name="S")["id"]
        made = self.asset(supplier_id=supplier)
        kept = self.make("Asset", id=made["id"], supplier_id=-1)
        self.assertEqual(kept["supplier_id"], supplier)
        self.switch(minus_one="none")
        self.assertEqual(self.make("Asset", id=made["id"],
                                   supplier_id=-1)["supplier_id"], 0)
        made = self.make("Asset", id=made["id"], supplier_id=supplier)
        self.assertEqual(made["supplier_name"], "S")
        self.assertEqual(self.make("Asset", id=made["id"],
                                   supplier_id=0)["supplier_id"], 0)

    def test_2_6_minus_99_is_unknown(self):
        self.assertNotIn("business_owner_id", self.asset(business_owner_id=-99))

    def test_5_3_references(self):
        self.exception("(547)", "Asset", {
            "assettype_id": SERVER, "client_id": self.client,
            "supplier_id": NOT_THERE})
        self.assertEqual(self.stats()["orphans"]["count"], 0)
        self.switch(bad_reference="store")
        made = self.asset(supplier_id=NOT_THERE)
        self.assertEqual(made["supplier_id"], NOT_THERE)
        orphan, = self.stats()["orphans"]["first"]
        self.assertEqual((orphan["resource"], orphan["member"]),
                         ("Asset", "supplier_id"))


class Binding(HaloCase):
    """Shape 3 of a 400 (§5.3), and what parses (§0)."""

    def test_0_numbers_as_text(self):
        made = self.make("Asset", assettype_id=str(SERVER),
                         client_id=" %d " % self.client, criticality="2")
        self.assertEqual((made["assettype_id"], made["criticality"]),
                         (SERVER, 2))

    def test_5_3_text_that_is_no_number(self):
        body = '[{"id":1,"notes":"x","status_id":"live"}]'
        value = self.refused(400, "POST", "Asset", body)
        self.assertEqual(value, {"[0].status_id": [
            "Could not convert string to integer: live. Path "
            "'[0].status_id', line 1, position 39."]})

    def test_5_3_index_line_and_nested_path(self):
        body = ('[{"id": 1},\n {"fields": [{"id": 1, "value": "]"},\n'
                '  {"value": 1, "id": "x"}], "id": 2}]')
        value = self.refused(400, "POST", "Asset", body)
        self.assertEqual(value, {"[1].fields[1].id": [
            "Could not convert string to integer: x. Path "
            "'[1].fields[1].id', line 3, position 24."]})

    def test_5_3_kinds(self):
        for member, value in (("status_id", 1.5), ("status_id", True),
                              ("status_id", [1]), ("status_id", 1 << 40),
                              ("inactive", "yes"), ("notes", {"a": 1}),
                              ("warranty_end", "soon"), ("warranty_end", 5),
                              ("fields", {"id": 1}), ("fields", [1])):
            answer = self.bad("Asset", {member: value})
            path, = answer
            self.assertTrue(path.startswith("[0]." + member), answer)
        for value, text in (("cheap", "string to double: cheap."),
                            (True, "Unexpected character"),
                            ([1], "Unexpected character")):
            (path, texts), = self.bad("SoftwareLicence", {
                "purchase_price": value}).items()
            self.assertEqual(path, "[0].purchase_price")
            self.assertIn(text, texts[0])
        self.assertIn("requires a JSON array", self.bad(
            "Asset", {"fields": {"id": 1}})["[0].fields"][0])
        self.assertEqual(list(self.bad("Asset", {"child_assets": [
            {"id": 1, "relationship_id": "x"}]})),
            ["[0].child_assets[0].relationship_id"])

    def test_what_converts(self):
        made = self.asset(inactive="True", notes=12, status_id=21.0,
                          warranty_start="2026-03-04T09:15:00+02:00",
                          warranty_end="2026-03-04T09:15:00Z",
                          commissiondate="2026-03-04")
        self.assertEqual(
            (made["inactive"], made["notes"], made["status_id"],
             made["warranty_start"], made["warranty_end"],
             made["commissiondate"]),
            (True, "12", 21, "2026-03-04T07:15:00", "2026-03-04T09:15:00",
             "2026-03-04T00:00:00"))


class Assets(HaloCase):
    def place(self, **values):
        made = self.make("Asset", assettype_id=SERVER, **values)
        return made["client_name"], made["site_name"]

    def test_2_4_smallest_create(self):
        self.assertEqual(self.place(client_id=self.client),
                         ("Northwind", "Main"))

    def test_2_4_where_an_asset_lands(self):
        second = self.make("Site", name="Branch", client_id=self.client)["id"]
        self.assertEqual(self.place(site_id=second), ("Northwind", "Branch"))
        self.assertEqual(self.place(client_name="northwind",
                                    site_name="BRANCH"),
                         ("Northwind", "Branch"))
        # a site wins over a client that it is not of
        self.assertEqual(self.place(site_id=second, client_id=1),
                         ("Northwind", "Branch"))
        for values in ({"client_name": "Nobody", "site_name": "Branch"},
                       {"client_name": "Northwind", "site_name": "Nowhere"},
                       {}):
            self.assertEqual(self.place(**values), ("Unknown", "Unknown"))
        self.exception("(547)", "Asset", {"assettype_id": SERVER,
                                          "client_id": NOT_THERE})
        self.exception("(547)", "Asset", {"assettype_id": SERVER,
                                          "site_id": NOT_THERE})

    def test_9_no_place_may_be_refused(self):
        self.switch(no_site="refuse")
        self.exception("(515)", "Asset", {"assettype_id": SERVER})

    def test_2_4_without_a_site_called_unknown(self):
        self.control("POST", "remove", {"Site": [1]})
        self.exception("(515)", "Asset", {"assettype_id": SERVER})
        self.switch(tenant="")
        self.exception("D_local.dbo.", "Asset", {"assettype_id": SERVER})

    def test_2_6_update_keeps_or_moves(self):
        second = self.make("Site", name="Branch", client_id=self.client)["id"]
        made = self.asset(site_id=second)
        kept = self.make("Asset", id=made["id"], client_id=self.client)
        self.assertEqual(kept["site_id"], second)
        moved = self.make("Asset", id=made["id"], client_id=1)
        self.assertEqual(moved["site_name"], "Unknown")

    def test_2_4_type_by_name(self):
        made = self.make("Asset", assettype_name="sERVER",
                         client_id=self.client)
        self.assertEqual(made["assettype_id"], SERVER)
        self.exception("Asset type", "Asset", {
            "assettype_name": "Nothing", "client_id": self.client})
        self.exception("(515)", "Asset", {"client_id": self.client})
        nowhere = {"client_id": self.client, "assettype_id": NOT_THERE}
        self.exception("(547)", "Asset", nowhere)
        self.switch(bad_reference="store")
        self.exception("(547)", "Asset", nowhere)

    def test_2_6_name_goes_through_fields(self):
        made = self.asset(assettype_id=APPLICATION, key_field="No", fields=[
            {"name": "nAmE", "value": "Payroll"}])
        self.assertEqual(made["key_field"], "Payroll")
        made = self.make("Asset", id=made["id"], fields=[
            {"id": NAME, "value": ""}])
        self.assertEqual(made["key_field"], "")

    def test_2_4_fields_that_the_type_lacks(self):
        made = self.asset(_dontaddnewfields=True, fields=[
            {"id": ENVIRONMENT, "value": "Prod"}, {"id": 7777, "value": "x"},
            {"name": "Colour", "value": "red"}])
        self.assertEqual([f["name"] for f in made["fields"]],
                         ["Serial Number"])
        added = self.asset("A-2", fields=[{"id": ENVIRONMENT, "value": "Prod"},
                                          {"name": "Colour", "value": "red"},
                                          {"id": 7777, "value": "x"}])
        self.assertEqual([f["name"] for f in added["fields"]],
                         ["Serial Number", "Environment", "Colour"])
        again = self.asset("A-3", fields=[
            {"id": 7777, "name": "Weight", "value": "1"}, {"value": "x"}])
        self.assertEqual(len(again["fields"]), 3)
        self.switch(adds_fields=False)
        again = self.asset("A-3", fields=[{"name": "Size", "value": "1"}])
        self.assertEqual(len(again["fields"]), 3)

    def test_2_6_values_of_fields(self):
        def key_field(*entries):
            return self.make("Asset", id=made["id"], fields=list(entries))[
                "key_field"]
        made = self.asset()
        self.assertEqual(key_field({"id": SERIAL, "value": True}), "true")
        self.assertEqual(key_field({"id": SERIAL, "value": False}), "false")
        self.assertEqual(key_field({"id": SERIAL, "value": 12}), "12")
        # without a value an entry says nothing
        self.assertEqual(key_field({"id": SERIAL}), "12")
        self.assertEqual(key_field({"id": SERIAL, "value": None}), "12")
        self.assertEqual(key_field({"id": NAME, "value": "x"},
                                   {"id": SERIAL, "value": ""}), "")

    def test_2_6_custom_fields(self):
        self.make("FieldInfo", name="cost", label="Cost", typeid=5)
        self.make("FieldInfo", name="CFsite", typeid=3)
        made = self.asset(customfields=[{"name": "CFcost", "value": 12},
                                        {"name": "CFsite", "value": "x"},
                                        {"name": "CFcots", "value": "x"}])
        self.assertEqual([(f["name"], f["value"])
                          for f in made["customfields"]], [("CFcost", 12)])
        field = made["customfields"][0]["id"]
        again = self.make("Asset", id=made["id"], customfields=[
            {"id": field, "value": ""}])
        self.assertNotIn("value", again["customfields"][0])
        self.make("Asset", id=made["id"], customfields=[
            {"id": field, "value": "7"}, {"id": field}])
        self.assertEqual(self.full(made["id"])["customfields"][0]["value"],
                         "7")

    def test_2_6_custom_fields_of_other_resources(self):
        supplier = self.make("Supplier", name="S")["id"]
        for resource, typeid, values in (
                ("Client", 2, {"name": "C"}),
                ("Site", 3, {"name": "x", "client_id": self.client}),
                ("Users", 4, {"name": "x", "site_id": self.site}),
                ("Supplier", 9, {"name": "x"}),
                ("Service", 999, dict(SERVICE, name="x")),
                ("SupplierContract", 1001, {"supplier_id": supplier})):
            self.make("FieldInfo", name="CFkey", typeid=typeid)
            made = self.make(resource, **dict(values, customfields=[
                {"name": "CFkey", "value": "k"}]))
            self.assertEqual([f["value"] for f in made["customfields"]], ["k"],
                             resource)

    def test_2_6_third_party_id(self):
        made = self.asset(third_party_id="12", third_party_id_string="x")
        self.assertEqual(made["third_party_id"], 12)
        self.assertNotIn("third_party_id_string", made)

    def test_2_4_unique_tags(self):
        self.asset("A-1")
        self.asset("A-1")
        self.switch(unique_asset_tag=True)
        value = self.bad("Asset", {"assettype_id": SERVER, "client_id":
                                   self.client, "inventory_number": "A-1"})
        self.assertEqual(value, "Asset tag must be unique")
        made = self.asset("A-2")
        self.make("Asset", id=made["id"], inventory_number="A-2")

    def test_2_4_next_tag(self):
        self.asset("000041")
        self.assertEqual(self.get("Asset/NextTag"),
                         {"inventory_number": "000042"})
        self.assertIsNone(self.refused(404, "POST", "Asset/NextTag", []))
        plain = self.make("Asset", assettype_id=SERVER, client_id=self.client)
        self.assertEqual(plain["inventory_number"], "")
        self.switch(auto_tag=True)
        made = self.make("Asset", assettype_id=SERVER, client_id=self.client)
        self.assertEqual(made["inventory_number"], "000042")
        self.assertEqual(self.asset("mine")["inventory_number"], "mine")

    def test_2_4_status_of_new_assets(self):
        self.assertNotIn("status_id", self.asset())
        self.switch(new_asset_status=LIVE)
        made = self.asset()
        self.assertEqual(made["status_id"], LIVE)
        self.assertEqual(self.asset(status_id=RETIRED)["status_id"], RETIRED)
        self.make("Asset", id=made["id"], status_id=RETIRED)
        self.assertEqual(self.make("Asset", id=made["id"])["status_id"],
                         RETIRED)

    def test_2_8_allowed_statuses(self):
        kind = self.make("AssetType", name="Desk", allowed_status=[
            {"status_id": LIVE}])["id"]
        made = self.asset(assettype_id=kind, status_id=LIVE)
        self.exception("status", "Asset", {"id": made["id"],
                                           "status_id": RETIRED})
        self.switch(status_checked=False)
        self.make("Asset", id=made["id"], status_id=RETIRED)
        self.switch(status_checked=True)
        self.make("Asset", id=made["id"], notes="not about the status")
        self.make("Asset", id=made["id"], status_id=0)
        self.make("AssetType", id=kind, allowall_status=True)
        self.make("Asset", id=made["id"], status_id=RETIRED)
        free = self.make("AssetType", name="Chair")["id"]
        self.asset(assettype_id=free, status_id=RETIRED)

    def test_2_4_required_fields(self):
        field = self.make("Field", name="Owner code", kind="T",
                          mandatory=True)["id"]
        kind = self.make("AssetType", name="Desk", fields=[
            {"field_id": field}])["id"]
        body = {"assettype_id": kind, "client_id": self.client}
        self.assertEqual(self.bad("Asset", body), "Owner code is required")
        self.make("Asset", **dict(body, _donotvalidate=True))
        made = self.make("Asset", **dict(body, fields=[
            {"id": field, "value": "7"}]))
        self.assertEqual(self.bad("Asset", {"id": made["id"], "fields": [
            {"id": field, "value": ""}]}), "Owner code is required")

    def test_2_4_dry_run(self):
        before = self.dump("Asset")
        answer = self.asset(_validateonly=True)
        self.assertEqual(answer["inventory_number"], "A-1")
        self.assertEqual(self.dump("Asset"), before)
        self.assertEqual(self.dump("AssetChange"), [])

    def test_2_4_warning(self):
        self.assertNotIn("_warning", self.asset())
        self.switch(warning="look here")
        self.assertEqual(self.asset()["_warning"], "look here")
        self.assertNotIn("_warning", self.get("Asset/1"))

    def test_2_6_owners_and_users(self):
        user = self.make("Users", name="Bea", site_id=self.site)["id"]
        made = self.asset(business_owner_id=user, technical_owner_id=4,
                          users=[{"id": user}, {"id": NOT_THERE}])
        self.assertEqual((made["business_owner_name"],
                          made["technical_owner_name"]), ("Bea", "Ada Agent"))
        self.assertEqual([u["name"] for u in self.full(made["id"])["users"]],
                         ["Bea"])
        self.assertEqual(len(self.dump("AssetUser")), 1)
        self.assertEqual(self.tags(user_id=user), ["A-1"])
        self.assertEqual(self.tags(username="bea"), ["A-1"])
        self.assertEqual(self.tags(username="be"), [])
        self.assertEqual(self.tags(ticket_id=1) + self.tags(kb_id=1), [])
        users = self.get("Users", asset_id=made["id"])["users"]
        self.assertEqual([u["id"] for u in users], [user])
        # an agent is no user, nor the other way round
        self.exception("(547)", "Asset", {"id": made["id"],
                                          "technical_owner_id": 77})

    def test_2_6_services(self):
        one, two = self.service("One")["id"], self.service("Two")["id"]
        made = self.asset(services=[{"id": one}])

        def names():
            return sorted(s["name"] for s in self.full(made["id"])["services"])
        self.assertEqual(names(), ["One"])
        self.assertEqual(self.tags(service_id=one), ["A-1"])
        self.assertEqual(self.tags(service_ids="%d" % two), [])
        self.assertEqual([s["name"] for s in self.get(
            "Service", asset_ids=str(made["id"]))["services"]], ["One"])
        self.make("Asset", id=made["id"], service_ids="%d" % two)
        self.assertEqual(names(), ["Two"])
        self.switch(service_links="add")
        self.make("Asset", id=made["id"], services=[{"id": one}])
        self.assertEqual(names(), ["One", "Two"])
        self.switch(service_links="replace")
        self.make("Asset", id=made["id"], services=[])
        self.assertEqual(names(), [])
        again = self.make("Asset", id=made["id"], service_id=two)
        self.assertEqual(again["related_service_name"], "Two")
        self.assertEqual(names(), ["Two"])
        self.make("Asset", id=made["id"], notes="x")
        self.assertEqual(names(), ["Two"])
        again = self.make("Asset", id=made["id"], services=[{"id": one}])
        self.assertNotIn("service_id", again)
        self.make("Asset", id=made["id"], notes="y")
        self.assertEqual(names(), ["One"])

    def test_2_6_members_of_2026(self):
        portfolio = self.asset("P")["id"]
        made = self.asset("C", owning_portfolio=portfolio, environment=3)
        self.assertEqual((made["owning_portfolio"], made["environment"]),
                         (portfolio, 3))
        self.switch(build="2025")
        made = self.asset("D", owning_portfolio=portfolio)
        self.assertNotIn("owning_portfolio", made)

    def test_2_8_software(self):
        made = self.asset(software=[{"name": "Word", "version": "16"}])
        self.asset("A-2", software=[{"name": "Excel"}])
        self.assertEqual(self.get("AssetSoftware", device_id=made["id"]), [
            {"name": "Word", "version": "16", "device_id": made["id"]}])
        self.assertEqual(len(self.get("AssetSoftware")), 2)
        self.make("Asset", id=made["id"], software=[{"name": "Word",
                                                     "licence_id": 3}])
        self.assertEqual([s["name"] for s in self.get(
            "AssetSoftware", licence_id=3)], ["Word"])
        self.assertEqual(self.full(made["id"])["software"], [
            {"name": "Word", "licence_id": 3}])
        self.assertIsNone(self.refused(405, "POST", "AssetSoftware", [{}]))


class History(HaloCase):
    def test_6_asset_change(self):
        made = self.asset(notes="a", fields=[{"id": SERIAL, "value": "S"}])
        self.make("Asset", id=made["id"], notes="b", fields=[
            {"id": SERIAL, "value": "T"}])
        self.make("Asset", id=made["id"], notes="b")
        value = self.get("AssetChange", asset_id=made["id"], order="id",
                         count=100)
        changes = [(c["field_id"], c["field_name"], c.get("old_value", ""),
                    c["new_value"], c["who"])
                   for c in value["changehistory"]][-2:]
        self.assertEqual(changes, [
            (0, "notes", "a", "b", "Integration"),
            (SERIAL, "Serial Number", "S", "T", "Integration")])

    def test_6_members_that_are_history(self):
        self.make("FieldInfo", name="CFcost", typeid=5)
        self.asset(notes="a", software=[{"name": "x"}], customfields=[
            {"name": "CFcost", "value": "1"}])
        self.assertEqual({c["field_name"] for c in self.dump("AssetChange")},
                         {"inventory_number", "notes", "assettype_id",
                          "client_id", "site_id", "inactive"})

    def test_6_unfiltered_times_out(self):
        answer = self.get("AssetChange", 504)
        self.assertIn("text/html", answer.headers["content-type"])
        self.assertIsNone(self.refused(405, "POST", "AssetChange", [{}]))


class Deleting(HaloCase):
    def test_2_5_delete(self):
        made = self.asset()
        path = "Asset/%d" % made["id"]
        answer = self.call("DELETE", path)
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertIsNone(self.refused(404, "GET", path))
        self.assertIsNone(self.refused(404, "DELETE", path))
        self.assertEqual(self.tags(includeactive="true",
                                   includeinactive="true"), [])
        self.assertIsNone(self.refused(405, "DELETE", "Asset"))

    def test_2_5_links_go_with_an_asset(self):
        user = self.make("Users", name="U", site_id=self.site)["id"]
        licence = self.make("SoftwareLicence", name="L")["id"]
        supplier = self.make("Supplier", name="S")["id"]
        made = self.asset(users=[{"id": user}], add_licences=[{"id": licence}],
                          services=[{"id": self.service()["id"]}])
        self.make("SupplierContract", ref="r", supplier_id=supplier,
                  add_configuration_items=[{"id": made["id"]}])
        tables = ("AssetUser", "LicenceAsset", "ServiceAsset", "ContractCI")
        self.assertEqual([len(self.dump(t)) for t in tables], [1, 1, 1, 1])
        self.call("DELETE", "Asset/%d" % made["id"])
        self.assertEqual([self.dump(t) for t in tables], [[], [], [], []])

    def test_2_5_links_go_with_the_other_side(self):
        licence = self.make("SoftwareLicence", name="L")["id"]
        supplier = self.make("Supplier", name="S")["id"]
        service = self.service()["id"]
        made = self.asset(add_licences=[{"id": licence}],
                          services=[{"id": service}])
        contract = self.make("SupplierContract", ref="r", supplier_id=supplier,
                             add_configuration_items=[{"id": made["id"]}])["id"]
        for path in ("SoftwareLicence/%d" % licence, "Service/%d" % service,
                     "SupplierContract/%d" % contract):
            self.assertEqual(self.call("DELETE", path).status, 200)
        for table in ("LicenceAsset", "ServiceAsset", "ContractCI"):
            self.assertEqual(self.dump(table), [])

    def test_2_5_delete_may_answer_the_object(self):
        made = self.asset()
        self.switch(delete_body="object")
        answer = self.call("DELETE", "Asset/%d" % made["id"])
        self.assertEqual(answer.json["id"], made["id"])

    def test_2_5_in_use(self):
        supplier = self.make("Supplier", name="S")["id"]
        contract = self.make("SupplierContract", ref="r",
                             supplier_id=supplier)["id"]
        made = self.asset(supplier_contract_id=contract, status_id=LIVE)
        self.make("Users", name="U", site_id=self.site)
        for path in ("Supplier/%d" % supplier,
                     "SupplierContract/%d" % contract,
                     "Status/%d" % LIVE, "AssetType/%d" % SERVER,
                     "Site/%d" % self.site, "Client/%d" % self.client,
                     "AssetGroup/101", "Field/%d?kind=T" % SERIAL):
            value = self.refused(400, "DELETE", path)
            self.assertIsInstance(value, str, path)
        self.call("DELETE", "Asset/%d" % made["id"])
        self.assertEqual(self.call("DELETE", "SupplierContract/%d"
                                   % contract).status, 200)
        self.assertEqual(self.call("DELETE", "Supplier/%d" % supplier).status,
                         200)

    def test_2_5_in_use_by_one_thing_only(self):
        user = self.make("Users", name="U", site_id=self.site)["id"]
        self.refused(400, "DELETE", "Site/%d" % self.site)
        self.call("DELETE", "Users/%d" % user)
        licence = self.make("SoftwareLicence", name="L",
                            site_id=self.site)["id"]
        for path in ("Site/%d" % self.site, "Client/%d" % self.client):
            self.refused(400, "DELETE", path)
        self.call("DELETE", "SoftwareLicence/%d" % licence)
        self.assertEqual(self.call("DELETE", "Site/%d" % self.site).status, 200)

    def test_3_6_a_clients_sites_go_with_it(self):
        self.assertEqual(self.call("DELETE", "Client/%d" % self.client).status,
                         200)
        self.assertEqual([s["name"] for s in self.dump("Site")], ["Unknown"])


class ServiceModel(HaloCase):
    def test_2_9_service_type_makes_a_service(self):
        made = self.asset(assettype_id=BUSINESS_SERVICE, fields=[
            {"id": NAME, "value": "Payments"}])
        service, = self.dump("Service")
        self.assertEqual((service["name"], service["device_id"]),
                         ("Payments", made["id"]))
        self.assertEqual([s["name"] for s in self.full(made["id"])["services"]],
                         ["Payments"])
        self.make("Asset", id=made["id"], notes="x")
        self.assertEqual(len(self.dump("Service")), 1)
        self.switch(service_model=False)
        self.asset("B", assettype_id=BUSINESS_SERVICE)
        self.assertEqual(len(self.dump("Service")), 1)
        self.switch(service_model=True)
        self.asset("C", assettype_id=BUSINESS_SERVICE)
        self.assertEqual(self.dump("Service")[1]["name"], "C")

    def test_2_9_environments_make_instances(self):
        self.load(Environment=[{"id": 1, "name": "Prod"},
                               {"id": 2, "name": "Test"}])
        made = self.asset(assettype_id=APPLICATION, fields=[
            {"id": NAME, "value": "Payroll"}])
        children = self.full(made["id"])["child_assets"]
        self.assertEqual(sorted((c["inventory_number"], c["assettype_id"])
                                for c in children),
                         [("Payroll - Prod", INSTANCE),
                          ("Payroll - Test", INSTANCE)])
        self.asset("S", assettype_id=SERVER)
        self.assertEqual(len(self.dump("Asset")), 4)
        self.switch(service_model=False)
        self.asset("B", assettype_id=APPLICATION)
        self.assertEqual(len(self.dump("Asset")), 5)
