"""
Debian's Postfix, as a peer: downloaded and unpacked under build/peers/postfix (tools/setup peers), never installed.

Each Postfix runs in a mount and a PID namespace of its own, in a small root made of bind mounts: the system's libraries, the
unpacked /usr/lib/postfix and /usr/sbin, an /etc with the only users it knows, and a spool beside the data of the test, so
that it writes to the same file system as we do. The network is its starter's (make peers and make bench give both a network
namespace with nothing but loopback). When it is stopped, or its starter dies, the PID namespace ends and all that ran in it.

Needs root.
"""
import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from proc import BUILD, TOP, Failed, children, cpu_seconds, end, greets, kill_tree_of, memory_bytes, spawn, tree, wait_until

UNPACKED = BUILD / "peers" / "postfix"
POSTFIX_UID, POSTDROP_GID, MAIL_UID = 64101, 64102, 64103

PASSWD = f"""root:x:0:0:root:/root:/bin/sh
postfix:x:{POSTFIX_UID}:{POSTFIX_UID}::/var/spool/postfix:/bin/false
mail:x:{MAIL_UID}:{MAIL_UID}::/mail:/bin/false
nobody:x:65534:65534::/nonexistent:/bin/false
"""
GROUP = f"""root:x:0:
postfix:x:{POSTFIX_UID}:
postdrop:x:{POSTDROP_GID}:
mail:x:{MAIL_UID}:
nogroup:x:65534:
"""

# Debian's master.cf with chroot off (the small root is one already), and only the services that a test can reach.
MASTER = """
{address}:{port} inet n - n - {smtpd_limit} smtpd
pickup    unix  n - n 60    1 pickup
cleanup   unix  n - n -     0 cleanup
qmgr      unix  n - n 300   1 qmgr
rewrite   unix  - - n -     - trivial-rewrite
bounce    unix  - - n -     0 bounce
defer     unix  - - n -     0 bounce
trace     unix  - - n -     0 bounce
verify    unix  - - n -     1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n -     - proxymap
smtp      unix  - - n -     - smtp
relay     unix  - - n -     - smtp
showq     unix  n - n -     - showq
error     unix  - - n -     - error
retry     unix  - - n -     - error
discard   unix  - - n -     - discard
virtual   unix  - n n -     - virtual
anvil     unix  - - n -     1 anvil
scache    unix  - - n -     1 scache
postlog   unix-dgram n - n - 1 postlogd
"""

MAIN = {
    "compatibility_level": "3.6",
    "queue_directory": "/var/spool/postfix",
    "command_directory": "/usr/sbin",
    "daemon_directory": "/usr/lib/postfix/sbin",
    "data_directory": "/var/lib/postfix",
    "shlib_directory": "/usr/lib/postfix",
    "mail_owner": "postfix",
    "setgid_group": "postdrop",
    "inet_interfaces": "127.0.0.1",                     # master.cf names the address we listen at
    "inet_protocols": "ipv4",
    "mynetworks": "127.0.0.0/8",
    "mydestination": "",
    "alias_maps": "",
    "alias_database": "",
    "local_recipient_maps": "",
    "local_transport": "error:there is no local delivery here",
    "virtual_mailbox_base": "/mail",
    "virtual_uid_maps": f"static:{MAIL_UID}",
    "virtual_gid_maps": f"static:{MAIL_UID}",
    # No network but loopback: names come from our zone or not at all.
    "smtp_dns_support_level": "disabled",
    "smtp_host_lookup": "native",
    "smtpd_peername_lookup": "no",
    "smtp_tls_security_level": "none",
    "smtpd_tls_security_level": "none",
    "import_environment": "MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ LANG=C POSTLOG_SERVICE POSTLOG_HOSTNAME"
                          " LD_PRELOAD SLOW_SYNC_US SLOW_SYNC_COUNT",
}

# What hinders a bench: limits against strangers, and the pause that Postfix makes when mail comes faster than it goes.
TUNED = {
    "default_process_limit": "1100",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_client_connection_rate_limit": "0",
    "in_flow_delay": "0",
}

SPOOL_PRIVATE = "active bounce corrupt defer deferred flush hold incoming private saved trace".split()

# Runs as the init process of its PID namespace; $1 is the small root, $2 the unpacked package, the rest is the command.
ENTER = """set -eu
root=$1 package=$2
shift 2
for dir in /usr/bin /usr/lib64 /usr/lib/*-linux-gnu /dev; do
    [ -d "$dir" ] || continue
    mkdir -p "$root$dir"
    mount --bind "$dir" "$root$dir"
done
mount --bind "$package/usr/lib/postfix" "$root/usr/lib/postfix"
mount --bind "$package/usr/sbin" "$root/usr/sbin"
mount -t proc proc "$root/proc"
exec chroot "$root" "$@"
"""


def unpack():
    """The package's tree; unpacked once, whoever comes first."""
    UNPACKED.parent.mkdir(parents=True, exist_ok=True)
    with open(UNPACKED.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (UNPACKED / "usr/sbin/smtp-sink").exists():
            return UNPACKED
        packages = sorted(UNPACKED.parent.glob("postfix_*.deb"))
        if not packages:
            subprocess.run([TOP / "tools/setup", "peers"], cwd=TOP, check=True, timeout=300)
            packages = sorted(UNPACKED.parent.glob("postfix_*.deb"))
        if not packages:
            raise Failed("tools/setup peers brought no package of Postfix")
        fresh = UNPACKED.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        subprocess.run(["dpkg-deb", "-x", packages[-1], fresh], check=True)
        shutil.rmtree(UNPACKED, ignore_errors=True)
        fresh.rename(UNPACKED)
    return UNPACKED


def tool(name, *args):
    """A command line for smtp-source or smtp-sink, which run as they are."""
    package = unpack()
    return ["env", f"LD_LIBRARY_PATH={package}/usr/lib/postfix", str(package / "usr/sbin" / name), *map(str, args)]


class Postfix:
    """
    A Postfix server. `main` is added to main.cf; `users` are mailboxes of virtual_mailbox_domains as {"bob@here.example"}.
    Its mail lands in `maildir(user)`; its log in `log`, if it is to have one (a bench gives it none: no syslog to wait for).
    """

    def __init__(self, folder, address, port, main=None, users=(), hostname="postfix.example", smtpd_limit="-", log=True, env=None):
        self.folder, self.address, self.port = Path(folder).absolute(), address, port
        self.root = self.folder / "root"
        self.env = dict(os.environ, **(env or {}))
        self.log = self.root / "var/log/postfix.log" if log else None
        self.init = None
        self.process = None
        settings = dict(MAIN, myhostname=hostname)
        if users:
            settings["virtual_mailbox_domains"] = ", ".join(sorted({u.split("@")[1] for u in users}))
            settings["virtual_mailbox_maps"] = "inline:{" + ", ".join(f"{{{u} = {u}/}}" for u in users) + "}"
        if log:
            settings["maillog_file"] = "/var/log/postfix.log"
        settings.update(main or {})
        self._make_root(settings, MASTER.format(address=address, port=port, smtpd_limit=smtpd_limit))

    def _make_root(self, settings, master):
        root = self.root
        for name in ("dev", "proc", "tmp", "root", "mail", "etc/postfix", "usr/lib/postfix", "usr/sbin", "usr/bin", "var/log",
                     "var/lib/postfix", "var/spool/postfix"):
            (root / name).mkdir(parents=True, exist_ok=True)
        for link, to in (("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")):
            if not (root / link).is_symlink():
                (root / link).symlink_to(to)
        etc = root / "etc"
        (etc / "passwd").write_text(PASSWD)
        (etc / "group").write_text(GROUP)
        (etc / "hosts").write_text("127.0.0.1 localhost\n")
        (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\nservices: files\n")
        (etc / "services").write_text("smtp 25/tcp\n")
        (etc / "resolv.conf").write_text("")
        (etc / "postfix/main.cf").write_text("".join(f"{k} = {v}\n" for k, v in settings.items()))
        (etc / "postfix/master.cf").write_text(master.lstrip())
        (etc / "postfix/dynamicmaps.cf").write_text("")
        os.chown(root / "mail", MAIL_UID, MAIL_UID)
        os.chown(root / "var/lib/postfix", POSTFIX_UID, POSTFIX_UID)
        spool = root / "var/spool/postfix"
        for name in SPOOL_PRIVATE:
            self._spool_dir(spool / name, 0o700, POSTFIX_UID, 0)
        self._spool_dir(spool / "maildrop", 0o730, POSTFIX_UID, POSTDROP_GID)
        self._spool_dir(spool / "public", 0o710, POSTFIX_UID, POSTDROP_GID)
        self._spool_dir(spool / "pid", 0o755, 0, 0)

    @staticmethod
    def _spool_dir(path, mode, uid, gid):
        path.mkdir(exist_ok=True)
        os.chown(path, uid, gid)
        path.chmod(mode)

    def start(self):
        if os.geteuid() != 0:
            raise Failed("a Postfix peer needs root: it changes its user, and the namespaces are root's")
        self.errors = open(self.folder / "errors", "wb")
        self.process = spawn(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "enter", self.root, unpack(),
                              "/usr/lib/postfix/sbin/master", "-i", "-c", "/etc/postfix"],
                             stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors, env=self.env)
        wait_until(self._is_up, 30, lambda: f"Postfix on {self.address}:{self.port}\n{self.said()}")
        return self

    def _is_up(self):
        if self.process.poll() is not None:
            raise Failed(f"Postfix ended at once\n{self.said()}")
        if self.init is None:
            self.init = next(iter(children(self.process.pid)), None)
        return greets(self.address, self.port)

    def said(self):
        """What it logged, for a failure's message."""
        texts = [(self.folder / "errors").read_text(errors="replace")]
        if self.log is not None and self.log.exists():
            texts.append(self.log.read_text(errors="replace"))
        return "".join(texts)[-8000:]

    def stop(self):
        if self.process is None:
            return
        if self.init is not None:
            kill_tree_of(self.init)
        end(self.process)
        self.errors.close()
        self.process = None

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
        """Runs one of Postfix's commands beside the server, in its root."""
        return subprocess.run(["nsenter", "--mount", "--pid", "--target", str(self.init), "chroot", str(self.root), *argv],
                              capture_output=True, timeout=60, **options)

    def maildir(self, user):
        return self.root / "mail" / user

    def mails(self, user):
        """The messages in a mailbox, oldest first."""
        new = self.maildir(user) / "new"
        return [f.read_bytes() for f in sorted(new.iterdir())] if new.is_dir() else []

    def queued(self):
        """How many messages wait in any of its queues."""
        spool = self.root / "var/spool/postfix"
        return sum(len(files) for q in ("incoming", "active", "deferred", "hold") for _, _, files in os.walk(spool / q))
