"""Control endpoints under /__sim/: no sign-in, loopback only (the process
binds nothing else), never counted.

/__sim/CALL is of the first platform, /__sim/PLATFORM/CALL of one by its name;
what is of no platform (faults, clock, requests...) is there under both.
"""
import json

MAX_LISTED = 100


class BadRequest(Exception):
    pass


class PlatformControl:
    """A platform's own calls: methods ``get_NAME(query, doc)`` and so on."""

    RAW = frozenset()               # calls whose bodies are no JSON

    def __init__(self, front, platform):
        self.front = front
        self.platform = platform


class Control:
    def __init__(self, front):
        self.front = front
        self.parts = {p.name: p.control(front) for p in front.platforms}

    def _action(self, method, path):
        """(what to call or None, whether its body is raw)"""
        first, _, rest = path[len("/__sim/"):].strip("/").partition("/")
        part = self.parts[self.front.platforms[0].name]
        if first in self.parts:
            part, first, rest = self.parts[first], rest, ""
        if rest or not first.replace("_", "").isalpha():
            return None, False
        name = "%s_%s" % (method.lower(), first)
        action = getattr(self, name, None) or getattr(part, name, None)
        return action, first in part.RAW

    def handle(self, method, path, query, body):
        """(status, JSON value)"""
        action, raw = self._action(method, path)
        if action is None:
            return 404, {"error": "no control endpoint %s %s" % (method, path)}
        if raw:
            try:
                return 200, action(query, body)
            except ValueError as error:
                return 400, {"error": str(error)}
        try:
            doc = json.loads(body) if body.strip() else {}
        except ValueError as error:
            return 400, {"error": "body is not JSON: %s" % error}
        if not isinstance(doc, (dict, list)):
            return 400, {"error": "body is not an object"}
        try:
            return 200, action(query, doc)
        except (BadRequest, ValueError, KeyError, TypeError) as error:
            return 400, {"error": str(error)}

    def get_requests(self, query, doc):
        count = min(int(query.get("n", 100)), self.front.log.keep)
        return {"requests": self.front.log.last(
            count, query.get("endpoint", ""), query.get("method", "").upper())}

    # -- arranging ----------------------------------------------------------

    def post_reset(self, query, doc):
        self.front.clock.offset = 0.0
        self.front.switches.reset()
        self.front.faults.reset()
        for platform in self.front.platforms:
            platform.start()
        self.front.wire()
        self.front.log.reset()
        return {"reset": True}

    def post_counters(self, query, doc):
        """Counters and request log to zero, data kept."""
        self.front.log.reset()
        return {"reset": True}

    def get_faults(self, query, doc):
        return {"faults": [f.describe() for f in self.front.faults.faults],
                "fired": self.front.faults.fired}

    def post_faults(self, query, doc):
        for spec in doc if isinstance(doc, list) else [doc]:
            self.front.faults.add(spec)
        return self.get_faults(query, doc)

    def delete_faults(self, query, doc):
        self.front.faults.reset()
        return {"faults": []}

    def get_switches(self, query, doc):
        return self.front.switches.listing()

    def post_switches(self, query, doc):
        self.front.switches.update(doc)
        return {name: self.front.switches[name] for name in doc}

    def get_clock(self, query, doc):
        return {"now": self.front.clock.now(),
                "offset": self.front.clock.offset,
                "utc": self.front.clock.stamp()}

    def post_clock(self, query, doc):
        """{"advance": seconds} or {"set": seconds since 1970, or UTC text}"""
        clock = self.front.clock
        if "set" in doc:
            clock.set(doc["set"])
        else:
            clock.advance(float(doc["advance"]))
        return self.get_clock(query, doc)


def listing(found):
    """How many, and the first of them."""
    found = list(found)
    return {"count": len(found), "first": found[:MAX_LISTED]}
