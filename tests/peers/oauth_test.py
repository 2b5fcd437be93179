"""
Logins by access token: curl, msmtp, nodemailer and smtplib at our server, which asks an identity provider over HTTPS; and our client at a relay host, with
tokens that it gets for a refresh token.
"""
import base64
import os
import smtplib
import ssl
import subprocess
import threading
import time

import pytest

import nodemailer
from certificates import Authority
from dovecot import Dovecot
from identity import IdentityProvider
from messages import BODIES, body_of, message
from nightmail import Nightmail
from proc import free_port, wait_until

ALICE, BOB, CLIENT = "alice@here.example", "bob@here.example", "tester.example"
SECRET = "s3cret:%"


@pytest.fixture
def authority(folder):
    return Authority(folder / "authority")


@pytest.fixture
def provider(addresses, authority, start):
    """At idp.example, which DNS knows and nobody else."""
    return start(IdentityProvider(addresses[2], authority.make("idp", ["idp.example"]), ("nightmail", SECRET)))


def zone(address):
    return f"@ 60 IN SOA ns hostmaster 1 3600 600 86400 60\n@ 60 IN NS ns\nns 60 IN A 127.0.0.1\nidp 60 IN A {address}\nother 60 IN A {address}\n"


def server_of(folder, addresses, authority, provider, **options):
    (folder / "client-secret").write_text(SECRET + "\n")
    settings = dict(oauth_introspection_url=provider.url("idp.example", "/introspect"), oauth_client_id="nightmail",
                    oauth_client_secret=f"file:{folder}/client-secret", oauth_ca_file=authority.file, auth_failure_delay="0s", oauth_timeout="3s")
    settings.update(options)
    return Nightmail(folder / "server", addresses[0], users=[ALICE, BOB], hostname="mx.here.example", zone=zone(addresses[2]), terms="service = submission",
                     certificates=[authority.make("mx", ["mx.here.example"])], **settings)


@pytest.fixture
def server(folder, addresses, authority, provider, start):
    return start(server_of(folder, addresses, authority, provider))


def own():
    return message("plain").replace(b"alice@tester.example", ALICE.encode())


def connected(server, authority):
    client = smtplib.SMTP(server.address, server.port, local_hostname=CLIENT, timeout=30)
    context = ssl.create_default_context(cafile=authority.file)
    context.check_hostname = False
    client.starttls(context=context)
    client.ehlo()
    return client


def xoauth2(client, token, login=ALICE):
    """The code and the words of the verdict; the challenge of a bad token is answered."""
    words = base64.b64encode(f"user={login}\1auth=Bearer {token}\1\1".encode()).decode()
    code, said = client.docmd("AUTH", "XOAUTH2 " + words)
    if code == 334:
        assert b'"status"' in base64.b64decode(said)
        code, said = client.docmd("")
    return code, said


def test_curl(server, folder, provider):
    (folder / "mail").write_bytes(own())

    def curl(token):
        return subprocess.run(["curl", "--silent", "--show-error", "--url", f"smtp://{server.address}:{server.port}/{CLIENT}", "--ssl-reqd", "--insecure",
                               "--mail-from", ALICE, "--mail-rcpt", BOB, "--upload-file", folder / "mail",
                               "--user", ALICE, "--oauth2-bearer", token], capture_output=True, timeout=60)

    sent = curl(provider.issue(ALICE))
    assert sent.returncode == 0, sent.stderr
    assert body_of(wait_until(lambda: server.mails(BOB), 30, server.said)[0]) == BODIES["plain"]
    assert "mechanism=OAUTHBEARER" in server.said()
    assert curl("bad").returncode == 67                          # CURLE_LOGIN_DENIED
    assert 'text="the token is not active"' in server.said()


def test_smtplib(server, authority, provider):
    token = provider.issue(ALICE)
    with connected(server, authority) as client:
        assert client.esmtp_features["auth"].split() == ["OAUTHBEARER", "XOAUTH2"]
        client.user = ALICE
        client.auth("XOAUTH2", lambda challenge=None: f"user={ALICE}\1auth=Bearer {token}\1\1" if challenge is None else "")
        client.sendmail(ALICE, [BOB], own())
    mail = wait_until(lambda: server.mails(BOB), 30, server.said)[0]
    assert b"with ESMTPSA" in mail
    with connected(server, authority) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            client.auth("XOAUTH2", lambda challenge=None: f"user={ALICE}\1auth=Bearer bad\1\1" if challenge is None else "")
        assert refused.value.smtp_code == 535
    assert token not in server.said() and SECRET not in server.said()


@pytest.mark.parametrize("mechanism", ["oauthbearer", "xoauth2"])
def test_msmtp(server, folder, authority, provider, mechanism):
    def hand_over(token):
        (folder / "token").write_text(token)
        return subprocess.run(["msmtp", "--file=/dev/null", f"--host={server.address}", f"--port={server.port}", "--tls=on", "--tls-starttls=on",
                               f"--tls-trust-file={authority.file}", "--tls-host-override=mx.here.example", f"--auth={mechanism}", f"--user={ALICE}",
                               f"--passwordeval=cat {folder}/token", f"--domain={CLIENT}", f"--from={ALICE}", BOB],
                              input=own().replace(b"\r\n", b"\n"), capture_output=True, timeout=60)

    sent = hand_over(provider.issue(ALICE))
    assert sent.returncode == 0, sent.stderr
    assert body_of(wait_until(lambda: server.mails(BOB), 30, server.said)[0]) == BODIES["plain"]
    assert f"mechanism={mechanism.upper()}" in server.said()
    assert hand_over("bad").returncode == 77                     # EX_NOPERM


def test_nodemailer(server, authority, provider):
    def hand_over(token):
        return nodemailer.send(server.address, server.port, [nodemailer.raw(ALICE, [BOB], own())], requireTLS=True,
                               tls={"ca": authority.file.read_text(), "servername": "mx.here.example"},
                               auth={"type": "OAuth2", "user": ALICE, "accessToken": token})[0]

    outcome = hand_over(provider.issue(ALICE))
    assert outcome.get("accepted") == [BOB], outcome
    assert body_of(wait_until(lambda: server.mails(BOB), 30, server.said)[0]) == BODIES["plain"]
    assert "mechanism=XOAUTH2" in server.said()
    assert hand_over("bad")["code"] == "EAUTH" and 'text="the token is not active"' in server.said()


def test_good_answers_are_remembered_and_bad_ones_are_not(server, authority, provider):
    short, token = provider.issue(ALICE, exp=int(time.time()) + 3), provider.issue(ALICE)
    with connected(server, authority) as client:
        assert xoauth2(client, "unknown")[0] == 535
        provider.tokens["unknown"] = {"active": True, "username": ALICE}
        assert xoauth2(client, "unknown")[0] == 235
    for _ in range(3):
        with connected(server, authority) as client:
            assert xoauth2(client, token)[0] == 235
    assert provider.asked == 3
    with connected(server, authority) as client:
        assert xoauth2(client, short)[0] == 235

    def has_ended():
        with connected(server, authority) as client:
            return xoauth2(client, short)[0] == 535

    wait_until(has_ended, 20, server.said)


def hang(handler):
    time.sleep(20)


def flood(handler):
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b" " * 65536)
    except OSError:
        pass


def trickle(handler):
    handler.send_response(200)
    handler.end_headers()
    try:
        for c in '{"active": true, "username": "' + ALICE + '"}' + " " * 1000:
            handler.wfile.write(c.encode())
            time.sleep(0.2)
    except OSError:
        pass


def redirect(handler):
    handler.send_response(307)
    handler.send_header("Location", "/elsewhere")
    handler.end_headers()


def cut(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"active": true, "username": "' + ALICE.encode() + b'"}')
    handler.close_connection = True


@pytest.mark.parametrize("trouble", [hang, flood, trickle, redirect, cut])
def test_a_provider_in_trouble_is_454(server, authority, provider, trouble):
    token = provider.issue(ALICE)
    provider.trouble = trouble
    began = time.monotonic()
    with connected(server, authority) as client:
        assert xoauth2(client, token) == (454, b"4.7.0 I cannot check tokens now")
        assert time.monotonic() - began < 10
        provider.trouble = None
        assert xoauth2(client, token)[0] == 235
    assert "tokens-unreachable" in server.said() and "tokens-reachable" in server.said()


WRONG = {
    "a name that is not the certificate's": lambda p, a: dict(oauth_introspection_url=p.url("other.example", "/introspect")),
    "an authority that we do not know":     lambda p, a: dict(oauth_ca_file=""),
    "a name that DNS does not know":        lambda p, a: dict(oauth_introspection_url=p.url("nobody.example", "/introspect")),
    "another secret":                       lambda p, a: dict(oauth_client_secret=f"file:{a.file}"),
    "nobody there":                         lambda p, a: dict(oauth_introspection_url=f"https://127.0.0.1:{free_port('127.0.0.1')}/"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_provider_that_is_not_to_be_asked_is_454(folder, addresses, authority, provider, start, what):
    s = start(server_of(folder, addresses, authority, provider, **WRONG[what](provider, authority)))
    with connected(s, authority) as client:
        assert xoauth2(client, provider.issue(ALICE))[0] == 454
    assert provider.asked == 0


def test_the_environment_does_not_choose_the_way(folder, addresses, authority, provider, start):
    """Neither a proxy nor a .netrc."""
    (folder / ".netrc").write_text("default login somebody password else\n")
    s = server_of(folder, addresses, authority, provider)
    s.env.update(https_proxy="http://127.0.0.1:1", HTTPS_PROXY="http://127.0.0.1:1", all_proxy="http://127.0.0.1:1", HOME=str(folder))
    start(s)
    with connected(s, authority) as client:
        assert xoauth2(client, provider.issue(ALICE))[0] == 235


def test_many_at_once_are_bounded(folder, addresses, authority, provider, start):
    s = start(server_of(folder, addresses, authority, provider, oauth_checks_max=1, oauth_checks_waiting_max=1))
    clients = [connected(s, authority) for _ in range(8)]
    tokens = [provider.issue(ALICE) for _ in clients]
    provider.trouble = lambda handler: (time.sleep(1), redirect(handler))
    said = [None] * len(clients)

    def ask(i):
        said[i] = xoauth2(clients[i], tokens[i])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {code for code, _ in said} == {454}
    assert (454, b"4.7.0 Too many are logging in; try again later") in said
    for client in clients:
        client.close()


# -- a relay host ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def near(folder, addresses, authority, provider, server, start):
    """Our client, with a refresh token for the server as its relay host."""
    provider.login = ALICE
    provider.refresh_tokens = {"rt-0"}
    folder.joinpath("tokens").mkdir()
    (folder / "tokens" / "refresh").write_text("rt-0\n")
    return start(Nightmail(folder / "near", addresses[1], hostname="near.example", zone=zone(addresses[2]), trusted_networks=["127.0.0.0/8"], retry=["2s"],
                           relay_host=f"[{server.address}]:{server.port}", relay_host_user=ALICE, relay_host_tls="encrypt",
                           relay_host_oauth_token_url=provider.url("idp.example", "/token"), relay_host_oauth_client_id="nightmail",
                           relay_host_oauth_client_secret=f"file:{folder}/client-secret", relay_host_oauth_ca_file=authority.file,
                           relay_host_oauth_refresh_token=f"file:{folder}/tokens/refresh", relay_host_oauth_timeout="3s"))


def give(near, count=1):
    for _ in range(count):
        with smtplib.SMTP(near.address, near.port, timeout=30) as client:
            client.sendmail(ALICE, [BOB], own())


def came(server, near, count):
    wait_until(lambda: len(server.mails(BOB)) == count, 40, lambda: near.said() + server.said())


def test_one_token_serves_many_deliveries(server, near, provider):
    give(near, 10)
    came(server, near, 10)
    assert provider.granted == 1
    assert "mechanism=OAUTHBEARER" in server.said()
    assert "at-" not in near.said() and "rt-0" not in near.said()


def test_a_refused_token_is_renewed_at_once(server, near, provider):
    give(near)
    came(server, near, 1)
    provider.revoke()
    assert server.stop() == 0                                    # it remembers good tokens, and near keeps its connection
    server.start()
    (near.folder / "nightmail.conf").write_text(near.conf.read_text().replace(near_port(near), str(server.port)))
    os.kill(near.process.pid, 1)
    wait_until(lambda: " reloaded " in near.said() or near.said().count(" ready ") == 2, 10, near.said)      # the port may need another worker
    give(near)
    came(server, near, 2)
    assert provider.granted == 2 and "login-out-failed" not in near.said()


def near_port(near):
    """Of its relay host, as its configuration has it."""
    line = next(line for line in near.conf.read_text().splitlines() if line.startswith("relay_host ="))
    return line.rpartition(":")[2].strip('"')


def test_a_refresh_token_that_changes_is_kept(server, near, provider, folder):
    provider.rotate = True
    provider.lifetime = 4                                        # good for two seconds, for us
    give(near)
    came(server, near, 1)
    assert (folder / "tokens/refresh").read_text() == "rt-1\n"
    assert (folder / "tokens/refresh").stat().st_mode & 0o027 == 0
    assert sorted(p.name for p in (folder / "tokens").iterdir()) == ["refresh"]
    assert near.stop() == 0
    near.start()
    give(near)
    came(server, near, 2)
    assert (folder / "tokens/refresh").read_text() == "rt-2\n"


def queued_because(near, words):
    return words in near.command("queue", "show", near.queued()[0]["id"]).stdout.decode()


def test_without_the_token_endpoint_mail_waits(server, near, provider):
    provider.trouble = redirect
    give(near)
    wait_until(lambda: "relay-token-unavailable" in near.said() and near.queued(), 30, near.said)
    wait_until(lambda: queued_because(near, "token endpoint: 307"), 20, near.said)
    provider.trouble = None
    came(server, near, 1)


def test_a_refresh_token_that_is_good_no_more_is_an_alarm(server, near, provider, folder):
    provider.refresh_tokens = {"other"}
    give(near)
    wait_until(lambda: "error relay-token-denied" in near.said(), 30, near.said)
    wait_until(lambda: queued_because(near, "invalid_grant"), 20, near.said)
    refused = provider.refused
    time_of_a_retry = time.monotonic() + 3
    wait_until(lambda: time.monotonic() > time_of_a_retry, 10, "time")
    assert provider.refused == refused                           # not with each attempt
    (folder / "tokens/refresh").write_text("other\n")
    came(server, near, 1)


BY_TOKEN = """
passdb {
  driver = oauth2
  mechanisms = oauthbearer xoauth2
  args = /etc/dovecot/oauth2.conf
}
"""


@pytest.mark.parametrize("mechanism", ["oauthbearer", "xoauth2"])
def test_we_log_in_at_dovecot(folder, addresses, authority, start, mechanism):
    """Which asks the same provider, and refuses the token that it has revoked."""
    plainly = start(IdentityProvider(addresses[2]))
    far = start(Nightmail(folder / "far", addresses[0], users=[BOB]))
    dovecot = Dovecot(folder / "dovecot", addresses[1], free_port(addresses[1]), "pencil", hop=(far.address, far.port), mechanisms=mechanism, more=BY_TOKEN)
    (dovecot.root / "etc/dovecot/oauth2.conf").write_text(
        f"introspection_mode = post\nintrospection_url = http://nightmail:s3cret%3A%25@{addresses[2]}:{plainly.port}/introspect\n"
        "username_attribute = username\nactive_attribute = active\nactive_value = true\n")
    start(dovecot)
    plainly.login, plainly.refresh_tokens = ALICE, {"rt-0"}
    (folder / "refresh").write_text("rt-0\n")
    (folder / "client-secret").write_text(SECRET + "\n")
    near = start(Nightmail(folder / "near", addresses[0], hostname="near.example", trusted_networks=["127.0.0.0/8"], retry=["1s"],
                           relay_host=f"[{dovecot.address}]:{dovecot.submission_port}", relay_host_user=ALICE, relay_host_auth_allow_cleartext="yes",
                           relay_host_oauth_token_url=f"http://{addresses[2]}:{plainly.port}/token", relay_host_oauth_client_id="nightmail",
                           relay_host_oauth_client_secret=f"file:{folder}/client-secret",
                           relay_host_oauth_refresh_token=f"file:{folder}/refresh", connection_messages_max=1))
    give(near)
    wait_until(lambda: len(far.mails(BOB)) == 1, 40, lambda: near.said() + dovecot.said())
    assert f"method={mechanism.upper()}" in dovecot.said()
    plainly.revoke()
    give(near)
    wait_until(lambda: len(far.mails(BOB)) == 2, 40, lambda: near.said() + dovecot.said())
    assert plainly.granted == 2
