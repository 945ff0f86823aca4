"""/Webhook, /Notification, /WebhookEvent, and the deliveries themselves: real
HTTP, basic authentication or none, no signature, no retry (§4)."""
import asyncio
import collections
import json
import time
import urllib.parse
import uuid

import aiohttp

from . import dates, errors
from . import members as m
from .people import unique_name
from .resource import Resource

METHODS = ("POST", "GET", "PUT", "DELETE", "PATCH")
KEPT_EVENTS = 5000


class Webhook(Resource):
    """Its id is a uuid, the list a bare array (§4.1 [L])."""
    name, members, uuid = "Webhook", m.WEBHOOK, True
    scope = "admin"
    required = ("name",)

    def new_key(self):
        return str(uuid.uuid4())

    def prepare(self, call, row, values, existing):
        if existing is None:
            row["active"] = self.switches["halo_active_default"]
            row.setdefault("type", 0)

    def check(self, call, row, values, existing):
        super().check(call, row, values, existing)
        unique_name(self, row)
        address = urllib.parse.urlsplit(row.get("url", ""))
        if row["type"] == 0 and (address.scheme not in ("http", "https")
                                 or not address.hostname):
            raise errors.exception_400("Please enter a valid URL")

    def _shown(self, row, names):
        shown = super()._shown(row, names)
        shown.pop("basic_password", None)
        return shown

    def removed(self, call, row):
        for trigger in self.store.find("Notification", "webhook_id",
                                       row["id"]):
            self.store.remove("Notification", trigger["id"])


class Notification(Resource):
    """The trigger: fires with type -2, delivery_method 6 and the id of a
    webhook (§4.1 [L])."""
    name, members, scope = "Notification", m.NOTIFICATION, "admin"
    required = ("name", "eventno")

    def linked(self, call, row, values, existing):
        if "conditions" in values:
            self.store.put(self.name,
                           dict(row, _conditions=values["conditions"]))

    def details(self, shown, row, call):
        if row.get("_conditions"):
            shown["conditions"] = row["_conditions"]


class WebhookEvent(Resource):
    """Deliveries with their request and response (§4.3)."""
    name, rows, scope = "WebhookEvent", "events", "admin"
    uuid, can = True, ("list", "get")
    members = m.members("""
        id text; webhook_id text; notification_id int; event text
        object_id int; datetime date; status int; responsestatus int
        responsebody text; duration int; request text
        """)
    row_members = ("id webhook_id datetime status responsestatus "
                   "duration").split()
    searched = ("event",)
    filters = {"webhook_id": ("text", lambda p, row, value:
                              row.get("webhook_id") == value)}


class Webhooks:
    """Queue and sender.  Nothing is sent before the answer of the write that
    caused it is ready."""

    def __init__(self, platform):
        self.platform = platform
        self.store = platform.store
        self.switches = platform.switches
        self.queue = collections.deque()
        self.task = None
        self.counts = collections.Counter()

    def asset_events(self):
        """(number, name): created, updated, deleted (§10 gap 5)."""
        base = int(self.switches["halo_asset_event_base"])
        names = self.switches["halo_asset_events"].split(",")
        return [(base + n, name.strip()) for n, name in enumerate(names)]

    # -- what happened ------------------------------------------------------

    def happened(self, caller, number, object_id, shown):
        """An asset event: one delivery for each trigger that listens."""
        events = self.asset_events()
        if number >= len(events):
            return
        eventno, name = events[number]
        for trigger in self.store.find("Notification", "eventno", eventno):
            hook = self.store.get("Webhook", trigger.get("webhook_id"))
            if hook is None or trigger.get("type") != -2 \
                    or trigger.get("delivery_method") != 6 \
                    or not hook.get("active") or hook.get("disabled") \
                    or not self._meets(trigger, shown):
                continue
            self._enqueue(hook, self._payload(
                hook, trigger, caller, name, object_id, shown))

    @staticmethod
    def _meets(trigger, shown):
        """Conditions: field, type, value (§4.1); equality only [A]."""
        return all(str(shown.get(c.get("field"), "")) == str(c.get("value"))
                   for c in trigger.get("_conditions", []))

    def _payload(self, hook, trigger, caller, name, object_id, shown):
        """§4.2; payload_type 0 full, 1 small, 2 the event only [A]."""
        payload = {
            "id": str(uuid.uuid4()), "webhook_id": hook["id"],
            "notification_id": trigger["id"], "escmsg_id": str(uuid.uuid4()),
            "event": name.lower(),
            "message": "%s: %s" % (name, shown.get("inventory_number", "")),
            "object_id": object_id, "agent_id": caller.agent_id,
            "timestamp": dates.event_stamp(self.platform.now())}
        if self.switches["halo_webhook_texts"]:
            joins = self.platform.resources["asset"].joins
            shown = dict(shown, **{own: shown[name] for name, (own, _, _)
                                   in joins.items() if shown.get(name)})
        kind = hook.get("payload_type", 0)
        key = self.switches["halo_webhook_object_key"]
        if kind == 0:
            payload[key] = shown
        elif kind == 1:
            payload[key] = {n: shown[n] for n in (
                "id", "inventory_number", "assettype_id", "client_id")
                if n in shown}
        return payload

    def _enqueue(self, hook, payload):
        way = self.switches["halo_webhook_delivery"]
        self.counts["queued"] += 1
        if way == "lost":
            self.counts["lost"] += 1
            return
        for _ in range(2 if way == "twice" else 1):
            self.queue.append((hook["id"], payload))
        if self.task is None or self.task.done():
            self.task = asyncio.get_running_loop().create_task(self._run())

    def stop(self):
        self.queue.clear()
        if self.task is not None:
            self.task.cancel()

    @property
    def pending(self):
        return len(self.queue) + (self.task is not None
                                  and not self.task.done())

    # -- sending ------------------------------------------------------------

    async def _run(self):
        await asyncio.sleep(0)          # the write's answer first
        async with aiohttp.ClientSession() as session:
            while self.queue:
                if self.switches["halo_webhook_delivery"] == "reversed":
                    await asyncio.sleep(0.1)
                    self.queue.reverse()
                hook_id, payloads = await self._next()
                hook = self.store.get("Webhook", hook_id)
                if hook is not None and not hook.get("disabled"):
                    await self._deliver(session, hook, payloads)

    async def _next(self):
        """The next delivery; several in one list when the webhook batches
        (§4.2; shape [A])."""
        hook_id, payload = self.queue.popleft()
        hook = self.store.get("Webhook", hook_id) or {}
        if not hook.get("batch_method"):
            return hook_id, payload
        await asyncio.sleep(min(hook.get("batch_delay_seconds", 1), 60))
        payloads, others = [payload], collections.deque()
        limit = hook.get("batch_limit", 100) or 100
        same_event = hook["batch_method"] == 1
        while self.queue:
            entry = self.queue.popleft()
            if entry[0] == hook_id and len(payloads) < limit and (
                    not same_event or entry[1]["event"] == payload["event"]):
                payloads.append(entry[1])
            else:
                others.append(entry)
        self.queue.extend(others)
        return hook_id, payloads

    async def _deliver(self, session, hook, payloads):
        tries = 1 + int(self.switches["halo_webhook_retries"])
        for _ in range(tries):
            begin = time.monotonic()
            status, body = await self._send(session, hook, payloads)
            good = 200 <= status < 300
            self._record(hook, payloads, status, body,
                         int((time.monotonic() - begin) * 1000))
            self.counts["delivered" if good else "failed"] += 1
            if good:
                break
        self._judge(hook["id"], good)

    def _method(self, hook):
        number = hook.get("method", 0)
        if self.switches["halo_webhook_numbers"] == "get0" and number < 2:
            number = 1 - number         # sources disagree (§4.1)
        return METHODS[number] if 0 <= number < len(METHODS) else "POST"

    async def _send(self, session, hook, payloads):
        headers = {"Content-Type": "application/json"}
        for line in self.switches["halo_webhook_headers"].splitlines():
            name, _, value = line.partition(":")
            if name.strip():
                headers[name.strip()] = value.strip()
        auth = None
        if hook.get("authentication_type") == 1:
            auth = aiohttp.BasicAuth(hook.get("basic_username", ""),
                                     hook.get("basic_password", ""), "utf-8")
        limit = aiohttp.ClientTimeout(
            total=float(self.switches["halo_webhook_timeout_seconds"]))
        method = self._method(hook)
        data = None if method == "GET" else json.dumps(payloads).encode()
        try:
            async with session.request(
                    method, hook["url"], data=data, headers=headers, auth=auth,
                    timeout=limit, allow_redirects=False) as answer:
                body = await answer.content.read(4096)
                return answer.status, body.decode("utf-8", "replace")
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError,
                ValueError) as error:
            return 0, str(error) or type(error).__name__

    def _record(self, hook, payloads, status, body, duration):
        first = payloads[0] if isinstance(payloads, list) else payloads
        events = self.store.table("WebhookEvent")
        key = str(uuid.uuid4())
        self.store.put("WebhookEvent", {
            "id": key, "webhook_id": hook["id"],
            "notification_id": first["notification_id"],
            "event": first["event"], "object_id": first["object_id"],
            "datetime": dates.stamp(self.platform.now()),
            "status": 1 if 200 <= status < 300 else 2,
            "responsestatus": status, "responsebody": body,
            "duration": duration, "request": json.dumps(payloads)})
        while len(events) > KEPT_EVENTS:
            self.store.remove("WebhookEvent", next(iter(events)))
        self.store.forget()

    def _judge(self, hook_id, good):
        """auto_disable_attempts failures in a row, if that is so (§4.3)."""
        hook = self.store.get("Webhook", hook_id)
        if hook is None:
            return
        failures = 0 if good else hook.get("_failures", 0) + 1
        limit = hook.get("auto_disable_attempts", 0)
        change = {"_failures": failures, "last_status": 1 if good else 2}
        if limit and failures >= limit \
                and self.switches["halo_webhook_auto_disable"]:
            change["disabled"] = True
        self.store.put("Webhook", dict(hook, **change))
        self.store.forget()
