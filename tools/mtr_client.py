"""Stands in for mariadb-test under mtr: points the test, and every tool it calls, at a proxy in front of mtr's server.

A proxy lives as long as its server's place (a port and a socket): servers come and go behind it. It is started anew only
when its configuration has to be another one: that is made of the running server's own TLS options, as an operator would.
"""

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
text = open(settings, encoding="latin-1").read()
groups = re.split(r"(?m)^(?=\[)", text)


def option(group, name, default=None):
    found = re.findall(rf"(?m)^(?:loose-)?{name}\s*=\s*(\S+)", group)
    return found[-1] if found else default


common = "".join(g for g in groups if g.startswith("[mysqld]"))
servers = {}
for group in groups:
    if re.match(r"\[mysqld\.\d+\]", group) and option(group, "port") and option(group, "socket"):
        servers[option(group, "port")] = group


def running(group):
    """The command line of a server's process; mtr gives combinations and .opt files there."""
    try:
        pid = open(option(group, "pid-file", "")).read().strip()
        return open(f"/proc/{pid}/cmdline", encoding="latin-1").read().split("\0")
    except OSError:
        return []


def tls(group):
    """The proxy shows the certificates that the test's clients expect of the server."""
    own = {n: option(group, n) or option(common, n) or option(text, n) for n in ("ssl-ca", "ssl-cert", "ssl-key")}
    on = True
    for word in running(group):
        name, _, value = re.sub(r"^--(loose[-_])?", "", word).partition("=")
        name = name.replace("_", "-")
        if name in own and value:
            own[name] = value
        elif name in ("skip-ssl", "disable-ssl") or name == "ssl" and value in ("0", "OFF"):
            on = False
        elif name in ("ssl", "enable-ssl"):
            on = True
    if not on:
        return "tls: off\n"
    return f"tls: {{ cert: {own['ssl-cert']}, key: {own['ssl-key']} }}\n"


def routing():
    """A second store, and a thousand tables in ten groups; no test has tables of such names."""
    if "SECOND_STORE" not in os.environ:
        return ""
    tables = lambda g: ", ".join(f"absent{g}_t{t}" for t in range(99))
    lines = (f"  absent{g}: {{ connection: new, tables: [{tables(g)}, 'absent{g}_*_w'] }}\n" for g in range(10))
    return (
        f"  new: {{ address: {os.environ['SECOND_STORE']}, control: {{ user: root, password: '' }} }}\n"
        f"groups:\n{''.join(lines)}"
    )


def alive(base):
    try:
        os.kill(int(open(base + ".pid").read()), 0)
        return os.path.exists(base + ".sock")
    except (OSError, ValueError):
        return False


def stop(base):
    try:
        pid = int(open(base + ".pid").read())
        os.kill(pid, 9)
        while os.path.exists(f"/proc/{pid}/exe"):
            time.sleep(0.01)
    except (OSError, ValueError):
        pass
    for end in (".pid", ".sock"):
        if os.path.exists(base + end):
            os.unlink(base + end)


def start(base, listen, address, head):
    """A proxy; its unix socket, made last, says that it is up. Connecting would be seen in the server's counters."""
    config = (
        f"listen: [{', '.join(listen + [base + '.sock'])}]\n"
        f"{head}"
        f"stores:\n"
        f"  legacy: {{ address: {address}, control: {{ user: root, password: '' }} }}\n"
        f"{routing()}"
        f"default: legacy\n"
    )
    if alive(base) and open(base + ".yaml", encoding="latin-1").read() == config:
        return
    stop(base)
    with open(base + ".yaml", "w", encoding="latin-1") as f:
        f.write(config)
    child = subprocess.Popen(
        [proxy, "serve", "--config", base + ".yaml"],
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


def listens_on_v6(port):
    """Whether somebody listens there on ::1 or on all addresses of version 6."""
    places = [f"{'0' * 24}01000000:{int(port):04X}", f"{'0' * 32}:{int(port):04X}"]
    return any(line.split()[1] in places and line.split()[3] == "0A" for line in open("/proc/net/tcp6"))


def through(port, group):
    """The port and socket of the proxies for a server: TCP goes to TCP and the socket to the socket, so that accounts'
    hosts (127.0.0.1, ::1, localhost) mean the same."""
    # mtr's ports begin at 16000
    own = str(int(port) + 13000)
    base = os.path.join(work, f"proxy-{own}")
    head = tls(group)
    start(base + "t", [f"{LOOPBACK}:{own}"], f"{LOOPBACK}:{port}", head)
    if listens_on_v6(port):
        start(base + "v6", [f"'[::1]:{own}'"], f"'[::1]:{port}'", head)
    else:
        stop(base + "v6")
    start(base, [], option(group, "socket"), head)
    return own, base + ".sock"


mine = settings.replace(".cnf", "-proxy.cnf")
swaps = {settings: mine}
for port, group in servers.items():
    own, own_sock = through(port, group)
    swaps |= {option(group, "socket"): own_sock, port: own}


anything = re.compile("|".join(re.escape(old) + r"(?!\d)" for old in sorted(swaps, key=len, reverse=True)))


def swap(value):
    return anything.sub(lambda m: swaps[m[0]], value)


with open(mine, "w", encoding="latin-1") as f:
    f.write("".join(g if g.startswith("[mysqld") else swap(g) for g in groups))
# the commands that start a server keep the server's own settings
server_side = re.compile(r"MYSQLD|MYSQL_PLUGIN|MYSQL_TMP_DIR|VARDIR|_TOPDIR|_DATADIR|PROXY|MTR_WORK|SECOND_STORE")
for name, value in os.environ.items():
    if not server_side.search(name):
        os.environ[name] = swap(value)
os.execv(real, [real, *(swap(a) if a.startswith("--defaults-file=") else a for a in arguments)])
