"""Models of Ollama's library: their headers, from the registry that Ollama pulls from, by ranges.

Only a server that is given a registry's address asks one. It speaks the protocol of Docker's registries: a manifest
names blobs by their digest, and the blob of a model is its GGUF file.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import httpx2
from huggingface_hub.errors import HfHubHTTPError

from app.errors import RequestError, shown
from app.hub.bounds import BrokenReplyError, seconds_left, sense, within
from app.hub.client import LIBRARY, File
from app.hub.flight import BusyError, Flights
from app.hub.headers import fetch_header
from app.hub.packing import FORMAT, pack_header, pack_json, unpack_header, unpack_json
from app.hub.refusals import FAILURES, WITHOUT_HUB
from estimator.errors import ModelError
from estimator.sources.from_gguf import model_from_header

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.hub.store import Store
    from estimator import Model

MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
MODEL: Final = "application/vnd.ollama.image.model"
PROJECTOR: Final = "application/vnd.ollama.image.projector"

MAX_MANIFEST: Final = 1 << 16
"""Bytes; released ones have about 1,000."""

_NAME: Final = re.compile(r"(?P<name>[a-z0-9][a-z0-9._-]{0,63})(?::(?P<tag>[A-Za-z0-9][A-Za-z0-9._-]{0,79}))?")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model as Ollama would pull it, and the bytes of the projector that comes with it, 0 without one."""

    model: Model
    projector: int


class Registry:
    """A registry of models.

    Args:
        endpoint: its address, such as ``https://registry.ollama.ai``.
        store: keeps what was found.
        fresh_seconds: for which a manifest is believed; blobs never change.
        lookup_seconds: for one model, all requests together.
        at_once: models that are looked up at the same time.
    """

    def __init__(
        self, endpoint: str, store: Store, *, fresh_seconds: float, lookup_seconds: float, at_once: int
    ) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._store = store
        self._fresh_seconds = fresh_seconds
        self._lookup_seconds = lookup_seconds
        self._flights: Flights[bytes] = Flights(at_once)

    def find(self, text: str) -> Pulled:
        """The model of ``name`` or ``name:tag``.

        Raises:
            RequestError: there is no such model, it cannot be read, or the registry does not answer.
        """
        match = _NAME.fullmatch(text)
        if not match:
            message = f"model is {shown(text, 100)}, which cannot be a name of Ollama's library"
            raise RequestError("bad-name", "model", message, "name or name:tag, such as llama3.1:8b")
        base = f"{self._endpoint}/v2/library/{match['name']}"
        with within(self._lookup_seconds):
            try:
                return self._find(base, match["tag"] or "latest")
            except ModelError as error:
                message = f"model is {shown(text, 100)}, which cannot be read: {error.message}"
                raise RequestError(error.code, "model", message, error.allowed or WITHOUT_HUB) from None
            except (*FAILURES, BusyError) as error:
                raise _refusal(error, text) from None

    def _find(self, base: str, tag: str) -> Pulled:
        url = f"{base}/manifests/{tag}"
        manifest = unpack_json(self._kept(url, self._fresh_seconds, lambda: _fetch_manifest(url)))
        return Pulled(self._model(f"{base}/blobs/{manifest['digest']}", manifest["size"]), manifest["projector"])

    def _model(self, url: str, size: int) -> Model:
        return _model(self._kept(url, float("inf"), lambda: pack_header(fetch_header(_file(url), size))))

    def _kept(self, url: str, fresh_seconds: float, fetch: Callable[[], bytes]) -> bytes:
        """What the cache has of an address, else what is fetched; an old value if nobody answers."""
        key = f"ollama {FORMAT}\n{url}"
        found = self._store.get(key)
        if found and found.age < fresh_seconds:
            return found.value

        def fetch_and_keep() -> bytes:
            stored = fetch()
            self._store.put(key, stored)
            return stored

        try:
            return self._flights.share(key, fetch_and_keep, seconds_left())
        except FAILURES as error:
            if found is None or isinstance(error, HfHubHTTPError):
                raise
            return found.value


def _file(url: str, accept: str = "*/*") -> File:
    """No token of the Hub goes to another host."""
    return File(url, {"User-Agent": LIBRARY, "Accept": accept})


def _fetch_manifest(url: str) -> bytes:
    text = _file(url, MANIFEST).read(0, MAX_MANIFEST + 1)
    with sense("the manifest"):
        if len(text) > MAX_MANIFEST:
            raise BrokenReplyError(f"the manifest is longer than {MAX_MANIFEST:,} bytes")
        layers: list[dict[str, Any]] = json.loads(text)["layers"]
        (model,) = [layer for layer in layers if layer["mediaType"] == MODEL]
        projectors = [int(layer["size"]) for layer in layers if layer["mediaType"] == PROJECTOR]
        if not _DIGEST.fullmatch(model["digest"]) or not 0 < model["size"] < 1 << 50:
            raise ValueError
        return pack_json({"digest": model["digest"], "size": model["size"], "projector": sum(projectors)})


@lru_cache(maxsize=64)
def _model(stored: bytes) -> Model:
    """One object for each model, which other caches go by."""
    return model_from_header(unpack_header(stored))


def _refusal(error: Exception, text: str) -> RequestError:
    """What the registry refuses or cannot do, in words that hold nothing that it said."""
    what = f"model is {shown(text, 100)}, but Ollama's registry"
    if isinstance(error, HfHubHTTPError) and error.response.status_code == HTTPStatus.NOT_FOUND:
        message = f"{what} has no such name or tag"
        return RequestError("no-such-model", "model", message, "a name of ollama.com/library", HTTPStatus.NOT_FOUND)
    if isinstance(error, BusyError):
        status, code, reason = HTTPStatus.SERVICE_UNAVAILABLE, "busy", "is asked for too many models right now"
    elif isinstance(error, httpx2.TimeoutException):
        status, code, reason = HTTPStatus.GATEWAY_TIMEOUT, "ollama-timeout", "did not answer in time"
    elif isinstance(error, httpx2.ConnectError):
        status, code, reason = HTTPStatus.SERVICE_UNAVAILABLE, "ollama-unreachable", "cannot be reached"
    elif isinstance(error, HfHubHTTPError):
        status, code, reason = HTTPStatus.BAD_GATEWAY, "ollama-error", f"failed (HTTP {error.response.status_code})"
    else:
        status, code, reason = HTTPStatus.BAD_GATEWAY, "ollama-broken-reply", "sent a reply that cannot be read"
    return RequestError(code, "model", f"{what} {reason}", WITHOUT_HUB, status)
