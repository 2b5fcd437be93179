"""
Delivery status notifications (RFC 3461-3464) between our server and other people's: what a sender wishes is handed on with every
parameter and honoured there, or here where the other does not know of it; and what they hand to us is honoured by us.
"""
import email
import email.policy
import smtplib
import subprocess

import pytest

from exim import Exim
from messages import message
from nightmail import Nightmail
from opensmtpd import OpenSmtpd
from postfix import Postfix
from proc import free_port, wait_until

ALICE, BOB = "alice@ours.example", "bob@theirs.example"

ZONE = """$ORIGIN example.
$TTL 60
@         IN SOA ns hostmaster 1 3600 600 86400 60
@         IN NS  ns
ns        IN A   127.0.0.1
theirs    IN MX  10 mx.theirs
mx.theirs IN A   {theirs}
"""


def make_pair(kind, folder, addresses, start, **more):
    """(ours, theirs): each sends the other's mail there."""
    ours_at, theirs_at = addresses[:2]
    port, our_port = free_port(theirs_at), free_port(ours_at)
    if kind is Postfix:
        theirs = Postfix(folder / "theirs", theirs_at, port, users=[BOB], hostname="mx.theirs.example",
                         main={"relayhost": f"[{ours_at}]:{our_port}", **more})
    else:
        theirs = kind(folder / "theirs", theirs_at, port, [BOB], (ours_at, our_port), hostname="mx.theirs.example", **more)
    ours = Nightmail(folder / "ours", ours_at, our_port, users=[ALICE], hostname="mx.ours.example", zone=ZONE.format(theirs=theirs_at), smtp_port=port)
    return start(ours), start(theirs)


KNOW_DSN = {Postfix: {}, Exim: {"main": "dsn_advertise_hosts = *"}, OpenSmtpd: {}}


@pytest.fixture(params=KNOW_DSN, ids=lambda kind: kind.NAME)
def pair(request, folder, addresses, start):
    return make_pair(request.param, folder, addresses, start, **KNOW_DSN[request.param])


def send(server, sender, rcpt, notify, name="plain"):
    with smtplib.SMTP(server.address, server.port, "tester.example", timeout=30) as client:
        client.sendmail(sender, [rcpt], message(name, sender, rcpt), ["RET=HDRS", "ENVID=order+2B4711"],
                        [f"NOTIFY={notify}", f"ORCPT=rfc822;sales+2Bx@{rcpt.split('@')[1]}"])


def report(raw):
    """(fields about the message, fields about its only recipient, the type of what was returned, from whom it came)."""
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    assert mail.get_content_type() in ("multipart/report", "multipart/mixed"), raw      # OpenSMTPD 6.8 says mixed, and its mailbox no Return-Path
    assert mail["Return-Path"] in ("<>", None) and str(mail["From"]).lower().find("mailer-daemon") >= 0, mail["From"]
    parts = list(mail.iter_parts())
    about, rcpt = [part for part in parts[1].get_payload() if part.keys()]
    return about, rcpt, parts[2].get_content_type(), about["Reporting-MTA"].replace(" ", "")


def arrived(server, user, *servers):
    return wait_until(lambda: server.mails(user), 40, lambda: "\n".join(s.said() for s in (server, *servers)))


def test_theirs_honours_what_we_hand_on(pair):
    """One report, and it is theirs: with the sender's own id and the address that he wrote to."""
    ours, theirs = pair
    send(ours, ALICE, BOB, "SUCCESS,FAILURE")
    assert len(arrived(theirs, BOB, ours)) == 1
    about, rcpt, returned, by = report(arrived(ours, ALICE, theirs)[0])
    assert by == "dns;mx.theirs.example" and rcpt["Action"] == "delivered"
    assert rcpt["Final-Recipient"].replace(" ", "").lower() == f"rfc822;{BOB}"
    if not isinstance(theirs, OpenSmtpd):               # which leaves them out; Exim leaves them encoded
        plus = "+2B" if isinstance(theirs, Exim) else "+"
        assert rcpt["Original-Recipient"].replace(" ", "") == f"rfc822;sales{plus}x@theirs.example"
        assert about["Original-Envelope-Id"] == f"order{plus}4711"
    assert returned == "text/rfc822-headers"
    wait_until(lambda: ours.queued() == [] and theirs.queued() == 0, 20, theirs.said)
    assert len(ours.mails(ALICE)) == 1


def test_never_is_never(pair):
    """Nobody hears of a user whom theirs does not have."""
    ours, theirs = pair
    send(ours, ALICE, "nobody@theirs.example", "NEVER")
    send(ours, ALICE, "nobody@theirs.example", "SUCCESS")
    send(ours, ALICE, BOB, "NEVER")
    arrived(theirs, BOB, ours)
    wait_until(lambda: ours.queued() == [] and theirs.queued() == 0, 20, theirs.said)
    assert ours.mails(ALICE) == []


def test_we_honour_what_theirs_hands_on(pair):
    ours, theirs = pair
    send(theirs, BOB, ALICE, "SUCCESS,DELAY")
    assert len(arrived(ours, ALICE, theirs)) == 1
    about, rcpt, returned, by = report(arrived(theirs, BOB, ours)[0])
    assert by == "dns;mx.ours.example" and rcpt["Action"] == "delivered" and rcpt["Status"] == "2.0.0"
    assert rcpt["Final-Recipient"].replace(" ", "") == f"rfc822;{ALICE}"
    assert rcpt["Original-Recipient"].replace(" ", "") == "rfc822;sales+x@ours.example"
    assert about["Original-Envelope-Id"] == "order+4711"
    assert returned == "text/rfc822-headers"
    wait_until(lambda: ours.queued() == [] and theirs.queued() == 0, 20, theirs.said)
    assert len(theirs.mails(BOB)) == 1


@pytest.mark.parametrize("kind, more", [(Postfix, {"smtpd_discard_ehlo_keywords": "dsn"}), (Exim, {})], ids=["postfix", "exim"])
def test_where_theirs_knows_nothing_of_it_we_tell(folder, addresses, start, kind, more):
    """That it went on to where no more can be said (RFC 3461, 5.2.2)."""
    ours, theirs = make_pair(kind, folder, addresses, start, **more)
    send(ours, ALICE, BOB, "SUCCESS")
    assert len(arrived(theirs, BOB, ours)) == 1
    about, rcpt, _, by = report(arrived(ours, ALICE, theirs)[0])
    assert by == "dns;mx.ours.example" and rcpt["Action"] == "relayed" and about["Original-Envelope-Id"] == "order+4711"
    assert "mx.theirs.example" in rcpt["Remote-MTA"]


def test_msmtp(folder, addresses, start):
    ours = start(Nightmail(folder, addresses[0], users=[ALICE, "carol@ours.example"], hostname="mx.ours.example"))
    r = subprocess.run(["msmtp", "--file=/dev/null", f"--host={ours.address}", f"--port={ours.port}", "--tls=off", "--auth=off",
                        "--domain=tester.example", f"--from={ALICE}", "--dsn-notify=success,failure", "--dsn-return=headers", "carol@ours.example"],
                       input=message("plain").replace(b"\r\n", b"\n"), capture_output=True, timeout=60)
    assert r.returncode == 0, r.stderr
    _, rcpt, returned, _ = report(arrived(ours, ALICE)[0])
    assert rcpt["Action"] == "delivered" and returned == "text/rfc822-headers"
