"""
What this machine can do at most, whatever the server: the disk alone, a bare loop that appends with group commit, and the load generator
into a server on our tasks that keeps nothing (responder.c). The bench prints our figures as shares of these too.
"""
import os
import subprocess
import time

from proc import cpu_seconds, end, spawn

ADDRESS, PORT = "127.0.0.6", 2525
CHUNK, FILE = 1 << 20, 64 << 20
NEW_OF_GENERATOR, ONE_SESSION, LARGE_OF_DISK = 0.85, 1 / 1.25, 0.6      # the aims of the issue


def sequential(folder):
    """MiB a second of writes of 1 MiB that are each synced, over a file that is written out already."""
    path = folder / "ceiling"
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        bytes_ = os.urandom(CHUNK)
        for turn in range(2):                           # the first makes the file
            start = time.monotonic()
            for at in range(0, FILE, CHUNK):
                os.pwrite(fd, bytes_, at)
                if turn:
                    os.fdatasync(fd)
            os.fsync(fd)
        return FILE / (1 << 20) / (time.monotonic() - start)
    finally:
        os.close(fd)
        path.unlink()


def together(*rates):
    """Of steps that come one after another."""
    return 1 / sum(1 / rate for rate in rates)


class Responder:
    """The server that keeps nothing, as a side of the bench."""
    address, port = ADDRESS, PORT

    def __init__(self, program):
        self.program = program

    def __enter__(self):
        self.process = spawn([self.program, ADDRESS, PORT], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_):
        end(self.process)
        self.process.stdout.close()

    def cpu_seconds(self):
        return cpu_seconds([self.process.pid])
