"""
8-bit mail to servers that take only 7 bits: Python's email package reads the same in what arrives as in what was sent.
"""
import random
import smtplib
from email import message_from_bytes, policy

import pytest

from messages import BODIES, body_of, message, send_all, subject_of
from nightmail import Nightmail
from postfix import Postfix
from proc import free_port, wait_until
from sink import OwnSink, Sink

ALICE, BOB = "alice@tester.example", "bob@elsewhere.example"
HEAD = b"From: <alice@tester.example>\r\nTo: <bob@elsewhere.example>\r\nMIME-Version: 1.0\r\n"
TEXT = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
GREETING = "Grüße aus Wien, où il fait beau.\r\n\r\n-- \r\n--b\u00fc\r\n.\r\nFrom Alice = \t\r\n".encode()
PICTURE = bytes(b for b in range(256) if b not in b"\r\n\0") * 20


def multipart(boundary, *parts, kind=b"mixed", preamble=b""):
    delimiter = b"\r\n--" + boundary
    return (b"Content-Type: multipart/" + kind + b"; boundary=\"" + boundary + b"\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + preamble
            + b"".join(delimiter + b"\r\n" + part for part in parts) + delimiter + b"--\r\n")


def picture():
    lines = b"\r\n".join(PICTURE[i:i + 700] for i in range(0, len(PICTURE), 700))
    return b"Content-Type: image/png\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + lines


MESSAGES = {
    "text": HEAD + TEXT + b"\r\n" + GREETING,
    "cyrillic": HEAD + TEXT + b"\r\n" + ("Съешь ещё этих мягких французских булок, да выпей чаю. " * 5 + "\r\n").encode() * 20,
    "latin1": HEAD + b"Content-Type: text/plain; charset=iso-8859-1\r\n\r\n" + "Grüße".encode("latin-1") + b"\r\n",
    "not-mime": HEAD.replace(b"MIME-Version: 1.0\r\n", b"") + b"\r\n" + GREETING,
    "one-letter": HEAD + TEXT + b"\r\n" + "ü\r\n".encode(),
    "long-lines": HEAD + TEXT + b"\r\n" + ("ü" + "x--b" * 1000 + "\r\n").encode() * 3,
    "html": HEAD + multipart(b"b", TEXT + b"\r\n" + GREETING, TEXT.replace(b"plain", b"html") + b"\r\n<p>" + GREETING + b"</p>", kind=b"alternative"),
    "attachments": HEAD + multipart(b"b", TEXT + b"\r\n" + GREETING, picture(), b"Content-Type: text/plain\r\n\r\n7 bits", picture()),
    "preamble": HEAD + multipart(b"b", TEXT + b"\r\n" + GREETING, preamble="Dies wäre nur für alte Programme.\r\n".encode()),
    "forwarded": HEAD + multipart(b"b", b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + HEAD
                                  + multipart(b"b=c", TEXT + b"\r\n" + GREETING, picture())),
    "digest": HEAD + multipart(b"b", b"\r\n" + HEAD + TEXT + b"\r\n" + GREETING, b"\r\n" + HEAD + TEXT + b"\r\n" + GREETING, kind=b"digest"),
    "signed": b"DKIM-Signature: v=1; a=rsa-sha256; b=AAAA\r\n" + HEAD + TEXT + b"\r\n" + GREETING,
    "raw-in-quoted-printable": HEAD + TEXT.replace(b"8bit", b"quoted-printable") + b"\r\n=C3=BC" + GREETING.replace(b"=", b"=3D"),
}


def leaves(raw):
    """Type and decoded content of every part that holds no others."""
    parsed = message_from_bytes(raw, policy=policy.SMTP)
    return [(part.get_content_type(), part.get_payload(decode=True)) for part in parsed.walk() if not part.is_multipart()]


def assert_7bit(raw):
    raw.decode("ascii")
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998


def tree(random_, depth=0):
    """A part at random."""
    kind = random_.choice(["text", "text", "picture", "multipart", "forwarded"] if depth < 4 else ["text", "picture"])
    if kind == "text":
        words = ["Grüße", "–", "word", ".", "--", "=", " ", "世界", "\r\n", "\r\n"]
        return TEXT + b"\r\n" + "".join(random_.choice(words) for _ in range(random_.randrange(1, 200))).strip("\r\n").encode()
    if kind == "picture":
        return picture()
    if kind == "forwarded":
        return b"Content-Type: message/rfc822\r\n\r\n" + HEAD + tree(random_, depth + 1)
    return multipart(b"=_%x" % random_.getrandbits(64), *(tree(random_, depth + 1) for _ in range(random_.randrange(1, 4))))


def deliver(server, sink, mails):
    """What arrives of each, by its Subject."""
    with smtplib.SMTP(server.address, server.port, "tester.example", timeout=30) as client:
        client.ehlo()
        for name, mail in mails.items():
            client.sendmail(ALICE, [BOB], b"Subject: " + name.encode() + b"\r\n" + mail, ["BODY=8BITMIME"])
    wait_until(lambda: server.queued() == [], 30, server.said)
    return {subject_of(m): m for m in sink.mails()}


@pytest.fixture
def pair(folder, addresses, start):
    sink = start(OwnSink(folder / "sink", addresses[1], args=["--no-8bitmime"]))
    server = start(Nightmail(folder / "ours", addresses[0], relay_host=f"[{sink.address}]:{sink.port}", users=["alice@ours.example"]))
    return server, sink


def test_what_arrives_is_what_was_sent(pair):
    server, sink = pair
    came = deliver(server, sink, MESSAGES)
    assert sorted(came) == sorted(MESSAGES)
    for name, sent in MESSAGES.items():
        assert_7bit(came[name])
        assert leaves(came[name]) == leaves(sent), name
    said = server.said()
    assert said.count("converted-to-7bit") == len(MESSAGES) and said.count("signature=broken") == 1


def test_messages_at_random(pair):
    server, sink = pair
    random_ = random.Random(6152)
    mails = {f"tree-{i}": HEAD + tree(random_) + b"\r\n" for i in range(100)}
    came = deliver(server, sink, mails)
    assert sorted(came) == sorted(mails)
    for name, sent in mails.items():
        assert_7bit(came[name])
        assert leaves(came[name]) == leaves(sent), name


def test_what_cannot_be_converted_comes_back(pair):
    server, sink = pair
    with smtplib.SMTP(server.address, server.port, "tester.example", timeout=30) as client:
        client.ehlo()
        client.sendmail("alice@ours.example", [BOB], "Subject: Grüße\r\n\r\nx\r\n".encode(), ["BODY=8BITMIME"])
    report = wait_until(lambda: server.mails("alice@ours.example"), 20, server.said)[0]
    assert b"Status: 5.6.3" in report and b"its header has such text" in report
    assert sink.mails() == []


def test_smtp_sink(folder, addresses, start):
    """Postfix's, without 8BITMIME: 7-bit bodies arrive as they were, and the others decode to it."""
    sink = start(Sink(folder / "sink", addresses[1], store=True, args=["-8"]))
    server = start(Nightmail(folder / "ours", addresses[0], relay_host=f"[{sink.address}]:{sink.port}"))
    send_all(server, BOB)
    wait_until(lambda: sink.messages == len(BODIES) and server.queued() == [], 30, server.said)
    for mail in sink.mails():
        name = subject_of(mail)
        text = message_from_bytes(mail).get_payload(decode=True).decode().replace("\r\n", "\n")
        assert text.rstrip("\n") == "\n".join(body_of(message(name))).rstrip("\n"), name      # smtp-sink adds an empty line


def decoded(raw):
    return message_from_bytes(raw).get_payload(decode=True).decode().replace("\r\n", "\n").rstrip("\n")


def test_postfix_that_takes_7_bits(folder, addresses, start):
    """By DATA; what Postfix keeps in the mailbox decodes to what was sent."""
    postfix = start(Postfix(folder / "postfix", addresses[1], free_port(addresses[1]), users=["bob@theirs.example"],
                            main={"smtpd_discard_ehlo_keywords": "8bitmime, chunking, smtputf8"}))
    server = start(Nightmail(folder / "ours", addresses[0], relay_host=f"[{postfix.address}]:{postfix.port}"))
    send_all(server, "bob@theirs.example")
    mails = wait_until(lambda: len(postfix.mails("bob@theirs.example")) == len(BODIES) and postfix.mails("bob@theirs.example"), 40, server.said)
    for mail in mails:
        mail.decode("ascii")
        assert decoded(mail) == "\n".join(BODIES[subject_of(mail)]).rstrip("\n"), subject_of(mail)


def test_postfix_converts_for_us(folder, addresses, start):
    """Where our listener does not offer 8BITMIME."""
    server = start(Nightmail(folder / "ours", addresses[0], users=["bob@here.example"], terms='extensions_off = "8BITMIME SMTPUTF8 BINARYMIME"'))
    postfix = start(Postfix(folder / "postfix", addresses[1], free_port(addresses[1]), main={"relayhost": f"[{server.address}]:{server.port}"}))
    send_all(postfix, "bob@here.example")
    mails = wait_until(lambda: len(server.mails("bob@here.example")) == len(BODIES) and server.mails("bob@here.example"), 40, postfix.said)
    for mail in mails:
        mail.decode("ascii")
        assert decoded(mail) == "\n".join(BODIES[subject_of(mail)]).rstrip("\n"), subject_of(mail)
