"""CMDB Instance (§3), CMDB Meta (§4), Batch (§6), Import Set (§7)."""
import base64
import json

from support import ADMIN, SOURCE, Case, app, error_codes


class InstanceApi(Case):
    PATH = "/api/now/cmdb/instance/"

    def post(self, table, status=200, **body):
        answer = self.call("POST", self.PATH + table,
                           dict({"source": SOURCE}, **body))
        self.assertEqual(answer.status, status, answer.body)
        return answer.result if status == 200 and answer.body else answer

    def kind(self, name="Consumes::Consumed by"):
        return self.rows("cmdb_rel_type", "name=" + name)[0]["sys_id"]

    def test_3_live_refusal_is_the_ire_envelope(self):
        result = self.post("cmdb_ci_business_app", attributes={
            "name": "A", "it_application_owner": ADMIN})
        item = result["items"][0]
        self.assertEqual(error_codes(item), ["INVALID_INPUT_DATA"])
        self.assertIn("invalid data source [GetInSync]",
                      item["errors"][0]["message"])
        self.assertEqual(item["sysId"], "Unknown")

    def test_3_source_is_required(self):
        self.register()
        self.post("cmdb_ci_business_app", 400, source="", attributes={})

    def test_3_post_upserts_by_rule(self):
        self.register()
        values = {"name": "A", "it_application_owner": ADMIN,
                  "discovery_source": "Manual Entry"}
        first = self.post("cmdb_ci_business_app", attributes=values)
        again = self.post("cmdb_ci_business_app",
                          attributes=dict(values, url="u"))
        self.assertEqual(again["attributes"]["sys_id"],
                         first["attributes"]["sys_id"])
        self.assertEqual(again["attributes"]["url"], "u")
        self.assertEqual(again["attributes"]["discovery_source"], SOURCE)
        self.assertEqual(again["attributes"]["it_application_owner"]["value"],
                         ADMIN)
        self.assertEqual(self.dump("sys_object_source"), [])

    def test_3_relations_take_sys_ids(self):
        self.register()
        one = self.post("cmdb_ci_service_auto", attributes={"name": "S"})
        target = one["attributes"]["sys_id"]
        relation = {"type": self.kind(), "target": target}
        values = {"name": "A", "it_application_owner": ADMIN}
        two = self.post("cmdb_ci_business_app", attributes=values,
                        outbound_relations=[relation])
        shown = two["outbound_relations"][0]
        self.assertEqual(shown["target"]["value"], target)
        self.assertEqual(shown["type"]["display_value"], "Consumes::Consumed by")
        path = "%scmdb_ci_business_app/%s" % (self.PATH,
                                              two["attributes"]["sys_id"])
        answer = self.call("POST", path + "/relation", {
            "source": SOURCE, "outbound_relations": [relation]})
        self.assertEqual(len(answer.result["outbound_relations"]), 1)
        answer = self.call("DELETE", path + "/relation/" + shown["sys_id"])
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(self.dump("cmdb_rel_ci"), [])
        # names, as in IRE, are refused; empty arrays have been rejected
        self.post("cmdb_ci_business_app", 400, attributes=values,
                  outbound_relations=[{"type": "Uses::Used by",
                                       "target": target}])
        self.post("cmdb_ci_business_app", 400, attributes=values,
                  inbound_relations=[])

    def test_3_update_list_and_no_delete(self):
        self.register()
        known = self.post("cmdb_ci_service_auto", attributes={
            "name": "S", "comments": "c"})["attributes"]["sys_id"]
        for method in ("PUT", "PATCH"):
            answer = self.call(method, self.PATH + "cmdb_ci_service_auto/" + known,
                               {"source": SOURCE, "attributes": {"version": method}})
            self.assertEqual(answer.status, 200)
        self.assertEqual((answer.result["attributes"]["version"],
                          answer.result["attributes"]["comments"]),
                         ("PATCH", "c"))
        answer = self.call("GET", self.PATH + "cmdb_ci_service")
        self.assertEqual(answer.result, [{"sys_id": known, "name": "S"}])
        self.assertEqual(self.call(
            "DELETE", self.PATH + "cmdb_ci_service_auto/" + known).status, 405)
        self.assertEqual(self.call(
            "PATCH", self.PATH + "cmdb_ci_service_auto/" + "0" * 32,
            {"source": SOURCE}).status, 404)
        self.assertEqual(self.call("GET", self.PATH + "cmdb_ci",
                                   user="noitil").status, 403)


class MetaApi(Case):
    def test_4_rule_and_mandatory_columns(self):
        answer = self.call("GET", "/api/now/cmdb/meta/cmdb_ci_business_app")
        result = answer.result
        columns = {a["element"]: a for a in result["attributes"]}
        self.assertEqual(columns["it_application_owner"]["is_mandatory"], "true")
        self.assertEqual(columns["name"]["is_inherited"], "true")
        self.assertIs(result["identification_rules"]["is_independent"], True)
        self.assertEqual(result["identification_rules"]["identifiers"][0][
            "attributes"], "name")
        # a class without its own rule shows that of the nearest ancestor
        answer = self.call("GET", "/api/now/cmdb/meta/cmdb_ci_service_discovered")
        self.assertEqual(answer.result["identification_rules"]["applies_to"],
                         "cmdb_ci_service_auto")
        self.assertEqual(self.call("GET", "/api/now/cmdb/meta/nope").status, 404)


class Batch(Case):
    def batch(self, requests, headers=None, **more):
        body = dict({"batch_request_id": "b", "rest_requests": requests}, **more)
        return self.call("POST", "/api/now/v1/batch", body, headers=headers)

    @staticmethod
    def part(key, method, url, body=None, **more):
        headers = [{"name": "Accept", "value": "application/json"}]
        part = dict({"id": key, "method": method, "url": url}, **more)
        if method != "GET":
            headers.append({"name": "Content-Type",
                            "value": "application/json"})
            part["body"] = base64.b64encode(json.dumps(body).encode()).decode()
        part.setdefault("headers", headers)
        return part

    def test_6_parts_and_statuses(self):
        answer = self.batch([
            self.part("a", "POST", "/api/now/table/core_company", {"name": "C"}),
            self.part("b", "GET", "/api/now/table/core_company"
                      "?sysparm_query=name%3DC&sysparm_fields=name"),
            self.part("c", "GET", "/api/now/table/nope",
                      exclude_response_headers=True)])
        self.assertEqual(answer.status, 200)
        parts = {p["id"]: p for p in answer.json["serviced_requests"]}
        self.assertEqual([parts[k]["status_code"] for k in "abc"],
                         [201, 200, 400])
        self.assertEqual(json.loads(base64.b64decode(parts["b"]["body"])),
                         {"result": [{"name": "C"}]})
        self.assertIn({"name": "X-Total-Count", "value": "1"},
                      parts["b"]["headers"])
        self.assertNotIn("headers", parts["c"])
        self.assertEqual(answer.json["unserviced_requests"], [])
        stats = self.stats()
        self.assertEqual(stats["requests"], 1)
        self.assertEqual(stats["batch_subrequests"]["total"], 3)
        self.assertEqual(stats["writes"], 1)
        self.assertEqual(stats["batch_subrequests"]["by_endpoint"][
            "POST /api/now/table/core_company"], 1)

    def test_6_live_number_id_comes_back_as_text(self):
        self.assertEqual(self.batch([], batch_request_id=7).json[
            "batch_request_id"], "7")

    def test_6_only_the_versioned_url(self):
        answer = self.call("POST", "/api/now/batch", {"rest_requests": []})
        self.assertEqual(answer.status, 400)

    def test_6_parts_need_their_own_headers(self):
        answer = self.batch([self.part("a", "GET", "/api/now/table/sys_user",
                                       headers=[])])
        self.assertEqual(answer.json["serviced_requests"][0]["status_code"], 400)

    def test_2_5_live_long_query_works_inside_a_batch(self):
        url = ("/api/now/table/sys_user?sysparm_suppress_pagination_header="
               "true&sysparm_query=user_name%3Dsync%5EORname%3D" + "x" * 11000)
        answer = self.batch([self.part("a", "GET", url)])
        self.assertEqual(answer.json["serviced_requests"][0]["status_code"], 200)

    def test_6_budget_leaves_the_rest_unserviced(self):
        self.switch(batch_request_ms=10000)
        parts = [self.part(str(n), "GET", "/api/now/table/sys_user?sysparm_limit=1")
                 for n in range(5)]
        answer = self.batch(parts)
        self.assertEqual(len(answer.json["serviced_requests"]), 3)
        self.assertEqual(answer.json["unserviced_requests"], ["3", "4"])

    def test_6_caps(self):
        self.switch(batch_max_input=100)
        big = self.part("a", "POST", "/api/now/table/core_company",
                        {"notes": "x" * 200})
        answer = self.batch([big])
        self.assertGreaterEqual(
            answer.json["serviced_requests"][0]["status_code"], 400)
        answer = self.batch(
            [self.part("a", "GET", "/api/now/table/sys_user")],
            headers={"X-BATCHREQUEST-MAX-OUTPUT-SIZE": "50"})
        self.assertEqual(answer.json["serviced_requests"][0]["status_code"], 500)
        bad = self.part("a", "POST", "/api/now/table/core_company", {})
        bad["body"] = "{not base64}"
        self.assertEqual(self.batch([bad]).json["serviced_requests"][0][
            "status_code"], 400)

    def test_6_ire_inside_a_batch(self):
        self.register()
        answer = self.batch([self.part(
            "a", "POST", "/api/now/identifyreconcile/enhanced"
            "?sysparm_data_source=GetInSync", {"items": [app("A")]})])
        body = base64.b64decode(answer.json["serviced_requests"][0]["body"])
        self.assertEqual(json.loads(body)["result"]["items"][0]["operation"],
                         "INSERT")

    def test_6_malformed(self):
        self.assertEqual(self.call("POST", "/api/now/v1/batch", {}).status, 400)
        self.assertEqual(self.batch([{"id": "a"}]).status, 400)
        self.assertEqual(self.batch([self.part(
            "a", "GET", "http://elsewhere/api")]).status, 400)


class ImportSets(Case):
    def test_7_one_row_is_transformed_within_the_call(self):
        path = "/api/now/import/imp_company"
        statuses = []
        for web in ("http://a", "http://a", "http://b"):
            answer = self.call("POST", path, {"company": "C", "web": web})
            self.assertEqual(answer.status, 201)
            statuses.append(answer.json["result"][0]["status"])
        self.assertEqual(statuses, ["inserted", "ignored", "updated"])
        self.assertEqual(answer.json["staging_table"], "imp_company")
        self.assertTrue(answer.json["import_set"].startswith("ISET"))
        staged = self.dump("imp_company")[0]["sys_id"]
        self.assertEqual(self.call("GET", path + "/" + staged).json["result"][0][
            "table"], "core_company")

    def test_7_many_rows_by_label(self):
        answer = self.call("POST", "/api/now/import/imp_company/insertMultiple",
                           {"records": [{"Company": "A"}, {"Company": "B"},
                                        {"company": "lost"}]})
        self.assertEqual(answer.status, 201)
        self.assertIn("multi_import_set_id", answer.json)
        self.assertEqual(len(self.rows("core_company", "nameINA,B,lost")), 2)

    def test_7_no_transform_map_and_no_staging_table(self):
        answer = self.call("POST", "/api/now/import/sys_import_set_row", {})
        self.assertEqual((answer.status, answer.json["error"]["message"]),
                         (500, "null value in entry: transform_map=null"))
        self.assertEqual(self.call("POST", "/api/now/import/core_company",
                                   {}).status, 400)
