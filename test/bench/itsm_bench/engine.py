"""Rows a, b and f, and claiming of row e: the engine alone, with items that SQL made."""
import statistics
import time

from .database import Failed, Watch, literal, poll
from .servers import CLASS, CLIENT, PAYLOAD, FastPlatform, Limits, SlowPlatform

IN_FLIGHT = 64
DATABASE = "engine"

# The real settling without its two expensive parts, for "claim, send and settle alone".
PARTS = ("settle_map", "settle_log")

EMPTY = """
TRUNCATE integration_run_items, integration_run_steps, integration_runs, integration_sync_map,
         integration_sync_log"""
NEW_RUN = """
INSERT INTO integration_runs (namespace_id, connection_id, kind, status, confirm, in_scope, to_update)
SELECT namespace_id, id, 'publish', 'planned', true, %(n)d, %(n)d FROM integration_connections WHERE id = %(conn)s
RETURNING id"""
NEW_STEP = """
INSERT INTO integration_run_steps (run_id, namespace_id, step, ord, title, total)
SELECT r.id, r.namespace_id, s.step, s.ord, s.title, %(n)d
  FROM integration_runs AS r, pgsync_itsm.step_of('application', %(class)s) AS s WHERE r.id = %(run)s"""
NEW_MAP = """
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id,
       external_table, published_name, sync_direction, created_by_us, last_agreed)
SELECT r.connection_id, r.namespace_id, 'application', md5('bench' || n)::uuid, md5('bench' || n)::uuid,
       md5(n::text), %(class)s, 'Benchmark application', 'published', true, %(payload)s
  FROM integration_runs AS r, generate_series(1, %(n)d) AS n WHERE r.id = %(run)s"""
NEW_ITEMS = """
INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id,
       native_key, label, action, state, payload, payload_hash, external_id, external_table)
SELECT r.id, r.connection_id, r.namespace_id, s.ord, s.step, 'application', md5('bench' || n)::uuid,
       md5('bench' || n)::uuid, 'Benchmark application', 'UPDATE', 'pending', %(payload)s, md5('payload' || n),
       md5(n::text), %(class)s
  FROM integration_runs AS r, pgsync_itsm.step_of('application', %(class)s) AS s, generate_series(1, %(n)d) AS n
 WHERE r.id = %(run)s"""
NOTHING = """
SELECT format('CREATE OR REPLACE FUNCTION pgsync_itsm.%%I(%%s) RETURNS void LANGUAGE plpgsql AS $x$BEGIN END$x$',
              p.proname, pg_get_function_arguments(p.oid))
  FROM pg_proc AS p WHERE p.proname = %s AND p.pronamespace = 'pgsync_itsm'::regnamespace"""


class Engine:
    def __init__(self, cluster, quick):
        self.cluster = cluster
        self.quick = quick
        self.session = cluster.create(DATABASE)
        self.session.ask("CREATE EXTENSION pgsync_itsm")
        self.connections = 0
        self.real = {}

    def connect(self, url, in_flight):
        self.connections += 1
        settings = '{"write_api": "instance", "verify": "false", "max_concurrency": "%d"}' % in_flight
        conn = self.session.ask(
            "SELECT itsm_connect_servicenow(gen_random_uuid(), %s, client_id => %s, client_secret => %s, "
            "settings => %s)" % (literal(url), literal(CLIENT[0]), literal(CLIENT[1]), literal(settings))
        )
        self.session.ask("SELECT itsm_activate(%s)" % literal(conn))
        return conn

    # -- a run of items that need no plan -----------------------------------------

    def fill(self, conn, n):
        """A planned run of n updates of mapped applications: its id, and how long inserting the items took."""
        self.session.ask(EMPTY)
        return self.add_run(conn, n, mapped=False)

    def add_run(self, conn, n, mapped=True):
        """The same beside what is there; mapped: the applications are known already."""
        values = {"n": n, "conn": literal(conn), "class": literal(CLASS), "payload": literal(PAYLOAD)}
        values["run"] = run = self.session.ask(NEW_RUN % values)
        self.session.ask(NEW_STEP % values)
        if not mapped:
            self.session.ask(NEW_MAP % values)
        return run, self.session.timed(NEW_ITEMS % values)

    def insert_us(self):
        """Microseconds that the bare insertion of an item takes."""
        conn = self.connect("http://127.0.0.1:9", 1)
        return statistics.median(self.fill(conn, 20000)[1] for _ in range(3)) / 20000 * 1e6

    def start(self, run):
        self.session.ask("CHECKPOINT")
        self.session.ask(
            "UPDATE integration_runs SET status = 'running', phase = 'apply', started_at = now() WHERE id = %s" % run
        )
        self.session.ask("SELECT pgsync_itsm.wake()")

    def await_end(self, run, seconds=120):
        status = poll(
            lambda: self.session.ask(
                "SELECT status FROM integration_runs WHERE id = %s AND status <> 'running'" % run
            ),
            "run %s" % run,
            seconds,
            interval=0.1,
        )
        others = self.session.ask(
            "SELECT string_agg(DISTINCT state || ': ' || coalesce(reason, '?'), '; ') FROM integration_run_items "
            "WHERE run_id = %s AND state <> 'done'" % run
        )
        if status != "done" or others:
            raise Failed("run %s ended as %s; %s" % (run, status, others))

    def rate(self, run):
        """Items a second, without the first and the last twentieth."""
        n, seconds = self.session.rows(
            "SELECT count(*), extract(epoch FROM percentile_disc(0.95) WITHIN GROUP (ORDER BY updated_at) "
            "- percentile_disc(0.05) WITHIN GROUP (ORDER BY updated_at)) FROM integration_run_items WHERE run_id = %s"
            % run
        )[0]
        if float(seconds) <= 0:
            raise Failed("integration_run_items.updated_at does not say when an item was settled")
        return 0.9 * int(n) / float(seconds)

    def go(self, conn, n, worker):
        """items/s, microseconds of the worker's CPU an item, its peak memory"""
        run, _ = self.fill(conn, n)
        with Watch(worker) as watch:
            self.start(run)
            self.await_end(run)
        return self.rate(run), watch.cpu / n * 1e6, watch.peak_mb

    # -- settling with and without its parts ---------------------------------------------

    def settle(self, with_parts):
        if not self.real:
            self.real = {
                name: self.session.ask(
                    "SELECT pg_get_functiondef(p.oid) FROM pg_proc AS p WHERE p.proname = %s "
                    "AND p.pronamespace = 'pgsync_itsm'::regnamespace AND p.prorettype = 'void'::regtype"
                    % literal(name)
                )
                for name in PARTS
            }
            if not all(self.real.values()):
                raise Failed(
                    "no functions pgsync_itsm.%s that return void: what settles cannot be taken apart"
                    % " and ".join(PARTS)
                )
        for name in PARTS:
            nothing = self.session.ask(NOTHING % literal(name))
            self.session.ask(self.real[name] if with_parts else nothing)


def median_of(samples):
    return {name: statistics.median(values) for name, values in samples.items()}


def throughput(engine, table):
    """one item a request"""
    with FastPlatform() as platform:
        engine.cluster.set(pgsync_itsm__ca_file=platform.certificate)
        race = Race(engine, platform)
        try:
            race.run()
        finally:
            engine.settle(True)
    show_throughput(table, race)


class Race:
    """The worker in four ways, and its limits, in turns."""

    kinds = ("plain", "tls")

    def __init__(self, engine, platform):
        self.engine = engine
        self.platform = platform
        self.limits = Limits(platform, IN_FLIGHT)
        self.conns = {kind: engine.connect(platform.url(kind), IN_FLIGHT) for kind in self.kinds}
        self.ways = [(kind, parts) for kind in self.kinds for parts in (True, False)]
        self.worker = engine.cluster.serve(DATABASE)
        self.fresh_mb = self.worker.private_mb()
        self.peak_mb = self.fresh_mb
        self.opened = 0
        self.samples = {}

    def sample(self, name, value):
        self.samples.setdefault(name, []).append(value)

    def run(self):
        rounds, seconds = (1, 1) if self.engine.quick else (3, 3)
        sizes = {way: self.warm_up(*way, seconds) for way in self.ways}
        for _ in range(rounds):
            for kind in self.kinds:
                for way in self.ways:
                    if way[0] == kind:
                        self.run_worker(*way, sizes[way])
                self.run_limits(kind, seconds)

    def warm_up(self, kind, parts, seconds):
        """How many items make a run of so many seconds."""
        self.engine.settle(parts)
        rate = self.engine.go(self.conns[kind], 1000 if self.engine.quick else 4000, self.worker)[0]
        return int(min(max(rate * seconds * 1.1, 1000), 60000))

    def run_worker(self, kind, parts, n):
        self.engine.settle(parts)
        before = self.platform.counts()[0]
        rate, cpu, peak_mb = self.engine.go(self.conns[kind], n, self.worker)
        self.opened = max(self.opened, self.platform.counts()[0] - before)
        self.peak_mb = max(self.peak_mb, peak_mb)
        self.sample(("worker", kind, parts), rate)
        self.sample(("cpu", kind, parts), cpu)

    def run_limits(self, kind, seconds):
        rate, cpu = self.limits.loop(kind, seconds)
        self.sample(("loop", kind), rate)
        self.sample(("loop cpu", kind), cpu)
        self.sample(("wrk", kind), self.limits.wrk(kind, seconds))
        self.sample(("curl", kind), self.limits.curl(kind, 2000 if self.engine.quick else 8000))


def show_throughput(table, race):
    found = median_of(race.samples)
    for kind in race.kinds:
        limit = found["loop", kind]
        for parts, words, target in ((False, "alone", 0.45), (True, "with map and log", 0.25)):
            rate = found["worker", kind, parts]
            table.add(
                "a",
                "one item a request, %s, %s" % ("TLS" if kind == "tls" else kind, words),
                rate,
                "items/s",
                limit=limit,
                limit_of="loop/s",
                target=">= %.2f" % target,
                met=rate / limit >= target,
            )
        table.note(
            "a",
            "%s: wrk %s/s (loop %.2f of it), curl --parallel %s/s (worker with map and log %.2f "
            "times as fast); CPU a request: loop %.0f us, "
            "worker %.0f us alone, %.0f us with map and log"
            % (
                "TLS" if kind == "tls" else kind,
                "{:,.0f}".format(found["wrk", kind]),
                limit / found["wrk", kind],
                "{:,.0f}".format(found["curl", kind]),
                found["worker", kind, True] / found["curl", kind],
                found["loop cpu", kind],
                found["cpu", kind, False],
                found["cpu", kind, True],
            ),
        )
    table.add(
        "a",
        "connections opened in a run, at the most",
        race.opened,
        "",
        limit=IN_FLIGHT,
        limit_of="in flight",
        target="<= in flight",
        met=race.opened <= IN_FLIGHT,
    )
    table.add(
        "a",
        "peak private memory of the worker",
        race.peak_mb,
        "MB",
        limit=race.fresh_mb,
        limit_of="MB fresh",
        target="< 32 MB",
        met=race.peak_mb < 32,
    )


def latency(engine, table):
    """a platform far away"""
    delay = 50
    with SlowPlatform(delay) as platform:
        conns = {n: engine.connect(platform.url("plain"), n) for n in (16, 64)}
        worker = engine.cluster.serve(DATABASE)
        samples, loops = {}, {}
        for conn in conns.values():
            engine.go(conn, 1000, worker)
        for _ in range(1 if engine.quick else 3):
            for n, conn in conns.items():
                samples.setdefault(n, []).append(
                    engine.go(conn, n * 1000 // delay * (2 if engine.quick else 4), worker)[0]
                )
                loops.setdefault(n, []).append(Limits(platform, n).loop("plain", 1 if engine.quick else 2)[0])
        engine.cluster.serve_none()
    for n, rate in sorted(median_of(samples).items()):
        limit = n * 1000 / delay
        table.add(
            "b",
            "%d ms away, %d in flight" % (delay, n),
            rate,
            "items/s",
            limit=limit,
            limit_of="by latency",
            target=">= 0.97",
            met=rate / limit >= 0.97,
        )
    for n, rate in sorted(median_of(loops).items()):
        table.note(
            "b",
            "%d in flight: the bare loop does %s/s, %.2f of the limit"
            % (n, "{:,.0f}".format(rate), rate * delay / n / 1000),
        )


def claiming(engine, table):
    """claiming from a backlog"""
    sizes = (1000, 20000 if engine.quick else 500000)
    with FastPlatform() as platform:
        conn = engine.connect(platform.url("plain"), IN_FLIGHT)
        # the server may be busy with what was just written: the median of three
        small, large = (
            statistics.median(claim_cost(engine, table, platform, conn, size) for _ in range(3)) for size in sizes
        )
    engine.session.ask(EMPTY)
    table.add(
        "e",
        "claiming an item, backlog of {:,}".format(sizes[1]),
        large,
        "us",
        limit=small,
        limit_of="us of {:,}".format(sizes[0]),
        target="<= 1.50",
        met=large / small <= 1.5,
    )


def claim_cost(engine, table, platform, conn, size):
    """
    Microseconds that the calls take which find and take an item, over the first 500 items (or 20 seconds), by a worker
    that is at work: a run before it has had its statements planned.
    """
    run, _ = engine.fill(conn, size)
    warm, _ = engine.add_run(conn, 500)
    engine.cluster.serve(DATABASE)
    engine.start(warm)
    engine.await_end(warm)
    engine.cluster.count_statements(True)
    end, goal = time.monotonic() + 20, platform.counts()[1] + 500
    engine.start(run)
    while platform.counts()[1] < goal and time.monotonic() < end:
        time.sleep(0.02)
    engine.cluster.serve_none()
    calls = engine.cluster.statements(DATABASE)
    engine.cluster.count_statements(False)
    # what a killed worker had not committed was claimed all the same
    items = sum(rows for name, (_, _, rows) in calls.items() if name.startswith("claim") and "lookup" not in name)
    claims = {
        name: spent
        for name, spent in calls.items()
        if not name.startswith(("settle", "count_", "plan", "recover", "connection_", "worker_"))
    }
    if not items:
        raise Failed(
            "backlog of %d: no item was claimed in 20 s; calls: %s" % (size, ", ".join(sorted(calls)) or "none")
        )
    table.note(
        "e",
        "backlog of {:,}, {:.0f} items claimed: {}".format(
            size,
            items,
            ", ".join(
                "%s %d x %.0f us" % (name, n, s / n * 1e6)
                for name, (n, s, _) in sorted(claims.items(), key=lambda pair: -pair[1][1])[:5]
            ),
        ),
    )
    return sum(seconds for _, seconds, _ in claims.values()) / items * 1e6


def idle(engine, table):
    """an idle worker"""
    seconds = 10 if engine.quick else 60
    admin = engine.cluster.admin
    engine.cluster.set(autovacuum="off")
    worker = engine.cluster.serve(DATABASE)
    slow_poll = admin.number("SELECT setting FROM pg_settings WHERE name = 'pgsync_itsm.slow_poll'")
    cycle = "SELECT last_cycle FROM itsm_stat_worker WHERE database = %s" % literal(DATABASE)
    transactions = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s" % literal(DATABASE)
    engine.session.ask("SELECT pgsync_itsm.wake()")
    time.sleep(3)
    before = (worker.cpu_exactly(), worker.waits(), admin.number(transactions))
    last, turns, end = admin.ask(cycle), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(1)
        now = admin.ask(cycle)
        turns, last = turns + (now != last), now
    cpu, waits = (worker.cpu_exactly() - before[0]) * 1e3, worker.waits() - before[1]
    time.sleep(1)
    done = admin.number(transactions) - before[2]
    engine.cluster.serve_none()
    engine.cluster.set(autovacuum="on")
    table.add(
        "f",
        "CPU of an idle worker, %d s" % seconds,
        cpu,
        "ms",
        target="< 10 ms a minute",
        met=cpu < 10 * seconds / 60,
    )
    polls = seconds / slow_poll
    table.add(
        "f",
        "turns that it took",
        turns,
        "",
        limit=polls,
        limit_of="slow polls",
        target="no other",
        met=turns <= polls + 1,
    )
    table.note("f", "%d voluntary context switches, %d transactions" % (waits, done))
