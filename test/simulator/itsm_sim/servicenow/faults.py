"""What faults look like on an instance, and the kinds that only it has."""
import json

from ..faults import COMMON, TEXTS
from ..wire import html_reply, json_reply
from .limits import QUOTA_TEXT

KINDS = COMMON | {"202", "semaphore", "quota", "quota_cut", "lock_timeout",
                  "business_rule_abort"}


def fault_reply(fault):
    spec, kind = fault.spec, fault.kind
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
    kind, spec = fault.kind, fault.spec
    if kind == "quota_cut":
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
