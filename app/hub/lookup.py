"""A model by its name on the Hub: from the cache where it is known, else asked for, within bounds."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from app.errors import RequestError
from app.hub import weights
from app.hub.bounds import seconds_left, sense, within
from app.hub.flight import BusyError, Flights
from app.hub.headers import fetch_model_header
from app.hub.listing import Listing, RepoFile, choose, listing_of
from app.hub.packing import FORMAT, pack_header, pack_json, unpack_header, unpack_json
from app.hub.refusals import FAILURES, busy, is_outage, refusal, still, wants_pause
from app.hub.source import Source
from estimator import ModelError, quantize
from estimator.sources.from_gguf import model_from_header

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.hub.client import Client
    from app.hub.names import Name
    from app.hub.store import Store
    from estimator import Model

MAX_PAUSE: Final = 60.0
"""Seconds for which a Hub that cannot be reached, or wants fewer requests, is not asked again at most."""

PAUSE: Final = 10.0
"""The same, where the Hub does not say how long."""


@dataclass(frozen=True, slots=True)
class Found:
    """A model and where it was read; ``full`` is what it is quantized from, None for a GGUF file."""

    model: Model
    source: Source
    full: Model | None = None


class Hub:
    """Models of the Hub.

    Args:
        client: asks the Hub.
        store: keeps what was found.
        fresh_seconds: for which a list of files is believed; headers are of a file's content and never change.
        lookup_seconds: for one model, all requests together.
        at_once: models that are looked up at the same time.
    """

    def __init__(
        self, client: Client, store: Store, *, fresh_seconds: float, lookup_seconds: float, at_once: int
    ) -> None:
        self._client = client
        self._store = store
        self._fresh_seconds = fresh_seconds
        self._lookup_seconds = lookup_seconds
        self._flights: Flights[Any] = Flights(at_once)
        self._pause_lock = threading.Lock()
        self._pause: tuple[float, RequestError] | None = None

    def find(self, name: Name, quantization: str) -> Found:
        """The model of a name. Of a repository with GGUF files the one nearest to the quantization is meant.

        Raises:
            RequestError: there is no such model, it cannot be read, or the Hub does not answer.
        """
        with within(self._lookup_seconds):
            return self._find(name, quantization)

    def _find(self, name: Name, quantization: str) -> Found:
        listing, stale = self._listing(name)
        if not listing.entries and not name.path:
            full = self._from_weights(name, listing)
            model = _as_request(name, _quantized, full, quantization)
            return Found(model, Source(name, quantization, None, listing, stale), full)
        entry = choose(listing, name, quantization)
        stored = self._kept(
            self._key("header", name.repo, *(_identity(listing, file) for file in entry.files)),
            name,
            lambda: pack_header(
                fetch_model_header(
                    [(self._client.file(name.repo, listing.commit, file.path), file.size) for file in entry.files]
                )
            ),
        )
        return Found(_as_request(name, _model, stored), Source(name, quantization, entry, listing, stale))

    def _from_weights(self, name: Name, listing: Listing) -> Model:
        weights.check(name, listing)
        stored = self._kept(
            self._key("weights", name.repo, listing.commit),
            name,
            lambda: pack_json(weights.fetch(self._client, listing)),
        )
        return _as_request(name, weights.full_model, stored)

    def _listing(self, name: Name) -> tuple[Listing, float | None]:
        """The files of a repository, and how old that is if the Hub does not answer."""
        key = self._key("listing", name.repo, name.revision or "")
        found = self._store.get(key)
        if found and found.age < self._fresh_seconds:
            return Listing.from_json(unpack_json(found.value)), None
        try:
            stored = self._ask(key, name, lambda: self._fetch_listing(key, name))
        except RequestError as error:
            if found is None or not is_outage(error):
                raise
            return Listing.from_json(unpack_json(found.value)), found.age
        return Listing.from_json(unpack_json(stored)), None

    def _fetch_listing(self, key: str, name: Name) -> bytes:
        info = self._client.model_info(name.repo, name.revision)
        with sense("the list of files"):
            stored = pack_json(listing_of(info, name.repo).as_json())
        self._store.put(key, stored)
        return stored

    def _kept(self, key: str, name: Name, fetch: Callable[[], bytes]) -> bytes:
        """What the cache has under a key, else what is fetched, which it has from then on."""
        found = self._store.get(key)
        if found:
            return found.value

        def fetch_and_keep() -> bytes:
            stored = fetch()
            self._store.put(key, stored)
            return stored

        return self._ask(key, name, fetch_and_keep)

    def _ask(self, key: str, name: Name, fetch: Callable[[], bytes]) -> bytes:
        """What the Hub answers; while it does not answer, that it does not."""
        self._refuse_in_pause(name)
        try:
            answer: bytes = self._flights.share(key, fetch, seconds_left())
        except BusyError:
            raise busy(name) from None
        except ModelError as error:
            raise _of_model(name, error) from None
        except FAILURES as error:
            refused = refusal(error, name)
            if wants_pause(error):
                self._start_pause(refused)
            raise refused from None
        return answer

    def _start_pause(self, error: RequestError) -> None:
        seconds = min(error.retry_after or PAUSE, MAX_PAUSE)
        with self._pause_lock:
            self._pause = (time.monotonic() + seconds, error)

    def _refuse_in_pause(self, name: Name) -> None:
        with self._pause_lock:
            pause = self._pause
        if pause and time.monotonic() < pause[0]:
            left = int(pause[0] - time.monotonic()) + 1
            raise still(pause[1], name, left)

    def _key(self, kind: str, *parts: str) -> str:
        return "\n".join((f"{kind} {FORMAT}", self._client.endpoint, *parts))


def _identity(listing: Listing, file: RepoFile) -> str:
    """A file by its content, so that a new commit that left it alone fetches nothing."""
    return f"{file.path} {file.etag or listing.commit} {file.size}"


@lru_cache(maxsize=64)
def _model(stored: bytes) -> Model:
    """One object for each model, which other caches go by."""
    return model_from_header(unpack_header(stored))


@lru_cache(maxsize=64)
def _quantized(full: Model, quantization: str) -> Model:
    """One object for each, as above."""
    return quantize(full, quantization)


def _as_request(name: Name, make: Callable[..., Model], *arguments: Any) -> Model:
    try:
        return make(*arguments)
    except ModelError as error:
        raise _of_model(name, error) from None


def _of_model(name: Name, error: ModelError) -> RequestError:
    """A model that cannot be read, as the field of the query."""
    message = f"model is {name.text!r}, which cannot be read: {error.message}"
    return RequestError(error.code, "model", message, error.allowed or "another file or model")
