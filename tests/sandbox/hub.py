"""A small server that speaks as much of the hub's protocol as fetching one file takes, and can be made to misbehave."""

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """`files`: repository/file -> content. What it was asked for is in `requests`."""

    files: dict[str, bytes]
    etags: dict[str, str] = field(default_factory=dict)  # repository -> instead of the content's true hash
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)  # repository -> status and the hub's word for it
    cut: int = 0  # how many answers break off half way
    slow: bool = False  # a byte now and then
    address: str = ""
    requests: list[str] = field(default_factory=list)

    def content(self, path: str) -> bytes | None:
        return self.files.get(f"{repository(path)}/{path.partition('/resolve/')[2].partition('/')[2]}")


def repository(path: str) -> str:
    return path.strip("/").partition("/resolve/")[0]


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:
            hub.requests.append(format % arguments)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            content = hub.content(self.path)
            status, word = hub.refusals.get(
                repository(self.path), (404, "EntryNotFound") if content is None else (0, "")
            )
            if status or content is None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.send_header("X-Error-Code", word)
                self.end_headers()
                return
            etag = hub.etags.get(repository(self.path)) or hashlib.sha256(content).hexdigest()
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
            self.send_response(206 if start else 200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{etag}"')
            self.send_header("X-Linked-Etag", f'"{etag}"')
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if body:
                self._send(content[start:])

        def _send(self, content: bytes) -> None:
            if hub.cut:
                hub.cut -= 1
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                self.connection.close()
                self.close_connection = True
            elif hub.slow:
                for at in range(0, len(content), 100):
                    self.wfile.write(content[at : at + 100])
                    self.wfile.flush()
                    time.sleep(0.1)
            else:
                self.wfile.write(content)

        def handle(self) -> None:
            try:
                super().handle()
            except (ConnectionError, ValueError, OSError):
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
