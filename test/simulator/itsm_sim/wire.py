"""Requests and replies as the platforms see them; aiohttp stays in front.py.

A batch's sub-request is the same kind of object as one from the wire, so
that it takes the same road.
"""
import json
import urllib.parse


class Request:
    __slots__ = ("method", "target", "path", "query", "headers", "body",
                 "is_sub", "user", "inject", "peer_cert", "scheme", "host",
                 "spent", "entry", "auth_kind", "conflict")

    def __init__(self, method, target, headers, body, is_sub=False,
                 override=False):
        self.target = target
        raw_path, _, raw_query = target.partition("?")
        self.path = urllib.parse.unquote(raw_path, errors="replace")
        self.query = {}
        for name, value in urllib.parse.parse_qsl(
                raw_query, keep_blank_values=True, errors="replace"):
            self.query.setdefault(name, value)
        self.headers = headers          # lower-case names
        if override:
            method = headers.get("x-http-method-override", method)
        self.method = method.upper()
        self.body = body
        self.is_sub = is_sub
        self.user = None
        self.inject = {}                # what a fault wants the handler to do
        self.peer_cert = None
        self.scheme = "http"
        self.host = headers.get("host", "")
        self.spent = 0.0                # seconds that faults made it take
        self.entry = None               # its row in the request log
        self.auth_kind = ""
        self.conflict = False


class Reply:
    __slots__ = ("status", "body", "headers", "action", "committed")

    def __init__(self, status, body=b"", headers=None, action=None):
        self.status = status
        self.body = body
        self.headers = headers or {}
        self.action = action            # what the wire does with it: faults.py
        self.committed = False


JSON_TYPE = "application/json;charset=UTF-8"


def json_reply(status, value, headers=None):
    body = json.dumps(value, ensure_ascii=False,
                      separators=(",", ":")).encode("utf-8", "replace")
    reply = Reply(status, body, {"Content-Type": JSON_TYPE})
    reply.headers.update(headers or {})
    return reply


def html_reply(status, title):
    page = ("<!DOCTYPE html><html><head><title>%s</title></head><body>"
            "<h1>%s</h1></body></html>" % (title, title))
    return Reply(status, page.encode(), {"Content-Type": "text/html;charset=UTF-8"})


class CloseConnection(Exception):
    """A fault on a sub-request that ends the whole connection."""

    def __init__(self, action):
        super().__init__(action)
        self.action = action
