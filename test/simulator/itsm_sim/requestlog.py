"""Counters and the last requests, without secrets."""
import collections
import re
import time
import urllib.parse

MAX_BODY = 262144           # of one entry
MAX_TOTAL = 64 << 20        # of all entries
SECRET_FIELDS = ("client_secret", "password", "refresh_token", "access_token",
                 "token", "assertion", "x-sn-apikey", "basic_password")
SECRET_JSON = re.compile(
    r'("(?:%s)"\s*:\s*")(?:[^"\\]|\\.)*"' % "|".join(SECRET_FIELDS))


def redact_form(text):
    pairs = urllib.parse.parse_qsl(text, keep_blank_values=True)
    if not any(name in SECRET_FIELDS for name, _ in pairs):
        return text
    return urllib.parse.urlencode(
        [(n, "***" if n in SECRET_FIELDS else v) for n, v in pairs],
        quote_via=urllib.parse.quote, safe="*")


class RequestLog:
    def __init__(self, keep=2000):
        self.entries = collections.deque()
        self.keep = keep
        self.bytes = 0
        self.secrets = lambda: ()
        self.in_flight = self.hanging = 0
        self.reset()

    def reset(self):
        self.entries.clear()
        self.bytes = 0
        self.number = 0
        self.total = 0
        self.writes = self.reads = self.auth = 0
        self.by_endpoint = collections.Counter()
        self.by_status = collections.Counter()
        self.sub = {"total": 0, "writes": 0, "reads": 0}
        self.sub_endpoint = collections.Counter()
        # what is on the wire stays there when the counters are reset
        self.max_in_flight = self.in_flight

    # -- counting -----------------------------------------------------------

    def open(self, request, endpoint, is_read, is_auth):
        """Counts a request at its arrival, whatever becomes of it."""
        if request.is_sub:
            self.sub["total"] += 1
            self.sub["reads" if is_read else "writes"] += 1
            self.sub_endpoint[endpoint] += 1
        else:
            self.total += 1
            self.by_endpoint[endpoint] += 1
            if is_auth:
                self.auth += 1
        self.number += 1
        entry = {"n": self.number, "method": request.method,
                 "path": request.path, "endpoint": endpoint,
                 "query": redact_form(request.target.partition("?")[2]),
                 "at": time.time(), "status": None, "fault": None, "sub": request.is_sub,
                 "body": self._body(request)}
        self.entries.append(entry)
        self.bytes += len(entry["body"]) + 500
        while len(self.entries) > self.keep or self.bytes > MAX_TOTAL:
            self.bytes -= len(self.entries.popleft()["body"]) + 500
        request.entry = entry
        return entry

    def count_kind(self, wrote):
        """A batch is a write if any of its parts is."""
        if wrote:
            self.writes += 1
        else:
            self.reads += 1

    @staticmethod
    def _body(request):
        text = request.body[:MAX_BODY].decode("utf-8", "replace")
        if "x-www-form-urlencoded" in request.headers.get("content-type", ""):
            return redact_form(text)
        return SECRET_JSON.sub(r'\1***"', text)

    def close(self, request, status):
        request.entry["status"] = status
        if not request.is_sub:
            self.by_status[str(status)] += 1

    # -- showing ------------------------------------------------------------

    def last(self, count, contains="", method=""):
        secrets = sorted(self.secrets(), key=len, reverse=True)
        found = []
        for entry in reversed(self.entries):
            if contains and contains not in entry["endpoint"] \
                    and contains not in entry["path"]:
                continue
            if method and method != entry["method"]:
                continue
            found.append(self._clean(entry, secrets))
            if len(found) >= count:
                break
        return found[::-1]

    @staticmethod
    def _clean(entry, secrets):
        shown = dict(entry)
        for name in ("query", "body", "path"):
            for secret in secrets:
                if secret in shown[name]:
                    shown[name] = shown[name].replace(secret, "***")
        return shown

    def counters(self):
        return {"requests": self.total,
                "by_endpoint": dict(sorted(self.by_endpoint.items())),
                "by_status": dict(sorted(self.by_status.items())),
                "writes": self.writes, "reads": self.reads, "auth": self.auth,
                "batch_subrequests": dict(
                    self.sub, by_endpoint=dict(sorted(
                        self.sub_endpoint.items()))),
                "in_flight": self.in_flight, "hanging": self.hanging,
                "max_in_flight": self.max_in_flight}
