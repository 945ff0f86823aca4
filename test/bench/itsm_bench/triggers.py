"""Row t: what the trigger costs those who change the portfolio.  Row l: how soon the platform has a change."""
import os
import statistics
import subprocess
import time

from .database import Failed, Process, Session, literal, poll
from .portfolio import Changes, Portfolio
from .servers import WORK

PAIRS = 7
CLIENTS = 8
CONNECTION = """
INSERT INTO integration_connections (namespace_id, platform, instance_url, sync_schedule)
VALUES (%s, 'servicenow', 'https://acme.service-now.com', 'on_change')"""
# 15 columns and no trigger but ours.
BARE = """
CREATE TABLE %(name)s (id uuid PRIMARY KEY, name text, a1 text, a2 text, a3 text, a4 integer, a5 integer, a6 timestamptz,
       a7 timestamptz, a8 boolean, a9 numeric, b1 text, b2 text, b3 text, unread text) WITH (fillfactor = %(fill)d, autovacuum_enabled = off);
INSERT INTO %(name)s SELECT md5(n::text)::uuid, 'application ' || n, 'first ' || n, 'second ' || n, 'third ' || n, n, -n, now(), now(),
       n %% 2 = 0, n / 7.0, 'x', 'y', repeat('z', 40), '' FROM generate_series(1, %(n)d) AS n"""


class Tables:
    """Two tables alike, one with the trigger: in one database (bare), or in two (the sample schema)."""

    def __init__(self, name, plain, watched, watched_column, unread_column):
        self.name = name
        self.plain, self.watched = plain, watched  # (database, table)
        self.columns = {True: watched_column, False: unread_column}

    def statement(self, side, read, where=""):
        column = self.columns[read]
        return "UPDATE %s SET %s = right(%s || chr(97 + (random() * 25)::int), 60)%s" % (side[1], column, column, where)


def timed(session, statement, clean):
    """Seconds of wall time and of the backend's CPU that a statement takes; what it leaves is cleaned up after that."""
    backend = Process(int(session.ask("SELECT pg_backend_pid()")))
    cpu = backend.cpu_exactly()
    wall = session.timed(statement)
    cpu = backend.cpu_exactly() - cpu
    for one in clean:
        session.ask(one)
    return wall, cpu


def pairs(sides, n=PAIRS):
    """Medians of two, measured in turn n times after one to warm up: (what it costs, what it costs with, their ratio) for each measure."""
    found = []
    for i in range(n + 1):
        values = [None, None]
        for k in (0, 1) if i % 2 else (1, 0):
            values[k] = sides[k]()
        if i:
            found.append(values)
    return [
        (
            statistics.median(one[0][m] for one in found),
            statistics.median(one[1][m] for one in found),
            statistics.median(one[1][m] / one[0][m] for one in found),
        )
        for m in range(len(found[0][0]))
    ]


class Bench:
    def __init__(self, cluster, table, quick):
        self.cluster = cluster
        self.table = table
        self.rows = 1000 if quick else 10000
        self.pairs = 3 if quick else PAIRS
        self.transactions = 200 if quick else 4000
        self.sessions = {}
        self.make()

    def make(self):
        plain = self.cluster.create("triggers_plain")
        plain.load("test/getinsync/schema.sql")
        plain.load("test/getinsync/generator.sql")
        namespace = plain.ask("SELECT getinsync_generate(applications => %d)" % self.rows)
        plain.ask(
            "ALTER TABLE applications SET (autovacuum_enabled = off); ALTER TABLE audit_logs SET (autovacuum_enabled = off)"
        )
        plain.close()
        self.cluster.admin.ask("CREATE DATABASE triggers TEMPLATE triggers_plain")
        session = Session("triggers")
        session.ask("CREATE EXTENSION pgsync_itsm; SELECT itsm_attach_getinsync()")
        for name, fill in (("plain", 100), ("watched", 100), ("plain_hot", 45), ("watched_hot", 45)):
            session.ask(BARE % {"name": name, "n": self.rows, "fill": fill})
            if name.startswith("watched"):
                session.ask("SELECT itsm_watch('%s', 'application', 'id', columns => '{name,a1,a2,a3,a4,a8,b1,b2}')" % name)
        session.ask(CONNECTION % literal(namespace))
        session.close()
        self.sample = Tables(
            "sample schema",
            ("triggers_plain", "applications"),
            ("triggers", "applications"),
            "short_description",
            self.unread_column(),
        )
        self.bare = Tables("bare table", ("triggers", "plain"), ("triggers", "watched"), "a1", "unread")
        # rows that find room on their page cost half as much by themselves
        self.hot = Tables("bare table, HOT", ("triggers", "plain_hot"), ("triggers", "watched_hot"), "a1", "unread")
        for database in ("triggers_plain", "triggers"):
            self.sessions[database] = Session(database)
            self.sessions[database].ask("VACUUM ANALYZE")

    @staticmethod
    def unread_column():
        with Session("triggers") as session:
            found = session.ask(
                "SELECT a.attname FROM pg_attribute AS a WHERE a.attrelid = 'applications'::regclass AND a.atttypid = 'text'::regtype "
                "AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> ALL (SELECT unnest(w.columns) FROM integration_watches AS w "
                "WHERE w.relation = 'applications') AND NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conrelid = a.attrelid "
                "AND a.attnum = ANY (c.conkey)) ORDER BY 1 LIMIT 1"
            )
        if not found:
            raise Failed("every column of applications is watched")
        return found

    def clean(self, side):
        found = ["VACUUM %s" % side[1]]
        if side[1] == "applications":
            found.append("TRUNCATE audit_logs")
        if side[0] == "triggers":
            found.append("TRUNCATE integration_queue")
        return found

    def queued(self, session):
        return int(session.number("SELECT coalesce(sum(cardinality(keys)), 0) FROM integration_queue"))

    def check(self, tables):
        """That the trigger does what is measured, before it is measured."""
        session = self.sessions[tables.watched[0]]
        for read, keys in ((True, self.rows), (False, 0)):
            session.ask(tables.statement(tables.watched, read))
            found = self.queued(session)
            if found < keys or (not keys and found):
                raise Failed("%s: %d keys were queued instead of %d" % (tables.name, found, keys))
            for one in self.clean(tables.watched):
                session.ask(one)

    def bulk(self, tables, read, target):
        def side(which):
            return lambda: timed(self.sessions[which[0]], tables.statement(which, read), self.clean(which))

        wall, cpu = pairs((side(tables.plain), side(tables.watched)), self.pairs)
        name = "{}, {}".format(tables.name, "read column" if read else "column that nothing reads")
        self.show("UPDATE of {:,}, {}".format(self.rows, name), cpu, wall, target)

    def show(self, what, cpu, wall, target, reference="without"):
        """The CPU time of the backend is what counts: others work on the machine, too."""
        self.table.add(
            "t",
            what,
            cpu[1] * 1e3,
            "ms CPU",
            limit=cpu[0] * 1e3,
            limit_of="ms " + reference,
            ratio=cpu[2],
            **({"target": "<= %.2f" % target, "met": cpu[2] <= target} if target else {})
        )
        self.table.note("t", "%s: wall time %.1f ms, %.1f ms %s: %.2f" % (what, wall[1] * 1e3, wall[0] * 1e3, reference, wall[2]))

    def trap(self):
        """A plan that one row made must not be used for thousands."""

        def side(before):
            def measure():
                with Session("triggers") as session:
                    session.ask(self.bare.statement(self.bare.watched, True, " WHERE a4 = 1") if before else "SELECT 1")
                    return timed(session, self.bare.statement(self.bare.watched, True), self.clean(self.bare.watched))

            return measure

        wall, cpu = pairs((side(False), side(True)), self.pairs)
        self.show("UPDATE of {:,}, bare table, after one of a row".format(self.rows), cpu, wall, 1.05, "before")

    # -- one row at a time ------------------------------------------------------------

    def reaped(self):
        """CPU seconds of the postmaster's children that have ended."""
        pid = int(open(os.path.join(self.cluster.admin.ask("SHOW data_directory"), "postmaster.pid"), encoding="utf-8").readline())
        with open("/proc/%d/stat" % pid, encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    def pgbench(self, side, script, setup):
        """Microseconds of CPU of the backends a transaction, their start included."""
        path = os.path.join(WORK, "update.sql")
        with open(path, "w", encoding="utf-8") as file:
            file.write(script)
        self.sessions[side[0]].ask(setup)
        self.sessions[side[0]].ask("CHECKPOINT")
        before = self.reaped()
        done = subprocess.run(
            ["pgbench", "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2", "-t", str(self.transactions), "-f", path, side[0]],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Failed("pgbench: " + done.stderr)
        # the last backend may still be on its way out
        poll(
            lambda: self.cluster.admin.ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'") == "0",
            "pgbench's backends",
        )
        time.sleep(0.1)
        cost = (self.reaped() - before) / (CLIENTS * self.transactions) * 1e6
        for one in self.clean(side):
            self.sessions[side[0]].ask(one)
        return (cost,)

    def single(self, tables, target):
        def side(which):
            setup = (
                "DROP TABLE IF EXISTS keys; CREATE TABLE keys AS SELECT (row_number() OVER (ORDER BY id))::integer AS n, id FROM %s; "
                "CREATE UNIQUE INDEX ON keys (n); VACUUM ANALYZE keys" % which[1]
            )
            script = "\\set n random(1, %d)\n%s;\n" % (
                self.rows,
                tables.statement(which, True, " WHERE id = (SELECT k.id FROM keys AS k WHERE k.n = :n)"),
            )
            return lambda: self.pgbench(which, script, setup)

        self.cluster.set(autovacuum="off")
        (cost,) = pairs((side(tables.plain), side(tables.watched)), self.pairs)
        self.cluster.set(autovacuum="on")
        self.table.add(
            "t",
            "UPDATE of a row, %d clients, %s" % (CLIENTS, tables.name),
            cost[1],
            "us CPU",
            limit=cost[0],
            limit_of="us without",
            ratio=cost[2],
            **({"target": "<= %.2f" % target, "met": cost[2] <= target} if target else {})
        )

    def close(self):
        for session in self.sessions.values():
            session.close()


def triggers(cluster, table, quick):
    """the trigger"""
    bench = Bench(cluster, table, quick)
    for tables in (bench.sample, bench.bare, bench.hot):
        bench.check(tables)
    bench.bulk(bench.sample, True, 1.15)
    bench.bulk(bench.sample, False, 1.05)
    bench.bulk(bench.bare, True, 2)
    bench.bulk(bench.bare, False, 1.3)
    bench.bulk(bench.hot, True, None)
    bench.bulk(bench.hot, False, None)
    bench.trap()
    bench.single(bench.sample, 1.10)
    bench.single(bench.bare, None)
    bench.close()


def latency(cluster, table, quick):
    """a change on an idle system"""
    n = 5 if quick else 20
    portfolio = Portfolio(cluster, 300, "latency")
    worker = cluster.serve(portfolio.database)
    portfolio.publish(worker)
    cluster.set(pgsync_itsm__debounce="0")
    portfolio.session.ask("UPDATE integration_connections SET sync_schedule = 'on_change', full_plan_after = NULL")
    cluster.serve(portfolio.database)
    maker = Changes(portfolio)
    delays = []
    for i in range(n + 1):
        portfolio.simulator.forget()
        marker, begin = maker.change()
        end = poll(lambda: maker.arrived().get(marker), "the platform to have a change", interval=0.005)
        poll(maker.settled, "the end of a run of changes", interval=0.1)
        time.sleep(0.2)
        if i:  # the first one warms up
            delays.append((end - begin) * 1e3)
    for what, value in (("median", statistics.median(delays)), ("worst", max(delays))):
        table.add(
            "l",
            "COMMIT to platform, idle, debounce 0: %s of %d" % (what, n),
            value,
            "ms",
            limit=1000,
            limit_of="ms allowed",
            target="< 1 s",
            met=value < 1000,
        )
    portfolio.close()
