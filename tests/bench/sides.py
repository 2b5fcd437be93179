"""
The two servers of the bench, set up for one and the same work: Nightmail ("A") and Postfix ("B").

What is set on each side, and why, stands here and in the result; nothing else differs from what comes with them.
"""
import mmap
import os
import shutil
import struct

from nightmail import Nightmail
from postfix import TUNED, Postfix

NIGHTMAIL_ADDRESS, POSTFIX_ADDRESS, SINK_ADDRESS = "127.0.0.2", "127.0.0.3", "127.0.0.4"
PORT = 2525
USER = "bob@here.example"                   # of both
SYNC_KINDS = ["fsync", "fdatasync", "sync_file_range", "syncfs", "sync"]

NOTES = {
    "nightmail": "sessions_max and messages_per_session_max raised above the load; accept: the next hop takes connections and never"
                 " greets, so that mail stays queued; log of one line an event to a file",
    "postfix": "Debian's package and defaults with: process limit 1100, client limits off (anvil is not asked), in_flow_delay 0,"
               " no chroot, no TLS, no DNS look-ups, no syslog daemon (its CPU is not counted, nor waited for);"
               " accept: every message goes to the hold queue (static:HOLD), the queue manager never sees it; local: virtual(8) to a Maildir",
}

FAR_CONNECTIONS = 200                       # to a sink that is 50 ms away; both keep them open

# One next hop for everybody; 20 connections a destination, which is the default of both.
NIGHTMAIL_MODES = {
    "accept": lambda hop: {"relay_host": hop, "site_connections_max": 1, "greeting_timeout": "1h"},
    "relay": lambda hop: {"relay_host": hop},
    "local": lambda hop: {},
    "far": lambda hop: {"relay_host": hop, "site_connections_max": FAR_CONNECTIONS, "deliveries_max": 4000},
}
POSTFIX_MODES = {
    "accept": lambda hop: {"smtpd_data_restrictions": "check_client_access static:HOLD", "relayhost": hop},
    "relay": lambda hop: {"relayhost": hop},
    "local": lambda hop: {},
    "far": lambda hop: {"relayhost": hop, "default_destination_concurrency_limit": str(FAR_CONNECTIONS),
                        "initial_destination_concurrency": str(FAR_CONNECTIONS), "qmgr_message_active_limit": "40000",
                        "smtp_connection_cache_destinations": hop},
}


class SyncCounter:
    """The file in which the preload counts, and what it says of one piece of work."""

    def __init__(self, path):
        path.write_bytes(bytes(8 * len(SYNC_KINDS)))
        path.chmod(0o666)
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 8 * len(SYNC_KINDS))

    def counts(self):
        return dict(zip(SYNC_KINDS, struct.unpack(f"{len(SYNC_KINDS)}Q", self.map[:])))


class Sides:
    """Both servers, started; `mode` is accept, relay, far or local. With a preload they count syncs and make each `slow_us` longer."""

    def __init__(self, folder, mode, hop=None, preload=None, slow_us=0):
        self.folder, self.mode = folder, mode
        hop = f"[{hop[0]}]:{hop[1]}" if hop else ""
        users = [USER] if mode == "local" else []
        self.counters = {}
        a, b = folder / "nightmail", folder / "postfix"
        for path in (a, b / "root"):
            path.mkdir(parents=True)
        self.nightmail = Nightmail(a, NIGHTMAIL_ADDRESS, PORT, users, env=self._preload("nightmail", a, "", preload, slow_us),
                                   segment_size="64MiB", sessions_max=20000, messages_per_session_max=1000000, shutdown_grace="0s",
                                   **NIGHTMAIL_MODES[mode](hop))
        self.postfix = Postfix(b, POSTFIX_ADDRESS, PORT, dict(TUNED, **POSTFIX_MODES[mode](hop)), users, log=False,
                               env=self._preload("postfix", b, b / "root", preload, slow_us))
        self.both = {"nightmail": self.nightmail, "postfix": self.postfix}

    def _preload(self, side, folder, root, preload, slow_us):
        """The environment with the preload in it, under the names that a process sees in its root."""
        if preload is None:
            return None
        folder = root or folder
        shutil.copy(preload, folder / "slow_sync.so")
        self.counters[side] = SyncCounter(folder / "sync-counts")
        inside = "" if root else str(folder)
        return {"LD_PRELOAD": f"{inside}/slow_sync.so", "SLOW_SYNC_US": str(slow_us), "SLOW_SYNC_COUNT": f"{inside}/sync-counts"}

    def __enter__(self):
        self.nightmail.start()
        try:
            self.postfix.start()
        except BaseException:
            self.nightmail.stop()
            raise
        return self

    def __exit__(self, *_):
        self.postfix.stop()
        self.nightmail.stop()
        if not os.environ.get("BENCH_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)
