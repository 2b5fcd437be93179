"""
Debian's OpenSMTPD, as a peer (see rooted.py): mailboxes of its own, and a next hop for everything else.
"""
from proc import greets
from rooted import Rooted

SMTPD_UID, SMTPQ_UID, MAIL_UID = 64121, 64122, 64103

CONFIGURATION = """
{main}
table mailboxes {{ {mailboxes} }}
listen on {address} port {port} hostname {hostname}
action "mailbox" maildir "/mail/%{{rcpt}}" virtual <mailboxes>
action "elsewhere" relay host {scheme}{hop} helo {hostname} {remote}
match from any for domain {{ {domains} }} action "mailbox"
match from any for any action "elsewhere"
"""


class OpenSmtpd(Rooted):
    """
    An OpenSMTPD server for `users` ("bob@here.example"); all else goes to `hop`, (address, port).
    `scheme` and `remote` say how, as "smtps://label@" and "auth <secrets>"; `main` stands before all.
    """
    NAME, PACKAGES = "opensmtpd", ("opensmtpd",)
    FOLDERS = ("/usr/sbin", "/usr/libexec")
    PASSWD = (f"root:x:0:0:root:/root:/bin/sh\nopensmtpd:x:{SMTPD_UID}:{SMTPD_UID}::/var/lib/opensmtpd/empty:/bin/false\n"
              f"opensmtpq:x:{SMTPQ_UID}:{SMTPQ_UID}::/var/lib/opensmtpd/empty:/bin/false\nmail:x:{MAIL_UID}:{MAIL_UID}::/mail:/bin/sh\n")
    GROUP = f"root:x:0:\nopensmtpd:x:{SMTPD_UID}:\nopensmtpq:x:{SMTPQ_UID}:\nmail:x:{MAIL_UID}:\n"

    def __init__(self, folder, address, port, users, hop, hostname="opensmtpd.example", main="", scheme="smtp://", remote=""):
        super().__init__(folder, address, port)
        conf = self.root / "etc/smtpd.conf"
        conf.write_text(CONFIGURATION.format(
            hostname=hostname, address=address, port=port, main=main, scheme=scheme, remote=remote, hop=f"{hop[0]}:{hop[1]}",
            mailboxes=", ".join(f'"{u}" = mail' for u in users),
            domains=", ".join(f'"{d}"' for d in sorted({u.split("@")[1] for u in users}))))
        conf.chmod(0o644)
        self.make_dir(self.root / "mail", 0o755, MAIL_UID, MAIL_UID)
        self.make_dir(self.root / "var/lib/opensmtpd/empty")
        self.make_dir(self.root / "var/spool/smtpd", 0o711)

    def command_line(self):
        return ["/usr/sbin/smtpd", "-d", "-f", "/etc/smtpd.conf"]

    def is_up(self):
        return greets(self.address, self.port)

    def mails(self, user):
        """The messages in a mailbox, oldest first."""
        new = self.root / "mail" / user / "new"
        return [f.read_bytes() for f in sorted(new.iterdir())] if new.is_dir() else []

    def queued(self):
        """How many messages wait."""
        return len([d for d in (self.root / "var/spool/smtpd/queue").glob("*/*") if d.is_dir()])
