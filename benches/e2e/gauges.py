"""What a process costs, read from the kernel: CPU time, memory, system calls."""

import os
import pathlib
import re
import subprocess

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid, threads=""):
    """CPU time of all threads that still run, from the scheduler's own clock (ns): for programs whose threads stay.

    `threads`: only of those whose names begin so.
    """
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            if threads and not (task / "comm").read_text().startswith(threads):
                continue
            total += int((task / "schedstat").read_text().split()[0])
        except OSError:  # the thread has just ended
            pass
    return total / 1e9


def user_share(pid, since=(0, 0)):
    """(user, system) clock ticks since an earlier reading."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    user, system = int(fields[11]), int(fields[12])
    return user - since[0], system - since[1]


def resident_bytes(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) * 1024


class SystemCalls:
    """Counts the system calls of a process while the block runs: with perf, else with strace; `count` is None without both.

    Both slow the process down, strace a lot: nothing else is measured meanwhile.
    """

    def __init__(self, pid):
        self.pid, self.count = pid, None

    def __enter__(self):
        perf = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", str(self.pid)]
        strace = ["strace", "-f", "-c", "-p", str(self.pid)]
        self.tool = None
        for name, command in (("perf", perf), ("strace", strace)):
            try:
                works = name == "strace" or subprocess.run(
                    [*perf[:5], "true"], capture_output=True, check=False).returncode == 0
                if works:
                    self.tool = name
                    self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                    break
            except FileNotFoundError:
                continue
        return self

    def __exit__(self, *_):
        if not self.tool:
            return
        self.process.send_signal(2)
        _, text = self.process.communicate()
        pattern = r"^(\d+),," if self.tool == "perf" else r"^100\.00\s+\S+\s+\S+\s+(\d+)"
        match = re.search(pattern, text, re.MULTILINE)
        self.count = int(match.group(1)) if match else None
