"""
Under systemd: what it hears of the server, sockets that it has opened, and what the unit in share/ leaves open.
"""
import os
import re
import shutil
import signal
import socket
import subprocess
import time

from nightmail import PROGRAM, Nightmail
from proc import TOP, end, spawn, wait_until, workers

BOB = "bob@here.example"
UNIT = TOP / "share/nightmail.service"
EXPOSURE_MAX = 15                       # tenths
EXPOSURE_SYSTEM_USERS_MAX = 27


class Manager:
    """The side of sd_notify that listens."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.heard = []

    def hear(self, seconds):
        end_at = time.monotonic() + seconds
        self.heard = []
        while (left := end_at - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                self.heard.append(self.socket.recv(4096).decode())
            except TimeoutError:
                break
        return self.heard

    def wait_for(self, word, seconds=20):
        end_at = time.monotonic() + seconds
        while time.monotonic() < end_at:
            if any(m.startswith(word) for m in self.hear(0.1)):
                return True
        return False


def test_the_manager_hears_how_it_is(folder, addresses):
    folder.mkdir(exist_ok=True)
    manager = Manager(folder / "notify")
    env = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "500000"}
    with Nightmail(folder / "here", addresses[0], users=[BOB], env=env) as server:
        assert "READY=1\nSTATUS=serving" in manager.hear(1) and manager.heard.count("WATCHDOG=1") >= 3
        os.kill(server.process.pid, signal.SIGHUP)
        heard = manager.hear(1)
        [reloading] = [i for i, m in enumerate(heard) if re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", m)]
        assert "READY=1\nSTATUS=serving" in heard[reloading:]
        server.conf.write_text(server.conf.read_text() + "nonsense = 1\n")
        os.kill(server.process.pid, signal.SIGHUP)
        assert manager.wait_for("READY=1")              # a refused one is over too
        [worker] = workers(server.process.pid)
        os.kill(worker, signal.SIGSTOP)
        manager.hear(0.2)
        assert manager.hear(1) == []                    # loops that do not turn
        os.kill(worker, signal.SIGCONT)
        assert manager.wait_for("WATCHDOG=1")
        server.process.terminate()
        assert manager.wait_for("STOPPING=1")
        assert server.stop() == 0


def test_it_is_heard_after_an_upgrade(folder, addresses):
    folder.mkdir(exist_ok=True)
    manager = Manager(folder / "notify")
    env = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "500000"}
    with Nightmail(folder / "here", addresses[0], users=[BOB], env=env) as server:
        assert server.command("upgrade").returncode == 0
        manager.hear(0.2)
        assert "WATCHDOG=1" in manager.hear(1)
        os.kill(server.process.pid, signal.SIGHUP)
        assert manager.wait_for("RELOADING=1") and server.stop() == 0


def free_port(address):
    with socket.socket() as s:
        s.bind((address, 0))
        return s.getsockname()[1]


def test_it_takes_the_sockets_that_systemd_has_opened(folder, addresses):
    address = addresses[0]
    port = free_port(address)
    server = Nightmail(folder, address, port, users=[BOB])
    unused = free_port(address)
    with open(server.log, "wb") as log:
        process = spawn(["systemd-socket-activate", "-l", f"{address}:{port}", "-l", f"{address}:{unused}", PROGRAM, "serve", "-c", server.conf],
                        stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: server.said().count("Listening on") == 2, 20, server.said)
        first = socket.create_connection((address, port), 5)      # waits in the kernel while the server starts
        first.settimeout(30)
        assert first.recv(4) == b"220 "
        for _ in range(20):
            with socket.create_connection((address, port), 5) as s:
                s.settimeout(30)
                assert s.recv(4) == b"220 "
        assert "socket-unused" in server.said()
        server._log_start = 0
        [worker] = wait_until(lambda: workers(process.pid), 10, server.said)
        os.kill(worker, signal.SIGKILL)
        with socket.create_connection((address, port), 5) as s:
            s.settimeout(30)
            assert s.recv(4) == b"220 "
        assert server.command("upgrade").returncode == 0
        with socket.create_connection((address, port), 5) as s:
            s.settimeout(30)
            assert s.recv(4) == b"220 "
        first.close()
    finally:
        assert end(process, 40) == 0


def exposure(folder):
    r = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", str(folder / "nightmail.service")],
                       capture_output=True, text=True, timeout=60)
    assert "gnoring" not in r.stderr, r.stderr                        # "Unknown ..., ignoring"
    return round(10 * float(re.search(r"Overall exposure level for \S+: ([\d.]+)", r.stdout).group(1)))


def test_the_unit_leaves_little_open(folder):
    folder.mkdir(exist_ok=True)
    shutil.copy(UNIT, folder)
    assert exposure(folder) <= EXPOSURE_MAX
    shutil.copytree(TOP / "share/system-users/nightmail.service.d", folder / "nightmail.service.d")
    with_system_users = exposure(folder)
    print(f"exposure with system users: {with_system_users / 10}")
    assert EXPOSURE_MAX < with_system_users <= EXPOSURE_SYSTEM_USERS_MAX     # more than without: the drop-in was read
