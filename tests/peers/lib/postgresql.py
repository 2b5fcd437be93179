"""
Debian's PostgreSQL, as a peer (see rooted.py): a database that Nightmail asks for accounts. Runs as a user of its own; its data
stays when it is stopped, so that it can be started again.
"""
import os

from proc import Failed, listens
from rooted import Rooted

POSTGRES_UID = 64141
BIN = "/usr/lib/postgresql/15/bin"

# Becomes the user, makes a cluster if there is none, and serves. $1 the address, $2 the port, $3 the file of the superuser's password,
# $4 more options.
SERVE = f"""set -eu
[ -s /data/PG_VERSION ] || {BIN}/initdb -D /data -U postgres --pwfile="$3" --auth=scram-sha-256 -E UTF8 --locale=C -N >/dev/null
exec {BIN}/postgres -D /data -c listen_addresses="$1" -p "$2" -c unix_socket_directories=/run/postgresql -c fsync=off -c jit=off -c max_connections=20 $4
"""


class Postgresql(Rooted):
    """The superuser is postgres with `password`, in database postgres. `more` are options of the server."""
    NAME, PACKAGES = "postgresql", ("postgresql-15", "postgresql-client-15")
    FOLDERS = ("/usr/lib/postgresql", "/usr/share/postgresql")
    PASSWD = f"root:x:0:0:root:/root:/bin/sh\npostgres:x:{POSTGRES_UID}:{POSTGRES_UID}::/data:/bin/sh\n"
    GROUP = f"root:x:0:\npostgres:x:{POSTGRES_UID}:\n"

    def __init__(self, folder, address, port, password, more=""):
        super().__init__(folder, address, port)
        self.password, self.more = password, more
        self.make_dir(self.root / "data", 0o700, POSTGRES_UID, POSTGRES_UID)
        self.make_dir(self.root / "run/postgresql", 0o755, POSTGRES_UID, POSTGRES_UID)
        (self.root / "tmp").chmod(0o1777)
        (self.root / "superuser").write_text(password + "\n")
        os.chown(self.root / "superuser", POSTGRES_UID, POSTGRES_UID)

    def command_line(self):
        return ["/usr/bin/setpriv", f"--reuid={POSTGRES_UID}", f"--regid={POSTGRES_UID}", "--clear-groups", "sh", "-c", SERVE, "serve", self.address,
                str(self.port), "/superuser", self.more]

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
