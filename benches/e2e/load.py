"""The load: sysbench, and thousands of connections that only log in and wait."""

import hashlib
import pathlib
import re
import resource
import socket
import struct
import subprocess
import sys

from stage import DATABASE, PASSWORD, USER, Trouble, found, own_database

HERE = pathlib.Path(__file__).resolve().parent
ROWS = 10_000
TABLES = 4

# name in the tables: sysbench script, further options
WORKLOADS = {
    "point select, text": ("oltp_point_select", ["--db-ps-mode=disable"]),
    "point select, prepared": ("oltp_point_select", ["--db-ps-mode=auto"]),
    "read only": ("oltp_read_only", ["--db-ps-mode=disable"]),
    "read write": ("oltp_read_write", ["--db-ps-mode=auto"]),
    "100,000 rows": (HERE / "big_result.lua", ["--db-ps-mode=disable"]),
    "connect, login, leave": (HERE / "storm.lua", []),
    "update by key, text": ("oltp_update_non_index", ["--db-ps-mode=disable"]),
    "update by key, prepared": ("oltp_update_non_index", ["--db-ps-mode=auto"]),
}


class Result:
    """What sysbench counted."""

    def __init__(self, text):
        def number(pattern):
            match = re.search(pattern, text)
            if not match:
                raise Trouble(f"sysbench said:\n{text}")
            return float(match.group(1))

        self.queries = number(r"queries:\s+(\d+)") or number(r"total number of events:\s+(\d+)")
        self.events = number(r"total number of events:\s+(\d+)")
        self.seconds = number(r"total time:\s+([\d.]+)s")
        self.percentile_ms = number(r"th percentile:\s+([\d.]+)")


def command_line(stage, port, workload, threads, seconds, percentile=95, database=DATABASE):
    """sysbench with its arguments."""
    script, options = WORKLOADS[workload]
    pinned = ["taskset", "-c", str(stage.cpu)] if stage.cpu is not None else []
    arguments = [
        *pinned, found("sysbench"), str(script), "--db-driver=mysql", "--mysql-host=127.0.0.1", f"--mysql-port={port}",
        f"--mysql-user={USER}", f"--mysql-password={PASSWORD}", f"--mysql-db={database}", f"--threads={threads}",
        f"--time={seconds}", "--events=0", f"--percentile={percentile}", *options,
    ]
    if str(script).startswith("oltp"):
        arguments += [f"--tables={TABLES}", f"--table-size={ROWS}"]
    return arguments


def sysbench(stage, port, workload, threads, seconds, percentile=95, command="run"):
    """Runs a workload to its end."""
    arguments = [*command_line(stage, port, workload, threads, seconds, percentile), command]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=stage.folder)
    if done.returncode or "FATAL" in done.stdout + done.stderr:
        raise Trouble(f"sysbench {workload} on port {port}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return Result(done.stdout) if command == "run" else None


class Running:
    """A workload that runs while the block does; it must outlast the block, and end well."""

    def __init__(self, stage, port, workload, threads, seconds):
        self.command, self.what, self.folder = command_line(stage, port, workload, threads, seconds), workload, stage.folder

    def __enter__(self):
        self.process = subprocess.Popen([*self.command, "run"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                        cwd=self.folder)
        return self

    def __exit__(self, *_):
        early = self.process.poll() is not None
        text, _ = self.process.communicate()
        if early or self.process.returncode or "FATAL" in text:
            raise Trouble(f"sysbench {self.what} {'ended early' if early else 'failed'}:\n{text[-2000:]}")


def prepare(stage):
    """Makes the tables: sysbench's, for all and for each target, and one of 100,000 rows."""
    sysbench(stage, stage.ports["direct"], "point select, text", 1, 0, command="prepare")
    tables = [f"sbtest{number}" for number in range(1, TABLES + 1)]
    stage.sql("".join(
        f"CREATE DATABASE {own_database(target)};" + "".join(
            f"CREATE TABLE {own_database(target)}.{table} LIKE {DATABASE}.{table};"
            f"INSERT INTO {own_database(target)}.{table} SELECT * FROM {DATABASE}.{table};" for table in tables)
        for target in stage.targets))
    stage.sql(f"""USE {DATABASE};
        CREATE TABLE big (id INT PRIMARY KEY, name VARCHAR(100) NOT NULL, views BIGINT NOT NULL, ts DATETIME NOT NULL);
        INSERT INTO big SELECT seq, CONCAT('/path/of/a/page/', MD5(seq)), seq * 977, NOW() FROM seq_1_to_100000;
        ANALYZE TABLE big;""")


class Idle:
    """Connections that have logged in and say nothing, until the block ends."""

    def __init__(self, port, count):
        self.port, self.count, self.sockets = port, count, []

    def __enter__(self):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        try:
            for _ in range(self.count):
                self.sockets.append(login(self.port))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for client in self.sockets:
            try:
                client.sendall(b"\1\0\0\0\1")
            except OSError:
                pass
            client.close()


class LongResult:
    """A client that reads results of about a gigabyte, one after another, until the block ends."""

    def __init__(self, stage, port):
        self.pin = ["taskset", "-c", str(stage.cpu)] if stage.cpu is not None else []
        self.port = port

    def __enter__(self):
        command = [*self.pin, sys.executable, str(HERE / "load.py"), str(self.port)]
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *command], stdin=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def read_for_ever(port):
    """The other process of LongResult."""
    query = b"\3SELECT a.* FROM big AS a, seq_1_to_100 AS b"
    space = bytearray(1 << 20)
    while True:
        client = login(port)
        client.sendall(struct.pack("<I", len(query)) + query)
        got = 1
        while got > 0:
            # a pause of the server's is the end of the result: only the bytes matter here
            client.settimeout(2)
            try:
                got = client.recv_into(space)
            except TimeoutError:
                got = 0
        client.close()


def ping(client):
    """Whether a connection still answers."""
    try:
        client.sendall(b"\1\0\0\0\x0e")
        return packet(client)[:1] == b"\0"
    except (OSError, Trouble):
        return False


def row(client, number):
    """One row by its key, as text: from the question to the last byte of the answer."""
    query = b"\3SELECT c FROM sbtest1 WHERE id=%d" % number
    client.sendall(struct.pack("<I", len(query)) + query)
    data, at, ends = b"", 0, 0
    while ends < 2:
        data += client.recv(1 << 16) or _closed()
        while len(data) >= at + 4 and len(data) >= at + 4 + (size := int.from_bytes(data[at:at + 3], "little")):
            if data[at + 4] == 0xff:
                raise Trouble(f"a row was refused: {data[at + 7:at + 4 + size]!r}")
            ends += size == 5 and data[at + 4] == 0xfe
            at += 4 + size


def _closed():
    raise Trouble("the connection was closed")


def login(port):
    """One connection by mysql_native_password, as small as the protocol allows."""
    client = socket.create_connection(("127.0.0.1", port), 30)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    greeting = packet(client)
    rest = greeting[greeting.index(b"\0", 1) + 1:]
    scramble = rest[4:12] + rest[31:43]
    # LONG_PASSWORD, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH
    flags = 0x1 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x80000
    answer = struct.pack("<IIB23x", flags, 1 << 24, 45) + USER.encode() + b"\0"
    answer += b"\x14" + native(scramble) + DATABASE.encode() + b"\0mysql_native_password\0"
    client.sendall(struct.pack("<I", len(answer) | 1 << 24) + answer)
    reply = packet(client)
    if reply[:1] == b"\xfe":  # another scramble, or the plugin named once more
        scramble = reply[reply.index(b"\0") + 1:][:20]
        client.sendall(struct.pack("<I", 20 | 3 << 24) + native(scramble))
        reply = packet(client)
    if reply[:1] != b"\0":
        raise Trouble(f"login on port {port}: {reply[:200]!r}")
    return client


def native(scramble):
    stage1 = hashlib.sha1(PASSWORD.encode()).digest()
    stage2 = hashlib.sha1(stage1).digest()
    mask = hashlib.sha1(scramble + stage2).digest()
    return bytes(a ^ b for a, b in zip(stage1, mask))


def packet(client):
    head = exactly(client, 4)
    return exactly(client, int.from_bytes(head[:3], "little"))


def exactly(client, size):
    data = b""
    while len(data) < size:
        piece = client.recv(size - len(data))
        if not piece:
            raise Trouble("the connection was closed during login")
        data += piece
    return data


if __name__ == "__main__":
    read_for_ever(int(sys.argv[1]))
