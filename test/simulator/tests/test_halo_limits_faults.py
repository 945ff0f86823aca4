"""Halo: rate limit (§5.1), faults, control endpoints."""
import http.client
import json
import time

from halo_support import HaloCase, NAME, NOT_THERE, SERIAL, SERVER

TEXT = "Rate Limit Reached - %d Requests per rolling %s window."


class RateLimit(HaloCase):
    def limit(self, requests, seconds=180):
        """So many more requests from now on."""
        self.advance(100000)
        self.bearer = self.scoped("all")
        self.advance(1000)
        self.control("POST", "limits", {"requests": requests,
                                        "seconds": seconds})

    def statuses(self, count, path="Asset"):
        return [self.call("GET", path).status for _ in range(count)]

    def test_5_1_defaults(self):
        rate = self.control("GET", "limits")
        self.assertEqual((rate["requests"], rate["seconds"]), (500, 180))

    def test_5_1_window_slides(self):
        self.limit(3)
        self.assertEqual(self.statuses(1), [200])
        self.advance(100)
        self.assertEqual(self.statuses(3), [200, 200, 429])
        self.advance(81)        # the first one is out, the others are not
        self.switch(rate_refused=False)
        self.assertEqual(self.statuses(1), [429])   # the 429 itself counted
        self.advance(100)
        self.assertEqual(self.statuses(4), [200, 200, 200, 429])

    def test_5_1_refused_requests_count(self):
        for counted, last in ((True, 429), (False, 200)):
            self.limit(2)
            self.switch(rate_refused=counted)
            self.assertEqual(self.statuses(2), [200, 200])
            self.advance(100)
            self.assertEqual(self.statuses(2), [429, 429])
            self.advance(81)
            self.assertEqual(self.statuses(1), [last])

    def test_5_1_everything_counts(self):
        self.limit(5)
        self.assertEqual([self.call("GET", "authinfo").status,
                          self.call("GET", "Nothing").status,
                          self.call("GET", "Asset", token="x").status,
                          self.call("GET", "Asset/%d" % NOT_THERE).status,
                          self.token().status, self.call("GET", "Asset").status],
                         [200, 404, 401, 404, 200, 429])

    def test_5_1_token_requests_may_not_count(self):
        self.limit(1)
        self.assertEqual([self.token().status, self.token().status],
                         [200, 429])
        self.switch(rate_token=False)
        self.limit(1)
        self.assertEqual([self.token().status, self.token().status],
                         [200, 200])

    def test_5_1_no_limit(self):
        self.limit(0)
        self.assertEqual(set(self.statuses(30)), {200})

    def test_5_1_answer(self):
        """§10 gap 6"""
        self.limit(1)
        self.call("GET", "Asset")
        answer = self.call("GET", "Asset")
        self.assertEqual(answer.json, TEXT % (1, "3 minute"))
        self.assertNotIn("retry-after", answer.headers)
        self.switch(rate_body="text", retry_after=True)
        answer = self.call("GET", "Asset")
        self.assertEqual(answer.body.decode(), TEXT % (1, "3 minute"))
        self.assertTrue(170 <= int(answer.headers["retry-after"]) <= 181)
        self.switch(rate_body="empty", rate_seconds=30)
        answer = self.call("GET", "Asset")
        self.assertEqual((answer.status, answer.body), (429, b""))
        self.switch(rate_body="json")
        self.assertEqual(self.call("GET", "Asset").json,
                         TEXT % (1, "30 second"))

    def test_5_1_nothing_is_done(self):
        self.limit(1)
        self.call("GET", "Asset")
        self.assertEqual(self.post("Supplier", {"name": "S"}).status, 429)
        self.assertEqual(self.dump("Supplier"), [])

    def test_5_1_what_stats_tell(self):
        self.limit(2)
        self.statuses(3)
        rate = self.stats()["rate"]
        self.assertEqual((rate["turned_away"], rate["most"]), (1, 3))


class Faults(HaloCase):
    SUPPLIER = [{"name": "S"}]

    def suppliers(self):
        return [s["name"] for s in self.dump("Supplier")]

    def lost(self, kind):
        """Suppliers after the connection broke."""
        self.fault(endpoint="Supplier$", method="POST", fault=kind)
        with self.assertRaises((http.client.HTTPException, OSError)):
            self.call("POST", "Supplier", self.SUPPLIER)
        return self.suppliers()

    def test_close_before_and_after_commit(self):
        self.assertEqual(self.lost("close_before_reply"), [])
        self.assertEqual(self.lost("close_after_commit"), ["S"])

    def test_hang(self):
        for kind, left in (("hang", []), ("hang_after_commit", ["S"])):
            self.fault(endpoint="Supplier", fault=kind)
            connection = http.client.HTTPConnection(
                "127.0.0.1", self.sim.ports[0], timeout=0.4)
            with self.assertRaises(TimeoutError):
                self.sim.call("POST", "/halo/api/Supplier", self.SUPPLIER, {
                    "Authorization": "Bearer " + self.bearer,
                    "Content-Type": "application/json"}, connection)
            connection.close()
            self.assertEqual(self.suppliers(), left)

    def test_5_2_status_has_no_body(self):
        for status in (500, 401, 403, 404):
            self.fault(endpoint="*", fault="status", status=status)
            self.assertIsNone(self.refused(status, "POST", "Supplier",
                                           self.SUPPLIER))
        self.assertEqual(self.suppliers(), [])
        self.fault(endpoint="*", fault="status", status=504)
        answer = self.call("GET", "Asset")
        self.assertEqual(answer.status, 504)
        self.assertIn("text/html", answer.headers["content-type"])
        self.fault(endpoint="*", fault="status", status=400, body='"no"')
        self.assertEqual(self.refused(400, "GET", "Asset"), "no")

    def test_429_with_and_without_header(self):
        self.fault(endpoint="*", fault="status", status=429)
        answer = self.call("GET", "Asset")
        self.assertEqual((answer.status, answer.json),
                         (429, TEXT % (500, "3 minute")))
        self.assertNotIn("retry-after", answer.headers)
        self.fault(endpoint="*", fault="retry_after", seconds=7)
        answer = self.call("GET", "Asset")
        self.assertEqual((answer.status, answer.headers["retry-after"]),
                         (429, "7"))
        self.switch(retry_after=True)
        self.fault(endpoint="*", fault="status", status=429)
        self.assertEqual(self.call("GET", "Asset").headers["retry-after"], "1")
        self.fault(endpoint="*", fault="retry_after", status=503)
        self.assertEqual(self.call("GET", "Asset").status, 503)

    def test_5_3_validation_in_three_shapes(self):
        for shape in ("string", "exception", "model"):
            self.fault(endpoint="Supplier", fault="validation", shape=shape,
                       message="M")
            value = self.bad("Supplier", *self.SUPPLIER)
            text = {"string": lambda v: v, "exception": lambda v: v["Message"],
                    "model": lambda v: v["[0].name"][0]}[shape](value)
            self.assertEqual(text, "M")

    def test_5_2_redirect(self):
        self.fault(endpoint="*", fault="redirect",
                   location="https://elsewhere.example.org/x")
        answer = self.call("GET", "Asset")
        self.assertEqual((answer.status, answer.headers["location"],
                          answer.body),
                         (302, "https://elsewhere.example.org/x", b""))

    def test_html_and_delay(self):
        self.fault(endpoint="*", fault="html", status=502)
        self.assertEqual(self.call("GET", "Asset").status, 502)
        self.fault(endpoint="*", fault="delay", seconds=0.2)
        begin = time.monotonic()
        self.call("GET", "Asset")
        self.assertGreater(time.monotonic() - begin, 0.2)
        self.sim.sim("POST", "switches", {"latency_ms": 100})
        begin = time.monotonic()
        self.call("GET", "Asset")
        self.assertGreater(time.monotonic() - begin, 0.1)

    def test_spoilt_bodies(self):
        self.make("Supplier", name="S")
        for kind, test in (("garbage_body", lambda b: b[0] > 127),
                           ("nul", lambda b: b"\\u0000" in b),
                           ("bad_utf8", lambda b: b"\xc3\x28" in b)):
            self.fault(endpoint="Supplier", fault=kind)
            self.assertTrue(test(self.call("GET", "Supplier").body), kind)
        self.fault(endpoint="Supplier", fault="truncated_body")
        with self.assertRaises(http.client.IncompleteRead):
            self.call("GET", "Supplier")
        self.fault(endpoint="Supplier", fault="huge", bytes=1000000)
        self.assertGreater(len(self.call("GET", "Supplier").body), 1000000)

    def test_token_revoked(self):
        self.fault(endpoint="Asset", fault="token_expiry")
        self.assertIsNone(self.refused(401, "GET", "Asset"))
        self.bearer = self.scoped("all")
        self.get("Asset")

    def test_pages_that_lie(self):
        for n in range(4):
            self.make("Supplier", name="S%d" % n)
        query = {"pageinate": "true", "page_size": 10}

        def page():
            value = self.get("Supplier", **query)
            return value["record_count"], len(value["suppliers"])
        self.fault(endpoint="Supplier", fault="short_list")
        self.assertEqual(page(), (4, 2))
        self.fault(endpoint="Supplier", fault="short_list", keep=0)
        self.assertEqual(page(), (4, 0))
        self.fault(endpoint="Supplier", fault="wrong_total", total=99)
        self.assertEqual(page(), (99, 4))
        self.fault(endpoint="Status", fault="short_list")
        self.assertEqual(len(self.get("Status")), 3)
        self.assertEqual(page(), (4, 4))

    def test_forbidden_but_created(self):
        self.fault(endpoint="Supplier", fault="forbidden_but_created")
        self.assertIsNone(self.refused(403, "POST", "Supplier", self.SUPPLIER))
        self.assertEqual(self.suppliers(), ["S"])

    def test_endpoint_to_its_end(self):
        self.fault(endpoint="api/Asset$", fault="status", status=500)
        self.assertEqual(self.call("GET", "AssetType").status, 200)
        self.assertEqual(self.call("GET", "Asset").status, 500)
        self.fault(endpoint="Asset/{id}$", method="GET", fault="status",
                   status=500)
        self.assertEqual(self.call("GET", "Asset").status, 200)
        self.assertEqual(self.call("GET", "asset/1").status, 500)
        self.fault(endpoint="auth/token$", fault="html", status=200)
        self.assertIn(b"<html>", self.token().body)

    def test_faults_of_the_other_platform_leave_it_alone(self):
        self.fault(endpoint="*", fault="semaphore")
        self.assertEqual(self.call("GET", "Asset").status, 200)


class Control(HaloCase):
    def test_counters_by_resource(self):
        self.sim.sim("POST", "counters")
        self.asset()
        self.get("asset")
        self.get("Asset/1")
        self.call("DELETE", "Asset/1")
        self.call("GET", "Nothing")
        self.token()
        stats = self.stats()
        self.assertEqual(stats["by_resource"]["Asset"],
                         {"POST": 1, "GET": 2, "DELETE": 1})
        self.assertEqual(stats["by_resource"]["token"], {"POST": 1})
        self.assertEqual(stats["by_endpoint"], {
            "GET /halo/api/Asset": 1, "GET /halo/api/Asset/{id}": 1,
            "POST /halo/api/Asset": 1, "DELETE /halo/api/Asset/{id}": 1,
            "GET /halo/(other)": 1, "POST /halo/auth/token": 1})
        for path in ("Agent/me", "authinfo", "InstanceInfo", "Asset/NextTag"):
            self.call("GET", path)
        self.token("/halo/auth/x")
        found = self.stats()["by_endpoint"]
        for name in ("GET /halo/api/Agent/me", "GET /halo/api/authinfo",
                     "GET /halo/api/InstanceInfo",
                     "GET /halo/api/Asset/NextTag",
                     "POST /halo/auth/(other)"):
            self.assertEqual(found[name], 1, name)
        self.assertEqual((stats["requests"], stats["auth"], stats["writes"],
                          stats["reads"]), (6, 1, 2, 3))
        entry, = self.sim.sim("GET", "requests?n=9&endpoint=Asset&method=POST"
                              )["requests"]
        self.assertIn("inventory_number", entry["body"])

    def test_edit_is_a_write_by_somebody_else(self):
        made = self.asset()
        self.switch(rate_requests=1)
        self.sim.sim("POST", "counters")
        edited = self.control("POST", "edit", {"by": "Carl", "Asset": [{
            "id": made["id"], "notes": "mine",
            "fields": [{"id": SERIAL, "value": "S"}]}]})
        self.assertEqual(edited["Asset"][0]["key_field"], "S")
        self.assertGreater(edited["Asset"][0]["last_modified"],
                           made["last_modified"])
        self.assertEqual(self.stats()["requests"], 0)
        change = self.dump("AssetChange")[-1]
        self.assertEqual(change["who"], "Carl")
        self.control("POST", "edit", {"Asset": [{"id": made["id"],
                                                 "notes": "2"}]})
        self.assertEqual(self.dump("AssetChange")[-1]["who"], "Integration")
        # the rules hold there, too
        answer = self.sim.call("POST", "/__sim/halo/edit", {
            "Asset": [{"client_id": 1}]})
        self.assertEqual(answer.status, 400)
        self.assertIn("515", answer.json["error"])
        for bad in ({"Asset": {}}, {"Asset": [1]}, {"Nothing": [{}]}):
            self.assertEqual(self.sim.call("POST", "/__sim/halo/edit",
                                           bad).status, 400)

    def test_remove_is_a_delete_by_somebody_else(self):
        made = self.asset()
        self.assertEqual(self.control("POST", "remove", {
            "Asset": [made["id"]]}), {"deleted": 1})
        self.assertEqual(self.dump("Asset"), [])
        answer = self.sim.call("POST", "/__sim/halo/remove",
                               {"Asset": [made["id"]]})
        self.assertEqual(answer.status, 400)
        self.control("POST", "remove", {"Field": [148]})
        self.assertEqual(self.sim.call("POST", "/__sim/halo/remove",
                                       {"Status2": [1]}).status, 400)

    def test_load_is_raw(self):
        ids = self.load(Asset=[{"inventory_number": "L", "assettype_id": SERVER,
                                "client_id": self.client,
                                "site_id": self.site}],
                        Lookup=[{"id": 9, "lookupid": 30, "name": "Vital"}])
        key, = ids["Asset"]
        self.load(Asset=[{"id": key, "notes": "x"}])
        row, = self.dump("Asset")
        self.assertEqual((row["inventory_number"], row["notes"]), ("L", "x"))
        self.assertEqual(self.dump("AssetChange"), [])
        self.assertEqual(self.get("Lookup", lookupid=30)[-1]["name"], "Vital")
        one, two = self.load(Asset=[{}, {}])["Asset"]
        self.assertEqual(self.load(AssetRelation=[
            {"parent_id": one, "child_id": two}]),
            {"AssetRelation": [[one, two]]})
        self.assertEqual(self.dump("AssetRelation"), [{
            "parent_id": one, "child_id": two, "relationship_id": 0,
            "sibling_id": False}])
        # the next id is not one that is taken
        self.load(Asset=[{"id": two, "notes": "again"}, {"id": one}])
        self.assertGreater(self.asset()["id"], two)
        for bad in ({"Nothing": []}, {"Asset": {}}, [],
                    {"Agent": [{"id": 1, "access": {"Assets": "all"}}]}):
            self.assertEqual(self.sim.call("POST", "/__sim/halo/load",
                                           bad).status, 400)

    def test_dump_whole_and_as_shown(self):
        made = self.asset(fields=[{"id": SERIAL, "value": "S"}])
        whole = self.control("GET", "dump")
        self.assertIn("Site", whole)
        self.assertEqual(whole["Asset"][0]["_fields"], {str(SERIAL): "S"})
        shown, = self.control("GET", "dump?tables=Asset&shown=1")["Asset"]
        self.assertEqual(shown, self.full(made["id"]))
        self.assertEqual(self.sim.call("GET", "/__sim/halo/dump?tables=Nope")
                         .status, 400)
        self.assertNotIn("halo-secret-1", json.dumps(whole))
        self.assertIn("***", json.dumps(whole["Application"]))

    def test_dump_changes_nothing_that_is_shown(self):
        self.asset()
        before = self.control("GET", "dump")
        self.control("GET", "dump?shown=1")
        self.assertEqual(self.control("GET", "dump"), before)

    def test_reset_brings_back_the_fresh_tenant(self):
        self.sim.sim("POST", "reset")
        fresh = self.stats()["records"]
        self.bearer = self.scoped("all")
        self.make("Supplier", name="S")
        self.make("AssetType", id=SERVER, fields=[{"field_id": NAME}])
        self.switch(tenant="x")
        self.sim.sim("POST", "reset")
        self.assertEqual(self.stats()["records"], fresh)
        self.assertEqual(self.call("GET", "Asset").status, 401)
        self.assertEqual([f["field_id"] for f in self.dump("AssetType")[0][
            "fields"]], [SERIAL])

    def test_duplicates(self):
        supplier = self.make("Supplier", name="S")["id"]
        self.make("Supplier", name="S")
        for active in (True, False):
            self.make("SupplierContract", ref="r", supplier_id=supplier,
                      active=active)
        self.service("Pay")
        self.service("Pay")
        found = {name: d["count"]
                 for name, d in self.stats()["duplicates"].items()
                 if d["count"]}
        self.assertEqual(found, {"Supplier": 1, "SupplierContract": 1,
                                 "Service": 1})

    def test_switches_with_choices(self):
        listing = self.sim.sim("GET", "switches")
        self.assertEqual(listing["halo_build"]["choices"], ["2025", "2026"])
        for bad in ({"halo_build": "2024"}, {"halo_rate_requests": "5"}):
            self.assertEqual(self.sim.call("POST", "/__sim/switches",
                                           bad).status, 400)
