"""
Accounts in SQLite and in PostgreSQL: people log in by a query, and whatever becomes of the database, nobody is told that their
password is wrong when nobody could look.
"""
import base64
import contextlib
import hashlib
import hmac
import os
import socket
import sqlite3
import subprocess
import time

import pytest

from certificates import Authority
from nightmail import Nightmail
from postgresql import POSTGRES_UID, Postgresql
from proc import free_port, wait_until
from smtplib import SMTP

ALICE, BOB, PASSWORD = "alice@here.example", "bob@here.example", "pencil with: spaces and \u00fcmlaut"
QUERY = "SELECT password, scram, active AS enabled FROM accounts WHERE login = $1"
TABLE = "CREATE TABLE accounts (login TEXT, password TEXT, scram TEXT, active BOOLEAN)"


def verifier(password, salt=b"0123456789abcdef", rounds=4096):
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return f"SCRAM-SHA-256${rounds}:{b64(salt)}${b64(stored)}:{b64(hmac.digest(salted, b'Server Key', 'sha256'))}"


def b64(data):
    return base64.b64encode(data).decode()


def hashed(password):
    r = subprocess.run(["openssl", "passwd", "-6", "-stdin"], input=password.encode() + b"\n", capture_output=True, check=True)
    return r.stdout.decode().strip()


class Sqlite:
    """A file; who opens it is busy, and who moves it has taken it away."""

    def __init__(self, folder):
        self.path, self.away = folder / "accounts.db", folder / "away.db"
        self.options = {"accounts_sqlite": self.path, "accounts_query": QUERY}

    def start(self):
        if self.away.exists():
            self.away.rename(self.path)
        return self

    def prepare(self):
        pass

    def stop(self):
        if self.path.exists():
            self.path.rename(self.away)

    def sql(self, text):
        with contextlib.closing(sqlite3.connect(self.path)) as db, db:
            db.execute(text)


class Pgsql(Postgresql):
    """Nightmail may only read, as a user with a password of its own."""

    def __init__(self, folder, address, more=""):
        super().__init__(folder / "database", address, free_port(address), more)
        (folder / "secret").write_text("it's a \\secret\n")
        self.options = {"accounts_pgsql": f"host={address} port={self.port} dbname=postgres user=nightmail",
                        "accounts_pgsql_password": f"file:{folder}/secret", "accounts_query": QUERY}

    def prepare(self):
        self.sql("CREATE USER nightmail PASSWORD 'it''s a \\secret'; GRANT SELECT ON accounts TO nightmail")


def filled(d):
    d.sql(TABLE)
    for login, password in ((ALICE, PASSWORD), (BOB, "other")):
        d.sql(f"INSERT INTO accounts VALUES ('{login}', '{hashed(password)}', '{verifier(password)}', true)")
    d.prepare()
    return d


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, folder, addresses, start):
    return filled(start(Sqlite(folder) if request.param == "sqlite" else Pgsql(folder, addresses[1])))


@pytest.fixture
def pgsql(folder, addresses, start):
    return filled(start(Pgsql(folder, addresses[1])))


def nightmail(folder, addresses, **options):
    return Nightmail(folder, addresses[0], users=[ALICE, BOB], hostname="mx.here.example", auth_failure_delay="0s", auth_failures_max="100",
                     accounts_query_timeout="2s", scram="yes", terms="service = submission auth_allow_cleartext = yes", **options)


@pytest.fixture
def server(folder, addresses, start, database):
    return start(nightmail(folder, addresses, **database.options))


@contextlib.contextmanager
def client_of(server):
    with SMTP(server.address, server.port, local_hostname="tester.example", timeout=30) as client:
        client.ehlo()
        yield client


def plain(client, login, password=PASSWORD):
    return client.docmd("AUTH", "PLAIN " + b64(b"\0" + login.encode() + b"\0" + password.encode()))


def attempt(server, login=ALICE, password=PASSWORD):
    with client_of(server) as client:
        return plain(client, login, password)[0]


def scram(client, login, password):
    """RFC 5802 by hand; the code of the last reply."""
    bare = f"n={login},r=fyko+d2lbbFgONRv9qkxdawL"
    code, said = client.docmd("AUTH", "SCRAM-SHA-256 " + b64(f"n,,{bare}".encode()))
    if code != 334:
        return code
    first = base64.b64decode(said).decode()
    nonce, salt, rounds = (part[2:] for part in first.split(","))
    key = hmac.digest(hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(rounds)), b"Client Key", "sha256")
    without_proof = f"c=biws,r={nonce}"
    signature = hmac.digest(hashlib.sha256(key).digest(), f"{bare},{first},{without_proof}".encode(), "sha256")
    proof = bytes(a ^ b for a, b in zip(key, signature))
    code, _ = client.docmd(b64(f"{without_proof},p={b64(proof)}".encode()))
    return client.docmd("")[0] if code == 334 else code


def test_people_log_in(server, database):
    with client_of(server) as client:
        assert client.esmtp_features["auth"].split() == ["SCRAM-SHA-256", "PLAIN", "LOGIN"]
        assert plain(client, ALICE, "wrong")[0] == 535
        assert plain(client, "nobody@here.example")[0] == 535
        assert scram(client, ALICE, "wrong") == 535
        assert scram(client, "nobody@here.example", PASSWORD) == 535
        assert plain(client, ALICE.upper())[0] == 235
    with client_of(server) as client:
        assert scram(client, ALICE, PASSWORD) == 235
        client.sendmail(ALICE, [BOB], "Subject: x\r\n\r\nx\r\n")
    wait_until(lambda: server.mails(BOB), 30, server.said)
    assert PASSWORD not in server.said() and "it's a" not in server.said()


def test_whoever_goes_has_gone(server, database):
    """On a connection that was there before, and although the password was remembered."""
    with client_of(server) as first, client_of(server) as second:
        assert plain(first, ALICE)[0] == 235
        database.sql(f"DELETE FROM accounts WHERE login = '{ALICE}'")
        assert plain(second, ALICE)[0] == 535
        assert plain(second, BOB, "other")[0] == 235
    database.sql(f"UPDATE accounts SET active = false WHERE login = '{BOB}'")
    with client_of(server) as client:
        assert plain(client, BOB, "other")[0] == 535
        assert scram(client, BOB, "other") == 535


HOSTILE = ["' OR 1=1 --", "'OR/**/1=1--", "x'/**/UNION/**/SELECT/**/password,null,true/**/FROM/**/accounts--",
           "$1", "%", "alice%", "\\'", "\\x00", "';DROP/**/TABLE/**/accounts;--",
           "\u00e4\U0001f600@here.example", "a" * 254, "a" * 255, "a" * 5000, "alice@here.example ", " alice@here.example", "{alice@here.example}"]


def test_names_are_only_names(server, database):
    with client_of(server) as client:
        for login in HOSTILE:
            code, said = plain(client, login)
            assert code in (535, 501), (login, code, said)
        # A NUL ends PLAIN's fields; in LOGIN it is a byte of the name.
        for name in (b"alice@here.example\0", b"alice@here.example\0' OR 1=1", b"\xff\xfe"):
            code, said = client.docmd("AUTH", "LOGIN " + b64(name))
            if code == 334:
                code, said = client.docmd(b64(PASSWORD.encode()))
            assert code in (535, 501), (name, code, said)
        assert plain(client, ALICE)[0] == 235
    assert "accounts-unreachable" not in server.said()


def test_a_database_goes_and_comes_back(server, database):
    assert attempt(server) == 235
    database.stop()
    with client_of(server) as client:
        for password in (PASSWORD, "wrong"):
            assert plain(client, ALICE, password) == (454, b"4.7.0 I cannot check passwords now")
        assert scram(client, ALICE, PASSWORD) == 454
    assert server.said().count("accounts-unreachable") == 1
    database.start()
    wait_until(lambda: attempt(server) == 235, 30, server.said)
    assert attempt(server, password="wrong") == 535
    wait_until(lambda: "accounts-reachable" in server.said(), 10, server.said)


def test_a_restart_between_two_questions_is_not_seen(server, database):
    assert attempt(server) == 235
    database.stop()
    database.start()
    assert attempt(server) == 235


def test_a_server_starts_before_its_database(folder, addresses, start, pgsql):
    """A file that is not there is a mistake; a server may come later."""
    pgsql.stop()
    server = start(nightmail(folder, addresses, **pgsql.options))
    assert attempt(server) == 454
    pgsql.start()
    wait_until(lambda: attempt(server) == 235, 30, server.said)


WRONG_QUERIES = [
    ("SELECT password FROM accounts WHERE login = $1 AND", [b"syntax error", b"incomplete input"]),
    ("SELECT password FROM nothing WHERE login = $1", [b"nothing"]),
    ("SELECT password FROM accounts", [b"one parameter"]),
    ("SELECT scram FROM accounts WHERE login = $1", [b"no column named password"]),
    ("SELECT password, active FROM accounts WHERE login = $1", [b"none of password"]),
]


def test_what_a_query_must_be(folder, addresses, database):
    for query, why in WRONG_QUERIES:
        server = nightmail(folder, addresses, **dict(database.options, accounts_query=query))
        checked = server.command("config", "check")
        assert checked.returncode == 78 and any(w in checked.stderr for w in why), checked.stderr
        assert server.command("serve").returncode == 78
    server = nightmail(folder, addresses, **database.options)
    checked = server.command("config", "check")
    assert checked.returncode == 0, checked.stderr
    assert b"in a database" in server.command("user", "add", ALICE).stderr


def test_the_password_is_in_a_file(folder, addresses):
    where = f"host={addresses[1]} user=nightmail password=secret"
    checked = nightmail(folder, addresses, accounts_pgsql=where, accounts_query=QUERY).command("config", "check")
    assert checked.returncode == 78 and b"belongs in a file" in checked.stderr


def test_a_server_that_says_nothing(folder, addresses, start):
    """It takes the connection, and that is all: the deadline holds, and mail goes on."""
    with socket.create_server((addresses[1], 0)) as silent:
        where = f"host={addresses[1]} port={silent.getsockname()[1]} user=nightmail sslmode=disable"
        server = start(nightmail(folder, addresses, accounts_pgsql=where, accounts_query=QUERY))
        began = time.monotonic()
        assert attempt(server) == 454
        assert time.monotonic() - began < 10


def test_a_slow_query_ends(folder, addresses, start, pgsql):
    query = "SELECT password FROM accounts, pg_sleep(60) WHERE login = $1"
    server = start(nightmail(folder, addresses, **dict(pgsql.options, accounts_query=query)))
    began = time.monotonic()
    assert attempt(server) == 454
    assert time.monotonic() - began < 10
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'nightmail' AND state = 'active'"
    wait_until(lambda: pgsql.sql(asleep) == "0", 10, pgsql.said)


def test_only_reading(folder, addresses, start, pgsql):
    """A query that would write, through a function, is refused by the database."""
    pgsql.sql("CREATE FUNCTION seen(who TEXT) RETURNS TEXT LANGUAGE sql AS 'DELETE FROM accounts RETURNING password'; GRANT ALL ON accounts TO nightmail")
    server = start(nightmail(folder, addresses, **dict(pgsql.options, accounts_query="SELECT seen($1) AS password")))
    assert attempt(server) == 454
    assert "read-only" in server.said()
    assert pgsql.sql("SELECT count(*) FROM accounts") == "2"


def test_a_reload_takes_another_database(server, database, folder):
    other = folder / "other.db"
    with contextlib.closing(sqlite3.connect(other)) as db, db:
        db.execute(TABLE)
        db.execute("INSERT INTO accounts VALUES (?, ?, NULL, 1)", (BOB, hashed("new")))
    before = server.conf.read_text()
    kept = [line for line in before.splitlines() if not line.startswith(("accounts_sqlite", "accounts_pgsql"))]
    server.conf.write_text("\n".join([f'accounts_sqlite = "{other}"', *kept]) + "\n")
    os.kill(server.process.pid, 1)
    wait_until(lambda: attempt(server, BOB, "new") == 235, 30, server.said)
    assert attempt(server) == 535
    server.conf.write_text("\n".join([f'accounts_sqlite = "{folder}/none"', *kept]) + "\n")
    os.kill(server.process.pid, 1)
    wait_until(lambda: "reload-refused" in server.said(), 30, server.said)
    assert attempt(server, BOB, "new") == 235
    # Nothing of a configuration that is refused holds, its accounts neither.
    server.conf.write_text(before.replace(str(server.data), str(folder / "moved")))
    os.kill(server.process.pid, 1)
    wait_until(lambda: "data_dir is another one" in server.said(), 30, server.said)
    assert attempt(server, BOB, "new") == 235 and attempt(server) == 535


def test_a_database_under_tls(folder, addresses, start):
    """With sslmode=verify-full: an impostor, whose certificate another authority has signed, is never asked, and nobody hears 535."""
    authority = Authority(folder / "authority")
    pgsql = Pgsql(folder, addresses[1], "-c ssl=on -c ssl_cert_file=/etc/tls/cert.pem -c ssl_key_file=/etc/tls/key.pem")
    pgsql.give_certificate(authority.make("db", ["db.example"]), authority, POSTGRES_UID)
    filled(start(pgsql))
    pgsql.sql("CREATE VIEW encrypted AS SELECT ssl, version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'nightmail'")
    where = f"host=db.example hostaddr={addresses[1]} port={pgsql.port} dbname=postgres user=nightmail sslmode=verify-full sslrootcert="
    server = start(nightmail(folder, addresses, **dict(pgsql.options, accounts_pgsql=where + str(authority.file))))
    assert attempt(server) == 235 and attempt(server, ALICE, "other") == 535
    assert pgsql.sql("SELECT DISTINCT ssl, version FROM encrypted") == "t|TLSv1.3"
    assert server.stop() == 0
    server = start(nightmail(folder / "deceived", addresses, **dict(pgsql.options, accounts_pgsql=where + str(Authority(folder / "another").file))))
    assert attempt(server) == 454
    assert "accounts-unreachable" in server.said() and "certificate verify failed" in server.said()
