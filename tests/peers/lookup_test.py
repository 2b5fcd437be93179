"""
Lookup as a process: it is there where it is needed, its secrets are nowhere else, and while it is away nobody is let in, or told that his
password is wrong.
"""
import contextlib
import os
import signal
import smtplib
import sqlite3

import pytest

from database_test import TABLE, Sqlite, hashed
from keeper_test import found, worker_of
from nightmail import Nightmail
from oauth_test import ALICE, BOB, SECRET, authority, came, connected, give, near, provider, server, xoauth2, zone    # noqa: F401
from proc import aide, wait_until

PASSWORD = "a pencil of ours"


def lookup_of(server):
    return wait_until(lambda: aide(server.process.pid, "lookup"), 10, server.said)


@pytest.fixture
def database(folder):
    database = Sqlite(folder)
    database.sql(TABLE)
    database.sql(f"INSERT INTO accounts VALUES ('{ALICE}', '{hashed(PASSWORD)}', NULL, true)")
    return database


@pytest.fixture
def with_database(folder, addresses, authority, database, start):               # noqa: F811
    return start(Nightmail(folder / "server", addresses[0], users=[ALICE, BOB], auth_failure_delay="0s", terms="service = submission",
                           certificates=[authority.make("mx", ["mx.here.example"])], **database.options))


def log_in(server, authority, password=PASSWORD):                                # noqa: F811
    with connected(server, authority) as client:
        client.user, client.password = ALICE, password
        return client.auth("PLAIN", client.auth_plain)[0]


def test_it_is_not_there_where_nobody_asks_it(folder, addresses, authority, database, start):  # noqa: F811
    (folder / "accounts").touch()
    server = start(Nightmail(folder / "server", addresses[0], users=[ALICE, BOB], auth_failure_delay="0s", terms="service = submission",    # noqa: F811
                             certificates=[authority.make("mx", ["mx.here.example"])], accounts_file=folder / "accounts"))
    assert aide(server.process.pid, "lookup") is None and aide(server.process.pid, "keeper") is not None
    kept = [line for line in server.conf.read_text().splitlines() if not line.startswith("accounts_file")]
    server.conf.write_text("\n".join([f'{k} = "{v}"' for k, v in database.options.items()] + kept) + "\n")
    os.kill(server.process.pid, signal.SIGHUP)
    wait_until(lambda: " reloaded " in server.said(), 20, server.said)
    assert lookup_of(server)
    assert log_in(server, authority) == 235
    assert server.stop() == 0


def test_a_lookup_that_is_killed_is_followed_by_another(with_database, authority):    # noqa: F811
    server, before = with_database, lookup_of(with_database)                     # noqa: F811
    assert log_in(server, authority) == 235
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: "aide-crashed name=lookup" in server.said(), 10, server.said)
    assert log_in(server, authority) == 235                                      # waits for the next one
    assert lookup_of(server) != before
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        log_in(server, authority, "wrong")
    assert refused.value.smtp_code == 535
    assert server.stop() == 0


def test_while_lookup_hangs_logins_are_454(with_database, authority):            # noqa: F811
    server = with_database                                                       # noqa: F811
    os.kill(lookup_of(server), signal.SIGSTOP)
    try:
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            log_in(server, authority)
        assert refused.value.smtp_code == 454
    finally:
        os.kill(lookup_of(server), signal.SIGCONT)
    assert log_in(server, authority) == 235
    assert server.stop() == 0


def test_the_worker_has_no_hash_of_a_database(with_database, database, authority):         # noqa: F811
    server = with_database                                                       # noqa: F811
    assert log_in(server, authority) == 235
    with contextlib.closing(sqlite3.connect(database.path)) as db:
        [[stored]] = db.execute("SELECT password FROM accounts").fetchall()
    secrets = {"hash": [stored.rpartition("$")[2].encode()]}
    try:
        assert found(worker_of(server), secrets) == set()
    except PermissionError:
        pytest.skip("nobody's memory may be read here")
    assert server.stop() == 0


def test_the_worker_has_no_secret_of_an_endpoint(server, near, provider, authority):  # noqa: F811
    token = provider.issue(ALICE)
    with connected(server, authority) as client:
        assert xoauth2(client, token)[0] == 235
    give(near)
    came(server, near, 1)
    secrets = {"client secret": [SECRET.encode(), b"s3cret%3A%25"], "refresh token": [b"rt-0", b"rt-1"]}
    try:
        assert found(worker_of(server), secrets) == set()
        assert found(worker_of(near), secrets) == set()
    except PermissionError:
        pytest.skip("nobody's memory may be read here")


def test_a_token_waits_for_the_next_lookup(server, provider, authority):         # noqa: F811
    os.kill(lookup_of(server), signal.SIGKILL)
    with connected(server, authority) as client:
        code, _ = xoauth2(client, provider.issue(ALICE))
        if code == 454:                                                          # asked of the one that was killed
            code, _ = xoauth2(client, provider.issue(ALICE))
        assert code == 235
    assert server.stop() == 0


def test_an_upgrade_takes_it_along(folder, addresses, database, start):
    server = start(Nightmail(folder / "server", addresses[0], users=[ALICE, BOB], auth_failure_delay="0s",    # noqa: F811
                             terms="service = submission auth_allow_cleartext = yes", **database.options))
    before = lookup_of(server)

    def works():
        with smtplib.SMTP(server.address, server.port, timeout=30) as client:
            client.ehlo()
            client.user, client.password = ALICE, PASSWORD
            return client.auth("PLAIN", client.auth_plain)[0] == 235

    assert works()
    assert server.command("upgrade").returncode == 0
    wait_until(lambda: aide(server.process.pid, "lookup") not in (None, before), 20, server.said)    # of the new program
    assert works()
    assert server.stop() == 0
