"""What shadow reads cost those whose reads they are: the same group in proxies that compare none of its reads, 1 % and all of them, and
one more without, which shows the noise.

CPU time is that of the threads that serve clients: sampling, keeping a text and offering it. Asking both stores and comparing is done
by a thread of its own; how much that takes is said beside it. The other store is a server of its own, on another CPU.
"""

import json
import os
import socket
import subprocess

import gauges
import load
from stage import MARIADB_SETTINGS, USER, Stage, found

# name: the share of reads that are compared; none where the group has no shadow. (The least that there is stands for 0 %: each read is looked at.)
PROXIES = {"without": None, "twin": None, "none": "0.000001", "one": "0.01", "all": "1"}
WORKLOADS = ["point select, text", "point select, prepared"]


class Shadowed(Stage):
    """Each share is a target, and a process."""

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
            for name, share in PROXIES.items():
                self.share = share
                self.start_proxy(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def fill(self):
        """The same rows at the other store: what differs is asked for again and again."""
        dump = [found("mariadb-dump"), "--no-defaults", f"--socket={self.folder}/s", "-uroot", "--databases", "sbtest"]
        client = [found("mariadb"), "--no-defaults", f"--socket={self.folder}/t", "-uroot"]
        dumped = subprocess.run(dump, capture_output=True, check=True)
        subprocess.run(client, input=dumped.stdout, check=True)

    def routing_yaml(self, port):
        control = "control: { user: switchover, password: switchover }"
        lines = [f"listen: 127.0.0.1:{port}", "stores:"]
        for name, at in (("legacy", "direct"), ("new", "other")):
            lines.append(f"  {name}: {{ address: 127.0.0.1:{self.ports[at]}, {control} }}")
        tables = ", ".join(f"sbtest{number}" for number in range(1, 9))
        lines += ["default: legacy", "groups:", "  analytics:", f"    tables: [{tables}]", "    connection: legacy"]
        if self.share is not None:
            lines.append(f"    shadow: {{ sample: {self.share} }}")
        return "\n".join(lines) + "\n"

    def before(self, target):
        """The store is asked by whoever compares, too: each proxy counts what it has carried."""
        self.turn = target

    def questions(self):
        return self.ask(self.turn, {"request": "status"})["status"]["totals"]["queries"]

    def found(self, target):
        """What became of a target's sample, and the CPU time that comparing it took."""
        groups = self.ask(target, {"request": "shadow"})["shadow"]["groups"]
        counts = {name: groups[0][name] for name in ("offered", "dropped", "compared", "equal")} if groups else {}
        return counts | {"seconds": gauges.cpu_seconds(self.pid(target), "shadow")}

    def ask(self, target, request):
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(30)
            control.connect(str(self.folder / f"{target}.yaml.sock"))
            control.sendall(json.dumps(request).encode() + b"\n")
            return json.loads(control.makefile("rb").readline())
