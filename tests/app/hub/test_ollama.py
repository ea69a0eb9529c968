"""Names of Ollama's library, looked up in a registry on this machine."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from app import create_app
from app.hub.ollama import MANIFEST, MAX_MANIFEST, MODEL, PROJECTOR
from estimator import read_gguf
from tests.app.hub.conftest import Visitor
from tests.app.hub.headers import large

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = large()
FILE = HEADER + bytes(1 << 20)
DIGEST = f"sha256:{hashlib.sha256(FILE).hexdigest()}"


def manifest(**model: Any) -> dict[str, Any]:
    layers = [
        {"mediaType": MODEL, "digest": DIGEST, "size": len(FILE), **model},
        {"mediaType": PROJECTOR, "digest": "sha256:" + "0" * 64, "size": 851_250_000},
        {"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:" + "1" * 64, "size": 7000},
    ]
    return {"schemaVersion": 2, "mediaType": MANIFEST, "layers": layers}


class Registry:
    """Answers what is in ``replies``, and writes down what was asked."""

    def __init__(self) -> None:
        self.replies: dict[str, bytes] = {
            "/v2/library/tiny/manifests/1b": json.dumps(manifest()).encode(),
            "/v2/library/gpt-oss/manifests/20b": json.dumps(manifest()).encode(),
            "/v2/library/tiny/manifests/latest": json.dumps(manifest()).encode(),
        }
        self.status = 200
        self.endpoint = ""
        self.asked: list[tuple[str, str | None, str | None]] = []

    def reply(self, path: str) -> bytes | None:
        return FILE if path.endswith(DIGEST) else self.replies.get(path)


@pytest.fixture
def registry() -> Iterator[Registry]:
    found = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            range_ = self.headers.get("Range")
            found.asked.append((self.path, range_, self.headers.get("Authorization")))
            body = found.reply(self.path)
            if body is None or found.status != 200:
                self.send_error(404 if body is None else found.status)
                return
            is_part = range_ is not None and "/blobs/" in self.path
            start, end = (int(n) for n in (range_ or "bytes=0-0").removeprefix("bytes=").split("-"))
            part = body[start : end + 1] if is_part else body
            self.send_response(206 if is_part else 200)
            if is_part:
                self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def user(registry: Registry, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Visitor:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    return Visitor(create_app({**settings, "OLLAMA_REGISTRY": registry.endpoint}))


def test_a_name_is_the_file_that_ollama_pulls(registry: Registry, user: Visitor) -> None:
    answer = user.answer("tiny:1b")
    model = read_gguf(HEADER)
    assert (answer["model"]["id"], answer["model"]["weights_bytes"]) == ("tiny:1b", model.weights_bytes)
    assert [warning["code"] for warning in answer["warnings"]].count("ollama-projector") == 1
    assert answer["links"]["page"].endswith("?model=tiny:1b")
    assert sum("/blobs/" in path for path, *_ in registry.asked) <= 4
    assert {token for *_, token in registry.asked} == {None}
    asked = len(registry.asked)
    user.answer("tiny:1b", ctx="1024")
    assert len(registry.asked) == asked


def test_a_file_that_differs_from_the_bundled_one_is_read(user: Visitor) -> None:
    assert user.answer("gpt-oss:20b")["model"]["weights_bytes"] == read_gguf(HEADER).weights_bytes


def test_a_name_at_hand_needs_no_registry(registry: Registry, user: Visitor) -> None:
    assert user.answer("llama3.1:8b")["model"]["id"] == "llama-3.1-8b-instruct"
    assert registry.asked == []


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("tiny:2b", 404, "no-such-model"), ("nobody:1b", 404, "no-such-model"), ("tiny:../x", 400, "bad-name")],
)
def test_what_is_not_there(user: Visitor, name: str, status: int, code: str) -> None:
    assert user.error(name, status)["code"] == code


@pytest.mark.parametrize(
    "text",
    [
        b"<html>",
        b"[]",
        b'{"layers": []}',
        json.dumps(manifest(digest="sha256:../../x")).encode(),
        json.dumps(manifest(size=-1)).encode(),
        json.dumps(manifest(size="7")).encode(),
        b'{"layers": []' + b" " * MAX_MANIFEST + b"}",
    ],
)
def test_a_manifest_that_makes_no_sense(registry: Registry, user: Visitor, text: bytes) -> None:
    registry.replies["/v2/library/tiny/manifests/1b"] = text
    assert user.error("tiny:1b", 502)["code"] == "ollama-broken-reply"


def test_a_registry_that_fails(registry: Registry, user: Visitor) -> None:
    registry.status = 500
    assert user.error("tiny:1b", 502)["code"] == "ollama-error"
    answer = user.answer("gpt-oss:20b")
    assert answer["model"]["name"] == "Gpt Oss 20b"
    assert "ollama-file-differs" in [warning["code"] for warning in answer["warnings"]]


def test_a_registry_that_is_away(settings: dict[str, Any]) -> None:
    user = Visitor(create_app({**settings, "OLLAMA_REGISTRY": "http://127.0.0.1:9"}))
    assert user.error("tiny:1b", 503)["code"] == "ollama-unreachable"
    assert user.answer("gpt-oss:20b")["model"]["file_type"] == "MXFP4_MOE"


def test_what_was_read_stays_while_the_registry_is_away(
    registry: Registry, user: Visitor, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = user.answer("tiny:latest")
    later = Visitor(create_app({**settings, "OLLAMA_REGISTRY": registry.endpoint, "HUB_FRESH_SECONDS": 0}))
    asked = len(registry.asked)
    later.answer("tiny:latest")
    assert len(registry.asked) == asked + 1  # the manifest alone

    def away(*_: object) -> bytes:
        raise httpx2.ConnectError("nobody there")

    monkeypatch.setattr("app.hub.ollama.File.read", away)
    assert later.answer("tiny:latest")["devices"] == first["devices"]
