"""A model hub on 127.0.0.1: metadata, ranges, and whatever can go wrong on the way."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34


@dataclass(slots=True)
class Hub:
    """What the server hands out and what it was asked; tests change both."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    """"org/name/file" -> content."""
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    """"org/name" -> status and the hub's error code."""
    break_after: int | None = None
    """Bytes after which the next answers end, always."""
    damage: bool = False
    """Answer with other bytes than announced."""
    ranges: bool = True
    """Understand the header Range."""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path and Range of every request."""

    def ranges_asked(self) -> list[str | None]:
        return [asked for method, _, asked in self.asked if method == "GET"]


@contextmanager
def serving() -> Iterator[Hub]:
    """Run a hub while the block runs."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"hub": hub})


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *arguments: object) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        hub = self.hub
        hub.asked.append((self.command, self.path, self.headers.get("Range")))
        repository, _, name = self.path.lstrip("/").partition("/resolve/main/")
        if repository in hub.refusals:
            self._refuse(*hub.refusals[repository])
        elif f"{repository}/{name}" in hub.files:
            self._send(hub.files[f"{repository}/{name}"], with_body=with_body)
        else:
            known = any(path.startswith(f"{repository}/") for path in hub.files)
            self._refuse(404, "EntryNotFound" if known else "RepoNotFound")

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, content: bytes, *, with_body: bool) -> None:
        asked = self.headers.get("Range") if self.hub.ranges else None
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if with_body:
            self._send_body(bytes(len(content)) if self.hub.damage else content, start)

    def _send_body(self, body: bytes, start: int) -> None:
        limit = self.hub.break_after
        self.wfile.write(body[start:] if limit is None else body[start : start + limit])
        self.close_connection = True
