"""Halo: webhooks, their triggers, what arrives, and that nothing comes again
(§4)."""
import base64
import http.server
import json
import socket
import threading
import time
import uuid

from halo_support import HaloCase, SERIAL


class Receiver(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.got = []               # (method, path, headers, body)
        self.answers = []           # statuses, 200 when there are no more
        threading.Thread(target=self.serve_forever, args=(0.01,),
                         daemon=True).start()

    @property
    def url(self):
        return "http://127.0.0.1:%d/in/x7" % self.server_port


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        size = int(self.headers.get("Content-Length") or 0)
        headers = {n.lower(): v for n, v in self.headers.items()}
        self.server.got.append((self.command, self.path, headers,
                                self.rfile.read(size)))
        status = self.server.answers.pop(0) if self.server.answers else 200
        if status == 302:
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
        else:
            self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_GET = do_PUT = do_POST

    def log_message(self, *args):
        pass


class Webhooks(HaloCase):
    def setUp(self):
        super().setUp()
        self.receiver = Receiver()
        self.addCleanup(self.receiver.server_close)
        self.addCleanup(self.receiver.shutdown)

    def hook(self, **values):
        return self.make("Webhook", **dict({
            "name": "hook", "type": 0, "url": self.receiver.url, "method": 0,
            "active": True}, **values))["id"]

    def numbers(self):
        return {r["name"]: r["id"] for r in self.get("Lookup", lookupid=64)}

    def trigger(self, hook, event="Asset Created", **values):
        return self.make("Notification", **dict({
            "name": event, "eventno": self.numbers()[event], "type": -2,
            "delivery_method": 6, "webhook_id": hook}, **values))["id"]

    def arrived(self, count=None):
        """Bodies, once the queue is empty."""
        end = time.monotonic() + 10
        while self.stats()["webhooks"]["pending"]:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)
        bodies = [json.loads(body) if body else None
                  for _, _, _, body in self.receiver.got]
        if count is not None:
            self.assertEqual(len(bodies), count)
        return bodies

    # -- setting up ---------------------------------------------------------

    def test_4_1_webhook(self):
        key = self.hook(basic_password="pw-123", events=[{"id": 1}])
        self.assertEqual(str(uuid.UUID(key)), key)
        self.assertEqual([w["id"] for w in self.get("Webhook")], [key])
        shown = self.get("Webhook/" + key, includedetails="true")
        for name in ("events", "basic_password"):
            self.assertNotIn(name, shown)
        merged = self.make("Webhook", id=key, notify_on_failure=True)
        self.assertEqual((merged["url"], merged["notify_on_failure"]),
                         (self.receiver.url, True))
        self.exception("Name must be unique", "Webhook", {
            "name": "HOOK", "url": "http://x/"})
        self.exception("column 'name'", "Webhook", {"url": "http://x/"})
        for url in (None, "", "ftp://x/", "nonsense", "http:///x"):
            self.exception("Please enter a valid URL", "Webhook",
                           {"name": "other", "url": url})
        self.make("Webhook", name="runbook", type=1, id="")
        self.trigger(key)
        self.assertEqual(self.call("DELETE", "Webhook/" + key).status, 200)
        self.assertIsNone(self.refused(404, "GET", "Webhook/" + key))
        self.assertEqual(self.dump("Notification"), [])
        self.exception("(515)", "Notification", {"name": "no event"})

    def test_4_1_a_webhook_alone_is_silent(self):
        self.hook(events=[{"id": 201}])
        self.asset()
        self.arrived(0)

    def test_4_1_which_triggers_fire(self):
        key = self.hook()
        for values in ({"type": 0}, {"delivery_method": 0},
                       {"webhook_id": str(uuid.uuid4())}):
            self.trigger(key, **values)
        self.asset()
        self.arrived(0)
        self.trigger(key)
        self.asset("A-2")
        self.arrived(1)

    def test_4_1_active_and_disabled(self):
        key = self.hook(active=False)
        self.trigger(key)
        self.asset()
        self.make("Webhook", id=key, active=True, disabled=True)
        self.asset()
        self.arrived(0)
        self.make("Webhook", id=key, disabled=False)
        self.asset()
        self.arrived(1)
        silent = self.make("Webhook", name="s", url=self.receiver.url)
        self.assertFalse(silent["active"])

    def test_4_1_conditions(self):
        key = self.hook()
        self.trigger(key, conditions=[{"field": "inventory_number", "type": 0,
                                       "value": "A-2"}])
        self.asset("A-1")
        made = self.asset("A-2")
        body, = self.arrived(1)
        self.assertEqual(body["object_id"], made["id"])

    def test_4_1_event_numbers_and_names(self):
        """§10 gap 5"""
        self.switch(asset_event_base=150, asset_events="CI new,CI changed")
        numbers = self.numbers()
        self.assertEqual((numbers["CI new"], numbers["CI changed"]),
                         (150, 151))
        self.assertNotIn("Asset Created", numbers)
        self.trigger(self.hook(), "CI new")
        made = self.asset()
        body, = self.arrived(1)
        self.assertEqual(body["event"], "ci new")
        self.call("DELETE", "Asset/%d" % made["id"])    # has no event there
        self.arrived(1)

    # -- what arrives -------------------------------------------------------

    def test_4_2_payload(self):
        key = self.hook(authentication_type=1, basic_username="us",
                        basic_password="p:w")
        trigger = self.trigger(key)
        made = self.asset(fields=[{"id": SERIAL, "value": "S"}])
        body, = self.arrived(1)
        method, path, headers, _ = self.receiver.got[0]
        self.assertEqual((method, path, headers["content-type"]),
                         ("POST", "/in/x7", "application/json"))
        self.assertEqual(headers["authorization"], "Basic "
                         + base64.b64encode(b"us:p:w").decode())
        self.assertEqual(
            (body["webhook_id"], body["notification_id"], body["event"],
             body["object_id"], body["agent_id"]),
            (key, trigger, "asset created", made["id"], 1))
        uuid.UUID(body["id"])
        uuid.UUID(body["escmsg_id"])
        self.assertRegex(body["timestamp"],
                         r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z$")
        self.assertEqual(body["asset"]["key_field"], "S")
        # no signature (§4.3)
        self.assertFalse([n for n in headers if "sign" in n or "hmac" in n])

    def test_4_2_updates_deletes_and_edits_at_the_screen(self):
        key = self.hook()
        for event in ("Asset Updated", "Asset Deleted"):
            self.trigger(key, event)
        made = self.asset()
        self.arrived(0)
        self.make("Asset", id=made["id"], notes="x")
        self.control("POST", "edit", {"Asset": [{"id": made["id"],
                                                 "notes": "y"}]})
        self.call("DELETE", "Asset/%d" % made["id"])
        other = self.asset("B")
        self.control("POST", "remove", {"Asset": [other["id"]]})
        self.assertEqual([(b["event"], b["object_id"])
                          for b in self.arrived(4)],
                         [("asset updated", made["id"])] * 2
                         + [("asset deleted", made["id"]),
                            ("asset deleted", other["id"])])

    def test_4_2_refused_writes_tell_nothing(self):
        self.trigger(self.hook())
        self.bad("Asset", {"client_id": 1})
        self.asset(_validateonly=True)
        self.load(Asset=[{"assettype_id": 120}])
        self.switch(partial_array="atomic")
        self.bad("Asset", {"assettype_id": 120, "client_id": self.client}, {})
        self.arrived(0)
        # what stays stored is told
        self.switch(partial_array="stop")
        self.bad("Asset", {"assettype_id": 120, "client_id": self.client}, {})
        self.arrived(1)

    def test_4_2_object_key_and_payload_types(self):
        """§10 gap 5"""
        key = self.hook()
        self.trigger(key)
        self.switch(webhook_object_key="device")
        self.asset()
        self.assertIn("device", self.arrived(1)[0])
        self.make("Webhook", id=key, payload_type=1)
        self.asset()
        self.assertEqual(set(self.arrived(2)[1]["device"]), {
            "id", "inventory_number", "assettype_id", "client_id"})
        self.make("Webhook", id=key, payload_type=2)
        self.asset()
        self.assertNotIn("device", self.arrived(3)[2])

    def test_4_2_texts_in_the_place_of_ids(self):
        self.trigger(self.hook())
        self.asset()
        self.switch(webhook_texts=True)
        self.asset()
        plain, texts = (b["asset"] for b in self.arrived(2))
        self.assertEqual((plain["client_id"], texts["client_id"]),
                         (self.client, "Northwind"))
        self.assertEqual(texts["supplier_id"], 0)

    def test_4_1_method_and_its_number(self):
        key = self.hook(method=1)
        self.trigger(key)
        self.asset()
        self.arrived(1)
        self.assertEqual(self.receiver.got[0][0], "GET")
        self.assertEqual(self.receiver.got[0][3], b"")
        self.switch(webhook_numbers="get0")
        self.asset()
        self.arrived(2)
        self.assertEqual(self.receiver.got[1][0], "POST")
        self.make("Webhook", id=key, method=2)
        self.asset()
        self.arrived(3)
        self.assertEqual(self.receiver.got[2][0], "PUT")

    def test_4_3_headers(self):
        """§10 gap 5"""
        self.trigger(self.hook())
        self.switch(webhook_headers="X-Halo: yes\nX-Other: 1")
        self.asset()
        self.arrived(1)
        headers = self.receiver.got[0][2]
        self.assertEqual((headers["x-halo"], headers["x-other"]), ("yes", "1"))
        self.assertNotIn("authorization", headers)

    def test_4_2_batches_are_lists(self):
        self.trigger(self.hook(batch_method=1, batch_delay_seconds=0,
                               batch_limit=2))
        self.control("POST", "edit", {"Asset": [
            {"assettype_id": 120, "client_id": 1} for _ in range(3)]})
        self.assertEqual([len(b) for b in self.arrived(2)], [2, 1])

    # -- failure ------------------------------------------------------------

    def test_4_3_no_retry(self):
        self.trigger(self.hook())
        self.receiver.answers = [500]
        made = self.asset()
        self.arrived(1)
        counts = self.stats()["webhooks"]
        self.assertEqual((counts["failed"], counts.get("delivered", 0)), (1, 0))
        self.get("Asset/%d" % made["id"])       # the write stands

    def test_4_3_retries(self):
        """§10 gap 5"""
        self.trigger(self.hook())
        self.switch(webhook_retries=2)
        self.receiver.answers = [500, 503]
        self.asset()
        bodies = self.arrived(3)
        self.assertEqual(len({b["id"] for b in bodies}), 1)

    def test_4_3_events_are_kept(self):
        key = self.hook()
        self.trigger(key)
        self.receiver.answers = [403]
        self.asset()
        self.arrived(1)
        event, = self.get("WebhookEvent", webhook_id=key)["events"]
        self.assertEqual((event["responsestatus"], event["status"]), (403, 2))
        whole = self.get("WebhookEvent/" + event["id"])
        self.assertEqual(whole["responsebody"], "ok")
        self.assertEqual(json.loads(whole["request"])["webhook_id"], key)
        self.assertEqual(self.get("WebhookEvent", webhook_id=str(
            uuid.uuid4()))["events"], [])

    def test_4_3_nobody_listens_or_answers(self):
        key = self.hook(url="http://127.0.0.1:1/")
        self.trigger(key)
        self.asset()
        self.arrived(0)
        event, = self.dump("WebhookEvent")
        self.assertEqual(event["responsestatus"], 0)
        # a redirect is not followed
        self.make("Webhook", id=key, url=self.receiver.url)
        self.receiver.answers = [302]
        self.asset()
        self.arrived(1)

    def test_reset_ends_what_waits(self):
        self.trigger(self.hook(batch_method=1, batch_delay_seconds=1))
        self.asset()
        self.assertGreater(self.stats()["webhooks"]["pending"], 0)
        self.sim.sim("POST", "reset")
        time.sleep(1.2)
        self.assertEqual(self.receiver.got, [])

    def test_4_receiver_that_hangs(self):
        server = socket.socket()
        self.addCleanup(server.close)
        server.bind(("127.0.0.1", 0))
        server.listen()
        self.switch(webhook_timeout_seconds=0.2)
        self.trigger(self.hook(url="http://127.0.0.1:%d/"
                               % server.getsockname()[1]))
        self.asset()
        self.arrived(0)
        self.assertEqual(self.stats()["webhooks"]["failed"], 1)

    def test_4_3_auto_disable(self):
        """§10 gap 5"""
        key = self.hook(auto_disable_attempts=2)
        self.trigger(key)
        for disable, expected in ((False, 4), (True, 6)):
            self.switch(webhook_auto_disable=disable)
            self.make("Webhook", id=key, auto_disable_attempts=2)
            self.receiver.answers = [500] * 9
            for _ in range(4):
                self.asset()
                self.arrived()
            if not disable:
                self.receiver.answers = [200]
                self.asset()            # success starts the count anew
                self.arrived(5)
                self.receiver.got.pop()
            else:
                self.arrived(expected)
        self.assertTrue(self.get("Webhook/" + key)["disabled"])

    def test_4_3_neither_order_nor_exactly_once(self):
        key = self.hook()
        self.trigger(key)

        def order():
            self.receiver.got.clear()
            made = self.control("POST", "edit", {"Asset": [
                {"assettype_id": 120, "client_id": 1} for _ in range(2)]})
            first = made["Asset"][0]["id"]
            return [b["object_id"] - first for b in self.arrived()]
        self.assertEqual(order(), [0, 1])
        self.switch(webhook_delivery="reversed")
        self.assertEqual(order(), [1, 0])
        self.switch(webhook_delivery="lost")
        self.assertEqual(order(), [])
        self.switch(webhook_delivery="twice")
        self.assertEqual(order(), [0, 0, 1, 1])
        ids = [b["id"] for b in self.arrived()]
        self.assertEqual(ids[0], ids[1])
        self.assertNotEqual(ids[1], ids[2])
