"""
LMTP: our mailboxes are Dovecot's, over TCP and through its socket; and Python's LMTP client in front of us.
"""
import email
import email.policy
import imaplib
import secrets
import smtplib

import pytest

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
        self.ours = start(Nightmail(folder / "ours", addresses[1], users=[ALICE, BOB, CAROL, FULL, GONE], local_delivery=target, **options))

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


def test_dovecot_away_is_waited_for(folder, addresses, start):
    house = House(folder, addresses, start, True, retry=["1s"])
    house.dovecot.stop()
    send(house.ours, ALICE, [BOB])
    wait_until(lambda: "deferred" in house.ours.said(), 20, house.ours.said)
    house.dovecot.start()
    house.drain()
    assert len(house.mails(BOB)) == 1
