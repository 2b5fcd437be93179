"""
Somebody who runs code of his own in the worker tries each door (`nightmail debug intruder`, of a debug build: make DEBUG=1). The suite
`sandbox` runs this; in any other build there is nothing to run.
"""
import os
import re
import smtplib
import subprocess

import pytest

from messages import message
from nightmail import PROGRAM, Nightmail
from proc import wait_until

BOB, ALICE = "bob@here.example", "alice@tester.example"

DENIED, NOT_PERMITTED = "EACCES", "EPERM"

# The door, what it is about, and the error, or the call that the worker is ended for. {here} is the server's folder.
DOORS = [
    ("read",        "{here}/key.pem",                 DENIED),
    ("read",        "{here}/accounts",                DENIED),
    ("read",        "{mail}",                         DENIED),          # of another user; all are others here
    ("read",        "{here}/data/scram-salt",         DENIED),
    ("read",        "/etc/shadow",                    DENIED),
    ("read",        "/bin/true",                      DENIED),
    ("read",        "/proc/self/environ",             DENIED),
    ("list",        "/etc",                           DENIED),
    ("list",        "/",                              DENIED),
    ("write",       "{here}/intruder",                DENIED),
    ("write",       "/tmp/nightmail-intruder",        DENIED),
    ("write",       "{here}/nightmail.conf",          DENIED),
    ("link",        "{mail}",                         ("EXDEV", DENIED)),       # to where it could be read
    ("setuid-file", "{here}/data/body/setuid",        NOT_PERMITTED),
    ("memory",      "-",                              DENIED),          # of the supervisor
    ("exec",        "-",                              "execve"),
    ("fork",        "-",                              "clone"),
    ("ptrace",      "-",                              "ptrace"),
    ("kill",        "-",                              "kill"),
    ("setuid",      "-",                              "setuid"),
    ("bpf",         "-",                              "bpf"),
    ("mount",       "-",                              "mount"),
    ("unshare",     "-",                              "unshare"),
    ("io_uring",    "-",                              "io_uring_setup"),
    ("keyring",     "-",                              "keyctl"),
    ("dumpable",    "-",                              "prctl"),
    ("handler",     "-",                              "rt_sigaction"),
    ("limit",       "-",                              ("prlimit64", "setrlimit")),
    ("listen",      "-",                              "listen"),
    ("packet",      "-",                              "socket"),
    ("netlink",     "-",                              "EAFNOSUPPORT"),
    ("code",        "-",                              DENIED),
    ("own-code",    "-",                              DENIED),
    ("connect",     "-",                              DENIED),          # to a port that no configuration names
    ("bind",        "-",                              DENIED),
]
NEEDS_PORTS = {"connect", "bind"}                       # Landlock's from ABI 4 on


@pytest.fixture
def broken_into(folder, addresses):
    """A server with an intruder at that door, some mail in its mailbox, and secrets beside its configuration."""
    servers = []

    def begin(door, path):
        for name in ("key.pem", "accounts"):
            (folder / name).touch()
            os.chmod(folder / name, 0o600)
        server = Nightmail(folder, addresses[0], users=[BOB], accounts_file=folder / "accounts")
        servers.append(server)
        mail = server.maildir(BOB) / "new" / "mail"
        mail.parent.mkdir(parents=True)
        mail.write_bytes(message("plain"))
        (server.data / "scram-salt").write_text("salt\n")
        program = folder / "intruder-program"
        program.write_text(f'#!/bin/sh\nexec "{PROGRAM}" debug intruder {door} "{path.format(here=folder, mail=mail)}" "$@"\n')
        program.chmod(0o755)
        server.program = program
        return server.start()

    yield begin
    for server in servers:
        if server.process is not None:
            server.process.kill()
            server.process.wait()


@pytest.mark.parametrize("door, path, shut_by", DOORS, ids=[f"{door}-{path}" for door, path, _ in DOORS])
def test_each_door_is_shut(broken_into, door, path, shut_by):
    server = broken_into(door, path)
    wait_until(lambda: " intruder door=" in server.said() or " worker-forbidden " in server.said(), 20, server.said)
    said = server.said()
    landlock = int(re.search(r" sandbox .*landlock=(\d+)", said).group(1))
    tried = re.search(r" intruder door=\S+ open=(\w+) error=(\S+)", said)
    if door in NEEDS_PORTS and landlock < 4:
        assert "tcp-ports" in re.search(r'cannot-enforce="([^"]*)"', said).group(1)
        return
    allowed = shut_by if isinstance(shut_by, tuple) else (shut_by,)
    if tried:
        assert tried.group(1) == "no" and tried.group(2) in allowed, said
    else:
        assert re.search(r" worker-forbidden call=(\S+)", said).group(1) in allowed, said


def test_mail_goes_on_behind_a_shut_door(broken_into):
    server = broken_into("read", "/etc/shadow")
    with smtplib.SMTP(server.address, server.port, timeout=30) as c:
        c.sendmail(ALICE, BOB, message("plain"))
    wait_until(lambda: len(server.mails(BOB)) == 2, 30, server.said)
    assert server.stop() == 0
