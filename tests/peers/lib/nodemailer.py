"""
Debian's nodemailer, as a client: unpacked like the servers (see rooted.py), and run by Debian's node.
"""
import base64
import json
import os
import subprocess
from pathlib import Path

from rooted import unpack

DRIVER = Path(__file__).with_name("nodemailer.js")


def raw(sender, rcpts, text, **envelope):
    """A mail whose text is given; `envelope` is more of nodemailer's envelope."""
    return {"envelope": dict({"from": sender, "to": rcpts}, **envelope), "text64": base64.b64encode(text).decode()}


def send(address, port, mails, **transport):
    """Each mail's outcome: accepted, rejected and response; or code, responseCode and message. `transport` is more of nodemailer's transport."""
    modules = unpack("nodemailer", "node-nodemailer") / "usr/share/nodejs"
    options = dict({"host": address, "port": port, "name": "tester.example", "secure": False, "ignoreTLS": "auth" not in transport}, **transport)
    r = subprocess.run(["node", DRIVER], input=json.dumps({"transport": options, "mails": mails}).encode(), capture_output=True, timeout=60,
                       env=dict(os.environ, NODE_PATH=str(modules)))
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout)
