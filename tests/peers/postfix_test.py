"""
Our server and a Postfix server, each before and behind the other: what comes through, what comes back.
"""
import email
import email.policy
import smtplib

import pytest

from messages import BODIES, assert_all_arrived, body_of, message, send_all
from nightmail import Nightmail
from postfix import Postfix
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


@pytest.fixture
def pair(folder, addresses, start):
    """(ours, theirs). Ours finds theirs by MX; theirs sends everything that is not its own to ours."""
    ours_at, theirs_at = addresses[:2]
    port, our_port = free_port(theirs_at), free_port(ours_at)
    theirs = Postfix(folder / "theirs", theirs_at, port, users=[BOB], hostname="mx.theirs.example", main={
        "relayhost": f"[{ours_at}]:{our_port}",
    })
    ours = Nightmail(folder / "ours", ours_at, our_port, users=[ALICE, "postmaster@ours.example"], hostname="mx.ours.example",
                     zone=ZONE.format(ours=ours_at, theirs=theirs_at), smtp_port=port)
    return start(ours), start(theirs)


def said(*servers):
    return lambda: "\n".join(s.said() for s in servers)


def arrived(server, user, count, *servers):
    return wait_until(lambda: len(server.mails(user)) >= count and server.mails(user), 40, said(server, *servers))


def test_ours_to_postfix_by_mx(pair):
    ours, theirs = pair
    send_all(ours, BOB, ALICE)
    assert_all_arrived(arrived(theirs, BOB, len(BODIES), ours))
    wait_until(lambda: ours.queued() == [], 10, "our queue to be empty")


def test_postfix_to_ours_as_its_next_hop(pair):
    ours, theirs = pair
    send_all(theirs, ALICE, "carol@elsewhere.example")
    assert_all_arrived(arrived(ours, ALICE, len(BODIES), theirs))
    wait_until(lambda: theirs.queued() == 0, 20, "Postfix's queue to be empty")


def test_through_postfix_and_back_the_trace_tells_the_way(pair):
    """Handed to Postfix, which relays to us, who find its user by MX: two hops and home."""
    ours, theirs = pair
    with smtplib.SMTP(theirs.address, theirs.port, timeout=30) as client:
        client.sendmail(BOB, [ALICE], message("plain"))
    mail = email.message_from_bytes(arrived(ours, ALICE, 1, theirs)[0], policy=email.policy.default)
    received = mail.get_all("Received")
    assert len(received) == 2
    assert "by mx.ours.example" in received[0] and "by mx.theirs.example" in received[1]
    assert mail["Return-Path"] == f"<{BOB}>"
    assert mail["Delivered-To"] == ALICE


def report_of(raw):
    """A multipart/report as (whole, human text, list of fields of the status part, returned headers)."""
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    assert mail.get_content_type() == "multipart/report"
    assert mail.get_param("report-type") == "delivery-status"
    assert not mail.defects
    parts = list(mail.iter_parts())
    assert [p.get_content_type() for p in parts[:2]] == ["text/plain", "message/delivery-status"]
    assert parts[2].get_content_type() in ("message/rfc822", "text/rfc822-headers")
    for part in parts:
        assert not part.defects
    returned = parts[2].get_content()
    if not isinstance(returned, str):
        returned = returned.as_string()
    return mail, parts[0].get_content(), parts[1].get_payload(), returned


def test_our_bounce_reads_as_a_report(pair):
    """Postfix refuses the user at RCPT; the sender gets our report of it, with Postfix's own words."""
    ours, theirs = pair
    with smtplib.SMTP(ours.address, ours.port, timeout=30) as client:
        client.sendmail(ALICE, ["nobody@theirs.example"], message("utf8", ALICE), ["BODY=8BITMIME"])
    raw = arrived(ours, ALICE, 1, theirs)[0]
    mail, human, status, returned = report_of(raw)
    assert mail["Return-Path"] == "<>"
    assert mail["Auto-Submitted"].startswith("auto-")
    assert mail["To"] and ALICE in mail["To"]
    assert "nobody@theirs.example" in human
    about_message, about_rcpt = status[0], status[1]
    assert about_message["Reporting-MTA"].replace(" ", "") == "dns;mx.ours.example"
    assert about_rcpt["Final-Recipient"].replace(" ", "") == "rfc822;nobody@theirs.example"
    assert about_rcpt["Action"] == "failed"
    assert about_rcpt["Status"] == "5.1.1"
    assert about_rcpt["Diagnostic-Code"].startswith("smtp;") and "550 5.1.1" in about_rcpt["Diagnostic-Code"]
    assert "mx.theirs.example" in about_rcpt["Remote-MTA"]
    assert "Subject: utf8" in returned


def test_postfix_bounce_arrives_at_us(pair):
    """We refuse what Postfix hands on; its report of that comes to our user, from nobody, with our words in it."""
    ours, theirs = pair
    with smtplib.SMTP(theirs.address, theirs.port, timeout=30) as client:
        client.sendmail(ALICE, ["nobody@ours.example"], message("plain", ALICE))
    mail, human, status, _ = report_of(arrived(ours, ALICE, 1, theirs)[0])
    assert mail["Return-Path"] == "<>"
    assert "mx.theirs.example" in mail["From"]
    assert status[1]["Status"] == "5.1.1"
    assert "550 5.1.1" in status[1]["Diagnostic-Code"]
    wait_until(lambda: ours.queued() == [] and theirs.queued() == 0, 20, "both queues to be empty")
    assert len(ours.mails(ALICE)) == 1


def test_no_bounce_for_a_bounce(pair):
    """A null sender's message that cannot be delivered ends, recorded, without a report."""
    ours, theirs = pair
    with smtplib.SMTP(ours.address, ours.port, timeout=30) as client:
        client.sendmail("", ["nobody@theirs.example"], message("plain", ALICE))
    wait_until(lambda: ours.queued() == [], 20, said(ours, theirs))
    assert ours.mails(ALICE) == [] and ours.mails("postmaster@ours.example") == []
    assert theirs.queued() == 0


def test_nightmail_send_to_postfix(pair, folder):
    ours, theirs = pair
    (folder / "figures.csv").write_text("a,b\n1,2\n")
    r = ours.command("send", "--server", f"{theirs.address}:{theirs.port}", "--helo", "tester.example", "--from", "alice@tester.example",
                     "--to", BOB, "--subject", "Grüße ✉", "--body", "Hello,\n.\nBob", "--attach", folder / "figures.csv")
    assert r.returncode == 0, (r.stdout, r.stderr)
    mail = email.message_from_bytes(arrived(theirs, BOB, 1)[0], policy=email.policy.default)
    assert mail["Subject"] == "Grüße ✉"
    assert mail.get_body().get_content().split() == ["Hello,", ".", "Bob"]
    attached, = mail.iter_attachments()
    assert attached.get_filename() == "figures.csv"
    content = attached.get_content()
    assert (content if isinstance(content, bytes) else content.encode()) == b"a,b\n1,2\n"


def test_nightmail_send_says_what_postfix_refused(pair):
    ours, theirs = pair
    r = ours.command("send", "--server", f"{theirs.address}:{theirs.port}", "--from", "alice@tester.example", "--to", "nobody@theirs.example")
    assert r.returncode == 67, (r.stdout, r.stderr)
    assert b"550 5.1.1" in r.stdout + r.stderr
