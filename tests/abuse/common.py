"""What the scripts here share: a server of tests/talk, and a plain connection to it."""
import importlib.machinery
import importlib.util
import os
import socket

HERE = os.path.dirname(os.path.abspath(__file__))


def load_talk():
    loader = importlib.machinery.SourceFileLoader("talk_run", os.path.join(HERE, "../talk/run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("talk_run", loader))
    loader.exec_module(module)
    return module


talk = load_talk()
BINARY = os.environ.get("NIGHTMAIL", os.path.join(HERE, "../../build/native/nightmail"))
WAIT = 60


def server(*lines):
    return talk.Server(BINARY, [talk.Line("conf", n, line) for n, line in enumerate(lines)])


class Client:
    def __init__(self, port, hello=True):
        self.s = socket.create_connection(("127.0.0.1", port), WAIT)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = b""
        if hello:
            self.reply()
            self.say(b"EHLO tester.example")

    def send(self, data):
        self.s.sendall(data)

    def reply(self):
        while True:
            line, found, rest = self.input.partition(b"\r\n")
            if found:
                self.input = rest
                if line[3:4] == b" ":
                    return int(line[:3])
                continue
            piece = self.s.recv(65536)
            if not piece:
                return 0
            self.input += piece

    def say(self, line):
        self.send(line + b"\r\n")
        return self.reply()

    def close(self):
        self.s.close()
