"""Request and response bodies in JSON and XML (§2.1)."""
import json
import xml.etree.ElementTree as ElementTree
from xml.sax.saxutils import escape

from ..wire import Reply, json_reply
from .errors import ApiError, bad_body

MAX_DEPTH = 64


def wants_xml(request):
    accept = request.headers.get("accept", "")
    return ("xml" in accept and "application/json" not in accept)


def reply(request, status, value, headers=None):
    """``value`` as the client's Accept asks."""
    if not wants_xml(request):
        return json_reply(status, value, headers)
    text = '<?xml version="1.0" encoding="UTF-8"?>' + _xml("response", value)
    answer = Reply(status, text.encode("utf-8", "replace"),
                   {"Content-Type": "application/xml;charset=UTF-8"})
    answer.headers.update(headers or {})
    return answer


def _xml(name, value):
    if isinstance(value, dict):
        inner = "".join(_xml(k, v) for k, v in value.items())
    elif isinstance(value, list):
        return "".join(_xml(name, v) for v in value)
    else:
        inner = escape("" if value is None else str(value))
    return "<%s>%s</%s>" % (name, inner, name)


def read_json(request):
    """Any JSON value; malformed is the 400 envelope (§2.3)."""
    try:
        text = request.body.decode("utf-8")
    except UnicodeDecodeError:
        raise bad_body("The payload is not valid UTF-8") from None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise bad_body("The payload is not valid JSON: %s"
                       % str(error)[:200]) from None
    if _depth(value) > MAX_DEPTH:
        raise bad_body("The payload is nested too deeply")
    return value


def _depth(value):
    deepest, level = 0, [value]
    while level:
        deepest += 1
        inner = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(v for v in item.values()
                             if isinstance(v, (dict, list)))
            elif isinstance(item, list):
                inner.extend(v for v in item if isinstance(v, (dict, list)))
        level = inner
        if deepest > MAX_DEPTH:
            break
    return deepest


def read_object(request):
    """One record: a JSON object, or the first object of an array (§2.8)."""
    kind = request.headers.get("content-type", "")
    if "xml" in kind:
        return _read_xml(request)
    if not request.body.strip():
        return {}
    value = read_json(request)
    if isinstance(value, list):
        value = value[0] if value else {}
    if not isinstance(value, dict):
        raise bad_body("The payload is not a JSON object")
    return value


def _read_xml(request):
    if b"<!DOCTYPE" in request.body or b"<!ENTITY" in request.body:
        raise bad_body("DOCTYPE is not allowed")
    try:
        root = ElementTree.fromstring(request.body)
    except ElementTree.ParseError as error:
        raise bad_body(str(error)) from None
    entry = root.find("entry")
    return {e.tag: e.text or "" for e in (root if entry is None else entry)}


def require_json(request):
    """IRE and Batch take JSON only (§5.1)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind.lower() != "application/json":
        raise ApiError(415, "Unsupported media type", kind[:200])
