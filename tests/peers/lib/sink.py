"""
Postfix's smtp-sink: takes all mail, counts it, and keeps it in files when asked to. A neutral next hop.
"""
import os
import re
import subprocess
import threading
from pathlib import Path

from nightmail import PROGRAM
from postfix import tool
from proc import end, free_port, listens, spawn, wait_until


class Sink:
    """`store` keeps each message in a file of its folder; `args` are more of smtp-sink's options, `within` a command that runs it elsewhere."""

    def __init__(self, folder, address="127.0.0.1", port=0, store=False, args=(), within=()):
        self.folder, self.address, self.port = Path(folder).absolute(), address, port or free_port(address)
        self.store = self.folder / "mails" if store else None
        self.args, self.within = list(args), list(within)
        self.process = None
        self.messages = 0

    def start(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        args = ["-c", "-m", "2000", *self.args]
        if os.geteuid() == 0:
            args += ["-u", "nobody"]
        if self.store is not None:
            self.store.mkdir(exist_ok=True)
            self.store.chmod(0o1777)
            args += ["-d", f"{self.store}/%H%M%S."]
        self.process = spawn([*self.within, *tool("smtp-sink", *args, f"inet:{self.address}:{self.port}", "4000")],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.reader = threading.Thread(target=self._count, daemon=True)
        self.reader.start()
        wait_until(lambda: listens(self.address, self.port), 10, f"smtp-sink on {self.address}:{self.port}")
        return self

    def _count(self):
        """Its running counters: "sess=1 quit=0 mesg=1", a carriage return before each."""
        fd = self.process.stdout.fileno()
        kept = b""
        while data := os.read(fd, 65536):
            kept = (kept + data)[-200:]
            seen = re.findall(rb"mesg=(\d+)(?=\D)", kept)
            if seen:
                self.messages = int(seen[-1])

    def mails(self):
        return [f.read_bytes() for f in sorted(self.store.iterdir())]

    def stop(self):
        if self.process is not None:
            end(self.process)
            self.process.stdout.close()
            self.process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


class OwnSink:
    """`nightmail sink`, as a next hop that says what `args` ask for; keeps every message."""

    def __init__(self, folder, address="127.0.0.1", args=(), port=0):
        self.folder, self.address, self.port = Path(folder).absolute(), address, port
        self.args = list(args)
        self.process = None

    def start(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = spawn([PROGRAM, "sink", "--listen", f"{self.address}:{self.port}", "--store", self.folder, *self.args],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline().rsplit(b":", 1)[1])
        return self

    def mails(self):
        return [f.read_bytes() for f in sorted(self.folder.iterdir())]

    def stop(self):
        """Its exit status."""
        if self.process is None:
            return 0
        status = end(self.process)
        self.process.stdout.close()
        self.process = None
        return status
