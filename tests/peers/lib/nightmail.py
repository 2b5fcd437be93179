"""
Our own server as a test runs it: a folder, a configuration, a process that is waited for and stopped.
"""
import json
import os
import re
import subprocess
from pathlib import Path

from proc import BUILD, Failed, cpu_seconds, end, memory_bytes, spawn, tree, wait_until

PROGRAM = Path(os.environ.get("NIGHTMAIL", BUILD / "native/nightmail")).absolute()


def quoted(value):
    if isinstance(value, (list, tuple, set)):
        return "{" + ", ".join(map(quoted, value)) + "}"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


class Nightmail:
    """
    A Nightmail server for `users` ("bob@here.example"), everybody else by `options` (nightmail.conf's names).
    `zone` is the text of a DNS zone file for "example.". Port 0 is the kernel's choice. `certificates` are (file, key); with
    them there is a second listener, at port `tls_port` afterwards, with TLS from the first byte. `terms` stand in both listen blocks;
    `listeners` are further blocks, as text.
    """

    def __init__(self, folder, address="127.0.0.1", port=0, users=(), hostname="nightmail.example", zone=None, env=None, certificates=(),
                 terms="", listeners="", program=PROGRAM, **options):
        self.folder, self.address, self.port = Path(folder).absolute(), address, port
        self.data = self.folder / "data"
        self.conf = self.folder / "nightmail.conf"
        self.log = self.folder / "log"
        self.program = program
        self.env = dict(os.environ, **(env or {}))
        self.process = None
        self.data.mkdir(parents=True, exist_ok=True)
        settings = {"hostname": hostname, "data_dir": self.data, "segment_size": "4MiB"}
        if users:
            (self.folder / "users").write_text("".join(u + "\n" for u in users))
            settings["users_file"] = self.folder / "users"
            settings["local_domains"] = sorted({u.split("@")[1] for u in users})
        (self.folder / "zone").write_text(zone or "@ 60 IN SOA ns hostmaster 1 3600 600 86400 60\n@ 60 IN NS ns\nns 60 IN A 127.0.0.1\n")
        settings["dns_zone_files"] = [f"example={self.folder}/zone"]
        settings.update(options)
        self.conf.write_text("".join(f"{k} = {quoted(v)}\n" for k, v in settings.items())
                             + f'listen "smtp" {{ address = "{address}:{port}" {terms} }}\n'
                             + (f'listen "tls" {{ address = "{address}:0" tls = implicit {terms} }}\n' if certificates else "")
                             + listeners
                             + "".join(f"tls_certificate {i} {{ certificate = {quoted(c)} key = {quoted(k)} }}\n"
                                       for i, (c, k) in enumerate(certificates)))

    def start(self):
        # Appended: what an earlier run said stays, and only what this one says counts.
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self.process = spawn([self.program, "serve", "-c", self.conf], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env)
        ready = wait_until(self._is_up, 30, lambda: f"ready\n{self.said()}")
        self.port, self.tls_port = int(ready[0]), int(ready[-1])
        return self

    def _is_up(self):
        if self.process.poll() is not None:
            raise Failed(f"nightmail serve ended with {self.process.returncode}\n{self.said()}")
        text = self.log.read_bytes()[self._log_start:].decode(errors="replace")
        ready = re.search(r"\bready\b.*?listen=\"?([^ \"]*)", text)
        return ready and [at.rpartition(":")[2] for at in ready.group(1).split(",")]

    def said(self):
        return self.log.read_text(errors="replace")[-8000:] if self.log.exists() else ""

    def crashes(self):
        """How many workers have crashed since it was started; another one follows each."""
        return self.log.read_bytes()[self._log_start:].count(b" worker-crashed ")

    def stop(self, crashes=0):
        """Its exit status; 0 when it stopped as it should. Failed when not so many workers have crashed."""
        if self.process is None:
            return 0
        status = end(self.process, 40)
        self.process = None
        if self.crashes() != crashes:
            raise Failed(f"a worker crashed\n{self.said()}")
        return status

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def pids(self):
        return tree(self.process.pid)

    def cpu_seconds(self):
        return cpu_seconds(self.pids())

    def memory_bytes(self):
        return memory_bytes(self.pids())

    def command(self, *argv, **options):
        """Runs a subcommand with this server's configuration in its environment."""
        env = dict(self.env, NIGHTMAIL_CONF=str(self.conf))
        return subprocess.run([PROGRAM, *map(str, argv)], capture_output=True, timeout=60, env=env, **options)

    def maildir(self, user):
        local, domain = user.split("@")
        return self.data / "mail" / domain / local

    def mails(self, user):
        """The messages in a mailbox, oldest first."""
        new = self.maildir(user) / "new"
        files = sorted(new.iterdir(), key=lambda f: f.stat().st_mtime_ns) if new.is_dir() else []
        return [f.read_bytes() for f in files]

    def queued(self):
        """The messages in the queue, as `queue list --json` shows them."""
        r = self.command("queue", "list", "--json", "-c", self.conf)
        if r.returncode != 0:
            raise Failed(f"queue list: {r.returncode} {r.stderr.decode()}")
        text = r.stdout.decode().strip()
        if text.startswith("["):
            return json.loads(text)
        return [json.loads(line) for line in text.splitlines()]
