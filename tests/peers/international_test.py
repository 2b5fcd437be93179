"""
CHUNKING, BINARYMIME and SMTPUTF8 between our server, Postfix and other people's clients.
"""
import smtplib
import subprocess

import pytest

from messages import assert_all_arrived, message, send_all
from nightmail import Nightmail
from postfix import Postfix
from proc import free_port, wait_until

ALICE, JUERGEN, BOB, ROBERT = "alice@ours.example", "jürgen@ours.example", "bob@theirs.example", "röbert@theirs.example"

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


def make_pair(folder, addresses, start, **main):
    ours_at, theirs_at = addresses[:2]
    port, our_port = free_port(theirs_at), free_port(ours_at)
    theirs = Postfix(folder / "theirs", theirs_at, port, users=[BOB] + ([] if main else [ROBERT]), hostname="mx.theirs.example",
                     main={"relayhost": f"[{ours_at}]:{our_port}", **main})
    ours = Nightmail(folder / "ours", ours_at, our_port, users=[ALICE, JUERGEN], hostname="mx.ours.example",
                     zone=ZONE.format(ours=ours_at, theirs=theirs_at), smtp_port=port)
    return start(ours), start(theirs)


@pytest.fixture
def pair(folder, addresses, start):
    """(ours, theirs), as in postfix_test, with users whose names are not ASCII."""
    return make_pair(folder, addresses, start)


def ours_for(server, user):
    """Our Maildirs have safe names."""
    local, domain = user.split("@")
    folder = server.data / "mail" / domain / "".join(c if c.isascii() else "".join(f"%{b:02X}" for b in c.encode()) for c in local) / "new"
    return [f.read_bytes() for f in folder.iterdir()] if folder.is_dir() else []


def said(*servers):
    return lambda: "\n".join(s.said() for s in servers)


def international(sender, rcpt, subject="Grüße"):
    return f"From: <{sender}>\r\nTo: <{rcpt}>\r\nSubject: {subject}\r\n\r\nhello\r\n".encode()


def test_ours_to_postfix_by_bdat(pair):
    """Every body, and one of several chunks; Postfix counts what commands it got."""
    ours, theirs = pair
    send_all(ours, BOB, ALICE)
    with smtplib.SMTP(ours.address, ours.port, timeout=60) as client:
        large = message("plain", ALICE, BOB, "large") + b"0123456789 and so on, up to the end of the line\r\n" * 60000
        client.sendmail(ALICE, [BOB], large)
    mails = wait_until(lambda: len(theirs.mails(BOB)) >= 9 and theirs.mails(BOB), 60, said(ours, theirs))
    assert_all_arrived([m for m in mails if b"\nSubject: large\n" not in m])
    arrived, = [m for m in mails if b"\nSubject: large\n" in m]
    assert arrived.endswith(large[-1000000:].replace(b"\r\n", b"\n"))
    wait_until(lambda: " bdat=" in theirs.said() and " data=" not in theirs.said(), 20, said(theirs))


def test_binary_comes_as_it_is_and_goes_on_as_text(pair):
    ours, theirs = pair
    picture = bytes(range(256)) * 40 + b"\n.\r\n\r\r\n"
    mail = b"Subject: picture\r\nMIME-Version: 1.0\r\nContent-Type: image/x-test\r\nContent-Transfer-Encoding: binary\r\n\r\n" + picture
    with smtplib.SMTP(ours.address, ours.port, timeout=30) as client:
        client.ehlo()
        assert client.has_extn("CHUNKING") and client.has_extn("BINARYMIME")
        client.mail(ALICE, ["BODY=BINARYMIME"])
        client.rcpt(ALICE)
        client.rcpt(BOB)
        for at in range(0, len(mail), 1000):
            chunk = mail[at:at + 1000]
            client.send(b"BDAT %d%s\r\n" % (len(chunk), b" LAST" if at + 1000 >= len(mail) else b"") + chunk)
            assert client.getreply()[0] == 250
    here = wait_until(lambda: ours_for(ours, ALICE), 20, said(ours))[0]
    assert here.endswith(mail)
    import email
    there = email.message_from_bytes(wait_until(lambda: theirs.mails(BOB), 20, said(ours, theirs))[0])
    assert there["Content-Transfer-Encoding"] == "base64" and there.get_payload(decode=True) == picture


def test_smtplib_smtputf8(pair):
    ours, _ = pair
    with smtplib.SMTP(ours.address, ours.port, timeout=30) as client:
        client.ehlo()
        assert client.has_extn("SMTPUTF8")
        refused = client.sendmail("ünal@tester.example", [JUERGEN, "nobödy@ours.example"], international("ünal@tester.example", JUERGEN),
                                  ["SMTPUTF8", "BODY=8BITMIME"])
    assert list(refused) == ["nobödy@ours.example"]
    mail = wait_until(lambda: ours_for(ours, JUERGEN), 20, said(ours))[0].decode()
    assert mail.startswith("Return-Path: <ünal@tester.example>\nDelivered-To: jürgen@ours.example\n")
    assert " with UTF8SMTP id " in mail and "\nSubject: Grüße\n" in mail


def test_curl_smtputf8(pair, folder):
    ours, _ = pair
    (folder / "mail").write_bytes(international("ünal@tester.example", JUERGEN))
    r = subprocess.run(["curl", "--silent", "--show-error", "--url", f"smtp://{ours.address}:{ours.port}/tester.example", "--mail-from",
                        "ünal@tester.example", "--mail-rcpt", JUERGEN, "--upload-file", str(folder / "mail")], capture_output=True, timeout=60)
    assert r.returncode == 0, r.stderr
    assert b"\nSubject: Gr\xc3\xbc\xc3\x9fe\n" in wait_until(lambda: ours_for(ours, JUERGEN), 20, said(ours))[0]


def test_smtputf8_to_postfix_and_back(pair):
    ours, theirs = pair
    with smtplib.SMTP(ours.address, ours.port, timeout=30) as client:
        client.sendmail(JUERGEN, [ROBERT], international(JUERGEN, ROBERT), ["SMTPUTF8", "BODY=8BITMIME"])
    mail = wait_until(lambda: theirs.mails(ROBERT), 40, said(ours, theirs))[0].decode()
    assert "\nSubject: Grüße\n" in mail and JUERGEN in mail
    with smtplib.SMTP(theirs.address, theirs.port, timeout=30) as client:
        client.sendmail(ROBERT, [JUERGEN], international(ROBERT, JUERGEN), ["SMTPUTF8", "BODY=8BITMIME"])
    mail = wait_until(lambda: ours_for(ours, JUERGEN), 40, said(ours, theirs))[0].decode()
    assert mail.startswith(f"Return-Path: <{ROBERT}>\n") and "\nSubject: Grüße\n" in mail


def test_our_bounce_to_an_international_sender(pair):
    """Postfix refuses the user; the report says so in UTF-8 (RFC 6533)."""
    ours, theirs = pair
    with smtplib.SMTP(ours.address, ours.port, timeout=30) as client:
        client.sendmail(JUERGEN, ["nobödy@theirs.example"], international(JUERGEN, "nobödy@theirs.example"), ["SMTPUTF8", "BODY=8BITMIME"])
    report = wait_until(lambda: ours_for(ours, JUERGEN), 40, said(ours, theirs))[0].decode()
    assert "Content-Type: message/global-delivery-status\n" in report
    assert "\nFinal-Recipient: utf-8; nobödy@theirs.example\n" in report and "\nStatus: 5.1.1\n" in report


@pytest.mark.parametrize("sender,subject,words", [
    (JUERGEN, "hello", "the sender's address is not ASCII"), (ALICE, "Grüße", "UTF-8 in its header"),
], ids=["address", "header"])
def test_what_postfix_without_smtputf8_cannot_have_bounces(folder, addresses, start, sender, subject, words):
    ours, theirs = make_pair(folder, addresses, start, smtputf8_enable="no")
    with smtplib.SMTP(ours.address, ours.port, timeout=30) as client:
        client.sendmail(sender, [BOB], international(sender, BOB, subject), ["SMTPUTF8", "BODY=8BITMIME"])
    report = wait_until(lambda: ours_for(ours, sender), 40, said(ours, theirs))[0].decode()
    assert "\nStatus: 5.6.7\n" in report and words in report
    assert theirs.mails(BOB) == []


def test_what_can_be_ascii_goes_to_postfix_without_smtputf8(folder, addresses, start):
    ours, theirs = make_pair(folder, addresses, start, smtputf8_enable="no")
    with smtplib.SMTP(ours.address, ours.port, timeout=30) as client:
        client.sendmail(ALICE, [BOB], international(ALICE, BOB, "hello"), ["SMTPUTF8"])
    assert b"\nSubject: hello\n" in wait_until(lambda: theirs.mails(BOB), 40, said(ours, theirs))[0]


def test_nightmail_send_by_bdat_and_in_utf8(pair):
    ours, theirs = pair
    for options in ([], ["--chunk", "100"]):
        r = ours.command("send", "--server", f"{theirs.address}:{theirs.port}", "--from", JUERGEN, "--to", ROBERT, "--subject", "Grüße", *options)
        assert r.returncode == 0, (r.stdout, r.stderr)
        assert b" SMTPUTF8" in r.stdout and (b" BDAT 100" in r.stdout) == bool(options)
    assert len(wait_until(lambda: len(theirs.mails(ROBERT)) == 2 and theirs.mails(ROBERT), 20, said(theirs))) == 2
