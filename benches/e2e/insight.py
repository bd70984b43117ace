"""What figures of statements cost: one proxy, one load, and a setting that changes between short windows while all of it goes on.

Two processes of the same program differ by several percent of a query's CPU for reasons of their own; one process differs from itself
by what its setting does. *again* is *with* under another number that nobody reaches: what it differs from *with* by is the noise of the
method, and should be nothing. Each switch is a reload like any other, and changes one number; CPU time is that of the threads that serve
clients, for the reload's own is none of a query.
"""

import json
import os
import socket

import load
from stage import Stage, Trouble

# name: insight.statements
WAYS = {"with": 2_000, "without": 0, "again": 2_001}
WORKLOADS = ["point select, text", "point select, prepared", "read only"]
# of a window: some thousands of statements
SECONDS = 0.4


class Switched(Stage):
    """The server and the proxy on one CPU, as in *pinned*."""

    def __enter__(self):
        self.counted = "core-"
        try:
            self.start_mariadb()
            load.prepare(self)
            self.start_proxy(settings=f"insight: {{ statements: {WAYS['with']} }}\n")
        except BaseException:
            self.__exit__()
            raise
        return self

    def switch(self, way):
        """Makes a way's number be in force: the file first, then a reload, which says what it has changed."""
        head, _ = (self.folder / "switchover.yaml").read_text().split("insight:")
        self.reload(f"{head}insight: {{ statements: {WAYS[way]} }}\n")
        found = [entry["value"] for entry in self.ask({"request": "config"})["config"] if entry["key"] == "insight.statements"]
        if found != [str(WAYS[way])]:
            raise Trouble(f"insight.statements is {found}, not {WAYS[way]}")

    def reload(self, text):
        """Makes a file's text be in force."""
        config, draft = self.folder / "switchover.yaml", self.folder / "draft.yaml"
        draft.write_text(text)
        os.replace(draft, config)
        self.ask({"request": "reload", "by": "bench", "why": None})

    def ask(self, request):
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(60)
            control.connect(str(self.folder / "switchover.yaml.sock"))
            control.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(control.makefile("rb").readline())
        if "failed" in answer:
            raise Trouble(f"{request}: {answer}")
        return answer
