#!/usr/bin/python3
"""
The bench: Nightmail and Postfix side by side, in one run, on one disk, loaded by Postfix's own smtp-source and smtp-sink.

Everything runs in a network, mount and PID namespace of this run, which ends with it. Both servers are up at the same time and
take turns (A B A B), so that whatever else the machine does hits both. See sides.py for how each is set up, report.py for what
the verdicts mean. Needs root, for the namespaces and for Postfix.

    run.py [--quick] [--rounds N] [--only ceilings,accept,relay,far,local,latency,memory,syncs,journal,tls] [--slow-only | --fast-only] [--case WORDS]
"""
import argparse
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / folder) for folder in ("peers/lib", "net")]

import ceilings                                                             # noqa: E402
import delay                                                                # noqa: E402
import measure                                                              # noqa: E402
import nightmail                                                            # noqa: E402
import tls                                                                  # noqa: E402
import others                                                               # noqa: E402
from measure import Load                                                    # noqa: E402
from proc import BUILD, Failed                                              # noqa: E402
from report import Report                                                   # noqa: E402
from sides import NOTES, SINK_ADDRESS, SYNC_KINDS, USER, Sides              # noqa: E402
from sink import Sink                                                       # noqa: E402

SLOW_US = 5000
PHASES = ("ceilings", "accept", "relay", "far", "local", "latency", "memory", "syncs", "journal", "tls")

# The aims of the issue that asked for this bench; where it names none, never below Postfix.
ACCEPT_NEW, ACCEPT_KEPT, RELAY_NEW, RELAY_KEPT, CPU, NEVER_BELOW = 4, 8, 5, 12, 0.1, 1
BARE_TLS, IDLE_TLS_KIB = 0.85, 40
FAR_MS, RELAY_FAR, SINK_PORT, FAR_WARM = 50, 5, 2525, 8000
OTHERS_SESSIONS = (1, 100)                  # the cases that OpenSMTPD and Exim are in


def arguments():
    p = argparse.ArgumentParser(description="Nightmail and Postfix, side by side")
    p.add_argument("--nightmail", type=Path, default=BUILD / "native/nightmail")
    p.add_argument("--journal", type=Path, default=BUILD / "native/tests/bench/journal")
    p.add_argument("--delay", type=Path, default=BUILD / "native/tests/net/delay")
    p.add_argument("--slow-sync", type=Path, default=BUILD / "native/slow_sync.so")
    p.add_argument("--json", type=Path, default=BUILD / "bench/result.json")
    p.add_argument("--rounds", type=int, default=None, help="of each case (7; quick: 3)")
    p.add_argument("--seconds", type=float, default=None, help="a run's aim (0.5; quick: 0.3)")
    p.add_argument("--quick", action="store_true", help="fewer cases and rounds: for a look, not for a verdict")
    p.add_argument("--only", default=",".join(PHASES), help=f"of {','.join(PHASES)}")
    p.add_argument("--case", default="", help="of acceptance, only the cases that have this in their name: '1000 sessions', 'kept'")
    p.add_argument("--fast-only", action="store_true", help="not with slower syncs")
    p.add_argument("--slow-only", action="store_true", help="only with slower syncs")
    p.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    a = p.parse_args()
    a.rounds = a.rounds or (3 if a.quick else 7)
    a.seconds = a.seconds or (0.3 if a.quick else 0.5)
    a.only = a.only.split(",")
    unknown = set(a.only) - set(PHASES)
    if unknown:
        p.error(f"--only: no such part: {', '.join(unknown)}")
    return a


def enter_namespaces():
    """Runs this program again inside; does not return."""
    if os.geteuid() != 0:
        sys.exit("bench: needs root, for the namespaces and for Postfix, which changes its user")
    os.execvp("unshare", ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
                          sys.executable, "-B", os.path.abspath(__file__), "--inside", *sys.argv[1:]])


def prepare_network():
    """Loopback up; and room for the connections of a bench, of which each leaves a port waiting for a minute."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for name, value in (("ip_local_port_range", "10000 65000"), ("tcp_tw_reuse", "1")):
        Path("/proc/sys/net/ipv4", name).write_text(value)


def mute_listener():
    """A next hop that takes connections and never greets."""
    listener = socket.create_server((SINK_ADDRESS, 0), backlog=100)
    return listener, listener.getsockname()


def spread_folders(folder):
    """
    ext4 puts a folder where the last ones were, which this bench has just deleted; and without a journal it does not use the inodes of
    deleted files again for some minutes, but looks at each of them whenever a file is made, under a lock: that would be most of what
    is measured. So each run gets a part of the disk of its own. Other file systems do not know the flag and do not need it.
    """
    subprocess.run(["chattr", "+T", folder], stderr=subprocess.DEVNULL, check=False)


class Bench:
    def __init__(self, args):
        self.args, self.report = args, Report()
        self.slow_us = 0
        runs = BUILD / "bench"
        runs.mkdir(parents=True, exist_ok=True)
        spread_folders(runs)
        self.folder = Path(tempfile.mkdtemp(prefix="run.", dir=runs))
        spread_folders(self.folder)
        self.serial = 0
        self.disk_rate, self.appends = None, {}         # of the machine itself: MiB/s; messages/s by (sessions, size)

    def sides(self, mode, hop=None, count=False):
        self.serial += 1
        preload = self.args.slow_sync if self.slow_us or count else None
        return Sides(self.folder / str(self.serial), mode, hop, preload, self.slow_us)

    def section(self, text):
        return text + (f", {self.slow_us // 1000} ms more each sync" if self.slow_us else "")

    def figure(self, section, *args, **kwargs):
        return self.report.new(self.section(section), *args, **kwargs)

    # -- throughput --

    def rounds(self, sides, load, rate, cpu, arrived=None):
        """A B A B ...: both figures of one case. `arrived` gives, for a side, what counts its mails at the other end."""
        at = {side: arrived(side) if arrived else None for side in sides.both}
        try:
            messages = {side: measure.calibrate(server, load, self.args.seconds, at[side]) for side, server in sides.both.items()}
            for _ in range(self.args.rounds):
                for side, server in sides.both.items():
                    got = measure.run_once(server, load, messages[side], at[side])
                    rate.add(side, got["rate"])
                    cpu.add(side, got["cpu"])
        except (Failed, subprocess.TimeoutExpired) as e:
            rate.failed = cpu.failed = str(e).splitlines()[0][:200]
        self.report.show(rate)

    # -- the machine's own ceilings --

    def ceilings(self):
        """First of all, for the figures below are shares of these: the disk, and the bare journal's disk side (no SMTP, no queue)."""
        rates = [ceilings.sequential(self.folder) for _ in range(self.args.rounds)]
        self.disk_rate = statistics.median(rates)
        print(f"\nThe disk takes {self.disk_rate:.0f} MiB/s ({min(rates):.0f}-{max(rates):.0f}) of writes of 1 MiB that are each synced", flush=True)
        self.journal()

    def shares(self, load):
        """What a case is compared with beside Postfix: (name, of what, its aim, how it comes from the generator's own rate)."""
        found = [("of the generator's own ceiling", "responder", ceilings.NEW_OF_GENERATOR if load.sessions == 100 and not load.kept else None,
                  lambda bare: bare)]
        append = self.appends.get((load.sessions, load.size))
        if load.sessions == 1 and append:
            found.append(("of a bare append and bare SMTP", "bare", ceilings.ONE_SESSION, lambda bare: ceilings.together(append, bare)))
        if load.size == 65536 and self.disk_rate:
            found.append(("of the disk's sequential rate", "disk", ceilings.LARGE_OF_DISK if load.sessions == 100 and load.kept else None,
                          lambda bare: self.disk_rate * 16))
        return found

    def accept(self):
        sessions = (1, 10, 100, 1000) if not self.args.quick else (1, 100)
        for size in (4096, 65536):
            for kept in (False, True):
                for n in sessions:
                    load = Load(n, size, kept)
                    if self.args.case in str(load):
                        self.accept_case(load)

    def accept_case(self, load):
        target = NEVER_BELOW if load.sessions == 1 else ACCEPT_KEPT if load.kept else ACCEPT_NEW
        rate = self.figure("Accepted with durable 250", str(load), "messages/s", target)
        cpu = self.figure("CPU of the server", f"accept {load}", "s per 1000 messages", CPU, lower_is_better=True)
        listener, hop = mute_listener()
        with listener, self.sides("accept", hop) as sides:
            self.rounds(sides, load, rate, cpu)
            if not self.slow_us:
                self.beside_the_generator(sides.nightmail, load)
                if load.sessions in OTHERS_SESSIONS and load.size == 4096:
                    self.beside_others(sides.nightmail, load, hop)

    def beside_the_generator(self, nightmail, load):
        """The same load into the server that keeps nothing, by turns with ours."""
        found = [(self.figure(f"Accepted, {name}", str(load), "messages/s", aim, against=of), of, share)
                 for name, of, aim, share in self.shares(load)]
        try:
            with ceilings.Responder(self.args.journal.parent / "responder") as responder:
                messages = measure.calibrate(responder, load, self.args.seconds)
                for _ in range(self.args.rounds):
                    ours, bare = (measure.run_once(server, load, messages)["rate"] for server in (nightmail, responder))
                    for figure, of, share in found:
                        figure.add("nightmail", ours)
                        figure.add(of, share(bare))
        except (Failed, subprocess.TimeoutExpired) as e:
            for figure, _, _ in found:
                figure.failed = str(e).splitlines()[0][:200]
        for figure, _, _ in found:
            self.report.show(figure)

    def beside_others(self, nightmail, load, hop):
        """OpenSMTPD and Exim, which are here for comparison: no aims."""
        for name, make in others.OTHERS.items():
            rate = self.figure(f"Accepted, beside {name}", str(load), "messages/s", against=name)
            cpu = self.figure("CPU of the server", f"accept {load}, {name}", "s per 1000 messages", lower_is_better=True, against=name)
            self.serial += 1
            try:
                with make(self.folder / str(self.serial), hop) as other:
                    servers = {"nightmail": nightmail, name: other}
                    messages = {side: measure.calibrate(server, load, self.args.seconds) for side, server in servers.items()}
                    for _ in range(self.args.rounds):
                        for side, server in servers.items():
                            got = measure.run_once(server, load, messages[side])
                            rate.add(side, got["rate"])
                            cpu.add(side, got["cpu"])
            except (Failed, OSError, subprocess.SubprocessError) as e:
                rate.failed = cpu.failed = str(e).splitlines()[0][:200]
            shutil.rmtree(self.folder / str(self.serial), ignore_errors=True)
            self.report.show(rate)

    def relay(self):
        """20 clients that each wait for a sync of 5 ms get at most 4000 messages a second out of any server: there 100 show the aim."""
        for kept, sessions in ((False, 20), (True, 20), (False, 100), (True, 100)):
            load = Load(sessions, 4096, kept)
            aim = NEVER_BELOW if self.slow_us and sessions < 100 else RELAY_KEPT if kept else RELAY_NEW
            rate = self.figure("Relayed to a sink, end to end", str(load), "messages/s", aim)
            cpu = self.figure("CPU of the server", f"relay  {load}", "s per 1000 messages", CPU, lower_is_better=True)
            with Sink(self.folder / "sink", SINK_ADDRESS) as sink, self.sides("relay", (sink.address, sink.port)) as sides:
                self.rounds(sides, load, rate, cpu, lambda side: lambda: sink.messages)

    def far(self):
        """A sink that is 50 ms away, both sides tuned for it: what counts is how few round trips a message takes, and on how many connections."""
        load = Load(100, 4096, True)
        rate = self.figure(f"Relayed to a sink {FAR_MS} ms away, end to end", str(load), "messages/s", RELAY_FAR)
        cpu = self.figure("CPU of the server", f"far    {load}", "s per 1000 messages", CPU, lower_is_better=True)
        try:
            with delay.Far(FAR_MS, self.args.delay) as way, \
                 Sink(self.folder / "sink", delay.FAR, SINK_PORT, within=way.command) as sink, \
                 self.sides("far", (sink.address, sink.port)) as sides:
                for server in sides.both.values():          # until both have opened as many connections as they may
                    measure.run_once(server, load, FAR_WARM, lambda: sink.messages)
                self.rounds(sides, load, rate, cpu, lambda side: lambda: sink.messages)
        except (Failed, OSError, subprocess.SubprocessError) as e:
            rate.failed = cpu.failed = str(e).splitlines()[0][:200]
            self.report.show(rate)

    def local(self):
        for kept in (False, True):
            load = Load(20, 4096, kept, USER)
            rate = self.figure("Delivered to a Maildir, end to end", str(load), "messages/s", NEVER_BELOW)
            cpu = self.figure("CPU of the server", f"local  {load}", "s per 1000 messages", CPU, lower_is_better=True)
            with self.sides("local") as sides:
                new = {side: server.maildir(USER) / "new" for side, server in sides.both.items()}
                self.rounds(sides, load, rate, cpu, lambda side: lambda: measure.count_files(new[side]))

    # -- latency --

    def latency(self):
        names = ("connection to 250", "final dot to 250", "final dot to the sink's final dot")
        figures = [self.figure("A lone message of 4 KiB", name, "ms", NEVER_BELOW, lower_is_better=True) for name in names]
        sink = measure.StampingSink(SINK_ADDRESS)
        with self.sides("relay", (sink.address, sink.port)) as sides:
            try:
                for server in sides.both.values():
                    measure.lone_messages(server, sink, 5)          # warm
                for _ in range(self.args.rounds):
                    for side, server in sides.both.items():
                        for figure, value in zip(figures, measure.lone_messages(server, sink, 10 if self.args.quick else 20)):
                            figure.add(side, value)
            except (Failed, OSError) as e:
                for figure in figures:
                    figure.failed = str(e)[:200]
        sink.close()
        for figure in figures:
            self.report.show(figure)

    # -- memory --

    def memory(self):
        """10 000 processes of Postfix fit few machines: its figure is ten times that of 1000, and says so."""
        self.idle(1000, {"nightmail": 1000, "postfix": 1000})
        if not self.args.quick:
            self.idle(10000, {"nightmail": 10000, "postfix": 1000}, "postfix: 10 x its 1000")
        tls.idle_memory(self, 1000 if self.args.quick else 10000, IDLE_TLS_KIB)

    def idle(self, wanted, sessions, note=None):
        figures = [self.figure("Memory with idle sessions", f"{wanted:5} sessions, {kind}", "MiB", NEVER_BELOW, lower_is_better=True, note=note)
                   for kind in ("PSS", "RSS summed")]
        listener, hop = mute_listener()
        with listener, self.sides("accept", hop) as sides:
            for side, server in sides.both.items():
                try:
                    for figure, value in zip(figures, measure.idle_memory(server, sessions[side])):
                        figure.add(side, value * (wanted // sessions[side]) / (1 << 20))
                except (Failed, OSError) as e:
                    for figure in figures:
                        figure.failed = f"{side}: {e}"[:200]
        for figure in figures:
            self.report.show(figure)

    # -- durability --

    def syncs(self):
        """Not a race: that each 250 had a sync before it, shared or its own."""
        for sessions in (1, 100):
            load = Load(sessions, 4096, True)
            figure = self.figure("Syncs per accepted message", f"{load}", "syncs")
            listener, hop = mute_listener()
            with listener, self.sides("accept", hop, count=True) as sides:
                kinds = []
                try:
                    for side, server in sides.both.items():
                        before = sides.counters[side].counts()
                        measure.run_once(server, load, 500)
                        counts = sides.counters[side].counts()
                        done = {k: counts[k] - before[k] for k in SYNC_KINDS if counts[k] > before[k]}
                        figure.add(side, sum(done.values()) / 500)
                        kinds.append(f"{side} " + " ".join(f"{k}:{n}" for k, n in done.items()))
                    figure.note = "500 messages; " + ", ".join(kinds)
                except (Failed, subprocess.TimeoutExpired) as e:
                    figure.failed = str(e)[:200]
            self.report.show(figure)

    # -- the journal alone --

    def journal_round(self, folder):
        """(case, queue's messages/s, disk's, messages in a batch) of each case, by tests/bench/journal.c."""
        folder.mkdir()
        got = subprocess.run([self.args.journal, folder, "--ms", "150"], capture_output=True, text=True, timeout=120, check=True)
        shutil.rmtree(folder)
        for line in got.stdout.splitlines()[1:]:
            tasks, size, queue, disk, batch, _ = line.split()
            key = int(tasks), int(size)
            self.appends[key] = max(self.appends.get(key, 0), float(disk))
            yield f"{tasks} waiting, {int(size) // 1024} KiB", float(queue), float(disk), batch

    def journal(self):
        """The bare queue beside what the disk could do at most: no SMTP, no Postfix."""
        section, figures = "Bare journal beside the bare disk", {}
        try:
            for i in range(self.args.rounds):
                for case, queue, disk, batch in self.journal_round(self.folder / f"journal.{i}"):
                    if case not in figures:
                        figures[case] = self.figure(section, case, "messages/s", against="disk")
                    figures[case].add("nightmail", queue)
                    figures[case].add("disk", disk)
                    figures[case].note = f"{batch} in a batch"
        except (subprocess.SubprocessError, OSError, ValueError) as e:
            figures["failed"] = self.figure(section, "all of it", "messages/s", against="disk")
            figures["failed"].failed = str(e)[:200]
        for figure in figures.values():
            self.report.show(figure)

    # -- TLS --

    def tls(self):
        tls.run(self, self.args.journal.parent, BARE_TLS)

    # -- the whole --

    def run(self):
        fast = [] if self.args.slow_only else [0]
        slow = [] if self.args.fast_only else [SLOW_US]
        for self.slow_us in fast + slow:
            for phase in PHASES:
                if phase in self.args.only and not (self.slow_us and phase in ("ceilings", "far", "memory", "syncs", "journal", "tls")) and not (
                        phase == "journal" and "ceilings" in self.args.only):                # they have measured it
                    getattr(self, phase)()
            for figure in self.report.figures:
                if figure.section == self.section("CPU of the server"):
                    self.report.show(figure)

    def finish(self, started):
        self.report.show_summary()
        about = {
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)), "seconds": round(time.time() - started),
            "rounds": self.args.rounds, "quick": self.args.quick, "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "kernel": platform.release(), "set up": NOTES, "disk MiB/s": self.disk_rate,
        }
        self.report.write(self.args.json, about)
        print(f"\n{self.args.rounds} rounds, {round(time.time() - started)} s; all figures in {self.args.json}")
        return 1 if any(f.failed for f in self.report.figures) else 0


def main():
    args = arguments()
    if not args.inside:
        enter_namespaces()
    nightmail.PROGRAM = args.nightmail.absolute()
    prepare_network()
    measure.raise_file_limit()
    started = time.time()
    bench = Bench(args)
    try:
        bench.run()
    except KeyboardInterrupt:
        print("\nbench: stopped; what was measured is kept", file=sys.stderr)
    finally:
        status = bench.finish(started)
        if not os.environ.get("BENCH_KEEP"):
            shutil.rmtree(bench.folder, ignore_errors=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
