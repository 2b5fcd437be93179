"""
Debian's Exim, as a peer (see rooted.py): mailboxes of its own, and a next hop for everything else.
"""
from proc import greets, listens
from rooted import Rooted

EXIM_UID, MAIL_UID = 64111, 64103

CONFIGURATION = """
primary_hostname = {hostname}
local_interfaces = <; [{address}]:{port}
domainlist ours = {domains}
acl_smtp_rcpt = check_rcpt
spool_directory = /var/spool/exim4
log_file_path = /var/log/exim4/%slog
pid_file_path = /run/exim.pid
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
dns_dnssec_ok = 0
{main}

begin acl
check_rcpt:
  accept condition = ${{lookup{{$local_part@$domain}}lsearch{{/etc/exim4/users}}{{yes}}{{no}}}}
  deny   domains = +ours
         message = no such user
  accept hosts = 127.0.0.0/8

begin routers
mailbox:
  driver = accept
  domains = +ours
  condition = ${{lookup{{$local_part@$domain}}lsearch{{/etc/exim4/users}}{{yes}}{{no}}}}
  transport = maildir
unknown:
  driver = redirect
  domains = +ours
  data = :fail: no such user
  allow_fail
elsewhere:
  driver = manualroute
  domains = ! +ours
  route_list = * {hop} byname
  self = send
  transport = remote

begin transports
maildir:
  driver = appendfile
  maildir_format
  directory = /mail/${{lookup{{$local_part@$domain}}lsearch{{/etc/exim4/users}}}}
  create_directory
  return_path_add
  user = mail
  group = mail
remote:
  driver = smtp
  allow_localhost
  hosts_try_fastopen =
  {remote}

begin retry
* * F,1h,5s
"""


class Exim(Rooted):
    """
    An Exim server for `users` ("bob@here.example"); all else goes to `hop`, (address, port). `main` is added to its main section, `remote` to
    how it gives mail to the hop, `more` to its end. `implicit` says that it has TLS from the first byte, which `main` must have asked for.
    """
    NAME, PACKAGES = "exim", ("exim4-daemon-light",)
    FOLDERS = ("/usr/sbin", "/usr/lib/exim4")
    PASSWD = (f"root:x:0:0:root:/root:/bin/sh\nDebian-exim:x:{EXIM_UID}:{EXIM_UID}::/var/spool/exim4:/bin/false\n"
              f"mail:x:{MAIL_UID}:{MAIL_UID}::/mail:/bin/false\n")
    GROUP = f"root:x:0:\nDebian-exim:x:{EXIM_UID}:\nmail:x:{MAIL_UID}:\n"

    def __init__(self, folder, address, port, users, hop, hostname="exim.example", main="", more="", remote="", implicit=False):
        super().__init__(folder, address, port)
        self.is_there = listens if implicit else greets
        if "tls_advertise_hosts" not in main:
            main += "\ntls_advertise_hosts ="
        (self.root / "etc/exim4").mkdir(exist_ok=True)
        (self.root / "etc/exim4/exim4.conf").write_text(CONFIGURATION.format(
            hostname=hostname, address=address, port=port, main=main, remote=remote, hop=f"{hop[0]}::{hop[1]}",
            domains=" : ".join(sorted({u.split("@")[1] for u in users}))) + more)
        (self.root / "etc/exim4/users").write_text("".join(f"{u}: {u}\n" for u in users))
        self.make_dir(self.root / "mail", 0o755, MAIL_UID, MAIL_UID)
        for name in ("var/spool/exim4", "var/log/exim4"):
            self.make_dir(self.root / name, 0o750, EXIM_UID, EXIM_UID)
        self.logs += [self.root / "var/log/exim4" / name for name in ("paniclog", "mainlog", "rejectlog")]

    def command_line(self):
        return ["/usr/sbin/exim4", "-bdf", "-q5s"]

    def is_up(self):
        return self.is_there(self.address, self.port)

    def mails(self, user):
        """The messages in a mailbox, oldest first."""
        new = self.root / "mail" / user / "new"
        return [f.read_bytes() for f in sorted(new.iterdir())] if new.is_dir() else []

    def queued(self):
        """How many messages wait."""
        return len(list((self.root / "var/spool/exim4/input").rglob("*-H")))
