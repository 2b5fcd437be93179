"""
What the bench measures: one run of smtp-source against one server, the latency of lone messages, the memory of idle sessions.
"""
import os
import queue
import resource
import socket
import statistics
import subprocess
import threading
import time

from postfix import tool
from proc import Failed, wait_until

RUN_MAX_S = 120                             # a run that takes longer has failed


def raise_file_limit():
    """To the hard limit: thousands of sockets here, in the load tools and in the servers."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Load:
    """How smtp-source loads: sessions at a time, bytes, one connection for many messages (kept) or for each."""

    def __init__(self, sessions, size, kept, to="bob@elsewhere.example"):
        self.sessions, self.size, self.kept, self.to = sessions, size, kept, to

    def run(self, server, messages):
        command = tool("smtp-source", "-s", self.sessions, "-m", messages, "-l", self.size, "-f", "alice@load.example", "-t", self.to,
                       "-M", "load.example", *(["-d"] if self.kept else []), f"{server.address}:{server.port}")
        r = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=RUN_MAX_S)
        if r.returncode != 0:
            raise Failed(f"smtp-source: {r.stderr.decode(errors='replace').strip()[-300:]}")

    def __str__(self):
        return f"{self.sessions:4} sessions {self.size // 1024:2} KiB {'kept' if self.kept else 'new '}"


def run_once(server, load, messages, arrived=None):
    """One run: messages a second, and the server's CPU seconds per 1000 messages. With `arrived`, until that many have come out."""
    cpu = server.cpu_seconds()
    before = arrived() if arrived else 0
    start = time.monotonic()
    load.run(server, messages)
    if arrived:
        wait_until(lambda: arrived() >= before + messages, RUN_MAX_S, lambda: f"{arrived() - before} of {messages} came out", every=0.002)
    seconds = time.monotonic() - start
    return {"rate": messages / seconds, "cpu": (server.cpu_seconds() - cpu) * 1000 / messages, "messages": messages}


def calibrate(server, load, seconds, arrived=None):
    """How many messages make a run of about so many seconds; warms the server up by the way."""
    least = max(10 * load.sessions if load.kept else load.sessions, 20)      # kept, or half of the work would be connecting
    messages = least
    for _ in range(4):
        rate = run_once(server, load, messages, arrived)["rate"]
        wanted = max(least, min(int(rate * seconds), 50000))
        if wanted <= 2 * messages:
            break
        messages = min(wanted, 8 * messages)
    return wanted


# -- lone messages -----------------------------------------------------------------------------------------------------------


class StampingSink:
    """A server that notes when each message's final dot came. One thread a connection: there is one message at a time."""

    def __init__(self, address):
        self.listener = socket.create_server((address, 0), backlog=100)
        self.address, self.port = self.listener.getsockname()
        self.dots = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        while True:
            try:
                conn = self.listener.accept()[0]
            except OSError:
                return                                  # closed
            threading.Thread(target=self._talk, args=(conn,), daemon=True).start()

    def _talk(self, conn):
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with conn, conn.makefile("rb", buffering=65536) as lines:
            conn.sendall(b"220 sink.example\r\n")
            try:
                for line in lines:
                    verb = line[:4].upper().strip()
                    if verb == b"DATA":
                        conn.sendall(b"354 go on\r\n")
                        while lines.readline() not in (b".\r\n", b""):
                            pass
                        self.dots.put(time.monotonic())
                    conn.sendall(b"250-sink.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n" if verb == b"EHLO" else
                                 b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
                    if verb == b"QUIT":
                        return
            except OSError:
                return                                  # the server went away

    def close(self):
        self.listener.close()


def lone_message(server, sink, body):
    """Milliseconds: connection to 250, final dot to 250, final dot to the final dot at the sink."""
    start = time.monotonic()
    with socket.create_connection((server.address, server.port), 10) as s, s.makefile("rb") as replies:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def say(text, code):
            if text:
                s.sendall(text)
            while (line := replies.readline())[3:4] == b"-":
                pass
            if not line.startswith(code):
                raise Failed(f"{text[:40]!r}: {line!r}")

        say(b"", b"220")
        say(b"EHLO load.example\r\n", b"250")
        say(b"MAIL FROM:<alice@load.example>\r\n", b"250")
        say(b"RCPT TO:<bob@elsewhere.example>\r\n", b"250")
        say(b"DATA\r\n", b"354")
        dot = time.monotonic()
        say(body, b"250")
        accepted = time.monotonic()
        say(b"QUIT\r\n", b"221")
    try:
        arrived = sink.dots.get(timeout=30)
    except queue.Empty:
        raise Failed("a lone message did not reach the sink within 30 s") from None
    return (accepted - start) * 1000, (accepted - dot) * 1000, (arrived - dot) * 1000


LONE_PAUSE_S = 0.05


def paused(function, *args):
    time.sleep(LONE_PAUSE_S)
    return function(*args)


def lone_messages(server, sink, count, size=4096):
    """The medians of so many, each to an idle server: a pause lets what the one before left, its settling, come to its end."""
    body = b"From: alice@load.example\r\nSubject: lone\r\n\r\n" + (b"x" * 62 + b"\r\n") * (size // 64) + b".\r\n"
    return [statistics.median(column) for column in zip(*(paused(lone_message, server, sink, body) for _ in range(count)))]


# -- idle sessions -----------------------------------------------------------------------------------------------------------


def idle_memory(server, sessions):
    """(PSS, RSS) of the server while so many sessions have said EHLO and wait."""
    held = []
    try:
        for _ in range(sessions):
            s = socket.create_connection((server.address, server.port), 20)
            held.append(s)
            for line in (b"", b"EHLO idle.example\r\n"):
                s.sendall(line)
                reply = b""
                while not (reply.endswith(b"\n") and reply[reply.rfind(b"\n", 0, -1) + 1:][3:4] == b" "):
                    piece = s.recv(4096)
                    if not piece or (reply + piece)[:1] != b"2":
                        raise Failed(f"session {len(held)} of {sessions}: {reply + piece!r}")
                    reply += piece
        return server.memory_bytes()
    finally:
        for s in held:
            s.close()


def count_files(folder):
    try:
        return len(os.listdir(folder))
    except FileNotFoundError:
        return 0
