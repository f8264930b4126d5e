"""A file server on loopback that behaves, or misbehaves as a test says: real sockets, real HTTP."""

from __future__ import annotations

import contextlib
import email.utils
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LAST_MODIFIED = email.utils.formatdate(0, usegmt=True)


@dataclass
class Faults:
    """How the server misbehaves. `cut_at` closes each connection after that many bytes of a body, `cuts` times."""

    cut_at: int | None = None
    cuts: int = 1_000_000
    ignore_ranges: bool = False
    drip: float = 0.0  # seconds between two bytes
    drip_head: bool = False
    endless: bool = False
    fail_first: int = 0  # answers 503 so many times
    html: bool = False
    redirect: str | None = None
    content_length: bool = True
    pause: float = 0.0  # seconds before each 64 kB
    garbage: bool = False
    etag: str | None = None  # in place of one made of the file's time; empty: none is sent
    only: str = ""  # the faults hold for paths with this in them


@dataclass
class FileServer:
    """Serves `root`; counts what it sent. `faults` may be changed while it runs."""

    root: Path
    faults: Faults = field(default_factory=Faults)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    conditions: list[str | None] = field(default_factory=list)
    """The If-Range of each request."""
    sent: int = 0
    authorised: list[str | None] = field(default_factory=list)
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    """Fixed answers by path, before files are looked for."""
    server: Any = None
    certificate: Path | None = None
    """A PEM file with key and certificate: then it speaks TLS."""

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}"

    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]


def _handler(owner: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            with contextlib.suppress(ConnectionError, socket.timeout):
                self.answer()

        def answer(self) -> None:
            owner.requests.append((self.path, self.headers.get("Range")))
            owner.conditions.append(self.headers.get("If-Range"))
            owner.authorised.append(self.headers.get("Authorization"))
            self.close_connection = True
            faults = owner.faults if owner.faults.only in self.path else Faults()
            if faults.fail_first > 0:
                faults.fail_first -= 1
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if faults.redirect is not None:
                self.send_response(302)
                self.send_header("Location", faults.redirect)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if (fixed := owner.answers.get(self.path.partition("?")[0])) is not None:
                self.send_response(fixed[0])
                for name, content in {**fixed[1], "Content-Length": str(len(fixed[2])), "Connection": "close"}.items():
                    self.send_header(name, content)
                self.end_headers()
                self.wfile.write(fixed[2])
                return
            if faults.drip_head:
                for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 100_000:
                    self.wfile.write(bytes([byte]))
                    time.sleep(faults.drip)
                return
            self.send_file(faults)

        def send_file(self, faults: Faults) -> None:
            if faults.html:
                content: bytes | None = b"<html>Please log in</html>"
                etag = '"login"'
            else:
                file = owner.root / self.path.lstrip("/").partition("?")[0]
                content = file.read_bytes() if file.is_file() else None
                etag = f'"{file.stat().st_mtime_ns}"' if content is not None else ""
            etag = etag if faults.etag is None else faults.etag
            if content is None:
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if faults.garbage:
                content = content.translate(bytes(byte ^ 1 for byte in range(256)))
            start, end = 0, len(content)
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            condition = self.headers.get("If-Range")
            if wanted and not faults.ignore_ranges and condition in (None, etag, LAST_MODIFIED):
                start = int(wanted[1])
                end = min(int(wanted[2]) + 1, end) if wanted[2] else end
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
            else:
                self.send_response(200)
            if etag:
                self.send_header("ETag", etag)
            self.send_header("Last-Modified", LAST_MODIFIED)
            self.send_header("Content-Type", "text/html" if faults.html else "application/octet-stream")
            if faults.content_length and not faults.endless:
                self.send_header("Content-Length", str(end - start))
            self.send_header("Connection", "close")
            self.end_headers()
            self.send_body(content, start, end, faults)

        def send_body(self, content: bytes, start: int, end: int, faults: Faults) -> None:
            if faults.drip:
                for at in range(start, end):
                    self.wfile.write(content[at : at + 1])
                    time.sleep(faults.drip)
                return
            while faults.endless:
                self.wfile.write(b"\0" * 65536)
                owner.sent += 65536
            for at in range(start, end, 65536):
                piece = content[at : min(at + 65536, end)]
                if faults.cut_at is not None and faults.cuts > 0 and at + len(piece) > faults.cut_at:
                    faults.cuts -= 1
                    piece = piece[: max(0, faults.cut_at - at)]
                    self.wfile.write(piece)
                    owner.sent += len(piece)
                    return
                if faults.pause:
                    time.sleep(faults.pause)
                self.wfile.write(piece)
                owner.sent += len(piece)

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is what many tests are about."""


@contextlib.contextmanager
def serving(root: Path, faults: Faults | None = None, certificate: Path | None = None) -> Iterator[FileServer]:
    """A running file server for the time of the block."""
    owner = FileServer(root, faults or Faults(), certificate=certificate)
    server = _Server(("127.0.0.1", 0), _handler(owner))
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    owner.server = server
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield owner
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
