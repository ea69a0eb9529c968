"""What one lookup may take: seconds, and bytes of each reply. Every request of the Hub's client keeps to it.

The client of ``huggingface_hub`` is one for the whole process and follows redirects to storage hosts. What a lookup may
take is in a context variable, so that it holds in whatever the library does on the way.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import httpx2
from huggingface_hub import constants, set_client_factory
from huggingface_hub.errors import SafetensorsParsingError

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 10.0

MAX_REDIRECTS: Final = 5

MAX_REPLY: Final = 32 << 20
"""Bytes of one reply: the list of a repository's files, a header of safetensors (25 MB), a part of one of GGUF."""

MAX_LOOKUP: Final = 48 << 20
"""Bytes of all replies of one lookup; the largest header of GGUF that is known has less than 30 MiB."""


class BrokenReplyError(httpx2.TransportError):
    """A reply that is not what it should be: longer than is read, packed, from where it must not be, or no sense."""


@contextmanager
def sense(what: str) -> Iterator[None]:
    """What a library makes of a reply that makes no sense can be any error; inside it is ``BrokenReplyError``."""
    try:
        yield
    except httpx2.HTTPError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorsParsingError):
        raise BrokenReplyError(f"{what} makes no sense") from None


@dataclass(slots=True)
class Budget:
    """What a lookup may take: until ``deadline``, in seconds of ``time.monotonic``; and the bytes that came so far."""

    deadline: float
    n_bytes: int = 0

    def take(self, n_bytes: int) -> None:
        """Count bytes that came.

        Raises:
            BrokenReplyError: they are too many.
            httpx2.ReadTimeout: they came too late.
        """
        self.n_bytes += n_bytes
        if self.n_bytes > MAX_LOOKUP:
            raise BrokenReplyError(f"all replies together are longer than {MAX_LOOKUP:,} bytes")
        self.seconds()

    def seconds(self) -> float:
        """How many are left.

        Raises:
            httpx2.ReadTimeout: none.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise httpx2.ReadTimeout("the time for the whole lookup is over")
        return left

    def timeout(self) -> httpx2.Timeout:
        """For the next request; raises as ``seconds`` does."""
        left = self.seconds()
        return httpx2.Timeout(min(left, READ_SECONDS), connect=min(left, CONNECT_SECONDS))


_budget: ContextVar[Budget | None] = ContextVar("budget", default=None)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """All requests inside, together, take no longer than ``seconds`` and bring no more than ``MAX_LOOKUP``."""
    token = _budget.set(Budget(time.monotonic() + seconds))
    try:
        yield
    finally:
        _budget.reset(token)


def seconds_left() -> float:
    """Of the lookup that runs here.

    Raises:
        httpx2.ReadTimeout: none.
    """
    budget = _budget.get()
    assert budget is not None, "no lookup runs"
    return budget.seconds()


@cache
def install() -> None:
    """Once in a process: let the client of ``huggingface_hub`` keep to the bounds, and tell the Hub nothing else."""
    constants.HF_HUB_DISABLE_TELEMETRY = True  # else it asks the Hub about programs that may have started this one
    set_client_factory(_client)


def _client() -> httpx2.Client:
    return httpx2.Client(
        event_hooks={"request": [_before], "response": [_after]},
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        timeout=httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
        headers={"Accept-Encoding": "identity"},
    )


def _before(request: httpx2.Request) -> None:
    """Each hop of a request, redirects too."""
    if constants.is_offline_mode():
        raise httpx2.ConnectError("the Hub's client is offline (HF_HUB_OFFLINE)", request=request)
    budget = _budget.get()
    if budget is not None:
        request.extensions["timeout"] = budget.timeout().as_dict()


def _after(response: httpx2.Response) -> None:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise BrokenReplyError("a reply is packed though nobody asked for that", request=response.request)
    if response.has_redirect_location:
        target = response.request.url.join(response.headers["Location"])
        if target.scheme != "https" and response.request.url.scheme == "https":
            raise BrokenReplyError("a redirect leads to a host without encryption", request=response.request)
    response.stream = _Bounded(response.stream, _budget.get())


class _Bounded(httpx2.SyncByteStream):
    """A body that ends with an error where it is too long or takes too long."""

    def __init__(self, stream: object, budget: Budget | None) -> None:
        assert isinstance(stream, httpx2.SyncByteStream)
        self._stream = stream
        self._budget = budget

    def __iter__(self) -> Iterator[bytes]:
        n_bytes = 0
        for chunk in self._stream:
            n_bytes += len(chunk)
            if n_bytes > MAX_REPLY:
                raise BrokenReplyError(f"a reply is longer than {MAX_REPLY:,} bytes")
            if self._budget is not None:
                self._budget.take(len(chunk))
            yield chunk

    def close(self) -> None:
        self._stream.close()
