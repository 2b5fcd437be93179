"""
Debian's PostgreSQL, as a peer (see rooted.py): a database that Nightmail asks for accounts. Runs as a user of its own; its data
stays when it is stopped, so that it can be started again.
"""
import os
import subprocess

from proc import Failed, listens
from rooted import PACKAGES, Rooted

POSTGRES_UID = 64141
BIN = "/usr/lib/postgresql/15/bin"

# Makes a cluster if there is none, keeps a copy of it, and serves. $1 the address, $2 the port, $3 the file of the superuser's password,
# $4 more options.
SERVE = f"""set -eu
if ! [ -s /data/PG_VERSION ]; then
    {BIN}/initdb -D /data/new -U postgres --pwfile="$3" --auth=scram-sha-256 -E UTF8 --locale=C -N >/dev/null
    cp -a /data/new/. /data/
fi
exec {BIN}/postgres -D /data -c listen_addresses="$1" -p "$2" -c unix_socket_directories=/run/postgresql -c fsync=off -c jit=off -c max_connections=20 $4
"""


class Postgresql(Rooted):
    """
    The superuser is postgres with `password`, in database postgres. `more` are options of the server. Only the first of all makes a
    cluster, which takes seconds; the others begin with a copy of it, as it was before it was used.
    """
    password = "the superuser's"
    CLUSTER = PACKAGES / "postgresql-cluster"
    NAME, PACKAGES = "postgresql", ("postgresql-15", "postgresql-client-15")
    FOLDERS = ("/usr/lib/postgresql", "/usr/share/postgresql")
    PASSWD = f"root:x:0:0:root:/root:/bin/sh\npostgres:x:{POSTGRES_UID}:{POSTGRES_UID}::/data:/bin/sh\n"
    GROUP = f"root:x:0:\npostgres:x:{POSTGRES_UID}:\n"

    def __init__(self, folder, address, port, more=""):
        super().__init__(folder, address, port)
        self.more = more
        self.make_dir(self.root / "data", 0o700, POSTGRES_UID, POSTGRES_UID)
        self.make_dir(self.root / "run/postgresql", 0o755, POSTGRES_UID, POSTGRES_UID)
        (self.root / "tmp").chmod(0o1777)
        (self.root / "superuser").write_text(self.password + "\n")
        os.chown(self.root / "superuser", POSTGRES_UID, POSTGRES_UID)

    def command_line(self):
        return ["/usr/bin/setpriv", f"--reuid={POSTGRES_UID}", f"--regid={POSTGRES_UID}", "--clear-groups", "sh", "-c", SERVE, "serve", self.address,
                str(self.port), "/superuser", self.more]

    def start(self):
        if self.CLUSTER.is_dir() and not (self.root / "data/PG_VERSION").exists():
            subprocess.run(["cp", "-a", f"{self.CLUSTER}/.", self.root / "data"], check=True, timeout=60)
        super().start()
        if not self.CLUSTER.is_dir():
            own = f"{self.CLUSTER}.{os.getpid()}"
            subprocess.run(["cp", "-a", self.root / "data/new", own], check=True, timeout=60)
            os.rename(own, self.CLUSTER)
        return self

    def is_up(self):
        """It listens a moment before it serves."""
        return listens(self.address, self.port) and self.command(f"{BIN}/pg_isready", "-h", self.address, "-p", str(self.port)).returncode == 0

    def sql(self, text):
        """Runs statements as the superuser; the rows as text."""
        r = self.command("/usr/bin/env", f"PGPASSWORD={self.password}", f"{BIN}/psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", self.address,
                         "-p", str(self.port), "-U", "postgres", "postgres", input=text.encode())
        if r.returncode != 0:
            raise Failed(f"psql: {r.stderr.decode()}\n{self.said()}")
        return r.stdout.decode().strip()
