"""What a standby costs the statements of its group: an authority with a binlog and a standby, and one proxy with groups of the
same tables: one without a standby, one with, one that falls back by itself, and one whose writes the standby acknowledges. And what a
journal costs: the same server once more, as a store without a binlog, with a group without a standby beside one with; and one for
whose turns the journal's gate is taken away.

All of them write the same server and the same binlog, durably, through the same proxy: only what the proxy does differs. CPU time is
that of the threads that serve clients; what applies to the standby, and watches, has threads of its own.
"""

import json
import socket
import subprocess
import time

import load
from stage import Stage, Trouble, found

# name: the group's store, and its further keys beside its tables
GROUPS = {
    "plain": ("legacy", []),
    "kept": ("legacy", ["standby: new"]),
    "auto": ("legacy", ["standby: new", "fallback: auto"]),
    "acked": ("legacy", ["standby: new", "fallback: auto", "ack: standby", "ack_timeout: 10s"]),
    "beside": ("recorded", []),
    "journaled": ("recorded", ["standby: new"]),
    "ungated": ("recorded", ["standby: new"]),
}
BINLOG, JOURNAL = ["plain", "kept", "auto", "acked"], ["beside", "journaled", "ungated"]
# workloads, and the groups that differ in them: each against the first
WORKLOADS = [
    ("point select, text", ["plain", "kept", "auto"]),
    ("point select, prepared", ["plain", "kept", "auto"]),
    *((workload, groups) for groups in (BINLOG, JOURNAL)
      for workload in ("update by key, text", "update by key, prepared", "read write")),
]
GATE = "switchover.journal_gate"
SETTINGS = [
    "--skip-name-resolve", "--performance-schema=0", "--bind-address=127.0.0.1", "--max-connections=1000", "--log-bin=binlog",
    "--binlog-format=ROW", "--sync-binlog=1", "--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=256M",
    "--innodb-log-file-size=256M", "--character-set-server=utf8mb4", "--max-prepared-stmt-count=200000",
]


class Pair(Stage):
    """The authority is `direct`; every group is a target, and all are the same process."""

    def __enter__(self):
        self.counted = "core-"
        try:
            for number, (name, at) in enumerate([("direct", "s"), ("standby", "t")], start=1):
                self.run_mariadb(name, [f"--socket={self.folder}/{at}", f"--server-id={number}", *SETTINGS])
                self.sql("".join(
                    f"CREATE USER {user}@'%' IDENTIFIED BY '{user}'; GRANT ALL ON *.* TO {user}@'%' WITH GRANT OPTION;"
                    for user in ("app", "switchover")), at)
            self.fill()
            self.start_proxy()
            self.init()
        except BaseException:
            self.__exit__()
            raise
        return self

    def fill(self):
        """The same rows in every group, and on both stores."""
        self.sql("".join(f"CREATE DATABASE {group};" for group in GROUPS))
        command = load.command_line(self, self.ports["direct"], "read write", 1, 0, database="plain")
        done = subprocess.run([*command, "prepare"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Trouble(f"sysbench prepare:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        tables = [f"sbtest{number}" for number in range(1, load.TABLES + 1)]
        self.sql("".join(f"CREATE TABLE {group}.{table} LIKE plain.{table}; INSERT INTO {group}.{table} SELECT * FROM plain.{table};"
                         for group in GROUPS if group != "plain" for table in tables))
        dump = [found("mariadb-dump"), "--no-defaults", f"--socket={self.folder}/s", "-uroot", "--databases", *GROUPS]
        client = [found("mariadb"), "--no-defaults", f"--socket={self.folder}/t", "-uroot"]
        dumped = subprocess.run(dump, capture_output=True, check=True)
        subprocess.run(client, input=dumped.stdout, check=True)

    @property
    def targets(self):
        return list(GROUPS)

    def pid(self, target):
        return self.processes["switchover" if target in GROUPS else target].pid

    def database(self, target, workload):
        return target

    def before(self, target):
        """At rest: the gate is a trigger of the store's, and so there for a group or not."""
        if target not in JOURNAL:
            return
        there = self.sql("SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_NAME = 'journal_gate'").strip() == "1"
        if target == "ungated" and there:
            self.gate = self.sql(f"SHOW CREATE TRIGGER {GATE}").split("\t")[2].encode().decode("unicode_escape")
            self.sql(f"DROP TRIGGER {GATE}")
        elif target != "ungated" and not there:
            self.sql(self.gate, delimiter="//")

    def routing_yaml(self, port):
        control = "control: { user: switchover, password: switchover }"
        here = f"address: 127.0.0.1:{self.ports['direct']}, {control}"
        lines = [f"listen: 127.0.0.1:{port}", "stores:",
                 f"  legacy: {{ {here} }}", f"  recorded: {{ {here}, change_log: journal }}",
                 f"  new: {{ address: 127.0.0.1:{self.ports['standby']}, {control} }}", "default: legacy", "groups:"]
        for group, (store, keys) in GROUPS.items():
            lines += [f"  {group}:", f"    tables: ['{group}.*']", f"    connection: {store}", *(f"    {key}" for key in keys)]
        return "\n".join(lines) + "\n"

    def start_proxy(self, name="switchover", pool="session"):
        super().start_proxy(name, pool)
        for group in GROUPS:
            self.ports[group] = self.ports[name]

    def init(self):
        config = self.folder / "switchover.yaml"
        done = subprocess.run([self.proxy_binary, "init", "--config", config], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Trouble(f"switchover init:\n{done.stdout}{done.stderr}")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            groups = {group["name"]: group for group in self.status()["groups"]}
            kept = [groups[name] for name, (_, keys) in GROUPS.items() if keys]
            for group in kept:
                if group["standby"]["state"] == "stopped":
                    subprocess.run([self.proxy_binary, "standby", "retry", group["name"], "--config", config], check=False,
                                   capture_output=True)
            if all(group["standby"]["state"] == "applying" and group["authority"]["settled"] for group in kept) \
                    and groups["acked"]["authority"]["acks"] == "standby":
                return
            time.sleep(0.2)
        raise Trouble(f"the standby does not follow: {json.dumps(self.status()['groups'], indent=1)}")

    def status(self):
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(30)
            control.connect(str(self.folder / "switchover.yaml.sock"))
            control.sendall(json.dumps({"request": "status"}).encode() + b"\n")
            return json.loads(control.makefile("rb").readline())["status"]

    def questions(self):
        """Statements that the proxy has carried; the store is asked more than that, by whoever watches it."""
        return self.status()["totals"]["queries"]
