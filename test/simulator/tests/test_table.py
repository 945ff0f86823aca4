"""Table API and encoded queries (§2), Aggregate (§9)."""
import threading

from support import ADMIN, Case


class Envelope(Case):
    def test_2_3_live_errors(self):
        answer = self.get("no_such_table")
        self.assertEqual(answer.status, 400)
        self.assertEqual(answer.json, {
            "error": {"message": "Invalid table no_such_table", "detail": None},
            "status": "failure"})
        answer = self.get("sys_user", user=None)
        self.assertEqual(answer.status, 401)
        self.assertEqual(answer.json["error"], {
            "message": "User Not Authenticated",
            "detail": "Required to provide Auth information"})
        answer = self.call("GET", "/api/now/table/sys_user/" + "0" * 32)
        self.assertEqual((answer.status, answer.json["error"]["message"]),
                         (404, "No Record found"))

    def test_2_3_long_request_line_is_an_html_page(self):
        answer = self.get("sys_user", "name=" + "x" * 23000)
        self.assertGreaterEqual(answer.status, 400)
        self.assertLess(answer.status, 500)
        self.assertTrue(answer.headers["content-type"].startswith("text/html"))
        # ServiceNow's own client sends up to 10,000 characters
        self.assertEqual(self.get(
            "sys_user", "name=" + "x" * 9900,
            suppress_pagination_header="true").status, 200)

    def test_2_1_headers(self):
        path = "/api/now/table/sys_user"
        cases = [({"Accept": None}, "GET", None, 400),
                 ({"Accept": "image/png"}, "GET", None, 406),
                 ({"Content-Type": None}, "POST", "{}", 400),
                 ({"Content-Type": "text/plain"}, "POST", "{}", 415),
                 ({"Accept": "*/*"}, "GET", None, 200)]
        for headers, method, body, status in cases:
            answer = self.call(method, path, body, headers=headers)
            self.assertEqual(answer.status, status, headers)
        answer = self.call("GET", path, headers={"Accept": "application/xml"})
        self.assertTrue(answer.body.startswith(b"<?xml"))
        self.assertIn(b"<response><result><sys_id>", answer.body)

    def test_2_3_bad_json_and_bad_path(self):
        answer = self.call("POST", "/api/now/table/core_company", "{nope")
        self.assertEqual(answer.status, 400)
        answer = self.call("GET", "/api/now/nonsense")
        self.assertEqual(answer.json["error"]["message"],
                         "Requested URI does not represent any resource")
        answer = self.call("DELETE", "/api/now/table/core_company")
        self.assertEqual(answer.status, 405)

    def test_2_1_method_override_and_no_response_body(self):
        row = self.make("core_company", {"name": "C"})
        answer = self.call("POST", "/api/now/table/core_company/" + row["sys_id"],
                           {"name": "D"}, headers={
                               "X-http-method-override": "PATCH",
                               "X-no-response-body": "true"})
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(self.rows("core_company", "name=D")[0]["sys_id"],
                         row["sys_id"])

    def test_2_3_hibernation_is_200_html(self):
        self.switch(hibernating=True)
        answer = self.get("sys_user")
        self.assertEqual(answer.status, 200)
        self.assertTrue(answer.headers["content-type"].startswith("text/html"))

    def test_2_11_body_limit(self):
        self.switch(max_body=1000)
        answer = self.call("POST", "/api/now/table/core_company",
                           {"notes": "x" * 2000})
        self.assertEqual(answer.status, 400)


class Display(Case):
    def setUp(self):
        super().setUp()
        self.id = self.load(cmdb_ci_business_app=[{
            "name": "A", "it_application_owner": ADMIN, "owned_by": "f" * 32,
            "operational_status": "1"}])["cmdb_ci_business_app"][0]

    def one(self, **parameters):
        return self.rows("cmdb_ci_business_app", "name=A", **parameters)[0]

    def test_2_2_all_values_are_strings(self):
        row = self.one()
        self.assertEqual((row["active"], row["sys_mod_count"], row["url"]),
                         ("true", "0", ""))

    def test_2_2_reference_by_mode(self):
        link = "https://dev00001.service-now.com/api/now/table/sys_user/" + ADMIN
        name = "System Administrator"
        expected = {
            ("false", "false"): {"link": link, "value": ADMIN},
            ("false", "true"): ADMIN,
            ("true", "false"): {"display_value": name, "link": link},
            ("true", "true"): name,
            ("all", "false"): {"display_value": name, "link": link,
                               "value": ADMIN},
            ("all", "true"): {"display_value": name, "value": ADMIN}}
        for (mode, no_link), want in expected.items():
            row = self.one(display_value=mode, exclude_reference_link=no_link)
            self.assertEqual(row["it_application_owner"], want, (mode, no_link))

    def test_2_2_all_turns_every_field(self):
        row = self.one(display_value="all")
        self.assertEqual(row["operational_status"],
                         {"display_value": "Operational", "value": "1"})
        self.assertEqual(row["environment"], {"display_value": None, "value": ""})
        self.assertEqual(row["managed_by"], {"display_value": "", "value": ""})
        self.assertEqual(row["cost"]["currency_display_value"], "USD;0.00")

    def test_2_2_gone_target_keeps_value(self):
        row = self.one(display_value="all")
        self.assertEqual((row["owned_by"]["value"],
                          row["owned_by"]["display_value"]), ("f" * 32, ""))

    def test_2_2_link_to_a_ci_is_to_cmdb_ci(self):
        self.load(cmdb_rel_ci=[{"parent": self.id, "child": self.id}])
        row = self.rows("cmdb_rel_ci")[0]
        self.assertTrue(row["parent"]["link"].endswith(
            "/api/now/table/cmdb_ci/" + self.id))

    def test_2_2_times_are_utc_and_display_in_the_users_zone(self):
        row = self.one(display_value="all")["sys_created_on"]
        self.assertEqual(row["value"], "2024-01-01 00:00:00")
        self.assertEqual(row["display_value"], "2023-12-31 16:00:00")

    def test_2_4_fields_and_dot_walking(self):
        row = self.one(fields="name,it_application_owner.email,nonsense",
                       exclude_reference_link="true")
        self.assertEqual(row, {"name": "A", "it_application_owner.email":
                               "admin@example.com"})

    def test_2_2_hidden_columns_are_left_out(self):
        self.load(acl=[{"table": "cmdb_ci", "operation": "read",
                        "field": "comments", "roles": ["sn_cmdb_admin"]}])
        self.assertNotIn("comments", self.one())
        answer = self.get("cmdb_ci", "comments=x")
        self.assertEqual(answer.status, 403)
        self.assertEqual(answer.json["error"], {
            "message": "Insufficient rights to query records",
            "detail": "comments"})


class Lists(Case):
    def companies(self, count):
        self.load(core_company=[{"name": "Co %03d" % n, "city": "Metropolis"}
                                for n in range(count)])

    def test_2_4_total_and_link(self):
        self.companies(25)
        answer = self.get("core_company", "city=Metropolis^ORDERBYname",
                          limit=10)
        self.assertEqual(answer.headers["x-total-count"], "25")
        links = answer.headers["link"].split(",<")
        self.assertEqual([l.partition(";")[2] for l in links],
                         ['rel="first"', 'rel="prev"', 'rel="next"',
                          'rel="last"'])
        self.assertIn("sysparm_offset=-10", links[1])   # negative [L]
        answer = self.get("core_company", "city=Metropolis", limit=10, offset=20)
        self.assertNotIn('rel="next"', answer.headers["link"])
        answer = self.get("core_company", limit=1, no_count="true",
                          suppress_pagination_header="true")
        self.assertNotIn("x-total-count", answer.headers)
        self.assertNotIn("link", answer.headers)

    def test_2_4_no_row_by_version(self):
        for version, status in (("", 200), ("v2/", 200), ("v1/", 404)):
            answer = self.call("GET", "/api/now/%stable/core_company" % version,
                               query={"sysparm_query": "name=none"})
            self.assertEqual(answer.status, status)
        self.assertIn("Records matching query not found",
                      answer.json["error"]["detail"])

    def test_2_4_parent_returns_children_with_its_own_columns(self):
        self.load(cmdb_ci_service_discovered=[{"name": "D", "version": "1"}])
        for table in ("cmdb_ci_service_auto", "cmdb_ci_service", "cmdb_ci"):
            row = self.rows(table, "name=D")[0]
            self.assertEqual(row["sys_class_name"], "cmdb_ci_service_discovered")
            self.assertEqual("version" in row, table != "cmdb_ci")
        self.assertEqual(self.rows("cmdb_ci_service_technical", "name=D"), [])

    def test_2_4_limit_comes_before_acls(self):
        self.companies(10)
        self.load(acl=[{"table": "core_company", "hide": "nameLIKE00"}])
        page = self.rows("core_company", "city=Metropolis^ORDERBYname", limit=5)
        self.assertEqual(page, [])
        answer = self.get("core_company", "city=Metropolis^ORDERBYname", limit=5)
        self.assertEqual(answer.headers["x-total-count"], "10")

    def test_2_4_order_without_orderby_is_not_defined(self):
        self.companies(60)
        orders = {tuple(r["name"] for r in self.rows(
            "core_company", "city=Metropolis", fields="name"))
            for _ in range(3)}
        self.assertGreater(len(orders), 1)

    def test_2_4_negative_offset(self):
        self.assertEqual(self.get("core_company", offset=-1).status, 400)

    def test_2_6_keyset_scan(self):
        self.companies(23)
        last, seen = "", []
        while True:
            page = self.rows("core_company", "sys_id>%s^ORDERBYsys_id" % last,
                             limit=7, fields="sys_id")
            if not page:
                break
            seen += [r["sys_id"] for r in page]
            last = seen[-1]
        self.assertEqual(len(seen), len(set(seen)))
        self.assertEqual(len(seen), len(self.dump("core_company")))

    def test_2_4_shorthand_condition(self):
        self.companies(3)
        answer = self.call("GET", "/api/now/table/core_company",
                           query={"name": "Co 001", "bogus": "x"})
        self.assertEqual(len(answer.result), 1)


class Query(Case):
    def setUp(self):
        super().setUp()
        self.load(core_company=[
            {"name": "Alpha", "city": "x1", "stock_symbol": "q", "vendor": "true"},
            {"name": "Beta", "city": "x2", "stock_symbol": "q"},
            {"name": "Gamma", "city": "x3", "stock_symbol": "q", "notes": "free text"},
            {"name": "Delta", "stock_symbol": "q", "contact": ADMIN}])

    def names(self, query):
        rows = self.rows("core_company", "stock_symbol=q^" + query,
                         fields="name")
        return sorted(r["name"] for r in rows)

    def test_2_5_operators(self):
        cases = {
            "name=alpha": ["Alpha"], "name!=Alpha": ["Beta", "Delta", "Gamma"],
            "nameLIKEamm": ["Gamma"], "name*ELT": ["Delta"],
            "nameNOT LIKEta": ["Alpha", "Gamma"], "name!*ta": ["Alpha", "Gamma"],
            "nameSTARTSWITHBe": ["Beta"], "nameENDSWITHta": ["Beta", "Delta"],
            "name%ta": ["Beta", "Delta"], "nameINAlpha,Beta": ["Alpha", "Beta"],
            "nameNOT INAlpha,Beta": ["Delta", "Gamma"], "city<x2": ["Alpha"],
            "city>=x2": ["Beta", "Gamma"], "cityBETWEENx1@x2": ["Alpha", "Beta"],
            "cityISEMPTY": ["Delta"], "cityISNOTEMPTY": ["Alpha", "Beta", "Gamma"],
            "cityEMPTYSTRING": ["Delta"],
            "cityANYTHING": ["Alpha", "Beta", "Delta", "Gamma"],
            "nameSAMEAScity": [], "nameNSAMEAScity": ["Alpha", "Beta", "Delta",
                                                     "Gamma"],
            "nameLT_FIELDcity": ["Alpha", "Beta", "Gamma"],
            "contact.email=admin@example.com": ["Delta"],
            "contact=" + ADMIN: ["Delta"], "contactLIKEadminis": ["Delta"],
            "vendor=true": ["Alpha"], "vendor!=true": ["Beta", "Delta", "Gamma"],
            "123TEXTQUERY321=free text": ["Gamma"]}
        for query, want in cases.items():
            self.assertEqual(self.names(query), want, query)

    def test_2_5_or_binds_tighter_than_and(self):
        self.assertEqual(self.names("cityISNOTEMPTY^name=Alpha^ORname=Delta"),
                         ["Alpha"])
        self.assertEqual(self.names("name=Alpha^NQname=Delta"),
                         ["Alpha", "Delta"])
        self.assertEqual(self.names("name=Alpha^EQ"), ["Alpha"])

    def test_2_5_live_invalid_parts_are_dropped(self):
        everything = ["Alpha", "Beta", "Delta", "Gamma"]
        self.assertEqual(self.names("nmae=Alpha"), everything)
        self.assertEqual(self.names("name=Alpha^AAAA=1^second=2"), ["Alpha"])
        self.assertEqual(self.names("nameFOOAlpha"), everything)
        self.load(sys_properties=[{"name": "glide.invalid_query.returns_no_rows",
                                   "value": "true"}])
        self.assertEqual(self.names("nmae=Alpha"), [])

    def test_2_5_order(self):
        rows = self.rows("core_company", "ORDERBYDESCname^stock_symbol=q",
                         fields="name")
        self.assertEqual([r["name"] for r in rows],
                         ["Gamma", "Delta", "Beta", "Alpha"])
        rows = self.rows("core_company",
                         "stock_symbol=q^ORDERBYvendor^ORDERBYDESCname",
                         fields="name")
        self.assertEqual([r["name"] for r in rows],
                         ["Gamma", "Delta", "Beta", "Alpha"])

    def test_2_5_live_related_list_and_join(self):
        names = lambda q: [r["user_name"] for r in self.rows(     # noqa: E731
            "sys_user", q, fields="user_name")]
        self.assertEqual(names("RLQUERYcore_company.contact,>0^ENDRLQUERY"),
                         ["admin"])
        self.assertEqual(names(
            "RLQUERYcore_company.contact,>=1^name=Nope^ENDRLQUERY"), [])
        self.assertEqual(names(
            "JOINsys_user.sys_id=core_company.contact!name=Delta"), ["admin"])

    def test_2_5_times_in_the_users_zone(self):
        self.load(core_company=[{"name": "T", "stock_symbol": "q",
                                 "sys_updated_on": "2026-01-01 05:00:00"}])
        # Los Angeles is 8 hours behind: in its zone this is December 31
        query = "sys_updated_on>=2025-12-31 00:00:00^sys_updated_on<2026-01-01"
        self.assertEqual(self.names(query), ["T"])
        self.assertEqual(self.names("sys_updated_on=2025-12-31 21:00:00"), ["T"])
        self.assertEqual(self.names("sys_updated_on=2026-01-01 05:00:00"), [])
        user = self.rows("sys_user", "user_name=sync")[0]["sys_id"]
        self.load(sys_user=[{"sys_id": user, "time_zone": "UTC"}])
        self.assertEqual(self.names("sys_updated_on=2026-01-01 05:00:00"), ["T"])
        self.assertEqual(self.names("sys_updated_on>=javascript:gs.dateGenerate"
                                    "('2026-01-01','05:00:00')^name=T"), ["T"])
        self.assertEqual(self.names("sys_updated_onON2026-01-01@2026-01-01@"
                                    "2026-01-01"), ["T"])

    def test_2_5_relative_times(self):
        self.make("core_company", {"name": "Now", "stock_symbol": "q"})
        self.assertEqual(self.names("sys_created_onRELATIVEGT@hour@ago@1"),
                         ["Now"])
        self.assertEqual(self.names("sys_created_onRELATIVELT@hour@ago@1"),
                         ["Alpha", "Beta", "Delta", "Gamma"])
        self.assertEqual(
            self.names("sys_created_on>javascript:gs.daysAgoStart(1)"), ["Now"])

    def test_2_5_user_and_class(self):
        self.assertEqual([r["user_name"] for r in self.rows(
            "sys_user", "sys_id=javascript:gs.getUserID()")], ["sync"])
        self.load(cmdb_ci_linux_server=[{"name": "L"}])
        self.assertEqual(len(self.rows(
            "cmdb_ci", "sys_class_nameINSTANCEOFcmdb_ci_server")), 1)
        self.assertEqual(len(self.rows(
            "cmdb_ci", "sys_class_name=cmdb_ci_server")), 0)


class Writing(Case):
    def test_0_8_live_unknown_fields_are_dropped_with_201(self):
        answer = self.call("POST", "/api/now/table/core_company",
                           {"name": "C", "bunk_field": "x"})
        self.assertEqual(answer.status, 201)
        self.assertNotIn("bunk_field", answer.result)
        self.assertEqual(answer.headers["location"],
                         "https://dev00001.service-now.com/api/now/table/"
                         "core_company/" + answer.result["sys_id"])

    def test_0_8_the_table_api_never_upserts(self):
        self.make("core_company", {"name": "Same"})
        self.make("core_company", {"name": "Same"})
        self.assertEqual(len(self.rows("core_company", "name=Same")), 2)

    def test_2_8_live_sys_id_of_the_caller_is_used(self):
        key = "ABCDEF0123456789ABCDEF0123456789"
        self.assertEqual(self.make("core_company", {
            "name": "C", "sys_id": key})["sys_id"], key)
        self.make("core_company", {"name": "D", "sys_id": key}, status=403)

    def test_2_8_first_of_an_array(self):
        self.assertEqual(self.make("core_company", [
            {"name": "One"}, {"name": "Two"}])["name"], "One")

    def test_2_8_truncation_choices_numbers_defaults(self):
        row = self.make("cmdb_ci_business_app", {
            "name": "n" * 300, "business_criticality": "5 - unclassified",
            "install_status": "42", "active_user_count": "many",
            "owned_by": "not a sys_id", "description": "x"})
        self.assertEqual(len(row["name"]), 255)
        self.assertEqual(row["business_criticality"], "")
        self.assertEqual(row["install_status"], "1")
        self.assertEqual(row["active_user_count"], "")
        self.assertEqual(row["owned_by"]["value"], "not a sys_id")
        self.assertEqual(row["number"], "APM0001001")
        self.assertNotIn("description", row)        # no such column (§10.1)

    def test_2_8_input_display_value(self):
        answer = self.call(
            "POST", "/api/now/table/cmdb_ci_business_app",
            {"name": "A", "owned_by": "System Administrator",
             "install_status": "Retired"},
            query={"sysparm_input_display_value": "true",
                   "sysparm_exclude_reference_link": "true"})
        self.assertEqual(answer.result["owned_by"], ADMIN)
        self.assertEqual(answer.result["install_status"], "8")

    def test_2_8_class_by_sys_class_name(self):
        row = self.make("cmdb_ci", {"name": "A",
                                    "sys_class_name": "cmdb_ci_linux_server"})
        self.assertEqual(row["sys_class_name"], "cmdb_ci_linux_server")

    def test_2_9_put_is_patch(self):
        row = self.make("core_company", {"name": "C", "city": "X"})
        path = "/api/now/table/core_company/" + row["sys_id"]
        for method in ("PUT", "PATCH"):
            answer = self.call(method, path, {"phone": method})
            self.assertEqual((answer.status, answer.result["city"]), (200, "X"))
        count = answer.result["sys_mod_count"]
        self.assertEqual(count, "2")
        # nothing changes, nothing is bumped
        answer = self.call("PATCH", path, {"phone": "PATCH"})
        self.assertEqual(answer.result["sys_mod_count"], count)
        answer = self.call("PATCH", path, {"city": ""})
        self.assertEqual(answer.result["city"], "")
        self.assertEqual(self.call("PATCH", path[:-1] + "_", {}).status, 404)

    def test_2_9_choice_fields_are_not_cleared(self):
        row = self.make("cmdb_ci_service_auto", {"name": "S", "comments": "c",
                                                 "environment": "Test"})
        answer = self.call("PATCH", "/api/now/table/cmdb_ci_service_auto/"
                           + row["sys_id"], {"environment": "", "comments": ""})
        self.assertEqual((answer.result["environment"],
                          answer.result["comments"]), ("Test", ""))

    def test_2_10_live_delete(self):
        row = self.make("cmdb_ci_business_app", {"name": "A"})
        path = "/api/now/table/cmdb_ci/" + row["sys_id"]
        answer = self.call("DELETE", path)
        self.assertEqual((answer.status, answer.body), (204, b""))
        self.assertEqual(self.call("DELETE", path).status, 404)
        self.assertEqual(self.rows("sys_audit_delete", user="admin")[0][
            "documentkey"], row["sys_id"])

    def test_2_3_write_acl(self):
        answer = self.call("POST", "/api/now/table/core_company",
                           {"name": "C"}, user="reader")
        self.assertEqual(answer.status, 403)
        self.assertEqual(answer.json["error"], {
            "message": "Operation Failed", "detail": "ACL Exception Insert "
            "Failed due to security constraints"})
        self.assertEqual(self.get("cmdb_ci", user="reader").json["error"][
            "message"], "Insufficient rights to query records")
        self.make("sys_choice", {"name": "cmdb_ci"}, status=403)

    def test_2_3_business_rule_abort(self):
        self.load(abort_rules=[{"table": "core_company", "name": "No way",
                                "query": "name=Bad", "when": ["insert"]}])
        answer = self.make("core_company", {"name": "Bad"}, status=403)
        self.assertRegex(
            answer.json["error"]["detail"],
            r"^Operation against file 'core_company' was aborted by Business "
            r"Rule 'No way\^[0-9a-f]{32}'\. Business Rule Stack:No way$")

    def test_10_5_contracts(self):
        answer = self.make("ast_contract", {"short_description": "x"}, status=403)
        self.assertIn("mandatory: Contract number, Contract model",
                      answer.json["error"]["detail"])
        model = self.rows("cmdb_contract_product_model", "name=Maintenance")[0]
        row = self.make("ast_contract", {
            "vendor_contract": "C-1", "contract_model": model["sys_id"],
            "state": "active", "ends": "2027-01-31"})
        self.assertEqual((row["number"], row["state"], row["ends"]),
                         ("CNTR0001001", "draft", "2027-01-31"))
        path = "/api/now/table/ast_contract/" + row["sys_id"]
        self.load(ast_contract=[{"sys_id": row["sys_id"], "state": "active"}])
        answer = self.call("PATCH", path, {"ends": "2028-01-31",
                                           "description": "d"})
        self.assertEqual((answer.result["ends"], answer.result["description"]),
                         ("2027-01-31", "d"))
        self.switch(contract_dates_after_draft="refuse")
        self.assertEqual(self.call("PATCH", path, {"ends": "2028-01-31"}).status,
                         403)

    def test_10_4_model_display_name_is_computed(self):
        maker = self.rows("core_company", "name=Microsoft")[0]["sys_id"]
        row = self.make("cmdb_software_product_model", {
            "name": "Excel", "version": "16", "manufacturer": maker,
            "display_name": "mine"})
        self.assertEqual(row["display_name"], "Microsoft Excel 16")
        self.switch(sam_rules=True)
        self.make("cmdb_software_product_model", {"name": "B"}, status=403)

    def test_10_7_unique_names(self):
        self.make("sys_user_group", {"name": "Database"}, user="admin",
                  status=403)

    def test_10_8_relations_are_not_unique_here(self):
        row = self.make("cmdb_ci_business_app", {"name": "A"})["sys_id"]
        for _ in range(2):
            self.make("cmdb_rel_ci", {"parent": row, "child": row})
        self.assertEqual(self.stats()["duplicates"]["relations"]["count"], 1)

    def test_10_13_life_cycle_sync(self):
        self.switch(life_cycle_sync=True)
        answer = self.call("POST", "/api/now/table/cmdb_ci_business_app",
                           {"name": "A", "operational_status": "6"},
                           query={"sysparm_display_value": "true",
                                  "sysparm_exclude_reference_link": "true"})
        self.assertEqual((answer.result["life_cycle_stage"],
                          answer.result["life_cycle_stage_status"]),
                         ("End of Life", "Retired"))
        answer = self.call("PATCH", "/api/now/table/cmdb_ci_business_app/"
                           + self.dump("cmdb_ci_business_app")[0]["sys_id"],
                           {"operational_status": "8"},
                           query={"sysparm_display_value": "true",
                                  "sysparm_exclude_reference_link": "true"})
        self.assertEqual(answer.result["life_cycle_stage"], "TBD")


class Dictionary(Case):
    def test_12_probes_of_a_connection_test(self):
        tables = {r["name"]: r for r in self.rows(
            "sys_db_object", "nameINcmdb_ci_service_auto,alm_product_model",
            fields="name,super_class.name", exclude_reference_link="true")}
        self.assertEqual(list(tables), ["cmdb_ci_service_auto"])
        self.assertEqual(tables["cmdb_ci_service_auto"]["super_class.name"],
                         "cmdb_ci_service")
        rows = self.rows(
            "sys_dictionary", "nameINcmdb_ci_business_app,cmdb_ci"
            "^elementISNOTEMPTY", fields="name,element,internal_type,"
            "max_length,mandatory,reference,choice",
            exclude_reference_link="true")
        columns = {r["element"]: r for r in rows}
        self.assertEqual(columns["it_application_owner"]["mandatory"], "true")
        self.assertEqual(columns["life_cycle_stage"]["reference"],
                         "life_cycle_stage")
        self.assertEqual(columns["short_description"]["max_length"], "1000")
        self.assertEqual(columns["name"]["name"], "cmdb_ci")
        self.assertNotIn("busines_criticality", columns)
        roles = self.rows("sys_user_has_role", fields="role.name,user.user_name")
        self.assertEqual({r["role.name"] for r in roles},
                         {"itil", "contract_manager", "asset"})
        self.assertEqual({r["user.user_name"] for r in roles}, {"sync"})

    def test_12_properties_are_often_not_readable(self):
        self.assertEqual(self.get("sys_properties").status, 403)
        rows = self.rows("sys_properties", "name=instance_name", user="admin")
        self.assertEqual(rows[0]["value"], "dev00001")
        self.switch(hardened_dictionary=True)
        self.assertEqual(self.get("sys_dictionary").status, 403)

    def test_10_11_choices_of_a_child_replace_its_parents(self):
        values = {r["label"]: r["value"] for r in self.rows(
            "sys_choice", "name=cmdb_ci_business_app^element=install_status")}
        self.assertEqual(set(values), {"Implementing", "In Production", "Pilot",
                                       "Retired"})
        self.assertNotEqual(values["Retired"], "7")
        sources = [r["value"] for r in self.rows(
            "sys_choice", "name=cmdb_ci^element=discovery_source")]
        self.assertIn("Other Automated", sources)
        self.assertNotIn("GetInSync", sources)


class Aggregate(Case):
    def stats_of(self, **parameters):
        query = {"sysparm_" + n: v for n, v in parameters.items()}
        return self.call("GET", "/api/now/stats/cmdb_ci", query=query)

    def test_9_count_groups_and_missing_function(self):
        self.load(cmdb_ci_service_auto=[{"name": "1"}, {"name": "2"}],
                  cmdb_ci_business_app=[{"name": "3"}])
        self.assertEqual(self.stats_of(count="true").result,
                         {"stats": {"count": "3"}})
        self.assertEqual(self.stats_of(count="true",
                                       group_by="sys_class_name").result, [
            {"stats": {"count": "1"}, "groupby_fields": [
                {"field": "sys_class_name", "value": "cmdb_ci_business_app"}]},
            {"stats": {"count": "2"}, "groupby_fields": [
                {"field": "sys_class_name", "value": "cmdb_ci_service_auto"}]}])
        answer = self.stats_of()
        self.assertEqual((answer.status, answer.json["error"]["message"]), (
            400, "No request parameter for aggregate operation specified"))
        self.assertEqual(len(self.stats_of(
            count="true", group_by="sys_class_name",
            having="count^sys_class_name^>^1").result), 1)
        self.assertEqual(self.stats_of(max_fields="name").result["stats"],
                         {"max": {"name": "3"}})


class Sessions(Case):
    def test_0_12_shared_cookie_gives_202(self):
        cookie = self.get("sys_user").headers["set-cookie"].partition(";")[0]
        statuses = []

        def send():
            connection = self.sim.connect()
            statuses.append(self.call(
                "GET", "/api/now/table/sys_user", headers={"Cookie": cookie},
                connection=connection).status)
            connection.close()
        self.switch(latency_ms=200)
        threads = [threading.Thread(target=send) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(statuses), [200, 202, 202])
