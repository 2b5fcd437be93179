"""
Debian's nginx, as a peer (see rooted.py): an SMTP proxy that knows every login, and tells the server behind it of the client by XCLIENT.
"""
from proc import free_port, listens
from rooted import Rooted

CONFIGURATION = """
load_module /usr/lib/nginx/modules/ngx_mail_module.so;
daemon off;
user root;
worker_processes 1;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log info;
events {{ }}
http {{
    access_log off;
    server {{
        listen {address}:{auth_port};
        location / {{
            add_header Auth-Status OK;
            add_header Auth-Server {behind[0]};
            add_header Auth-Port {behind[1]};
            return 200;
        }}
    }}
}}
mail {{
    server_name nginx.example;
    auth_http {address}:{auth_port}/;
    proxy_pass_error_message on;
    xclient on;
    server {{
        listen {address}:{port};
        protocol smtp;
        smtp_auth {auth};
        {more}
    }}
}}
"""


class Nginx(Rooted):
    """Takes mail at `port` for the server `behind`, (address, port); `auth` is how clients log in, and `more` more of its server block."""
    NAME, PACKAGES = "nginx", ("nginx", "libnginx-mod-mail")
    FOLDERS = ("/usr/sbin", "/usr/lib/nginx")
    PASSWD, GROUP = "root:x:0:0:root:/root:/bin/sh\n", "root:x:0:\n"

    def __init__(self, folder, address, port, behind, auth="none", more=""):
        super().__init__(folder, address, port)
        (self.root / "etc/nginx").mkdir(exist_ok=True)
        self.conf = self.root / "etc/nginx/nginx.conf"
        self.conf.write_text(CONFIGURATION.format(address=address, port=port, auth_port=free_port(address), behind=behind, auth=auth, more=more))
        for name in ("var/lib/nginx", "var/log/nginx"):
            self.make_dir(self.root / name)
        self.logs.append(self.root / "var/log/nginx/error.log")

    def command_line(self):
        return ["/usr/sbin/nginx", "-c", "/etc/nginx/nginx.conf"]

    def is_up(self):
        return listens(self.address, self.port)
