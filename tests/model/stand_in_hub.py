"""A stand-in of the model hub on loopback: enough of it for huggingface_hub, and every way in which it may fail."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
STEP_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


@dataclass
class Failure:
    """What to answer instead of the file: a status, silence, or half of it.

    Attributes:
        on: a part of the path it is for.
        status, headers: what to answer; 0 for what is asked.
        times: how often; forever when negative.
        silent: take the request and say nothing.
        half: break the connection in the middle.
        stalls: send half of it, and no more.
    """

    on: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    times: int = -1
    silent: bool = False
    half: bool = False
    stalls: bool = False


@dataclass
class StandInHub:
    """Serves one folder as `someone/something`, at `main` and at `step1000`."""

    folder: Path
    failures: list[Failure] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    url: str = ""
    closing: threading.Event = field(default_factory=threading.Event)

    def failure(self, path: str, method: str) -> Failure | None:
        for each in self.failures:
            if each.on in f"{method} {path}" and each.times:
                each.times -= 1
                return each
        return None


def _handler(hub: StandInHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, with_body: bool) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            failure = hub.failure(self.path, self.command)
            if failure is not None and failure.silent:
                hub.closing.wait(60)
                self.close_connection = True
                return
            if failure is not None and failure.status:
                self.send(failure.status, b"", {"X-Request-Id": "1", **failure.headers}, with_body)
                return
            api = re.fullmatch(r"/api/models/someone/something(?:/revision/(main|step1000))?", self.path.split("?")[0])
            if api:
                self.send_listing(STEP_COMMIT if api[1] == "step1000" else COMMIT, with_body)
                return
            found = re.fullmatch(rf"/someone/something/resolve/(main|step1000|{COMMIT}|{STEP_COMMIT})/(.+)", self.path)
            if not found:
                known = self.path.startswith(("/api/models/someone/something", "/someone/something/"))
                code = "RevisionNotFound" if known else "RepoNotFound"
                self.send(404, b"", {"X-Error-Code": code}, with_body)
                return
            commit = STEP_COMMIT if found[1] in ("step1000", STEP_COMMIT) else COMMIT
            self.send_file(hub.folder / found[2], commit, failure, with_body)

        def send_listing(self, commit: str, with_body: bool) -> None:
            names = sorted(path for path in hub.folder.rglob("*") if path.is_file())
            siblings = [{"rfilename": str(path.relative_to(hub.folder)), "size": path.stat().st_size} for path in names]
            body = {"id": "someone/something", "modelId": "someone/something", "sha": commit, "siblings": siblings}
            self.send(200, json.dumps(body).encode(), {"Content-Type": "application/json"}, with_body)

        def send_file(self, path: Path, commit: str, failure: Failure | None, with_body: bool) -> None:
            headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
            if not path.is_file():
                self.send(404, b"", {"X-Error-Code": "EntryNotFound", **headers}, with_body)
                return
            data = path.read_bytes()
            headers["ETag"] = f'"{hashlib.sha256(data).hexdigest()}"'
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            status = 200
            if asked:
                start = int(asked[1])
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
                data, status = data[start:], 206
            if failure is not None and with_body and (failure.half or failure.stalls):
                self.send(status, data, headers, with_body, upto=len(data) // 2)
                if failure.stalls:
                    hub.closing.wait(60)
                self.close_connection = True
                return
            self.send(status, data, headers, with_body)

        def send(
            self, status: int, body: bytes, headers: dict[str, str], with_body: bool, upto: int | None = None
        ) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body[:upto])
                self.wfile.flush()

        def log_message(self, *_: Any) -> None:
            """Nothing on the screen."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that went away is what these tests are about."""


@contextmanager
def serving(folder: Path) -> Iterator[StandInHub]:
    """Serve a folder until the block is left."""
    hub = StandInHub(folder)
    server = _Server(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
