"""Rate-limit rules, semaphores and transaction quotas (§8)."""
import asyncio

from ..wire import html_reply, json_reply

QUOTA_TEXT = ("Transaction cancelled: maximum execution time exceeded. Check "
              "logs for error trace or enable glide.rest.debug property to "
              "verify REST request processing")

# Counters are kept for this many (rule, user) pairs at most.
MAX_WINDOWS = 100000


class Rule:
    def __init__(self, spec, sys_id):
        if "path_prefix" not in spec or "limit" not in spec:
            raise ValueError("a rule has path_prefix and limit")
        self.prefix = spec["path_prefix"]
        self.method = str(spec.get("method", "")).upper()
        self.user = spec.get("user", "")
        self.role = spec.get("role", "")
        self.limit = int(spec["limit"])
        self.window = float(spec.get("window_seconds", 3600))
        self.batch_counts = spec.get("batch_counts", "")
        self.api = spec.get("api", "")
        self.sys_id = spec.get("sys_id") or sys_id
        if self.window <= 0 or self.limit < 0:
            raise ValueError("window_seconds must be positive, limit not negative")
        if self.batch_counts not in ("", "call", "each"):
            raise ValueError("batch_counts is call or each")

    @property
    def rank(self):
        """user > role > all; of several roles the lowest (§8)."""
        if self.user:
            return (0, self.limit)
        if self.role:
            return (1, self.limit)
        return (2, self.limit)


class Limits:
    def __init__(self, platform):
        self.platform = platform
        self.reset()

    def reset(self):
        self.rules = []
        self.windows = {}           # (rule, user) -> [start, count]
        self.most = {}              # rule -> highest count of any window
        self.slots, self.queue = 4, 50      # API_INT, per node (§8)
        self.waiting = 0
        self.running = 0
        self.waiters = []
        self.quota_rows = 0
        self.quota_mode = "500"
        self.turned_away = {"rate": 0, "semaphore": 0, "quota": 0}

    def configure(self, doc):
        rules = [Rule(spec, self.platform.stable_id(
            "sys_rate_limit_rules", "%d %s" % (n, spec.get("path_prefix"))))
            for n, spec in enumerate(doc.get("rules", []))]
        semaphore = doc.get("semaphore", {})
        quota = doc.get("quota", {})
        if "rules" in doc:
            self.rules, self.windows, self.most = rules, {}, {}
        self.slots = int(semaphore.get("slots", self.slots))
        self.queue = int(semaphore.get("queue", self.queue))
        self.quota_rows = int(quota.get("max_rows", self.quota_rows))
        self.quota_mode = str(quota.get("mode", self.quota_mode))

    def describe(self):
        return {"rules": [{"path_prefix": r.prefix, "method": r.method,
                           "user": r.user, "role": r.role, "limit": r.limit,
                           "window_seconds": r.window, "sys_id": r.sys_id,
                           "batch_counts": r.batch_counts,
                           "most": self.most.get(r.sys_id, 0)}
                          for r in self.rules],
                "semaphore": {"slots": self.slots, "queue": self.queue},
                "quota": {"max_rows": self.quota_rows, "mode": self.quota_mode},
                "turned_away": self.turned_away}

    # -- rate rules ---------------------------------------------------------

    def _rule_for(self, request, plain_path):
        best = None
        for rule in self.rules:
            if not (plain_path.startswith(rule.prefix)
                    or request.path.startswith(rule.prefix)):
                continue
            if rule.method and rule.method != request.method:
                continue
            if rule.user and rule.user not in (request.user.user_name,
                                               request.user.sys_id):
                continue
            if rule.role and rule.role not in request.user.roles:
                continue
            if best is None or rule.rank < best.rank:
                best = rule
        return best

    def check(self, request, plain_path):
        """(headers, reply or None): headers go on every answer to a request
        that matches a rule, also 200."""
        rule = self._rule_for(request, plain_path)
        if rule is None:
            return {}, None         # an instance without rules sends none
        if request.is_sub:
            mode = rule.batch_counts or self.platform.switches["batch_counts"]
            if mode == "call":
                return {}, None
        now = self.platform.clock.now()
        key = (rule.sys_id, request.user.sys_id)    # each user has his count
        window = self.windows.get(key)
        if window is None or now - window[0] >= rule.window:
            if len(self.windows) > MAX_WINDOWS:
                self.windows.clear()
            window = self.windows[key] = [now, 0]
        reset = window[0] + rule.window
        headers = {"X-RateLimit-Limit": str(rule.limit),
                   "X-RateLimit-Reset": str(int(reset) + 1),
                   "X-RateLimit-Rule": rule.sys_id}
        window[1] += 1
        self.most[rule.sys_id] = max(window[1], self.most.get(rule.sys_id, 0))
        if window[1] <= rule.limit:
            return headers, None
        self.turned_away["rate"] += 1
        headers["Retry-After"] = str(max(1, int(reset - now) + 1))
        body = {"error": {"message": "Rate limit exceeded", "detail":
                          "Rate limit of %d requests per hour for %s exceeded"
                          % (rule.limit, rule.api or _api_name(plain_path))},
                "status": "failure"}
        return headers, json_reply(429, body, headers)

    # -- semaphores ---------------------------------------------------------

    async def enter(self):
        """None when a slot is had, else the 429 of a full queue, which
        carries none of the rate headers (§8)."""
        if self.running < self.slots:
            self.running += 1
            return None
        if len(self.waiters) >= self.queue:
            self.turned_away["semaphore"] += 1
            return html_reply(429, "Too Many Requests")
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self.waiters:
                self.waiters.remove(waiter)
            elif waiter.done() and not waiter.cancelled():
                self.leave()
            raise
        return None

    def leave(self):
        while self.waiters:
            waiter = self.waiters.pop(0)
            if not waiter.done():
                waiter.set_result(None)     # the slot changes hands
                return
        self.running = max(0, self.running - 1)

    # -- quotas -------------------------------------------------------------

    def quota(self, rows):
        """'' or how the transaction is cancelled: '500' or '200' (§2.3)."""
        if self.quota_rows and rows > self.quota_rows:
            self.turned_away["quota"] += 1
            return self.quota_mode
        return ""


def quota_reply():
    return json_reply(500, {"error": {"message": QUOTA_TEXT, "detail": ""},
                            "status": "failure"})


def _api_name(path):
    names = {"table": "Table API", "stats": "Aggregate API",
             "identifyreconcile": "Identification and Reconciliation API",
             "cmdb": "CMDB Instance API", "batch": "Batch API",
             "import": "Import Set API", "v1": "Batch API"}
    parts = path.split("/")
    return names.get(parts[3] if len(parts) > 3 else "", "REST API")
