#!/usr/bin/env python3
"""A backup of a live data directory is a queue: everything acknowledged before it began is in it, or was delivered.

    tests/crash/backup.py NIGHTMAIL [--copies N] [--seed N]

Twenty sessions send messages of 200 bytes to 300 KiB; most are delivered to Maildirs at once, the others go to a relay that is
down and stay. Meanwhile tools/backup copies the directory several times. Then a server starts on each copy, with a relay that works, and
what comes out is compared with what had been acknowledged when that copy began. Segments are small, so that they are used again and
messages move while they are copied.

The copies are also read by a reader written from docs/journal.md alone, which must find the records that `nightmail journal dump` finds.
"""
import argparse
import asyncio
import collections
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time

import crash

DOMAINS = ["crash.example", "stays.example"]
BACKUP = str(pathlib.Path(__file__).resolve().parents[2] / "tools" / "backup")


# -- docs/journal.md, read again -----------------------------------------------------------------------------------------------------

def crc_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


CRC_TABLE = crc_table()
TYPES = {1: "accepted", 2: "outcome", 3: "held", 4: "released", 6: "discarded", 7: "abandoned", 8: "moved", 10: "due", 11: "ended", 12: "closed"}


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def entries(payload):
    at = 0
    while at < len(payload):
        tag, length = struct.unpack_from("<HI", payload, at)
        yield tag, payload[at + 6:at + 6 + length]
        at += 6 + length
    assert at == len(payload)


def read_segment(path):
    """(offset, sequence, batch, type) of each record, in a segment without damage."""
    data = path.read_bytes()
    magic, version, generation, number, salt, first = struct.unpack_from("<8sIIIIQ", data)
    assert magic == b"nightml\n" and version == 1 and path.name == "%08x-%08x.seg" % (generation, number)
    assert struct.unpack_from("<I", data, 4092)[0] == crc32c(data[:4092])
    at = 4096
    while at + 32 <= len(data):
        crc, payload_crc, length, batch, sequence, kind = struct.unpack_from("<IIIIQB", data, at)
        if kind == 0 or crc32c(data[at + 4:at + 32], salt) != crc:
            break
        payload = data[at + 32:at + 32 + length]
        if length < 2000:                            # the longer ones take Python too long
            assert crc32c(payload) == payload_crc
        assert kind == 12 or 0x8001 in dict(entries(payload)) or kind == 7
        yield at, sequence, batch, TYPES[kind]
        at += (32 + length + 7) // 8 * 8


def check_format(binary, copy, problems):
    ours = [(path.name,) + record for path in sorted(copy.glob("journal/*.seg")) for record in read_segment(path)]
    dump = subprocess.run([binary, "journal", "dump", "--json", str(copy)], capture_output=True, text=True, check=True)
    theirs = [(r["segment"], r["offset"], r["sequence"], r["batch"], r["type"]) for r in map(json.loads, dump.stdout.splitlines())]
    if ours != theirs:
        problems.append("by docs/journal.md there are %d records, by `journal dump` %d" % (len(ours), len(theirs)))
    return collections.Counter(record[-1] for record in theirs)


# -- the servers ---------------------------------------------------------------------------------------------------------------------

def write_conf(folder, port, relay_port):
    (folder / "users").write_text("\n".join(crash.USERS) + "\n")
    (folder / "nightmail.conf").write_text("\n".join([
        'hostname = "mx.crash.example"', 'data_dir = "%s/data"' % folder, "segment_size = 256KiB", "unsafe_file_system = yes",
        'listen smtp { address = "127.0.0.1:%d" }' % port, 'local_domains = {"crash.example"}', 'users_file = "%s/users"' % folder,
        'relay_host = "[127.0.0.1]:%d"' % relay_port, 'retry = {"500ms", "2s"}', "shutdown_grace = 5s", ""]))
    return str(folder / "nightmail.conf")


def local_tokens(folder):
    return set(token for token, _ in crash.delivered(folder / "data" / "mail" / "crash.example", "*/new/*"))


async def make_copies(folder, binary, ledger, count):
    """(copy, tokens that must be in it) of each; what was in a Maildir when its backup ended need not be."""
    made = []
    for n in range(count):
        await asyncio.sleep(1.0)
        copy = folder / ("copy-%d" % n)
        before = set(ledger.acked)
        began = time.monotonic()
        backup = await asyncio.create_subprocess_exec(BACKUP, str(folder / "data"), str(copy), env=dict(os.environ, NIGHTMAIL=binary),
                                                      stdout=subprocess.DEVNULL)
        code = await asyncio.wait_for(backup.wait(), 120)
        print("backup %d: %.1f s, exit %d, %d messages acknowledged before" % (n, time.monotonic() - began, code, len(before)))
        made.append((copy, before - local_tokens(folder), code))
    return made


async def copies_under_load(folder, binary, address, ledger, rng, count):
    stop = asyncio.Event()
    sessions = [asyncio.create_task(crash.session(address, ledger, random.Random(rng.getrandbits(64)), DOMAINS[n % 7 == 0], stop))
                for n in range(crash.SESSIONS)]
    made = await make_copies(folder, binary, ledger, count)
    stop.set()
    await asyncio.wait(sessions, timeout=60)
    return made


def start_on(folder, binary, copy, sink_port, n):
    """A server whose data directory is the copy."""
    home = folder / ("restored-%d" % n)
    home.mkdir()
    copy.rename(home / "data")
    port = crash.free_port("127.0.0.1")
    conf = write_conf(home, port, sink_port)
    server = crash.Server(binary, conf, home / "log")
    server.start()
    return home, conf, server


def restore(folder, binary, copy, ledger, must, n, problems):
    sink_folder = folder / ("relay-%d" % n)
    sink_folder.mkdir()
    sink, sink_port, store = crash.start_sink(binary, sink_folder)
    home, conf, server = start_on(folder, binary, copy, sink_port, n)
    try:
        if not crash.drain(binary, conf):
            problems.append("copy %d: the queue does not drain" % n)
        if server.stop() != 0:
            problems.append("copy %d: its server did not end well" % n)
    finally:
        if server.process.poll() is None:
            server.kill()
        sink.terminate()
        sink.wait()
    came = list(crash.delivered(store, "*.eml")) + list(crash.delivered(home / "data" / "mail" / "crash.example", "*/new/*"))
    found = []
    crash.judge(restricted(ledger, must), came, found)
    problems.extend("copy %d: %s" % (n, problem) for problem in found)
    print("copy %d: %d messages had to be there, %d came out" % (n, len(must), len(came)))
    if len(must) < 20:
        problems.append("copy %d: only %d messages were waiting: this was no test" % (n, len(must)))


def restricted(ledger, must):
    """The same messages, and only those acknowledged that the copy must have."""
    part = crash.Ledger()
    part.sent, part.acked = ledger.sent, must
    return part


def run(folder, binary, rng, copies, problems):
    port = crash.free_port("127.0.0.1")
    conf = write_conf(folder, port, crash.free_port("127.0.0.1"))     # nobody listens at the relay's port
    server = crash.Server(binary, conf, folder / "log")
    ledger = crash.Ledger()
    server.start()
    try:
        made = asyncio.run(copies_under_load(folder, binary, ("127.0.0.1", port), ledger, rng, copies))
    finally:
        server.kill()
    kinds = collections.Counter()
    for n, (copy, must, code) in enumerate(made):
        if code != 0:
            problems.append("copy %d: tools/backup said %d" % (n, code))
            continue
        kinds += check_format(binary, copy, problems)
        restore(folder, binary, copy, ledger, must, n, problems)
    print("records seen: %s" % ", ".join("%d %s" % (count, kind) for kind, count in sorted(kinds.items())))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nightmail")
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    args = parser.parse_args()
    pathlib.Path("build").mkdir(exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="backup.", dir="build")).resolve()
    print("backup: seed %d" % args.seed)
    problems = []
    run(folder, str(pathlib.Path(args.nightmail).resolve()), random.Random(args.seed), args.copies, problems)
    for problem in problems[:20]:
        print("  PROBLEM %s" % problem)
    if problems:
        print("  kept for a look: %s" % folder)
    else:
        shutil.rmtree(folder)
    print("backup: %d passed, %d failed" % (0 if problems else 1, 1 if problems else 0))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
