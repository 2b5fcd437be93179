"""
The Postfix peer itself works: accepts by smtp-source, delivers to a Maildir, relays to smtp-sink, bounces, and leaves nothing
running. When this fails, look here before anything of ours.
"""
import os
import subprocess

from postfix import Postfix, tool
from proc import free_port, tree, wait_until
from sink import Sink


def source(server, to, messages, *args):
    subprocess.run(tool("smtp-source", "-s", 5, "-m", messages, "-l", 1000, "-f", "sender@load.example", "-t", to, "-M", "load.example",
                        *args, f"{server.address}:{server.port}"), check=True, timeout=60)


def test_delivers_to_a_maildir(folder, addresses, start):
    postfix = start(Postfix(folder, addresses[0], free_port(addresses[0]), users=["bob@postfix.example"]))
    source(postfix, "bob@postfix.example", 50)
    mails = wait_until(lambda: postfix.queued() == 0 and postfix.mails("bob@postfix.example"), 30, postfix.said)
    assert len(mails) == 50
    assert all(b"\nDelivered-To: bob@postfix.example\n" in m for m in mails)


def test_relays_to_a_sink(folder, addresses, start):
    sink = start(Sink(folder / "sink", addresses[1]))
    postfix = start(Postfix(folder / "postfix", addresses[0], free_port(addresses[0]), main={"relayhost": f"[{sink.address}]:{sink.port}"}))
    source(postfix, "bob@elsewhere.example", 50, "-d")
    wait_until(lambda: sink.messages == 50, 30, postfix.said)


def test_ends_whole(folder, addresses, start):
    postfix = start(Postfix(folder, addresses[0], free_port(addresses[0])))
    pids = tree(postfix.process.pid)
    assert len(pids) > 3
    postfix.stop()
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
