"""
TLS with other people's programs: what our server offers and refuses, which certificate it shows, what a reload does to who is
there; clients that submit under TLS; and Postfix on both sides.
"""
import os
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import threading
import time

import pytest

from certificates import Authority
from messages import BODIES, assert_all_arrived, body_of, message, send_all
from nightmail import Nightmail
from postfix import Postfix
from proc import free_port, wait_until

BOB, ALICE = "bob@here.example", "alice@ours.example"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def made(authority):
    """Two kinds for one name, and another name."""
    return {"ec": authority.make("ec", ["nightmail.example"]), "rsa": authority.make("rsa", ["nightmail.example"], "rsa"),
            "other": authority.make("other", ["other.example", "*.wild.example"])}


@pytest.fixture
def server(folder, addresses, start, made):
    return start(Nightmail(folder, addresses[0], users=[BOB], certificates=[made["ec"], made["rsa"], made["other"]]))


def s_client(server, *argv, text=b"EHLO x\r\nQUIT\r\n"):
    """What openssl says of a session at the TLS port."""
    r = subprocess.run(["openssl", "s_client", "-connect", f"{server.address}:{server.tls_port}", "-ign_eof", *map(str, argv)],
                       input=text, capture_output=True, timeout=30)
    return r.returncode, (r.stdout + r.stderr).decode(errors="replace")


def trusting(authority):
    return ssl.create_default_context(cafile=str(authority.file))


def arrived(server, count, user=BOB):
    return wait_until(lambda: len(server.mails(user)) >= count and server.mails(user), 40, server.said)


# -- what is offered and what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version, cipher", [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
def test_protocols(server, authority, version, cipher):
    status, said = s_client(server, version, "-CAfile", authority.file, "-verify_return_error", "-servername", "nightmail.example")
    assert status == 0 and f"New, {cipher}" in said and "Verify return code: 0 (ok)" in said, said
    assert "Compression: NONE" in said and "221 2.0.0" in said, said
    assert "GCM" in said or "CHACHA20" in said, said


@pytest.mark.parametrize("weak", [
    ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], ["-tls1", "-cipher", "ALL:@SECLEVEL=0"],
    ["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"],                       # no forward secrecy
    ["-tls1_2", "-cipher", "AES256-GCM-SHA384"],
    ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA"],  # no authenticated encryption
    ["-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"],
    ["-tls1_2", "-cipher", "aNULL:@SECLEVEL=0"], ["-tls1_2", "-cipher", "eNULL:@SECLEVEL=0"],
], ids=" ".join)
def test_weak_settings_are_refused(server, weak):
    status, said = s_client(server, *weak)
    assert status != 0 and "New, (NONE)" in said and "220 nightmail" not in said, said
    wait_until(lambda: "tls-failed" in server.said(), 10, server.said)


@pytest.mark.parametrize("starttls", [False, True], ids=["implicit", "starttls"])
@pytest.mark.parametrize("weak", [{"maximum_version": ssl.TLSVersion.TLSv1_1, "ciphers": "ALL:@SECLEVEL=0"},
                                  {"maximum_version": ssl.TLSVersion.TLSv1_2, "ciphers": "AES128-GCM-SHA256"},
                                  {"maximum_version": ssl.TLSVersion.TLSv1_2, "ciphers": "ECDHE+AES:!AESGCM:!AESCCM"}],
                         ids=["TLSv1.1", "no-forward-secrecy", "no-authenticated-encryption"])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_weak_settings_of_python_are_refused(server, weak, starttls):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version, context.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, weak["maximum_version"]
    context.set_ciphers(weak["ciphers"])
    with pytest.raises(ssl.SSLError, match="alert protocol version|handshake failure"):
        if starttls:
            with smtplib.SMTP(server.address, server.port, timeout=30) as client:
                client.starttls(context=context)
        else:
            smtplib.SMTP_SSL(server.address, server.tls_port, timeout=30, context=context)


@pytest.mark.parametrize("version, named", [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
def test_openssl_by_starttls(server, authority, version, named):
    r = subprocess.run(["openssl", "s_client", "-connect", f"{server.address}:{server.port}", "-starttls", "smtp", "-ign_eof", version, "-CAfile",
                        authority.file, "-verify_return_error", "-servername", "other.example"], input=b"EHLO x\r\nQUIT\r\n",
                       capture_output=True, timeout=30)
    said = (r.stdout + r.stderr).decode(errors="replace")
    assert r.returncode == 0 and f"New, {named}" in said and "subject=CN = other" in said and "221 2.0.0" in said, said


def test_no_renegotiation(server):
    """A line that is only an R makes s_client ask for it; its input stays open until it has heard the answer."""
    with subprocess.Popen(["openssl", "s_client", "-connect", f"{server.address}:{server.tls_port}", "-tls1_2"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        while not client.stdout.readline().startswith(b"220 "):      # or it would come amid the renegotiation
            assert client.poll() is None
        client.stdin.write(b"R\n")
        client.stdin.flush()
        assert client.wait(20) != 0
        said = client.stdout.read().decode(errors="replace")
    assert "RENEGOTIATING" in said and "no renegotiation" in said, said


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_kinds_of_certificates_side_by_side(server, version):
    for sigalgs, wanted in (("ECDSA+SHA256:RSA-PSS+SHA256", "CN = ec"), ("RSA-PSS+SHA256:RSA+SHA256", "CN = rsa")):
        _, said = s_client(server, version, "-sigalgs", sigalgs, "-servername", "nightmail.example")
        assert f"subject={wanted}" in said, said


def test_sni(server, authority):
    for name, fits in (("nightmail.example", True), ("other.example", True), ("a.wild.example", True), ("nobody.example", False)):
        with socket.create_connection((server.address, server.tls_port), 10) as s:
            try:
                with trusting(authority).wrap_socket(s, server_hostname=name) as tls:
                    assert fits and tls.recv(100).startswith(b"220 ")
            except ssl.SSLCertVerificationError as error:
                assert not fits and "mismatch" in str(error)


# -- resumption ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_resumption_by_openssl(server, folder, made, version):
    _, said = s_client(server, version, "-sess_out", folder / "session")
    assert "New, " in said, said
    _, said = s_client(server, version, "-sess_in", folder / "session")
    assert "Reused, " in said, said
    reload(server)
    _, said = s_client(server, version, "-sess_in", folder / "session")
    assert "Reused, " in said, said                     # certificates may change; the tickets' keys are not theirs
    assert "resumed=yes" in server.said()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_resumption_by_python(server, authority, version):
    context, session = trusting(authority), None
    context.maximum_version = version
    for turn in range(3):
        with socket.create_connection((server.address, server.tls_port), 10) as s:
            with context.wrap_socket(s, server_hostname="nightmail.example", session=session) as tls:
                assert tls.recv(100).startswith(b"220 ")
                tls.sendall(b"NOOP\r\n")
                assert tls.recv(100).startswith(b"250 ")
                assert tls.session_reused == (turn > 0)
                session = tls.session


# -- reload --------------------------------------------------------------------------------------------------------------------------


def readings(server):
    text = server.log.read_text()
    return text.count("certificates-loaded") + text.count("certificates-refused")


def reload(server, change=lambda: None):
    before = readings(server)
    change()
    os.kill(server.process.pid, signal.SIGHUP)
    wait_until(lambda: readings(server) > before, 10, server.said)


def shown(server, authority):
    with socket.create_connection((server.address, server.tls_port), 10) as s:
        with trusting(authority).wrap_socket(s, server_hostname="nightmail.example") as tls:
            assert tls.recv(100).startswith(b"220 ")
            return dict(part[0] for part in tls.getpeercert()["subject"])["commonName"]


def test_reload_under_load(folder, addresses, start, authority):
    """Certificates change again and again, while clients shake hands as fast as they can: none fails, and who was there stays."""
    file, key = folder / "now.pem", folder / "now.key"
    generations = [authority.make(f"generation-{i}", ["nightmail.example"], "rsa" if i % 2 else "ec") for i in range(6)]

    def put(pair):
        for source, target in zip(reversed(pair), (key, file)):
            shutil.copy(source, f"{target}.new")
            os.rename(f"{target}.new", target)

    put(generations[0])
    server = start(Nightmail(folder, addresses[0], users=[BOB], certificates=[(file, key)], tls_check_interval="1s"))
    assert shown(server, authority) == "generation-0"
    done, failures, count = threading.Event(), [], [0]

    def hammer():
        while not done.is_set():
            try:
                assert shown(server, authority).startswith("generation-")
                count[0] += 1
            except Exception as error:                  # noqa: BLE001: whatever it is, it is the failure
                failures.append(error)
                return

    held = smtplib.SMTP(server.address, server.port, timeout=30)
    context = trusting(authority)
    context.check_hostname = False
    held.starttls(context=context)
    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for pair in generations[1:]:
            reload(server, lambda: put(pair))           # noqa: B023: called at once
            time.sleep(0.2)
        assert shown(server, authority) == "generation-5"
        reload(server, lambda: file.write_text("-----BEGIN CERTIFICATE-----\nrubbish\n"))
        assert shown(server, authority) == "generation-5"
        put(generations[2])                             # seen by itself, without a signal
        wait_until(lambda: shown(server, authority) == "generation-2", 10, server.said)
    finally:
        done.set()
        for thread in threads:
            thread.join(30)
    assert failures == [] and count[0] > 50
    assert "certificates-refused" in server.log.read_text()
    assert held.noop()[0] == 250
    held.sendmail("alice@tester.example", [BOB], message("plain"))
    held.quit()
    assert b"with ESMTPS" in arrived(server, 1)[0]


# -- clients ---------------------------------------------------------------------------------------------------------------------------


def run(*argv, **options):
    r = subprocess.run(list(map(str, argv)), capture_output=True, timeout=60, **options)
    assert r.returncode == 0, (r.returncode, r.stdout, r.stderr)
    return r


def assert_private(mail, name):
    assert body_of(mail) == BODIES[name]
    received = mail.split(b"Received:")[1]
    assert b"with ESMTPS" in received and b"tls TLS_" in received, received


@pytest.mark.parametrize("how", ["--tls", "--tls-on-connect"])
def test_swaks(server, folder, authority, how):
    (folder / "mail").write_bytes(message("dots").replace(b"\r\n", b"\n")[:-1])
    port = server.port if how == "--tls" else server.tls_port
    run("swaks", "--server", server.address, "--port", port, "--helo", "tester.example", "--from", "alice@tester.example", "--to", BOB,
        how, "--tls-ca-path", authority.file, "--tls-sni", "nightmail.example", "--data", f"@{folder}/mail")
    assert_private(arrived(server, 1)[0], "dots")


@pytest.mark.parametrize("starttls", ["on", "off"])
def test_msmtp(server, authority, starttls):
    run("msmtp", "--file=/dev/null", f"--host={server.address}", f"--port={server.port if starttls == 'on' else server.tls_port}", "--tls=on",
        f"--tls-starttls={starttls}", f"--tls-trust-file={authority.file}", "--tls-host-override=nightmail.example", "--auth=off",
        "--domain=tester.example", "--from=alice@tester.example", BOB, input=message("spaces").replace(b"\r\n", b"\n"))
    assert_private(arrived(server, 1)[0], "spaces")


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_curl(server, folder, authority, scheme):
    (folder / "mail").write_bytes(message("many"))
    port = server.port if scheme == "smtp" else server.tls_port
    run("curl", "--silent", "--show-error", "--ssl-reqd", "--cacert", authority.file, "--resolve", f"nightmail.example:{port}:{server.address}",
        "--url", f"{scheme}://nightmail.example:{port}/tester.example", "--mail-from", "alice@tester.example", "--mail-rcpt", BOB,
        "--upload-file", folder / "mail")
    assert_private(arrived(server, 1)[0], "many")


def test_smtplib(server, authority):
    with smtplib.SMTP(server.address, server.port, timeout=30) as client:
        client._host = "nightmail.example"              # the name to check, in the absence of DNS
        client.starttls(context=trusting(authority))
        client.ehlo()
        assert not client.has_extn("starttls")
        client.sendmail("alice@tester.example", [BOB], message("utf8"), ["BODY=8BITMIME"])
    assert_private(arrived(server, 1)[0], "utf8")


def test_nightmail_send(server, authority):
    for how, port in (("--starttls", server.port), ("--tls", server.tls_port)):
        r = server.command("send", "--server", f"{server.address}:{port}", how, "--from", "alice@tester.example", "--to", BOB)
        assert r.returncode == 0 and b"TLS established: TLSv1.3" in r.stdout, (r.stdout, r.stderr)
    arrived(server, 2)


# -- Postfix, both ways ------------------------------------------------------------------------------------------------------------------

THEIRS = "bob@theirs.example"
ZONE = """$ORIGIN example.
$TTL 60
@         IN SOA ns hostmaster 1 3600 600 86400 60
@         IN NS  ns
ns        IN A   127.0.0.1
theirs    IN MX  10 mx.theirs
mx.theirs IN A   {theirs}
"""


def pair(folder, addresses, start, authority, made, main, **options):
    ours_at, theirs_at = addresses[:2]
    port, our_port = free_port(theirs_at), free_port(ours_at)
    theirs = Postfix(folder / "theirs", theirs_at, port, users=[THEIRS], hostname="mx.theirs.example",
                     main=dict({"relayhost": f"[{ours_at}]:{our_port}"}, **main))
    file, key = authority.make("theirs", ["mx.theirs.example"], "rsa")
    for source, name in ((file, "cert.pem"), (key, "key.pem"), (authority.file, "ca.pem")):
        shutil.copy(source, theirs.root / "etc/postfix" / name)
    ours = Nightmail(folder / "ours", ours_at, our_port, users=[ALICE], hostname="mx.ours.example", smtp_port=port,
                     zone=ZONE.format(theirs=theirs_at), certificates=[made["ec"], made["rsa"]], **options)
    return start(ours), start(theirs)


SERVES_TLS = {"smtpd_tls_security_level": "may", "smtpd_tls_cert_file": "/etc/postfix/cert.pem", "smtpd_tls_key_file": "/etc/postfix/key.pem",
              "smtpd_tls_received_header": "yes"}


@pytest.mark.parametrize("level", ["may", "encrypt", "verify"])
def test_ours_to_postfix(folder, addresses, start, authority, made, level):
    ours, theirs = pair(folder, addresses, start, authority, made, SERVES_TLS, outbound_tls=level, outbound_tls_ca_file=authority.file,
                        connection_messages_max=1)
    send_all(ours, THEIRS, ALICE)
    mails = wait_until(lambda: len(theirs.mails(THEIRS)) >= len(BODIES) and theirs.mails(THEIRS), 40, lambda: ours.said() + theirs.said())
    assert_all_arrived(mails)
    assert all(b"(using TLSv1.3 with cipher" in m for m in mails)
    log = ours.log.read_text()
    assert f"verified={'yes' if level == 'verify' else 'no'}" in log and "tls-out " in log


@pytest.mark.parametrize("domain, verified", [("theirs.example=secure", "yes"), (".example=verify", "yes"), (".theirs.example=secure", "no")])
def test_a_domain_has_a_level_of_its_own(folder, addresses, start, authority, made, domain, verified):
    """Secure: mx.theirs.example stands below the domain. The last one is said of others, below it."""
    ours, theirs = pair(folder, addresses, start, authority, made, SERVES_TLS, outbound_tls="may", outbound_tls_by_domain=[domain],
                        outbound_tls_ca_file=authority.file)
    with smtplib.SMTP(ours.address, ours.port, timeout=30) as client:
        client.sendmail(ALICE, [THEIRS], message("plain"))
    wait_until(lambda: theirs.mails(THEIRS), 30, ours.said)
    assert f"verified={verified}" in ours.log.read_text()


def test_ours_to_a_postfix_without_tls(folder, addresses, start, authority, made):
    """May goes without; encrypt waits, and says why."""
    ours, theirs = pair(folder, addresses, start, authority, made, {})
    with smtplib.SMTP(ours.address, ours.port, timeout=30) as client:
        client.sendmail(ALICE, [THEIRS], message("plain"))
    wait_until(lambda: theirs.mails(THEIRS), 30, ours.said)
    assert ours.stop() == 0
    with open(ours.conf, "a", encoding="ascii") as conf:
        conf.write("outbound_tls = encrypt\n")
    ours.start()
    with smtplib.SMTP(ours.address, ours.port, timeout=30) as client:
        client.sendmail(ALICE, [THEIRS], message("dots"))
    wait_until(lambda: "status=4.7.4" in ours.said(), 30, ours.said)
    assert len(theirs.mails(THEIRS)) == 1 and len(ours.queued()) == 1


def test_ours_does_not_come_down_to_old_tls(folder, addresses, start, authority, made):
    """Where a server has nothing newer than TLS 1.1, encrypt waits; may goes in plain text, which pretends nothing."""
    old = dict(SERVES_TLS, smtpd_tls_protocols="<=TLSv1.1", smtpd_tls_mandatory_protocols="<=TLSv1.1", tls_medium_cipherlist="ALL:@SECLEVEL=0",
               smtpd_tls_loglevel="1")
    ours, theirs = pair(folder, addresses, start, authority, made, old, outbound_tls="encrypt")
    with smtplib.SMTP(ours.address, ours.port, timeout=30) as client:
        client.sendmail(ALICE, [THEIRS], message("plain"))
    wait_until(lambda: "deferred" in ours.said(), 30, ours.said)
    assert "TLS failed" in ours.said() and "SSL_accept error" in theirs.said() and theirs.mails(THEIRS) == []
    assert ours.stop() == 0
    ours.conf.write_text(ours.conf.read_text().replace('outbound_tls = "encrypt"', 'outbound_tls = "may"'))
    ours.start()
    assert ours.command("queue", "retry", ours.queued()[0]["id"]).returncode == 0
    mail = wait_until(lambda: theirs.mails(THEIRS), 30, lambda: ours.said() + theirs.said())[0]
    assert b"(using TLS" not in mail and body_of(mail) == BODIES["plain"]


def test_ours_does_not_trust_a_stranger(folder, addresses, start, authority, made, tmp_path):
    ours, theirs = pair(folder, addresses, start, authority, made, SERVES_TLS, outbound_tls="verify",
                        outbound_tls_ca_file=Authority(tmp_path / "another").file)
    with smtplib.SMTP(ours.address, ours.port, timeout=30) as client:
        client.sendmail(ALICE, [THEIRS], message("plain"))
    wait_until(lambda: "status=4.7.5" in ours.said(), 30, ours.said)
    assert "certificate verify failed" in ours.said() and theirs.mails(THEIRS) == []


@pytest.mark.parametrize("level", ["may", "encrypt", "secure"])
def test_postfix_to_ours(folder, addresses, start, authority, made, level):
    ours, theirs = pair(folder, addresses, start, authority, made, {
        "smtp_tls_security_level": level, "smtp_tls_CAfile": "/etc/postfix/ca.pem", "smtp_tls_loglevel": "1",
        "smtp_tls_secure_cert_match": "nightmail.example",
    })
    send_all(theirs, ALICE, "carol@elsewhere.example")
    mails = wait_until(lambda: len(ours.mails(ALICE)) >= len(BODIES) and ours.mails(ALICE), 40, lambda: ours.said() + theirs.said())
    assert_all_arrived(mails)
    assert all(b"with ESMTPS" in m.split(b"Received:")[1] for m in mails)
    if level == "secure":
        assert "Verified TLS connection established" in theirs.said()


def test_ours_to_ours_by_implicit_tls(folder, addresses, start, authority, made):
    """As a relay host with TLS from the first byte, verified; and the session is taken up again."""
    inner = start(Nightmail(folder / "inner", addresses[0], users=[BOB], certificates=[made["ec"]]))
    zone = "@ 60 IN SOA ns hostmaster 1 3600 600 86400 60\n@ 60 IN NS ns\nns 60 IN A 127.0.0.1\nnightmail 60 IN A " + addresses[0] + "\n"
    outer = start(Nightmail(folder / "outer", addresses[1], hostname="outer.example", zone=zone, relay_host=f"nightmail.example:{inner.tls_port}",
                            relay_host_tls="verify", relay_host_tls_implicit="yes", outbound_tls_ca_file=authority.file,
                            connection_messages_max=1))
    for name in ("plain", "dots", "utf8"):
        with smtplib.SMTP(outer.address, outer.port, timeout=30) as client:
            client.sendmail("alice@tester.example", [BOB], message(name), ["BODY=8BITMIME"])
        wait_until(lambda: outer.queued() == [], 20, outer.said)
    assert len(arrived(inner, 3)) == 3
    log = outer.log.read_text()
    assert log.count("tls-out") == 3 and "verified=yes resumed=no" in log and log.count("resumed=yes") == 2, log
