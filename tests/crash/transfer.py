#!/usr/bin/env python3
"""Export and import while somebody kills: each message is in one place in the end, once, unaltered.

    tests/crash/transfer.py NIGHTMAIL [--kills N] [--seed N] [--messages N]

Two servers. In each round messages wait at the first; `nightmail queue export` moves a part of them to a file and `nightmail queue import`
takes that in at the second, while one of the two servers or the client is killed with SIGKILL at a random moment, again and again; the same
command is given until it has done its work. Then each message must be at the first server if the filter did not mean it, at the second if it
did, in the state that it had, with its text; and no further import of the file, or of a copy made at any time, brings anything. In every third
round mail can be delivered and only the client is killed: what left by export must not have been delivered by the first server as well.
"""
import argparse
import collections
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

COMMAND_SECONDS = 60


class Wrong(Exception):
    pass


def tree(pid):
    """The process and all below it."""
    found = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in task.read_text().split():
                found += tree(int(child))
        except OSError:
            pass
    return found


class Node:
    def __init__(self, binary, folder, name, sink_port):
        self.binary, self.folder, self.process = binary, folder / name, None
        self.folder.mkdir()
        self.conf = self.folder / "nightmail.conf"
        self.log = self.folder / "log"
        (self.folder / "loop").symlink_to("loop")                # each delivery fails at once, and is tried again in an hour
        (self.folder / "users").write_text("".join(f"r{i}\n" for i in range(7)))
        self.conf.write_text(f'hostname = "{name}.example"\ndata_dir = "{self.folder}/data"\nsegment_size = 1MiB\nunsafe_file_system = yes\n'
                             f'listen smtp {{ address = "127.0.0.1:0" }}\nlocal_domains = {{"far.example"}}\nretry = {{1h}}\n'
                             f'reroute_ports = {{{sink_port}}}\n'
                             f'users_file = "{self.folder}/users"\nmailbox = "{self.folder}/loop/{{user}}"\n')

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([self.binary, "serve", "-c", self.conf], stdout=log, stderr=log)
        return self

    def kill(self):
        for pid in tree(self.process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()

    def client(self, *argv, **options):
        return subprocess.Popen([self.binary, *map(str, argv), "-c", self.conf], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

    def queue(self, *argv):
        """What it says, once it is up."""
        end = time.monotonic() + COMMAND_SECONDS
        while True:
            process = self.client("queue", *argv)
            out, err = process.communicate(timeout=COMMAND_SECONDS)
            if process.returncode != 69:
                return process.returncode, out, err
            if time.monotonic() > end:
                raise Wrong(f"no server: {err.decode()}\n{self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.02)

    def messages(self):
        """sender -> (state, recipient), of all that wait; a Counter beside it of how often each."""
        _, out, err = self.queue("show", "-j", "size>0")
        if err:
            raise Wrong(err.decode())
        there, often = {}, collections.Counter()
        for line in out.splitlines():
            m = json.loads(line)
            there[m["from"]] = (m["item"]["state"], m["recipients"][0]["to"], m["item"]["size"])
            often[m["from"]] += 1
        return there, often


class Story:
    def __init__(self, args, rng, folder):
        self.rng, self.folder, self.args = rng, folder, args
        self.kills = collections.Counter()
        self.number = 0
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.sink_port = free.getsockname()[1]

    def send(self, node):
        """A message in the queue of the node; its sender names it."""
        self.number += 1
        name = f"m{self.number}@a.example"
        size = self.rng.choice([10, 500, 5000, 60000, 300000])
        text = b"Subject: x\n\n" + (hashlib.md5(str(self.number).encode()).hexdigest().encode() + b"\n") * (size // 33 + 1)
        to = f"r{self.number % 7}@far.example"
        node.queue("list", "state=held")                          # when it is up
        r = subprocess.run([node.binary, "sendmail", "-C", node.conf, "-f", name, to], input=text, capture_output=True,
                           env=dict(os.environ, NIGHTMAIL_CONF=str(node.conf)), check=False, timeout=COMMAND_SECONDS)
        if r.returncode != 0:
            raise Wrong(f"sendmail: {r.stderr.decode()}")
        return name, to

    def work(self, node, argv, victims):
        """The command, until it ends by itself and well; killed, or its server, on the way. A copy of the file is made now and then."""
        for turn in range(200):
            process = node.client("queue", *argv)
            victim = self.rng.choice(victims) if turn < 6 and victims else None
            if victim is not None:
                time.sleep(self.rng.uniform(0, 0.08))
                if victim == "client":
                    process.send_signal(signal.SIGKILL)
                else:
                    node.kill()
                    node.start()
                self.kills[f"{victim} of {argv[0]}"] += 1
            out, err = process.communicate(timeout=COMMAND_SECONDS)
            if process.returncode == 0:
                return
            if process.returncode == 73 and b"that export is complete" in err:
                return
            if process.returncode not in (-9, 69) and b"right now" not in err and b"another one is at that file" not in err:
                raise Wrong(f"{argv}: {process.returncode} {out.decode()} {err.decode()}")
            time.sleep(0.02 if process.returncode == 69 else 0.1)
        raise Wrong(f"{argv} does not come to an end: {err.decode()}")


def prove(there, often, expected, who):
    wrong = [m for m in expected if m not in there] + [m for m in there if m not in expected] + [m for m in often if often[m] != 1]
    if wrong:
        raise Wrong(f"at {who}: {len(wrong)} are missing, too many, or there twice: {sorted(wrong)[:5]}")
    for m in expected:
        if there[m] != expected[m]:
            raise Wrong(f"at {who}: {m} is {there[m]}, not {expected[m]}")


def a_round(story, n, a, b):
    rng = story.rng
    mine = [story.send(a) for _ in range(story.args.messages)]
    end = time.monotonic() + COMMAND_SECONDS
    while any(state == "delivering" for state, _, _ in a.messages()[0].values()) and time.monotonic() < end:
        time.sleep(0.05)
    a.queue("hold", "-y", rng.choice(["to=r1@*", "to=r4@*", "state=held"]))
    before, _ = a.messages()
    other, _ = b.messages()
    meant = f"to=r{rng.randrange(7)}@*" if n % 4 else "size>0"
    moving = {m for m in before if meant == "size>0" or before[m][1] == meant[3:5] + "@far.example"}
    file = story.folder / f"export-{n}"
    story.work(a, ["export", "-y", "-o", file, meant], ["client", "server", None])
    copy = story.folder / f"copy-{n}"
    shutil.copy(file, copy)
    story.work(b, ["import", "-o", file], ["client", "server", None])
    b.kill()
    b.start()
    for again in (file, copy):
        code, out, err = b.queue("import", "-o", again)
        if (code, out) != (0, b"0 messages imported\n"):
            raise Wrong(f"once more: {code} {out} {err}")
    a.kill()
    a.start()
    there, often = a.messages()
    prove(there, often, {m: before[m] for m in before if m not in moving}, "the first")
    there, often = b.messages()
    prove(there, often, other | {m: before[m] for m in moving}, "the second")
    for node in (a, b):
        if rng.random() < 0.3:
            node.queue("delete", "-y", "size>0")
    return len(mine), len(moving)


def deliver_round(story, n, a, b):
    """Both can deliver, and do so meanwhile; only clients are killed."""
    sink = story.folder / f"sink-{n}"
    sink.mkdir()
    process = subprocess.Popen([a.binary, "sink", "--listen", f"127.0.0.1:{story.sink_port}", "--store", sink], stdout=subprocess.PIPE)
    try:
        port = int(process.stdout.readline().rsplit(b":", 1)[1])
        for node in (a, b):
            node.queue("delete", "-y", "size>0")
        mine = {story.send(a)[0] for _ in range(story.args.messages)}
        file = story.folder / f"export-{n}"
        a.queue("reroute", "-y", "--via", f"[127.0.0.1]:{port}", "size>0")
        story.work(a, ["export", "-y", "-o", file, "size>0"], ["client", None])
        story.work(b, ["import", "-o", file], ["client", None])
        end = time.monotonic() + COMMAND_SECONDS
        while a.messages()[0] or b.messages()[0]:
            if time.monotonic() > end:
                raise Wrong("the queues do not drain")
            time.sleep(0.1)
        came = collections.Counter()
        for f in sink.iterdir():
            found = re.search(rb"m(\d+)@a\.example", f.read_bytes())
            came[f"m{found.group(1).decode()}@a.example" if found else f.name] += 1
        wrong = [m for m in mine if came[m] != 1] + [m for m in came if m not in mine]
        if wrong:
            raise Wrong(f"{len(wrong)} did not come once: {[(m, came[m]) for m in wrong[:5]]}")
        return len(mine), len(mine)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nightmail")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--messages", type=int, default=40)
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().getrandbits(32)
    build = pathlib.Path("build")
    build.mkdir(exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="transfer.", dir=build)).resolve()
    binary = str(pathlib.Path(args.nightmail).resolve())
    story = Story(args, random.Random(seed), folder)
    a, b = (Node(binary, folder, name, story.sink_port).start() for name in "ab")
    sent = moved = n = 0
    problem = None
    try:
        while sum(story.kills.values()) < args.kills:
            n += 1
            more, away = (deliver_round if n % 3 == 0 else a_round)(story, n, a, b)
            sent, moved = sent + more, moved + away
    except (Wrong, subprocess.TimeoutExpired) as wrong:
        problem = wrong
    for node in (a, b):
        node.stop()
    print(f"transfer: seed {seed}, {n} rounds, {sent} messages, {moved} of them moved, killed: {dict(story.kills)}")
    if problem is not None:
        print(f"transfer: round {n}: {problem}\nkept: {folder}")
        print("0 passed, 1 failed")
        return 1
    shutil.rmtree(folder)
    print("1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
