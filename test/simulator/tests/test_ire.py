"""Identification and Reconciliation (§0, §5), live-recorded facts first."""
import threading
import time

from support import ADMIN, SOURCE, Case, app, error_codes, service

NO_PARKING = ("partial_payloads:false,partial_commits:true,"
              "deduplicate_payloads:true,generate_summary:true")


class Live(Case):
    def test_0_4_unregistered_data_source_is_200_with_errors(self):
        result = self.ire([app("A", "k"), service("B")])
        self.assertTrue(result["hasError"])
        self.assertEqual(result["relations"], [])
        self.assertEqual(len(result["items"]), 2)
        for item in result["items"]:
            self.assertEqual(error_codes(item), ["INVALID_INPUT_DATA"])
            self.assertIn("invalid data source [GetInSync]",
                          item["errors"][0]["message"])
            self.assertEqual(item["sysId"], "Unknown")
            self.assertNotIn("operation", item)
        self.assertEqual(self.dump("cmdb_ci_business_app"), [])

    def test_0_4_data_source_in_the_body_is_ignored(self):
        self.register()
        result = self.ire([app("A")], source=None, sysparm_data_source=SOURCE)
        self.assertIn("invalid data source [null]",
                      result["items"][0]["errors"][0]["message"])

    def test_0_5_same_native_key_inserts_then_updates(self):
        self.register()
        first = self.ire([app("A", "application/1")])["items"][0]
        self.assertEqual(first["operation"], "INSERT")
        again = self.ire([app("A", "application/1")])["items"][0]
        self.assertEqual(again["operation"], "UPDATE")      # even when equal
        self.assertEqual(again["sysId"], first["sysId"])
        # no attribute match is needed: another name, the same CI
        third = self.ire([app("Other", "application/1")])["items"][0]
        self.assertEqual(third["sysId"], first["sysId"])
        self.assertEqual(third["identifierEntrySysId"], "Unknown")
        rows = self.dump("cmdb_ci_business_app")
        self.assertEqual([r["name"] for r in rows], ["Other"])
        source = self.dump("sys_object_source")
        self.assertEqual([(r["name"], r["id"], r["target_sys_id"])
                          for r in source],
                         [(SOURCE, "application/1", first["sysId"])])

    def test_0_6_relations_are_idempotent(self):
        self.register()
        body = ([app("A", "a"), service("S", "s")],
                [{"parent": 0, "child": 1, "type": "Consumes::Consumed by"}])
        first = self.ire(*body)["relations"][0]
        again = self.ire(*body)["relations"][0]
        self.assertEqual(first["operation"], "INSERT")
        self.assertEqual(again["operation"], "NO_CHANGE")
        self.assertEqual(again["sysId"], first["sysId"])
        self.assertEqual(len(self.dump("cmdb_rel_ci")), 1)

    def test_5_6_bad_relation_type_spoils_only_that_relation(self):
        self.register()
        result = self.ire(
            [app("A"), service("S")],
            [{"parent": 0, "child": 1, "type": "consumes::consumed by"},
             {"parent": 0, "child": 1, "type": "Uses::Used by"}],
            options=NO_PARKING)
        relations = self.by_input(result, "relations")
        self.assertEqual(error_codes(relations[0]), ["INVALID_INPUT_DATA"])
        self.assertIn("No such relationship with name [consumes::consumed by] "
                      "exist in table [cmdb_rel_type]",
                      relations[0]["errors"][0]["message"])
        self.assertEqual(relations[1]["operation"], "INSERT")
        self.assertEqual(len(self.dump("cmdb_ci", True)), 2)

    def test_5_3_service_by_name_alone_is_accepted(self):
        self.register()
        item = self.ire([service("S", table="cmdb_ci_service_discovered")])
        self.assertEqual(item["items"][0]["operation"], "INSERT")

    def test_5_5_parked_ids_are_not_cis(self):
        self.register()
        item = self.ire([{"className": "cmdb_ci_business_app",
                          "values": {"it_application_owner": ADMIN}}])["items"][0]
        self.assertEqual(item["operation"], "INSERT_AS_PARTIAL")
        self.assertEqual(item["sysId"], "Unknown")
        parked = item["partialSysIds"][0]
        self.assertEqual(self.call(
            "DELETE", "/api/now/table/cmdb_ci/" + parked).status, 404)

    def test_5_3_child_rule_replaces_the_inherited_one(self):
        self.register()
        self.load(cmdb_identifier=[{
            "sys_id": "a" * 32, "name": "Own", "independent": "true",
            "applies_to": "cmdb_ci_linux_server", "active": "true"}],
            cmdb_identifier_entry=[{
                "identifier": "a" * 32, "table": "cmdb_ci_linux_server",
                "attributes": "fqdn", "order": "100", "active": "true"}])
        item = self.ire([{"className": "cmdb_ci_linux_server", "values": {
            "name": "srv", "serial_number": "1"}}], options=NO_PARKING)["items"][0]
        self.assertEqual(error_codes(item), ["MISSING_MATCHING_ATTRIBUTES"])


class Requests(Case):
    def test_5_1_paths_and_versions(self):
        self.register()
        for path in ("", "/query", "/enhanced", "/queryEnhanced"):
            for version in ("", "v1/"):
                answer = self.call(
                    "POST", "/api/now/%sidentifyreconcile%s" % (version, path),
                    {"items": []}, query={"sysparm_data_source": SOURCE})
                self.assertEqual(answer.status, 200)
        answer = self.call("POST", "/api/now/identifyreconcileEnhanced", {})
        self.assertEqual(answer.status, 400)
        self.assertEqual(answer.json["error"]["message"],
                         "Requested URI does not represent any resource")

    def test_5_1_malformed_options_are_500(self):
        self.register()
        answer = self.ire([app("A")], options="partial_payloads", status=500)
        self.assertEqual(answer.json["error"]["message"],
                         "Chunk [partial_payloads] is not a valid entry")
        self.assertEqual(self.dump("cmdb_ci_business_app"), [])

    def test_5_1_role(self):
        self.register()
        self.assertEqual(self.ire([], user="noitil", status=403)
                         .json["error"]["message"], "User Not Authorized")

    def test_5_2_unknown_sys_id_is_invalid(self):
        self.register()
        item = self.ire([app("A", sys_id="0" * 32)], options=NO_PARKING)["items"][0]
        self.assertEqual(error_codes(item), ["INVALID_INPUT_DATA"])
        self.assertIn("0" * 32, item["errors"][0]["message"])

    def test_5_2_sys_id_locates_without_criteria(self):
        self.register()
        known = self.ire([app("A")])["items"][0]["sysId"]
        item = self.ire([{"className": "cmdb_ci_business_app",
                          "values": {"sys_id": known, "url": "http://x"}}])
        self.assertEqual(item["items"][0]["sysId"], known)
        self.assertEqual(self.dump("cmdb_ci_business_app")[0]["url"], "http://x")

    def test_5_2_relation_by_internal_id_and_bad_index(self):
        self.register()
        items = [dict(app("A"), internal_id="app-1"),
                 dict(service("S"), internal_id="dp-1")]
        result = self.ire(items, [
            {"parent_id": "app-1", "child_id": "dp-1",
             "type": "Consumes::Consumed by"},
            {"parent": 0, "child": 7, "type": "Consumes::Consumed by"}],
            options=NO_PARKING)
        relations = self.by_input(result, "relations")
        self.assertEqual(relations[0]["operation"], "INSERT")
        self.assertIn("invalid child record index: [7]",
                      relations[1]["errors"][0]["message"])

    def test_5_2_reference_items(self):
        self.register()
        items = [dict(service("Offer", table="service_offering"),
                      internal_id="o"),
                 dict(service("Tech", table="cmdb_ci_service_technical"),
                      internal_id="t")]
        result = self.ire(items, referenceItems=[
            {"referenced": "t", "referencedBy": "o", "referenceField": "parent"}])
        ids = {i: r["sysId"] for i, r in self.by_input(result).items()}
        self.assertEqual(self.dump("service_offering")[0]["parent"], ids[1])

    def test_5_2_system_columns_and_discovery_source_are_ignored(self):
        self.register()
        self.ire([app("A", discovery_source="Manual Entry",
                      sys_created_by="evil", nonsense="x")])
        row = self.dump("cmdb_ci_business_app")[0]
        self.assertEqual(row["discovery_source"], SOURCE)
        self.assertEqual(row["sys_created_by"], "sync")
        self.assertNotIn("nonsense", row)
        self.assertTrue(row["last_discovered"])

    def test_5_2_older_recency_is_skipped_without_error(self):
        self.register()
        item = app("A", "k", url="new")
        item["sys_object_source_info"]["source_recency_timestamp"] = \
            "2026-02-20 14:00:00"
        self.ire([item])
        item = app("A", "k", url="old")
        item["sys_object_source_info"]["source_recency_timestamp"] = \
            "2026-02-19 14:00:00"
        result = self.ire([item])
        self.assertFalse(result["hasError"])
        self.assertEqual(self.dump("cmdb_ci_business_app")[0]["url"], "new")

    def test_0_7_non_ci_tables_have_no_rule(self):
        self.register()
        result = self.ire([{"className": "core_company", "values": {"name": "C"}},
                           {"className": "nonsense", "values": {"name": "C"}}],
                          options=NO_PARKING)
        for item in result["items"]:
            self.assertEqual(error_codes(item), ["IDENTIFICATION_RULE_MISSING"])

    def test_5_7_accepted_foreign_tables_without_relations(self):
        self.register()
        result = self.ire(
            [{"className": "cmn_department", "values": {"name": "D"}}, app("A")],
            [{"parent": 0, "child": 1, "type": "Owns::Owned by"}],
            options=NO_PARKING)
        self.assertEqual(self.by_input(result)[0]["operation"], "INSERT")
        self.assertTrue(result["relations"][0]["errors"])

    def test_5_7_choice_through_rest_counts_after_a_while(self):
        self.make("sys_choice", {
            "name": "cmdb_ci", "element": "discovery_source", "value": SOURCE,
            "label": SOURCE, "language": "en"}, user="admin")
        self.assertTrue(self.ire([app("A")])["hasError"])
        self.advance(6)
        self.assertFalse(self.ire([app("A")])["hasError"])


class Matching(Case):
    def setUp(self):
        super().setUp()
        self.register()

    def test_5_3_attempts_are_told(self):
        item = self.ire([{"className": "cmdb_ci_linux_server",
                          "values": {"name": "srv"},
                          "sys_object_source_info": {
                              "source_name": SOURCE,
                              "source_native_key": "srv/1"}}])["items"][0]
        self.assertEqual([a["attemptResult"] for a in
                          item["identificationAttempts"]],
                         ["NO_MATCH", "SKIPPED", "NO_MATCH"])
        self.assertEqual(item["identificationAttempts"][2]["searchOnTable"],
                         "cmdb_ci_hardware")

    def test_5_3_native_mismatch_does_not_stop_a_name_match(self):
        first = self.ire([app("A", "k1")])["items"][0]
        second = self.ire([app("A", "k2")])["items"][0]
        self.assertEqual(second["sysId"], first["sysId"])
        self.assertEqual(
            [a["attemptResult"] for a in second["identificationAttempts"]],
            ["NO_MATCH", "MATCHED"])
        self.assertEqual(self.stats()["duplicates"]["merged"]["count"], 1)

    def test_5_3_skip_property(self):
        first = self.ire([app("A", "k")])["items"][0]["sysId"]
        self.load(sys_properties=[{
            "name": "glide.identification_engine.skip_sys_object_source_matching",
            "value": "true"}])
        second = self.ire([app("B", "k")])["items"][0]
        self.assertEqual(second["operation"], "INSERT")
        self.assertNotEqual(second["sysId"], first)

    def test_5_3_native_key_of_a_deleted_ci(self):
        first = self.ire([app("A", "k")])["items"][0]["sysId"]
        self.sim.sim("POST", "delete", {"cmdb_ci": [first]})
        second = self.ire([app("A", "k")])["items"][0]
        self.assertEqual(second["operation"], "INSERT")
        self.assertEqual(self.dump("sys_object_source")[0]["target_sys_id"],
                         second["sysId"])

    def test_5_3_spkg_needs_name_and_version(self):
        item = {"className": "cmdb_ci_spkg", "values": {"name": "P"}}
        self.assertEqual(error_codes(self.ire(
            [item], options=NO_PARKING)["items"][0]),
            ["MISSING_MATCHING_ATTRIBUTES"])
        for version in ("1", "2"):
            item["values"]["version"] = version
            self.assertEqual(self.ire([item])["items"][0]["operation"], "INSERT")
        self.assertEqual(len(self.dump("cmdb_ci_spkg")), 2)

    def test_5_6_duplicates_oldest_wins_or_error(self):
        ids = []
        for n in range(3):
            ids += self.load(cmdb_ci_business_app=[{
                "name": "Dup", "sys_created_on": "2025-01-0%d 00:00:00"
                % (3 - n)}])["cmdb_ci_business_app"]
        item = self.ire([app("Dup")])["items"][0]
        self.assertEqual(item["sysId"], ids[2])
        self.assertEqual(item["identificationAttempts"][0]["attemptResult"],
                         "MULTI_MATCH")
        rows = {r["sys_id"]: r.get("duplicate_of")
                for r in self.dump("cmdb_ci_business_app")}
        self.assertEqual(rows, {ids[0]: ids[2], ids[1]: ids[2], ids[2]: None})
        # a known duplicate is an invalid sys_id
        item = self.ire([app("Dup", sys_id=ids[0])], options=NO_PARKING)["items"][0]
        self.assertEqual(error_codes(item), ["INVALID_INPUT_DATA"])

    def test_5_6_more_duplicates_than_the_threshold(self):
        self.load(cmdb_ci_business_app=[{"name": "Dup"}] * 6)
        item = self.ire([app("Dup")], options=NO_PARKING)["items"][0]
        self.assertEqual(error_codes(item), ["MULTIPLE_DUPLICATE_RECORDS"])

    def test_5_5_payload_duplicates_share_one_result(self):
        result = self.ire([app("A"), service("S"), app("A", url="u")])
        self.assertEqual(len(result["items"]), 2)
        self.assertEqual(sorted(self.by_input(result)[0]["inputIndices"]), [0, 2])
        self.assertEqual(len(self.dump("cmdb_ci_business_app")), 1)

    def test_5_5_order_is_not_promised(self):
        items = [service("S%d" % n) for n in range(40)]
        result = self.ire(items)
        order = [i["inputIndices"][0] for i in result["items"]]
        self.assertEqual(sorted(order), list(range(40)))
        self.assertNotEqual(order, sorted(order))

    def test_5_2_dependent_class_needs_its_host(self):
        appl = {"className": "cmdb_ci_appl", "values": {"name": "nginx"}}
        host = {"className": "cmdb_ci_linux_server", "values": {"name": "h"}}
        self.assertEqual(error_codes(self.ire(
            [appl], options=NO_PARKING)["items"][0]), ["MISSING_DEPENDENCY"])
        relation = [{"parent": 0, "child": 1, "type": "Runs on::Runs"}]
        first = self.ire([appl, host], relation)
        again = self.ire([appl, host], relation)
        self.assertEqual(self.by_input(again)[0]["operation"], "UPDATE")
        self.assertEqual(self.by_input(again)[0]["sysId"],
                         self.by_input(first)[0]["sysId"])

    def test_5_7_more_general_class_downgrades(self):
        known = self.load(cmdb_ci_service_discovered=[{"name": "S"}])[
            "cmdb_ci_service_discovered"][0]
        item = service("S")
        item["settings"] = {"updateWithoutDowngrade": "true"}
        kept = self.ire([item])["items"][0]
        self.assertEqual((kept["operation"], kept["sysId"]), ("UPDATE", known))
        self.assertEqual(kept["info"][0]["code"], "SKIPPED_CLASS_DOWNGRADE")
        self.assertEqual(len(self.dump("cmdb_ci_service_discovered")), 1)
        lost = self.ire([service("S")])["items"][0]
        self.assertEqual(lost["operation"], "UPDATE_WITH_DOWNGRADE")
        self.assertEqual(self.dump("cmdb_ci_service_discovered"), [])
        back = self.ire([service("S", table="cmdb_ci_service_discovered")])
        # the rule of the class searches cmdb_ci_service_auto
        self.assertEqual(back["items"][0]["operation"], "UPDATE_WITH_UPGRADE")

    def test_5_6_reclassification_denied(self):
        self.switch(ire_reclassification="deny")
        self.load(cmdb_ci_service_discovered=[{"name": "S"}])
        item = self.ire([service("S")], options=NO_PARKING)["items"][0]
        self.assertEqual(error_codes(item), ["RECLASSIFICATION_NOT_ALLOWED"])


class Writing(Case):
    def setUp(self):
        super().setUp()
        self.register()

    def test_5_4_mandatory_columns_are_enforced(self):
        item = {"className": "cmdb_ci_business_app", "values": {"name": "A"}}
        refused = self.ire([item], options=NO_PARKING)["items"][0]
        self.assertEqual(error_codes(refused), ["REQUIRED_ATTRIBUTE_EMPTY"])
        self.assertIn("[it_application_owner] in table [cmdb_ci_business_app]",
                      refused["errors"][0]["message"])
        parked = self.ire([item])["items"][0]
        self.assertEqual(parked["operation"], "INSERT_AS_INCOMPLETE")
        self.assertEqual(len(parked["incompleteSysIds"]), 1)
        self.load(sys_properties=[{"name": "glide.required.attribute.enabled",
                                   "value": "false"}])
        self.assertEqual(self.ire([item])["items"][0]["operation"], "INSERT")

    def test_5_4_masked_attributes(self):
        self.register("Other Automated 2")
        self.load(cmdb_reconciliation_definition=[{
            "name": "r", "applies_to": "cmdb_ci", "priority": "10",
            "discovery_source": "Other Automated 2", "active": "true",
            "attributes": "short_description"}])
        self.ire([app("A", short_description="theirs")],
                 source="Other Automated 2")
        item = self.ire([app("A", short_description="ours", url="u")])["items"][0]
        self.assertEqual(item["maskedAttributes"], ["short_description"])
        self.assertEqual(item["errors"], [])
        row = self.dump("cmdb_ci_business_app")[0]
        self.assertEqual((row["short_description"], row["url"]), ("theirs", "u"))
        # an empty field may be filled by anyone
        item = self.ire([app("B", url="")])["items"][0]
        item = self.ire([app("B", short_description="ours")])["items"][0]
        self.assertNotIn("maskedAttributes", item)

    def test_5_4_clearing_under_a_rule_needs_null_update(self):
        rule = {"name": "r", "applies_to": "cmdb_ci_business_app",
                "discovery_source": SOURCE, "active": "true",
                "attributes": "comments", "sys_id": "c" * 32}
        self.load(cmdb_reconciliation_definition=[rule])
        self.ire([app("A", comments="text")])
        item = self.ire([app("A", comments="")])["items"][0]
        self.assertEqual(item["maskedAttributes"], ["comments"])
        self.load(cmdb_reconciliation_definition=[
            dict(rule, null_update="comments")])
        self.ire([app("A", comments="")])
        self.assertFalse(self.dump("cmdb_ci_business_app")[0].get("comments"))

    def test_5_5_relations_of_failed_and_parked_items(self):
        bad = {"className": "cmdb_ci_business_app", "values": {"name": "A"}}
        relation = [{"parent": 0, "child": 1, "type": "Consumes::Consumed by"}]
        result = self.ire([bad, service("S")], relation, options=NO_PARKING)
        self.assertEqual(error_codes(result["relations"][0]), ["ABANDONED"])
        result = self.ire([bad, service("S")], relation)
        self.assertEqual(result["relations"][0]["operation"],
                         "INSERT_AS_INCOMPLETE")
        self.assertEqual(self.dump("cmdb_rel_ci"), [])

    def test_5_5_partial_payload_is_merged_later(self):
        half = {"className": "cmdb_ci_spkg", "values": {"name": "P"},
                "sys_object_source_info": {"source_name": SOURCE,
                                           "source_native_key": "p"}}
        parked = self.ire([half])["items"][0]["partialSysIds"]
        half["values"] = {"version": "1"}
        item = self.ire([half])["items"][0]
        self.assertEqual(item["operation"], "INSERT")
        self.assertEqual(item["mergedPayloadIds"], parked)
        self.assertEqual(self.dump("cmdb_ci_spkg")[0]["name"], "P")
        self.assertEqual(self.dump("cmdb_ire_partial_payloads"), [])

    def test_5_1_classic_is_all_or_nothing(self):
        result = self.ire([app("A"), {"className": "cmdb_ci_business_app",
                                      "values": {"name": "B"}}], path="")
        items = self.by_input(result)
        self.assertEqual(error_codes(items[0]), ["ABANDONED"])
        self.assertEqual(error_codes(items[1]), ["REQUIRED_ATTRIBUTE_EMPTY"])
        self.assertEqual(self.dump("cmdb_ci_business_app"), [])
        # so does a bad relation, and so do duplicates
        result = self.ire([app("A"), service("S")], [
            {"parent": 0, "child": 1, "type": "bad"}], path="")
        self.assertEqual(self.dump("cmdb_ci", True), [])
        result = self.ire([app("A"), app("A")], path="")
        self.assertIn("DUPLICATE_PAYLOAD_RECORDS",
                      error_codes(self.by_input(result)[0]))
        self.assertEqual(self.ire([app("A")], path="")["items"][0]["operation"],
                         "INSERT")

    def test_5_1_dry_runs_change_nothing(self):
        before = self.stats()["records"]
        body = ([app("A", "k"), service("S", "s")],
                [{"parent": 0, "child": 1, "type": "Consumes::Consumed by"}])
        for path in ("/query", "/queryEnhanced"):
            result = self.ire(*body, path=path)
            self.assertEqual({i["operation"] for i in result["items"]},
                             {"INSERT"})
            self.assertNotIn("sysId", result["relations"][0])
        self.assertEqual(self.stats()["records"], before)
        self.ire(*body)
        rows = self.dump("cmdb_ci_business_app")
        self.ire([app("A", "k", url="u")], path="/queryEnhanced")
        self.assertEqual(self.dump("cmdb_ci_business_app"), rows)
        self.assertEqual(self.stats()["reads"], 3)

    def test_5_5_summary_only_when_asked(self):
        self.assertNotIn("summary", self.ire([app("A")]))
        result = self.ire([app("A"), app("B"), {
            "className": "cmdb_ci_business_app", "values": {"name": "C"}}],
            options=NO_PARKING)
        counts = result["summary"]["cmdb_ci_business_app"]
        self.assertEqual((counts["inserted"], counts["updated"],
                          counts["errors"]), (1, 1, 1))

    def test_5_5_has_error_may_be_missing(self):
        self.switch(ire_omit_has_error=True)
        self.assertNotIn("hasError", self.ire([app("A")]))

    def test_2_8_truncation_and_choices(self):
        self.ire([app("A", short_description="x" * 2000,
                      operational_status="99", environment="production",
                      business_criticality="1 - most critical")])
        row = self.dump("cmdb_ci_business_app")[0]
        self.assertEqual(len(row["short_description"]), 1000)
        self.assertEqual(row["operational_status"], "1")    # the default
        self.assertNotIn("environment", row)    # values are case-sensitive
        self.assertEqual(row["business_criticality"], "1 - most critical")

    def test_10_12_retired_is_synchronised(self):
        self.ire([service("S", operational_status="6")])
        row = self.dump("cmdb_ci_service_auto")[0]
        self.assertEqual(row["install_status"], "7")
        self.ire([service("S", operational_status="1")])
        row = self.dump("cmdb_ci_service_auto")[0]
        self.assertEqual(row["install_status"], "1")

    def test_10_2_business_application_has_its_own_retired(self):
        self.ire([app("A", install_status="7")])
        row = self.dump("cmdb_ci_business_app")[0]
        self.assertEqual(row["operational_status"], "1")    # 7 is Pilot here
        self.ire([app("A", operational_status="6")])
        self.assertEqual(self.dump("cmdb_ci_business_app")[0]["install_status"],
                         "8")

    def test_5_4_references_are_stamped_too(self):
        known = self.load(cmdb_ci_server=[{
            "name": "srv", "discovery_source": "ServiceNow"}])["cmdb_ci_server"][0]
        item = {"className": "cmdb_ci_server", "values": {"sys_id": known}}
        self.ire([item])
        self.assertEqual(self.dump("cmdb_ci_server")[0]["discovery_source"],
                         SOURCE)
        self.switch(ire_stamps_references=False)
        self.assertEqual(self.ire([item])["items"][0]["operation"], "NO_CHANGE")

    def test_5_6_lock_timeout_injected(self):
        self.fault(endpoint="identifyreconcile", fault="lock_timeout",
                   indices=[1])
        result = self.ire([app("A"), app("B")])
        items = self.by_input(result)
        self.assertEqual(error_codes(items[1]), ["LOCK_TIMEOUT"])
        self.assertEqual(items[0]["operation"], "INSERT")
        self.assertEqual(self.ire([app("B")])["items"][0]["operation"], "INSERT")

    def test_5_7_parallel_payloads_on_one_ci_collide(self):
        self.switch(ire_hold_ms=300)
        self.ire([app("A", "a")])
        results = []

        def send(item):
            connection = self.sim.connect()
            results.append(self.call(
                "POST", "/api/now/identifyreconcile/enhanced", {"items": [item]},
                query={"sysparm_data_source": SOURCE},
                connection=connection).result["items"][0])
            connection.close()
        known = self.dump("cmdb_ci_business_app")[0]["sys_id"]
        reference = {"className": "cmdb_ci_business_app",
                     "values": {"sys_id": known}}
        threads = [threading.Thread(target=send, args=(i,)) for i in (
            app("A", "a", url="1"), app("A", "a", url="2"), reference)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        codes = sorted(str(error_codes(r)) for r in results)
        # an item that only names the CI takes no lock
        self.assertEqual(codes, ["['LOCK_TIMEOUT']", "[]", "[]"])

    def test_5_7_more_than_five_hundred_are_allowed_but_slow(self):
        self.switch(ire_oversize_ms=100)
        started = time.monotonic()
        result = self.ire([service("S%d" % n) for n in range(502)],
                          path="/queryEnhanced")
        self.assertGreater(time.monotonic() - started, 0.2)
        self.assertEqual(len(result["items"]), 502)

    def test_5_7_five_hundred_items_take_well_under_a_second(self):
        items = [app("App %d" % n, "application/%d" % n) for n in range(250)]
        items += [service("Svc %d" % n, "dp/%d" % n) for n in range(250)]
        relations = [{"parent": n, "child": 250 + n,
                      "type": "Consumes::Consumed by"} for n in range(250)]
        started = time.monotonic()
        result = self.ire(items, relations)
        self.assertLess(time.monotonic() - started, 1.0)
        self.assertFalse(result["hasError"])
        self.assertEqual(len(self.dump("cmdb_rel_ci")), 250)
