"""
Processes of a test: started so that they end with it, watched in /proc, and ended by their own id.

setpriv's death signal ends a child with the program that started it, even when that one is killed; it works for the thread
that started it, so start from the main thread.
"""
import os
import select
import signal
import socket
import subprocess
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
BUILD = TOP / os.environ.get("BUILD", "build")
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """What a test could not do, in words."""


def wait_until(condition, seconds, what, every=0.01):
    """The condition's value once it is true; Failed after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(every)


def spawn(argv, **options):
    """A child that dies with us."""
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *map(str, argv)], **options)


def end(process, seconds=10):
    """SIGTERM, and SIGKILL when that is not heard. The exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def kill_tree_of(pid, seconds=10):
    """Ends the init process of a PID namespace, and so all in it; returns when they are gone."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        if not select.select([fd], [], [], seconds)[0]:
            raise Failed(f"process {pid} does not end")
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)


def children(pid):
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    except OSError:
        pass                                            # it has just ended
    return found


AIDES = ("keeper", "lookup")


def called(pid):
    """What the process goes by; "" for one that has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def workers(pid):
    """The children of a server but those that serve its worker."""
    return [child for child in children(pid) if called(child) not in AIDES]


def aide(pid, name):
    return next((child for child in children(pid) if called(child) == name), None)


def tree(pid):
    """The process and all below it."""
    pids = [pid]
    for p in pids:
        pids += children(p)
    return pids


def cpu_seconds(pids):
    """User and system time of these processes, and of their children that have ended."""
    seconds = 0
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue                                    # it has just ended
        try:
            # To the nanosecond where the kernel tells; a tick is 10 ms, and a thousand small processes lose half of one each.
            exact = sum(int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0]) for task in os.listdir(f"/proc/{pid}/task"))
        except OSError:
            exact = 0                                   # no such kernel, or it ends
        own_user, own_system, ended_user, ended_system = map(int, stat[stat.rindex(")") + 2:].split()[11:15])
        seconds += max(exact / 1e9, (own_user + own_system) / TICKS) + (ended_user + ended_system) / TICKS
    return seconds


def memory_bytes(pids):
    """(PSS, RSS): what they really take, shared pages counted once; and what each sees, added up."""
    pss = rss = 0
    for pid in pids:
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    pss += int(line.split()[1]) * 1024
                elif line.startswith("Rss:"):
                    rss += int(line.split()[1]) * 1024
        except OSError:
            continue                                    # it has just ended, or is a zombie
    return pss, rss


def free_port(address="127.0.0.1"):
    """A port that was free a moment ago."""
    with socket.socket() as s:
        s.bind((address, 0))
        return s.getsockname()[1]


def greets(address, port):
    """A server there says 220."""
    try:
        with socket.create_connection((address, port), 2) as s:
            s.settimeout(5)
            greeting = s.recv(512)
            if greeting.startswith(b"220"):
                s.sendall(b"QUIT\r\n")
                return True
    except OSError:
        pass
    return False


def listens(address, port):
    """Somebody takes connections there."""
    try:
        socket.create_connection((address, port), 2).close()
        return True
    except OSError:
        return False
