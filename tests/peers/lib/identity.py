"""
An identity provider in a thread: OAuth's introspection endpoint (RFC 7662) and its token endpoint (RFC 6749), with or without TLS.
"""
import base64
import http.server
import json
import ssl
import threading
import time
import urllib.parse


class IdentityProvider:
    """
    `tokens` are access tokens, each with what introspection says of it; `refresh_tokens` those that are good. What the token endpoint gives
    lives `lifetime` seconds. With `rotate` each use of a refresh token replaces it. `trouble`, a function of the handler, answers instead.
    """

    def __init__(self, address, certificate=None, client=("nightmail", "s3cret:%")):
        self.client, self.tokens, self.refresh_tokens = client, {}, set()
        self.lifetime, self.rotate, self.login, self.trouble = 3600, False, None, None
        self.asked, self.granted, self.refused = 0, 0, 0
        self.lock = threading.Lock()
        self.server = http.server.ThreadingHTTPServer((address, 0), self._handler())
        self.server.daemon_threads = True
        self.port, self.scheme = self.server.server_port, "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
            self.scheme = "https"

    def start(self):
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        return 0

    def url(self, host, path):
        return f"{self.scheme}://{host}:{self.port}{path}"

    def issue(self, login, **claims):
        token = f"at-{len(self.tokens)}.{login.replace('@', '~')}"
        self.tokens[token] = {"active": True, "username": login, "exp": int(time.time()) + self.lifetime, **claims}
        return token

    def revoke(self):
        self.tokens.clear()

    def _is_client(self, header):
        user, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
        return header.startswith("Basic ") and (urllib.parse.unquote(user), urllib.parse.unquote(password)) == self.client

    def _introspect(self, form):
        self.asked += 1
        return 200, self.tokens.get(form["token"], {"active": False})

    def _grant(self, form):
        if form["grant_type"] != "refresh_token" or form["refresh_token"] not in self.refresh_tokens:
            self.refused += 1
            return 400, {"error": "invalid_grant", "error_description": "unknown or used"}
        self.granted += 1
        answer = {"access_token": self.issue(self.login), "token_type": "Bearer", "expires_in": self.lifetime}
        if self.rotate:
            self.refresh_tokens = {f"rt-{self.granted}"}
            answer["refresh_token"] = f"rt-{self.granted}"
        return 200, answer

    def answer(self, path, authorization, form):
        if not self._is_client(authorization):
            return 401, {"error": "invalid_client"}
        with self.lock:
            return self._introspect(form) if path == "/introspect" else self._grant(form)

    def _handler(self):
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 30

            def do_POST(self):
                form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode(), strict_parsing=True))
                if provider.trouble:
                    provider.trouble(self)
                    return
                status, answer = provider.answer(self.path, self.headers.get("Authorization", ""), form)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *_):
                pass

        return Handler
