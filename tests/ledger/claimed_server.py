"""A server that answers as PostgreSQL does, up to the question for its version, and calls itself what a test says.

It speaks the part of the protocol (version 3) that a client needs for this: the start with a password, and single questions. All
other questions are answered with an error. What it was asked is kept.
"""

import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_ENCRYPTION_REQUESTS: Final = (80877103, 80877104)
_TEXT_TYPE: Final = 25
_ANSWERED_AT_ONCE: Final = {b"P": b"1", b"B": b"2", b"C": b"3"}
"""Parse, Bind and Close, and that each is complete."""


class ClaimedServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, described: str, number: str) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.answers = {"SELECT version()": described, "SHOW transaction_read_only": "off"}
        """libpq asks the second question of servers before 14, which do not say it unasked."""
        self.parameters = {"server_version": number, "client_encoding": "UTF8", "standard_conforming_strings": "on"}
        self.passwords: list[str] = []
        self.asked: list[str] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Session(socketserver.StreamRequestHandler):
    server: ClaimedServer

    def handle(self) -> None:
        self._start()
        question = ""
        while kind := self.rfile.read(1):
            body = self._body()
            match kind:
                case b"X":
                    return
                case b"Q":
                    question = body[:-1].decode()
                    self._answer(question, self._columns() + self._rows(question))
                    self.wfile.write(_READY)
                case b"P":
                    question = body.split(b"\0")[1].decode()
                    self.wfile.write(_message(_ANSWERED_AT_ONCE[kind]))
                case b"D":
                    self.wfile.write(self._columns() if question in self.server.answers else b"")
                case b"E":
                    self._answer(question, self._rows(question))
                case b"S":
                    self.wfile.write(_READY)
                case _:
                    self.wfile.write(_message(_ANSWERED_AT_ONCE[kind]))

    def _start(self) -> None:
        while struct.unpack_from("!I", self._body())[0] in _ENCRYPTION_REQUESTS:
            self.wfile.write(b"N")
        self.wfile.write(_message(b"R", struct.pack("!I", 3)))  # the password, please, as it is
        self.rfile.read(1)
        self.server.passwords.append(self._body()[:-1].decode())
        told = [_message(b"S", f"{name}\0{value}\0".encode()) for name, value in self.server.parameters.items()]
        self.wfile.write(_message(b"R", struct.pack("!I", 0)) + b"".join(told) + _READY)

    def _body(self) -> bytes:
        (length,) = struct.unpack("!I", self.rfile.read(4))
        return self.rfile.read(length - 4)

    def _answer(self, question: str, answer: bytes) -> None:
        self.server.asked.append(question)
        unknown = _message(b"E", b"SERROR\0C42601\0Mnot a question for this server\0\0")
        self.wfile.write(answer if question in self.server.answers else unknown)

    def _columns(self) -> bytes:
        return _message(b"T", struct.pack("!H", 1) + b"answer\0" + struct.pack("!IHIhiH", 0, 0, _TEXT_TYPE, -1, -1, 0))

    def _rows(self, question: str) -> bytes:
        value = self.server.answers.get(question, "").encode()
        return _message(b"D", struct.pack("!HI", 1, len(value)) + value) + _message(b"C", b"SELECT 1\0")


def _message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


_READY: Final = _message(b"Z", b"I")


@contextmanager
def claimed_server(described: str, number: str) -> Iterator[ClaimedServer]:
    """`described`: what `SELECT version()` gives. `number`: the server_version that a client gets at its start."""
    with ClaimedServer(described, number) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
