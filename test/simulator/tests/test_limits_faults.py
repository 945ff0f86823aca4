"""Limits (§8), faults and control endpoints."""
import base64
import http.client
import json
import socket
import threading
import time

from support import SOURCE, Case, Simulator, app, basic

PATH = "/api/now/table/sys_user?sysparm_limit=1"


class RateRules(Case):
    def limits(self, **doc):
        self.sim.sim("POST", "limits", doc)

    def test_8_no_rule_no_headers(self):
        self.assertNotIn("x-ratelimit-limit",
                         self.call("GET", PATH).headers)

    def test_8_headers_on_every_answer_and_429(self):
        self.limits(rules=[{"path_prefix": "/api/now/table", "limit": 2}])
        for _ in range(2):
            answer = self.call("GET", PATH)
            self.assertEqual(answer.status, 200)
            self.assertEqual(answer.headers["x-ratelimit-limit"], "2")
            self.assertIn("x-ratelimit-rule", answer.headers)
            self.assertNotIn("retry-after", answer.headers)
            self.assertNotIn("x-ratelimit-remaining", answer.headers)
        answer = self.call("GET", PATH)
        self.assertEqual(answer.status, 429)
        self.assertGreater(int(answer.headers["retry-after"]), 3000)
        self.assertEqual(answer.json, {"error": {
            "message": "Rate limit exceeded", "detail": "Rate limit of 2 "
            "requests per hour for Table API exceeded"}, "status": "failure"})
        # versions and other users have their own road
        self.assertEqual(self.call("GET", PATH.replace("now/", "now/v2/"))
                         .status, 429)
        self.assertEqual(self.call("GET", PATH, user="admin").status, 200)
        self.advance(3601)
        self.assertEqual(self.call("GET", PATH).status, 200)

    def test_8_most_seen_in_a_window(self):
        self.limits(rules=[{"path_prefix": "/api/now/table", "limit": 2}])
        for _ in range(3):
            self.call("GET", PATH)
        self.advance(3601)
        self.call("GET", PATH)
        rule, = self.sim.sim("GET", "limits")["rules"]
        self.assertEqual(rule["most"], 3)       # the one turned away counts

    def test_8_most_specific_rule_wins(self):
        self.limits(rules=[
            {"path_prefix": "/api/now/table", "limit": 100},
            {"path_prefix": "/api/now/table", "limit": 50, "role": "itil"},
            {"path_prefix": "/api/now/table", "limit": 40, "role": "asset"},
            {"path_prefix": "/api/now/table", "limit": 70, "user": "admin"}])
        self.assertEqual(self.call("GET", PATH).headers["x-ratelimit-limit"], "40")
        self.assertEqual(self.call("GET", PATH, user="admin").headers[
            "x-ratelimit-limit"], "70")
        self.assertEqual(self.call("GET", PATH, user="reader").headers[
            "x-ratelimit-limit"], "100")

    def batch_of(self, count):
        parts = [{"id": str(n), "method": "GET", "url": PATH, "headers": [
            {"name": "Accept", "value": "application/json"}]}
            for n in range(count)]
        answer = self.call("POST", "/api/now/v1/batch", {"rest_requests": parts})
        return [p["status_code"] for p in answer.json["serviced_requests"]]

    def test_6_both_ways_of_counting_a_batch(self):
        rule = {"path_prefix": "/api/now/table", "limit": 2}
        self.limits(rules=[dict(rule, batch_counts="each")])
        self.assertEqual(self.batch_of(3), [200, 200, 429])
        self.limits(rules=[dict(rule, batch_counts="call")])
        self.assertEqual(self.batch_of(3), [200, 200, 200])

    def test_8_full_semaphore_is_429_without_headers(self):
        self.limits(semaphore={"slots": 1, "queue": 1})
        self.switch(latency_ms=300)
        statuses = []

        def send():
            connection = self.sim.connect()
            answer = self.call("GET", PATH, connection=connection)
            statuses.append((answer.status, "retry-after" in answer.headers))
            connection.close()
        threads = [threading.Thread(target=send) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(statuses),
                         [(200, False), (200, False), (429, False)])

    def test_2_3_quota_cancellation(self):
        self.limits(quota={"max_rows": 2, "mode": "500"})
        answer = self.call("GET", "/api/now/table/sys_choice")
        self.assertEqual(answer.status, 500)
        self.assertIn("maximum execution time exceeded",
                      answer.json["error"]["message"])
        self.limits(quota={"mode": "200"})
        answer = self.call("GET", "/api/now/table/sys_choice")
        self.assertEqual(answer.status, 200)
        self.assertRaises(ValueError, json.loads, answer.body)
        self.assertEqual(self.call("GET", PATH).status, 200)


class FaultKinds(Case):
    def test_status_count_and_method(self):
        self.fault(endpoint="table/sys_user", method="GET", count=2,
                   fault="status", status=503)
        statuses = [self.call("GET", PATH).status for _ in range(3)]
        self.assertEqual(statuses, [503, 503, 200])
        self.assertEqual(self.stats()["faults_fired"], {"status": 2})

    def test_retry_after_202_html_semaphore(self):
        for spec, status, header in (
                ({"fault": "retry_after", "seconds": 7}, 429, "7"),
                ({"fault": "202"}, 202, None), ({"fault": "html"}, 200, None),
                ({"fault": "semaphore"}, 429, None),
                ({"fault": "quota"}, 500, None)):
            self.fault(endpoint="*", **spec)
            answer = self.call("GET", PATH)
            self.assertEqual((answer.status, answer.headers.get("retry-after")),
                             (status, header), spec)

    def test_close_after_commit_keeps_the_record(self):
        self.fault(endpoint="core_company", fault="close_after_commit")
        with self.assertRaises((http.client.HTTPException, OSError)):
            self.call("POST", "/api/now/table/core_company", {"name": "C"})
        self.assertEqual(len(self.rows("core_company", "name=C")), 1)

    def hung(self, kind):
        """Companies after a caller gave up on an answer that never came."""
        self.fault(endpoint="core_company", fault=kind)
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.sim.ports[0], timeout=0.5)
        self.addCleanup(connection.close)
        with self.assertRaises(TimeoutError):
            self.call("POST", "/api/now/table/core_company", {"name": kind},
                      connection=connection)
        return len(self.rows("core_company", "name=" + kind))

    def test_hang_does_nothing_and_never_answers(self):
        self.assertEqual(self.hung("hang"), 0)

    def test_hang_after_commit_keeps_the_record(self):
        self.assertEqual(self.hung("hang_after_commit"), 1)

    def test_hang_after_commit_of_a_part_of_a_batch(self):
        self.fault(endpoint="core_company", fault="hang_after_commit")
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.sim.ports[0], timeout=0.5)
        self.addCleanup(connection.close)
        part = {"id": "a", "method": "POST", "headers": [
            {"name": "Accept", "value": "application/json"},
            {"name": "Content-Type", "value": "application/json"}],
            "url": "/api/now/table/core_company", "body": base64.b64encode(
                b'{"name":"C"}').decode()}
        with self.assertRaises(TimeoutError):
            self.call("POST", "/api/now/v1/batch", {
                "batch_request_id": "1", "rest_requests": [part]},
                connection=connection)
        self.assertEqual(len(self.rows("core_company", "name=C")), 1)

    def test_hanging_requests_are_counted_while_they_hang(self):
        self.wait_for(lambda: self.stats()["hanging"] == 0)
        self.fault(endpoint="sys_user", fault="hang")
        connection = self.sim.connect()
        self.addCleanup(connection.close)
        connection.request("GET", PATH, headers={
            "Accept": "application/json", "Authorization": basic("sync")})
        self.wait_for(lambda: self.stats()["hanging"] == 1)
        self.sim.sim("POST", "counters")
        self.assertEqual(self.stats()["hanging"], 1)
        connection.close()
        self.wait_for(lambda: self.stats()["hanging"] == 0)

    def wait_for(self, condition):
        end = time.monotonic() + 10
        while not condition():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)

    def test_close_before_reply_does_nothing(self):
        self.fault(endpoint="core_company", fault="close_before_reply")
        with self.assertRaises((http.client.HTTPException, OSError)):
            self.call("POST", "/api/now/table/core_company", {"name": "C"})
        self.assertEqual(self.rows("core_company", "name=C"), [])

    def test_2_3_forbidden_but_created(self):
        self.fault(endpoint="core_company", fault="forbidden_but_created")
        answer = self.call("POST", "/api/now/table/core_company", {"name": "C"})
        self.assertEqual(answer.status, 403)
        self.assertEqual(len(self.rows("core_company", "name=C")), 1)

    def test_truncated_body(self):
        self.fault(endpoint="sys_user", fault="truncated_body")
        with self.assertRaises(http.client.IncompleteRead):
            self.call("GET", PATH)

    def test_spoilt_bodies(self):
        for kind, test in (("garbage_body", lambda b: b[0] > 127),
                           ("nul", lambda b: b"\\u0000" in b),
                           ("bad_utf8", lambda b: b"\xc3\x28" in b),
                           ("quota_cut", lambda b: not b.endswith(b"]}"))):
            self.fault(endpoint="sys_user", fault=kind)
            answer = self.call("GET", PATH)
            self.assertEqual(answer.status, 200)
            self.assertTrue(test(answer.body), kind)
        self.fault(endpoint="sys_user", fault="huge", bytes=3000000)
        self.assertGreater(len(self.call("GET", PATH).body), 3000000)

    def test_lists_that_lie(self):
        whole = self.call("GET", PATH + "?sysparm_query=ORDERBYsys_id")
        self.fault(endpoint="sys_user", fault="short_list")
        short = self.call("GET", PATH + "?sysparm_query=ORDERBYsys_id")
        self.assertEqual(len(short.result), len(whole.result) // 2)
        self.assertEqual(short.headers["x-total-count"], whole.headers["x-total-count"])
        self.fault(endpoint="sys_user", fault="wrong_total", total=3)
        wrong = self.call("GET", PATH + "?sysparm_query=ORDERBYsys_id")
        self.assertEqual((wrong.headers["x-total-count"], len(wrong.result)),
                         ("3", len(whole.result)))

    def test_delay_and_probability(self):
        self.fault(endpoint="*", fault="delay", seconds=0.05)
        self.assertEqual(self.call("GET", PATH).status, 200)
        self.fault(endpoint="*", fault="status", count=-1, probability=0.0)
        self.assertEqual(self.call("GET", PATH).status, 200)
        self.sim.sim("DELETE", "faults")

    def test_token_expiry(self):
        token = self.oauth(grant_type="password", client_id="client-1",
                           client_secret="client-secret-1", username="sync",
                           password="sync-secret").json["access_token"]
        bearer = {"Authorization": "Bearer " + token}
        self.assertEqual(self.call("GET", PATH, user=None, headers=bearer).status,
                         200)
        self.fault(endpoint="*", fault="token_expiry")
        self.assertEqual(self.call("GET", PATH, user=None, headers=bearer).status,
                         401)

    def test_business_rule_abort(self):
        self.fault(endpoint="core_company", fault="business_rule_abort", name="N")
        answer = self.make("core_company", {"name": "C"}, status=403)
        self.assertIn("aborted by Business Rule 'N^",
                      answer.json["error"]["detail"])

    def test_faults_on_parts_of_a_batch(self):
        self.fault(endpoint="table/sys_user", fault="status", status=503)
        part = {"id": "a", "method": "GET", "url": PATH, "headers": [
            {"name": "Accept", "value": "application/json"}]}
        answer = self.call("POST", "/api/now/v1/batch",
                           {"rest_requests": [part, dict(part, id="b")]})
        self.assertEqual([p["status_code"] for p in
                          answer.json["serviced_requests"]], [503, 200])

    def test_unknown_fault_is_refused(self):
        self.assertEqual(self.sim.call("POST", "/__sim/faults",
                                       {"fault": "x"}).status, 400)


class ControlEndpoints(Case):
    def test_counters_and_redaction(self):
        self.oauth(grant_type="password", client_id="client-1",
                   client_secret="client-secret-1", username="sync",
                   password="sync-secret")
        self.call("GET", PATH)
        self.call("PATCH", "/api/now/table/core_company/" + "0" * 32, {})
        self.call("GET", PATH + "&x-sn-apikey=key-12345", user=None)
        stats = self.stats()
        self.assertEqual(stats["requests"], 4)
        self.assertEqual(stats["by_endpoint"], {
            "POST /oauth_token.do": 1, "GET /api/now/table/sys_user": 2,
            "PATCH /api/now/table/core_company/{sys_id}": 1})
        self.assertEqual((stats["writes"], stats["reads"], stats["auth"]),
                         (1, 2, 1))
        text = json.dumps(self.sim.sim("GET", "requests?n=10"))
        for secret in ("client-secret-1", "sync-secret", "key-12345"):
            self.assertNotIn(secret, text)
        self.assertIn("username=sync", text)

    def test_log_says_when_a_request_came(self):
        begin = time.time()
        self.call("GET", PATH)
        entry = self.sim.sim("GET", "requests?n=1")["requests"][0]
        self.assertTrue(begin <= entry["at"] <= time.time())

    def test_duplicates_and_orphans(self):
        a, b = self.load(cmdb_ci_business_app=[
            {"name": "A", "correlation_id": "x"},
            {"name": "B", "correlation_id": "x"}])["cmdb_ci_business_app"]
        self.load(cmdb_rel_ci=[{"parent": a, "child": "0" * 32}],
                  sys_object_source=[
                      {"name": SOURCE, "id": "k", "target_sys_id": a},
                      {"name": SOURCE, "id": "k", "target_sys_id": b}])
        stats = self.stats()
        self.assertEqual(stats["duplicates"]["correlation_id"]["count"], 1)
        self.assertEqual(stats["duplicates"]["native_key"]["count"], 1)
        self.assertEqual(stats["orphans"]["relations"]["count"], 1)

    def test_dump_of_a_parent(self):
        self.load(cmdb_ci_service_discovered=[{"name": "D"}])
        self.assertEqual(self.dump("cmdb_ci"), [])
        rows = self.dump("cmdb_ci", True)
        self.assertEqual(rows[0]["sys_class_name"], "cmdb_ci_service_discovered")

    def test_load_upserts_by_sys_id(self):
        key = "d" * 32
        self.load(core_company=[{"sys_id": key, "name": "A"}])
        self.load(core_company=[{"sys_id": key, "city": "X"}])
        row = [r for r in self.dump("core_company") if r["sys_id"] == key]
        self.assertEqual((row[0]["name"], row[0]["city"]), ("A", "X"))
        self.assertEqual(self.sim.call("POST", "/__sim/load",
                                       {"nope": [{}]}).status, 400)

    def test_reset_brings_back_the_fresh_instance(self):
        fresh = self.stats()["records"]
        self.register()
        self.ire([app("A", "k")])
        self.switch(hibernating=True)
        self.fault(endpoint="*", fault="status")
        self.sim.sim("POST", "reset")
        self.assertEqual(self.stats()["records"], fresh)
        self.assertEqual(self.call("GET", PATH).status, 200)

    def test_clock_is_set_and_goes_on(self):
        self.sim.sim("POST", "clock", {"set": "2030-01-02T03:04:05"})
        self.assertTrue(self.sim.sim("GET", "clock")["utc"].startswith(
            "2030-01-02 03:04:0"))
        self.sim.sim("POST", "clock", {"set": 1000000000})
        self.assertLess(abs(self.sim.sim("GET", "clock")["now"] - 1000000000), 5)

    def test_control_of_a_platform_by_its_name(self):
        self.assertIn("records", self.sim.sim("GET", "servicenow/stats"))
        self.assertEqual(self.sim.call("GET", "/__sim/nope/stats").status, 404)

    def test_switches(self):
        listing = self.sim.sim("GET", "switches")
        self.assertEqual(listing["ire_shuffle"]["default"], True)
        self.assertTrue(all(s["meaning"] for s in listing.values()))
        for bad in ({"nope": True}, {"ire_shuffle": "yes"}):
            self.assertEqual(self.sim.call("POST", "/__sim/switches",
                                           bad).status, 400)

    def test_unknown_control_endpoint(self):
        self.assertEqual(self.sim.call("GET", "/__sim/nope").status, 404)

    def test_expect_100_continue(self):
        with socket.create_connection(("127.0.0.1", self.sim.ports[0]), 5) as s:
            s.sendall(b"POST /oauth_token.do HTTP/1.1\r\nHost: x\r\n"
                      b"Content-Length: 1\r\nExpect: 100-continue\r\n\r\n")
            self.assertTrue(s.recv(100).startswith(b"HTTP/1.1 100"))
            s.sendall(b"x")
            self.assertTrue(s.recv(100).startswith(b"HTTP/1.1 401"))

    def test_switch_option_survives_a_reset(self):
        sim = Simulator("--switch", "max_url_length=500",
                        "--client-credentials")
        self.addCleanup(sim.stop)
        sim.sim("POST", "reset")
        listing = sim.sim("GET", "switches")
        self.assertEqual(listing["max_url_length"]["value"], 500)
        self.assertTrue(listing["client_credentials"]["value"])
