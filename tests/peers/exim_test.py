"""
CHUNKING and SMTPUTF8 between our server and Exim, which alone among the other servers sends by BDAT.
"""
import re
import smtplib

import pytest

from exim import Exim
from messages import BODIES, assert_all_arrived, message, send_all, subject_of
from nightmail import Nightmail
from proc import free_port, wait_until

ALICE, JUERGEN, BOB, ROBERT = "alice@ours.example", "jürgen@ours.example", "bob@theirs.example", "röbert@theirs.example"

ZONE = """$ORIGIN example.
$TTL 60
@         IN SOA ns hostmaster 1 3600 600 86400 60
@         IN NS  ns
ns        IN A   127.0.0.1
theirs    IN MX  10 mx.theirs
mx.theirs IN A   {theirs}
"""


def make_pair(folder, addresses, start, smtputf8=True, **options):
    """(ours, theirs): each sends the other's mail there."""
    ours_at, theirs_at = addresses[:2]
    port, our_port = free_port(theirs_at), free_port(ours_at)
    theirs = Exim(folder / "theirs", theirs_at, port, [BOB, ROBERT], (ours_at, our_port), hostname="mx.theirs.example",
                  main="allow_utf8_domains\nlog_selector = +all\nsmtputf8_advertise_hosts = " + ("*" if smtputf8 else ""))
    ours = Nightmail(folder / "ours", ours_at, our_port, users=[ALICE, JUERGEN], hostname="mx.ours.example",
                     zone=ZONE.format(theirs=theirs_at), smtp_port=port, **options)
    return start(ours), start(theirs)


@pytest.fixture
def pair(folder, addresses, start):
    return make_pair(folder, addresses, start)


def said(*servers):
    return lambda: "\n".join(s.said() for s in servers)


def mails_of_juergen(ours):
    folder = ours.data / "mail/ours.example/j%C3%BCrgen/new"
    return [f.read_bytes() for f in folder.iterdir()] if folder.is_dir() else []


def international(sender, rcpt, subject="Grüße"):
    return f"From: <{sender}>\r\nTo: <{rcpt}>\r\nSubject: {subject}\r\n\r\nhello\r\n".encode()


def large(sender, rcpt):
    return message("plain", sender, rcpt, "large") + b"0123456789 and so on, up to the end of the line\r\n" * 60000


def send_large(server, sender, rcpt):
    with smtplib.SMTP(server.address, server.port, timeout=60) as client:
        client.sendmail(sender, [rcpt], large(sender, rcpt))


def assert_all_and_large(mails, sender, rcpt):
    assert_all_arrived([m for m in mails if subject_of(m) != "large"])
    arrived, = [m for m in mails if subject_of(m) == "large"]
    assert arrived.replace(b"\r\n", b"\n").endswith(large(sender, rcpt)[-1000000:].replace(b"\r\n", b"\n"))


def chunked(theirs, sign):
    """Of the messages that came to Exim, or went, as the sign says: which did so in chunks."""
    lines = [line for line in (theirs.root / "var/log/exim4/mainlog").read_text().splitlines() if f" {sign} " in line]
    return [re.search(r"\bK\b", line) is not None for line in lines]


def test_ours_to_exim_by_bdat(pair):
    ours, theirs = pair
    send_all(ours, BOB, ALICE)
    send_large(ours, ALICE, BOB)
    mails = wait_until(lambda: len(theirs.mails(BOB)) > len(BODIES) and theirs.mails(BOB), 60, said(ours, theirs))
    assert_all_and_large(mails, ALICE, BOB)
    assert chunked(theirs, "<=") == [True] * len(mails)


def test_exim_to_ours_by_bdat(pair):
    ours, theirs = pair
    send_all(theirs, ALICE, BOB)
    send_large(theirs, BOB, ALICE)
    mails = wait_until(lambda: len(ours.mails(ALICE)) > len(BODIES) and ours.mails(ALICE), 60, said(ours, theirs))
    assert_all_and_large(mails, BOB, ALICE)
    wait_until(lambda: theirs.queued() == 0, 20, theirs.said)
    assert chunked(theirs, "=>") == [True] * len(mails)


def test_exim_to_ours_without_chunking(folder, addresses, start):
    ours, theirs = make_pair(folder, addresses, start, terms='extensions_off = "CHUNKING BINARYMIME PIPELINING"')
    send_all(theirs, ALICE, BOB)
    assert_all_arrived(wait_until(lambda: len(ours.mails(ALICE)) == len(BODIES) and ours.mails(ALICE), 60, said(ours, theirs)))
    wait_until(lambda: theirs.queued() == 0, 20, theirs.said)
    assert chunked(theirs, "=>") == [False] * len(BODIES)


def test_smtputf8_to_exim_and_back(pair):
    ours, theirs = pair
    with smtplib.SMTP(ours.address, ours.port, timeout=30) as client:
        client.sendmail(JUERGEN, [ROBERT], international(JUERGEN, ROBERT), ["SMTPUTF8", "BODY=8BITMIME"])
    mail = wait_until(lambda: theirs.mails(ROBERT), 40, said(ours, theirs))[0].decode()
    assert "\nSubject: Grüße\n" in mail and JUERGEN in mail and "utf8esmtp" in mail
    with smtplib.SMTP(theirs.address, theirs.port, timeout=30) as client:
        client.sendmail(ROBERT, [JUERGEN], international(ROBERT, JUERGEN), ["SMTPUTF8", "BODY=8BITMIME"])
    mail = wait_until(lambda: mails_of_juergen(ours), 40, said(ours, theirs))[0].decode()
    assert mail.startswith(f"Return-Path: <{ROBERT}>\n") and "\nSubject: Grüße\n" in mail and " with UTF8SMTP" in mail


def test_what_exim_without_smtputf8_cannot_have_bounces(folder, addresses, start):
    ours, theirs = make_pair(folder, addresses, start, smtputf8=False)
    with smtplib.SMTP(ours.address, ours.port, timeout=30) as client:
        client.sendmail(JUERGEN, [BOB], international(JUERGEN, BOB), ["SMTPUTF8", "BODY=8BITMIME"])
    report = wait_until(lambda: mails_of_juergen(ours), 40, said(ours, theirs))[0].decode()
    assert "\nStatus: 5.6.7\n" in report and theirs.mails(BOB) == []
