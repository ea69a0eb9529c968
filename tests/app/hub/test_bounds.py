"""What every request of the Hub's client keeps to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from huggingface_hub import constants, get_session

from app.hub.bounds import MAX_REDIRECTS, BrokenReplyError, install, within
from tests.hub_server import Fault

if TYPE_CHECKING:
    from tests.hub_server import HubServer


@pytest.fixture
def session() -> Any:
    """The client, as all of the library uses it."""
    install()
    return get_session()


def redirected(session: Any, start: str, target: str) -> None:
    """What the client's hook says of a redirect."""
    request = httpx2.Request("GET", start)
    response = httpx2.Response(302, headers={"Location": target}, request=request)
    for hook in session.event_hooks["response"]:
        hook(response)


@pytest.mark.parametrize("target", ["http://storage.example/x", "http://hub.example/x"])
def test_no_redirect_leaves_encryption(session: Any, target: str) -> None:
    with pytest.raises(BrokenReplyError, match="without encryption"):
        redirected(session, "https://hub.example/x", target)


@pytest.mark.parametrize(
    ("start", "target"),
    [
        ("https://hub.example/x", "https://storage.example/x"),
        ("https://hub.example/x", "/y"),
        ("http://127.0.0.1/x", "http://localhost/x"),
    ],
)
def test_other_redirects_are_followed(session: Any, start: str, target: str) -> None:
    redirected(session, start, target)


def test_redirects_end(session: Any, hub: HubServer) -> None:
    hub.faults.append(Fault("/loop", 302, {"Location": "/loop"}))
    with pytest.raises(httpx2.TooManyRedirects):
        session.get(f"{hub.endpoint}/loop")
    assert len(hub.asked) == MAX_REDIRECTS + 1


def test_the_time_is_for_all_requests_together(session: Any, hub: HubServer) -> None:
    hub.faults.append(Fault("/slow", 200, seconds=0.2))
    start = time.monotonic()

    def ask_for_ever() -> None:
        while True:
            session.get(f"{hub.endpoint}/slow", timeout=None)

    with within(0.5), pytest.raises(httpx2.ReadTimeout):
        ask_for_ever()
    assert 0.4 < time.monotonic() - start < 1
    assert len(hub.asked) >= 2


def test_nobody_is_told_about_who_asks(session: Any, hub: HubServer) -> None:
    assert constants.HF_HUB_DISABLE_TELEMETRY
    session.get(f"{hub.endpoint}/x")
    assert [one.path for one in hub.asked] == ["/x"]
