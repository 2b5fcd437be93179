#!/usr/bin/python3
"""
The bench of attacks: what a normal client feels while 10,000 slow ones hold sessions, 2,000 connections a second come in floods, and 1,000
break off at random points; and that all of its messages arrive. Nightmail, and then Postfix under the same attack.

    attack.py [--quick] [--only nightmail,postfix] [--seconds N] [--slow N] [--flood N] [--aborters N]

The attackers (attack.c) are pinned to one processor; the server and the normal client run where the kernel puts them. The normal client
sends a message of 4 KiB now and then, each over a connection of its own from an address of a few hundred, first to the idle server, then
under attack; what counts is the time from connect to the 250 behind the text, 421 and refused connections being failures. --quick is a
small attack for CI: nothing is said of times, but all messages must arrive, the memory must stay within its limit, and the server must
live. Everything runs in namespaces of this run. Needs root.
"""
import argparse
import gc
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers" / "lib"))

import measure                                                              # noqa: E402
import nightmail                                                            # noqa: E402
from nightmail import Nightmail                                             # noqa: E402
from postfix import TUNED, Postfix                                          # noqa: E402
from proc import BUILD, Failed, spawn, wait_until                           # noqa: E402
from run import prepare_network                                             # noqa: E402
from sides import USER                                                      # noqa: E402

NIGHTMAIL_ADDRESS, POSTFIX_ADDRESS, PORT = "127.0.0.2", "127.0.0.3", 2525
PAUSE_S = 0.05                              # between the messages of the normal client
GIVE_UP_S = 10                              # a message that takes longer has failed
SOURCES = 200                               # addresses of the normal client, or it would meet the limit of connections of one
AIM_TIMES, AIM_MS = 3, 20                   # p99: at most so many times the idle one, or so many ms
SESSION_LIMIT = 256 * 1024                  # of memory, for each session
LINES_MAX = 300                             # of the log about the ten addresses of a /24 that half of the floods come from (policy/limit.h)
ARRIVE_S = 60
BODY = b"From: alice@load.example\r\nSubject: an honest message\r\nX-Token: %s\r\n\r\n" + (b"x" * 62 + b"\r\n") * 64 + b".\r\n"


def send_one(server, token):
    """Milliseconds from connect to 250; Failed when it was not taken."""
    start = time.monotonic()
    with socket.socket() as s:
        s.settimeout(GIVE_UP_S)
        s.setsockopt(socket.IPPROTO_IP, 24, 1)          # IP_BIND_ADDRESS_NO_PORT
        s.bind((f"127.200.{int(token) % SOURCES}.1", 0))
        s.connect((server.address, server.port))
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with s.makefile("rb") as lines:
            steps = ((b"", b"220"), (b"EHLO load.example\r\n", b"250"), (b"MAIL FROM:<alice@load.example>\r\n", b"250"),
                     (b"RCPT TO:<%s>\r\n" % USER.encode(), b"250"), (b"DATA\r\n", b"354"), (BODY % token, b"250"))
            for text, wanted in steps:
                s.sendall(text)
                while (line := lines.readline())[3:4] == b"-":
                    pass
                if line[:3] != wanted:
                    raise Failed(f"{text[:4].decode() or 'greeting'}: {line.decode(errors='replace').strip()[:80]!r}")
            took = (time.monotonic() - start) * 1000
            s.sendall(b"QUIT\r\n")
            lines.readline()
    return took


class Normal:
    """The normal client: one message after another for so long, or so many."""

    def __init__(self, server):
        self.server, self.serial, self.accepted = server, 100000, []

    def send_for(self, seconds):
        """(milliseconds of those taken, why others were not)."""
        times, failures = [], []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.serial += 1
            token = b"%d" % self.serial
            try:
                times.append(send_one(self.server, token))
                self.accepted.append(token)
            except (OSError, Failed) as e:
                failures.append(str(e)[:120] or type(e).__name__)
            time.sleep(PAUSE_S)
        return times, failures


def tokens_in(server):
    found = []
    new = server.maildir(USER) / "new"
    for path in new.iterdir() if new.is_dir() else []:
        text = path.read_bytes()
        at = text.find(b"X-Token: ")
        if at >= 0:
            found.append(text[at + 9:text.index(b"\r" if b"\r\n" in text[at:at + 40] else b"\n", at)])
    return found


def percentile(times, share):
    times = sorted(times)
    return times[min(len(times) - 1, int(len(times) * share))] if times else float("inf")


def waited_for_processors(server):
    """Seconds that the server's threads were ready and did not run: what else the machine does."""
    waited = 0
    for pid in server.pids():
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                waited += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[1]) / 1e9
        except OSError:
            continue                                    # it has just ended, or the kernel does not tell
    return waited


class Watch:
    """The most memory that the server takes."""

    def __init__(self, server):
        self.server, self.most, self.stopping = server, server.memory_bytes()[0], threading.Event()
        self.least = self.most
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self):
        while not self.stopping.wait(1):
            self.most = max(self.most, self.server.memory_bytes()[0])

    def stop(self):
        self.stopping.set()
        self.thread.join()
        return self.most - self.least


def attack(args, server):
    cpus = sorted(os.sched_getaffinity(0))
    command = [args.attack, server.address, server.port, args.seconds + 2, args.slow, args.flood, args.aborters]
    process = spawn(["taskset", "-c", str(cpus[-1]), *command], stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


def try_server(args, server):
    """A row of the result."""
    normal, row = Normal(server), {}
    normal.send_for(1)                                   # warm
    idle, failures = normal.send_for(args.seconds / 2)
    if failures:
        raise Failed(f"the idle server does not take mail: {failures[0]}")
    gc.disable()
    watch = Watch(server)
    cpu, waited = server.cpu_seconds(), waited_for_processors(server)
    process, row["begun"] = attack(args, server)
    times, failures = normal.send_for(args.seconds)
    row["ended"] = process.communicate(timeout=60)[0].strip()
    row.update(cpu=server.cpu_seconds() - cpu, waited=waited_for_processors(server) - waited, memory=watch.stop())
    row.update(sent=len(times) + len(failures), taken=len(times), failures=failures[:5],
               load=os.getloadavg()[0], idle_p50=statistics.median(idle), idle_p99=percentile(idle, 0.99), p50=percentile(times, 0.5), p99=percentile(times, 0.99),
               most=max(times, default=float("inf")))
    gc.enable()
    wait_until(lambda: len(set(normal.accepted) - set(tokens_in(server))) == 0, ARRIVE_S,
               lambda: f"{len(set(normal.accepted) - set(tokens_in(server)))} accepted messages did not arrive", every=0.2)
    row["lines"] = lines_of_flood(server)
    found = tokens_in(server)
    row["twice"] = len(found) - len(set(found))
    return row


def make_server(name, folder):
    folder.mkdir(parents=True)
    if name == "postfix":
        (folder / "root").mkdir()
        return Postfix(folder, POSTFIX_ADDRESS, PORT, dict(TUNED, mynetworks=""), [USER], log=False)
    return Nightmail(folder, NIGHTMAIL_ADDRESS, PORT, [USER], segment_size="64MiB", sessions_max=20000, trusted_networks=[])


def show(name, row):
    print(f"{name}: idle p50 {row['idle_p50']:.1f} ms, p99 {row['idle_p99']:.1f} ms; attacked p50 {row['p50']:.1f} ms, p99 {row['p99']:.1f} ms,"
          f" most {row['most']:.1f} ms; {row['taken']} of {row['sent']} taken, and all of those arrived; memory grew by"
          f" {row['memory'] / (1 << 20):.0f} MiB, {row['cpu']:.1f} s of CPU, and {row['waited']:.1f} s waited for it (load {row['load']:.0f})")
    print(f"    {row['begun']}; {row['ended']}")
    for failure in row["failures"]:
        print(f"    not taken: {failure}")


def lines_of_flood(server):
    return server.log.read_bytes().count(b" client=127.2.0.") if isinstance(server, Nightmail) else 0


def judge(args, row):
    """What is wrong, of our own."""
    wrong = []
    if row["taken"] < row["sent"]:
        wrong.append(f"{row['sent'] - row['taken']} messages were not taken")
    if row["twice"]:
        wrong.append(f"{row['twice']} arrived twice")
    if row["memory"] > (args.slow + args.aborters) * SESSION_LIMIT:
        wrong.append("more memory than the limit of a session allows")
    if row["lines"] > LINES_MAX:
        wrong.append(f"the flood is in the log, with {row['lines']} lines")
    if not args.quick and row["p99"] > max(AIM_MS, AIM_TIMES * row["idle_p99"]):
        wrong.append(f"p99 is {row['p99']:.1f} ms")
    return wrong


def run(args, folder):
    result, wrong = {}, []
    for name in args.only.split(","):
        server = make_server(name, folder / name)
        server.start()
        try:
            row = result[name] = try_server(args, server)
            show(name, row)
            wrong += judge(args, row) if name == "nightmail" else []
        except Failed as e:
            print(f"{name}: {e}")
            wrong += [str(e)] if name == "nightmail" else []
        finally:
            status = server.stop()
        if name == "nightmail" and status != 0:
            wrong.append(f"the server ended with {status}")
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(result, indent=1))
    return wrong


def arguments():
    p = argparse.ArgumentParser(description="a normal client under attack")
    p.add_argument("--nightmail", type=Path, default=BUILD / "native/nightmail")
    p.add_argument("--attack", type=Path, default=BUILD / "native/tests/bench/attack")
    p.add_argument("--json", type=Path, default=BUILD / "bench/attack.json")
    p.add_argument("--only", default=None)
    p.add_argument("--quick", action="store_true")
    for name, default in (("seconds", 30), ("slow", 10000), ("flood", 2000), ("aborters", 1000)):
        p.add_argument(f"--{name}", type=int, default=None, help=f"({default})")
        p.set_defaults(**{f"{name}_default": default})
    a = p.parse_args([x for x in sys.argv[1:] if x != "--inside"])
    for name, quick in (("seconds", 6), ("slow", 500), ("flood", 400), ("aborters", 100)):
        if getattr(a, name) is None:
            setattr(a, name, quick if a.quick else getattr(a, f"{name}_default"))
    a.only = a.only or ("nightmail" if a.quick else "nightmail,postfix")
    return a


def main():
    args = arguments()
    if "--inside" not in sys.argv:
        os.execvp("unshare", ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
                              sys.executable, "-B", os.path.abspath(__file__), "--inside", *sys.argv[1:]])
    nightmail.PROGRAM = args.nightmail.absolute()
    prepare_network()
    measure.raise_file_limit()
    runs = BUILD / "bench"
    runs.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="attack.", dir=runs))
    try:
        wrong = run(args, folder)
    finally:
        if not os.environ.get("BENCH_KEEP"):
            shutil.rmtree(folder, ignore_errors=True)
    for line in wrong:
        print(f"WRONG: {line}")
    print("0 passed, 1 failed" if wrong else "1 passed, 0 failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
