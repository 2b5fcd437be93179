"""
Messages with the content that mail systems like to change, and how to see whether it came through as it was.
"""
import smtplib

# Each is a body as lines; what arrives must be the same lines.
BODIES = {
    "plain": ["Dear Bob,", "", "all is well.", "Alice"],
    "dots": [".", "..", ".leading", "...", "", ".", "in.the.middle", "trailing."],
    "dot-at-the-end": ["text", ".", "", "."],
    "spaces": ["trailing blanks   ", "\ttab", "   ", "", "", "From here on", "from there"],
    "long": ["x" * 998, "y" * 997, "." + "z" * 996, "short"],
    "utf8": ["Grüße, 世界, ✉", "naïve façade"],
    "empty": [],
    "many": [f"line {i} of a longer message, to pass more than one buffer" for i in range(6000)],
}


def message(name, sender="alice@tester.example", rcpt="bob@here.example", subject=None):
    """The whole message as bytes, CRLF at every line's end."""
    lines = [f"From: <{sender}>", f"To: <{rcpt}>", f"Subject: {subject or name}", f"Message-ID: <{name}@tester.example>",
             "Date: Mon, 23 Nov 2026 12:00:00 +0000", "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8",
             "Content-Transfer-Encoding: 8bit", "", *BODIES[name]]
    return "".join(line + "\r\n" for line in lines).encode()


def body_of(raw):
    """The lines behind the header; a Maildir's message may end its lines with LF."""
    lines = raw.replace(b"\r\n", b"\n").decode().split("\n")
    assert lines.pop() == "", "the last line has an end"
    return lines[lines.index("") + 1:]


def subject_of(raw):
    for line in raw.replace(b"\r\n", b"\n").split(b"\n"):
        if line.startswith(b"Subject: "):
            return line[9:].decode()
        if line == b"":
            break
    return None


def send_all(server, rcpt, sender="alice@tester.example"):
    """Every body, on one connection."""
    with smtplib.SMTP(server.address, server.port, "tester.example", timeout=30) as client:
        client.ehlo()
        for name in BODIES:
            client.sendmail(sender, [rcpt], message(name, sender, rcpt), ["BODY=8BITMIME"])


def assert_all_arrived(mails):
    """Each once, each as it was."""
    by_subject = {subject_of(m): m for m in mails}
    assert sorted(subject_of(m) for m in mails) == sorted(BODIES)
    for name, lines in BODIES.items():
        assert body_of(by_subject[name]) == lines, name
