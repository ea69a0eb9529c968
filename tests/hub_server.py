"""A Hub on this machine that speaks as much of the real one's protocol as its client asks for, and can fail.

Files in large storage are redirected to a second host, as the real ones are. What was asked is written down.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE_SIZE = 1 << 16
COMMIT = "c0ffee" + "0" * 34
TOKEN = "hf_of-this-test"


@dataclass(frozen=True)
class Blob:
    """A file that begins with ``head`` and is zeros from there to its ``size``."""

    head: bytes
    size: int = 0
    is_large: bool = True

    @property
    def length(self) -> int:
        return max(self.size, len(self.head))

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.head + str(self.length).encode()).hexdigest()

    def part(self, start: int, end: int) -> bytes:
        data = self.head[start:end]
        return data + bytes(end - start - len(data))


@dataclass
class Repo:
    """A repository with one commit, which its revisions lead to."""

    files: dict[str, Blob]
    commit: str = COMMIT
    revisions: tuple[str, ...] = ("main",)
    gated: bool = False
    private: bool = False
    more: dict[str, Any] = field(default_factory=dict)


@dataclass
class Asked:
    """A request, and how many bytes of a body were sent."""

    method: str
    path: str
    range: str | None
    token: str | None
    sent: int


@dataclass
class Fault:
    """What goes wrong with requests whose path matches."""

    path: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    seconds: float = 0
    cut: bool = False
    ignores_range: bool = False
    times: int = 1 << 30


class _Server(ThreadingHTTPServer):
    """Collects what goes wrong in it; a client that hangs up is nothing wrong."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.errors: list[BaseException] = []

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exc_info()[1]
        if error and not isinstance(error, ConnectionError):
            self.errors.append(error)


class HubServer:
    """The Hub: put repositories into ``repos`` and what fails into ``faults``, ask, and look into ``asked``."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.asked: list[Asked] = []
        self._server = _Server(self._handler())
        self.port = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.storage = f"http://localhost:{self.port}/storage"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        assert self._server.errors == []

    def ranges(self) -> list[Asked]:
        """Requests for parts of files, once each: at the storage or, for small files, at the Hub."""
        return [one for one in self.asked if one.range and one.sent]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(_Handler):
            server_hub = hub

        return Handler

    def take_fault(self, path: str) -> Fault | None:
        for fault in self.faults:
            if re.search(fault.path, path) and fault.times > 0:
                fault.times -= 1
                return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_hub: HubServer
    sent = 0

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub = self.server_hub
        # written down before anything is sent: a client that has its answer may look at once
        self.asked = Asked(self.command, self.path, self.headers.get("Range"), self.headers.get("Authorization"), 0)
        hub.asked.append(self.asked)
        path = unquote(urlsplit(self.path).path)
        fault = hub.take_fault(path)
        try:
            self._route(path, fault)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _route(self, path: str, fault: Fault | None) -> None:
        if fault and fault.seconds and not fault.cut:
            time.sleep(fault.seconds)
        if fault and (fault.status or fault.body is not None):
            self.close_connection = "Content-Length" in fault.headers
            self._reply(fault.status or 200, fault.body or b"", fault.headers)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._info(match[1], match[2] or "main")
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(match[1], match[2], match[3], fault)
        elif path.startswith("/storage/"):
            self._storage(path.removeprefix("/storage/"), fault)
        else:
            self._error(404, "", "Not Found")

    def _repo(self, name: str, revision: str, *, of_files: bool) -> Repo | None:
        """The repository if it may be seen; else the error was sent."""
        repo = self.server_hub.repos.get(name)
        has_token = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repo is None or (repo.private and not has_token):
            if has_token:
                self._error(404, "RepoNotFound", "Repository not found")
            else:
                self._error(401, "", "Invalid username or password.")
        elif revision not in (*repo.revisions, repo.commit):
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif repo.gated and of_files and not has_token:
            self._error(401, "GatedRepo", f"Access to model {name} is restricted.")
        else:
            return repo
        return None

    def _info(self, name: str, revision: str) -> None:
        repo = self._repo(name, revision, of_files=False)
        if repo is None:
            return
        has_blobs = parse_qs(urlsplit(self.path).query).get("blobs", ["false"])[0].lower() == "true"
        siblings = []
        for path, blob in repo.files.items():
            sibling: dict[str, Any] = {"rfilename": path}
            if has_blobs:
                sibling |= {"size": blob.length, "blobId": blob.hash[:40]}
                if blob.is_large:
                    sibling["lfs"] = {"sha256": blob.hash, "size": blob.length, "pointerSize": 135}
            siblings.append(sibling)
        gated = "auto" if repo.gated else False
        info = {"id": name, "modelId": name, "sha": repo.commit, "gated": gated, "siblings": siblings, **repo.more}
        self._reply(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _resolve(self, name: str, revision: str, path: str, fault: Fault | None) -> None:
        repo = self._repo(name, revision, of_files=True)
        if repo is None:
            return
        blob = repo.files.get(path)
        if blob is None:
            self._error(404, "EntryNotFound", "Entry not found")
            return
        headers = {"X-Repo-Commit": repo.commit, "ETag": f'"{blob.hash[:40]}"'}
        if not blob.is_large:
            self._send(blob, headers, fault)
            return
        headers |= {"X-Linked-Size": str(blob.length), "X-Linked-ETag": f'"{blob.hash}"'}
        self._reply(302, b"", headers | {"Location": f"{self.server_hub.storage}/{name}/{path}?signature=x"})

    def _storage(self, path: str, fault: Fault | None) -> None:
        assert self.headers.get("Authorization") is None, "the token went to another host"
        owner, name, file = path.split("/", 2)
        blob = self.server_hub.repos[f"{owner}/{name}"].files[file]
        self._send(blob, {"ETag": f'"{blob.hash}"'}, fault)

    def _send(self, blob: Blob, headers: dict[str, str], fault: Fault | None) -> None:
        """A file or the part of it that is asked for."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        changed = self.headers.get("If-Range") not in (None, headers["ETag"])
        if not match or changed or (fault and fault.ignores_range):
            self._body(200, blob, 0, blob.length, headers, fault)
            return
        start, end = int(match[1]), min(int(match[2] or blob.length), blob.length - 1) + 1
        if start >= blob.length:
            self._reply(416, b"", {"Content-Range": f"bytes */{blob.length}"})
            return
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{blob.length}"
        self._body(206, blob, start, end, headers, fault)

    def _body(
        self, status: int, blob: Blob, start: int, end: int, headers: dict[str, str], fault: Fault | None
    ) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(end - start)}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        stop = (start + end) // 2 if fault and fault.cut else end
        for at in range(start, stop, PAGE_SIZE):
            part = blob.part(at, min(at + PAGE_SIZE, stop))
            self.asked.sent += len(part)
            self.wfile.write(part)
            if fault and fault.cut:
                time.sleep(fault.seconds)
        if stop < end:
            self.close_connection = True

    def _error(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._reply(status, json.dumps({"error": message}).encode(), headers)

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def running() -> Iterator[HubServer]:
    """A Hub until the context ends."""
    server = HubServer()
    try:
        yield server
    finally:
        server.close()


def eventually(is_true: Callable[[], bool], seconds: float = 5) -> bool:
    """Whether something becomes true in time."""
    end = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
