"""What shadow reads cost those whose reads they are: one proxy, one load, and a group whose `shadow` comes, changes its share and goes
between short windows while all of it goes on; each switch is a reload like any other.

*again* is *without* under another number of `insight.statements` that nobody reaches: what it differs from *without* by is the noise of
the method, and should be nothing. Beside the load, one client of the bench's own asks for a row, again and again: how long each answer
took is the latency of a window.

CPU time is that of the threads that serve clients: the dice, keeping a text, and offering it. Asking both stores and comparing is done by
a thread of its own, which is on the other CPU here, as is the other store: what is measured is what a client pays, and not that one CPU
does the work of two. (The sampled reads do cost the serving store what reads cost; it is on the CPU of the clients.)
"""

import os
import pathlib
import random
import subprocess
import time

import gauges
import load
from insight import Switched
from stage import DATABASE, MARIADB_SETTINGS, USER, Trouble, found

# name: the share of reads that are compared, and insight.statements
WAYS = {"without": (None, 2_000), "again": (None, 2_001), "some": ("0.05", 2_000), "all": ("1", 2_000)}
SHARES = {"some": "5 %", "all": "100 %"}
WORKLOADS = ["point select, text", "point select, prepared"]
# of a window: some thousands of statements
SECONDS = 0.4


class Shadowed(Switched):
    """The serving store, the proxy and the load on one CPU; the other store, and who compares, on another."""

    def __enter__(self):
        try:
            self.start_mariadb()
            self.counted, pinned = "core-", self.cpu
            self.cpu = min(os.sched_getaffinity(0))
            self.run_mariadb("other", [f"--socket={self.folder}/t", *MARIADB_SETTINGS])
            self.sql("".join(f"CREATE USER {name}@'%' IDENTIFIED BY '{name}'; GRANT ALL ON *.* TO {name}@'%';"
                             for name in (USER, "switchover")), "t")
            self.cpu = pinned
            load.prepare(self)
            self.fill()
            self.way, self.samples, self.before_way = "all", {way: {} for way in WAYS}, {}
            self.start_proxy()
            self.move_who_compares()
            self.client = load.login(self.ports["switchover"])
        except BaseException:
            self.__exit__()
            raise
        return self

    def fill(self):
        """The same rows at the other store: what differs is asked for again and again."""
        dump = [found("mariadb-dump"), "--no-defaults", f"--socket={self.folder}/s", "-uroot", "--databases", DATABASE]
        client = [found("mariadb"), "--no-defaults", f"--socket={self.folder}/t", "-uroot"]
        dumped = subprocess.run(dump, capture_output=True, check=True)
        subprocess.run(client, input=dumped.stdout, check=True)

    def routing_yaml(self, port):
        share, statements = WAYS[self.way]
        control = "control: { user: switchover, password: switchover }"
        lines = [f"listen: 127.0.0.1:{port}", f"insight: {{ statements: {statements} }}", "stores:"]
        for name, at in (("legacy", "direct"), ("new", "other")):
            lines.append(f"  {name}: {{ address: 127.0.0.1:{self.ports[at]}, {control} }}")
        tables = ", ".join(f"sbtest{number}" for number in range(1, 9))
        lines += ["default: legacy", "groups:", "  analytics:", f"    tables: [{tables}]", "    connection: legacy"]
        if share is not None:
            lines.append(f"    shadow: {{ sample: {share} }}")
        return "\n".join(lines) + "\n"

    def move_who_compares(self):
        other = [cpu for cpu in os.sched_getaffinity(0) if cpu != self.cpu]
        tasks = pathlib.Path(f"/proc/{self.pid('switchover')}/task")
        threads = [task for task in tasks.iterdir() if (task / "comm").read_text().startswith("shadow")]
        if not threads or not other:
            raise Trouble("no thread that compares, or no CPU for it")
        for thread in threads:
            os.sched_setaffinity(int(thread.name), other)

    def switch(self, way):
        self.count()
        self.way = way
        self.reload(self.routing_yaml(self.ports["switchover"]))
        share, _ = WAYS[way]
        key = "groups.analytics.shadow.sample"
        found_share = [entry["value"] for entry in self.ask({"request": "config"})["config"] if entry["key"] == key]
        if found_share != ([] if share is None else [share]):
            raise Trouble(f"{key} is {found_share}, not {share}")

    def count(self):
        """Adds what became of the sample since the last switch to the way that was in force."""
        groups = self.ask({"request": "shadow"})["shadow"]["groups"]
        names = ("offered", "dropped", "skipped", "compared", "equal")
        now = {name: groups[0][name] for name in names} if groups else {}
        now |= {"reads": self.questions(), "seconds": gauges.cpu_seconds(self.pid("switchover"), "shadow")}
        sums = self.samples[self.way]
        for name, value in now.items():
            sums[name] = sums.get(name, 0) + value - self.before_way.get(name, 0)
        self.before_way = now

    def sampled(self):
        """What became of each way's sample since this was asked last."""
        self.count()
        samples, self.samples = self.samples, {way: {} for way in WAYS}
        return samples

    def questions(self):
        """The stores are asked by whoever compares, too: the proxy counts what it has carried."""
        return self.ask({"request": "status"})["status"]["totals"]["queries"]

    def meanwhile(self, seconds):
        """How long one row after another took, in µs."""
        took, end = [], time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            load.row(self.client, random.randint(1, load.ROWS))
            took.append((time.perf_counter() - begun) * 1e6)
        return took
