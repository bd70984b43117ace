#!/usr/bin/env python3
"""How fast a standby applies an authority's log, against MariaDB's own replica with two parallel workers on the same log.

Three private servers on loopback: the authority writes a log of small transactions (point updates, index updates, a delete
and an insert, as sysbench's oltp_write_only has them), logs of large ones (5,000 rows updated, inserted, deleted), and one of both,
as applications write it ("mixed": behind every thousand small ones a large one of each kind); then each applier starts at the beginning of the finished log, alone on the machine, and the time until its last transaction is there is taken.
Both standbys have the same settings, and write a binlog of what they apply, as the way back needs one. What both need to
start is within that time: a log takes seconds. Prints transactions per second of each and their ratio, best of RUNS; and the CPU time per transaction of both servers and the proxy.

    python3 benches/standby/apply.py [--transactions N] [--large N] [--runs N] [--only KIND] [--binary PATH]
"""
import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

WRITERS = 4
ROWS = 100_000

PROCEDURE = f"""
CREATE PROCEDURE write_log(IN n INT, IN seed INT)
BEGIN
  DECLARE i INT DEFAULT 0;
  DECLARE k INT;
  WHILE i < n DO
    START TRANSACTION;
    SET k = 1 + FLOOR(RAND(seed * 1000003 + i) * {ROWS});
    UPDATE t SET k = k + 1 WHERE id = k;
    UPDATE t SET c = CONCAT(k, '-', REPEAT('x', 100)) WHERE id = 1 + (k * 7919) % {ROWS};
    DELETE FROM t WHERE id = 1 + (k * 104729) % {ROWS};
    INSERT INTO t VALUES (1 + (k * 104729) % {ROWS}, k, REPEAT('c', 119), REPEAT('p', 59));
    COMMIT;
    SET i = i + 1;
  END WHILE;
END
"""


BATCH = ROWS // 20
# one transaction of BATCH rows; what is inserted is deleted by the kind behind it
LARGE = {
    "updates": "UPDATE t SET k = k + 1 WHERE id % 20 = {part}",
    "wide updates": "UPDATE t SET c = CONCAT(k, '-', {low}, REPEAT('y', 90)), pad = {part} WHERE id % 20 = {part}",
    "inserts": "INSERT INTO t SELECT seq, seq % 1000, REPEAT('c', 119), REPEAT('p', 59) FROM seq_{low}_to_{high} WHERE seq > {low}",
    "deletes": "DELETE FROM t WHERE id > {low} AND id <= {high}",
}


def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, folder, number):
        self.folder, self.port = os.path.join(folder, f"s{number}"), port()
        os.makedirs(self.folder)
        user = ["--user=root"] if os.getuid() == 0 else []
        data, tmp = os.path.join(self.folder, "data"), os.path.join(self.folder, "tmp")
        os.makedirs(tmp)
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={data}", f"--tmpdir={tmp}",
             "--auth-root-authentication-method=normal", "--skip-test-db", *user],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        daemon = shutil.which("mariadbd") or "/usr/sbin/mariadbd"
        self.socket = os.path.join(self.folder, "s")
        self.process = subprocess.Popen(
            [daemon, "--no-defaults", *user, f"--datadir={data}", f"--tmpdir={tmp}", f"--socket={self.socket}",
             f"--port={self.port}", "--bind-address=127.0.0.1", f"--server-id={number}", "--log-bin=binlog",
             "--binlog-format=ROW", "--sync-binlog=1", "--innodb-flush-log-at-trx-commit=1", "--skip-name-resolve",
             "--innodb-buffer-pool-size=512M", "--innodb-log-file-size=512M", "--performance-schema=0",
             "--slave-parallel-threads=2", "--slave-parallel-mode=optimistic", "--log-slave-updates=1", "--max-allowed-packet=64M"],
            stdout=subprocess.DEVNULL, stderr=open(os.path.join(self.folder, "log"), "w"))
        deadline = time.time() + 60
        while True:
            try:
                self.sql("SELECT 1")
                return
            except RuntimeError:
                if time.time() > deadline:
                    raise
                time.sleep(0.1)

    def sql(self, text, database=""):
        run = subprocess.run(
            ["mariadb", "--no-defaults", "-uroot", f"--socket={self.socket}", "--batch", "--skip-column-names", database],
            input=text, text=True, capture_output=True)
        if run.returncode:
            raise RuntimeError(run.stderr)
        return run.stdout.strip()

    def asked(self, query):
        """Answers of one session to `query`: a client for each question would take a tenth of the machine from what is measured."""
        client = subprocess.Popen(
            ["mariadb", "--no-defaults", "-uroot", f"--socket={self.socket}", "--batch", "--skip-column-names", "--unbuffered"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with client:
            while True:
                client.stdin.write(f"{query};\n")
                client.stdin.flush()
                yield client.stdout.readline().strip()

    def settle(self):
        """Waits until rows that were deleted are purged: that is no part of what is measured next."""
        query = "SELECT COUNT FROM information_schema.INNODB_METRICS WHERE NAME = 'trx_rseg_history_len'"
        while int(self.sql(query)) > 20:
            time.sleep(0.2)

    def stop(self):
        self.process.kill()
        self.process.wait()


SCHEMA = f"""
CREATE DATABASE d;
USE d;
CREATE TABLE d.t (id INT PRIMARY KEY, k INT NOT NULL, c CHAR(120) NOT NULL, pad CHAR(60) NOT NULL, KEY (k));
INSERT INTO d.t SELECT seq, seq % 1000, REPEAT('c', 119), REPEAT('p', 59) FROM seq_1_to_{ROWS};
"""


def prepare(server, kind, count):
    """The rows that a log begins with: those of the schema, and those that it deletes."""
    alone = "SET sql_log_bin = 0; "
    if server.sql("SHOW DATABASES LIKE 'switchover'"):
        alone += "SET @switchover_applier = (SELECT token FROM switchover.groups WHERE group_name = 'g'); "
    server.sql(f"{alone} DELETE FROM t WHERE id > {ROWS}", "d")
    if kind == "deletes":
        server.sql(alone + LARGE["inserts"].format(low=ROWS, high=ROWS + count * BATCH), "d")


def write_small(authority, count, seed):
    runs = [subprocess.Popen(
        ["mariadb", "--no-defaults", "-uroot", f"--socket={authority.socket}", "d", "-e",
         f"CALL write_log({count // WRITERS}, {seed * WRITERS + n})"], stderr=subprocess.DEVNULL) for n in range(WRITERS)]
    # a deadlock of two writers ends one of them: what it wrote stays, and the log is what it is
    for run in runs:
        run.wait()


def write(authority, kind, count):
    start = authority.sql("SELECT @@gtid_binlog_pos")
    authority.sql("SET GLOBAL sync_binlog = 0; SET GLOBAL innodb_flush_log_at_trx_commit = 2")
    if kind == "small":
        write_small(authority, count, 0)
    else:
        for n in range(count):
            if kind == "mixed":
                write_small(authority, 1_000, n)
            for large in LARGE if kind == "mixed" else [kind]:
                authority.sql(LARGE[large].format(part=n % 20, low=ROWS + n * BATCH, high=ROWS + (n + 1) * BATCH), "d")
    authority.sql("SET GLOBAL sync_binlog = 1; SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    return start, authority.sql("SELECT @@gtid_binlog_pos")


def sequence(gtid):
    return int(gtid.rsplit("-", 1)[1]) if gtid else 0


def wait(server, query, end, limit=600):
    began = time.time()
    for reached in server.asked(query):
        if sequence(reached) >= sequence(end):
            return time.time() - began
        if time.time() - began > limit:
            raise RuntimeError("not applied in time")
        time.sleep(0.03)


def cpu(pids):
    """Seconds of CPU time of these processes."""
    def of(pid):
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return sum(of(pid) for pid in pids)


def replica(server, authority, start, end):
    server.sql(f"STOP SLAVE; SET GLOBAL gtid_slave_pos = '{start}'; CHANGE MASTER TO MASTER_HOST='127.0.0.1', "
               f"MASTER_PORT={authority.port}, MASTER_USER='app', MASTER_PASSWORD='app', MASTER_USE_GTID=slave_pos; START SLAVE")
    pids = [server.process.pid, authority.process.pid]
    before = cpu(pids)
    took = wait(server, "SELECT @@gtid_slave_pos", end)
    spent = cpu(pids) - before
    server.sql("STOP SLAVE")
    return took, spent


def switchover(binary, folder, server, authority, start, end):
    config = os.path.join(folder, "routing.yaml")
    control = "control: { user: app, password: app }"
    with open(config, "w") as f:
        f.write(f"listen: 127.0.0.1:{port()}\nstores:\n"
                f"  legacy: {{ address: 127.0.0.1:{authority.port}, {control} }}\n"
                f"  new: {{ address: 127.0.0.1:{server.port}, {control} }}\n"
                "default: legacy\ngroups:\n  g: { tables: [d.t], connection: legacy, standby: new }\n")
    init = subprocess.run([binary, "init", "g", "--from", start, "--config", config], capture_output=True, text=True)
    if init.returncode:
        raise RuntimeError(init.stdout + init.stderr)
    proxy = subprocess.Popen([binary, "serve", "--config", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        # a round is there when all its parts are
        query = ("SELECT IF(COUNT(*) >= MAX(parts), MAX(position), MAX(base)) FROM switchover.marks WHERE group_name = 'g' "
                 "AND round = (SELECT MAX(round) FROM switchover.marks WHERE group_name = 'g')")
        pids = [server.process.pid, authority.process.pid]
        before = cpu(pids)
        took = wait(server, query, end)
        return took, cpu(pids) - before, cpu([proxy.pid])
    finally:
        proxy.kill()
        proxy.wait()


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--transactions", type=int, default=40_000)
    options.add_argument("--large", type=int, default=200, help="transactions of 5,000 rows, of each kind; a fifth as many rounds of mixed")
    options.add_argument("--only", action="append", choices=["small", "mixed", *LARGE])
    options.add_argument("--runs", type=int, default=2)
    options.add_argument("--binary", default="target/dist/switchover")
    options = options.parse_args()
    folder = tempfile.mkdtemp(prefix="so-apply-")
    servers = []
    try:
        for n in (1, 2, 3):
            servers.append(Server(folder, n))
        authority, ours, theirs = servers
        for server in servers:
            server.sql("CREATE USER app@'%' IDENTIFIED BY 'app'; GRANT ALL ON *.* TO app@'%'")
            server.sql(SCHEMA)
        authority.sql("DELIMITER //\n" + PROCEDURE + "//", "d")
        for kind in ("small", "mixed", *LARGE):
            if options.only and kind not in options.only:
                continue
            count = {"small": options.transactions, "mixed": options.large // 5}.get(kind, options.large)
            best, spent = {}, {}
            for _ in range(options.runs):
                for server in servers:
                    prepare(server, kind, count)
                start, end = write(authority, kind, count)
                for server in servers:
                    server.settle()
                done = sequence(end) - sequence(start)
                for name, (took, *cost) in (("replica", replica(theirs, authority, start, end)),
                                            ("switchover", switchover(options.binary, folder, ours, authority, start, end))):
                    if done / took > best.get(name, 0):
                        best[name], spent[name] = done / took, " + ".join(f"{seconds / done * 1e3:.1f}" for seconds in cost)
                sums = {s.sql("CHECKSUM TABLE d.t") for s in servers}
                if len(sums) != 1:
                    raise RuntimeError(f"the stores differ: {sums}")
            ratio = best["switchover"] / best["replica"]
            kept = {name: f"{best[name]:,.1f} transactions/s, {spent[name]} ms of CPU each" for name in best}
            print(f"{kind}: MariaDB's replica, 2 workers: {kept['replica']}; switchover: {kept['switchover']}; ratio {ratio:.2f}",
                  flush=True)
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
