"""DNSSEC status, proved against knot: what run/dns calls secure, insecure and bogus.

The zones are signed offline (kzonesign), some are then spoilt, and knotd serves them as they are on a loopback port. One knotd
stands for all of the DNS: it is the forwarder of tests/dns/dns_query. The same zones are read as zone files too, without a network.

Needs knotd, keymgr and kzonesign (Debian: knot, knot-dnssecutils) and build/<variant>/tests/dns/dns_query; DNS_QUERY names another.
"""
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
DAY = 24 * 3600

SOA = """$TTL 300
@ IN SOA ns hostmaster 1 3600 600 86400 60
@ IN NS ns
ns IN A 127.0.0.1
"""
MAIL = """@ IN MX 10 mx
mx IN A 192.0.2.25
_25._tcp.mx IN TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
"""
TLSA = "3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

ZONES = {
    "secure.example": SOA + MAIL + """*.wild IN MX 20 mx
alias IN CNAME mx
leaves IN CNAME mx.plain.example.
to-bogus IN CNAME mx.altered.example.
child IN NS ns.child
ns.child IN A 127.0.0.1
""",
    "child.secure.example": SOA + MAIL + "back IN CNAME mx.secure.example.\n",   # an unsigned delegation
    "plain.example": SOA + MAIL,                                                # never signed, no anchor above
    "altered.example": SOA + MAIL + "good IN A 192.0.2.26\n",                    # signed, then one address changed
    "wrong-key.example": SOA + MAIL,                                            # signed; our anchor is of another key
    "stripped.example": SOA + MAIL,                                             # our anchor says signed; it is served unsigned
    "old.example": SOA + MAIL,                                                  # signed two months ago, for two weeks
}
SIGNED = ("secure.example", "altered.example", "wrong-key.example", "stripped.example", "old.example")


def run(*command):
    environment = dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin")
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def dns_query_program():
    if "DNS_QUERY" in os.environ:
        return os.environ["DNS_QUERY"]
    return TOP / os.environ.get("BUILD_DIR", "build/native") / "tests/dns/dns_query"


def free_port():
    """A loopback port that is free for TCP and for UDP."""
    for _ in range(50):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            try:
                udp.bind(tcp.getsockname())
                return tcp.getsockname()[1]
            except OSError:
                continue
    raise RuntimeError("no free port")


class World:
    """The zones on disk, signed and spoilt; `served` holds what knotd serves."""

    def __init__(self, folder):
        self.folder = folder
        self.served = folder / "served"
        for name in ("plain", "served", "keys", "run"):
            (folder / name).mkdir()
        (folder / "sign.conf").write_text(self.config(signing=True))
        for zone, text in ZONES.items():
            (folder / "plain" / zone).write_text(f"$ORIGIN {zone}.\n{text}")
            if zone in SIGNED:
                self.sign(zone, int(time.time()) - (60 * DAY if zone == "old.example" else 0))
            else:
                shutil.copy(folder / "plain" / zone, self.served / zone)
        self.anchor = folder / "anchors"
        self.anchor.write_text("".join(self.ds(zone) for zone in SIGNED))
        self.spoil()

    def config(self, signing, port=0):
        storage = self.folder / ("plain" if signing else "served")
        lines = ["server:", f"    rundir: {self.folder}/run"]
        if port:
            lines += [f"    listen: 127.0.0.1@{port}"]
        lines += ["log:", "  - target: stderr", "    any: error",
                  "database:", f"    storage: {self.folder}/keys",
                  "policy:", "  - id: here", "    algorithm: ecdsap256sha256", "    single-type-signing: on", "    rrsig-lifetime: 14d",
                  "zone:"]
        for zone in ZONES:
            lines += [f"  - domain: {zone}", f"    storage: {storage}", f"    file: {zone}"]
            if signing:
                lines += ["    dnssec-signing: on", "    dnssec-policy: here"]
        return "\n".join(lines) + "\n"

    def sign(self, zone, when):
        run("kzonesign", "-c", self.folder / "sign.conf", "-o", self.served, "-t", when, zone)

    def ds(self, zone):
        lines = run("keymgr", "-c", self.folder / "sign.conf", zone, "ds").splitlines(keepends=True)
        digest = [line for line in lines if re.search(r" DS \d+ 13 2 ", line)]
        assert digest, lines
        if zone == "wrong-key.example":
            digest = [re.sub(r"(DS \d+ 13 2 )(.{8})", r"\g<1>00000000", line) for line in digest]
        return "".join(digest)

    def spoil(self):
        altered = self.served / "altered.example"
        text, count = re.subn(r"(mx\.altered\.example\.\s+300\s+A\s+)192\.0\.2\.25", r"\g<1>192.0.2.66", altered.read_text())
        assert count == 1
        altered.write_text(text)
        shutil.copy(self.folder / "plain" / "stripped.example", self.served / "stripped.example")

    def ask(self, *questions, options=()):
        words = [str(word) for word in (dns_query_program(), *options, *(word for pair in questions for word in pair))]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr + done.stdout
        return [tuple(line.split("\t")[2:]) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("dnssec"))


@pytest.fixture(scope="module")
def knot(world):
    """The address of a knotd that serves the zones."""
    port = free_port()
    (world.folder / "knot.conf").write_text(world.config(signing=False, port=port))
    server = subprocess.Popen(["knotd", "-c", world.folder / "knot.conf"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              env=dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin"))
    try:
        wait_until_served(server, port)
        yield f"127.0.0.1@{port}"
    finally:
        server.terminate()
        server.communicate(timeout=30)


def wait_until_served(server, port):
    """Until every zone answers with its SOA: a question of our own, so that no other tool is needed."""
    waiting = set(ZONES)
    until = time.monotonic() + 20
    while waiting and time.monotonic() < until and server.poll() is None:
        for zone in sorted(waiting):
            name = b"".join(bytes([len(label)]) + label.encode() for label in zone.split(".")) + b"\0"
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                udp.settimeout(0.2)
                try:
                    udp.connect(("127.0.0.1", port))
                    udp.send(b"\x12\x34\0\0\0\1\0\0\0\0\0\0" + name + b"\0\6\0\1")
                    reply = udp.recv(4096)
                except OSError:
                    time.sleep(0.02)
                    break
            if reply[3] & 15 == 0 and reply[7] > 0:
                waiting.discard(zone)
    if waiting:
        server.terminate()
        pytest.fail(f"knotd does not serve {waiting}: {server.communicate(timeout=30)[1]}")


def forwarded(world, knot, now=None):
    return ["--forwarder", knot, "--anchor", world.anchor] + (["--now", str(now)] if now else [])


CASES = [
    # name                              type    answer
    ("secure.example",                  "MX",   ("found", "secure", "secure.example", "10 mx.secure.example.")),
    ("mx.secure.example",               "A",    ("found", "secure", "mx.secure.example", "192.0.2.25")),
    ("_25._tcp.mx.secure.example",      "TLSA", ("found", "secure", "_25._tcp.mx.secure.example", TLSA)),
    ("any.wild.secure.example",         "MX",   ("found", "secure", "any.wild.secure.example", "20 mx.secure.example.")),
    ("alias.secure.example",            "A",    ("found", "secure", "mx.secure.example", "192.0.2.25")),
    ("mx.secure.example",               "AAAA", ("no-data", "secure", "mx.secure.example")),
    ("none.secure.example",             "A",    ("no-name", "secure", "none.secure.example")),
    ("_25._tcp.none.secure.example",    "TLSA", ("no-name", "secure", "_25._tcp.none.secure.example")),
    ("child.secure.example",            "MX",   ("found", "insecure", "child.secure.example", "10 mx.child.secure.example.")),
    ("none.child.secure.example",       "MX",   ("no-name", "insecure", "none.child.secure.example")),
    ("back.child.secure.example",       "A",    ("found", "insecure", "mx.secure.example", "192.0.2.25")),    # half a chain is no chain
    ("leaves.secure.example",           "A",    ("found", "insecure", "mx.plain.example", "192.0.2.25")),
    ("plain.example",                   "MX",   ("found", "insecure", "plain.example", "10 mx.plain.example.")),
    ("_25._tcp.mx.plain.example",       "TLSA", ("found", "insecure", "_25._tcp.mx.plain.example", TLSA)),
    ("good.altered.example",            "A",    ("found", "secure", "good.altered.example", "192.0.2.26")),
    ("mx.altered.example",              "A",    ("bogus", "insecure")),
    ("to-bogus.secure.example",         "A",    ("bogus", "insecure")),
    ("wrong-key.example",               "MX",   ("bogus", "insecure")),
    ("none.wrong-key.example",          "MX",   ("bogus", "insecure")),
    ("stripped.example",                "MX",   ("bogus", "insecure")),
    ("none.stripped.example",           "TLSA", ("bogus", "insecure")),
    ("old.example",                     "MX",   ("bogus", "insecure")),
]


def check(answers, cases):
    assert len(answers) == len(cases)
    wrong = [f"{case[0]} {case[1]}: {answer}" for answer, case in zip(answers, cases)
             if (answer[:2] if case[2][0] == "bogus" else answer) != case[2] or (case[2][0] == "bogus" and len(answer) > 3)]
    assert not wrong, wrong


def test_status_from_a_forwarder(world, knot):
    check(world.ask(*[case[:2] for case in CASES], options=forwarded(world, knot)), CASES)


@pytest.mark.parametrize("days, old, fresh", [(30, "bogus", "bogus"), (-30, "bogus", "bogus"), (-55, "found", "bogus")])
def test_signatures_have_their_time(world, knot, days, old, fresh):
    answers = world.ask(("secure.example", "MX"), ("old.example", "MX"), options=forwarded(world, knot, int(time.time()) + days * DAY))
    assert [answer[0] for answer in answers] == [fresh, old]


def test_without_an_anchor_nothing_is_secure_or_bogus(world, knot):
    questions = [("mx.secure.example", "A"), ("none.secure.example", "A"), ("mx.altered.example", "A"), ("wrong-key.example", "MX"),
                 ("stripped.example", "MX"), ("old.example", "MX")]
    answers = world.ask(*questions, options=["--forwarder", knot, "--anchor", ""])
    assert [answer[:2] for answer in answers] == [("found", "insecure"), ("no-name", "insecure")] + 4 * [("found", "insecure")]


def zone_options(world, zones):
    return [word for zone in zones for word in ("--zone", f"{zone}={world.served / zone}")]


def test_zone_files_are_validated_by_an_anchor_named_for_them(world):
    check(world.ask(*[case[:2] for case in CASES if "stripped" not in case[0]],
                    options=zone_options(world, ZONES) + ["--anchor", world.anchor]),
          [case for case in CASES if "stripped" not in case[0]])


def test_zone_files_alone_are_insecure(world):
    answers = world.ask(("secure.example", "MX"), ("mx.altered.example", "A"), ("none.wrong-key.example", "A"), ("mx.elsewhere.example", "A"),
                        options=zone_options(world, ZONES))
    assert [answer[:2] for answer in answers] == [("found", "insecure"), ("found", "insecure"), ("no-name", "insecure"), ("servfail", "insecure")]


def test_a_dead_forwarder_is_no_verdict(world):
    done = subprocess.run([dns_query_program(), "--forwarder", f"127.0.0.1@{free_port()}", "--anchor", world.anchor, "--timeout", "300",
                           "secure.example", "MX"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and done.stdout == "secure.example\tMX\tConnection timed out\n"
