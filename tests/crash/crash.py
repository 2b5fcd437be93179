#!/usr/bin/env python3
"""kill -9 under load: nothing acknowledged is lost, nothing is altered.

    tests/crash/crash.py NIGHTMAIL [--rounds N] [--mode local|relay] [--victim server|worker|upgrade] [--seed N]

Twenty sessions send messages of 200 bytes to 300 KiB, each with a token and a text of known SHA-256, while the server is killed at
random moments (some of them during its start) and started again. Mode `local` delivers to Maildirs; mode `relay` hands on to a
`nightmail sink` that defers one recipient in five. At the end the queue drains and every text that came out is compared with what was
sent. A message that was acknowledged must be there; one that was not may be there (its 250 was lost with the connection), whole.
With `--victim worker` only the worker is killed, and its supervisor starts it again: then no connection may be refused either. Few
rounds of that are enough, since the pauses grow. With `--victim upgrade` the server is told to upgrade: in the first third of the rounds
nothing is killed, and no connection may be refused or cut; in the others either of the two workers, or both, at any moment of the overlap.
Duplicates are counted: a Maildir gets none, whenever the server dies; a next hop those whose delivery had just ended, at most one for each
connection to it and kill.
"""
import argparse
import asyncio
import collections
import hashlib
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SESSIONS = 20
CONNECTIONS_MAX = 20             # to the next hop: site_connections_max
USERS = ["alice", "bob", "carol", "dave"]
DRAIN_SECONDS = 120
RESTART_SECONDS = 60             # the longest pause between two workers is 30


class Server:
    """The process under test; started, killed and started again on the same directory."""

    def __init__(self, binary, conf, log):
        self.binary, self.conf, self.log_path, self.process = binary, conf, log, None

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([self.binary, "serve", "-c", self.conf], stderr=log, stdout=log)

    def kill(self):
        """What it ended with: -SIGKILL, unless it had ended by itself."""
        self.process.send_signal(signal.SIGKILL)
        return self.process.wait()

    def worker(self):
        """Its process id, once there is one."""
        end = time.monotonic() + RESTART_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            pids = pathlib.Path("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)).read_text().split()
            for pid in pids:
                if self.called(pid) not in ("", "keeper", "lookup"):
                    return int(pid)
            time.sleep(0.01)
        return None

    @staticmethod
    def called(pid):
        try:
            return pathlib.Path("/proc/%s/comm" % pid).read_text().strip()
        except OSError:
            return ""

    def crashes(self):
        """What a supervisor said of workers that ended."""
        return [line for line in self.log_path.read_text(errors="replace").splitlines() if " worker-crashed " in line]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            return "did not stop"


class Ledger:
    def __init__(self):
        self.sent = {}       # token -> sha256 of the text
        self.acked = set()
        self.refused = collections.Counter()
        self.cut = 0         # connections that ended before their QUIT
        self.turned_away = 0  # connections that were refused


def make_text(rng, size):
    line = rng.randbytes(45)
    out, n = [], 0
    while n < size:
        row = (hashlib.md5(line + n.to_bytes(4, "big")).hexdigest() * 2).encode() + b"\r\n"
        if rng.random() < 0.05:
            row = b"." + row                      # dots at the beginning of lines travel too
        out.append(row)
        n += len(row)
    return b"".join(out)


def pick_size(rng):
    return rng.choice([200, 1000, 4000, 4000, 20000, 64 * 1024, 70 * 1024, 300 * 1024])


async def converse(address, ledger, rng, domain):
    """One connection: a few messages, until something breaks."""
    reader, writer = await asyncio.wait_for(asyncio.open_connection(*address), 5)
    try:
        async def reply():
            while True:
                line = await asyncio.wait_for(reader.readline(), 20)
                if not line.endswith(b"\n"):
                    raise ConnectionError("cut")
                if line[3:4] != b"-":
                    return int(line[:3])

        async def command(text):
            writer.write(text)
            return await reply()

        if await reply() != 220 or await command(b"EHLO crash.example\r\n") != 250:
            raise ConnectionError("no session")
        for _ in range(rng.randint(1, 10)):
            token = "%032x" % rng.getrandbits(128)
            text = make_text(rng, pick_size(rng))
            user = rng.choice(USERS)
            writer.write(b"MAIL FROM:<sender@crash.example>\r\nRCPT TO:<%s@%s>\r\nDATA\r\n" % (user.encode(), domain.encode()))
            codes = [await reply(), await reply(), await reply()]
            if codes != [250, 250, 354]:
                ledger.refused[tuple(codes)] += 1
                raise ConnectionError("refused %s" % codes)
            ledger.sent[token] = hashlib.sha256(text.replace(b"\r\n", b"\n")).hexdigest()
            head = b"From: <sender@crash.example>\r\nSubject: crash\r\nX-Token: %s\r\n\r\n" % token.encode()
            stuffed = re.sub(rb"(?m)^\.", b"..", text)
            code = await command(head + stuffed + b".\r\n")
            if code == 250:
                ledger.acked.add(token)
            else:
                ledger.refused[code] += 1
        await command(b"QUIT\r\n")
    finally:
        writer.close()


async def session(address, ledger, rng, domain, stop):
    while not stop.is_set():
        try:
            await converse(address, ledger, rng, domain)
        except ConnectionRefusedError:
            ledger.turned_away += 1
            await asyncio.sleep(0.005)
        except (OSError, ConnectionError, asyncio.TimeoutError, ValueError):
            ledger.cut += 1
            await asyncio.sleep(0.005)            # the server is down for a moment: knock again


async def kill_rounds(server, rounds, rng, problems):
    for n in range(rounds):
        # One in five dies while it starts and recovers, the others under load.
        await asyncio.sleep(rng.uniform(0.0, 0.06) if n % 5 == 0 else rng.uniform(0.1, 0.6))
        code = server.kill()
        if code != -signal.SIGKILL:
            problems.append("round %d: the server had ended by itself: %s" % (n, code))
        server.start()


async def kill_worker_rounds(server, rounds, rng, problems):
    for n in range(rounds):
        await asyncio.sleep(rng.uniform(0.0, 0.06) if n % 5 == 4 else rng.uniform(0.5, 1.0))
        worker = await asyncio.to_thread(server.worker)
        if worker is None:
            problems.append("round %d: there is no worker" % n)
            return
        os.kill(worker, signal.SIGKILL)
        while os.path.exists("/proc/%d" % worker):
            await asyncio.sleep(0.005)
    await asyncio.to_thread(server.worker)


def workers(server):
    pids = pathlib.Path("/proc/%d/task/%d/children" % (server.process.pid, server.process.pid)).read_text().split()
    return [int(p) for p in pids if server.called(p) not in ("", "keeper", "lookup")]


async def wait_for(what, seconds, problem, problems):
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            problems.append(problem)
            return False
        await asyncio.sleep(0.01)
    return True


async def upgrade_rounds(server, rounds, rng, problems, ledger):
    def count(word):
        return server.log_path.read_text(errors="replace").count(word)

    for n in range(rounds):
        await asyncio.sleep(rng.uniform(0.1, 0.5))
        done, calm = count(" info generation "), n < rounds // 3
        if not await wait_for(lambda: len(workers(server)) == 1, 90, "round %d: two workers for ever" % n, problems):
            return
        server.process.send_signal(signal.SIGUSR2)
        if calm:
            await wait_for(lambda: count(" info generation ") > done, 30, "round %d: no other generation" % n, problems)
            continue
        if n == rounds // 3 and ledger.cut > 0:
            problems.append("%d connections were cut when nothing was killed" % ledger.cut)
        await asyncio.sleep(rng.choice([rng.uniform(0, 0.02), rng.uniform(0, 0.1), rng.uniform(0, 0.5)]))
        alive = workers(server)
        for victim in rng.sample(alive, len(alive) if n % 5 == 4 else min(1, len(alive))):
            os.kill(victim, signal.SIGKILL)
    await asyncio.to_thread(server.worker)


async def wait_until_it_listens(address):
    while True:
        try:
            _, writer = await asyncio.open_connection(*address)
            writer.close()
            return
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)


async def rounds_under_load(server, address, ledger, args, rng, domain, problems):
    stop = asyncio.Event()
    await asyncio.wait_for(wait_until_it_listens(address), 30)
    sessions = [asyncio.create_task(session(address, ledger, random.Random(rng.getrandbits(64)), domain, stop)) for _ in range(SESSIONS)]
    if args.victim == "upgrade":
        await upgrade_rounds(server, args.rounds, rng, problems, ledger)
    else:
        await (kill_rounds if args.victim == "server" else kill_worker_rounds)(server, args.rounds, rng, problems)
    await asyncio.sleep(1)
    stop.set()
    await asyncio.wait(sessions, timeout=60)


# -- what came out -----------------------------------------------------------------------------------------------------------------


def delivered(folder, pattern):
    """(token, sha256 of the text with LF line ends, as in a Maildir) of every file."""
    for path in sorted(folder.glob(pattern)):
        data = path.read_bytes().replace(b"\r\n", b"\n")
        head, _, text = data.partition(b"\n\n")
        token = re.search(rb"^X-Token: (\w+)", head, re.M)
        yield (token.group(1).decode() if token else "no token in %s" % path), hashlib.sha256(text).hexdigest()


def queue_is_empty(binary, conf):
    out = subprocess.run([binary, "queue", "list", "-c", conf], capture_output=True, text=True)
    return out.returncode == 0 and out.stdout.strip() == "0 messages"


def drain(binary, conf):
    end = time.monotonic() + DRAIN_SECONDS
    while not queue_is_empty(binary, conf):
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def judge(ledger, came, problems):
    copies = collections.Counter()
    for token, digest in came:
        copies[token] += 1
        if token not in ledger.sent:
            problems.append("delivered but never sent: %s" % token)
        elif ledger.sent[token] != digest:
            problems.append("altered: %s" % token)
    for token in ledger.acked:
        if copies[token] == 0:
            problems.append("acknowledged and lost: %s" % token)
    return sum(n - 1 for n in copies.values() if n > 1), sum(1 for t in copies if t not in ledger.acked)


# -- the set-up --------------------------------------------------------------------------------------------------------------------


def free_port(address):
    import socket
    with socket.socket() as s:
        s.bind((address, 0))
        return s.getsockname()[1]


def write_conf(folder, port, mode, sink_port):
    users = folder / "users"
    users.write_text("\n".join(USERS) + "\n")
    conf = folder / "nightmail.conf"
    lines = [
        'hostname = "mx.crash.example"', 'data_dir = "%s/data"' % folder, "segment_size = 4MiB", 'unsafe_file_system = yes',
        'listen smtp { address = "127.0.0.1:%d" }' % port, 'retry = {"200ms", "500ms", "1s"}', "shutdown_grace = 5s",
    ]
    if mode == "local":
        lines += ['local_domains = {"crash.example"}', 'users_file = "%s"' % users]
    else:
        lines += ['relay_host = "[127.0.0.1]:%d"' % sink_port]
    conf.write_text("\n".join(lines) + "\n")
    return str(conf)


def start_sink(binary, folder):
    store = folder / "sink"
    store.mkdir()
    process = subprocess.Popen([binary, "sink", "--listen", "127.0.0.1:0", "--store", str(store), "--at", "RCPT=450/5"],
                               stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    return process, int(line.rsplit(":", 1)[1]), store


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nightmail")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--mode", choices=["local", "relay"], default="local")
    parser.add_argument("--victim", choices=["server", "worker", "upgrade"], default="server")
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().getrandbits(32)
    rng = random.Random(seed)
    build = pathlib.Path("build")
    build.mkdir(exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="crash.", dir=build)).resolve()
    binary = str(pathlib.Path(args.nightmail).resolve())

    sink, sink_port, store = start_sink(binary, folder) if args.mode == "relay" else (None, 0, None)
    port = free_port("127.0.0.1")
    conf = write_conf(folder, port, args.mode, sink_port)
    server = Server(binary, conf, folder / "log")
    ledger, problems = Ledger(), []
    started = time.monotonic()
    server.start()
    try:
        asyncio.run(rounds_under_load(server, ("127.0.0.1", port), ledger, args, rng, "crash.example", problems))
        if server.process.poll() is not None:
            problems.append("the server ended by itself: %s" % server.process.returncode)
        elif not drain(binary, conf):
            problems.append("the queue does not drain")
        code = server.stop()
        if code != 0:
            problems.append("stopping it gave %s" % code)
    finally:
        if server.process.poll() is None:
            server.kill()
        if sink is not None:
            sink.terminate()
            sink.wait()

    crashes = server.crashes()
    if args.victim != "upgrade" and len(crashes) != (args.rounds if args.victim == "worker" else 0):
        problems.append("workers crashed: %s" % crashes)
    if args.victim != "server" and ledger.turned_away > 0:
        problems.append("%d connections were refused" % ledger.turned_away)

    verify = subprocess.run([binary, "journal", "verify", str(folder / "data")], capture_output=True, text=True)
    if verify.returncode != 0:
        problems.append("journal verify: %s%s" % (verify.stdout, verify.stderr))
    if args.mode == "local":
        came = delivered(folder / "data" / "mail" / "crash.example", "*/new/*")
    else:
        came = delivered(store, "*.eml")
    twice, unacked = judge(ledger, came, problems)
    print("crash %s: seed %d, %d rounds in %.0f s, %d sent, %d acknowledged, %d delivered without their 250 having arrived, %d duplicates"
          % (args.mode, seed, args.rounds, time.monotonic() - started, len(ledger.sent), len(ledger.acked), unacked, twice))
    if twice > (args.rounds * CONNECTIONS_MAX if args.mode == "relay" else 0):
        problems.append("%d duplicates" % twice)
    if ledger.refused:
        print("  refused: %s" % dict(ledger.refused))
    if len(ledger.acked) < args.rounds:
        problems.append("only %d messages were acknowledged: this was no load" % len(ledger.acked))
    for problem in problems[:20]:
        print("  PROBLEM %s" % problem)
    if problems:
        print("  kept for a look: %s" % folder)
    else:
        shutil.rmtree(folder)
    print("crash %s: %d passed, %d failed" % (args.mode, 0 if problems else 1, 1 if problems else 0))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
