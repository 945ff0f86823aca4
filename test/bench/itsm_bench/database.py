"""The private cluster: sessions in it, its worker, and what a process costs."""
import os
import re
import subprocess
import tempfile
import threading
import time

ROOT = os.environ["PGSYNC_ITSM_TOP"]
MARK = "-- end of answer --"


class Failed(Exception):
    """A benchmark that cannot be run."""


def literal(text):
    return "'" + str(text).replace("'", "''") + "'"


class Session:
    """One psql that lives as long as the session: no time goes into connecting."""

    def __init__(self, database, **settings):
        options = "".join(" -c %s=%s" % item for item in settings.items())
        self.errors = tempfile.TemporaryFile()
        self.psql = subprocess.Popen(
            ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            bufsize=1,
            env=dict(os.environ, PGOPTIONS="-c client_min_messages=warning" + options),
        )

    def ask(self, sql):
        """What the statements print, without the last newline.  Each is a transaction of its own."""
        self.psql.stdin.write("%s;\n\\echo '%s'\n" % (sql, MARK))
        self.psql.stdin.flush()
        lines = []
        for line in self.psql.stdout:
            if line == MARK + "\n":
                return "".join(lines)[:-1]
            lines.append(line)
        self.psql.wait()
        self.errors.seek(0)
        raise Failed("%s\n%s" % (sql[:500], self.errors.read().decode().strip()))

    def rows(self, sql):
        text = self.ask(sql)
        return [line.split("|") for line in text.split("\n")] if text else []

    def number(self, sql):
        return float(self.ask(sql) or 0)

    def timed(self, sql):
        """Seconds that a statement takes."""
        begin = time.monotonic()
        self.ask(sql)
        return time.monotonic() - begin

    def load(self, path, *options):
        done = subprocess.run(
            [
                "psql",
                "-XAtq",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                self.ask("SELECT current_database()"),
                *options,
                "-f",
                os.path.join(ROOT, path),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Failed("cannot load %s: %s" % (path, done.stderr))

    def close(self):
        if self.psql.poll() is None:
            self.psql.stdin.close()
            self.psql.wait()
        self.psql.stdout.close()
        self.errors.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def poll(condition, what, seconds=60, interval=0.02):
    """The first true value of condition()."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed("gave up waiting for " + what)
        time.sleep(interval)


class Cluster:
    """Settings and the worker.  At any time one database has a worker, or none."""

    def __init__(self):
        self.admin = Session("postgres")
        self.admin.ask("CREATE EXTENSION pg_stat_statements; CREATE EXTENSION pgsync_itsm")

    def set(self, **settings):
        for name, value in settings.items():
            self.admin.ask("ALTER SYSTEM SET %s = %s" % (name.replace("__", "."), literal(value)))
        self.admin.ask("SELECT pg_reload_conf()")

    def version(self):
        return self.admin.ask("SHOW server_version")

    def create(self, database):
        self.admin.ask("CREATE DATABASE %s" % database)
        return Session(database)

    def worker(self, database):
        pid = self.admin.ask(
            "SELECT worker_pid FROM itsm_stat_worker WHERE database = %s AND state IN ('idle', 'busy')"
            % literal(database)
        )
        return Process(int(pid)) if pid else None

    def serve(self, database):
        """A fresh worker for the database, when it is there."""
        self.serve_none()
        self.set(pgsync_itsm__databases=database)
        return poll(lambda: self.worker(database), "a worker in " + database)

    def serve_none(self):
        self.set(pgsync_itsm__databases="")
        poll(
            lambda: self.admin.ask(
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pgsync_itsm worker%'"
            )
            == "0",
            "the worker's end",
        )

    # -- statements -------------------------------------------------------------

    def count_statements(self, on):
        """Statements of the worker and the planner are counted from here on; that costs a little itself."""
        self.set(pg_stat_statements__track="top" if on else "none")
        time.sleep(0.2)
        self.admin.ask("SELECT pg_stat_statements_reset()")

    def statements(self, database):
        """{internal function: (calls, seconds, rows)} of what our processes have called."""
        found = {}
        for query, *counts in self.admin.rows(
            "SELECT translate(s.query, E'\\n|', '  '), s.calls, s.total_exec_time / 1000, s.rows "
            "FROM pg_stat_statements AS s "
            "JOIN pg_database AS d ON d.oid = s.dbid WHERE d.datname = %s" % literal(database)
        ):
            name = re.search(r"pgsync_itsm\.(\w+)\s*\(", query)
            if name:
                before = found.get(name.group(1), (0, 0, 0))
                found[name.group(1)] = tuple(a + float(b) for a, b in zip(before, counts))
        return found

    def calm(self):
        """As before a benchmark, whatever became of it."""
        self.serve_none()
        self.set(pg_stat_statements__track="none", autovacuum="on", pgsync_itsm__debounce="2s")

    def close(self):
        self.serve_none()
        self.admin.close()


class Process:
    """What the kernel says of a process."""

    def __init__(self, pid):
        self.pid = pid

    def _read(self, name):
        with open("/proc/%d/%s" % (self.pid, name), encoding="utf-8", errors="replace") as file:
            return file.read()

    def cpu(self):
        """Seconds of user and system time of all its threads, in ticks of 10 ms."""
        fields = self._read("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cpu_exactly(self):
        """The same of its only thread, to the nanosecond."""
        return int(self._read("schedstat").split()[0]) / 1e9

    def waits(self):
        return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", self._read("status"), re.M).group(1))

    def private_mb(self):
        """Memory of its own; pages of shared buffers that nobody else has looked at yet are not."""
        return int(re.search(r"^Pss_Anon:\s+(\d+)", self._read("smaps_rollup"), re.M).group(1)) / 1024


class Watch:
    """Peak of a process's private memory, looked at every 100 ms, and its CPU time, while the block runs."""

    def __init__(self, process):
        self.process = process
        self.begin_mb = self.peak_mb = process.private_mb()
        self.cpu = 0.0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)

    def _look(self):
        while not self.over.wait(0.1):
            try:
                self.peak_mb = max(self.peak_mb, self.process.private_mb())
            except OSError:
                return

    def __enter__(self):
        self.before = self.process.cpu()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        try:
            self.cpu = self.process.cpu() - self.before
        except OSError:
            raise Failed("the worker ended") from None
