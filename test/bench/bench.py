#!/usr/bin/python3
"""bench.py OUTPUT ROW...: the benchmarks, in a private cluster that is there; see test/bench/run."""
import os
import platform
import signal
import subprocess
import sys
import time

from itsm_bench import engine as engines
from itsm_bench.database import Cluster, Failed
from itsm_bench.matching import matching
from itsm_bench.portfolio import Portfolios
from itsm_bench.servers import Server
from itsm_bench.table import Table
from itsm_bench.triggers import latency, triggers


def first_line(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip().split("\n")[0]


def machine(cluster):
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    with open("/proc/meminfo", encoding="utf-8") as file:
        memory = int(file.readline().split()[1]) / 1024 / 1024
    curl = first_line("curl", "--version").split()
    wrk = first_line("wrk", "--version").split()
    return "\n".join(
        (
            "machine     %d cores%s, %.0f GB, Linux %s; load before the run %.2f"
            % (os.cpu_count(), " " + models[0] if models else "", memory, platform.release(), os.getloadavg()[0]),
            "database    PostgreSQL %s, fsync and synchronous_commit %s, shared_buffers %s, min_wal_size %s, max_wal_size %s"
            % (
                cluster.version(),
                cluster.admin.ask("SHOW synchronous_commit"),
                cluster.admin.ask("SHOW shared_buffers"),
                cluster.admin.ask("SHOW min_wal_size"),
                cluster.admin.ask("SHOW max_wal_size"),
            ),
            "programs    libcurl %s, %s, wrk %s, Python %s"
            % (
                curl[1],
                first_line("nginx", "-v").replace("nginx version: ", ""),
                wrk[1] if len(wrk) > 1 else "?",
                platform.python_version(),
            ),
        )
    )


def measure(table, cluster, rows, what, step):
    """Runs one benchmark; what cannot be run does not take the others along."""
    begin = time.monotonic()
    print("%s: %s" % (rows, what), flush=True)
    try:
        step()
    except (Failed, OSError) as failure:
        table.fail(rows, what, failure)
    finally:
        cluster.calm()
        Server.stop_all()
    print("      %.0f s" % (time.monotonic() - begin), flush=True)


def run(table, cluster, rows, quick):
    """The idle worker first, while nothing else is there; then the engine, then whole portfolios."""
    engine = engines.Engine(cluster, quick)
    for name, step in (
        ("f", engines.idle),
        ("a", engines.throughput),
        ("b", engines.latency),
        ("e", engines.claiming),
    ):
        if name in rows:
            measure(table, cluster, name, step.__doc__, lambda step=step: step(engine, table))
    if "h" in rows:
        measure(table, cluster, "h", matching.__doc__, lambda: matching(cluster, table, quick))
    if "t" in rows:
        measure(table, cluster, "t", triggers.__doc__, lambda: triggers(cluster, table, quick))
    if "l" in rows:
        measure(table, cluster, "l", latency.__doc__, lambda: latency(cluster, table, quick))
    if rows & set("cdegp"):
        portfolios = Portfolios(cluster, table, rows, quick, engine.insert_us())
        for size in portfolios.sizes:
            measure(
                table,
                cluster,
                " ".join(sorted(rows & set("cdegp"))),
                "a portfolio of {:,} applications".format(size),
                lambda size=size: portfolios.measure(size),
            )
        portfolios.compare()
    engine.session.close()


def main():
    output, rows = sys.argv[1], set(sys.argv[2:]) or set("abcdefghlpt")
    quick = bool(os.environ.get("BENCH_QUICK"))
    if rows - set("abcdefghlpt"):
        print("bench: rows are a to h, l, p and t", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begin = time.monotonic()
    table = Table()
    cluster = Cluster()
    try:
        head = machine(cluster)
        run(table, cluster, rows, quick)
        cluster.close()
    finally:
        Server.stop_all()
    if quick:
        head += "\nQUICK       small sizes: the figures mean nothing"
    text = "%s\n\n%s\n" % (head, table.text())
    with open(output, "w", encoding="utf-8") as file:
        file.write(text)
    print("\n" + text, flush=True)
    missed = table.missed()
    print(
        "%s; %.0f s"
        % (
            "MISSED: %d targets, in rows %s" % (len(missed), " ".join(sorted(set(missed))))
            if missed
            else "no target missed",
            time.monotonic() - begin,
        )
    )
    if table.failed:
        print("bench: NOT RUN: %s" % "; ".join(table.failed), file=sys.stderr)
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
