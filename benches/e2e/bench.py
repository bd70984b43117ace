"""`make bench`: the proxy against HAProxy in tcp mode, and against no proxy at all, on one MariaDB server.

Two stages, because they answer two questions:

- *free*: throughput and p95 as a user sees them, all CPUs for all. Only the ratios within a round mean anything.
- *pinned*: server, proxy and load on one CPU, which makes CPU time per query comparable between runs.

And *insight*: one proxy whose figures of statements are switched on and off while it serves, in many short windows ([insight.py]). *shadow*: in the same
way, one proxy that compares a sample of its reads with another store, and does not ([shadow.py]). And *standby*: the same tables in a group without a standby, and in groups with one, on two servers that log durably ([pair.py]).

ProxySQL would make a third column where the distribution has it; Debian does not.

Targets take turns within each round (direct, haproxy, switchover, haproxy, …), and a ratio is the median of the rounds'
ratios. With --quick everything is shorter, and only good for seeing that it runs. The figures also go to a JSON file.
"""

import argparse
import json
import os
import pathlib
import resource
import signal
import statistics
import sys
import threading
import time

import gauges
import insight
import load
import pair
import report
import shadow
from stage import ROOT, Stage, Trouble
from turns import alternate, take_turns


class Bench:
    """The plan, and what was measured so far."""

    def __init__(self, options):
        self.options = options
        quick = options.quick
        self.rounds = options.rounds or (2 if quick else 8)
        self.seconds = options.seconds or (1 if quick else 2)
        self.threads = [1, 16] if quick else [1, 16, 128]
        self.idle = 500 if quick else 5_000
        self.bystanders = 400 if quick else 4_000
        self.held = 1_000 if quick else 10_000
        self.figures = {"free": [], "pinned": [], "memory": {}, "held": {}, "bystanders": [], "storm": [], "fairness": [],
                        "flips": [], "insight": [], "shadow": [], "standby": []}

    def say(self, text):
        print(f"  {text}", file=sys.stderr, flush=True)

    def stage(self, cpu=None):
        return Stage(cpu, None if self.options.without_proxy else self.options.binary)

    def run(self):
        wanted = self.options.only or ["free", "pinned", "connections", "fairness", "flips", "insight", "shadow", "standby"]
        if {"free", "connections", "flips"} & set(wanted):
            with self.stage() as stage:
                load.prepare(stage)
                if "free" in wanted:
                    self.free(stage)
                if "connections" in wanted:
                    self.memory(stage)
                    self.storm(stage)
                    if "switchover" in stage.targets:
                        self.hold(stage)
                if "flips" in wanted and "switchover" in stage.targets:
                    self.flips(stage)
        if {"pinned", "connections", "fairness"} & set(wanted):
            with self.stage(cpu=max(os.sched_getaffinity(0))) as stage:
                load.prepare(stage)
                if "pinned" in wanted:
                    self.pinned(stage)
                if "connections" in wanted:
                    self.among_idle(stage)
                if "fairness" in wanted:
                    self.fairness(stage)
        if "insight" in wanted and not self.options.without_proxy:
            with insight.Switched(max(os.sched_getaffinity(0)), self.options.binary) as stage:
                self.insight(stage)
        if "shadow" in wanted and not self.options.without_proxy:
            with shadow.Shadowed(max(os.sched_getaffinity(0)), self.options.binary) as stage:
                self.shadow(stage)
        if "standby" in wanted and not self.options.without_proxy:
            with pair.Pair(proxy_binary=self.options.binary) as stage:
                self.standby(stage)

    def standby(self, stage):
        """Throughput, and CPU µs per query of the threads that serve clients, of groups with and without a standby."""
        for workload, groups in pair.WORKLOADS:
            for threads in self.threads[:2]:
                self.say(f"standby: {workload}, {threads} threads")
                rounds, _ = take_turns(stage, groups, workload, threads, 2 * self.rounds, self.seconds)
                rows = [{group: (window.queries / window.seconds, window.cpu / window.queries * 1e6)
                         for group, window in row.items()} for row in rounds]
                self.figures["standby"].append({"workload": workload, "threads": threads, "rounds": rows})

    def free(self, stage):
        for workload in list(load.WORKLOADS)[:5]:
            for threads in [1, 4] if workload == "100,000 rows" else self.threads:
                self.say(f"free: {workload}, {threads} threads")
                rounds, whole = take_turns(stage, stage.targets, workload, threads, self.rounds, self.seconds)
                rows = [{target: (window.queries / window.seconds,) for target, window in row.items()} for row in rounds]
                p95 = {target: result.percentile_ms for target, result in whole.items()}
                self.figures["free"].append({"workload": workload, "threads": threads, "rounds": rows, "p95": p95})

    def cost(self, stage, target, workload, threads):
        """CPU µs per query of a proxy's process.

        Read in the middle of the load, where everybody has logged in and prepared: what that costs is `storm`'s to say.
        """
        pid, port = stage.pid(target), stage.ports[target]
        with load.Running(stage, port, workload, threads, self.seconds + 2):
            time.sleep(1)
            count, before = stage.questions(), gauges.cpu_seconds(pid)
            time.sleep(self.seconds)
            count, spent = stage.questions() - count, gauges.cpu_seconds(pid) - before
        return spent / count * 1e6

    def in_turn(self, stage):
        """The proxies, for one round after another, each going first as often as the other."""
        targets = stage.proxies
        return [targets[r % len(targets):] + targets[:r % len(targets)] for r in range(self.rounds)]

    def pinned(self, stage):
        for workload in ["point select, text", "point select, prepared", "read only", "read write", "100,000 rows"]:
            for threads in [1] if workload == "100,000 rows" else self.threads:
                self.say(f"pinned: {workload}, {threads} threads")
                rounds, _ = take_turns(stage, stage.proxies, workload, threads, 2 * self.rounds, self.seconds / 2)
                rows = [{target: (window.cpu / window.queries * 1e6, window.user) for target, window in row.items()}
                        for row in rounds]
                calls = {}
                for target in sorted(rows[0]):
                    with gauges.SystemCalls(stage.pid(target)) as counter:
                        time.sleep(0.3)
                        result = load.sysbench(stage, stage.ports[target], workload, threads, 1)
                    if counter.count is not None:
                        calls[target] = counter.count / (result.queries or result.events)
                self.figures["pinned"].append(
                    {"workload": workload, "threads": threads, "rounds": rows, "system_calls": calls})

    def insight(self, stage):
        """CPU µs per query of the threads that serve clients: with figures of statements, without, and with again."""
        for workload in insight.WORKLOADS:
            for threads in self.threads[:2]:
                self.say(f"insight: {workload}, {threads} threads")
                rounds = alternate(stage, "switchover", insight.WAYS, workload, threads, 5 * self.rounds, insight.SECONDS)
                rows = [{way: (window.cpu / window.queries * 1e6,) for way, window in row.items()} for row in rounds]
                self.figures["insight"].append({"workload": workload, "threads": threads, "rounds": rows})

    def shadow(self, stage):
        """CPU µs per query of the threads that serve clients, queries a second, and µs that one client waited (p50, p95): with 5 % and
        all of the reads compared, without, and without again.
        """
        for workload in shadow.WORKLOADS:
            for threads in self.threads[:2]:
                self.say(f"shadow: {workload}, {threads} threads")
                stage.sampled()
                rounds = alternate(stage, "switchover", shadow.WAYS, workload, threads, 5 * self.rounds, shadow.SECONDS)
                rows = [{way: (window.cpu / window.queries * 1e6, window.queries / window.seconds, *waited(window.seen))
                         for way, window in row.items()} for row in rounds]
                self.figures["shadow"].append(
                    {"workload": workload, "threads": threads, "rounds": rows, "samples": stage.sampled()})

    def memory(self, stage):
        for target in stage.proxies:
            self.say(f"memory: {self.idle} idle connections through {target}")
            with load.Idle(stage.ports[target], 50):
                pass
            time.sleep(0.5)
            before = gauges.resident_bytes(stage.pid(target))
            with load.Idle(stage.ports[target], self.idle):
                time.sleep(1)
                after = gauges.resident_bytes(stage.pid(target))
            time.sleep(2)
            self.figures["memory"][target] = (after - before) / self.idle

    def hold(self, stage):
        """Whether so many idle clients are held: they log in, wait, and are all still there; in both pool modes."""
        stage.start_proxy("switchover-pooled", "transaction")
        # in `pool: session` each has two sockets: a low limit of open files allows fewer than the goal
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 1_000
        for target, pool, wanted in [("switchover", "session", min(self.held, most // 2)),
                                     ("switchover-pooled", "transaction", min(self.held, most))]:
            self.say(f"{wanted} idle connections at once, pool: {pool}")
            with load.Idle(stage.ports[target], wanted) as idle:
                time.sleep(1)
                alive = sum(load.ping(client) for client in idle.sockets)
            self.figures["held"][pool] = {"wanted": wanted, "alive": alive}

    def storm(self, stage):
        for threads in [1, 16]:
            self.say(f"storm: {threads} threads")
            rows = []
            for _ in range(self.rounds):
                row = {}
                for target in stage.targets:
                    before = gauges.cpu_seconds(stage.pid(target))
                    result = load.sysbench(stage, stage.ports[target], "connect, login, leave", threads, self.seconds)
                    spent = gauges.cpu_seconds(stage.pid(target)) - before
                    # MariaDB's threads end with their connection, and take their CPU time with them.
                    cost = None if target == "direct" else spent / result.events * 1e6
                    row[target] = (result.events / result.seconds, cost)
                rows.append(row)
            self.figures["storm"].append({"threads": threads, "rounds": rows})

    def among_idle(self, stage):
        workload, threads = "point select, text", 16
        for targets in self.in_turn(stage):
            row = {}
            for target in targets:
                self.say(f"{self.bystanders} idle connections beside {threads} active ones through {target}")
                alone = self.cost(stage, target, workload, threads)
                with load.Idle(stage.ports[target], self.bystanders):
                    time.sleep(0.5)
                    beside = self.cost(stage, target, workload, threads)
                row[target] = (alone, beside)
            self.figures["bystanders"].append(row)

    def fairness(self, stage):
        """p99 of point selects alone, and beside one client that reads results of a gigabyte, all on one CPU."""
        threads, targets = 4, stage.proxies
        for _ in range(self.rounds):
            row = {}
            for target in targets:
                self.say(f"fairness: {threads} clients beside a long result through {target}")
                port = stage.ports[target]
                alone = load.sysbench(stage, port, "point select, text", threads, self.seconds, 99)
                with load.LongResult(stage, port):
                    time.sleep(0.3)
                    beside = load.sysbench(stage, port, "point select, text", threads, self.seconds, 99)
                row[target] = (alone.percentile_ms, beside.percentile_ms)
            self.figures["fairness"].append(row)

    def flips(self, stage):
        """p99 of point selects with the flag at rest, and while it flips once a second, and five times.

        A flip costs its sessions nothing, and the proxy the reading of its file: at five a second, that takes 2 % of a CPU.
        """
        seconds, port = max(4, self.seconds), stage.ports["switchover"]

        def p99():
            return load.sysbench(stage, port, "point select, text", 16, seconds, 99).percentile_ms

        for every in (1, 0.2):
            self.say(f"flips under load, every {every} s")
            rounds, count = [], 0
            for _ in range(self.rounds):
                rest = p99()
                over = threading.Event()

                def flip():
                    nonlocal count
                    while not over.wait(every):
                        count += 1
                        stage.flag("new" if count % 2 else "legacy")

                flipper = threading.Thread(target=flip)
                flipper.start()
                rounds.append((rest, p99()))
                over.set()
                flipper.join()
            self.figures["flips"].append({"every": every, "count": count, "rounds": rounds})


def waited(took):
    """p50 and p95."""
    cuts = statistics.quantiles(took, n=20)
    return cuts[9], cuts[18]


def main():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the short form: minutes instead of half an hour")
    parser.add_argument("--rounds", type=int, help="rounds per cell")
    parser.add_argument("--seconds", type=int, help="seconds of load per target and round")
    parser.add_argument("--only", action="append", 
                        choices=["free", "pinned", "connections", "fairness", "flips", "insight", "shadow", "standby"])
    parser.add_argument("--without-proxy", action="store_true", help="HAProxy and direct only")
    parser.add_argument("--binary", type=pathlib.Path, default=target / "dist" / "switchover")
    parser.add_argument("--json", type=pathlib.Path, default=target / "bench-e2e.json", help="where the figures go")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bench = Bench(options)
    started = time.monotonic()
    try:
        bench.run()
    except Trouble as trouble:
        print(f"bench: {trouble}", file=sys.stderr)
        return 1
    finally:
        if any(bench.figures.values()):
            options.json.write_text(json.dumps(bench.figures, indent=1))
            print(report.text(bench))
    print(f"{time.monotonic() - started:.0f} s; figures in {options.json}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
