"""
The server's processes: what a crash of the worker, and an end of the supervisor by force, leave behind.
"""
import os
import shutil
import signal
import smtplib
import socket
import subprocess
import time
from pathlib import Path

import pytest

from messages import message
from nightmail import PROGRAM, Nightmail
from proc import children, wait_until, workers

BOB = "bob@here.example"
ALICE = "alice@tester.example"


@pytest.fixture
def server(folder, addresses):
    server = Nightmail(folder, addresses[0], users=[BOB], relay_host=f"[{addresses[1]}]:9").start()
    yield server
    if server.process is not None:
        server.stop(server.crashes())


def client(server):
    return smtplib.SMTP(server.address, server.port, timeout=30)


def worker_of(server):
    [worker] = wait_until(lambda: workers(server.process.pid), 10, server.said)
    return worker


def crash(server, signo=signal.SIGSEGV):
    worker, before = worker_of(server), server.crashes()
    os.kill(worker, signo)
    wait_until(lambda: server.crashes() > before, 10, server.said)
    return worker


@pytest.mark.parametrize("signo", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_crashes_is_followed_by_another(server, signo):
    with client(server) as waiting:
        waiting.sendmail(ALICE, "carol@far.example", message("plain"))      # stays: nobody listens at the relay
    before = sorted(item["id"] for item in server.queued())
    if signo == signal.SIGTERM:                         # not a crash: it stops in good order, and the server with it
        os.kill(worker_of(server), signo)
        assert server.process.wait(30) == 0 and server.stop() == 0
        return
    crashed = crash(server, signo)
    with client(server) as again:                       # at once: it may still be starting, and then the connection waits
        again.sendmail(ALICE, BOB, message("plain"))
    assert worker_of(server) != crashed
    wait_until(lambda: len(server.mails(BOB)) == 1 and sorted(item["id"] for item in server.queued()) == before, 30, server.said)
    assert f"worker-crashed signal={int(signo)} " in server.said()
    if signo != signal.SIGKILL and "Sanitizer" not in server.said():
        assert f" crashed signal={int(signo)} " in server.said() and " crashed-at frames=" in server.said()
    assert server.stop(crashes=1) == 0


def test_no_connection_is_refused_while_there_is_no_worker(server):
    for _ in range(4):
        crash(server)
    waiting = [client_socket(server) for _ in range(20)]                    # in the pause: 400 ms
    for s in waiting:
        s.settimeout(30)
        assert s.recv(4) == b"220 "
        s.close()
    assert server.stop(crashes=4) == 0


def client_socket(server):
    return socket.create_connection((server.address, server.port), 5)


def test_it_stops_in_a_pause(server):
    for _ in range(5):
        crash(server)
    assert not workers(server.process.pid)             # the pause is 800 ms now
    server.process.terminate()
    assert server.process.wait(5) == 0
    assert server.stop(crashes=5) == 0


def test_the_next_worker_has_the_configuration_that_was_in_force(server):
    server.conf.write_text(server.conf.read_text().replace("nightmail.example", "renamed.example"))
    os.kill(server.process.pid, signal.SIGHUP)
    wait_until(lambda: "reloaded" in server.said(), 10, server.said)
    crash(server)
    wait_until(lambda: server.said().count(" ready ") == 2, 10, server.said)
    with client(server) as c:
        assert c.ehlo()[1].startswith(b"renamed.example")
    server.conf.write_text("nonsense = 1\n")            # nobody has asked for it to be read
    crash(server)
    wait_until(lambda: server.said().count(" ready ") == 3, 20, server.said)
    assert "reload-refused" in server.said()
    with client(server) as c:
        assert c.noop()[0] == 250
    assert server.stop(crashes=2) == 0


def test_nothing_is_left_of_a_server_that_was_killed(server):
    worker = worker_of(server)
    address, port = server.address, server.port
    server.conf.write_text(server.conf.read_text().replace(f"{address}:0", f"{address}:{port}"))
    server.process.kill()
    server.process.wait()
    server.start()                                      # waits for the lock if it must
    assert server.port == port
    assert not os.path.exists(f"/proc/{worker}") or worker in children(1)
    with client(server) as c:
        c.sendmail(ALICE, BOB, message("plain"))
    wait_until(lambda: len(server.mails(BOB)) == 1, 30, server.said)
    assert server.stop() == 0


def test_a_server_that_stops_takes_no_connections(server):
    """Also not into the kernel's queue: the supervisor has let go of its sockets."""
    c = client(server)
    assert [c.ehlo()[0], c.mail(ALICE)[0], c.rcpt(BOB)[0], c.docmd("DATA")[0]] == [250, 250, 250, 354]   # keeps the worker for its grace period
    server.process.terminate()
    wait_until(lambda: refused(server), 10, server.said)
    assert server.process.poll() is None
    c.send("Subject: late\r\n\r\nhello\r\n.\r\n")
    assert c.getreply()[0] == 250
    c.close()
    assert server.stop() == 0


def refused(server):
    try:
        client_socket(server).close()
    except ConnectionRefusedError:
        return True
    return False


def generation(server, action):
    """Until another worker has followed the one that was."""
    before = server.said().count(" generation ")
    action()
    wait_until(lambda: server.said().count(" generation ") > before, 20, server.said)
    wait_until(lambda: len(workers(server.process.pid)) == 1, 20, server.said)


def test_a_session_goes_on_while_another_worker_takes_over(server):
    was = worker_of(server)
    c = client(server)
    assert [c.ehlo()[0], c.mail(ALICE)[0], c.rcpt(BOB)[0], c.docmd("DATA")[0]] == [250, 250, 250, 354]
    before = server.said().count(" generation ")
    os.kill(server.process.pid, signal.SIGUSR2)
    wait_until(lambda: server.said().count(" generation ") > before, 20, server.said)
    assert len(workers(server.process.pid)) == 2
    wait_until(lambda: "draining" in server.said(), 20, server.said)
    with client(server) as another:                     # with the new one, unless it was very quick
        another.sendmail(ALICE, BOB, message("plain"))
    c.send("Subject: late\r\n\r\nhello\r\n.\r\n")
    assert c.getreply()[0] == 250
    c.sendmail(ALICE, BOB, message("plain"))
    c.quit()
    wait_until(lambda: len(server.mails(BOB)) == 3, 30, server.said)    # the new one has taken over what the old one accepted
    assert worker_of(server) != was
    wait_until(lambda: server.queued() == [], 20, server.said)          # a file is there before its settle is
    assert server.stop() == 0


def test_a_reload_may_ask_for_other_sockets(server):
    other = "127.1.1.1"
    text = server.conf.read_text()
    held = client(server)
    held.ehlo()

    def listen_there():
        server.conf.write_text(text + f'listen "more" {{ address = "{other}:0" }}\ncontrol_socket = "{server.folder}/another"\n')
        os.kill(server.process.pid, signal.SIGHUP)
    before = server.said().count(" generation ")
    listen_there()
    wait_until(lambda: server.said().count(" generation ") > before, 20, server.said)
    port = int(server.said().rpartition(f"{other}:")[2].split()[0].strip('"'))
    with smtplib.SMTP(other, port, timeout=30) as c, client(server) as same:
        assert c.noop()[0] == 250 and same.noop()[0] == 250
    assert held.noop()[0] == 250
    held.quit()
    assert server.queued() == []                        # by the other control socket
    wait_until(lambda: len(workers(server.process.pid)) == 1, 20, server.said)
    server.conf.write_text(text)
    generation(server, lambda: os.kill(server.process.pid, signal.SIGHUP))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((other, port), 5)
    assert server.queued() == [] and not (server.folder / "another").exists()
    assert server.stop() == 0


def test_the_one_before_goes_on_when_another_cannot_start(server):
    was = worker_of(server)
    text = server.conf.read_text()
    server.conf.write_text(text + 'listen "more" { address = "203.0.113.9:0" }\n')      # no address of this machine
    os.kill(server.process.pid, signal.SIGHUP)
    wait_until(lambda: "reload-refused" in server.said(), 20, server.said)
    server.conf.write_text(text + 'dns_trust_anchor = "/nowhere"\n')
    os.kill(server.process.pid, signal.SIGHUP)
    wait_until(lambda: "generation-failed" in server.said(), 20, server.said)
    assert worker_of(server) == was
    with client(server) as c:
        c.sendmail(ALICE, BOB, message("plain"))
    wait_until(lambda: len(server.mails(BOB)) == 1, 30, server.said)
    assert server.stop() == 0


def test_a_worker_that_hangs_is_ended(folder, addresses):
    with Nightmail(folder, addresses[0], users=[BOB], hang_time="1s") as server:
        hanging = worker_of(server)
        os.kill(hanging, signal.SIGSTOP)
        wait_until(lambda: server.crashes() == 1, 20, server.said)
        with client(server) as c:
            assert c.noop()[0] == 250
        assert "worker-hangs" in server.said() and worker_of(server) != hanging
        both = [server.process.pid, worker_of(server)]
        wait_until(lambda: server.said().count(" ready ") == 2, 20, server.said)
        for signo in (signal.SIGSTOP, signal.SIGCONT):  # who stands still together does not hang
            for pid in both:
                os.kill(pid, signo)
            time.sleep(2.5)
        assert server.crashes() == 1 and worker_of(server) == both[1]
        assert server.stop(crashes=1) == 0


def test_a_server_that_is_told_to_stop_does_not_wait_for_the_sessions_of_before(server):
    c = client(server)
    c.ehlo()
    before = server.said().count(" generation ")
    os.kill(server.process.pid, signal.SIGUSR2)
    wait_until(lambda: server.said().count(" generation ") > before, 20, server.said)
    wait_until(lambda: "draining" in server.said(), 20, server.said)
    server.process.terminate()
    assert server.process.wait(10) == 0                 # drain_time is a minute
    c.close()
    assert server.stop() == 0


def test_a_message_that_crashes_worker_after_worker_is_held(folder, addresses):
    folder.mkdir(exist_ok=True)
    preload = folder / "crash_on.so"
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", preload, Path(__file__).parent / "lib/crash_on.c", "-ldl"], check=True)
    with Nightmail(folder / "here", addresses[0], users=[BOB], env={"LD_PRELOAD": str(preload)}) as server:
        if "Sanitizer" in server.said():
            pytest.skip("the sanitizer has the reports")
        with client(server) as c:
            c.sendmail(ALICE, BOB, b"Subject: CRASH-ME\r\n\r\nhello\r\n")
        wait_until(lambda: "message-quarantined" in server.said(), 30, server.said)
        assert server.crashes() == 3
        with client(server) as c:
            c.sendmail(ALICE, BOB, message("plain"))
        wait_until(lambda: len(server.mails(BOB)) == 1, 30, server.said)
        [item] = server.queued()
        assert item["state"] == "held" and f"id={item['id']} " in server.said()
        assert server.stop(crashes=3) == 0


def test_a_later_worker_that_cannot_start_is_tried_again(server):
    was = worker_of(server)
    drain = server.data / "drain"
    drain.rename(server.data / "drained")
    drain.write_text("in the way")                      # of a queue that is to be taken over
    os.kill(was, signal.SIGKILL)
    wait_until(lambda: server.said().count("worker-failed") >= 2, 20, server.said)
    drain.unlink()
    with client(server) as c:
        assert c.noop()[0] == 250
    assert server.stop(crashes=1) == 0


def test_an_upgrade_is_the_program_on_the_disk(folder, addresses):
    """The worker, the keeper and their supervisor; a program that does not start leaves all as it was."""
    program = folder / "program"
    shutil.copy(PROGRAM, program)
    with Nightmail(folder / "here", addresses[0], users=[BOB], program=program) as server:
        def exes():
            return {os.readlink(f"/proc/{pid}/exe") for pid in [server.process.pid, *children(server.process.pid)]}

        def put(content):
            (folder / "next").write_bytes(content)
            (folder / "next").chmod(0o755)
            (folder / "next").rename(program)

        held = client(server)
        assert [held.ehlo()[0], held.mail(ALICE)[0], held.rcpt(BOB)[0]] == [250, 250, 250]
        was = worker_of(server)
        put(PROGRAM.read_bytes())
        assert exes() == {f"{program} (deleted)"}
        r = server.command("upgrade")
        assert r.returncode == 0 and r.stdout.startswith(b"nightmail ") and was in workers(server.process.pid), r
        assert held.data(message("plain"))[0] == 250
        held.quit()
        wait_until(lambda: len(server.mails(BOB)) == 1 and exes() == {str(program)}, 20, server.said)
        now = worker_of(server)
        os.kill(now, signal.SIGKILL)                    # the supervisor that it has become does what the one before did
        wait_until(lambda: server.crashes() == 1 and worker_of(server) != now, 20, server.said)
        now = worker_of(server)
        put(b"#!/bin/false\n")
        wait_until(lambda: server.said().count(" ready ") == 3, 20, server.said)
        os.kill(server.process.pid, signal.SIGUSR2)
        wait_until(lambda: "generation-failed" in server.said(), 20, server.said)
        with client(server) as c:
            c.sendmail(ALICE, BOB, message("plain"))
        wait_until(lambda: len(server.mails(BOB)) == 2, 20, server.said)
        assert worker_of(server) == now and server.stop(crashes=1) == 0
