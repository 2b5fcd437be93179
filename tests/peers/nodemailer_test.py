"""
nodemailer, with which most web applications send: in every dialect that it has.
"""
import email
import email.policy

import pytest

from certificates import Authority
from messages import BODIES, assert_all_arrived, body_of, message
from nightmail import Nightmail
from nodemailer import raw, send
from proc import wait_until

ALICE, BOB, CAROL, JUERGEN = "alice@here.example", "bob@here.example", "carol@here.example", "jürgen@here.example"
PASSWORD = "pencil with: spaces and \u00fcmlaut"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def certificate(authority):
    return authority.make("here", ["mx.here.example"])


@pytest.fixture
def server(folder, addresses, start):
    return start(Nightmail(folder, addresses[0], users=[ALICE, BOB, CAROL, JUERGEN], hostname="mx.here.example",
                           listeners=f'listen mailboxes {{ address = "{addresses[0]}:0" service = lmtp }}\n'))


@pytest.fixture
def submission(folder, addresses, start, certificate):
    (folder / "accounts").touch()
    s = Nightmail(folder, addresses[0], users=[ALICE, BOB], hostname="mx.here.example", accounts_file=folder / "accounts",
                  auth_failure_delay="0s", terms="service = submission", certificates=[certificate])
    added = s.command("user", "add", ALICE, input=PASSWORD.encode() + b"\n")
    assert added.returncode == 0, added.stderr
    return start(s)


def arrived(server, user, count=1):
    return wait_until(lambda: len(server.mails(user)) >= count and server.mails(user), 30, server.said)


def test_every_body_on_kept_connections(server):
    mails = [raw(ALICE, [BOB], message(name, ALICE, BOB), use8BitMime=True) for name in BODIES]
    outcomes = send(server.address, server.port, mails, pool=True, maxConnections=2)
    assert all(o.get("accepted") == [BOB] for o in outcomes), outcomes
    assert_all_arrived(arrived(server, BOB, len(BODIES)))


def test_what_it_composes_reads_the_same(server):
    outcome, = send(server.address, server.port, [{
        "from": f"Alice Müller <{ALICE}>", "to": [BOB], "bcc": [CAROL], "subject": "Grüße ✉", "text": "Hello,\n.\nBob", "html": "<p>Hello</p>",
        "attachments": [{"filename": "figures ä.csv", "content": "a,b\n1,2\n"}]}])
    assert sorted(outcome["accepted"]) == [BOB, CAROL]
    for user in (BOB, CAROL):
        mail = email.message_from_bytes(arrived(server, user)[0], policy=email.policy.default)
        assert mail["Subject"] == "Grüße ✉" and mail["From"].addresses[0].display_name == "Alice Müller" and mail["Bcc"] is None
        assert mail.get_body(("plain",)).get_content().split() == ["Hello,", ".", "Bob"]
        attached, = mail.iter_attachments()
        assert attached.get_filename() == "figures ä.csv"
        assert attached.get_content().replace("\r\n", "\n") == "a,b\n1,2\n"


def test_it_is_told_what_is_refused(server):
    """One recipient of two, both of two, and a message that says it is too large."""
    one, both, large = send(server.address, server.port, [
        raw(ALICE, [BOB, "nobody@here.example"], message("plain")), raw(ALICE, ["nobody@here.example", "x@here.example"], message("plain")),
        raw(ALICE, [BOB], message("plain"), size=1 << 40)])
    assert (one["accepted"], one["rejected"]) == ([BOB], ["nobody@here.example"])
    assert (both["code"], both["responseCode"]) == ("EENVELOPE", 550) and "5.1.1" in both["message"]
    assert large["code"] == "EMESSAGE" and "size" in large["message"], large      # it has read what EHLO says of SIZE
    assert len(arrived(server, BOB)) == 1


def test_smtputf8(server):
    sender = "ünal@tester.example"
    outcome, = send(server.address, server.port, [
        raw(sender, [JUERGEN], f"From: <{sender}>\r\nTo: <{JUERGEN}>\r\nSubject: Grüße\r\n\r\nhello\r\n".encode(), use8BitMime=True)])
    assert outcome["accepted"] == [JUERGEN], outcome
    folder = server.data / "mail/here.example/j%C3%BCrgen/new"
    mail = wait_until(lambda: folder.is_dir() and [f.read_text() for f in folder.iterdir()], 30, server.said)[0]
    assert " with UTF8SMTP id " in mail and "\nSubject: Grüße\n" in mail and mail.startswith(f"Return-Path: <{sender}>\n")


def test_dsn(server):
    """Every parameter of RFC 3461, as the success report gives it back."""
    wishes = {"id": "order 4711+", "return": "headers", "notify": ["success", "failure"], "recipient": "rfc822;sales@tester.example"}
    outcome, = send(server.address, server.port, [dict(raw(ALICE, [BOB], message("plain"), dsn=wishes))])
    assert outcome.get("accepted") == [BOB], outcome
    report = email.message_from_bytes(arrived(server, ALICE)[0], policy=email.policy.default)
    parts = list(report.iter_parts())
    about, rcpt = parts[1].get_payload()
    assert about["Original-Envelope-Id"] == "order 4711+"
    assert rcpt["Action"] == "delivered" and rcpt["Original-Recipient"].replace(" ", "") == "rfc822;sales@tester.example"
    assert parts[2].get_content_type() == "text/rfc822-headers"


def test_lmtp(server):
    """nodemailer's LMTP reads a reply for each recipient."""
    lmtp = server.tls_port                              # the last listener
    outcome, again = send(server.address, lmtp, [raw(ALICE, [BOB, CAROL], message(name)) for name in ("dots", "plain")], lmtp=True, pool=True,
                          maxConnections=1)
    assert sorted(outcome["accepted"]) == sorted(again["accepted"]) == [BOB, CAROL]
    for user in (BOB, CAROL):
        mails = arrived(server, user, 2)
        assert sorted(body_of(m) for m in mails) == sorted((BODIES["dots"], BODIES["plain"])) and all(b"with LMTP" in m for m in mails)


def login(server, authority, implicit, method, password=PASSWORD):
    return send(server.address, server.tls_port if implicit else server.port, [raw(ALICE, [BOB], message("utf8", ALICE), use8BitMime=True)],
                secure=implicit, requireTLS=not implicit, tls={"ca": authority.file.read_text(), "servername": "mx.here.example"},
                auth={"user": ALICE, "pass": password}, authMethod=method)[0]


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
@pytest.mark.parametrize("method", ["PLAIN", "LOGIN"])
def test_it_logs_in(submission, authority, implicit, method):
    outcome = login(submission, authority, implicit, method)
    assert outcome.get("accepted") == [BOB], outcome
    mail = arrived(submission, BOB)[0]
    assert body_of(mail) == BODIES["utf8"] and b"with ESMTPSA" in mail
    assert f"mechanism={method}" in submission.said()


def test_a_wrong_password(submission, authority):
    outcome = login(submission, authority, False, "PLAIN", "wrong")
    assert (outcome["code"], outcome["responseCode"]) == ("EAUTH", 535) and "5.7.8" in outcome["message"]
    assert submission.mails(BOB) == [] and submission.queued() == []


def test_without_a_login_nothing_goes(submission):
    outcome, = send(submission.address, submission.port, [raw(ALICE, [BOB], message("plain"))])
    assert outcome["responseCode"] == 530, outcome
