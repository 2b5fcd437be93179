"""
The commands at work: the queue by hand, the journal of a live and of a copied directory, a configuration that is wrong, what load and sink
do when asked, and what is seen on a terminal only.
"""
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import time

import pytest

from nightmail import PROGRAM, Nightmail
from proc import BUILD, TOP, end, free_port, spawn, wait_until, workers
from sink import OwnSink

BOB = "bob@here.example"


@pytest.fixture
def server(folder, addresses, start):
    return start(Nightmail(folder, addresses[0], users=[BOB]))


@pytest.fixture
def hop_port(addresses):
    """Where the server of the next fixture may be told to send, beside where it does."""
    return free_port(addresses[1])


@pytest.fixture
def waiting(folder, addresses, start, hop_port):
    """A server with a message that waits: nobody listens where it should go."""
    zone = f"@ 60 IN SOA ns h 1 2 3 4 5\n@ 60 IN NS ns\nfar 60 IN A {addresses[1]}\n"
    server = start(Nightmail(folder, addresses[0], users=[BOB], zone=zone, smtp_port=1, retry=["1h"], reroute_ports=[str(hop_port)]))
    assert server.command("sendmail", "-f", BOB, "carol@far.example", input=b"Subject: later\n\ntext\n").returncode == 0
    wait_until(lambda: server.queued() and server.queued()[0]["attempts"] == 1, 20, server.said)
    return server


def all_tried(server, count):
    """So many wait, and each has been tried: for a site that is down, when an operator asks for it, and when it is back in the queue."""
    def tried():
        server.command("queue", "retry", "-y", "attempts=0")
        return len(server.queued()) == count and all(m["attempts"] > 0 for m in server.queued())

    wait_until(tried, 30, server.said, every=0.3)


def run(*argv, **options):
    return subprocess.run([PROGRAM, *map(str, argv)], capture_output=True, timeout=60, **options)


def on_a_terminal(*argv, **env):
    """(exit status, what was seen)."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(PROGRAM, [str(PROGRAM), *map(str, argv)], dict(os.environ, TERM="xterm", **env))
    seen = b""
    while True:
        try:
            some = os.read(fd, 4096)
        except OSError:                                 # the other end is closed
            break
        if not some:
            break
        seen += some
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen


# -- the queue ------------------------------------------------------------------------------------------------------------------


def test_a_message_is_held_released_tried_and_deleted_by_hand(waiting):
    def queue(*argv):
        return waiting.command("queue", *argv)

    message = waiting.queued()[0]
    name = message["id"]
    assert message["state"] == "waiting" and message["recipients"] == message["pending"] == 1
    listed = queue("list").stdout.decode()
    assert name in listed and listed.endswith("\n1 message\n")
    shown = queue("show", name).stdout.decode()
    assert "carol@far.example" in shown and BOB in shown and "Connection refused" in shown
    assert json.loads(queue("show", "--json", name).stdout)["recipients"][0]["to"] == "carol@far.example"
    assert queue("hold", name).returncode == 0 and waiting.queued()[0]["state"] == "held"
    assert queue("release", name).returncode == 0 and waiting.queued()[0]["state"] == "waiting"
    assert queue("retry", name).returncode == 0
    wait_until(lambda: waiting.queued()[0]["attempts"] == 2, 20, waiting.said)
    assert queue("delete", name).returncode == 0 and waiting.queued() == []
    assert queue("list").stdout == b"0 messages\n"
    r = queue("show", name)
    assert r.returncode == 1 and r.stderr == f"nightmail queue: {name}: no such message\n".encode()
    assert not waiting.mails(BOB)                       # and no bounce


def test_a_filter_is_shown_first_and_done_with_yes(waiting):
    def queue(*argv):
        return waiting.command("queue", *argv)

    assert waiting.command("sendmail", "-f", BOB, "dave@far.example", input=b"Subject: two\n\ntext\n").returncode == 0
    all_tried(waiting, 2)
    for_dave = "to=dave@* text=*refused*"
    r = queue("hold", for_dave)
    assert r.returncode == 0 and r.stdout.endswith(b"\n1 message would be held: --yes does it\n") and r.stdout.count(b"\n") == 2
    assert queue("list", "state=held").stdout == b"0 messages\n"
    r = queue("hold", "--yes", *for_dave.split())       # words are a filter too
    assert (r.returncode, r.stdout) == (0, b"1 message held\n")
    held = json.loads(queue("list", "-j", "state=held").stdout)
    assert held["state"] == "held"
    shown = json.loads(queue("show", "-j", "state=held").stdout)
    assert shown["item"]["id"] == held["id"] and shown["recipients"][0]["to"] == "dave@far.example"
    assert b"dave@far.example" in queue("show", "state=held").stdout
    postqueue = queue("list", "--format=postqueue").stdout.decode().splitlines()
    assert postqueue[0].split() == ["-Queue", "ID-", "--Size--", "----Arrival", "Time----", "-Sender/Recipient-------"]
    assert [line.split()[0] for line in postqueue if BOB in line] == [m["id"] + "!" * (m["state"] == "held") for m in waiting.queued()]
    assert [line.strip() for line in postqueue if line.startswith(" ")] == ["carol@far.example", "dave@far.example"]
    assert any(line.startswith("(") and "refused" in line for line in postqueue)
    assert re.fullmatch(r"-- \d+ Kbytes in 2 Requests\.", postqueue[-1])
    assert queue("release", "-y", "state=held").stdout == b"1 message released\n"
    assert queue("retry", "-y", "domain=far.example").stdout == b"2 messages made due now\n"
    wait_until(lambda: any(m["attempts"] == 2 for m in waiting.queued()), 20, waiting.said)
    wait_until(lambda: all(m["state"] == "waiting" for m in waiting.queued()), 20, waiting.said)
    r = queue("delete", "-y", "-j", "not to=carol@*")
    assert json.loads(r.stdout)["id"] == held["id"] and r.stderr == b"1 message deleted\n"
    assert [m["id"] == held["id"] for m in waiting.queued()] == [False]
    assert queue("delete", "-y", "size>0").returncode == 0
    for argv in (["mailq"], ["sendmail", "-bp"]):
        r = subprocess.run(argv, executable=PROGRAM, env=dict(waiting.env, NIGHTMAIL_CONF=str(waiting.conf)), capture_output=True, timeout=60)
        assert (r.returncode, r.stdout) == (0, b"Mail queue is empty\n")


def test_what_is_returned_by_hand_comes_back_with_the_reason(waiting):
    def queue(*argv):
        return waiting.command("queue", *argv)

    assert queue("hold", waiting.queued()[0]["id"]).returncode == 0
    r = queue("bounce", "--reason", "nobody lives there", "state=held")
    assert r.returncode == 0 and b"1 message would be returned" in r.stdout and len(waiting.queued()) == 1
    assert queue("retry", "--reason", "x", "state=held").returncode == 64
    r = queue("bounce", "--yes", "--reason", "two\nlines", "state=held")
    assert r.returncode == 1 and b"the reason is no line of text" in r.stderr and waiting.queued()[0]["state"] == "held"
    assert queue("bounce", "--yes", "--reason", "nobody lives there", "state=held").stdout == b"1 message returned\n"
    wait_until(lambda: waiting.mails(BOB), 20, waiting.said)
    told = waiting.mails(BOB)[0]
    assert b"nobody lives there" in told and b"carol@far.example" in told and b"Action: failed" in told
    wait_until(lambda: waiting.queued() == [], 20, waiting.said)


def test_what_waits_is_sent_another_way(waiting, folder, addresses, start, hop_port):
    """Over another server, which takes it, and to a mailbox of our own; what is asked for survives kill -9."""
    def queue(*argv):
        return waiting.command("queue", *argv)

    assert waiting.command("sendmail", "-f", BOB, "dave@far.example", input=b"Subject: two\n\ntext\n").returncode == 0
    all_tried(waiting, 2)
    assert queue("reroute", "to=dave@*").returncode == 64                    # where to?
    assert queue("hold", "-y", "size>0").returncode == 0
    sink = start(OwnSink(folder / "hop", addresses[1], port=hop_port))
    hop = f"[{sink.address}]:{sink.port}"
    r = queue("reroute", "--via", hop, "to=dave@*")
    assert r.stdout.endswith(b"\n1 message would be rerouted: --yes does it\n")
    r = queue("reroute", "--yes", "--via", "127.0.0.1", "to=dave@*")
    assert r.returncode == 1 and b"the next hop is not" in r.stderr
    r = queue("reroute", "--yes", "--via", "[127.0.0.1]:2", "to=dave@*")     # the sandbox would not let it through
    assert r.returncode == 1 and b"add it to reroute_ports" in r.stderr
    assert queue("reroute", "--yes", "--via", hop, "to=dave@*").stdout == b"1 message rerouted\n"
    assert queue("reroute", "--yes", "--to", BOB, "to=carol@*").stdout == b"1 message rerouted\n"
    for pid in waiting.pids():
        os.kill(pid, signal.SIGKILL)
    waiting.process.wait(20)
    waiting.start()
    shown = [json.loads(line) for line in queue("show", "-j", "state=held").stdout.splitlines()]
    assert [(r["to"], r["named"], r.get("via")) for m in shown for r in m["recipients"]] == [(BOB, "carol@far.example", None), ("dave@far.example", "", hop)]
    assert queue("release", "-y", "size>0").stdout == b"2 messages released\n"
    wait_until(lambda: waiting.queued() == [], 20, waiting.said)
    assert len(waiting.mails(BOB)) == 1 and b"carol@far.example" in waiting.mails(BOB)[0]
    assert len(sink.mails()) == 1


def test_messages_travel_to_another_node_once(waiting, folder, addresses, start):
    """With what became of them: a large body, a held one, one that was tried; asked for twice, they come once."""
    other = start(Nightmail(folder / "other", addresses[1], users=[BOB], zone="@ 60 IN SOA ns h 1 2 3 4 5\n@ 60 IN NS ns\n", retry=["1h"]))
    file = folder / "moving"

    def queue(*argv, at=waiting):
        return at.command("queue", *argv)

    large = b"Subject: large\n\n" + b"0123456789abcdef\n" * 200000
    for to, text in [("dave@far.example", large), ("eve@far.example", b"Subject: held\n\nx\n"), ("frank@far.example", b"Subject: stays\n\nx\n")]:
        assert waiting.command("sendmail", "-f", BOB, to, input=text).returncode == 0
    all_tried(waiting, 4)
    assert queue("hold", "-y", "to=eve@*").returncode == 0
    assert queue("export", "not to=frank@*").returncode == 64             # to which file?
    r = queue("export", "--file", file, "not to=frank@*")
    assert r.stdout.endswith(b"\n3 messages would be exported: --yes does it\n") and not file.exists()
    r = queue("export", "--yes", "--file", file, "not to=frank@*")
    assert (r.returncode, r.stdout) == (0, b"3 messages exported\n"), r.stderr
    assert [m["attempts"] for m in waiting.queued()] == [1]
    r = queue("export", "--yes", "--file", file, "size>0")
    assert r.returncode == 73 and b"that export is complete" in r.stderr and len(waiting.queued()) == 1
    for expected in (b"3 messages imported\n", b"0 messages imported\n"):
        r = queue("import", "--file", file, at=other)
        assert (r.returncode, r.stdout) == (0, expected), r.stderr
    wait_until(lambda: len(other.queued()) == 3, 20, other.said)
    shown = [json.loads(line) for line in queue("show", "-j", "size>0", at=other).stdout.splitlines()]
    assert sorted((m["recipients"][0]["to"], m["item"]["state"]) for m in shown) == [
        ("carol@far.example", "waiting"), ("dave@far.example", "waiting"), ("eve@far.example", "held")]
    assert all("refused" in m["recipients"][0]["text"] for m in shown)
    assert queue("reroute", "--yes", "--to", BOB, "to=dave@far.example", at=other).returncode == 0
    wait_until(lambda: other.mails(BOB), 20, other.said)
    assert other.mails(BOB)[0].endswith(large.split(b"\n\n")[1])
    damaged = folder / "damaged"
    damaged.write_bytes(file.read_bytes()[:-100] + b"x" * 50)
    r = queue("import", "--file", damaged, at=other)
    assert r.returncode == 1 and b"broken off" in r.stderr and r.stdout == b"0 messages imported\n"
    r = queue("import", "--file", waiting.conf, at=other)
    assert r.returncode == 65 and b"no export" in r.stderr


def test_a_wrong_filter_changes_nothing(waiting):
    for words, why in [(["to=", "age>0"], b"to has no value"), (["to=carol@*", "everything"], b"'everything' is no FIELD=VALUE"),
                       (["recipient=carol@*"], b"there is no field 'recipient'"), (["age>1x"], b"age wants a time")]:
        r = waiting.command("queue", "delete", "--yes", *words)
        assert r.returncode == 1 and r.stdout == b"" and why in r.stderr
    assert len(waiting.queued()) == 1


def test_the_control_socket_is_for_operators(waiting):
    socket = waiting.data / "control"
    assert socket.stat().st_mode & 0o777 == 0o660
    waiting.data.chmod(0o711)
    r = run("queue", "list", "-s", socket, user=65534, group=65534, extra_groups=[])
    assert r.returncode == 77 and b"Permission denied" in r.stderr


def test_two_servers_never_share_a_directory(server):
    r = run("serve", "-c", server.conf)
    assert r.returncode == 75 and b"in use by another server" in r.stderr


# -- the journal ----------------------------------------------------------------------------------------------------------------


def test_the_journal_of_a_live_and_of_a_copied_directory(waiting, folder):
    name = waiting.queued()[0]["id"]
    copy = folder / "copy"
    shutil.copytree(waiting.data / "journal", copy / "journal")
    shutil.copytree(waiting.data / "body", copy / "body")
    for directory in (waiting.data, copy):
        assert run("journal", "verify", directory).returncode == 0
        report = json.loads(run("journal", "verify", "--json", directory).stdout)
        assert report["records"] >= 2 and report["bad_records"] == 0
        records = [json.loads(line) for line in run("journal", "dump", "--json", "--id", name, directory).stdout.splitlines()]
        assert [r["type"] for r in records[:2]] == ["accepted", "outcome"]
    assert waiting.queued()                             # looking has changed nothing
    assert b"carol@far.example" in run("journal", "dump", copy).stdout
    segment = next((copy / "journal").glob("*.seg"))
    bytes_ = bytearray(segment.read_bytes())
    bytes_[bytes_.index(b"carol")] ^= 1
    segment.write_bytes(bytes_)
    r = run("journal", "verify", copy)
    assert r.returncode == 65 and b"damaged" in r.stderr and segment.name.encode() in r.stderr


# -- the configuration ----------------------------------------------------------------------------------------------------------


def test_what_is_wrong_is_told_with_file_and_line(server):
    shown = server.command("config", "show")
    assert shown.returncode == 0 and b'hostname = "nightmail.example"' in shown.stdout and b"message_size_max" in shown.stdout
    assert server.command("config", "check").returncode == 0
    lines = server.conf.read_text().count("\n")
    with open(server.conf, "a", encoding="ascii") as conf:
        conf.write("expire = soon\n")
    for argv in (["config", "check"], ["config", "show"], ["serve"], ["queue", "list"]):
        r = server.command(*argv)
        assert r.returncode == 78 and f"{server.conf}:{lines + 1}: ".encode() in r.stderr, r.stderr


# -- load and sink --------------------------------------------------------------------------------------------------------------


def test_load_keeps_to_the_rate_and_to_messages_a_connection(server):
    at = f"{server.address}:{server.port}"
    began = time.monotonic()
    r = run("load", "-s", at, "-t", BOB, "--messages", 21, "--rate", 20, "--sessions", 3, "--per-connection", 3, "--size", "2KiB", "--json")
    took = time.monotonic() - began
    result = json.loads(r.stdout)
    assert r.returncode == 0 and result["accepted"] == 21 and result["refused"] == result["broken"] == 0
    assert result["connections"] >= 7 and took >= 1 and result["per_second"] < 22
    latency = result["latency_ms"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]
    wait_until(lambda: len(server.mails(BOB)) == 21, 20, server.said)
    assert all(2048 <= len(mail) < 3000 for mail in server.mails(BOB))


def test_load_shows_progress_on_a_terminal(server):
    status, seen = on_a_terminal("load", "-s", f"{server.address}:{server.port}", "-t", BOB, "-m", 20, "-r", 15)
    assert status == 0 and re.search(rb"\r\d+ of 20 accepted, \d+/s, 0 refused, 0 broken", seen) and b"20 accepted" in seen
    r = run("load", "-s", f"{server.address}:{server.port}", "-t", BOB, "-m", 20, "-r", 15)
    assert b"\r" not in r.stdout + r.stderr


@pytest.mark.parametrize("rule, status, said", [
    ("CONNECT=554", 69, b"554"),
    ("MAIL=450", 75, b"450"),
    ("RCPT=550", 67, b"550"),
    ("DOT=552", 69, b"552"),
    ("DATA=drop", 76, b""),
])
def test_sink_refuses_and_hangs_up_when_told(folder, addresses, start, rule, status, said):
    sink = start(OwnSink(folder / "sink", addresses[1], args=["--at", rule]))
    r = run("send", "-s", f"{sink.address}:{sink.port}", "-f", BOB, "-t", "carol@far.example")
    assert r.returncode == status and said in r.stdout, (r.stdout, r.stderr)


def test_sink_waits_and_stops_after_so_many(folder, addresses):
    sink = spawn([PROGRAM, "sink", "-l", f"{addresses[1]}:0", "--at", "DOT=wait:300ms", "--stop-after", "1", "--json"], stdout=subprocess.PIPE)
    try:
        at = sink.stdout.readline().split()[-1].decode()
        began = time.monotonic()
        assert run("send", "-s", at, "-f", BOB, "-t", "carol@far.example").returncode == 0
        assert time.monotonic() - began >= 0.3
        assert sink.wait(20) == 0
        counts = json.loads(sink.stdout.read())
        assert (counts["connections"], counts["messages"], counts["recipients"]) == (1, 1, 1)
    finally:
        end(sink, 20)
        sink.stdout.close()


# -- terminals ------------------------------------------------------------------------------------------------------------------


def test_colour_is_for_terminals(server):
    argv = ["send", "-s", f"{server.address}:{server.port}", "-f", BOB, "-t", BOB]
    assert b"\033[" in on_a_terminal(*argv)[1]
    assert b"\033" not in on_a_terminal(*argv, NO_COLOR="1")[1]
    assert b"\033" not in run(*argv).stdout


# -- gdb ------------------------------------------------------------------------------------------------------------------------


def test_gdb_shows_where_parked_tasks_wait(folder, addresses):
    """The server is gdb's own child, and the worker is the second that it forks: to look at others' takes a right that containers do not give."""
    conf = Nightmail(folder, addresses[0], users=[BOB]).conf
    log = folder / "gdb.log"
    script = TOP / "tools" / "gdb" / "nightmail_gdb.py"
    words = ["set pagination off", "set startup-with-shell off", "catch fork", "run", "continue", "set follow-fork-mode child", "continue",
             f"source {script}", "nightmail tasks", "nightmail bt scheduler", "kill"]
    argv = ["gdb", "-q", "-nx", "-batch", *(x for w in words for x in ("-ex", w)), "--args", str(PROGRAM), "serve", "-c", str(conf)]
    with open(log, "wb") as out:
        gdb = spawn(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        wait_until(lambda: b" ready" in log.read_bytes() or b"Could not trace" in log.read_bytes(), 60,
                   lambda: log.read_text(errors="replace"))
        if b"Could not trace" in log.read_bytes():
            pytest.skip("nobody may be traced here")
        [inferior] = [int(p) for p in subprocess.run(["pgrep", "-P", str(gdb.pid), "nightmail"], capture_output=True, check=True).stdout.split()]
        [inferior] = workers(inferior) or [inferior]     # the one that gdb follows
        os.kill(inferior, signal.SIGABRT)         # not SIGINT, which the server takes by signalfd
        gdb.wait(60)
    finally:
        end(gdb, 20)
    seen = log.read_text(errors="replace")
    assert re.search(r"parked +scheduler .*queue_claim < scheduler_task", seen), seen
    assert re.search(r"#\d+ .* in scheduler_task ", seen), seen


# -- make install ---------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(PROGRAM != BUILD.absolute() / "native/nightmail", reason="another build than make's")
def test_make_install_keeps_to_destdir_and_prefix(folder):
    subprocess.run(["make", "-s", "install", f"DESTDIR={folder}/dest", "PREFIX=/usr"], cwd=TOP, check=True, capture_output=True, timeout=300)
    there = {str(f.relative_to(folder / "dest")): f for f in (folder / "dest").rglob("*") if not f.is_dir()}
    assert set(there) == {"usr/bin/nightmail", "usr/bin/mailq", "usr/sbin/sendmail", "usr/sbin/nightmail-backup",
                          "usr/share/man/man1/nightmail.1", "usr/share/man/man5/nightmail.conf.5", "usr/share/doc/nightmail/example.conf",
                          "usr/share/doc/nightmail/journal.md", "usr/share/doc/nightmail/system-users.conf", "usr/share/nightmail/refusals",
                          "usr/lib/systemd/system/nightmail.service"}
    for name, f in there.items():
        assert f.stat().st_mode & 0o777 == (0o755 if "bin/" in name else 0o644)
    for name in ("usr/bin/nightmail", "usr/sbin/sendmail"):
        r = subprocess.run([there[name], "--help"], capture_output=True, check=True)
        assert r.stdout.startswith(b"usage: " + name.rsplit("/", maxsplit=1)[1].encode())
