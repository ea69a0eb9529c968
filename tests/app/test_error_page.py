"""The page of a state that cannot be: it says what works, and nothing that was typed is lost or believed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from estimator.ggml import CACHE_TYPES
from tests.app import html

if TYPE_CHECKING:
    from flask.testing import FlaskClient

    from tests.app.html import Element

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&lt;{{7*7}}"
# In the order of the form. All of it can be, so that only what a test changes is refused.
TYPED = {
    "model": "qwen3-8b",
    "quant": "Q6_K",
    "device": "M1 16 GB",
    "ctx": "12k",
    "k": "q8_0",
    "v": "q4_0",
    "os": "macos-15",
    "desktop": "on",
    "ecc": "off",
    "taken": "800",
    "ts": "1",
    "wired": "12000",
    "gtt": "0",
    "ram": "205",
    "engine": "llama-cli",
    "fa": "on",
    "np": "2",
    "ub": "256",
    "ngl": "20",
    "kvo": "off",
    "ncmoe": "all",
    "ncffn": "3",
    "swa_full": "on",
    "n_batch": "1024",
    "draft": "qwen3-0.6b:Q8_0",
    "mmproj": "1.5G",
}


def refused(client: FlaskClient, given: dict[str, str] | list[tuple[str, str]]) -> Element:
    """The page that refuses what is given."""
    reply = client.get("/", query_string=urlencode(given))
    assert (reply.status_code, reply.mimetype) == (400, "text/html")
    page = html.parse(reply.text)
    assert page.one("section", role="alert").one("h1").text == "This cannot be"
    assert page.all("link", rel="canonical") == page.all("script", type="application/json") == []
    return page


def kept(page: Element) -> dict[str, str]:
    """What the form would send, but for the lists that add a device and browse for a model."""
    filled = [(name, value) for name, value in html.filled(page) if name not in ("bundled", "pick", "was")]
    filled.remove(("device", ""))
    assert len(filled) == len(dict(filled))
    return dict(filled)


@pytest.mark.parametrize(
    ("name", "value", "works"),
    [
        ("model", "llama-3.1-8b", "llama-3.1-8b-instruct"),
        ("quant", "Q9", "Q4_K_M"),
        ("device", "m1-8", "m1-8gb"),
        ("ctx", "many", "a whole number such as 4096 or 4k, or auto"),
        ("k", "q9", "f16"),
        ("v", "q9", "f16"),
        ("engine", "tgi", "llama-server"),
        ("fa", "perhaps", "on or off"),
        ("np", "0", "from 1 to 256"),
        ("ub", "-2", "a whole number such as 4096 or 4k, or auto"),
        ("ngl", "most", "a whole number such as 4096 or 4k, or all"),
        ("ncmoe", "some", "a whole number such as 4096 or 4k, or all"),
        ("ncmoe", "513", "from 0 to 512, or all"),
        ("ncffn", "513", "from 0 to 512"),
        ("kvo", "perhaps", "on or off"),
        ("os", "beos", "linux, windows, wsl, macos-15"),
        ("desktop", "perhaps", "on or off"),
        ("ecc", "on", "it can for workstation cards of NVIDIA"),
        ("taken", "0.5", "MiB for each device, such as 800 or 800,300"),
        ("taken", "1048577", "from 0 to 1,048,576"),
        ("taken", "800,300", "there are 1"),
        ("ts", "3:1", "a number for each device, such as 3,1"),
        ("ts", "3,1", "one for each"),
        ("wired", "5g", "a whole number such as 4096 or 4k"),
        ("gtt", "4096", "only APUs of AMD"),
        ("draft", "qwen3-0.5b", "qwen3-0.6b"),
        ("draft", "qwen3-0.6b:Q9", "Q4_K_M"),
        ("mmproj", "big", "851M"),
    ],
)
def test_everything_typed_stays_and_the_page_says_what_works(
    client: FlaskClient, name: str, value: str, works: str
) -> None:
    assert client.get("/", query_string=TYPED).status_code == 200
    typed = {**TYPED, name: value}
    page = refused(client, typed)
    assert kept(page) == typed
    message = page.one("section", role="alert").text
    assert works in message
    assert value in message
    at_fault = {one.attributes["name"] for one in page.all() if one.attributes.get("aria-invalid") == "true"}
    assert at_fault == ({"k", "v"} if name in ("k", "v") else {name})


def test_the_core_refuses_by_the_names_of_the_form(client: FlaskClient) -> None:
    page = refused(client, {**TYPED, "fa": "off"})
    message = page.one("section", role="alert").text
    assert "q4_0" in message
    assert "f16" in message
    at_fault = [one.attributes["name"] for one in page.all() if one.attributes.get("aria-invalid") == "true"]
    assert at_fault == ["k", "v"]


def test_an_unknown_value_stays_selected_as_such(client: FlaskClient) -> None:
    page = refused(client, {**TYPED, "engine": "My-Engine"})
    option = page.one("option", value="My-Engine")
    assert "selected" in option.attributes
    assert option.text == "My-Engine (not known)"


def test_all_devices_stay(client: FlaskClient) -> None:
    page = refused(client, [("device", "rtx-4090"), ("device", "nope"), ("device", "rtx-3090")])
    assert [value for name, value in html.filled(page) if name == "device"] == [
        "RTX 4090 24 GB",
        "nope",
        "RTX 3090 24 GB",
        "",
    ]


def test_a_refused_form_sent_again_is_the_same_form(client: FlaskClient) -> None:
    once = html.filled(refused(client, {**TYPED, "model": "nope"}))
    assert html.filled(refused(client, once)) == once


def test_a_refused_form_that_is_mended_is_answered(client: FlaskClient) -> None:
    filled = html.filled(refused(client, {**TYPED, "model": "nope"}))
    mended = [(name, TYPED["model"] if name == "model" else value) for name, value in filled]
    reply, good = (client.get("/", query_string=urlencode(given)) for given in (mended, TYPED))
    assert reply.status_code == good.status_code == 200
    assert html.filled(html.parse(reply.text)) == html.filled(html.parse(good.text))


@pytest.mark.parametrize("name", [*TYPED, "kv", "foo"])
def test_hostile_text_stays_text(client: FlaskClient, name: str) -> None:
    given = {**TYPED, name: HOSTILE}
    page = refused(client, given)
    assert page.all("img", src="x") == []
    assert "alert(1)" not in "".join(script.text for script in page.all("script"))
    assert not any(attribute.startswith("on") for element in page.all() for attribute in element.attributes)
    if name in TYPED:
        assert (name, HOSTILE) in html.filled(page)


def test_a_hostile_name_stays_text(client: FlaskClient) -> None:
    page = refused(client, {HOSTILE: "1"})
    assert page.all("img", src="x") == []
    assert "there is no parameter" in page.one("section", role="alert").text


@pytest.mark.parametrize("name", ["model", "quant", "device", "ctx", "k", "kv", "foo"])
def test_a_megabyte_in_a_field_is_refused_at_once(client: FlaskClient, name: str) -> None:
    text = "x" * 2**20
    given = {**TYPED, name: text}
    if name == "kv":
        given = {other: value for other, value in given.items() if other not in ("k", "v")}
    start = time.perf_counter()
    page = refused(client, given)
    assert time.perf_counter() - start < 3
    message = page.one("section", role="alert").text
    assert len(message) < 1000
    assert ("there is no parameter" if name == "foo" else "at most 200 are read") in message
    lost = {other for other, value in kept(page).items() if value != given.get(other)}
    assert lost == ({"k", "v"} if name == "kv" else set())


def test_an_unknown_name_is_answered_with_the_known_ones(client: FlaskClient) -> None:
    message = refused(client, {"context": "8k"}).one("section", role="alert").text
    assert "'context'" in message
    assert "ctx" in message


def test_an_unknown_type_is_answered_with_all_types(client: FlaskClient) -> None:
    message = refused(client, {"kv": "q9"}).one("section", role="alert").text
    assert all(name in message for name in CACHE_TYPES)
