"""Stands in for mariadb-test under mtr: points the test, and every tool it calls, at a proxy in front of mtr's server."""

import os
import re
import subprocess
import sys
import time

real, proxy, work = os.environ["MTR_REAL"], os.environ.get("PROXY"), os.environ["MTR_WORK"]
arguments = sys.argv[1:]
settings = next((a.split("=", 1)[1] for a in arguments if a.startswith("--defaults-file=")), None)
test = next((a for a in arguments if a.startswith("--test-file=")), "")
# mtr's own checks before and after a test look at the server itself
if not proxy or not settings or not test or re.search(r"include/(check|force)", test):
    os.execv(real, [real, *arguments])

LOOPBACK = "127.0.0.1"
text = open(settings).read()
groups = re.split(r"(?m)^(?=\[)", text)
servers = {}
for group in groups:
    name = re.match(r"\[mysqld\.(\d+)\]", group)
    port, sock = re.search(r"(?m)^port\s*=\s*(\d+)", group), re.search(r"(?m)^socket\s*=\s*(\S+)", group)
    if name and port and sock:
        servers[port[1]] = sock[1]


def setting(name):
    return re.search(rf"(?m)^(?:loose-)?{name}\s*=\s*(\S+)", text)[1]


# the proxy shows the certificate that the test's clients expect of the server
certificate, key = setting("ssl-cert"), setting("ssl-key")


def alive(base):
    try:
        os.kill(int(open(base + ".pid").read()), 0)
        return os.path.exists(base + ".sock")
    except (OSError, ValueError):
        return False


def start(base, listen, address):
    """A proxy; its unix socket, made last, says that it is up. Connecting would be seen in the server's counters."""
    if alive(base):
        return
    with open(base + ".yaml", "w") as f:
        f.write(
            f"listen: [{', '.join(listen + [base + '.sock'])}]\n"
            f"stores:\n"
            f"  legacy: {{ address: {address}, control: {{ user: root, password: '' }} }}\n"
            f"default: legacy\n"
            f"tls: {{ cert: {certificate}, key: {key} }}\n"
        )
    if os.path.exists(base + ".sock"):
        os.unlink(base + ".sock")
    child = subprocess.Popen(
        [proxy, *os.environ.get("PROXY_WORDS", "").split(), base + ".yaml"],
        stdin=subprocess.DEVNULL,
        stdout=open(base + ".log", "a"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={k: v for k, v in os.environ.items() if not k.startswith(("LD_", "OPENSSL"))},
    )
    with open(base + ".pid", "w") as f:
        f.write(f"{child.pid}\n")
    deadline = time.time() + 20
    while not alive(base) and time.time() < deadline:
        time.sleep(0.05)


def through(port, sock):
    """The port and socket of the proxies for a server: TCP goes to TCP and the socket to the socket, so that accounts'
    hosts (127.0.0.1, ::1, localhost) mean the same."""
    # mtr's ports begin at 16000
    own = str(int(port) + 13000)
    base = os.path.join(work, f"proxy-{own}")
    start(base + "t", [f"{LOOPBACK}:{own}"], f"{LOOPBACK}:{port}")
    start(base + "v6", [f"'[::1]:{own}'"], f"'[::1]:{port}'")
    start(base, [], sock)
    return own, base + ".sock"


mine = settings.replace(".cnf", "-proxy.cnf")
swaps = {settings: mine}
for port, sock in servers.items():
    own, own_sock = through(port, sock)
    swaps |= {sock: own_sock, port: own}


anything = re.compile("|".join(re.escape(old) + r"(?!\d)" for old in sorted(swaps, key=len, reverse=True)))


def swap(value):
    return anything.sub(lambda m: swaps[m[0]], value)


with open(mine, "w") as f:
    f.write("".join(g if g.startswith("[mysqld") else swap(g) for g in groups))
# the commands that start a server keep the server's own settings
server_side = re.compile(r"MYSQLD|MYSQL_PLUGIN|MYSQL_TMP_DIR|VARDIR|_TOPDIR|_DATADIR|PROXY|MTR_WORK")
for name, value in os.environ.items():
    if not server_side.search(name):
        os.environ[name] = swap(value)
os.execv(real, [real, *(swap(a) if a.startswith("--defaults-file=") else a for a in arguments)])
