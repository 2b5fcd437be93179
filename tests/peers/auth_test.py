"""
Other people's clients log in and submit mail, with each mechanism that both sides have; and a wrong channel binding is refused.
"""
import base64
import hashlib
import hmac
import re
import select
import smtplib
import socket
import ssl
import subprocess
import threading

import pytest

from dovecot import Dovecot
from exim import Exim
from messages import BODIES, body_of, message
from nightmail import Nightmail
from proc import free_port, wait_until

ALICE, BOB, PASSWORD = "alice@here.example", "bob@here.example", "pencil with: spaces and \u00fcmlaut"
CLIENT = "tester.example"


def run(*argv, status=0, **options):
    r = subprocess.run(list(map(str, argv)), capture_output=True, timeout=60, **options)
    assert r.returncode == status, (r.returncode, r.stdout, r.stderr)
    return r


@pytest.fixture
def certificate(folder, addresses):
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=mx.here.example",
        "-addext", f"subjectAltName=DNS:mx.here.example,IP:{addresses[0]},IP:{addresses[1]}", "-days", "2", "-keyout", folder / "key.pem", "-out", folder / "cert.pem")
    return folder / "cert.pem"


@pytest.fixture
def server(folder, addresses, start, certificate):
    """Submission with STARTTLS; alice may log in, by SCRAM too."""
    (folder / "accounts").touch()
    s = Nightmail(folder, addresses[0], users=[ALICE, BOB], hostname="mx.here.example", accounts_file=folder / "accounts", scram="yes",
                  auth_failure_delay="0s", terms="service = submission", certificates=[(certificate, folder / "key.pem")])
    added = s.command("user", "add", ALICE, input=PASSWORD.encode() + b"\n")
    assert added.returncode == 0, added.stderr
    return start(s)


def arrived(server, user=BOB):
    return wait_until(lambda: server.mails(user), 30, server.said)[0]


def own(name):
    return message(name).replace(b"alice@tester.example", ALICE.encode())


def tls(certificate):
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    return context


def port_of(server, implicit):
    return server.tls_port if implicit else server.port


def submit(client):
    client.sendmail(ALICE, [BOB], own("plain"))


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_smtplib(server, certificate, mechanism):
    with smtplib.SMTP(server.address, server.port, local_hostname=CLIENT, timeout=30) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        client.starttls(context=tls(certificate))
        client.ehlo()
        assert client.esmtp_features["auth"].split() == ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"]
        client.user, client.password = ALICE, PASSWORD
        reply = base64.b64encode(f"\0{ALICE}\0{PASSWORD}".encode()).decode()
        code, _ = client.docmd("AUTH", "PLAIN " + reply) if mechanism == "PLAIN" else login(client)
        assert code == 235
        submit(client)
    mail = arrived(server)
    assert body_of(mail) == BODIES["plain"]
    assert b"with ESMTPSA" in mail


def test_smtplib_by_implicit_tls(server, certificate):
    """Its own login() takes ASCII only."""
    with smtplib.SMTP_SSL(server.address, server.tls_port, local_hostname=CLIENT, timeout=30, context=tls(certificate)) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(ALICE, "wrong")
        assert login(client)[0] == 235
        submit(client)
    assert b"with ESMTPSA" in arrived(server)


def login(client):
    assert client.docmd("AUTH", "LOGIN")[0] == 334
    assert client.docmd(base64.b64encode(ALICE.encode()).decode())[0] == 334
    return client.docmd(base64.b64encode(PASSWORD.encode()).decode())


def test_a_password_changes_and_a_login_goes(server, certificate):
    """The running server sees it within a second."""
    def attempt(password):
        with smtplib.SMTP(server.address, server.port, local_hostname=CLIENT, timeout=30) as client:
            client.starttls(context=tls(certificate))
            client.ehlo()
            return client.docmd("AUTH", "PLAIN " + base64.b64encode(f"\0{ALICE}\0{password}".encode()).decode())[0]

    assert attempt(PASSWORD) == 235 and attempt("other") == 535
    assert server.command("user", "passwd", ALICE, input=b"other\n").returncode == 0
    wait_until(lambda: attempt("other") == 235, 10, server.said)
    assert attempt(PASSWORD) == 535
    assert server.command("user", "list").stdout == f"{ALICE} scram\n".encode()
    assert server.command("user", "del", ALICE).returncode == 0
    wait_until(lambda: attempt("other") == 535, 10, server.said)
    assert server.command("user", "list").stdout == b""


def test_a_password_file_behind_a_link_is_left_alone(server, folder):
    link = folder / "link"
    link.symlink_to(folder / "accounts")
    before = (folder / "accounts").read_bytes()
    refused = server.command("user", "passwd", "-f", link, ALICE, input=b"other\n")
    assert refused.returncode == 73 and b"symbolic links" in refused.stderr
    assert link.is_symlink() and (folder / "accounts").read_bytes() == before and not (folder / "link.new").exists()
    assert server.command("user", "passwd", "-f", folder / "accounts", ALICE, input=b"other\n").returncode == 0


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks(server, folder, mechanism, implicit):
    (folder / "mail").write_bytes(own("plain").replace(b"\r\n", b"\n")[:-1])
    argv = ["swaks", "--server", server.address, "--port", port_of(server, implicit), "--tls-on-connect" if implicit else "--tls", "--helo", CLIENT,
            "--from", ALICE, "--to", BOB, "--auth", mechanism, "--auth-user", ALICE, "--data", f"@{folder}/mail"]
    run(*argv, "--auth-password", PASSWORD)
    assert body_of(arrived(server)) == BODIES["plain"]
    refused = run(*argv, "--auth-password", "wrong", status=28)
    assert b"535 5.7.8" in refused.stdout


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
@pytest.mark.parametrize("mechanism", ["plain", "login", "scram-sha-256"])
def test_msmtp(server, mechanism, implicit, folder):
    (folder / "password").write_text(PASSWORD)
    run("msmtp", "--file=/dev/null", f"--host={server.address}", f"--port={port_of(server, implicit)}", "--tls=on",
        f"--tls-starttls={'off' if implicit else 'on'}", "--tls-certcheck=off", f"--auth={mechanism}", f"--user={ALICE}",
        f"--passwordeval=cat {folder}/password", f"--domain={CLIENT}", f"--from={ALICE}", BOB,
        input=own("plain").replace(b"\r\n", b"\n"))
    assert body_of(arrived(server)) == BODIES["plain"]
    assert f"mechanism={mechanism.upper()}" in server.said()


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])           # Debian builds curl without SCRAM
def test_curl(server, folder, mechanism, implicit):
    (folder / "mail").write_bytes(own("plain"))
    run("curl", "--silent", "--show-error", "--url", f"smtp{'s' if implicit else ''}://{server.address}:{port_of(server, implicit)}/{CLIENT}",
        "--ssl-reqd", "--insecure", "--mail-from", ALICE, "--mail-rcpt", BOB, "--upload-file", folder / "mail",
        "--login-options", f"AUTH={mechanism}", "--user", f"{ALICE}:{PASSWORD}")
    assert body_of(arrived(server)) == BODIES["plain"]
    assert f"mechanism={mechanism}" in server.said()


def gsasl(address, port, certificate, mechanism, version, password=PASSWORD, status=0):
    return run("gsasl", "--client", "--smtp", f"--mechanism={mechanism}", f"--authentication-id={ALICE}", f"--password={password}",
               f"--connect={address}:{port}", *([] if mechanism.endswith("-PLUS") else ["--no-cb"]), f"--x509-ca-file={certificate}",
               f"--priority=NORMAL:-VERS-ALL:+VERS-TLS{version}", status=status, input=b"")


GSASL = [("PLAIN", "1.2"), ("LOGIN", "1.2"), ("SCRAM-SHA-256", "1.2"), ("PLAIN", "1.3"), ("SCRAM-SHA-256", "1.3"), ("SCRAM-SHA-256-PLUS", "1.3")]


@pytest.mark.parametrize("mechanism,version", GSASL)
def test_gsasl(server, certificate, mechanism, version):
    gsasl(server.address, server.port, certificate, mechanism, version)
    assert re.search(rf" login .*mechanism={mechanism} tls=TLSv{version}", server.said())
    gsasl(server.address, server.port, certificate, mechanism, version, password="wrong", status=1)


def test_gsasl_binds_to_tls_1_2_in_a_way_that_is_not_offered(server, certificate):
    """It knows tls-unique only there (RFC 5929, 3), which does not hold without extended master secrets."""
    gsasl(server.address, server.port, certificate, "SCRAM-SHA-256-PLUS", "1.2", status=1)


def b64(data):
    return base64.b64encode(data).decode()


def scram_plus(client, kind, binding):
    """RFC 5802 by hand; the code of the last reply."""
    bare = f"n={ALICE},r=fyko+d2lbbFgONRv9qkxdawL"
    code, said = client.docmd("AUTH", "SCRAM-SHA-256-PLUS " + b64(f"p={kind},,{bare}".encode()))
    if code != 334:
        return code
    first = base64.b64decode(said).decode()
    nonce, salt, rounds = (part[2:] for part in first.split(","))
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), base64.b64decode(salt), int(rounds))
    key = hmac.digest(salted, b"Client Key", "sha256")
    without_proof = f"c={b64(f'p={kind},,'.encode() + binding)},r={nonce}"
    signature = hmac.digest(hashlib.sha256(key).digest(), f"{bare},{first},{without_proof}".encode(), "sha256")
    proof = bytes(a ^ b for a, b in zip(key, signature))
    code, _ = client.docmd(b64(f"{without_proof},p={b64(proof)}".encode()))
    return client.docmd("")[0] if code == 334 else code


def test_the_certificate_binds_where_tls_is_1_2(server, certificate):
    """tls-server-end-point (RFC 5929, 4): the hash of the certificate, and of no other."""
    context = tls(certificate)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with smtplib.SMTP(server.address, server.port, local_hostname=CLIENT, timeout=30) as client:
        client.starttls(context=context)
        client.ehlo()
        hashed = hashlib.sha256(client.sock.getpeercert(binary_form=True)).digest()
        assert scram_plus(client, "tls-server-end-point", bytes(32)) == 535
        assert scram_plus(client, "tls-exporter", hashed) == 535
        assert scram_plus(client, "tls-server-end-point", hashed) == 235


def pass_on(source, target):
    """What is there to be read; False when there will be no more."""
    source.setblocking(False)
    try:
        while data := source.recv(65536):
            target.settimeout(30)
            target.sendall(data)
        return False
    except ssl.SSLWantReadError:
        return True


def pass_all_on(a, b):
    """Both ways, and in one thread: a TLS session is not for two at a time."""
    with a, b:
        try:
            while pass_on(a, b) and pass_on(b, a):
                select.select([a, b], [], [], 30)
        except OSError:
            pass


def line_of(connection):
    line = b""
    while not line.endswith(b"\n"):
        line += connection.recv(1)
    return line


def reply_of(connection):
    lines = [line_of(connection)]
    while lines[-1][3:4] == b"-":
        lines.append(line_of(connection))
    return b"".join(lines)


def between(listener, server, folder):
    """Somebody in the middle who has the server's key: TLS with each side, and all bytes passed on."""
    client, _ = listener.accept()
    upstream = socket.create_connection((server.address, server.port), 30)
    said = b""
    while said != b"STARTTLS\r\n":
        client.sendall(reply_of(upstream))
        said = line_of(client)
        upstream.sendall(said)
    client.sendall(reply_of(upstream))
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    ours.maximum_version = ssl.TLSVersion.TLSv1_3
    client = ours.wrap_socket(client, server_side=True)
    upstream = tls(folder / "cert.pem").wrap_socket(upstream)
    pass_all_on(client, upstream)


@pytest.mark.parametrize("mechanism,status", [("SCRAM-SHA-256", 0), ("SCRAM-SHA-256-PLUS", 1)])
def test_somebody_in_the_middle_is_found(server, folder, addresses, certificate, mechanism, status):
    """Without channel binding nothing shows; with it, what the client has bound to is not the server's connection."""
    with socket.create_server((addresses[1], 0)) as listener:
        thread = threading.Thread(target=between, args=(listener, server, folder), daemon=True)
        thread.start()
        gsasl(addresses[1], listener.getsockname()[1], certificate, mechanism, "1.3", status=status)
        thread.join(30)
    assert ("the channel binding is not this connection" in server.said()) == (status != 0), server.said()


def mechanisms_of(server, certificate):
    with smtplib.SMTP(server.address, server.port, local_hostname=CLIENT, timeout=30) as client:
        client.starttls(context=tls(certificate))
        client.ehlo()
        return client.esmtp_features["auth"]


@pytest.mark.parametrize("password,mechanism", [(PASSWORD, "SCRAM-SHA-256"), (PASSWORD, "PLAIN"), ("wrong", None)])
def test_a_relay_host_that_wants_a_login(server, folder, addresses, start, password, mechanism):
    """Our client logs in where relay_host_user says so; where it cannot, the mail waits."""
    if mechanism == "PLAIN":
        accounts = folder / "accounts"
        accounts.write_text("".join(line.split(":SCRAM")[0].rstrip("\n") + "\n" for line in accounts.read_text().splitlines()))
        wait_until(lambda: "SCRAM" not in mechanisms_of(server, folder / "cert.pem"), 10, server.said)
    (folder / "secret").write_text(password + "\n")
    near = start(Nightmail(folder / "near", addresses[1], hostname="near.example", trusted_networks=["127.0.0.0/8"], retry=["1h"],
                           relay_host=f"[{server.address}]:{server.port}", relay_host_user=ALICE, relay_host_password=f"file:{folder}/secret",
                           outbound_tls_ca_file=folder / "cert.pem"))
    with smtplib.SMTP(near.address, near.port, timeout=30) as client:
        submit(client)
    if mechanism is None:
        wait_until(lambda: "cannot log in" in near.said(), 30, near.said)
        assert "535 5.7.8" in near.said() and len(near.queued()) == 1
    else:
        wait_until(lambda: server.mails(BOB), 30, lambda: near.said() + server.said())
        assert f"mechanism={mechanism} " in server.said()
    assert password not in near.said()


def test_nightmail_send(server, folder, certificate):
    (folder / "secret").write_text(PASSWORD + "\n")
    argv = ["send", "--server", f"{server.address}:{server.port}", "--from", ALICE, "--to", BOB, "--starttls", "--auth-user", ALICE,
            "--password-file", folder / "secret"]
    sent = server.command(*argv)
    assert sent.returncode == 0, sent.stderr
    assert b"AUTH SCRAM-SHA-256\n" in sent.stdout
    arrived(server)
    (folder / "secret").write_text("wrong\n")
    assert server.command(*argv).returncode == 77


def test_what_is_over_the_rate_waits_for_the_operator(server, certificate, folder):
    text = (folder / "nightmail.conf").read_text()
    (folder / "nightmail.conf").write_text("login_messages_per_hour = 1\n" + text)
    assert server.stop() == 0
    server.start()
    with smtplib.SMTP(server.address, server.port, local_hostname=CLIENT, timeout=30) as client:
        client.starttls(context=tls(certificate))
        client.ehlo()
        assert login(client)[0] == 235
        for _ in range(3):
            submit(client)
    assert len(wait_until(lambda: server.mails(BOB), 30, server.said)) == 1
    notice = arrived(server, ALICE)
    assert b"Subject: Your message is held" in notice
    held = [item["id"] for item in server.queued() if item["state"] == "held"]
    assert len(held) == 2
    assert server.command("queue", "release", held[0]).returncode == 0
    assert server.command("queue", "delete", held[1]).returncode == 0
    wait_until(lambda: len(server.mails(BOB)) == 2 and server.queued() == [], 30, server.said)
    assert len(server.mails(ALICE)) == 1                          # told once


def give(folder, address, start, relay, secret="pencil"):
    """Our server hands a message to `relay`, (address, port), as alice."""
    (folder / "secret").write_text(secret + "\n")
    near = start(Nightmail(folder / "near", address, hostname="near.example", trusted_networks=["127.0.0.0/8"], retry=["1h"],
                           relay_host=f"[{relay[0]}]:{relay[1]}", relay_host_user=ALICE, relay_host_password=f"file:{folder}/secret",
                           relay_host_auth_allow_cleartext="yes"))
    with smtplib.SMTP(near.address, near.port, timeout=30) as client:
        submit(client)
    return near


@pytest.mark.parametrize("mechanism", ["plain", "login", "scram-sha-256"])
def test_we_log_in_at_dovecot(folder, addresses, start, mechanism):
    far = start(Nightmail(folder / "far", addresses[0], users=[BOB]))
    dovecot = start(Dovecot(folder / "dovecot", addresses[1], free_port(addresses[1]), "pencil", hop=(far.address, far.port), mechanisms=mechanism))
    near = give(folder, addresses[2], start, (dovecot.address, dovecot.submission_port))
    wait_until(lambda: far.mails(BOB), 30, lambda: near.said() + dovecot.said())
    assert f"method={mechanism.upper()}" in dovecot.said()


def test_dovecot_knows_another_password(folder, addresses, start):
    dovecot = start(Dovecot(folder / "dovecot", addresses[1], free_port(addresses[1]), "pencil", hop=(addresses[0], 9), mechanisms="scram-sha-256"))
    near = give(folder, addresses[2], start, (dovecot.address, dovecot.submission_port), secret="Pencil")
    wait_until(lambda: "login-out-failed" in near.said(), 30, near.said)
    assert len(near.queued()) == 1


AUTHENTICATORS = """
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{%s}}{eq{$auth3}{pencil}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${if and{{eq{$auth1}{%s}}{eq{$auth2}{pencil}}}}
  server_set_id = $auth1
""" % (ALICE, ALICE)


@pytest.mark.parametrize("mechanism", ["plain", "login"])
def test_we_log_in_at_exim(folder, addresses, start, mechanism):
    advertised = AUTHENTICATORS if mechanism == "plain" else AUTHENTICATORS.replace("public_name = PLAIN", "public_name = X-PLAIN")
    exim = start(Exim(folder / "exim", addresses[0], free_port(addresses[0]), [BOB], (addresses[1], 9), more=advertised,
                      main="auth_advertise_hosts = *\nacl_smtp_mail = ${if def:sender_host_authenticated {accept}{deny}}"))
    near = give(folder, addresses[2], start, (exim.address, exim.port))
    wait_until(lambda: exim.mails(BOB), 30, lambda: near.said() + exim.said())
    assert f"A={mechanism}:{ALICE}" in exim.said()
