"""
Other people's clients hand mail to our server, and it lies in the Maildir as it was sent.
"""
import smtplib
import subprocess

import pytest

from messages import BODIES, assert_all_arrived, body_of, message, send_all, subject_of
from nightmail import Nightmail
from postfix import tool
from proc import wait_until

BOB, CAROL = "bob@here.example", "carol@here.example"


@pytest.fixture
def server(folder, addresses, start):
    return start(Nightmail(folder, addresses[0], users=[BOB, CAROL, "postmaster@here.example"]))


def arrived(server, count, user=BOB):
    return wait_until(lambda: len(server.mails(user)) >= count and server.mails(user), 30, server.said)


def run(*argv, **options):
    r = subprocess.run(list(map(str, argv)), capture_output=True, timeout=60, **options)
    assert r.returncode == 0, (r.returncode, r.stdout, r.stderr)
    return r


def test_smtplib_every_body(server):
    send_all(server, BOB)
    assert_all_arrived(arrived(server, len(BODIES)))


def test_smtplib_two_recipients_in_one_transaction(server):
    with smtplib.SMTP(server.address, server.port, timeout=30) as client:
        client.sendmail("alice@tester.example", [BOB, CAROL], message("plain"))
    for user in (BOB, CAROL):
        assert body_of(arrived(server, 1, user)[0]) == BODIES["plain"]


def test_smtplib_is_told_of_one_unknown_recipient(server):
    with smtplib.SMTP(server.address, server.port, timeout=30) as client:
        refused = client.sendmail("alice@tester.example", [BOB, "nobody@here.example"], message("plain"))
    assert list(refused) == ["nobody@here.example"]
    code, text = refused["nobody@here.example"]
    assert code == 550 and text.startswith(b"5.1.1 ")
    assert len(arrived(server, 1)) == 1


def test_smtplib_sees_the_extensions(server):
    with smtplib.SMTP(server.address, server.port, timeout=30) as client:
        client.ehlo()
        assert all(client.has_extn(name) for name in ("PIPELINING", "SIZE", "8BITMIME", "ENHANCEDSTATUSCODES"))


@pytest.mark.parametrize("pipeline", [[], ["--pipeline"]], ids=["stepwise", "pipelined"])
def test_swaks(server, folder, pipeline):
    (folder / "mail").write_bytes(message("dots").replace(b"\r\n", b"\n")[:-1])      # swaks adds a last line's end
    run("swaks", "--server", server.address, "--port", server.port, "--helo", "tester.example", "--from", "alice@tester.example",
        "--to", BOB, "--data", f"@{folder}/mail", *pipeline)
    assert body_of(arrived(server, 1)[0]) == BODIES["dots"]


def test_swaks_is_told_of_an_unknown_user(server):
    r = subprocess.run(["swaks", "--server", server.address, "--port", str(server.port), "--helo", "tester.example", "--from",
                        "alice@tester.example", "--to", "nobody@here.example"], capture_output=True, timeout=60)
    assert r.returncode == 24 and b"<** 550 5.1.1 " in r.stdout, r.stdout        # 24: no recipient was accepted


def test_msmtp(server):
    run("msmtp", "--file=/dev/null", f"--host={server.address}", f"--port={server.port}", "--tls=off", "--auth=off", "--domain=tester.example",
        "--from=alice@tester.example", BOB, input=message("spaces").replace(b"\r\n", b"\n"))
    assert body_of(arrived(server, 1)[0]) == BODIES["spaces"]


def test_curl(server, folder):
    (folder / "mail").write_bytes(message("many"))
    run("curl", "--silent", "--show-error", "--url", f"smtp://{server.address}:{server.port}/tester.example", "--mail-from", "alice@tester.example",
        "--mail-rcpt", BOB, "--upload-file", folder / "mail")
    assert body_of(arrived(server, 1)[0]) == BODIES["many"]


@pytest.mark.parametrize("kept", [[], ["-d"]], ids=["new-connections", "kept-connections"])
def test_smtp_source_1000_messages_20_sessions(server, kept):
    run(*tool("smtp-source", "-s", 20, "-m", 1000, "-l", 2000, "-f", "alice@tester.example", "-t", BOB, "-M", "tester.example", *kept,
              f"{server.address}:{server.port}"))
    mails = arrived(server, 1000)
    assert len(mails) == 1000
    assert len({m.split(b"\nReceived:")[1] for m in mails}) == 1000              # each has an id of its own
    wait_until(lambda: server.queued() == [], 10, "the queue to be empty")


def test_sendmail_t_i(server):
    r = server.command("sendmail", "-t", "-i", "-f", "alice@tester.example", "-C", server.conf,
                       input=b"From: alice@tester.example\nTo: bob@here.example\nBcc: carol@here.example\nSubject: by hand\n\nfirst\n.\nlast\n")
    assert r.returncode == 0, r.stderr
    for user in (BOB, CAROL):
        mail = arrived(server, 1, user)[0]
        assert body_of(mail) == ["first", ".", "last"]
        assert subject_of(mail) == "by hand"
        assert b"carol" not in mail.split(b"\nSubject:")[1]
    assert b"\nBcc:" not in arrived(server, 1)[0]


def test_sendmail_gives_it_to_all_or_to_nobody(server):
    """Whoever gives it again after an error must not make it arrive twice."""
    r = server.command("sendmail", "-i", "-C", server.conf, "bob@here.example", "nobody@here.example", "carol@here.example",
                       input=b"Subject: for three\n\nhello\n")
    assert r.returncode == 67 and b"550" in r.stderr, r.stderr
    r = server.command("sendmail", "-i", "-C", server.conf, "bob@here.example", "carol@here.example", input=b"Subject: for two\n\nhello\n")
    assert r.returncode == 0, r.stderr
    for user in (BOB, CAROL):
        assert subject_of(arrived(server, 1, user)[0]) == "for two"


def test_sendmail_asks_for_reports(server):
    """-N, -R and -V as Postfix's sendmail has them (RFC 3461)."""
    r = server.command("sendmail", "-i", "-C", server.conf, "-f", CAROL, "-N", "success,delay", "-R", "hdrs", "-V", "order 66+7", BOB,
                       input=b"Subject: reported\n\nhello\n")
    assert r.returncode == 0, r.stderr
    report = arrived(server, 1, CAROL)[0]
    assert b"\nOriginal-Envelope-Id: order 66+7\n" in report and b"\nAction: delivered\n" in report and b"\nhello\n" not in report
    for wrong in (["-N", "never,delay"], ["-N", "sometimes"], ["-N", ""], ["-R", "body"], ["-V", ""], ["-V", "a\nb"], ["-V", "x" * 101]):
        assert server.command("sendmail", "-i", "-C", server.conf, *wrong, BOB, input=b"\n").returncode == 64


def test_sendmail_with_the_server_down_says_try_again(server):
    assert server.stop() == 0
    r = server.command("sendmail", "-t", "-i", "-C", server.conf, input=b"To: bob@here.example\n\nhello\n")
    assert r.returncode == 75


def test_what_it_took_it_still_has_after_a_restart(folder, addresses, start):
    """Nobody listens at the next hop: the mail waits, also through a stop and a start."""
    server = start(Nightmail(folder, addresses[0], relay_host=f"[{addresses[1]}]:9"))
    send_all(server, "bob@elsewhere.example")
    before = sorted(item["id"] for item in server.queued())
    assert len(before) == len(BODIES)
    assert server.stop() == 0
    server.start()
    assert sorted(item["id"] for item in server.queued()) == before
