"""What the Hub refuses or cannot do, as a request that cannot be answered, and says what would work."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import httpx2
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import parse_ratelimit_headers

from app.errors import RequestError
from app.hub.bounds import BrokenReplyError

if TYPE_CHECKING:
    from app.hub.names import Name

WITHOUT_HUB: Final = "a bundled model, or try again later"

FAILURES: Final = (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError)
"""All that ``app.hub.client`` raises."""

BUSY_SECONDS: Final = 5
"""After which lookups that run now will have ended, or most of them."""

MAX_WAIT: Final = 3600
"""Seconds: a longer time to wait is not believed."""


def is_outage(error: RequestError) -> bool:
    """Whether the Hub did not answer, rather than answered that it cannot be."""
    return error.status >= HTTPStatus.INTERNAL_SERVER_ERROR


def wants_pause(error: Exception) -> bool:
    """Whether one of ``FAILURES`` is that of the Hub as a whole: nobody there, or too many requests."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code == HTTPStatus.TOO_MANY_REQUESTS
    return isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)


def refusal(error: Exception, name: Name) -> RequestError:
    """One of ``FAILURES`` while a model was looked up, in words that hold neither a token nor what the Hub said."""
    if isinstance(error, HfHubHTTPError):
        return _of_reply(error, name)
    what = f"model is {name.text!r}, but the Hub"
    if isinstance(error, httpx2.TimeoutException):
        return _outage("hub-timeout", f"{what} did not answer in time", HTTPStatus.GATEWAY_TIMEOUT)
    if isinstance(error, httpx2.ConnectError):
        return _outage("hub-unreachable", f"{what} cannot be reached", HTTPStatus.SERVICE_UNAVAILABLE)
    reason = f": {error}" if isinstance(error, BrokenReplyError) else ""
    return _outage("hub-broken-reply", f"{what} sent a reply that cannot be read{reason}", HTTPStatus.BAD_GATEWAY)


def busy(name: Name) -> RequestError:
    """Too many lookups at once."""
    message = f"model is {name.text!r}, and too many models are looked up on the Hub right now"
    return _outage("busy", message, HTTPStatus.SERVICE_UNAVAILABLE, BUSY_SECONDS)


def still(error: RequestError, name: Name, seconds: int) -> RequestError:
    """The Hub failed so a moment ago, and is asked again after ``seconds``."""
    message = f"model is {name.text!r}, but the Hub did not answer a moment ago ({error.code})"
    return _outage(error.code, message, error.status, seconds)


def _of_reply(error: HfHubHTTPError, name: Name) -> RequestError:
    """A reply with a status of 400 or more; 401 is what the Hub says of repositories that it does not show."""
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return _gated(name)
    if isinstance(error, RevisionNotFoundError):
        message = f"model is {name.text!r}, but {name.repo} has no revision {name.revision or 'main'!r}"
        return _missing("no-such-revision", message, "a branch, a tag or a commit of the repository, or none")
    if isinstance(error, EntryNotFoundError):
        return _missing("no-such-file", f"model is {name.text!r}, but {name.repo} has no such file", name.repo)
    if isinstance(error, DisabledRepoError):
        return _missing("disabled-repository", f"model is {name.text!r}, which the Hub has disabled", "another model")
    if isinstance(error, RepositoryNotFoundError) or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND):
        return _missing(
            "no-such-repository",
            f"model is {name.text!r}, but the Hub shows no repository {name.repo}; "
            "if it is private, this server needs a token (HF_TOKEN) that may read it",
            "a public repository, by the name that its page has",
        )
    if status == HTTPStatus.FORBIDDEN:
        return _gated(name)
    what = f"model is {name.text!r}, but the Hub"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        wait = retry_after(error.response)
        message = f"{what} wants fewer requests" + (f"; try again in {wait} seconds" if wait else "")
        return _outage("hub-rate-limit", message, HTTPStatus.SERVICE_UNAVAILABLE, wait)
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        message = f"{what} says that the file ends before its header does"
        return RequestError("broken-file", "model", message, "a whole GGUF file", HTTPStatus.BAD_GATEWAY)
    return _outage("hub-error", f"{what} failed (HTTP {status})", HTTPStatus.BAD_GATEWAY, retry_after(error.response))


def retry_after(response: httpx2.Response) -> int | None:
    """Seconds that a reply asks to wait, if it says so in seconds."""
    limit = parse_ratelimit_headers(response.headers)
    text = response.headers.get("Retry-After", "").strip()
    wait = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else None
    if wait is None and limit is not None and limit.remaining == 0:
        wait = limit.reset_in_seconds
    return wait if wait is not None and 0 <= wait <= MAX_WAIT else None


def _gated(name: Name) -> RequestError:
    message = (
        f"model is {name.text!r}, whose files are gated; this server needs a token (HF_TOKEN) of somebody who accepted "
        "the terms on the repository's page"
    )
    return RequestError("gated-repository", "model", message, "a repository that is not gated", HTTPStatus.FORBIDDEN)


def _missing(code: str, message: str, allowed: str) -> RequestError:
    return RequestError(code, "model", message, allowed, HTTPStatus.NOT_FOUND)


def _outage(code: str, message: str, status: int, retry_after: int | None = None) -> RequestError:
    return RequestError(code, "model", f"{message}; bundled models work without it", WITHOUT_HUB, status, retry_after)
