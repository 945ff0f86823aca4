"""Values as replies."""
import json

from ..wire import Reply
from .errors import EMPTY

JSON_TYPE = "application/json; charset=utf-8"       # §1.5 [A]


def json_value(status, value, headers=None):
    """A reply with that JSON, or without a body for EMPTY."""
    reply = Reply(status, b"", dict(headers or {}))
    if value is not EMPTY:
        reply.body = json.dumps(
            value, ensure_ascii=False,
            separators=(",", ":")).encode("utf-8", "replace")
        reply.headers["Content-Type"] = JSON_TYPE
    return reply
