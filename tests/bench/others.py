"""
OpenSMTPD and Exim as the bench's further sides, for acceptance: every message is kept durably and goes no further.

OpenSMTPD has a next hop that never greets; its limits on messages in a session and for a sender are raised above the load. Exim only queues
(queue_only, and no queue runner is due), takes any number of connections at a time and messages in one, and looks up nobody. Neither is in
the runs with slower syncs: OpenSMTPD starts its processes without the preload that makes them slower.
"""
from exim import Exim
from opensmtpd import OpenSmtpd

OPENSMTPD_ADDRESS, EXIM_ADDRESS, PORT = "127.0.0.7", "127.0.0.8", 2525
USER = "bob@here.example"

OPENSMTPD_MAIN = """smtp limit max-mails 1000000
smtp limit max-rcpt 1000000
smtp max-message-size 50M
"""
EXIM_MAIN = """queue_only
queue_run_max = 0
smtp_accept_max = 0
smtp_accept_max_per_connection = 0
smtp_accept_queue_per_connection = 0
smtp_connect_backlog = 1000
helo_accept_junk_hosts = *
log_selector = -all
message_size_limit = 50M
"""


def _opensmtpd(folder, hop):
    folder.mkdir(parents=True)
    return OpenSmtpd(folder, OPENSMTPD_ADDRESS, PORT, [USER], hop, main=OPENSMTPD_MAIN)


def _exim(folder, hop):
    folder.mkdir(parents=True)
    return Exim(folder, EXIM_ADDRESS, PORT, [USER], hop, main=EXIM_MAIN)


OTHERS = {"opensmtpd": _opensmtpd, "exim": _exim}
