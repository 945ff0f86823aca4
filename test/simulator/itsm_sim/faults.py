"""Faults that tests order (POST /__sim/faults).

Each has two moments: ``before`` may answer, wait or hang up without the
platform having done anything; ``after`` spoils the answer of something that
was done.  "Close after commit" is the one that matters most: the platform has
the record and the caller never hears of it.
"""
import json
import random

from .wire import Reply, html_reply, json_reply

BEFORE = {"status", "delay", "close_before_reply", "hang", "html", "202",
          "retry_after", "semaphore", "token_expiry", "quota"}
HANDLER = {"lock_timeout", "business_rule_abort"}
AFTER = {"close_after_commit", "hang_after_commit", "truncated_body", "garbage_body", "nul",
         "bad_utf8", "huge", "forbidden_but_created", "quota_cut",
         "short_list", "wrong_total"}
KINDS = BEFORE | HANDLER | AFTER

TEXTS = {429: "Too Many Requests", 500: "Internal Server Error",
         502: "Bad Gateway", 503: "Service Unavailable",
         504: "Gateway Timeout", 403: "User Not Authorized",
         401: "User Not Authenticated", 404: "No Record found"}
QUOTA_TEXT = ("Transaction cancelled: maximum execution time exceeded. Check "
              "logs for error trace or enable glide.rest.debug property to "
              "verify REST request processing")


class Fault:
    def __init__(self, spec):
        self.spec = spec
        self.kind = str(spec.get("fault", ""))
        if self.kind not in KINDS:
            raise ValueError("unknown fault %r; known: %s"
                             % (self.kind, ", ".join(sorted(KINDS))))
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
        elif self.endpoint not in endpoint and self.endpoint not in request.path:
            return False
        if self.sub is not None and self.sub != request.is_sub:
            return False
        if self.contains and self.contains.encode() not in request.body:
            return False
        return True

    def describe(self):
        return dict(self.spec, left=self.left, fired=self.fired)


class Faults:
    def __init__(self, seed=None):
        self.random = random.Random(seed)
        self.faults = []
        self.fired = {}

    def reset(self):
        self.faults = []
        self.fired = {}

    def add(self, spec):
        self.faults.append(Fault(spec))

    def pick(self, request, endpoint):
        """The first fault that wants this request, or None."""
        for fault in self.faults:
            if not fault.wants(request, endpoint):
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


def reply_before(fault):
    """The answer that a fault gives in the platform's stead, or None."""
    spec, kind = fault.spec, fault.kind
    if kind == "close_before_reply":
        return Reply(0, action="close")
    if kind == "hang":
        return Reply(0, action="hang")
    if kind == "html":
        return html_reply(int(spec.get("status", 200)), "Instance hibernating")
    if kind == "202":
        return html_reply(202, "Session busy")
    if kind == "semaphore":
        # No rate headers: the sign of a full semaphore queue (§8)
        return html_reply(429, "Too Many Requests")
    if kind == "quota":
        return json_reply(500, {"error": {"message": QUOTA_TEXT, "detail": ""},
                                "status": "failure"})
    if kind == "retry_after":
        status = int(spec.get("status", 429))
        return json_reply(status, _envelope(status, spec),
                          {"Retry-After": str(spec.get("seconds", 1))})
    if kind == "status":
        status = int(spec.get("status", 503))
        if "body" in spec:
            return Reply(status, str(spec["body"]).encode(),
                         {"Content-Type": spec.get("content_type",
                                                   "application/json")})
        if status in (502, 503, 504):       # a load balancer's own page
            return html_reply(status, TEXTS[status])
        return json_reply(status, _envelope(status, spec))
    return None


def _envelope(status, spec):
    return {"error": {"message": spec.get("message",
                                          TEXTS.get(status, "Error")),
                      "detail": spec.get("detail", "")},
            "status": "failure"}


def spoil(fault, reply):
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
    elif kind == "quota_cut":
        # §2.3: the status line said 200 before the transaction was cancelled
        reply.status = 200
        tail = json.dumps({"message": QUOTA_TEXT, "detail": ""})
        if spec.get("mode") == "member" and reply.body.endswith(b"}"):
            reply.body = reply.body[:-1] + (',"error":%s,"status":"failure"}'
                                            % tail).encode()
        else:
            reply.body = reply.body[:len(reply.body) // 2]
    elif kind == "short_list":
        reply.body = _half_a_list(reply.body)
    elif kind == "wrong_total":
        for name in [n for n in reply.headers if n.lower() == "x-total-count"]:
            reply.headers[name] = str(spec.get("total", 0))
    elif kind == "forbidden_but_created":
        # §2.3: the caller may create but not read (KB2697679)
        return json_reply(403, {
            "error": {"message": "Operation Failed", "detail":
                      "ACL Exception Insert Failed due to security constraints"},
            "status": "failure"})
    return reply


def _into_a_string(body, mark):
    """Puts bytes into the first string value, so that only a reader that
    checks text notices."""
    at = body.find(b'":"')
    if at < 0:
        return body + mark
    return body[:at + 3] + mark + body[at + 3:]


def _half_a_list(body):
    """A list of which rows are missing though the JSON is whole."""
    try:
        answer = json.loads(body)
    except ValueError:
        return body
    rows = answer.get("result") if isinstance(answer, dict) else None
    if not isinstance(rows, list):
        return body
    answer["result"] = rows[:len(rows) // 2]
    return json.dumps(answer).encode()
