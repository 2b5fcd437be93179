"""
Other people's proxies and filters stand before us, and say who their client is: by a header of the PROXY protocol, by XCLIENT, by
XFORWARD. What they are believed decides who may relay, and what the Received field says.
"""
import re
import smtplib
import ssl
import subprocess

import pytest

from certificates import Authority
from dovecot import Dovecot
from haproxy import Haproxy
from messages import BODIES, assert_all_arrived, body_of, message, send_all
from nginx import Nginx
from nightmail import Nightmail
from postfix import Postfix
from proc import free_port, wait_until

ALICE, BOB, ELSEWHERE = "alice@here.example", "bob@here.example", "carol@elsewhere.example"
FORMS = {"version-1": "send-proxy", "version-2": "send-proxy-v2", "version-2-with-tlvs": "send-proxy-v2-ssl-cn proxy-v2-options unique-id,crc32c"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def certificate(authority):
    return authority.make("here", ["mx.here.example"])


def arrived(server, count=1, user=BOB, *others):
    return wait_until(lambda: len(server.mails(user)) >= count and server.mails(user), 30, lambda: "\n".join(s.said() for s in (server, *others)))


def received(mail):
    return re.search(rb"^Received: (.*(\n[ \t].*)*)", mail, re.M).group(1).decode()


# -- the PROXY protocol ----------------------------------------------------------------------------------------------------------------


def proxied(folder, addresses, start, certificate=None):
    """Believes the proxy at the second address; only the client at the third one may relay."""
    return start(Nightmail(folder / "ours", addresses[0], users=[ALICE, BOB], terms="proxy_protocol = yes", proxy_networks=[addresses[1]],
                           trusted_networks=[addresses[2]], certificates=[certificate] if certificate else []))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_haproxy_tells_who_the_client_is(folder, addresses, start, form):
    ours = proxied(folder, addresses, start)
    haproxy = start(Haproxy(folder / "haproxy", addresses[1], free_port(addresses[1]), (ours.address, ours.port), form))
    with smtplib.SMTP(haproxy.address, haproxy.port, "tester.example", timeout=30, source_address=(addresses[2], 0)) as client:
        client.sendmail(ALICE, [BOB], message("dots"))
        assert client.mail(ALICE)[0] == client.rcpt(ELSEWHERE)[0] == 250
    mail = arrived(ours, 1, BOB, haproxy)[0]
    assert body_of(mail) == BODIES["dots"] and f"[{addresses[2]}]" in received(mail)
    assert f"client={addresses[2]} " in ours.said() and f"client={addresses[1]} " not in ours.said()
    with smtplib.SMTP(haproxy.address, haproxy.port, "tester.example", timeout=30, source_address=("127.0.0.1", 0)) as client:
        client.ehlo()
        assert client.mail(ALICE)[0] == 250 and client.rcpt(ELSEWHERE)[0] == 550
    wait_until(lambda: re.search(r"Health check for server front/behind succeeded.*code: 2", haproxy.said()), 20, haproxy.said)
    assert "is DOWN" not in haproxy.said()              # its own connections have a header that names nobody


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_haproxy_before_our_tls(folder, addresses, start, authority, certificate, form):
    """The header stands before the first byte of TLS, and before STARTTLS."""
    ours = proxied(folder, addresses, start, certificate)
    context = ssl.create_default_context(cafile=str(authority.file))
    context.check_hostname = False
    for kind, port, which in ((smtplib.SMTP, ours.port, "starttls"), (smtplib.SMTP_SSL, ours.tls_port, "implicit")):
        haproxy = start(Haproxy(folder / which, addresses[1], free_port(addresses[1]), (ours.address, port),
                                form + (" check-ssl verify none" if which == "implicit" else "")))
        more = {"context": context} if which == "implicit" else {}
        with kind(haproxy.address, haproxy.port, "tester.example", timeout=30, source_address=(addresses[2], 0), **more) as client:
            if which == "starttls":
                client.starttls(context=context)
            client.sendmail(ALICE, [BOB], message("utf8"), ["BODY=8BITMIME"])
    mails = arrived(ours, 2)
    for mail in mails:
        assert body_of(mail) == BODIES["utf8"]
        assert f"[{addresses[2]}]" in received(mail) and "with ESMTPS" in received(mail)


def test_haproxy_ends_tls_itself(folder, addresses, start, authority, certificate):
    """And tells of it in a TLV, which says nothing to us."""
    ours = proxied(folder, addresses, start)
    haproxy = Haproxy(folder / "haproxy", addresses[1], free_port(addresses[1]), (ours.address, ours.port), FORMS["version-2-with-tlvs"],
                      bind="ssl crt /etc/haproxy.pem")
    (haproxy.root / "etc/haproxy.pem").write_text("".join(path.read_text() for path in certificate))
    start(haproxy)
    context = ssl.create_default_context(cafile=str(authority.file))
    context.check_hostname = False
    with smtplib.SMTP_SSL(haproxy.address, haproxy.port, "tester.example", timeout=30, source_address=(addresses[2], 0), context=context) as client:
        client.sendmail(ALICE, [BOB], message("plain"))
    assert f"[{addresses[2]}]" in received(arrived(ours, 1, BOB, haproxy)[0])


def test_a_proxy_that_is_not_listed_gets_nowhere(folder, addresses, start):
    ours = start(Nightmail(folder / "ours", addresses[0], users=[BOB], terms="proxy_protocol = yes", proxy_networks=["192.0.2.1"]))
    haproxy = start(Haproxy(folder / "haproxy", addresses[1], free_port(addresses[1]), (ours.address, ours.port)))
    wait_until(lambda: "is DOWN" in haproxy.said(), 20, haproxy.said)
    with pytest.raises((smtplib.SMTPException, OSError)):
        smtplib.SMTP(haproxy.address, haproxy.port, timeout=30)


def swaks(server, *argv):
    return subprocess.run(["swaks", "--server", server.address, "--port", str(server.port), "--helo", "tester.example", "--from", ALICE,
                           *map(str, argv)], capture_output=True, timeout=60)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("family, client", [("TCP4", "203.0.113.7"), ("TCP6", "2001:db8::7")])
def test_swaks_with_a_proxy_header(folder, addresses, start, version, family, client):
    ours = start(Nightmail(folder / "ours", addresses[0], users=[ALICE, BOB], terms="proxy_protocol = yes", proxy_networks=["127.0.0.0/8"]))
    named = [f"--proxy-version={version}", "--proxy-source", client, "--proxy-source-port", 4711, "--proxy-dest", client, "--proxy-dest-port", 25]
    named += ["--proxy-family", family] if version == 1 else ["--proxy-family", "AF_INET" + family[3].replace("4", ""), "--proxy-protocol", "STREAM",
                                                              "--proxy-command", "PROXY"]
    r = swaks(ours, "--to", BOB, *named)
    assert r.returncode == 0, r.stdout + r.stderr
    arrived(ours)
    assert f"client={client} " in ours.said()
    r = swaks(ours, "--to", ELSEWHERE, *named)
    assert r.returncode == 24 and b"550 5.7.1" in r.stdout, r.stdout


# -- XCLIENT ---------------------------------------------------------------------------------------------------------------------------


def test_swaks_with_xclient(folder, addresses, start):
    ours = start(Nightmail(folder / "ours", addresses[0], users=[ALICE, BOB], xclient_networks=["127.0.0.0/8"]))
    r = swaks(ours, "--to", BOB, "--xclient-addr", "203.0.113.7", "--xclient-name", "far.example", "--xclient-helo", "said.example",
              "--xclient-proto", "ESMTP", "--xclient-delim", "--xclient-port", "4711")
    assert r.returncode == 0, r.stdout + r.stderr
    assert "(far.example [203.0.113.7])" in received(arrived(ours)[0])
    r = swaks(ours, "--to", ELSEWHERE, "--xclient-addr", "203.0.113.7")
    assert r.returncode == 24 and b"550 5.7.1" in r.stdout, r.stdout
    assert swaks(ours, "--to", ELSEWHERE, "--quit-after", "RCPT").returncode == 0


def test_swaks_is_not_offered_xclient_elsewhere(folder, addresses, start):
    ours = start(Nightmail(folder / "ours", addresses[0], users=[BOB], xclient_networks=["192.0.2.0/24"]))
    r = swaks(ours, "--to", BOB, "--xclient-addr", "203.0.113.7")
    assert r.returncode == 33 and b"did not advertise XCLIENT" in r.stderr, r.stdout + r.stderr
    assert ours.mails(BOB) == []


@pytest.mark.parametrize("by", ["xclient", "proxy-header"])
def test_nginx_tells_who_the_client_is(folder, addresses, start, by):
    believed = {"xclient_networks": ["127.0.0.0/8"]} if by == "xclient" else {"proxy_networks": ["127.0.0.0/8"], "terms": "proxy_protocol = yes"}
    ours = start(Nightmail(folder / "ours", addresses[0], users=[ALICE, BOB], trusted_networks=[addresses[2]], **believed))
    nginx = start(Nginx(folder / "nginx", addresses[1], free_port(addresses[1]), (ours.address, ours.port),
                        more="" if by == "xclient" else "xclient off; proxy_protocol on;"))
    with smtplib.SMTP(nginx.address, nginx.port, "tester.example", timeout=30, source_address=(addresses[2], 0)) as client:
        client.sendmail(ALICE, [BOB], message("dots"))
    mail = arrived(ours, 1, BOB, nginx)[0]
    assert body_of(mail) == BODIES["dots"] and f"[{addresses[2]}]" in received(mail)
    for source, code in ((addresses[2], 250), ("127.0.0.1", 550)):
        with smtplib.SMTP(nginx.address, nginx.port, "tester.example", timeout=30, source_address=(source, 0)) as client:
            client.ehlo()
            assert client.mail(ALICE)[0] == 250 and client.rcpt(ELSEWHERE)[0] == code, source


def test_nginx_tells_who_has_logged_in(folder, addresses, start):
    """LOGIN of XCLIENT: whoever nginx let in need not log in at us, and may send as himself only."""
    (folder / "accounts").touch()
    ours = start(Nightmail(folder / "ours", addresses[0], users=[ALICE, BOB], xclient_networks=["127.0.0.0/8"], accounts_file=folder / "accounts",
                           terms="service = submission auth_allow_cleartext = yes"))
    nginx = start(Nginx(folder / "nginx", addresses[1], free_port(addresses[1]), (ours.address, ours.port), auth="plain login"))
    with smtplib.SMTP(nginx.address, nginx.port, "tester.example", timeout=30, source_address=(addresses[2], 0)) as client:
        client.login(ALICE, "whatever nginx believes")
        client.sendmail(ALICE, [BOB], message("plain", ALICE))
        assert client.mail(BOB)[0] == 553
    mail = arrived(ours, 1, BOB, nginx)[0]
    assert "with ESMTPA" in received(mail) and f"[{addresses[2]}]" in received(mail)


def test_dovecot_tells_who_has_logged_in(folder, addresses, start):
    """Its submission proxy, which trusts us and is trusted: XCLIENT with what it knows, and text by BDAT."""
    ours = start(Nightmail(folder / "ours", addresses[0], users=[ALICE, BOB], xclient_networks=["127.0.0.0/8"]))
    dovecot = start(Dovecot(folder / "dovecot", addresses[1], free_port(addresses[1]), "pencil", hop=(ours.address, ours.port), hop_trusts=True))
    with smtplib.SMTP(dovecot.address, dovecot.submission_port, "tester.example", timeout=30, source_address=(addresses[2], 0)) as client:
        client.login(ALICE, "pencil")
        client.sendmail(ALICE, [BOB], message("plain", ALICE), ["BODY=8BITMIME"])
    mail = arrived(ours, 1, BOB, dovecot)[0]
    assert f"[{addresses[2]}]" in received(mail), mail
    assert re.search(rf" xclient connection=\S+ args=\S*.*{addresses[2]}", ours.said()), ours.said()


# -- XFORWARD ----------------------------------------------------------------------------------------------------------------------------


def test_postfix_tells_where_mail_came_from(folder, addresses, start):
    """As to an after-queue filter; the client stays Postfix, and our log has the other."""
    ours = start(Nightmail(folder / "ours", addresses[0], users=[ALICE, BOB], xforward_networks=["127.0.0.0/8"]))
    postfix = start(Postfix(folder / "postfix", addresses[1], free_port(addresses[1]), main={
        "relayhost": f"[{ours.address}]:{ours.port}", "smtp_send_xforward_command": "yes"}))
    with smtplib.SMTP(postfix.address, postfix.port, "tester.example", timeout=30, source_address=(addresses[2], 0)) as client:
        client.sendmail("dora@tester.example", [BOB], message("plain"))
    mail = arrived(ours, 1, BOB, postfix)[0]
    assert "postfix.example" in received(mail) and f"[{addresses[2]}]" not in received(mail)
    origin, = re.findall(r" origin (.*)", ours.said())
    queue_id = re.search(r"postfix/qmgr\[\d+\]: (\w+): from=<dora@", postfix.said()).group(1)
    assert f"client={addresses[2]} " in origin and "helo=tester.example" in origin and f"ident={queue_id}" in origin
    send_all(postfix, BOB)
    assert_all_arrived(arrived(ours, len(BODIES) + 1, BOB, postfix)[1:])
