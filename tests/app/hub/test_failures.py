"""A Hub that refuses, fails, lies, stalls or is away."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from app import create_app
from app.hub import bounds
from app.hub.client import Client
from app.hub.flight import BusyError, Flights
from tests.app.hub.conftest import Visitor
from tests.app.hub.headers import GIB, large, small
from tests.hub_server import TOKEN, Blob, Fault, HubServer, Repo, eventually

if TYPE_CHECKING:
    from pathlib import Path

API = "^/api/models"
RESOLVE = "/resolve/"
STORAGE = "^/storage"


@pytest.fixture
def repo(hub: HubServer) -> Repo:
    """``o/r``, with one model."""
    hub.repos["o/r"] = Repo({"m-Q4_K_M.gguf": small(4 * GIB)})
    return hub.repos["o/r"]


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault(API, 500), 502, "hub-error"),
        (Fault(API, 503, {"Retry-After": "7"}), 502, "hub-error"),
        (Fault(API, 429), 503, "hub-rate-limit"),
        (Fault(API, 418), 502, "hub-error"),
        (Fault(API, 400), 502, "hub-error"),
        (Fault(API, 403), 403, "gated-repository"),
        (Fault(API, 401), 404, "no-such-repository"),
        (Fault(API, 404), 404, "no-such-repository"),
        (Fault(API, body=b"<html>not json"), 502, "hub-broken-reply"),
        (Fault(API, body=b"[1]"), 502, "hub-broken-reply"),
        (Fault(API, body=b"{}"), 502, "hub-broken-reply"),
        (Fault(API, body=b"[" * 100_000), 502, "hub-broken-reply"),
        (Fault(API, body=b'{"id": "o/r", "sha": 7, "siblings": []}'), 502, "hub-broken-reply"),
        (Fault(API, body=b'{"id": "o/r", "sha": "../x", "siblings": []}'), 502, "hub-broken-reply"),
        (Fault(API, body=b'{"id": "o/r", "sha": "abc", "siblings": [{"size": 1}]}'), 502, "hub-broken-reply"),
        (Fault(API, body=b'{"id": "o/r", "sha": "abc", "siblings": [{"rfilename": 5}]}'), 502, "hub-broken-reply"),
        (Fault(API, body=b'{"id": "o/r", "sha": "abc", "siblings": [{"rfilename": "a", "size": "x"}]}'), 502, None),
        (Fault(API, body=b"x", headers={"Content-Encoding": "gzip"}), 502, "hub-broken-reply"),
        (Fault(API, body=b"x", headers={"Content-Length": "10"}), 502, "hub-broken-reply"),
        (Fault(API, 302, {"Location": "/api/models/o/r"}), 502, "hub-broken-reply"),
        (Fault(API, 302, {"Location": "ftp://127.0.0.1/x"}), 502, "hub-broken-reply"),
        (Fault(RESOLVE, 403), 403, "gated-repository"),
        (Fault(RESOLVE, 404, {"X-Error-Code": "EntryNotFound"}), 404, "no-such-file"),
        (Fault(RESOLVE, 500), 502, "hub-error"),
        (Fault(STORAGE, 403), 403, "gated-repository"),
        (Fault(STORAGE, 416), 502, "broken-file"),
        (Fault(STORAGE, 503), 502, "hub-error"),
        (Fault(STORAGE, 204), 502, "hub-broken-reply"),
        (Fault(STORAGE, 206, body=b"GGUF"), 502, "hub-broken-reply"),
        (Fault(STORAGE, 206, {"Content-Range": "bytes 5-8/100"}, b"GGUF"), 502, "hub-broken-reply"),
        (Fault(STORAGE, 206, {"Content-Range": "bytes 0-3/4"}, b"GGUF"), 400, "header-incomplete"),
        (Fault(STORAGE, 200, body=b"<html>a page</html>"), 400, "not-gguf"),
        (Fault(STORAGE, cut=True), 502, "hub-broken-reply"),
    ],
)
@pytest.mark.usefixtures("repo")
def test_each_failure_has_its_words(
    hub: HubServer, visitor: Visitor, fault: Fault, status: int, code: str | None
) -> None:
    hub.faults.append(fault)
    error = visitor.error("o/r", status)
    assert code in (error["code"], None)
    assert "'o/r'" in error["message"]
    assert hub.endpoint not in error["message"]


def test_the_time_to_wait_is_passed_on(hub: HubServer, visitor: Visitor) -> None:
    for number, (headers, expected) in enumerate(
        [
            ({"Retry-After": "30"}, "30"),
            ({"RateLimit": '"api";r=0;t=20', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}, "20"),
            ({"Retry-After": "Wed, 21 Oct 2035 07:28:00 GMT"}, None),
            ({"Retry-After": "99999999999"}, None),
        ]
    ):
        hub.faults[:] = [Fault(API, 429, headers)]
        app = create_app({**visitor.app.config, "HUB_ENDPOINT": hub.endpoint})
        reply = Visitor(app).get(f"o/r{number}")
        assert reply.status_code == 503
        assert reply.headers.get("Retry-After") == expected
        page = app.test_client().get(f"/?model=o/r{number}")
        assert page.status_code == 503
        assert page.headers["Retry-After"]


@pytest.mark.parametrize("private", [True, False])
def test_what_is_not_open_says_that_a_token_is_needed(hub: HubServer, visitor: Visitor, private: bool) -> None:
    hub.repos["o/r"] = Repo({"m.gguf": small()}, private=private, gated=not private)
    error = visitor.error("o/r", 404 if private else 403)
    assert error["code"] == ("no-such-repository" if private else "gated-repository")
    assert "HF_TOKEN" in error["message"]


def test_no_such_revision_or_file(hub: HubServer, visitor: Visitor, repo: Repo) -> None:
    error = visitor.error("o/r@v2", 404)
    assert error["code"] == "no-such-revision"
    assert "'v2'" in error["message"]
    error = visitor.error("o/r/n.gguf", 404)
    assert (error["code"], error["allowed"]) == ("no-such-file", ["o/r/m-Q4_K_M.gguf"])


def test_an_architecture_that_is_not_known_is_refused_by_name(hub: HubServer, visitor: Visitor) -> None:
    data = small().head.replace(b"llama", b"lLama")
    hub.repos["o/r"] = Repo({"m.gguf": Blob(data, GIB)})
    error = visitor.get("o/r").get_json()["error"]
    assert (error["code"], error["field"]) == ("unknown-architecture", "model")
    assert "lLama" in error["message"]


def test_a_server_that_ignores_ranges_is_cut_off(hub: HubServer, visitor: Visitor) -> None:
    hub.repos["o/r"] = Repo({"m.gguf": Blob(small().head, 1000 * GIB)})
    hub.faults.append(Fault(STORAGE, ignores_range=True))
    visitor.answer("o/r")
    assert eventually(lambda: len(hub.asked) == 3)
    assert max(one.sent for one in hub.asked) < 64 * 2**20


def test_a_server_that_ignores_later_ranges_is_refused(hub: HubServer, visitor: Visitor) -> None:
    hub.repos["o/r"] = Repo({"m.gguf": Blob(large(), 1000 * GIB)})
    hub.faults.append(Fault(STORAGE, ignores_range=True))
    assert visitor.error("o/r", 502)["code"] == "hub-broken-reply"


def test_a_reply_without_end_is_cut_off(hub: HubServer, visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_REPLY", 1 << 20)
    hub.faults.append(Fault(API, body=b" " * (1 << 21)))
    error = visitor.error("o/r", 502)
    assert "1,048,576" in error["message"]


def test_replies_are_bounded_together(hub: HubServer, visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos["o/r"] = Repo({"m.gguf": Blob(large(), GIB)})
    monkeypatch.setattr(bounds, "MAX_LOOKUP", 2 << 20)
    error = visitor.error("o/r", 502)
    assert "2,097,152" in error["message"]
    assert sum(one.sent for one in hub.asked) < 8 << 20


def slow(settings: dict[str, Any], seconds: float) -> Visitor:
    """Somebody who does not wait for long."""
    return Visitor(create_app({**settings, "HUB_LOOKUP_SECONDS": seconds}))


@pytest.mark.parametrize(
    "fault", [Fault(API, seconds=3), Fault(STORAGE, seconds=3), Fault(STORAGE, cut=True, seconds=0.4)]
)
def test_a_stalling_hub_is_not_waited_for(hub: HubServer, settings: dict[str, Any], fault: Fault) -> None:
    hub.repos["o/r"] = Repo({"m.gguf": Blob(large(), GIB)})
    hub.faults.append(fault)
    start = time.monotonic()
    error = slow(settings, 1).error("o/r", 504)
    assert error["code"] == "hub-timeout"
    assert time.monotonic() - start < 2.5


def test_a_hub_that_is_away(hub: HubServer, settings: dict[str, Any]) -> None:
    visitor = Visitor(create_app({**settings, "HUB_ENDPOINT": "http://127.0.0.1:9"}))
    assert visitor.error("o/r", 503)["code"] == "hub-unreachable"
    page = visitor.app.test_client().get("/?model=o/r")
    assert page.status_code == 503
    assert "Not right now" in page.text
    assert visitor.answer("llama-3.2-1b-instruct")["fits"]


def test_offline_by_configuration(hub: HubServer, visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert visitor.error("o/r", 503)["code"] == "hub-unreachable"
    assert hub.asked == []


def test_a_hub_that_does_not_answer_is_left_alone_for_a_while(
    hub: HubServer, visitor: Visitor, repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.faults.append(Fault(API, 429, {"Retry-After": "30"}, times=1))
    visitor.error("o/r", 503)
    reply = visitor.get("o/r")
    assert (reply.status_code, reply.get_json()["error"]["code"]) == (503, "hub-rate-limit")
    assert 0 < int(reply.headers["Retry-After"]) <= 30
    assert len(hub.asked) == 1
    later = time.monotonic() + 31
    monkeypatch.setattr("app.hub.lookup.time.monotonic", lambda: later)
    visitor.answer("o/r")


@pytest.mark.parametrize(
    ("error", "status", "asked"),
    [
        (httpx2.ConnectTimeout("x"), 504, 1),
        (httpx2.ConnectError("x"), 503, 1),
        (httpx2.ReadTimeout("x"), 504, 3),
        (httpx2.RemoteProtocolError("x"), 502, 3),
    ],
)
def test_who_is_not_there_is_not_waited_for_again(
    visitor: Visitor, error: Exception, status: int, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fail(*_: object) -> None:
        calls.append(1)
        raise error

    monkeypatch.setattr(Client, "model_info", fail)
    for repo in ("o/a", "o/b", "o/c"):
        assert repo in visitor.error(repo, status)["message"]
    assert len(calls) == asked


def test_what_is_known_stays_while_the_hub_is_away(hub: HubServer, settings: dict[str, Any], repo: Repo) -> None:
    visitor = Visitor(create_app({**settings, "HUB_FRESH_SECONDS": 0}))
    before = visitor.answer("o/r")
    hub.faults.append(Fault(API, 503))
    after = visitor.answer("o/r")
    assert [warning["code"] for warning in after["warnings"]] == ["hub-stale"]
    assert "o/r" in after["warnings"][0]["text"]
    assert after["model"]["source"]["stale_seconds"] >= 0
    assert after["devices"] == before["devices"]
    page = visitor.app.test_client().get("/?model=o/r")
    assert page.status_code == 200
    assert 'data-code="hub-stale"' in page.text
    hub.faults[:] = []
    del hub.repos["o/r"]
    visitor.error("o/r", 404)  # an answer, even if it is no


def test_equal_lookups_are_one(hub: HubServer, visitor: Visitor) -> None:
    hub.repos["o/r"] = Repo({"m.gguf": small()})
    hub.faults.append(Fault(API, seconds=0.5))
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda _: visitor.answer("o/r"), range(6)))
    assert all(reply == replies[0] for reply in replies)
    assert len(hub.asked) == 3  # the list of files, the file, and where that is stored


def test_only_so_many_lookups_at_once(hub: HubServer, settings: dict[str, Any]) -> None:
    visitor = Visitor(create_app({**settings, "HUB_LOOKUPS_AT_ONCE": 1}))
    hub.repos.update({f"o/{name}": Repo({"m.gguf": small()}) for name in "ab"})
    hub.faults.append(Fault("^/api/models/o/a", seconds=1))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(visitor.answer, "o/a")
        flights: Flights[Any] = visitor.app.extensions["hub"]._flights
        assert eventually(lambda: len(flights._running) == 1)
        reply = visitor.get("o/b")
        assert (reply.status_code, reply.get_json()["error"]["code"]) == (503, "busy")
        assert reply.headers["Retry-After"]
        assert first.result()
    visitor.answer("o/b")


def test_a_failure_is_shared_and_forgotten() -> None:
    flights: Flights[int] = Flights(2)
    go = threading.Event()

    def fail() -> int:
        go.wait(5)
        raise KeyError("x")

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(flights.share, "key", fail, 5) for _ in range(2)]
        go.set()
        assert [type(run.exception()) for run in runs] == [KeyError, KeyError]
    assert flights.share("key", lambda: 7, 5) == 7


def test_who_waits_for_another_lookup_does_not_wait_for_ever() -> None:
    flights: Flights[int] = Flights(2)
    go, started = threading.Event(), threading.Event()

    def stall() -> int:
        started.set()
        go.wait(5)
        return 1

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(flights.share, "key", stall, 5)
        started.wait(5)
        with pytest.raises(BusyError):
            flights.share("key", stall, 0.05)
        go.set()
        assert first.result() == 1


def test_the_page_keeps_what_was_typed(hub: HubServer, visitor: Visitor) -> None:
    reply = visitor.app.test_client().get("/?model=o/none&ctx=8k&device=rtx-3090")
    assert reply.status_code == 404
    assert 'value="o/none"' in reply.text
    assert 'value="8k"' in reply.text


def test_the_log_has_no_token(
    hub: HubServer, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.faults.append(Fault(API, 500))
    text = Visitor(create_app(settings)).get("o/r").text
    assert TOKEN not in text
    assert TOKEN not in caplog.text
