"""What faults look like on a tenant."""
import json

from ..faults import COMMON
from ..wire import Reply, html_reply

KINDS = COMMON | {"redirect", "validation"}


def fault_reply(fault, platform):
    """500 and its like have no body (§0 rule 8); 502 to 504 are a gateway's
    page (§5.2); 429 is as the rate limit answers."""
    spec, kind = fault.spec, fault.kind
    if kind == "redirect":
        return Reply(302, b"", {"Location": str(
            spec.get("location", "https://elsewhere.example.org/"))})
    if kind == "validation":
        return _validation(spec)
    if kind == "retry_after":
        status = int(spec.get("status", 429))
        reply = platform.rate.reply() if status == 429 else Reply(status)
        reply.headers["Retry-After"] = str(spec.get("seconds", 1))
        return reply
    if kind == "status":
        status = int(spec.get("status", 500))
        if status == 429:
            return platform.rate.reply()
        if status in (502, 503, 504):
            return html_reply(status, "Gateway error")
        return Reply(status)
    return None


def _validation(spec):
    """A 400 in one of the shapes of §5.3: string, exception, model."""
    from . import errors
    text = str(spec.get("message", "Refused"))
    shape = {"string": errors.string_400,
             "exception": errors.exception_400}.get(
                 spec.get("shape", "string"))
    error = shape(text) if shape else errors.model_400(
        str(spec.get("path", "[0].name")), text)
    return Reply(400, json.dumps(error.value).encode(),
                 {"Content-Type": "application/json; charset=utf-8"})


def spoil(fault, reply):
    kind, spec = fault.kind, fault.spec
    if kind == "forbidden_but_created":
        return Reply(403)
    if kind in ("short_list", "wrong_total"):
        try:
            answer = json.loads(reply.body)
        except ValueError:
            return reply
        if kind == "wrong_total":
            if isinstance(answer, dict) and "record_count" in answer:
                answer["record_count"] = spec.get("total", 0)
        else:
            answer = _shortened(answer, spec)
        reply.body = json.dumps(answer).encode()
    return reply


def _shortened(answer, spec):
    """A page that was cut short though the JSON is whole: half of its rows,
    or the first ``keep``."""
    def cut(rows):
        return rows[:int(spec.get("keep", len(rows) // 2))]
    if isinstance(answer, list):
        return cut(answer)
    if "record_count" not in answer:
        return answer
    return {name: cut(value) if isinstance(value, list) and name != "columns"
            else value for name, value in answer.items()}
