"""
The part of the bench about TLS: handshakes, beside Postfix and beside a bare OpenSSL loop (tls_bare.c) with the same certificate; and
the memory of idle sessions under TLS.

What is counted is handshakes for each second of processor time that the server took: the client of a handshake works as hard as the
server, so on few cores the clock would tell more of the client. Each connection is a handshake and the shortest SMTP conversation.
"""
import shutil
import socket
import ssl
import subprocess

from certificates import Authority
from nightmail import Nightmail
from postfix import TUNED, Postfix
from proc import cpu_seconds, end, spawn
from sides import NIGHTMAIL_ADDRESS, POSTFIX_ADDRESS

BARE_ADDRESS = "127.0.0.5"
SMTPS = 2526                                # of Postfix
LOAD_THREADS = 4
CASES = [(how, kind) for how in ("starttls", "implicit") for kind in ("new", "resumed")]

SMTPS_MASTER = """
{address}:{port} inet n - n - - smtpd
    -o smtpd_tls_wrappermode=yes
"""


class Bare:
    """The bare loop, one for each way to begin."""

    def __init__(self, programs, certificate, key):
        self.ports = {"starttls": 2525, "implicit": 2526}
        self.processes = {how: spawn([programs / "tls_bare", BARE_ADDRESS, port, certificate, key, how], stdout=subprocess.PIPE)
                          for how, port in self.ports.items()}
        for process in self.processes.values():
            assert process.stdout.readline() == b"ready\n"

    def cpu_seconds(self):
        return cpu_seconds([p.pid for p in self.processes.values()])

    def stop(self):
        for process in self.processes.values():
            end(process)
            process.stdout.close()


class Servers:
    """All three with one certificate (EC: what it costs beside the rest is least, so that the rest shows), or Nightmail alone."""

    def __init__(self, folder, programs=None):
        folder.mkdir(parents=True)
        self.folder = folder
        self.authority = Authority(folder / "ca")
        certificate, key = self.authority.make("bench", ["bench.example"])
        self.nightmail = Nightmail(folder / "nightmail", NIGHTMAIL_ADDRESS, 2525, certificates=[(certificate, key)], sessions_max=20000,
                                   sessions_per_client_max=20000, shutdown_grace="0s", log_level="info")
        self.postfix, self.bare = None, None
        if programs:
            self.postfix = self._postfix(folder / "postfix", certificate, key)
            self.bare = lambda: Bare(programs, certificate, key)

    def _postfix(self, folder, certificate, key):
        (folder / "root").mkdir(parents=True)
        postfix = Postfix(folder, POSTFIX_ADDRESS, 2525, dict(TUNED, **{
            "smtpd_tls_security_level": "may", "smtpd_tls_cert_file": "/etc/postfix/cert.pem", "smtpd_tls_key_file": "/etc/postfix/key.pem",
        }), log=False, master=SMTPS_MASTER.format(address=POSTFIX_ADDRESS, port=SMTPS))
        shutil.copy(certificate, postfix.root / "etc/postfix/cert.pem")
        shutil.copy(key, postfix.root / "etc/postfix/key.pem")
        return postfix

    def __enter__(self):
        started = []
        try:
            for server in filter(None, (self.nightmail, self.postfix)):
                server.start()
                started.append(server)
            if self.bare:
                self.bare = self.bare()
        except BaseException:
            for server in started:
                server.stop()
            raise
        return self

    def __exit__(self, *_):
        for server in filter(None, (self.bare, self.postfix, self.nightmail)):
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def sides(self, how):
        """Each as (server, address, port)."""
        return {
            "nightmail": (self.nightmail, NIGHTMAIL_ADDRESS, self.nightmail.port if how == "starttls" else self.nightmail.tls_port),
            "postfix": (self.postfix, POSTFIX_ADDRESS, 2525 if how == "starttls" else SMTPS),
            "bare loop": (self.bare, BARE_ADDRESS, self.bare.ports[how]),
        }


def handshakes(programs, side, how, kind, count):
    """So many, for each second of the server's processor time."""
    server, address, port = side
    before = server.cpu_seconds()
    r = subprocess.run([programs / "tls_load", address, str(port), how, kind, str(count), str(LOAD_THREADS)], capture_output=True, text=True,
                       timeout=120, check=True)
    used = server.cpu_seconds() - before
    resumed = int(r.stdout.split()[0])
    # Postfix gives no new ticket for an old one, and in TLS 1.3 one is used once: every second handshake of its is a whole one.
    least = count // 2 - LOAD_THREADS if isinstance(server, Postfix) else count - 2 * LOAD_THREADS
    assert resumed >= least if kind == "resumed" else resumed == 0, r.stdout
    return count / used


def run(bench, programs, least_of_bare):
    """Interleaved rounds of every case."""
    count = 200 if bench.args.quick else 500
    with Servers(bench.folder / "tls", programs) as servers:
        for how, kind in CASES:
            figures = {side: bench.figure(f"TLS handshakes beside {side if side == 'postfix' else 'a ' + side}", f"{how}, {kind} sessions",
                                          "for each second of CPU", target, against=side)
                       for side, target in (("postfix", 1), ("bare loop", least_of_bare))}
            try:
                for turn in range(bench.args.rounds + 1):    # the first warms up
                    got = {side: handshakes(programs, at, how, kind, count) for side, at in servers.sides(how).items()}
                    for side, figure in figures.items():
                        if turn > 0:
                            figure.add("nightmail", got["nightmail"])
                            figure.add(side, got[side])
            except (subprocess.SubprocessError, OSError, AssertionError) as e:
                for figure in figures.values():
                    figure.failed = (str(e) + (getattr(e, "stderr", "") or ""))[:200]
    for side in ("postfix", "bare loop"):
        for figure in bench.report.figures:
            if figure.section.startswith("TLS handshakes") and side in figure.values:
                bench.report.show(figure)


def idle_memory(bench, sessions, limit_kib):
    """What a session under TLS takes while it waits: all of the server's memory, shared out among so many."""
    figure = bench.figure("Memory of an idle session under TLS", f"{sessions:5} sessions", "KiB of PSS", 1, lower_is_better=True,
                          against="at most")
    held = []
    try:
        with Servers(bench.folder / "tls-idle") as servers:
            context = ssl.create_default_context(cafile=str(servers.authority.file))
            for _ in range(sessions):
                s = context.wrap_socket(socket.create_connection((NIGHTMAIL_ADDRESS, servers.nightmail.tls_port), 20),
                                        server_hostname="bench.example")
                held.append(s)
                for say in (b"", b"EHLO idle.example\r\n"):
                    if say:
                        s.sendall(say)
                    assert s.recv(4096)[:1] == b"2"
            figure.add("nightmail", servers.nightmail.memory_bytes()[0] / sessions / 1024)
            figure.add("at most", limit_kib)
    except (OSError, AssertionError) as e:
        figure.failed = str(e)[:200] or "refused"
    finally:
        for s in held:
            s.close()
    bench.report.show(figure)
