"""The few routes of a dataset hub that reading a dataset asks for, over HTTP on this machine.

https://huggingface.co/docs/hub/api
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


class Hub:
    """Datasets by name, each a list of commits (the last is `main`) with their files; `asked` are the paths so far."""

    def __init__(self) -> None:
        self.datasets: dict[str, list[tuple[str, Files]]] = {}
        self.asked: list[str] = []
        self.url = ""

    def commit(self, name: str, files: Files) -> str:
        """Put `files` there as the newest commit; its id."""
        commits = self.datasets.setdefault(name, [])
        commits.append((sha1(f"{name} {len(commits)}".encode()).hexdigest(), files))
        return commits[-1][0]

    def find(self, name: str, revision: str) -> tuple[str, Files] | None:
        commits = self.datasets.get(name, [])
        if revision == "main":
            return commits[-1] if commits else None
        return next((each for each in commits if each[0] == revision), None)


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub at `hub.url` until the block ends."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            self._answer()

        do_HEAD = do_POST = do_GET

        def _answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.asked.append(f"{self.command} {path}")
            if found := re.fullmatch(
                r"/api/datasets/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)/?(.*))?", path
            ):
                self._about(found[1], found[2] or "revision", found[3] or "main", found[4], sent)
            elif found := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                self._file(found[1], found[2], found[3])
            else:
                self._send(404, b"{}", {})

        def _about(self, name: str, what: str, revision: str, below: str, sent: bytes) -> None:
            if (found := self._revision(name, revision)) is None:
                return
            commit, files = found
            if what == "revision":
                content: object = {
                    "id": name, "sha": commit, "private": False, "gated": False, "tags": [], "downloads": 0, "likes": 0,
                    "siblings": [{"rfilename": each} for each in files],
                }  # fmt: skip
            elif what == "tree":
                content = _listing(files, below.strip("/"), deep="recursive=true" in self.path.lower())
            else:
                paths = json.loads(sent).get("paths", []) if sent.startswith(b"{") else _form_paths(sent)
                content = [_entry(each, files[each]) for each in paths if each in files]
            self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

        def _file(self, name: str, revision: str, path: str) -> None:
            if (found := self._revision(name, revision)) is None:
                return
            commit, files = found
            if path not in files:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
                return
            content = files[path]
            self._send(200, content, {"ETag": f'"{sha1(content).hexdigest()}"', "X-Repo-Commit": commit})

        def _revision(self, name: str, revision: str) -> tuple[str, Files] | None:
            found = hub.find(name, revision)
            if found is None:
                code = "RevisionNotFound" if name in hub.datasets else "RepoNotFound"
                self._send(404, b'{"error": "not found"}', {"X-Error-Code": code})
            return found

        def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _entry(path: str, content: bytes) -> dict[str, object]:
    return {"type": "file", "oid": sha1(content).hexdigest(), "size": len(content), "path": path}


def _listing(files: Files, below: str, *, deep: bool) -> list[dict[str, object]]:
    inside = {path: content for path, content in files.items() if not below or path.startswith(f"{below}/")}
    if deep:
        return [_entry(path, content) for path, content in inside.items()]
    start = len(below) + 1 if below else 0
    folders = {path[: path.index("/", start)] for path in inside if "/" in path[start:]}
    here = [_entry(path, content) for path, content in inside.items() if "/" not in path[start:]]
    return [*({"type": "directory", "oid": "0" * 40, "size": 0, "path": folder} for folder in sorted(folders)), *here]


def _form_paths(sent: bytes) -> list[str]:
    return [unquote(part.removeprefix("paths=")) for part in sent.decode().split("&") if part.startswith("paths=")]
