"""
Debian's Dovecot, as a peer (see rooted.py): reads mailboxes over IMAP, and takes mail over LMTP into them.
"""
import os

from proc import free_port, listens
from rooted import Rooted

DOVECOT_UID, DOVENULL_UID, MAIL_UID = 64131, 64132, 64103

CONFIGURATION = """
protocols = imap lmtp
log_path = /var/log/dovecot.log
base_dir = /run/dovecot
ssl = no
disable_plaintext_auth = no
mail_location = maildir:/mail/%u
first_valid_uid = 1
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  {userdb}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    address = {address}
    port = {imap_port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = {address}
    port = {port}
  }}
  unix_listener lmtp {{
    mode = 0666
  }}
}}
"""

ALL_USERS = "driver = static\n  args = uid={uid} gid={uid} home=/mail/%u allow_all_users=yes"
LISTED_USERS = "driver = passwd-file\n  args = username_format=%u /etc/dovecot/users"

QUOTA = """
mail_plugins = quota
plugin {
  quota = count:mailbox
  quota_vsizes = yes
}
"""

SUBMISSION = """
protocols = imap lmtp submission
hostname = dovecot.example
auth_mechanisms = {mechanisms}
submission_relay_host = {hop[0]}
submission_relay_port = {hop[1]}
submission_relay_trusted = {trusted}
service submission-login {{
  chroot =
  inet_listener submission {{
    address = {address}
    port = {port}
  }}
}}
"""


AUTH = """
auth_mechanisms = {mechanisms}
service auth {{
  inet_listener {{
    address = {address}
    port = {port}
  }}
}}
"""


class Dovecot(Rooted):
    """
    `port` takes LMTP, as does the socket `self.lmtp_socket`; `self.imap_port` gives the mailboxes to any user with `password`.
    `users` are all that it knows, each with the size of his mailbox in KiB or None, {"bob@here.example": None}; without them it knows everybody.
    With a `hop`, (address, port), `self.submission_port` takes mail for it from whoever logs in by one of `mechanisms`;
    a hop that trusts it is told by XCLIENT who that is. Without one, servers may ask at `self.auth_port` who may log in.
    `more` stands at the end of its configuration.
    """
    NAME, PACKAGES = "dovecot", ("dovecot-core", "dovecot-lmtpd", "dovecot-imapd", "dovecot-submissiond")
    FOLDERS = ("/usr/bin", "/usr/sbin", "/usr/lib/dovecot")
    PASSWD = (f"root:x:0:0:root:/root:/bin/sh\ndovecot:x:{DOVECOT_UID}:{DOVECOT_UID}::/nonexistent:/bin/false\n"
              f"dovenull:x:{DOVENULL_UID}:{DOVENULL_UID}::/nonexistent:/bin/false\nmail:x:{MAIL_UID}:{MAIL_UID}::/mail:/bin/false\n")
    GROUP = f"root:x:0:\ndovecot:x:{DOVECOT_UID}:\ndovenull:x:{DOVENULL_UID}:\nmail:x:{MAIL_UID}:\n"

    def __init__(self, folder, address, port, password, users=None, hop=None, mechanisms="plain", hop_trusts=False, more=""):
        super().__init__(folder, address, port)
        self.imap_port = free_port(address)
        self.lmtp_socket = self.root / "run/dovecot/lmtp"
        (self.root / "etc/dovecot").mkdir(exist_ok=True)
        self.submission_port, self.submits = free_port(address), hop is not None
        (self.root / "etc/dovecot/dovecot.conf").write_text(CONFIGURATION.format(
            address=address, port=port, imap_port=self.imap_port, password=password,
            userdb=LISTED_USERS if users is not None else ALL_USERS.format(uid=MAIL_UID)) + (QUOTA if users is not None else "")
            + (SUBMISSION.format(hop=hop, mechanisms=mechanisms, address=address, port=self.submission_port,
                                   trusted="yes" if hop_trusts else "no") if hop else ""))
        self.auth_port = free_port(address)
        with open(self.root / "etc/dovecot/dovecot.conf", "a", encoding="ascii") as conf:
            conf.write(("" if hop else AUTH.format(mechanisms=mechanisms, address=address, port=self.auth_port)) + more)
        (self.root / "etc/dovecot/users").write_text("".join(
            f"{user}::{MAIL_UID}:{MAIL_UID}::/mail/{user}::" + (f"userdb_quota_rule=*:storage={size}K" if size else "") + "\n"
            for user, size in (users or {}).items()))
        self.make_dir(self.root / "mail", 0o777)
        self.logs.append(self.root / "var/log/dovecot.log")

    def give_mailboxes(self):
        """Makes all mailboxes its user's: whoever delivers there in a real house runs as that user."""
        for path in (self.root / "mail").rglob("*"):
            os.chown(path, MAIL_UID, MAIL_UID)

    def command_line(self):
        return ["/usr/sbin/dovecot", "-F", "-c", "/etc/dovecot/dovecot.conf"]

    def is_up(self):
        ports = [self.port, self.imap_port] + ([self.submission_port] if self.submits else [])
        return all(listens(self.address, port) for port in ports)
