"""Rows c, d, g, p and the changes of row e: whole portfolios, previewed and published to the simulator."""
import collections
import math
import statistics
import time

from .database import Failed, Process, Watch, literal, poll
from .servers import CLIENT, Simulator

# HTTP requests that a first publish may take.
REQUESTS = {300: 25, 2000: 80, 10000: 300}
SHAPE = "profiles => 2, services => 6, products => 3"


class Portfolio:
    def __init__(self, cluster, applications, name="portfolio"):
        self.cluster = cluster
        self.applications = applications
        self.database = "%s%d" % (name, applications)
        self.session = cluster.create(self.database)
        self.simulator = Simulator()
        self.load()
        self.conn = self.connect()

    def load(self):
        self.session.load("test/getinsync/schema.sql")
        self.session.load("test/getinsync/generator.sql")
        self.namespace = self.session.ask(
            "SELECT getinsync_generate(applications => %d, %s)" % (self.applications, SHAPE)
        )
        self.session.ask("CREATE EXTENSION pgsync_itsm; SELECT itsm_attach_getinsync()")
        self.session.ask("SELECT itsm_set_scope(%s, 'application_service')" % literal(self.namespace))
        self.simulator.load(self.session.ask("SELECT getinsync_generate_platform()"))
        self.session.ask("VACUUM ANALYZE")

    def connect(self):
        conn = self.session.ask(
            "SELECT itsm_connect_servicenow(%s, %s, client_id => %s, client_secret => %s, "
            "default_owner => 'admin@example.com')"
            % tuple(literal(x) for x in (self.namespace, self.simulator.url) + CLIENT)
        )
        self.session.ask("SELECT itsm_prepare_instance(%s)" % literal(conn))
        self.session.ask("SELECT itsm_activate(%s)" % literal(conn))
        return conn

    def publish(self, worker):
        """What a publish took."""
        self.simulator.reset_counters()
        self.session.ask("CHECKPOINT")
        self.cluster.count_statements(True)
        simulator = Process(self.simulator.process.pid)
        before = simulator.cpu()
        with Watch(worker) as watch:
            run = self.session.ask("SELECT itsm_publish(%s, confirm => true)" % literal(self.namespace))
            status = poll(
                lambda: self.session.ask(
                    "SELECT status FROM integration_runs WHERE id = %s AND finished_at IS NOT NULL" % run
                ),
                "run %s" % run,
                600,
                interval=0.2,
            )
        row = self.session.rows(
            "SELECT extract(epoch FROM finished_at - created_at), done, dead + held, "
            "coalesce(error_message, summary, '') FROM integration_runs WHERE id = %s" % run
        )[0]
        if status != "done" or row[2] != "0":
            raise Failed(
                "publish of %d applications: %s, %s dead or held: %s" % (self.applications, status, row[2], row[3])
            )
        calls = self.cluster.statements(self.database)
        self.cluster.count_statements(False)
        payloads = math.ceil(
            self.session.number(
                "SELECT count(*) FROM integration_run_items WHERE run_id = %s AND parent_id IS NULL "
                "AND state = 'done'" % run
            )
            / 500
        )
        return Publish(self, calls, float(row[0]), int(row[1]), watch, payloads, simulator.cpu() - before)

    def preview(self, worker):
        """What a preview took, its estimate among it; the run is cancelled after that."""
        self.simulator.reset_counters()
        self.session.ask("CHECKPOINT")
        before = Process(self.simulator.process.pid).cpu()
        began = time.monotonic()
        with Watch(worker) as watch:
            run = self.session.ask("SELECT itsm_preview(%s)" % literal(self.namespace))
            status = poll(
                lambda: self.session.ask(
                    "SELECT status FROM integration_runs WHERE id = %s AND status NOT IN ('queued', 'planning')" % run
                ),
                "run %s" % run,
                600,
                interval=0.2,
            )
            elapsed = time.monotonic() - began
        row = self.session.rows(
            "SELECT to_create, held + refused, expected ->> 'calls', "
            "coalesce(error_message, summary, '') FROM integration_runs WHERE id = %s" % run
        )[0]
        if status != "planned" or row[1] != "0":
            raise Failed("preview of %d applications: %s: %s" % (self.applications, status, row[3]))
        stats = self.simulator.stats()
        writes = stats["writes"] + stats["batch_subrequests"]["writes"]
        self.forget()
        return Preview(
            elapsed,
            int(row[0]),
            int(row[2]),
            stats["requests"],
            writes,
            watch,
            Process(self.simulator.process.pid).cpu() - before,
        )

    def forget(self):
        """As before the preview: what comes next is measured by itself."""
        self.cluster.serve_none()
        self.session.ask(
            "TRUNCATE integration_run_items, integration_run_steps, integration_runs, integration_external_records, "
            "integration_references, integration_matches"
        )
        self.session.ask("VACUUM ANALYZE")

    def sources_seconds(self):
        """How long the sources themselves take.  That they were read is checked: nothing is read in no time."""
        seconds, found = 0.0, 0.0
        for (one,) in self.session.rows("SELECT unnest(pgsync_itsm.wanted_types(%s))" % literal(self.conn)):
            begin = time.monotonic()
            found += self.session.number(
                "SELECT count(*) FROM pgsync_itsm.read_source(%s, %s, NULL, 'key')"
                % (literal(self.conn), literal(one))
            )
            seconds += time.monotonic() - begin
        if found < 23 * self.applications:
            raise Failed("the sources gave %d rows, fewer than the portfolio has" % found)
        return seconds

    def close(self):
        self.cluster.serve_none()
        self.session.close()


class Publish:
    def __init__(self, portfolio, calls, wall, items, watch, payloads, simulator):
        stats = portfolio.simulator.stats()
        self.calls = calls
        self.plan = sum(seconds for name, (_, seconds, _) in calls.items() if name.startswith("plan"))
        if not self.plan:
            raise Failed("no call that plans among %s" % ", ".join(sorted(calls)))
        self.rest = {name: seconds for name, (_, seconds, _) in calls.items() if not name.startswith("plan")}
        self.wall = wall
        self.items = items
        self.requests = stats["requests"]
        self.writes = stats["writes"] + stats["batch_subrequests"]["writes"]
        self.payloads = payloads  # that its CIs need at the least
        self.simulator = simulator
        self.begin_mb, self.peak_mb = watch.begin_mb, watch.peak_mb
        self.cpu = watch.cpu


Preview = collections.namedtuple("Preview", "wall items expected requests writes watch simulator")


class Portfolios:
    """Rows c, d, g, p, and the changes of row e at the largest size."""

    def __init__(self, cluster, table, rows, quick, insert_us):
        self.cluster = cluster
        self.table = table
        self.rows = rows
        self.quick = quick
        self.insert_us = insert_us
        sizes = (300, 1000) if quick else (300, 2000, 10000)
        self.largest = sizes[-1]
        self.sizes = [size for size in sizes if rows & {"c", "d", "p"} or (size == self.largest and rows & {"e", "g"})]
        self.first = {}
        self.second = {}
        self.previews = {}

    def measure(self, size):
        portfolio = Portfolio(self.cluster, size)
        worker = self.cluster.serve(portfolio.database)
        sources = portfolio.sources_seconds()
        if "p" in self.rows:
            self.previews[size] = portfolio.preview(worker)
            show_preview(self.table, size, self.previews[size])
            worker = self.cluster.serve(portfolio.database)
        if not self.rows - {"p"}:
            portfolio.close()
            return
        self.first[size] = portfolio.publish(worker)
        if "c" in self.rows:
            show_first(self.table, size, self.first[size], sources, self.insert_us)
        if "d" in self.rows:
            self.second[size] = portfolio.publish(worker)
            show_second(self.table, size, self.second[size], portfolio.sources_seconds())
        if size == self.largest:
            if "g" in self.rows:
                show_cost(self.table, size, self.first[size], self.insert_us)
            if "e" in self.rows:
                changes(portfolio, self.table, self.quick)
        portfolio.close()

    def compare(self):
        """How things grow from the smallest size to the largest."""
        ends = self.sizes[0], self.sizes[-1]
        if ends[0] == ends[1]:
            return
        if "c" in self.rows and set(ends) <= set(self.first):
            small, large = (self.first[size] for size in ends)
            more = large.peak_mb - small.peak_mb
            self.table.add(
                "c",
                "memory, more at {1:,} than {0:,}".format(*ends),
                more,
                "MB",
                limit=small.peak_mb,
                limit_of="MB peak",
                target="< 16 MB",
                met=more < 16,
            )
            self.growth("c", "plan", ends, small.plan, large.plan)
            self.growth("c", "wall time", ends, small.wall, large.wall)
        if "p" in self.rows and set(ends) <= set(self.previews):
            small, large = (self.previews[size] for size in ends)
            more = large.watch.peak_mb - small.watch.peak_mb
            self.table.add(
                "p",
                "memory, more at {1:,} than {0:,}".format(*ends),
                more,
                "MB",
                limit=small.watch.peak_mb,
                limit_of="MB peak",
                target="< 16 MB",
                met=more < 16,
            )
            self.growth("p", "wall time", ends, small.wall, large.wall)
        if "d" in self.rows and set(ends) <= set(self.second):
            self.growth("d", "plan", ends, self.second[ends[0]].plan, self.second[ends[1]].plan)

    def growth(self, row, name, ends, small, large):
        """Linear or better, with a twentieth for noise."""
        times = ends[1] / ends[0]
        self.table.add(
            row,
            "{}, {:,} to {:,}".format(name, *ends),
            large / small,
            "times",
            limit=times,
            limit_of="times the size",
            target="<= 1.05",
            met=large / small <= 1.05 * times,
        )


def show_first(table, size, one, sources, insert_us):
    name = "{:,}".format(size)
    table.add(
        "c",
        "%s: plan, SQL" % name,
        one.plan,
        "s",
        limit=sources,
        limit_of="s sources alone",
        **({"target": "< 10 s", "met": one.plan < 10} if size == 10000 else {})
    )
    ceiling = REQUESTS.get(size)
    table.add(
        "c",
        "%s: HTTP requests" % name,
        one.requests,
        "",
        limit=one.payloads,
        limit_of="payloads of 500",
        **({"target": "< %d" % ceiling, "met": one.requests < ceiling} if ceiling else {})
    )
    table.add(
        "c",
        "%s: worker CPU an item" % name,
        one.cpu / one.items * 1e6,
        "us",
        limit=insert_us,
        limit_of="us to insert",
        target="< 60 us",
        met=one.cpu / one.items * 1e6 < 60,
    )
    table.add("c", "%s: peak worker memory" % name, one.peak_mb, "MB", limit=one.begin_mb, limit_of="MB before")
    table.add("c", "%s: wall time" % name, one.wall, "s", limit=one.simulator, limit_of="s simulator CPU")
    table.add(
        "c",
        "%s: %s rows" % (name, "{:,}".format(one.items)),
        one.items / one.wall,
        "rows/s",
        limit=one.items / one.simulator,
        limit_of="by the simulator",
    )
    table.note("c", "%s: %s" % (name, spent(one.calls, one.items)))


def spent(calls, items):
    """The calls that cost most."""
    return "SQL calls, microseconds an item: " + ", ".join(
        "%s %.1f" % (name, seconds / items * 1e6)
        for name, (_, seconds, _) in sorted(calls.items(), key=lambda pair: -pair[1][1])[:6]
    )


def show_preview(table, size, one):
    name = "{:,} previewed".format(size)
    table.add("p", "%s: wall time" % name, one.wall, "s", limit=one.simulator, limit_of="s simulator CPU")
    table.add("p", "%s: HTTP requests" % name, one.requests, "", limit=one.expected, limit_of="to apply it, by its estimate")
    table.add("p", "%s: writes" % name, one.writes, "", target="0", met=one.writes == 0)
    table.add("p", "%s: peak worker memory" % name, one.watch.peak_mb, "MB", limit=one.watch.begin_mb, limit_of="MB before")


def show_second(table, size, one, sources):
    name = "{:,} again".format(size)
    own = max(one.plan - sources, 0)
    table.add(
        "d",
        "%s: plan without sources" % name,
        own,
        "s",
        limit=sources,
        limit_of="s sources alone",
        **({"target": "< 2.5 s", "met": own < 2.5} if size == 10000 else {})
    )
    table.add("d", "%s: writes" % name, one.writes, "", target="0", met=one.writes == 0)


def show_cost(table, size, one, insert_us):
    """Row g: microseconds of SQL an item, next to inserting the bare item."""
    plan = one.plan / one.items * 1e6
    rest = sum(one.rest.values()) / one.items * 1e6
    table.add(
        "g",
        "planning an item, SQL alone, %s" % "{:,}".format(size),
        plan,
        "us",
        limit=insert_us,
        limit_of="us to insert",
    )
    table.add("g", "claiming and settling an item, SQL alone", rest, "us", limit=insert_us, limit_of="us to insert")


# -- one application changed ---------------------------------------------------------------


class Changes:
    def __init__(self, portfolio):
        self.portfolio = portfolio
        self.session = portfolio.session
        self.ids = [
            row[0]
            for row in self.session.rows(
                "SELECT entity_id FROM integration_sync_map WHERE entity_type = 'application' "
                "ORDER BY md5(entity_id::text)"
            )
        ]
        self.made = 0

    def change(self):
        """(marker, time of COMMIT)"""
        self.made += 1
        marker = "changed-%05d" % self.made
        when = self.session.ask(
            "UPDATE applications SET short_description = %s WHERE id = %s; SELECT extract(epoch FROM clock_timestamp())"
            % (literal(marker), literal(self.ids[self.made % len(self.ids)]))
        )
        return marker, float(when)

    def settled(self):
        return (
            self.session.ask(
                "SELECT NOT EXISTS (SELECT FROM integration_queue) AND NOT EXISTS (SELECT FROM integration_runs "
                "WHERE status IN ('queued', 'planning', 'running'))"
            )
            == "t"
        )

    def arrived(self):
        """{marker: time at which the platform had it}"""
        found = {}
        for when, _, rest in self.portfolio.simulator.seen():
            at = rest.find("changed-")
            while at >= 0:
                found.setdefault(rest[at : at + 13], when)
                at = rest.find("changed-", at + 13)
        return found

    def requests(self, begin, end):
        """(milliseconds from begin to its arrival, milliseconds it took) of each request between two times."""
        return [
            ((when - took - begin) * 1e3, took * 1e3)
            for when, took, _ in self.portfolio.simulator.seen()
            if begin <= when <= end + 0.0005
        ]


def show_delays(table, what, delays, limit):
    delays = sorted(delays)
    worst = delays[min(len(delays) - 1, math.ceil(0.95 * len(delays)) - 1)]
    table.add(
        "e",
        "%s: median" % what,
        statistics.median(delays),
        "ms",
        limit=limit,
        limit_of="ms platform",
        target="< 50 ms",
        met=statistics.median(delays) < 50,
    )
    table.add(
        "e",
        "%s: 95th percentile of %d" % (what, len(delays)),
        worst,
        "ms",
        limit=limit,
        limit_of="ms platform",
        target="< 50 ms",
        met=worst < 50,
    )


def changes(portfolio, table, quick):
    portfolio.cluster.set(pgsync_itsm__debounce="0")
    portfolio.session.ask("UPDATE integration_connections SET sync_schedule = 'on_change', full_plan_after = NULL")
    portfolio.cluster.serve(portfolio.database)
    maker = Changes(portfolio)
    idle_changes(maker, table, 5 if quick else 20)
    steady_changes(maker, table, 30 if quick else 100)


def idle_changes(maker, table, n):
    delays, shares, firsts, lasts, numbers = [], [], [], [], []
    for i in range(n + 2):
        maker.portfolio.simulator.forget()
        marker, begin = maker.change()
        end = poll(lambda: maker.arrived().get(marker), "the platform to have a change", interval=0.005)
        poll(maker.settled, "the end of a run of changes", interval=0.1)
        time.sleep(0.2 + 0.013 * i)
        if i >= 2:  # the first ones warm up
            delays.append((end - begin) * 1e3)
            requests = maker.requests(begin, end)
            shares.append(sum(took for _, took in requests))
            firsts.append(requests[0][0])
            lasts.append(requests[-1][0])
            numbers.append(len(requests))
    maker.share = statistics.median(shares)
    show_delays(table, "COMMIT to platform, idle", delays, maker.share)
    table.note(
        "e",
        "idle: %.0f requests, the first sent %.0f ms after COMMIT, the write %.0f ms after (medians)"
        % tuple(statistics.median(values) for values in (numbers, firsts, lasts)),
    )


def steady_changes(maker, table, n):
    """A change every 100 ms.  Counted where no run of the connection was active at its COMMIT."""
    maker.portfolio.simulator.forget()
    made, due = [], time.monotonic()
    for _ in range(n):
        made.append(maker.change())
        due += 0.1
        time.sleep(max(due - time.monotonic(), 0))
    poll(
        lambda: all(marker in maker.arrived() for marker, _ in made),
        "the platform to have %d changes" % n,
        interval=0.2,
    )
    poll(maker.settled, "the end of the runs of changes", interval=0.1)
    runs = [
        (float(a), float(b))
        for a, b in maker.session.rows(
            "SELECT extract(epoch FROM created_at), extract(epoch FROM finished_at) FROM integration_runs "
            "WHERE finished_at IS NOT NULL"
        )
    ]
    arrived = maker.arrived()
    every = [(arrived[marker] - begin) * 1e3 for marker, begin in made]
    # begin is when COMMIT had been answered: the change's own run may have been made a moment before
    free = [delay for delay, (_, begin) in zip(every, made) if not any(a < begin - 0.02 and begin < b for a, b in runs)]
    table.note(
        "e",
        "steady arrivals: %d of %d met no run of the connection; all of them: median %.0f ms"
        % (len(free), n, statistics.median(every)),
    )
    if len(free) >= n / 10:
        show_delays(table, "COMMIT to platform, a change every 100 ms", free, maker.share)
    else:
        table.add("e", "COMMIT to platform, a change every 100 ms", "too few free", "", target="< 50 ms", met=False)
