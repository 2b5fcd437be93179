"""
Servers of other houses give us their mail as to a smart host, and we give them ours: under TLS, with the certificate verified, after
a login.
"""
import re
import smtplib

import pytest

from certificates import Authority
from dovecot import Dovecot
from exim import EXIM_UID, Exim
from messages import BODIES, assert_all_arrived, message, send_all
from nightmail import Nightmail
from opensmtpd import OpenSmtpd
from postfix import Postfix
from proc import free_port, wait_until

ALICE, BOB, CAROL, PASSWORD = "alice@ours.example", "bob@ours.example", "carol@theirs.example", "pencil"

ZONE = """$ORIGIN example.
$TTL 60
@         IN SOA ns hostmaster 1 3600 600 86400 60
@         IN NS  ns
ns        IN A   127.0.0.1
mx.theirs IN A   {theirs}
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def made(authority):
    return {name: authority.make(name, [f"mx.{name}.example"]) for name in ("ours", "theirs")}


def furnish(server, authority, pair, ours_at, owner=0):
    """Gives a peer the authority, a certificate with its key, and the one name that it must know."""
    server.give_certificate(pair, authority, owner)
    (server.root / "etc/ssl/certs").mkdir(parents=True)
    (server.root / "etc/ssl/certs/ca-certificates.crt").symlink_to("/etc/tls/ca.pem")
    with open(server.root / "etc/hosts", "a", encoding="ascii") as hosts:
        hosts.write(f"{ours_at} mx.ours.example\n")
    return server


def everything(server, user, *others):
    mails = wait_until(lambda: len(server.mails(user)) >= len(BODIES) and server.mails(user), 40,
                       lambda: "\n".join(s.said() for s in (server, *others)))
    assert_all_arrived(mails)
    return mails


# -- theirs to ours --------------------------------------------------------------------------------------------------------------------


def postfix_sends(folder, at, hop, implicit, mechanism):
    return Postfix(folder, at, free_port(at), hostname="mx.theirs.example", main={
        "relayhost": f"[mx.ours.example]:{hop[1]}", "smtp_tls_security_level": "secure", "smtp_tls_CAfile": "/etc/tls/ca.pem",
        "smtp_tls_wrappermode": "yes" if implicit else "no", "smtp_tls_loglevel": "1", "smtp_tls_secure_cert_match": "nexthop",
        "smtp_sasl_auth_enable": "yes", "smtp_sasl_security_options": "noanonymous", "smtp_sasl_mechanism_filter": mechanism,
        "smtp_sasl_password_maps": f"static:{ALICE}:{PASSWORD}"})


CLIENT_AUTHENTICATORS = """
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^{user}^{password}
login:
  driver = plaintext
  public_name = LOGIN
  client_send = : {user} : {password}
"""


def exim_sends(folder, at, hop, implicit, mechanism):
    authenticators = CLIENT_AUTHENTICATORS.format(user=ALICE, password=PASSWORD)
    if mechanism == "LOGIN":
        authenticators = authenticators.replace("public_name = PLAIN", "public_name = X-PLAIN")
    return Exim(folder, at, free_port(at), [CAROL], ("mx.ours.example", hop[1]), hostname="mx.theirs.example", more=authenticators,
                remote="hosts_require_tls = *\n  hosts_require_auth = *\n  tls_verify_certificates = /etc/tls/ca.pem\n  tls_verify_hosts = *\n"
                "  tls_verify_cert_hostnames = *" + ("\n  protocol = smtps" if implicit else ""))


def opensmtpd_sends(folder, at, hop, implicit, mechanism):
    return OpenSmtpd(folder, at, free_port(at), [CAROL], ("mx.ours.example", hop[1]), hostname="mx.theirs.example",
                     main=f'table secrets {{ ours = "{ALICE}:{PASSWORD}" }}', scheme="smtps://ours@" if implicit else "smtp+tls://ours@",
                     remote="auth <secrets>")


SENDERS = [(postfix_sends, "PLAIN", False), (postfix_sends, "SCRAM-SHA-256", False), (postfix_sends, "LOGIN", True), (postfix_sends, "SCRAM-SHA-256", True),
           (exim_sends, "PLAIN", False), (exim_sends, "LOGIN", True), (opensmtpd_sends, "PLAIN", False), (opensmtpd_sends, "PLAIN", True)]


def name_of(value):
    return value.__name__ if callable(value) else {False: "starttls", True: "implicit"}.get(value, value)


@pytest.mark.parametrize("sends, mechanism, implicit", SENDERS, ids=name_of)
def test_theirs_to_ours(folder, addresses, start, authority, made, sends, mechanism, implicit):
    (folder / "accounts").touch()
    ours = Nightmail(folder / "ours", addresses[0], users=[ALICE, BOB], hostname="mx.ours.example", accounts_file=folder / "accounts", scram="yes",
                     terms="service = submission", certificates=[made["ours"]])
    added = ours.command("user", "add", ALICE, input=PASSWORD.encode() + b"\n")
    assert added.returncode == 0, added.stderr
    start(ours)
    theirs = sends(folder / "theirs", addresses[1], (ours.address, ours.tls_port if implicit else ours.port), implicit, mechanism)
    start(furnish(theirs, authority, made["theirs"], ours.address, EXIM_UID if isinstance(theirs, Exim) else 0))
    send_all(theirs, BOB, ALICE)
    mails = everything(ours, BOB, theirs)
    assert all(b"with ESMTPSA" in m.split(b"Received:")[1] for m in mails)
    assert f" mechanism={mechanism} " in ours.said() and " mechanism=X" not in ours.said()
    wait_until(lambda: theirs.queued() == 0, 20, theirs.said)


# -- ours to theirs --------------------------------------------------------------------------------------------------------------------

# Not OpenSMTPD: Debian 12's cannot serve TLS, for how it keeps its keys does not work with OpenSSL 3 (its issue 1171).

def postfix_takes(folder, at, implicit, start):
    """Dovecot knows who may log in at Postfix."""
    dovecot = start(Dovecot(folder.with_name("dovecot"), at, free_port(at), PASSWORD, mechanisms="plain login scram-sha-256"))
    return Postfix(folder, at, free_port(at), users=[CAROL], hostname="mx.theirs.example", main={
        "smtpd_tls_security_level": "encrypt", "smtpd_tls_cert_file": "/etc/tls/cert.pem", "smtpd_tls_key_file": "/etc/tls/key.pem",
        "smtpd_tls_wrappermode": "yes" if implicit else "no", "smtpd_tls_received_header": "yes", "smtpd_sasl_auth_enable": "yes",
        "smtpd_sasl_type": "dovecot", "smtpd_sasl_path": f"inet:{dovecot.address}:{dovecot.auth_port}", "mynetworks": "192.0.2.1",
        "smtpd_client_restrictions": "permit_sasl_authenticated, reject"})


SERVER_AUTHENTICATOR = """
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{%s}}{eq{$auth3}{%s}}}}
  server_set_id = $auth2
  server_advertise_condition = ${if def:tls_in_cipher}
""" % (ALICE, PASSWORD)


def exim_takes(folder, at, implicit, start):
    port = free_port(at)
    return Exim(folder, at, port, [CAROL], (at, 9), hostname="mx.theirs.example", more=SERVER_AUTHENTICATOR, implicit=implicit,
                main="tls_advertise_hosts = *\ntls_certificate = /etc/tls/cert.pem\ntls_privatekey = /etc/tls/key.pem\nauth_advertise_hosts = *\n"
                "acl_smtp_mail = ${if def:sender_host_authenticated {accept}{deny}}" + (f"\ntls_on_connect_ports = {port}" if implicit else ""))


@pytest.mark.parametrize("implicit", [False, True], ids=name_of)
@pytest.mark.parametrize("takes", [postfix_takes, exim_takes], ids=name_of)
def test_ours_to_theirs(folder, addresses, start, authority, made, takes, implicit):
    theirs = takes(folder / "theirs", addresses[1], implicit, start)
    start(furnish(theirs, authority, made["theirs"], addresses[0], EXIM_UID if isinstance(theirs, Exim) else 0))
    (folder / "secret").write_text(PASSWORD + "\n")
    ours = start(Nightmail(folder / "ours", addresses[0], users=[ALICE, BOB], hostname="mx.ours.example", zone=ZONE.format(theirs=theirs.address),
                           relay_host=f"mx.theirs.example:{theirs.port}", relay_host_tls_implicit="yes" if implicit else "no", relay_host_user=ALICE,
                           relay_host_password=f"file:{folder}/secret", outbound_tls_ca_file=authority.file))
    send_all(ours, CAROL, ALICE)
    mails = everything(theirs, CAROL, ours)
    first = [re.sub(rb"\s+", b" ", m.split(b"Received:")[1]) for m in mails]
    assert all(re.search(rb"with ESMTPSA|with esmtpsa|TLSv1\.3", line) for line in first), first[0]
    wait_until(lambda: ours.queued() == [], 20, ours.said)
    assert "verified=yes" in ours.log.read_text()


@pytest.mark.parametrize("takes", [postfix_takes, exim_takes], ids=name_of)
def test_their_refusal_of_our_password_is_waited_out(folder, addresses, start, authority, made, takes):
    theirs = takes(folder / "theirs", addresses[1], False, start)
    start(furnish(theirs, authority, made["theirs"], addresses[0], EXIM_UID if isinstance(theirs, Exim) else 0))
    (folder / "secret").write_text("wrong\n")
    ours = start(Nightmail(folder / "ours", addresses[0], users=[ALICE, BOB], hostname="mx.ours.example", zone=ZONE.format(theirs=theirs.address),
                           relay_host=f"mx.theirs.example:{theirs.port}", relay_host_user=ALICE, relay_host_password=f"file:{folder}/secret",
                           outbound_tls_ca_file=authority.file, retry=["1h"]))
    with smtplib.SMTP(ours.address, ours.port, timeout=30) as client:
        client.sendmail(ALICE, [CAROL], message("plain", ALICE, CAROL))
    wait_until(lambda: "login-out-failed" in ours.said(), 30, lambda: ours.said() + theirs.said())
    assert len(ours.queued()) == 1 and theirs.mails(CAROL) == [] and "wrong" not in ours.said()
