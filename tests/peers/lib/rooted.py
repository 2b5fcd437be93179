"""
Other people's servers, as peers: Debian's packages, downloaded and unpacked under build/peers (tools/setup peers), never installed.

Each server runs in a mount and a PID namespace of its own, in a small root made of bind mounts: the system's libraries, the unpacked
packages' programs, an /etc with the only users it knows, and its spool beside the data of the test, so that it writes to the same file
system as we do. The network is its starter's (make peers and make bench give both a network namespace with nothing but loopback). When
it is stopped, or its starter dies, the PID namespace ends and all that ran in it.

Needs root.
"""
import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from proc import BUILD, TOP, Failed, children, cpu_seconds, end, kill_tree_of, memory_bytes, spawn, tree, wait_until

PACKAGES = BUILD / "peers"

# Runs as the init process of its PID namespace; $1 is the small root, $2 the unpacked packages, $3 their folders that are to be seen
# there, the rest is the command.
ENTER = """set -eu
root=$1 package=$2 folders=$3
shift 3
for dir in /usr/bin /usr/lib64 /usr/lib/*-linux-gnu /dev; do
    [ -d "$dir" ] || continue
    mkdir -p "$root$dir"
    mount --bind "$dir" "$root$dir"
done
for dir in $folders; do
    mkdir -p "$root$dir"
    mount --bind "$package$dir" "$root$dir"
done
mount -t proc proc "$root/proc"
exec chroot "$root" "$@"
"""


def unpack(name, *packages):
    """The tree of these packages, under `name`; unpacked once, whoever comes first."""
    target = PACKAGES / name
    PACKAGES.mkdir(parents=True, exist_ok=True)
    with open(PACKAGES / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_dir():
            return target
        fresh = target.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        for package in packages:
            subprocess.run(["dpkg-deb", "-x", _downloaded(package), fresh], check=True)
        fresh.rename(target)
    return target


def _downloaded(package):
    for attempt in range(2):
        found = sorted(PACKAGES.glob(f"{package}_*.deb"))
        if found:
            return found[-1]
        if attempt == 0:
            subprocess.run([TOP / "tools/setup", "peers"], cwd=TOP, check=True, timeout=300)
    raise Failed(f"tools/setup peers brought no package {package}")


class Rooted:
    """
    A server in a small root. A subclass says `NAME`, the `FOLDERS` of its packages, its `PASSWD` and `GROUP`, and `command_line()`; it
    makes what else it needs under self.root, and says in `is_up()` whether it serves.
    """
    NAME = PASSWD = GROUP = ""
    PACKAGES = ()
    FOLDERS = ()

    def __init__(self, folder, address, port, env=None):
        self.folder, self.address, self.port = Path(folder).absolute(), address, port
        self.root = self.folder / "root"
        self.env = dict(os.environ, **(env or {}))
        self.logs = []
        self.init = None
        self.process = None
        for name in ("dev", "proc", "tmp", "run", "root", "mail", "etc", "usr/bin", "usr/sbin", "var/log"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        for link, to in (("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("var/run", "../run")):
            if not (self.root / link).is_symlink():
                (self.root / link).symlink_to(to)
        etc = self.root / "etc"
        (etc / "passwd").write_text(self.PASSWD)
        (etc / "group").write_text(self.GROUP)
        (etc / "hosts").write_text("127.0.0.1 localhost\n")
        (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\nservices: files\n")
        (etc / "services").write_text("smtp 25/tcp\nsmtps 465/tcp\n")
        (etc / "resolv.conf").write_text("")

    def start(self):
        if os.geteuid() != 0:
            raise Failed(f"a peer such as {self.NAME} needs root: it changes its user, and the namespaces are root's")
        self.errors = open(self.folder / "errors", "wb")
        package = unpack(self.NAME, *self.PACKAGES)
        self.process = spawn(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "enter", self.root, package,
                              " ".join(self.FOLDERS), *self.command_line()],
                             stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors, env=self.env)
        wait_until(self._is_up, 30, lambda: f"{self.NAME} on {self.address}:{self.port}\n{self.said()}")
        return self

    def _is_up(self):
        if self.process.poll() is not None:
            raise Failed(f"{self.NAME} ended at once\n{self.said()}")
        if self.init is None:
            self.init = next(iter(children(self.process.pid)), None)
        return self.is_up()

    def said(self):
        """What it logged, for a failure's message."""
        texts = [path.read_text(errors="replace") for path in (self.folder / "errors", *self.logs) if path.exists()]
        return "".join(texts)[-8000:]

    def stop(self):
        if self.process is None:
            return
        if self.init is not None:
            kill_tree_of(self.init)
        end(self.process)
        self.errors.close()
        self.process = self.init = None                 # it may be started again

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def pids(self):
        return tree(self.init)

    def cpu_seconds(self):
        return cpu_seconds(self.pids())

    def memory_bytes(self):
        return memory_bytes(self.pids())

    def command(self, *argv, **options):
        """Runs a command beside the server, in its root."""
        return subprocess.run(["nsenter", "--mount", "--pid", "--target", str(self.init), "chroot", str(self.root), *argv],
                              capture_output=True, timeout=60, **options)

    def give_certificate(self, pair, authority, owner=0):
        """To stand in its /etc/tls: ca.pem, and cert.pem with key.pem, which is for `owner` only."""
        folder = self.root / "etc/tls"
        folder.mkdir()
        for source, name, mode in ((authority.file, "ca.pem", 0o644), (pair[0], "cert.pem", 0o644), (pair[1], "key.pem", 0o600)):
            shutil.copy(source, folder / name)
            (folder / name).chmod(mode)
            os.chown(folder / name, owner, 0)

    @staticmethod
    def make_dir(path, mode=0o755, uid=0, gid=0):
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, uid, gid)
        path.chmod(mode)
