"""
Debian's Postfix, as a peer (see rooted.py), with its smtp-source and smtp-sink as tools.
"""
import os

from proc import greets, listens
from rooted import Rooted, unpack

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
tlsmgr    unix  - - n 1000? 1 tlsmgr
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

def tool(name, *args):
    """A command line for smtp-source or smtp-sink, which run as they are."""
    package = unpack("postfix", "postfix")
    return ["env", f"LD_LIBRARY_PATH={package}/usr/lib/postfix", str(package / "usr/sbin" / name), *map(str, args)]


class Postfix(Rooted):
    """
    A Postfix server. `main` is added to main.cf; `users` are mailboxes of virtual_mailbox_domains as {"bob@here.example"}.
    Its mail lands in `maildir(user)`; its log in a file, if it is to have one (a bench gives it none: no syslog to wait for).
    """
    NAME, PACKAGES = "postfix", ("postfix",)
    FOLDERS = ("/usr/lib/postfix", "/usr/sbin")
    PASSWD, GROUP = PASSWD, GROUP

    def __init__(self, folder, address, port, main=None, users=(), hostname="postfix.example", smtpd_limit="-", log=True, env=None,
                 master=""):
        super().__init__(folder, address, port, env)
        self.implicit = (main or {}).get("smtpd_tls_wrappermode") == "yes"
        settings = dict(MAIN, myhostname=hostname)
        if users:
            settings["virtual_mailbox_domains"] = ", ".join(sorted({u.split("@")[1] for u in users}))
            settings["virtual_mailbox_maps"] = "inline:{" + ", ".join(f"{{{u} = {u}/}}" for u in users) + "}"
        if log:
            settings["maillog_file"] = "/var/log/postfix.log"
            self.logs.append(self.root / "var/log/postfix.log")
        settings.update(main or {})
        self._configure(settings, MASTER.format(address=address, port=port, smtpd_limit=smtpd_limit) + master)

    def _configure(self, settings, master):
        etc, spool, root = self.root / "etc/postfix", self.root / "var/spool/postfix", self.root
        etc.mkdir(exist_ok=True)
        (etc / "main.cf").write_text("".join(f"{k} = {v}\n" for k, v in settings.items()))
        (etc / "master.cf").write_text(master.lstrip())
        (etc / "dynamicmaps.cf").write_text("")
        self.make_dir(root / "mail", 0o755, MAIL_UID, MAIL_UID)
        self.make_dir(root / "var/lib/postfix", 0o755, POSTFIX_UID, POSTFIX_UID)
        for name in SPOOL_PRIVATE:
            self.make_dir(spool / name, 0o700, POSTFIX_UID, 0)
        self.make_dir(spool / "maildrop", 0o730, POSTFIX_UID, POSTDROP_GID)
        self.make_dir(spool / "public", 0o710, POSTFIX_UID, POSTDROP_GID)
        self.make_dir(spool / "pid")

    def command_line(self):
        return ["/usr/lib/postfix/sbin/master", "-i", "-c", "/etc/postfix"]

    def is_up(self):
        return (listens if self.implicit else greets)(self.address, self.port)

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
