"""
Our server's client against smtp-sink, plain and in its moods.
"""
import subprocess

import pytest

from messages import BODIES, send_all, subject_of
from nightmail import Nightmail
from postfix import tool
from proc import wait_until
from sink import Sink


def relay(folder, addresses, start, sink_args=(), store=False, **options):
    sink = start(Sink(folder / "sink", addresses[1], store=store, args=sink_args))
    server = start(Nightmail(folder / "ours", addresses[0], relay_host=f"[{sink.address}]:{sink.port}", **options))
    return server, sink


def test_every_body(folder, addresses, start):
    server, sink = relay(folder, addresses, start, store=True)
    send_all(server, "bob@elsewhere.example")
    wait_until(lambda: sink.messages == len(BODIES) and server.queued() == [], 30, server.said)
    mails = sink.mails()
    assert sorted(subject_of(m) for m in mails) == sorted(BODIES)
    for mail in mails:
        lines = mail.decode().split("\n")
        start_of_body = lines.index("", lines.index("Content-Transfer-Encoding: 8bit")) + 1
        assert lines[start_of_body:-2] == BODIES[subject_of(mail)]               # smtp-sink adds an empty line
        assert "X-Rcpt-Args: <bob@elsewhere.example>" in lines


@pytest.mark.parametrize("mood", [[], ["-p"], ["-e"], ["-8", "-E", "-N"]], ids=["plain", "no-pipelining", "helo-only", "few-extensions"])
def test_many_messages(folder, addresses, start, mood):
    server, sink = relay(folder, addresses, start, mood)
    subprocess.run(tool("smtp-source", "-s", 10, "-m", 300, "-l", 1000, "-f", "alice@tester.example", "-t", "bob@elsewhere.example", "-M",
                        "tester.example", "-d", f"{server.address}:{server.port}"), check=True, timeout=60)
    wait_until(lambda: sink.messages >= 300 and server.queued() == [], 40, server.said)
    assert sink.messages == 300


@pytest.mark.parametrize("moment", ["CONNECT", "MAIL", "RCPT", "DATA", "."])
def test_deferred_mail_waits(folder, addresses, start, moment):
    """Refused for now, at any moment: it stays in the queue, with the words that were said."""
    server, sink = relay(folder, addresses, start, ["-r", moment])
    send_one(server)
    item = wait_until(lambda: "deferred" in server.said() and server.queued(), 20, server.said)
    assert len(item) == 1
    shown = server.command("queue", "show", item[0]["id"], "-c", server.conf)
    assert shown.returncode == 0 and b"4.3.0 Error: command failed" in shown.stdout, shown.stdout


@pytest.mark.parametrize("moment", ["MAIL", "RCPT", "DATA", "."])
def test_refused_mail_comes_back(folder, addresses, start, moment):
    alice = "alice@ours.example"
    server, sink = relay(folder, addresses, start, ["-f", moment], users=[alice])
    send_one(server, alice)
    report = wait_until(lambda: server.mails(alice), 20, server.said)[0]
    assert b"5.3.0 Error: command failed" in report
    wait_until(lambda: server.queued() == [], 10, "the queue to be empty")


@pytest.mark.parametrize("moment", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."])
def test_a_connection_that_breaks_is_tried_again(folder, addresses, start, moment):
    server, sink = relay(folder, addresses, start, ["-q", moment], retry=["200ms"])
    send_one(server)
    wait_until(lambda: server.said().count("deferred") >= 2, 20, server.said)
    assert len(server.queued()) == 1


def send_one(server, sender="alice@tester.example"):
    subprocess.run(tool("smtp-source", "-f", sender, "-t", "bob@elsewhere.example", "-M", "tester.example", f"{server.address}:{server.port}"),
                   check=True, timeout=30)
