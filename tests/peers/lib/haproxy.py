"""
Debian's HAProxy, as a peer (see rooted.py): stands before a server, and names each client in a header of the PROXY protocol.
"""
from proc import listens
from rooted import Rooted

CONFIGURATION = """
global
    log stdout format raw local0 info
defaults
    mode tcp
    log global
    option log-health-checks
    option smtpchk EHLO haproxy.example
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    timeout check 20s
listen front
    bind {bind}
    server behind {behind} source {address} {send} check check-send-proxy inter 200ms fall 1
"""


class Haproxy(Rooted):
    """
    Takes connections at `port` and passes them, from its own address, to `behind`, (address, port). `send` is the form of its header, and
    what else is to be said of that server; `bind` more of where it takes connections.
    """
    NAME, PACKAGES = "haproxy", ("haproxy",)
    FOLDERS = ("/usr/sbin",)
    PASSWD, GROUP = "root:x:0:0:root:/root:/bin/sh\n", "root:x:0:\n"

    def __init__(self, folder, address, port, behind, send="send-proxy", bind=""):
        super().__init__(folder, address, port)
        (self.root / "etc/haproxy.cfg").write_text(CONFIGURATION.format(
            bind=f"{address}:{port} {bind}", address=address, behind=f"{behind[0]}:{behind[1]}", send=send))

    def command_line(self):
        return ["/usr/sbin/haproxy", "-db", "-f", "/etc/haproxy.cfg"]

    def is_up(self):
        return listens(self.address, self.port)
