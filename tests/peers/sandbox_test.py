"""
The worker's sandbox, seen from outside: what the kernel says of the process, and that mail goes on in it.
"""
import os
import pwd
import re
import shutil
import signal
import smtplib
from pathlib import Path

import pytest

from messages import message
from nightmail import Nightmail
from proc import wait_until, workers

BOB = "bob@here.example"
ALICE = "alice@tester.example"


def status(pid):
    return dict(re.findall(r"^(\w+):[ \t]*(.*?)[ \t]*$", Path(f"/proc/{pid}/status").read_text(), re.M))


def worker_of(server):
    [worker] = wait_until(lambda: workers(server.process.pid), 10, server.said)
    return worker


def deliver(server, count):
    with smtplib.SMTP(server.address, server.port, timeout=30) as c:
        c.sendmail(ALICE, BOB, message("plain"))
    wait_until(lambda: len(server.mails(BOB)) == count, 30, server.said)


def sanitized():
    return "-address" in str(os.environ.get("NIGHTMAIL", "")) or "-thread" in str(os.environ.get("NIGHTMAIL", ""))


def test_the_worker_has_no_powers(folder, addresses, start):
    server = start(Nightmail(folder, addresses[0], users=[BOB]))
    of_worker = status(worker_of(server))
    assert {int(of_worker[caps], 16) for caps in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    if os.getuid() == 0:
        assert int(of_worker["CapBnd"], 16) == 0 and of_worker["Groups"] == ""
    assert (of_worker["NoNewPrivs"], of_worker["Seccomp"]) == ("1", "0" if sanitized() else "2")
    deliver(server, 1)
    said = server.said()
    assert re.search(r" sandbox user=\S+ landlock=\d+ cannot-enforce=", said), said
    assert server.stop() == 0


@pytest.fixture
def open_folder():
    """One that anybody can reach."""
    folder = Path("/tmp/nightmail-sandbox-test")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_the_worker_has_a_user_of_its_own(open_folder, addresses, start):
    server = Nightmail(open_folder, addresses[0], users=[BOB], user="nobody", unsafe_file_system="yes")
    server.data.rmdir()                                 # made by the server, it is the user's
    start(server)
    nobody = pwd.getpwnam("nobody")
    of_worker = status(worker_of(server))
    assert of_worker["Uid"].split() == [str(nobody.pw_uid)] * 4 and of_worker["Gid"].split() == [str(nobody.pw_gid)] * 4
    assert of_worker["Groups"] == ""
    assert os.stat(f"/proc/{worker_of(server)}/mem").st_uid == (nobody.pw_uid if sanitized() else 0)      # not dumpable: root's
    assert status(server.process.pid)["Uid"].split()[0] == "0"
    deliver(server, 1)
    os.kill(worker_of(server), signal.SIGKILL)          # the next one too
    wait_until(lambda: server.said().count(" ready ") == 2, 20, server.said)
    deliver(server, 2)
    assert server.stop(crashes=1) == 0
    os.chown(server.data, 0, 0)                         # somebody else's
    refused = server.command("serve", "-c", server.conf)
    assert refused.returncode == 78 and b"does not belong to nobody" in refused.stderr


def test_no_such_user(folder, addresses):
    server = Nightmail(folder, addresses[0], users=[BOB], user="nobody-at-all")
    refused = server.command("serve", "-c", server.conf)
    assert refused.returncode == 78 and b"there is no user nobody-at-all" in refused.stderr


def test_a_reload_beyond_the_rights_is_another_workers(folder, addresses, start):
    server = start(Nightmail(folder, addresses[0], users=[BOB]))
    elsewhere = folder.parent / (folder.name + "-elsewhere")
    elsewhere.mkdir()
    try:
        before = worker_of(server)
        server.conf.write_text(server.conf.read_text() + f'mailbox = "{elsewhere}/{{user}}"\n')
        os.kill(server.process.pid, signal.SIGHUP)
        wait_until(lambda: "reload-by-generation option=sandbox" in server.said(), 10, server.said)
        assert f"{elsewhere}/ is beyond" in server.said()
        wait_until(lambda: before not in workers(server.process.pid) and server.said().count(" ready ") == 2, 30, server.said)
        with smtplib.SMTP(server.address, server.port, timeout=30) as c:
            c.sendmail(ALICE, BOB, message("plain"))
        wait_until(lambda: len(list((elsewhere / "bob" / "new").glob("*"))) == 1, 30, server.said)
        assert server.stop() == 0
    finally:
        shutil.rmtree(elsewhere)


def test_a_file_replaced_beside_a_secret_is_another_workers(folder, addresses, start):
    (folder / "accounts").touch(mode=0o600)
    server = start(Nightmail(folder, addresses[0], users=[BOB], accounts_file=folder / "accounts"))
    text = server.conf.read_text().replace("nightmail.example", "renamed.example")
    (folder / "new").write_text(text)
    (folder / "new").rename(server.conf)                # as editors do
    os.kill(server.process.pid, signal.SIGHUP)
    wait_until(lambda: server.said().count(" ready ") == 2 or "reloaded" in server.said(), 20, server.said)
    with smtplib.SMTP(server.address, server.port, timeout=30) as c:
        assert c.ehlo()[1].startswith(b"renamed.example")
    assert server.stop() == 0


def test_without_a_sandbox_it_is_said(folder, addresses, start):
    server = start(Nightmail(folder, addresses[0], users=[BOB], sandbox="no"))
    assert " sandbox-off " in server.said() and status(worker_of(server))["Seccomp"] == "0"
    assert server.stop() == 0
