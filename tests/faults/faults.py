#!/usr/bin/env python3
"""Each allocation and each system call of a transaction fails once; nothing is lost, nothing wrongly said.

    tests/faults/faults.py NIGHTMAIL PRELOAD [--tls] [--seconds N] [--kinds memory,files,network,other] [--verbose]

A real server, with tests/faults/preload.c in it. Each round is one message of alice's to three recipients: a mailbox here, somebody at the
next hop (found by MX), and somebody whom the next hop refuses, for whom alice gets a DSN. With --tls it comes and goes under TLS. In each
round one point fails that has not failed before (preload.c says what a point is), until three rounds pass in which nothing is left; --seconds
stops earlier, and says so. Then:
  * the client has heard 250, 4xx, or the end of the connection, and never 5xx;
  * what was answered with 250 is in the mailbox once, at the next hop, and the DSN names the refused one and nobody else;
  * what was answered with 4xx to its end is nowhere;
  * the next message, in which nothing fails, is taken at once and delivered;
  * the server has not ended, and ends well when it is asked to (in a build with SAN=address: without a leak).
getrandom is not among the calls: no kernel that we run on lets it fail, and the program ends itself rather than go on without.
"""
import argparse
import collections
import ctypes
import mmap
import os
import pathlib
import re
import shutil
import signal
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

KINDS = {"memory": 1, "files": 2, "network": 4, "other": 8}
SHARED_SIZE = 240 + 8 * 65536
PATIENCE = 60                    # seconds for anything that must happen
QUIET_ROUNDS = 3
ADDR_NO_RANDOMIZE = 0x0040000


class Shared:
    """struct shared of preload.c."""

    def __init__(self, path):
        path.write_bytes(b"\0" * SHARED_SIZE)
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), SHARED_SIZE)

    def arm(self, kinds):
        self.map[4:8] = b"\0\0\0\0"
        self.map[0:4] = struct.pack("<I", kinds)

    def disarm(self):
        self.map[0:4] = b"\0\0\0\0"

    def failed(self):
        """(name, addresses) of what has failed since the arming, or None."""
        if struct.unpack("<I", self.map[4:8])[0] == 0:
            return None
        depth, = struct.unpack("<I", self.map[16:20])
        return self.map[20:48].split(b"\0")[0].decode(), struct.unpack("<24Q", self.map[48:240])[:depth]


class NextHop(socketserver.ThreadingTCPServer):
    """Takes mail for everybody but bad@; hangs up after each second message, so that connections are made and kept."""
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, tls):
        super().__init__(("127.0.0.1", 0), Conversation)
        self.tls = tls                            # an ssl.SSLContext, or None
        self.texts, self.lock = collections.Counter(), threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        pass                                      # a client that has gone


class Conversation(socketserver.StreamRequestHandler):
    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def handle(self):
        self.say("220 next.other.example")
        texts = 0
        while line := self.rfile.readline():
            verb = line.split()[0].upper() if line.split() else b""
            if verb == b"EHLO":
                offer = "250-STARTTLS\r\n" if self.server.tls and not isinstance(self.request, ssl.SSLSocket) else ""
                self.say(f"250-next.other.example\r\n{offer}250-PIPELINING\r\n250 8BITMIME")
            elif verb == b"STARTTLS":
                self.say("220 go on")
                self.begin_tls()
            elif verb == b"RCPT" and b"<bad@" in line:
                self.say("550 5.1.1 nobody")
            elif verb == b"DATA":
                self.say("354 go on")
                if not self.take():
                    return
                texts += 1
                if texts == 2:
                    return
            elif verb == b"QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok")

    def begin_tls(self):
        self.request.settimeout(10)
        self.request = self.connection = self.server.tls.wrap_socket(self.request, server_side=True)
        self.rfile, self.wfile = self.request.makefile("rb"), self.request.makefile("wb", buffering=0)

    def take(self):
        token = b""
        while line := self.rfile.readline():
            if line == b".\r\n":
                with self.server.lock:
                    self.server.texts[token.decode()] += 1
                self.say("250 taken")
                return True
            if line.lower().startswith(b"x-token: "):
                token = line.split()[1]
        return False


class Server:
    def __init__(self, args, folder, next_hop):
        self.args, self.folder, self.process, self.crashes = args, folder, None, 0
        self.shared = Shared(folder / "shared")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        (folder / "users").write_text("alice\nbob\n")
        (folder / "zone").write_text("@ 3600 IN SOA ns hostmaster 1 3600 600 86400 60\n@ 3600 IN NS ns\nns 3600 IN A 127.0.0.1\n"
                                     "other 3600 IN MX 10 next.other\nnext.other 3600 IN A 127.0.0.1\n")
        (folder / "conf").write_text("\n".join([
            'hostname = "mx.here.example"', f'data_dir = "{folder}/data"', "segment_size = 4MiB", "unsafe_file_system = yes",
            f'listen smtp {{ address = "127.0.0.1:{self.port}" }}', 'local_domains = {"here.example"}', f'users_file = "{folder}/users"',
            f'dns_zone_files = {{"example={folder}/zone"}}', f"smtp_port = {next_hop.server_address[1]}",
            'retry = {"100ms", "200ms", "500ms"}', "shutdown_grace = 5s",
            f'tls_certificate a {{ certificate = "{folder}/cert.pem" key = "{folder}/key.pem" }}' if args.tls else "", ""]))
        self.env = dict(os.environ, FAULTS=str(folder / "shared"), LD_PRELOAD=str(args.preload),
                        ASAN_OPTIONS="verify_asan_link_order=0:allocator_may_return_null=1:exitcode=99")
        self.mails = folder / "data/mail/here.example"

    def start(self):
        def fixed():
            ctypes.CDLL(None).personality(ADDR_NO_RANDOMIZE)
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen([self.args.nightmail, "serve", "-c", str(self.folder / "conf")], stdout=log, stderr=log,
                                            env=self.env, preexec_fn=fixed)
        wait_for(lambda: self.knock(), "the server is up")

    def knock(self):
        if self.process.poll() is not None:
            raise Violation(f"the server ended with {self.process.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                return s.recv(3) == b"220"           # the supervisor listens before there is a worker to greet
        except OSError:
            return False

    def crashed(self):
        """Since it was asked last: the log has a line more of it."""
        before, self.crashes = self.crashes, (self.folder / "log").read_bytes().count(b" worker-crashed ")
        return self.crashes > before

    def retry(self):
        def queue(*words):
            return subprocess.run([self.args.nightmail, "queue", *words, "-c", str(self.folder / "conf")],
                                  capture_output=True, text=True, timeout=20).stdout
        ids = re.findall(r'"id": *"(\w+)"', queue("list", "--json"))
        if ids:
            queue("retry", *ids)

    def stop(self):
        self.shared.disarm()
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return "did not stop"

    def said(self, lines=25):
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-lines:])


class Violation(Exception):
    pass


def wait_for(condition, what, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Violation(f"not in {seconds} s: {what}")
        time.sleep(0.002)


def within(seconds, condition):
    try:
        wait_for(condition, "", seconds)
        return True
    except Violation:
        return False


# -- one message ----------------------------------------------------------------------------------------------------------------------


def begin_tls(s):
    """The socket under TLS; OSError when it fails."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(s)


def converse(port, token, rcpts, large, tls=False):
    """The reply to the end of the text, or the first that refuses; 0 when the connection ended first. Never raises OSError."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as s:
            s.settimeout(15)
            lines = s.makefile("rb")

            def reply():
                while (line := lines.readline())[3:4] == b"-":
                    pass
                return int(line[:3]) if line.endswith(b"\n") else 0

            def command(text):
                s.sendall(text)
                return reply()

            code = reply()
            if code != 220:
                return code
            if tls:
                code = command(b"EHLO faults.example\r\n")
                code = command(b"STARTTLS\r\n") if code == 250 else code
                if code != 220:
                    return code
                s = begin_tls(s)
                lines = s.makefile("rb")
            steps = [b"EHLO faults.example", b"MAIL FROM:<alice@here.example> ENVID=" + token, *(b"RCPT TO:<%s>" % r for r in rcpts), b"DATA"]
            for step in steps:
                code = command(step + b"\r\n")
                if code not in (250, 354):
                    return code
            text = b"From: <alice@here.example>\r\nX-Token: %s\r\n\r\n" % token + b"0123456789abcdef0123456789abcdef\r\n" * (4000 if large else 8)
            return command(text + b".\r\n")
    except (OSError, ValueError):
        return 0


def copies(folder, token, name="new"):
    found = []
    for path in (folder / name).glob("*") if (folder / name).is_dir() else []:
        text = path.read_bytes()
        if token in text:
            found.append(text)
    return found


def clear(server):
    for path in server.mails.glob("*/new/*"):
        path.unlink()


def judge_delivered(server, next_hop, token, accepted):
    """After 250: everything that must come has come, once; bad@ alone has come back."""
    def all_there():
        return copies(server.mails / "bob", token) and next_hop.texts[token.decode()] and copies(server.mails / "alice", token)
    if accepted and not within(2, all_there):
        # What could not be read waits a minute, and a server that could not be reached a while: an operator may be quicker.
        server.shared.disarm()
        server.retry()
        wait_for(all_there, f"delivery of what was accepted (mailbox {len(copies(server.mails / 'bob', token))}, "
                            f"next hop {next_hop.texts[token.decode()]}, DSN {len(copies(server.mails / 'alice', token))})")
    dsns = copies(server.mails / "alice", token)
    if len(copies(server.mails / "bob", token)) > 1 or len(dsns) > 1 or next_hop.texts[token.decode()] > 2:
        raise Violation("delivered more than once")
    for dsn in dsns:
        if re.findall(rb"(?im)^Final-Recipient:.*?;\s*(\S+)", dsn) != [b"bad@other.example"]:
            raise Violation("a DSN for somebody who was not refused")


def play(server, next_hop, n, kinds):
    """One round; what failed in it, or None."""
    token, clean = b"token-%06d" % n, b"clean-%06d" % n
    server.shared.arm(kinds)
    code = converse(server.port, token, [b"bob@here.example", b"ok@other.example", b"bad@other.example"], n % 3 == 0, server.args.tls)
    try:
        if code not in (0, 250) and code // 100 != 4:
            raise Violation(f"the client heard {code}")
        judge_delivered(server, next_hop, token, code == 250)
        server.shared.disarm()
        if server.process.poll() is not None:
            raise Violation(f"the server ended with {server.process.returncode}")
        if server.crashed():
            raise Violation("a worker crashed")
        failed = server.shared.failed()
        if code != 250 and failed is None:
            raise Violation(f"nothing failed, and the client heard {code}")
        wait_for(lambda: converse(server.port, clean, [b"bob@here.example"], False, server.args.tls) == 250, "the next message is taken", 10)
        wait_for(lambda: copies(server.mails / "bob", clean), "the next message is delivered")
        if code // 100 == 4 and (copies(server.mails / "bob", token) or next_hop.texts[token.decode()]):
            raise Violation(f"the client heard {code}, and it was delivered all the same")
        if code == 0 and failed[0] not in CUTTING and not is_cutting(names_of(server, failed[1])):
            raise Violation("the connection ended without a word")
    except Violation as v:
        server.shared.disarm()
        v.code = code
        raise
    clear(server)
    return failed, code


# Where the connection itself is what fails, nothing can be said over it.
CUTTING = {"recv", "send", "sendmsg", "accept4", "epoll_ctl", "setsockopt", "getsockopt", "getsockname", "getpeername", "shutdown"}
# Where there is no memory for the connection itself, or for its output: nothing can be said there either.
CUTTING_PLACES = {"socket_new", "stream_new", "session_new", "stream_put"}


def is_cutting(names):
    """Under TLS also where its records are made and read, and where the keeper signs for it: nothing can be said behind what is broken."""
    return bool(CUTTING_PLACES & set(re.findall(r"\w+(?= \()", names))) or bool(re.search(r"\((tls_\w+|session_tls|keeper_\w+)\.c", names))


def names_of(server, stack):
    """Where that is, from the outside in."""
    base = 0x555555554000
    ours = [a - base - 1 for a in stack if base <= a < base + 0x4000000]
    if not ours:
        return "(a library alone)"
    out = subprocess.run(["addr2line", "-f", "-s", "-e", server.args.nightmail, *map(hex, ours)], capture_output=True, text=True).stdout
    rows = out.splitlines()
    return " < ".join(f"{rows[i]} ({rows[i + 1].split(' ')[0]})" for i in range(0, len(rows), 2) if "context_begin" not in rows[i])


def report(server, failed, problem, code):
    where = f"{failed[0]}: {names_of(server, failed[1])}" if failed else "nothing had failed"
    print(f"FAILED: {problem} (reply {code})\n    at {where}", flush=True)
    if server.args.verbose:
        print("    " + server.said().replace("\n", "\n    "))


def run(server, next_hop, args):
    kinds = sum(KINDS[k] for k in args.kinds.split(","))
    ends, n, quiet, problems = time.monotonic() + args.seconds, 0, 0, 0
    replies, names = collections.Counter(), collections.Counter()
    server.start()
    while quiet < QUIET_ROUNDS and time.monotonic() < ends and problems < args.problems:
        n += 1
        try:
            failed, code = play(server, next_hop, n, kinds)
            quiet = 0 if failed else quiet + 1
            if failed:
                replies[code or "cut"] += 1
                names[failed[0]] += 1
        except Violation as v:
            problems += 1
            report(server, server.shared.failed(), v, getattr(v, "code", "?"))
            if server.process.poll() is None:
                server.stop()
            server.start()
            clear(server)
    if server.process.poll() is None:
        status = server.stop()
        if status != 0:
            problems += 1
            print(f"FAILED: the server ended with {status}\n{server.said(60)}")
    print("failed: " + ", ".join(f"{name} {count}" for name, count in names.most_common()))
    print("heard: " + ", ".join(f"{code}: {count}" for code, count in replies.most_common()))
    print(f"faults: {sum(names.values())} points in {n} rounds, "
          + ("every point has failed once" if quiet >= QUIET_ROUNDS else "stopped before the last one"))
    return problems, sum(names.values())


def make_tls(folder):
    """A certificate for both sides; gives the next hop's context."""
    subprocess.run(["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", folder / "key.pem",
                    "-out", folder / "cert.pem", "-days", "10", "-subj", "/CN=mx.here.example"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("nightmail")
    parser.add_argument("preload", type=pathlib.Path)
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--problems", type=int, default=10, help="enough of them")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    args.preload = args.preload.absolute()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))      # a timeout's: the server goes too
    folder = pathlib.Path(tempfile.mkdtemp(prefix="faults-"))
    (folder / "data").mkdir()
    server = Server(args, folder, next_hop := NextHop(make_tls(folder) if args.tls else None))
    try:
        problems, points = run(server, next_hop, args)
    finally:
        if server.process is not None and server.process.poll() is None:
            server.process.kill()
        if args.keep:
            print(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{points - problems if points else 0} passed, {problems or int(points == 0)} failed")
    return 1 if problems or points == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
