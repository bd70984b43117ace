"""What the bench measures against: one MariaDB server, HAProxy in tcp mode, and the proxy, all on loopback.

Everything lives in one temporary folder and ends with the bench, however that ends (setpriv --pdeathsig).
"""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATABASE, USER, PASSWORD = "sbtest", "app", "app"
GROUPS, TABLES_PER_GROUP = 10, 100
MARIADB_SETTINGS = [
    "--skip-name-resolve", "--performance-schema=0", "--max-connections=15000", "--back-log=4096",
    "--innodb-buffer-pool-size=512M", "--innodb-log-file-size=256M", "--innodb-flush-log-at-trx-commit=2",
    "--innodb-flush-method=O_DIRECT", "--skip-log-bin", "--thread-cache-size=512", "--thread-stack=256K",
    "--max-prepared-stmt-count=200000", "--character-set-server=utf8mb4", "--table-open-cache=4096",
]


def own_database(target):
    """The database of one target's load."""
    return f"{DATABASE}_{target}"


class Trouble(Exception):
    """The bench cannot go on; the text says why."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def found(program, extra="/usr/sbin"):
    path = shutil.which(program, path=os.environ.get("PATH", "") + os.pathsep + extra)
    if not path:
        raise Trouble(f"no {program}: run tools/install.sh bench")
    return path


class Stage:
    """The running servers. `cpu` pins all of them to that CPU; None leaves them free."""

    def __init__(self, cpu=None, proxy_binary=None):
        self.cpu = cpu
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="so-bench-"))
        self.processes = {}
        self.ports = {}
        # threads of a proxy whose CPU time counts, by the beginning of their names
        self.counted = ""
        self.asked = 0
        self.proxy_binary = proxy_binary

    def __enter__(self):
        try:
            self.start_mariadb()
            self.start_haproxy()
            if self.proxy_binary:
                self.start_proxy()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes.values()):
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def pid(self, target):
        return self.processes[target].pid

    @property
    def targets(self):
        """The ways to the server, in the order in which a round takes them."""
        return [name for name in ("direct", "haproxy", "switchover") if name in self.ports]

    @property
    def proxies(self):
        """Those of the targets that are a process between."""
        return [name for name in self.targets if name != "direct"]

    def start(self, name, arguments):
        """Starts a child that cannot outlive the bench."""
        pinned = ["taskset", "-c", str(self.cpu)] if self.cpu is not None else []
        log = open(self.folder / f"{name}.log", "wb")
        command = ["setpriv", "--pdeathsig", "KILL", "--", *pinned, *map(str, arguments)]
        self.processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                cwd=self.folder, process_group=0)

    def wait_for(self, name, port):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.processes[name].poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", port), 5) as probe:
                    if probe.recv(1):
                        return
            except OSError:
                pass
            time.sleep(0.05)
        log = (self.folder / f"{name}.log").read_text(errors="replace")[-3000:]
        raise Trouble(f"{name} did not start:\n{log}")

    def start_mariadb(self):
        # A second address of the same server is the second store: a flip changes the way, and nothing else.
        self.run_mariadb("direct", ["--bind-address=127.0.0.1,127.0.0.2", f"--socket={self.folder}/s", *MARIADB_SETTINGS])
        accounts = "".join(
            f"CREATE USER {name}@'%' IDENTIFIED BY '{name}'; GRANT ALL ON *.* TO {name}@'%' WITH GRANT OPTION;"
            for name in (USER, "switchover"))
        self.sql(f"CREATE DATABASE {DATABASE}; {accounts}")

    def run_mariadb(self, name, settings):
        """A server of that name, on data of its own."""
        user = ["--user=root"] if os.getuid() == 0 else []
        folder, port = self.folder / f"{name}.server", free_port()
        folders = [f"--datadir={folder}/data", f"--tmpdir={folder}/tmp"]
        (folder / "tmp").mkdir(parents=True)
        install = [found("mariadb-install-db"), "--no-defaults", "--auth-root-authentication-method=normal",
                   "--skip-test-db", *user, *folders]
        made = subprocess.run(install, capture_output=True, text=True, check=False)
        if made.returncode:
            raise Trouble(f"mariadb-install-db:\n{made.stderr}")
        self.start(name, [found("mariadbd"), "--no-defaults", *user, *folders, f"--port={port}",
                          f"--pid-file={folder}/pid", *settings])
        self.wait_for(name, port)
        self.ports[name] = port

    def sql(self, text, socket_name="s", delimiter=";"):
        command = [found("mariadb"), "--no-defaults", "-S", f"{self.folder}/{socket_name}", "-uroot", "-N", "-B",
                   f"--delimiter={delimiter}", "-e", text]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Trouble(f"{text[:100]}: {done.stderr}")
        return done.stdout

    def questions(self):
        """Statements that the server has executed for all its clients, but for these questions."""
        self.asked += 1
        return int(self.sql("SHOW GLOBAL STATUS LIKE 'Questions'").split()[1]) - self.asked

    def database(self, target, workload):
        """Where a target's load works: what writes must not meet the others' locks while they rest."""
        return own_database(target) if workload == "read write" else DATABASE

    def before(self, target):
        """Whatever a target needs before its turn."""

    def meanwhile(self, seconds):
        """What is seen beside the load, for as long as its window takes."""
        time.sleep(seconds)

    def start_haproxy(self):
        port = free_port()
        config = self.folder / "haproxy.cfg"
        config.write_text(f"""global
    maxconn 9500
defaults
    mode tcp
    maxconn 9500
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen mysql
    bind 127.0.0.1:{port} backlog 4096
    server store 127.0.0.1:{self.ports['direct']}
""")
        self.start("haproxy", [found("haproxy"), "-db", "-f", config])
        self.wait_for("haproxy", port)
        self.ports["haproxy"] = port

    def start_proxy(self, name="switchover", pool="session", settings=""):
        port = free_port()
        config = self.folder / f"{name}.yaml"
        config.write_text(self.routing_yaml(port) + f"pool: {pool}\n" + settings)
        self.start(name, [self.proxy_binary, "serve", "--config", config])
        self.wait_for(name, port)
        self.ports[name] = port

    def routing_yaml(self, port):
        """Ten groups of a hundred tables; the tables that the load uses are in the first group."""
        used = [f"sbtest{number}" for number in range(1, 9)] + ["big"]
        lines = [f"listen: 127.0.0.1:{port}", "stores:"]
        for name, host in (("legacy", "127.0.0.1"), ("new", "127.0.0.2")):
            control = "{ user: switchover, password: switchover }"
            lines.append(f"  {name}: {{ address: {host}:{self.ports['direct']}, control: {control} }}")
        lines += ["default: legacy", "groups:"]
        for group in range(GROUPS):
            tables = [f"table_{group}_{number}" for number in range(TABLES_PER_GROUP)]
            tables = used + tables[len(used):] if group == 0 else tables
            lines += [f"  group{group}:", f"    tables: [{', '.join(tables)}]", "    connection: legacy"]
        return "\n".join(lines) + "\n"

    def flag(self, store):
        """Flips the flag of the load's tables as the CLI asks for it: that process's own start would be measured too."""
        request = {"request": "flag", "group": "group0", "store": store, "by": "bench", "why": None}
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(60)
            control.connect(str(self.folder / "switchover.yaml.sock"))
            control.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(control.makefile("rb").readline())
        if "flagged" not in answer:
            raise Trouble(f"flag: {answer}")
