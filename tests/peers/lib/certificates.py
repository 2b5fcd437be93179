"""
Certificates made at run time: an authority of the test's own, and what it signs.
"""
import subprocess
from pathlib import Path


def openssl(*argv, **options):
    return subprocess.run(["openssl", *map(str, argv)], check=True, capture_output=True, timeout=60, **options).stdout


class Authority:
    """In a folder: ca.pem, and NAME.pem (the chain) with NAME.key for each certificate."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(exist_ok=True)
        self.file = self.folder / "ca.pem"
        openssl("req", "-x509", *self._new_key("ec"), "-keyout", self.folder / "ca.key", "-out", self.file, "-days", 30, "-subj", "/CN=Test CA",
                "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")

    @staticmethod
    def _new_key(kind):
        return ["-nodes", "-newkey", "rsa:2048"] if kind == "rsa" else ["-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]

    def make(self, name, names, kind="ec"):
        """(certificate, key) for these DNS names; the common name is `name`."""
        stem = self.folder / name
        request = openssl("req", "-new", *self._new_key(kind), "-keyout", f"{stem}.key", "-subj", f"/CN={name}")
        extensions = self.folder / f"{name}.ext"
        extensions.write_text("subjectAltName=" + ",".join(f"DNS:{n}" for n in names) + "\nbasicConstraints=critical,CA:FALSE\n")
        openssl("x509", "-req", "-CA", self.file, "-CAkey", self.folder / "ca.key", "-CAcreateserial", "-days", 20, "-extfile", extensions,
                "-out", f"{stem}.pem", input=request)
        return Path(f"{stem}.pem"), Path(f"{stem}.key")
