"""Loads that take turns: each target's clients stay logged in while the others' work, and the proxies work in short windows, one
right after another. Noise of the machine that lasts longer than a window meets both. [alternate] has one load through one proxy whose
setting changes between the windows: what two processes differ by (where their memory lies, which clients came first) is then no part
of a difference.

A load rests by SIGSTOP: what it asked for is answered meanwhile, so that counts and CPU time, read at rest, belong together.
"""

import contextlib
import dataclasses
import itertools
import signal
import subprocess
import time

import gauges
import load
from stage import Trouble

# For the answers of the last statements to leave the proxy, after the clients have stopped.
SETTLE = 0.05
# For the first statements under another setting, which each session and each plan pays for once.
WARM = 0.05


@dataclasses.dataclass
class Window:
    """What one target did in one window."""

    queries: int
    seconds: float
    # CPU time of the target's process, and the part of it in user space
    cpu: float
    user: float
    # what the stage saw meanwhile
    seen: object


class Load:
    """One target's sysbench; it rests between the windows."""

    def __init__(self, stage, target, workload, threads, seconds):
        self.stage, self.target, self.workload = stage, target, workload
        database = stage.database(target, workload)
        command = load.command_line(stage, stage.ports[target], workload, threads, seconds, database=database)
        self.process = subprocess.Popen([*command, "run"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                        cwd=stage.folder)

    def rest(self):
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(SETTLE)

    def warm(self):
        self.process.send_signal(signal.SIGCONT)
        time.sleep(WARM)
        self.rest()

    def work(self, seconds):
        """A window of about so many seconds."""
        pid = self.stage.pid(self.target)
        self.stage.before(self.target)
        before = self.stage.questions(), gauges.cpu_seconds(pid, self.stage.counted), gauges.user_share(pid)
        started = time.monotonic()
        self.process.send_signal(signal.SIGCONT)
        seen = self.stage.meanwhile(seconds)
        self.process.send_signal(signal.SIGSTOP)
        took = time.monotonic() - started
        time.sleep(SETTLE)
        user, system = gauges.user_share(pid, before[2])
        cpu = gauges.cpu_seconds(pid, self.stage.counted) - before[1]
        queries = self.stage.questions() - before[0]
        if self.process.poll() is not None or queries <= 0:
            text = self.end()
            raise Trouble(f"sysbench {self.workload} through {self.target} stopped early:\n{text[-2000:]}")
        return Window(queries, took, cpu, user / max(1, user + system), seen)

    def end(self):
        """Lets it end by itself; what it says."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        text, _ = self.process.communicate()
        return text

    def kill(self):
        self.process.kill()
        self.process.wait()


def alternate(stage, target, ways, workload, threads, rounds, seconds):
    """Windows of one load, each after `stage.switch(way)`, round by round: `[{way: Window}]`; the order of the ways goes through all that
    there are, so that what grows or fades in a round meets each of them alike.
    """
    login = 0.5 + threads / 100
    # (a switch, two questions and the warming take some 0.3 s: four times that on a busy machine)
    window = seconds + 3 * SETTLE + WARM + 1.2
    orders = list(itertools.permutations(ways))
    running = Load(stage, target, workload, threads, round(login + rounds * len(ways) * window + 5))
    try:
        time.sleep(login)
        running.rest()
        rows = []
        for number in range(rounds):
            row = {}
            for way in orders[number % len(orders)]:
                stage.switch(way)
                running.warm()
                row[way] = running.work(seconds)
            rows.append(row)
        return rows
    finally:
        running.kill()


def take_turns(stage, targets, workload, threads, rounds, seconds):
    """Windows of all targets, round by round: `[{target: Window}]`; each goes first as often as the others.

    Also what sysbench says of the whole at the end, `{target: Result}`: its percentiles hold for the windows.
    """
    login = 0.5 + threads / 100
    whole = len(targets) * (login + SETTLE + rounds * (seconds + 4 * SETTLE))
    loads = {}
    try:
        for target in targets:
            loads[target] = Load(stage, target, workload, threads, round(whole + 1))
            time.sleep(login)
            loads[target].rest()
        rows = []
        for number in range(rounds):
            at = number % len(targets)
            rows.append({target: loads[target].work(seconds) for target in targets[at:] + targets[:at]})
        return rows, {target: load.Result(loads[target].end()) for target in targets}
    finally:
        for running in loads.values():
            running.kill()
