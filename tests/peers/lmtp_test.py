"""
LMTP: our mailboxes are Dovecot's, over TCP and through its socket; and LMTP clients in front of us: Python's, swaks and msmtp.
"""
import email
import email.policy
import imaplib
import secrets
import smtplib
import subprocess

import pytest

from certificates import Authority
from dovecot import Dovecot
from messages import BODIES, assert_all_arrived, body_of, message, send_all
from nightmail import Nightmail
from proc import free_port, wait_until

ALICE, BOB, CAROL = "alice@here.example", "bob@here.example", "carol@here.example"
FULL, GONE = "full@here.example", "gone@here.example"


class House:
    """Nightmail, and Dovecot with the mailboxes: FULL has room for next to nothing, and GONE, whom Nightmail lists, is none of its users."""

    def __init__(self, folder, addresses, start, by_socket, **options):
        self.password = secrets.token_hex(8)
        self.dovecot = start(Dovecot(folder / "dovecot", addresses[0], free_port(addresses[0]), self.password,
                                     users={ALICE: None, BOB: None, CAROL: None, FULL: 1}))
        target = f"lmtp:unix:{self.link(folder)}" if by_socket else f"lmtp:[{self.dovecot.address}]:{self.dovecot.port}"
        self.ours = start(Nightmail(folder / "ours", addresses[1], users=[ALICE, BOB, CAROL, FULL, GONE], local_delivery=target,
                                    postmaster=ALICE, **options))

    def link(self, folder):
        """A socket's path has at most 107 bytes; the test's folder may stand deep."""
        (folder / "l").symlink_to(self.dovecot.lmtp_socket.parent)
        return folder / "l" / self.dovecot.lmtp_socket.name

    def drain(self):
        wait_until(lambda: self.ours.queued() == [], 30, lambda: self.ours.said() + self.dovecot.said())

    def mails(self, user):
        with imaplib.IMAP4(self.dovecot.address, self.dovecot.imap_port, timeout=30) as client:
            client.login(user, self.password)
            _, (count,) = client.select("INBOX")
            return [client.fetch(str(i + 1), "(RFC822)")[1][0][1] for i in range(int(count))]


@pytest.fixture(params=[False, True], ids=["tcp", "socket"])
def house(request, folder, addresses, start):
    return House(folder, addresses, start, request.param)


def send(server, sender, rcpts, name="plain", rcpt_options=()):
    with smtplib.SMTP(server.address, server.port, "tester.example", timeout=30) as client:
        client.sendmail(sender, rcpts, message(name, sender, rcpts[0]), ["BODY=8BITMIME"], rcpt_options)


def reports(raw):
    """The fields about each recipient of a DSN, by address."""
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    groups = list(mail.iter_parts())[1].get_payload()[1:]
    return {group["Final-Recipient"].split(";")[1].strip(): group for group in groups}


def test_dovecot_gives_out_what_it_got(house):
    send_all(house.ours, BOB, ALICE)
    house.drain()
    mails = house.mails(BOB)
    assert_all_arrived(mails)
    assert all(m.startswith(b"Return-Path: <alice@here.example>") for m in mails)
    assert all(b"Delivered-To: bob@here.example" in m for m in mails)


def test_each_recipient_has_an_end_of_his_own(house):
    send(house.ours, ALICE, [BOB, GONE, CAROL, FULL], name="many", rcpt_options=["NOTIFY=SUCCESS,FAILURE"])
    wait_until(lambda: len(house.mails(ALICE)) == 1, 30, lambda: house.ours.said() + house.dovecot.said())
    house.drain()
    assert body_of(house.mails(BOB)[0]) == BODIES["many"]
    assert body_of(house.mails(CAROL)[0]) == BODIES["many"]
    assert house.mails(FULL) == []
    dsn = house.mails(ALICE)[0]
    assert dsn.startswith(b"Return-Path: <>")
    told = reports(dsn)
    assert {user: told[user]["Action"] for user in told} == {BOB: "delivered", CAROL: "delivered", GONE: "failed", FULL: "failed"}
    assert told[GONE]["Status"] == "5.1.1"
    assert told[GONE]["Diagnostic-Code"].startswith("smtp; 550 5.1.1 ")
    assert told[FULL]["Status"] == "5.2.2"
    assert told[FULL]["Diagnostic-Code"].startswith("smtp; 552 5.2.2 ")


def test_nobody_is_known_to_dovecot(house):
    """The text went with the envelope, perhaps, and the connection is in step all the same."""
    for _ in range(3):
        send(house.ours, ALICE, [GONE])
        send(house.ours, ALICE, [BOB])
    house.drain()
    assert len(house.mails(BOB)) == 3
    dsns = house.mails(ALICE)
    assert len(dsns) == 3
    assert all(reports(m)[GONE]["Status"] == "5.1.1" for m in dsns)
    assert "lost connection" not in house.ours.said()


def hand_over(client, sender, rcpts, text):
    """Python's sendmail reads one reply after the text, however many recipients there are: so by hand. The codes of all."""
    client.ehlo_or_helo_if_needed()
    codes = [client.mail(sender)[0], *(client.rcpt(r)[0] for r in rcpts)]
    codes.append(client.docmd("DATA")[0])
    client.send(text + b".\r\n")
    return codes + [client.getreply()[0] for code in codes[1:-1] if code == 250]


def test_python_hands_over_by_lmtp(folder, addresses, start):
    path = f"{folder}/in"
    ours = start(Nightmail(folder / "ours", addresses[0], users=[ALICE, BOB], terms="service = lmtp", trusted_networks=[],
                           listeners=f'listen socket {{ address = "unix:{path}" service = lmtp }}\n'))
    text = message("plain", CAROL)
    with smtplib.LMTP(ours.address, ours.port) as client:
        client.sendmail(CAROL, [BOB], text)
        assert hand_over(client, CAROL, [BOB, GONE, ALICE, BOB], text) == [250, 250, 550, 250, 250, 354, 250, 250, 250]
        assert client.noop()[0] == 250
    with smtplib.LMTP(path) as client:
        assert hand_over(client, CAROL, [BOB, "x@elsewhere.invalid"], text) == [250, 250, 250, 354, 250, 250]
        assert client.noop()[0] == 250
    with smtplib.SMTP(ours.address, ours.port) as client:
        assert client.ehlo()[0] == client.helo()[0] == 500
    wait_until(lambda: (len(ours.mails(BOB)), len(ours.mails(ALICE))) == (3, 1), 20, ours.said)
    assert sorted(b"with LMTP" in m for m in ours.mails(BOB)) == [True] * 3


@pytest.fixture
def inner(folder, addresses, start):
    """Takes LMTP at its port, and at the socket "in" of the folder."""
    return start(Nightmail(folder / "ours", addresses[0], users=[ALICE, BOB], terms="service = lmtp",
                           listeners=f'listen socket {{ address = "unix:{folder}/in" service = lmtp }}\n'))


@pytest.mark.parametrize("by_socket", [False, True], ids=["tcp", "socket"])
def test_swaks_hands_over_by_lmtp(inner, folder, by_socket):
    where = ["--socket", folder / "in"] if by_socket else ["--server", inner.address, "--port", inner.port]
    argv = ["swaks", "--protocol", "LMTP", *where, "--helo", "tester.example", "--from", CAROL, "--to", f"{ALICE},{GONE},{BOB}", "--pipeline"]
    r = subprocess.run(list(map(str, argv)), capture_output=True, timeout=60)
    assert r.returncode == 0 and b"550 5.1.1" in r.stdout and r.stdout.count(b"250 2.0.0 ") == 2, r.stdout
    for user in (ALICE, BOB):
        assert b"with LMTP" in wait_until(lambda: inner.mails(user), 20, inner.said)[0]     # noqa: B023: called at once


def test_msmtp_hands_over_by_lmtp(inner):
    argv = ["msmtp", "--file=/dev/null", "--protocol=lmtp", f"--host={inner.address}", f"--port={inner.port}", "--tls=off", "--auth=off",
            "--domain=tester.example", f"--from={CAROL}", BOB, ALICE]
    r = subprocess.run(argv, input=message("dots").replace(b"\r\n", b"\n"), capture_output=True, timeout=60)
    assert r.returncode == 0, r.stderr
    for user in (ALICE, BOB):
        assert body_of(wait_until(lambda: inner.mails(user), 20, inner.said)[0]) == BODIES["dots"]    # noqa: B023


@pytest.mark.parametrize("by_socket", [False, True], ids=["tcp", "socket"])
def test_ours_to_ours(folder, addresses, start, by_socket):
    """With CHUNKING and DSN, which Dovecot does not have."""
    path = f"{folder}/in"
    behind = start(Nightmail(folder / "behind", addresses[0], users=[ALICE, BOB, CAROL], hostname="mx.here.example", terms="service = lmtp",
                             listeners=f'listen socket {{ address = "unix:{path}" service = lmtp }}\n'))
    target = f"lmtp:unix:{path}" if by_socket else f"lmtp:[{behind.address}]:{behind.port}"
    front = start(Nightmail(folder / "front", addresses[1], users=[ALICE, BOB, CAROL, GONE], hostname="mx.here.example", local_delivery=target,
                            postmaster=ALICE))
    send_all(front, BOB, ALICE)
    wait_until(lambda: len(behind.mails(BOB)) == len(BODIES), 30, lambda: front.said() + behind.said())
    assert_all_arrived(behind.mails(BOB))
    send(front, ALICE, [BOB, CAROL, GONE])
    wait_until(lambda: front.queued() == behind.queued() == [] and behind.mails(ALICE), 30, lambda: front.said() + behind.said())
    assert (len(behind.mails(BOB)), len(behind.mails(CAROL))) == (len(BODIES) + 1, 1)
    told = reports(behind.mails(ALICE)[0])
    assert list(told) == [GONE] and told[GONE]["Status"] == "5.1.1"


def test_under_tls_to_dovecot_and_from_it(folder, addresses, start):
    """Our LMTP client takes the STARTTLS that Dovecot offers; and its submission proxy gives us mail under TLS, our certificate verified."""
    authority = Authority(folder / "authority")
    mx, pair = addresses[1], authority.make("dovecot", ["dovecot.example"])
    ours = Nightmail(folder / "ours", mx, free_port(mx), users=[ALICE, BOB], hostname="mx.here.example", postmaster=ALICE,
                     local_delivery=f"lmtp:[{addresses[0]}]:{(port := free_port(addresses[0]))}", certificates=[authority.make("mx", ["mx.here.example"])])
    dovecot = Dovecot(folder / "dovecot", addresses[0], port, "pencil", hop=("mx.here.example", ours.port), more=(
        "ssl = yes\nssl_cert = </etc/tls/cert.pem\nssl_key = </etc/tls/key.pem\nssl_client_ca_file = /etc/tls/ca.pem\n"
        "submission_relay_ssl = starttls\nsubmission_relay_ssl_verify = yes\n"))
    dovecot.give_certificate(pair, authority)
    (dovecot.root / "etc/hosts").write_text(f"{mx} mx.here.example\n")
    start(dovecot)
    start(ours)
    with smtplib.SMTP(dovecot.address, dovecot.submission_port, "tester.example", timeout=30) as client:
        client.login(ALICE, "pencil")
        for name in BODIES:
            client.sendmail(ALICE, [BOB], message(name, ALICE, BOB), ["BODY=8BITMIME"])
    wait_until(lambda: ours.queued() == [], 30, lambda: ours.said() + dovecot.said())
    with imaplib.IMAP4(dovecot.address, dovecot.imap_port, timeout=30) as client:
        client.login(BOB, "pencil")
        _, (count,) = client.select("INBOX")
        mails = [client.fetch(str(i + 1), "(RFC822)")[1][0][1] for i in range(int(count))]
    assert_all_arrived(mails)
    by_dovecot, by_us = zip(*(m.split(b"Received:")[1:3] for m in mails))
    assert all(b"with LMTPS" in line or b"(using TLS" in line for line in by_dovecot), by_dovecot[0]
    assert all(b"with ESMTPS" in line for line in by_us), by_us[0]


def test_dovecot_away_is_waited_for(folder, addresses, start):
    house = House(folder, addresses, start, True, retry=["1s"])
    house.dovecot.stop()
    send(house.ours, ALICE, [BOB])
    wait_until(lambda: "deferred" in house.ours.said(), 20, house.ours.said)
    house.dovecot.start()
    house.drain()
    assert len(house.mails(BOB)) == 1
