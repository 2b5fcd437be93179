"""
Aliases in the whole program: an alias reaches each mailbox once, by whichever door the mail comes; what is wrong with a table is said with
file and line, and leaves a running server as it was.
"""
import json
import os
import signal
import subprocess

import pytest

from nightmail import PROGRAM, Nightmail
from proc import wait_until

USERS = ["bob@here.example", "carol@here.example", "dave@too.example"]
ALIASES = """\
# the first office
team:                 bob, carol, staff
staff:                :include:{folder}/staff
bob:                  bob, carol
info@list.example:    team@here.example, "Dave"@too.example
@too.example:         dave
root:                 team
"""
STAFF = "carol@here.example   # twice on the way\ndave@too.example, bob@here.example\n"
ZONE = """\
@ 60 IN SOA ns hostmaster 1 3600 600 86400 60
@ 60 IN NS ns
ns 60 IN A 127.0.0.1
elsewhere 60 IN MX 10 mx.elsewhere
mx.elsewhere 60 IN A 192.0.2.9
"""


@pytest.fixture
def server(folder, addresses):
    (folder / "aliases").write_text(ALIASES.format(folder=folder))
    (folder / "staff").write_text(STAFF)
    return Nightmail(folder, addresses[0], users=USERS, hostname="here.example", zone=ZONE, aliases_files=[folder / "aliases"],
                     virtual_domains=["list.example"], trusted_networks=[])


def send(server, *to):
    argv = [PROGRAM, "send", "--server", f"{server.address}:{server.port}", "--from", "alice@tester.example", "--quiet"]
    return subprocess.run([*map(str, argv), *(word for addr in to for word in ("--to", addr))], capture_output=True, timeout=60)


def counts(server):
    return [len(server.mails(user)) for user in USERS]


def test_an_alias_reaches_each_mailbox_once(server, start):
    start(server)
    assert send(server, "team@here.example", "bob@here.example", "INFO+x@list.example").returncode == 0
    wait_until(lambda: not server.queued(), 30, server.said)
    assert counts(server) == [1, 1, 1], server.said()
    by = [line for line in server.mails(USERS[1])[0].split(b"\n\n")[0].split(b"\n") if line.startswith((b"Delivered-To", b"X-Original-To"))]
    assert by == [b"Delivered-To: carol@here.example", b"X-Original-To: team@here.example"]
    # sendmail's door is another, and what cron writes to is a bare name
    assert server.command("sendmail", "root", input=b"Subject: cron\n\ntext\n").returncode == 0
    assert send(server, "anybody@too.example").returncode == 0
    wait_until(lambda: not server.queued(), 30, server.said)
    assert counts(server) == [2, 2, 3], server.said()


def test_who_an_alias_does_not_lead_to_is_refused(server, start):
    start(server)
    for unknown in ("nobody@here.example", "bob@list.example", "x@elsewhere.example"):
        assert send(server, unknown).returncode == 67
    assert not server.queued() and counts(server) == [0, 0, 0]


@pytest.mark.parametrize("line, said", [
    ("a: b\nb: team, a", "aliases:8: aliases go in a circle: "),
    ("a: nobody", 'aliases:8: the target "nobody@'),
    ("a: bob@list.example", 'aliases:8: the target "bob@list.example" is no alias'),
    ("a: |/bin/true", 'aliases:8: "|/bin/true" is a command'),
    ("a: /dev/null", 'aliases:8: "/dev/null" is a file'),
    ("a: :include:nowhere", "aliases:8: cannot read the list "),
    ("root: bob", 'aliases:8: "root" stands at '),
    ("a@elsewhere.example: bob", 'aliases:8: "a@elsewhere.example" is in a domain that is not among local_domains'),
    ("a bob", "aliases:8: an alias is "),
], ids=lambda value: value.split("\n")[0])
def test_a_wrong_table_is_told_with_its_line(server, folder, line, said):
    assert server.command("config", "check").returncode == 0
    (folder / "aliases").write_text(ALIASES.format(folder=folder) + line + "\n")
    for argv in (["config", "check"], ["serve"]):
        r = server.command(*argv)
        assert r.returncode == 78 and f"{folder}/{said}" in r.stderr.decode(), r.stderr


def test_a_reload_takes_aliases_in_or_leaves_them_as_they_were(server, folder, start):
    start(server)
    assert send(server, "new@here.example").returncode == 67
    (folder / "aliases").write_text("new: bob\n")
    os.kill(server.process.pid, signal.SIGHUP)
    wait_until(lambda: b" reloaded " in server.log.read_bytes(), 30, server.said)
    assert send(server, "new@here.example").returncode == 0
    assert send(server, "team@here.example").returncode == 67
    (folder / "aliases").write_text("new: old\nold: new\n")
    os.kill(server.process.pid, signal.SIGHUP)
    wait_until(lambda: b"reload-refused" in server.log.read_bytes(), 30, server.said)
    assert b"aliases:1: aliases go in a circle: new@" in server.log.read_bytes()
    assert send(server, "new@here.example").returncode == 0


def test_resolve_shows_the_way_and_why(server, folder):
    r = server.command("resolve", "info@list.example")
    assert r.returncode == 0 and r.stdout.decode().startswith(f"info@list.example\n  by the alias info@list.example ({folder}/aliases:5):\n"), r
    tree = json.loads(server.command("resolve", "--json", "any@too.example").stdout)
    assert (tree["by"], tree["key"], tree["line"]) == ("catch-all", "@too.example", 6)
    assert [end["mailbox"] for end in tree["to"]] == [str(server.maildir("dave@too.example"))]
    r = server.command("resolve", "x@elsewhere.example")
    assert r.returncode == 0 and b"mail servers of elsewhere.example, TLS: may, only for clients that may send to anywhere\n    mx.elsewhere.example 192.0.2.9:25\n" in r.stdout
    for argv, status in ((["nobody@here.example"], 67), (["--stranger", "x@elsewhere.example"], 77), (["--no-dns", "x@elsewhere.example"], 0),
                         (["a@"], 64), ([], 64)):
        assert server.command("resolve", *argv).returncode == status, argv
    (folder / "aliases").write_text("new: old\nold: new\n")
    r = server.command("resolve", "old+x@here.example")
    assert r.returncode == 78
    assert r.stderr == b"nightmail resolve: aliases go in a circle: old+x@here.example -> new@here.example -> old@here.example\n"
