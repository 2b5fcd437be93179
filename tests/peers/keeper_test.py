"""
The keeper as a process: the worker that strangers talk to has no secret in its memory, and a keeper that is killed costs a moment.
"""
import os
import re
import signal
import smtplib
import ssl
import subprocess
import time

import pytest

from messages import message
from nightmail import Nightmail
from proc import aide, wait_until, workers

ALICE, BOB, PASSWORD = "alice@here.example", "bob@here.example", "a pencil of ours"


def openssl(*argv):
    return subprocess.run(["openssl", *map(str, argv)], capture_output=True, check=True, timeout=60).stdout


@pytest.fixture
def server(folder, addresses, start):
    """alice may log in by TLS; mail for elsewhere goes to a relay host that wants a password."""
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=mx.here.example", "-days", "2",
            "-keyout", folder / "key.pem", "-out", folder / "cert.pem")
    os.chmod(folder / "key.pem", 0o600)
    (folder / "relay-password").write_text("relay secret of ours\n")
    (folder / "accounts").touch()
    s = Nightmail(folder, addresses[0], users=[ALICE, BOB], hostname="mx.here.example", accounts_file=folder / "accounts",
                  auth_failure_delay="0s", terms="service = submission", certificates=[(folder / "cert.pem", folder / "key.pem")],
                  relay_host=f"[{addresses[1]}]:9", relay_host_user="us", relay_host_password=f"file:{folder}/relay-password")
    added = s.command("user", "add", ALICE, input=PASSWORD.encode() + b"\n")
    assert added.returncode == 0, added.stderr
    return start(s)


def client(server):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    c = smtplib.SMTP(server.address, server.port, timeout=60)
    c.starttls(context=context)
    return c


def worker_of(server):
    [worker] = wait_until(lambda: workers(server.process.pid), 10, server.said)
    return worker


def keeper_of(server):
    return wait_until(lambda: aide(server.process.pid, "keeper"), 10, server.said)


def memory(pid):
    """All that the process has in its memory, in pieces."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            low, high, rights = re.match(r"(\w+)-(\w+) (\S+)", line).groups()
            if not rights.startswith("rw"):
                continue
            mem.seek(int(low, 16))
            try:
                yield mem.read(int(high, 16) - int(low, 16))
            except OSError:
                pass                                    # pages that nobody may read


def found(pid, secrets):
    seen = set()
    for piece in memory(pid):
        seen |= {name for name, forms in secrets.items() if any(form in piece for form in forms)}
    return seen


def test_the_worker_has_no_secret(server, folder):
    with client(server) as c:                           # all of them have been used
        c.login(ALICE, PASSWORD)
        c.sendmail(ALICE, BOB, message("plain").replace(b"alice@tester.example", ALICE.encode()))
    text = openssl("pkey", "-in", folder / "key.pem", "-noout", "-text").decode()
    scalar = bytes.fromhex(re.search(r"priv:\s*([0-9a-f:\s]+?)pub:", text).group(1).replace(":", "").replace("\n", "").replace(" ", ""))[-32:]
    pem = (folder / "key.pem").read_text().splitlines()
    account = (folder / "accounts").read_text().strip().splitlines()[-1].split(":")[1]
    secrets = {
        "key": [scalar[-24:], scalar[::-1][:24]],       # as a number in either order
        "key file": [pem[2].encode()],
        "password hash": [account.rpartition("$")[2].encode()],
        "relay password": [b"relay secret of ours"],
    }
    try:
        assert found(worker_of(server), secrets) == set()
        assert found(server.process.pid, secrets) == set()
        assert {"key", "password hash"} <= found(keeper_of(server), secrets)     # so the search finds what is there
    except PermissionError:
        pytest.skip("nobody's memory may be read here")
    opened = {os.path.realpath(f"/proc/{worker_of(server)}/fd/{fd}") for fd in os.listdir(f"/proc/{worker_of(server)}/fd")}
    assert not opened & {str(folder / name) for name in ("key.pem", "accounts", "relay-password")}
    assert server.stop() == 0


def test_the_keeper_has_nothing_of_the_supervisors(server):
    names = [os.readlink(f"/proc/{keeper_of(server)}/fd/{fd}") for fd in os.listdir(f"/proc/{keeper_of(server)}/fd")]
    assert not [n for n in names if "lock" in n or "journal" in n or "/control" in n]
    sockets = [n for n in names if n.startswith("socket:")]
    listening = open("/proc/net/tcp").read()
    assert sockets and not [n for n in sockets if f" {n[8:-1]} " in listening]
    assert server.stop() == 0


@pytest.mark.parametrize("signo", [signal.SIGKILL, signal.SIGSEGV])
def test_a_keeper_that_is_killed_is_followed_by_another(server, signo):
    worker, before = worker_of(server), keeper_of(server)
    with client(server) as waiting:
        waiting.ehlo()
        os.kill(before, signo)
        wait_until(lambda: "aide-crashed name=keeper" in server.said(), 10, server.said)
        waiting.login(ALICE, PASSWORD)                  # waits for the next one
    with client(server) as c:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            c.login(ALICE, "wrong")
    assert keeper_of(server) != before and worker_of(server) == worker
    assert server.stop() == 0


def test_a_keeper_that_comes_up_without_accounts_still_signs(server, folder):
    accounts = (folder / "accounts").read_text()
    (folder / "accounts").write_text("nonsense\n")
    os.kill(keeper_of(server), signal.SIGKILL)
    wait_until(lambda: "accounts-unreadable" in server.said(), 20, server.said)
    with client(server) as c:                           # the handshake is the test
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            c.login(ALICE, PASSWORD)
        assert refused.value.smtp_code == 454
    (folder / "accounts").write_text(accounts)
    wait_until(lambda: "accounts-readable" in server.said(), 20, server.said)
    with client(server) as c:
        c.login(ALICE, PASSWORD)
    assert server.stop() == 0


def test_a_worker_that_crashes_finds_the_same_keeper(server):
    keeper, worker = keeper_of(server), worker_of(server)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: server.said().count(" ready ") == 2, 20, server.said)
    with client(server) as c:
        c.login(ALICE, PASSWORD)
    assert keeper_of(server) == keeper
    assert server.stop(crashes=1) == 0


def test_a_stopped_keeper_costs_one_moment_each(server):
    """It hangs: what is asked is not answered, and nobody is let in."""
    keeper = keeper_of(server)
    c = client(server)
    os.kill(keeper, signal.SIGSTOP)
    began = time.monotonic()
    c.ehlo()
    c.user, c.password = ALICE, PASSWORD
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        c.auth("PLAIN", c.auth_plain)
    assert refused.value.smtp_code == 454 and time.monotonic() - began < 40
    os.kill(keeper, signal.SIGCONT)
    c.close()
    with client(server) as again:
        again.login(ALICE, PASSWORD)
    assert server.stop() == 0
