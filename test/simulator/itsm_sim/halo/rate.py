"""The sliding window of the fair-use limit (§5.1)."""
import collections
import json

from ..wire import Reply

MESSAGE = "Rate Limit Reached - %d Requests per rolling %s window."


class Rate:
    def __init__(self, clock, switches):
        self.clock = clock
        self.switches = switches
        self.times = collections.deque()
        self.most = 0               # highest count in any window
        self.turned_away = 0

    def check(self):
        """None, or the 429."""
        limit = self.switches["halo_rate_requests"]
        now = self.clock.now()
        begin = now - self.switches["halo_rate_seconds"]
        while self.times and self.times[0] <= begin:
            self.times.popleft()
        refused = bool(limit) and len(self.times) >= limit
        if not refused or self.switches["halo_rate_refused"]:
            self.times.append(now)
        self.most = max(self.most, len(self.times))
        if not refused:
            return None
        self.turned_away += 1
        return self.reply(limit)

    def reply(self, limit=None):
        limit = self.switches["halo_rate_requests"] if limit is None else limit
        seconds = self.switches["halo_rate_seconds"]
        span = "%g minute" % (seconds / 60) if seconds >= 60 \
            else "%g second" % seconds
        text = MESSAGE % (limit, span)
        reply = Reply(429)
        kind = self.switches["halo_rate_body"]
        if kind == "json":
            reply.body = json.dumps(text).encode()
            reply.headers["Content-Type"] = "application/json; charset=utf-8"
        elif kind == "text":
            reply.body = text.encode()
            reply.headers["Content-Type"] = "text/plain; charset=utf-8"
        if self.switches["halo_retry_after"]:
            reply.headers["Retry-After"] = str(self.wait())
        return reply

    def wait(self):
        """Seconds until the next request would be let in."""
        limit = self.switches["halo_rate_requests"]
        if not limit or len(self.times) < limit:
            return 1
        freed = self.times[len(self.times) - limit] \
            + self.switches["halo_rate_seconds"]
        return max(1, int(freed - self.clock.now()) + 1)

    def describe(self):
        return {"requests": self.switches["halo_rate_requests"],
                "seconds": self.switches["halo_rate_seconds"],
                "in_window": len(self.times), "most": self.most,
                "turned_away": self.turned_away}
