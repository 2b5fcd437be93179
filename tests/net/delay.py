#!/usr/bin/python3
"""
Two network namespaces with a round-trip time between them (delay.c): ours, and that of a child, in which servers of a test may run.

    delay.py [ROUTER]           measures itself: 20, 50 and 200 ms must come out within 5 %, of a small packet and of a large one, and
                                50 ms while a stream fills the way

Needs root, and a network namespace of its own (the program takes one).
"""
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/peers/lib"))

from proc import BUILD, Failed, end, spawn, wait_until                      # noqa: E402

NEAR, FAR = "10.77.0.1", "10.77.0.2"
ROUTER = BUILD / "native/tests/net/delay"


class Far:
    """While it is entered, FAR is `rtt_ms` away from us; `command` before an argument list runs it there."""

    def __init__(self, rtt_ms, router=ROUTER):
        self.rtt_ms, self.router = rtt_ms, router

    def __enter__(self):
        self.home = spawn(["unshare", "--net", "sleep", "infinity"])
        ours = os.stat("/proc/self/ns/net").st_ino
        wait_until(lambda: os.stat(f"/proc/{self.home.pid}/ns/net").st_ino != ours, 10, "a network namespace")
        self.command = ["nsenter", "--net", "--target", str(self.home.pid)]
        self.process = spawn([self.router, self.rtt_ms, os.getpid(), self.home.pid], stdout=subprocess.PIPE)
        if self.process.stdout.readline() != b"ready\n":
            raise Failed("the router does not start")
        for before, here, there in (([], NEAR, FAR), (self.command, FAR, NEAR)):
            for words in (f"addr add {here} peer {there} dev delay0", "link set delay0 up mtu 1500 txqueuelen 10000", "link set lo up"):
                subprocess.run([*before, "ip", *words.split()], check=True)
        return self

    def __exit__(self, *_):
        end(self.process)
        self.process.stdout.close()
        end(self.home)


# -- measuring itself ----------------------------------------------------------------------------------------------------------

ECHO = """
import socket, sys, threading
def echo(s):
    while data := s.recv(65536):
        if data[:1] == b"e":
            s.sendall(data)
l = socket.create_server((sys.argv[1], 7777))
print("ready", flush=True)
while True:
    s = l.accept()[0]
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=echo, args=(s,), daemon=True).start()
"""


def connect():
    s = socket.create_connection((FAR, 7777), 10)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def round_trip_ms(s, size):
    start = time.monotonic()
    s.sendall(b"e" * size)
    left = size
    while left > 0:
        left -= len(s.recv(left))
    return (time.monotonic() - start) * 1000


def fill_the_way(until):
    with connect() as s:
        while not until.is_set():
            s.sendall(b"x" * 65536)


def measure(rtt_ms, router, busy):
    with Far(rtt_ms, router) as far:
        server = spawn([*far.command, sys.executable, "-c", ECHO, FAR], stdout=subprocess.PIPE)
        over = threading.Event()
        stream = threading.Thread(target=fill_the_way, args=(over,))
        try:
            assert server.stdout.readline() == b"ready\n"
            with connect() as s:
                if busy:
                    stream.start()
                return [statistics.median(round_trip_ms(s, size) for _ in range(15)) for size in (1, 1000)]
        finally:
            over.set()
            if busy:
                stream.join()
            end(server)
            server.stdout.close()


def main():
    if os.environ.get("DELAY_INSIDE") is None:
        os.environ["DELAY_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, "-B", os.path.abspath(__file__), *sys.argv[1:]])
    router = sys.argv[1] if len(sys.argv) > 1 else ROUTER
    failed = 0
    for rtt_ms, busy in ((20, False), (50, False), (200, False), (50, True)):
        got = measure(rtt_ms, router, busy)
        good = all(rtt_ms <= ms <= rtt_ms * 1.05 for ms in got)
        failed += not good
        print(f"{rtt_ms} ms{', a full way' if busy else ''}: {got[0]:.2f} and {got[1]:.2f} ms{'' if good else ': more than 5 % away'}", flush=True)
    print(f"{4 - failed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
