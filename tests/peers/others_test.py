"""
Our server and those of other houses, each before and behind the other: what comes through, what comes back.
"""
import email
import email.policy
import imaplib
import secrets
import smtplib

import pytest

from dovecot import Dovecot
from exim import Exim
from messages import BODIES, assert_all_arrived, message, send_all
from nightmail import Nightmail
from opensmtpd import OpenSmtpd
from proc import free_port, wait_until

ALICE, BOB = "alice@ours.example", "bob@theirs.example"

ZONE = """$ORIGIN example.
$TTL 60
@         IN SOA ns hostmaster 1 3600 600 86400 60
@         IN NS  ns
ns        IN A   127.0.0.1
ours      IN MX  10 mx.ours
mx.ours   IN A   {ours}
theirs    IN MX  10 mx.theirs
mx.theirs IN A   {theirs}
"""


@pytest.fixture(params=[Exim, OpenSmtpd], ids=lambda server: server.NAME)
def pair(request, folder, addresses, start):
    """(ours, theirs). Ours finds theirs by MX; theirs sends everything that is not its own to ours."""
    ours_at, theirs_at = addresses[:2]
    port, our_port = free_port(theirs_at), free_port(ours_at)
    theirs = request.param(folder / "theirs", theirs_at, port, [BOB], (ours_at, our_port), hostname="mx.theirs.example")
    ours = Nightmail(folder / "ours", ours_at, our_port, users=[ALICE, "postmaster@ours.example"], hostname="mx.ours.example",
                     zone=ZONE.format(ours=ours_at, theirs=theirs_at), smtp_port=port)
    return start(ours), start(theirs)


def arrived(server, user, count, *servers):
    return wait_until(lambda: len(server.mails(user)) >= count and server.mails(user), 40,
                      lambda: "\n".join(s.said() for s in (server, *servers)))


def test_ours_to_theirs_by_mx(pair):
    ours, theirs = pair
    send_all(ours, BOB, ALICE)
    assert_all_arrived(arrived(theirs, BOB, len(BODIES), ours))
    wait_until(lambda: ours.queued() == [], 10, "our queue to be empty")


def test_theirs_to_ours(pair):
    ours, theirs = pair
    send_all(theirs, ALICE, "carol@elsewhere.example")
    assert_all_arrived(arrived(ours, ALICE, len(BODIES), theirs))
    wait_until(lambda: theirs.queued() == 0, 20, "their queue to be empty")


def test_our_bounce_has_their_words(pair):
    ours, theirs = pair
    with smtplib.SMTP(ours.address, ours.port, timeout=30) as client:
        client.sendmail(ALICE, ["nobody@theirs.example"], message("plain", ALICE))
    mail = email.message_from_bytes(arrived(ours, ALICE, 1, theirs)[0], policy=email.policy.default)
    status = list(mail.iter_parts())[1].get_payload()
    assert status[1]["Action"] == "failed"
    assert status[1]["Diagnostic-Code"].startswith("smtp; 5")


def test_their_bounce_arrives_at_us(pair):
    ours, theirs = pair
    with smtplib.SMTP(theirs.address, theirs.port, timeout=30) as client:
        client.sendmail(ALICE, ["nobody@ours.example"], message("plain", ALICE))
    mail = email.message_from_bytes(arrived(ours, ALICE, 1, theirs)[0], policy=email.policy.default)
    assert mail["Return-Path"] == "<>"
    assert "550 5.1.1" in mail.as_string()


def test_dovecot_reads_what_we_delivered(folder, addresses, start):
    password = secrets.token_hex(8)
    dovecot = start(Dovecot(folder / "dovecot", addresses[0], free_port(addresses[0]), password))
    ours = start(Nightmail(folder / "ours", addresses[1], users=[ALICE], mailbox=f"{dovecot.root}/mail/{{user}}@{{domain}}"))
    send_all(ours, ALICE, BOB)
    wait_until(lambda: ours.queued() == [], 30, ours.said)
    dovecot.give_mailboxes()
    with imaplib.IMAP4(dovecot.address, dovecot.imap_port, timeout=30) as client:
        client.login(ALICE, password)
        _, (count,) = client.select("INBOX")
        assert int(count) == len(BODIES)
        mails = [client.fetch(str(i + 1), "(RFC822)")[1][0][1] for i in range(int(count))]
    assert_all_arrived(mails)
