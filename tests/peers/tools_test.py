"""
Our own tools as people and scripts meet them: what they say when something is wrong, and with which exit code (sysexits.h).
"""
import json
import os
import re
import subprocess

import pytest

from nightmail import PROGRAM, Nightmail
from proc import TOP, wait_until

BOB = "bob@here.example"


@pytest.fixture
def server(folder, addresses, start):
    return start(Nightmail(folder, addresses[0], users=[BOB, "carol@here.example"]))


def run(*argv, **options):
    return subprocess.run([PROGRAM, *map(str, argv)], capture_output=True, timeout=60, **options)


def send(server, *argv, **options):
    return run("send", "--server", f"{server.address}:{server.port}", "--from", "alice@tester.example", *argv, **options)


@pytest.mark.parametrize("argv, status, said", [
    (["frob"], 64, b"no command 'frob'"),
    (["version", "--frob"], 64, b"--help"),
    (["send", "--to", "no-domain"], 64, b"no domain to find a server by"),
    (["send", "--to", BOB, "--server", "127.0.0.1:1", "--attach", "/nowhere"], 66, b"/nowhere: No such file"),
    (["send", "--to", BOB, "--server", "127.0.0.1:1"], 75, b"Connection refused"),
    (["config", "check", "-c", "/nowhere"], 78, b"cannot read /nowhere: No such file or directory\n"),
    (["sendmail", "-C", "/nowhere", BOB], 78, b"nightmail sendmail: cannot read /nowhere: No such file or directory\n"),
    (["journal", "verify", "/nowhere"], 66, b"/nowhere: No such file"),
    (["queue", "list", "-s", "/nowhere"], 69, b"no server answers at /nowhere"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_wrong_use_is_told_in_a_line(argv, status, said):
    r = run(*argv, input=b"")
    assert r.returncode == status and said in r.stderr and r.stderr.count(b"\n") == 1, r.stderr


@pytest.mark.parametrize("command", ["serve", "send", "sink", "load", "queue", "config", "resolve", "journal", "version", "sendmail"])
def test_every_command_has_help(command):
    r = run(command, "--help")
    assert r.returncode == 0 and r.stdout.startswith(b"usage: ") and not r.stderr
    assert b"\033" not in r.stdout


@pytest.mark.parametrize("command", ["send", "sink", "load", "queue", "user", "resolve", "journal", "sendmail"])
def test_the_manual_has_every_option(command):
    """Those of all commands are in its beginning."""
    manual = (TOP / "docs" / "nightmail.1").read_text(encoding="utf-8")
    section = re.search(rf"^\.Ss {command}$(.*?)^\.S[sh] ", manual, re.M | re.S).group(1)
    told = {"-" + word for line in re.findall(r"^\.(?:It )?Fl (.*)", section, re.M) for word in line.split()}
    options = set(re.findall(r"^ +(?:-\w, +)?(--?[a-zA-Z][-\w]*)", run(command, "--help").stdout.decode(), re.M))
    assert options - {"-c", "-C", "--config"} <= told


def test_quiet_send_says_the_refusal_and_nothing_else(server):
    r = send(server, "--to", BOB, "--to", "nobody@here.example", "--quiet")
    assert (r.returncode, r.stdout, r.stderr) == (67, b"", b"nightmail send: the server said 550 5.1.1 No such user here\n")


def test_load_names_the_first_refusal_not_what_follows_from_it(server):
    r = run("load", "--server", f"{server.address}:{server.port}", "--to", "nobody@here.example", "--messages", 3)
    assert r.returncode == 69 and b"first trouble: refused: 550 5.1.1 No such user here" in r.stdout


def test_sendmail_names_the_recipient_that_was_refused(server):
    r = server.command("sendmail", "nobody@here.example", BOB, input=b"Subject: two\n\ntext\n")
    assert r.returncode == 67 and r.stderr == b"nightmail sendmail: the server said 550 5.1.1 No such user here\n"


@pytest.mark.parametrize("by", ["send", "sendmail"])
def test_a_message_from_nobody_has_an_author_all_the_same(server, by):
    """RFC 5322, 3.6: a From is not optional."""
    if by == "send":
        r = send(server, "--from", "", "--to", BOB, "--helo", "tester.example")
    else:
        r = server.command("sendmail", "-f", "<>", BOB, input=b"Subject: nobody\n\ntext\n")
    assert r.returncode == 0, r.stderr
    mail = wait_until(lambda: server.mails(BOB), 30, server.said)[0]
    assert mail.startswith(b"Return-Path: <>\n")
    author = [line for line in mail.split(b"\n") if line.startswith(b"From: ")]
    assert len(author) == 1 and author[0].rstrip(b">").split(b"@")[1] in (b"tester.example", b"nightmail.example")


def test_send_json_is_one_object(server):
    r = send(server, "--to", BOB, "--body", "grüße", "--json")
    answer = json.loads(r.stdout)
    assert answer["accepted"] and answer["exit"] == 0 and answer["recipients"] == {BOB: 250}
    assert all(round(step["seconds"], 6) == step["seconds"] for step in answer["conversation"])


def test_a_queue_in_memory_is_refused_unless_told(addresses, start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("queue", numbered=True)
    data = f"/dev/shm/nightmail-test-{os.getpid()}"
    try:
        r = run("serve", "-c", Nightmail(folder, addresses[0], data_dir=data).conf)
        assert r.returncode == 71 and b"in memory" in r.stderr and b"unsafe_file_system" in r.stderr
        start(Nightmail(folder, addresses[0], data_dir=data, unsafe_file_system="yes")).stop()
    finally:
        subprocess.run(["rm", "-rf", data], check=True)
