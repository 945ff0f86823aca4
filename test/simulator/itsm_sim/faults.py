"""Faults that tests order (POST /__sim/faults).

Each has two moments: ``before`` may answer, wait or hang up without the
platform having done anything; ``after`` spoils the answer of something that
was done.  "Close after commit" is the one that matters most: the platform has
the record and the caller never hears of it.
"""
import random

from .wire import Reply, html_reply

# A platform has these and may have more (Platform.fault_kinds).
BEFORE = {"status", "delay", "close_before_reply", "hang", "html",
          "retry_after", "token_expiry"}
AFTER = {"close_after_commit", "hang_after_commit", "truncated_body",
         "garbage_body", "nul", "bad_utf8", "huge", "short_list",
         "wrong_total", "forbidden_but_created"}
COMMON = frozenset(BEFORE | AFTER)

TEXTS = {429: "Too Many Requests", 500: "Internal Server Error",
         502: "Bad Gateway", 503: "Service Unavailable",
         504: "Gateway Timeout", 403: "User Not Authorized",
         401: "User Not Authenticated", 404: "No Record found"}


class Fault:
    def __init__(self, spec, known):
        self.spec = spec
        self.kind = str(spec.get("fault", ""))
        if self.kind not in known:
            raise ValueError("unknown fault %r; known: %s"
                             % (self.kind, ", ".join(sorted(known))))
        self.endpoint = str(spec.get("endpoint", "*"))
        self.method = str(spec.get("method", "")).upper()
        self.left = int(spec.get("count", 1))
        self.skip = int(spec.get("skip", 0))
        self.probability = float(spec.get("probability", 1.0))
        self.sub = spec.get("sub")          # True, False or None: either
        self.contains = spec.get("body_contains", "")
        self.fired = 0

    def wants(self, request, endpoint):
        if self.left == 0:
            return False
        if self.method and self.method != request.method:
            return False
        if self.endpoint == "*":
            # A bare "*" means calls on the wire, not a batch's parts.
            if request.is_sub and self.sub is not True:
                return False
        elif not self._names(endpoint) and not self._names(request.path):
            return False
        if self.sub is not None and self.sub != request.is_sub:
            return False
        if self.contains and self.contains.encode() not in request.body:
            return False
        return True

    def _names(self, text):
        """Part of a text, or with a $ behind it the end of it."""
        if self.endpoint.endswith("$"):
            return text.endswith(self.endpoint[:-1])
        return self.endpoint in text

    def describe(self):
        return dict(self.spec, left=self.left, fired=self.fired)


class Faults:
    def __init__(self, seed=None, known=COMMON):
        self.random = random.Random(seed)
        self.known = known
        self.faults = []
        self.fired = {}

    def reset(self):
        self.faults = []
        self.fired = {}

    def add(self, spec):
        self.faults.append(Fault(spec, self.known))

    def pick(self, request, endpoint, kinds=COMMON):
        """The first fault that wants this request, or None; kinds are those
        that the platform asked has."""
        for fault in self.faults:
            if fault.kind not in kinds or not fault.wants(request, endpoint):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            if self.random.random() >= fault.probability:
                continue
            if fault.left > 0:
                fault.left -= 1
            fault.fired += 1
            self.fired[fault.kind] = self.fired.get(fault.kind, 0) + 1
            return fault
        return None


def reply_before(fault, platform):
    """The answer that a fault gives in the platform's stead, or None."""
    spec, kind = fault.spec, fault.kind
    if kind == "close_before_reply":
        return Reply(0, action="close")
    if kind == "hang":
        return Reply(0, action="hang")
    if kind == "html":
        return html_reply(int(spec.get("status", 200)),
                          str(spec.get("title", "Instance hibernating")))
    if kind == "status" and "body" in spec:
        return Reply(int(spec.get("status", 503)), str(spec["body"]).encode(),
                     {"Content-Type": spec.get("content_type",
                                               "application/json")})
    return platform.fault_reply(fault)


def spoil(fault, reply, platform):
    """The answer after the deed, as the fault leaves it."""
    kind, spec = fault.kind, fault.spec
    if kind == "close_after_commit":
        reply.action = "close"
    elif kind == "hang_after_commit":
        reply.action = "hang"
    elif kind == "truncated_body":
        reply.action = "truncate"
    elif kind == "garbage_body":
        reply.body = bytes(range(255, 127, -1)) * 4
    elif kind == "nul":
        # Both forms that reach a text column: escaped, and the byte itself
        mark = b"\0" if spec.get("mode") == "raw" else b"\\u0000"
        reply.body = _into_a_string(reply.body, mark)
    elif kind == "bad_utf8":
        reply.body = _into_a_string(reply.body, b"\xc3\x28\xff")
    elif kind == "huge":
        size = min(int(spec.get("bytes", 64 << 20)), 1 << 30)
        reply.action = ("huge", size)
    else:
        return platform.spoil(fault, reply)
    return reply


def _into_a_string(body, mark):
    """Puts bytes into the first string value, so that only a reader that
    checks text notices."""
    at = body.find(b'":"')
    if at < 0:
        return body + mark
    return body[:at + 3] + mark + body[at + 3:]
