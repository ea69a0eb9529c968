"""The page as people use it: in Chromium, with and without JavaScript."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import LOOKS

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import Visit

pytestmark = pytest.mark.browser

STATE = "/?model=gemma-3-12b-it&quant=Q6_K&ctx=16384&kv=q8_0&device=rtx-3060-12-gb"


def chart(page: Page) -> list[dict[str, Any]]:
    """The traces of the first chart, once it is drawn."""
    page.wait_for_selector("fit-chart[data-drawn]")
    traces: list[dict[str, Any]] = page.eval_on_selector(
        "fit-chart .plot", "plot => plot.data.map(({name, x, y}) => ({name, x: [...x], y: [...y]}))"
    )
    return traces


def fields(page: Page) -> dict[str, str]:
    """What the form holds, by name; several devices with spaces between."""
    pairs = page.eval_on_selector("#state", "form => [...new FormData(form)]")
    values: dict[str, str] = {}
    for name, value in pairs:
        values[name] = f"{values.get(name, '')} {value}".strip()
    return values


def changed(page: Page, before: str) -> str:
    """The address once it is no longer ``before`` and the answer has come."""
    page.wait_for_url(lambda url: url != before)
    page.wait_for_selector("#answer:not([aria-busy])")
    return page.url


def test_a_first_visit_has_a_verdict_and_a_chart(visit: Visit) -> None:
    page = visit.open()
    expect(page.locator("h1")).to_contain_text("Fits an RTX 4090 24 GB up to its full 131,072 tokens")
    names = [trace["name"] for trace in chart(page)]
    assert names[:4] == ["Weights", "Overhead", "Compute buffer", "K/V cache"]
    assert "Limit" in names


def test_every_change_redraws_and_rewrites_the_address(visit: Visit) -> None:
    page = visit.open()
    url, drawn = page.url, chart(page)
    changes = (
        ("#bundled", "qwen2.5-32b-instruct", "model=qwen2.5-32b-instruct"),
        ("#k", "q8_0", "kv=q8_0:f16"),
        ("#v", "q8_0", "kv=q8_0"),
        ("select[name=pick]", "m1-16gb", "device=m1-16gb"),
    )
    for field, value, expected in changes:
        page.locator(field).first.select_option(value)
        url = changed(page, url)
        assert expected in url
        assert chart(page) != drawn
        drawn = chart(page)
    assert url.endswith("/?model=qwen2.5-32b-instruct&kv=q8_0&device=m1-16gb")
    expect(page.locator("h1")).to_contain_text("Does not fit an M1 16 GB")


def test_a_copied_link_opens_the_same_state(visit: Visit) -> None:
    page = visit.open(STATE)
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == visit.address + STATE
    other = visit.open(link)
    assert fields(other) == fields(page)
    assert chart(other) == chart(page)
    assert other.locator("h1").inner_text() == page.locator("h1").inner_text()


def test_the_copied_curl_command_asks_the_api(visit: Visit) -> None:
    page = visit.open(STATE)
    page.get_by_role("button", name="Copy as curl").click()
    command = page.evaluate("navigator.clipboard.readText()")
    assert command == f"curl '{visit.address}/api/v1/estimate{STATE[1:]}'"


def test_an_impossible_state_keeps_what_was_typed(visit: Visit) -> None:
    page = visit.open(STATE)
    page.locator("#ctx").fill("many")
    expect(page.get_by_role("alert")).to_contain_text("ctx is 'many'")
    assert fields(page)["ctx"] == "many"
    assert fields(page)["model"] == "gemma-3-12b-it"
    assert page.locator("#ctx").get_attribute("aria-invalid") == "true"
    page.locator("#ctx").fill("32k")
    page.wait_for_url("**ctx=32768**")
    expect(page.locator("h1")).to_contain_text("RTX 3060")
    assert page.locator("#ctx").get_attribute("aria-invalid") is None


def test_a_second_device_shares_the_model_and_can_be_removed(visit: Visit) -> None:
    page = visit.open("/?model=llama-3.3-70b-instruct&device=rtx-3090")
    url = page.url
    expect(page.locator("h1")).to_contain_text("Does not fit")
    page.get_by_label("Another device", exact=False).first.fill("RTX 3090")
    page.keyboard.press("Enter")
    url = changed(page, url)
    assert url.endswith("&device=rtx-3090&device=rtx-3090")
    expect(page.locator("h1")).to_contain_text("Fits 2 x RTX 3090 24 GB")
    assert [trace["name"][:2] for trace in chart(page) if trace["name"][0].isdigit()] == ["1:", "2:"]
    page.get_by_role("button", name="Remove device 2").click()
    assert changed(page, url).endswith("?model=llama-3.3-70b-instruct&device=rtx-3090")


def test_the_tools_of_a_chart_hide_no_name(visit: Visit) -> None:
    page = visit.open("/?model=qwen3-coder-next&device=rtx-4090&ncmoe=40")
    chart(page)
    first = page.locator("fit-chart").first
    first.hover()
    tools = first.locator(".modebar").bounding_box()
    names = [text.bounding_box() for text in first.locator(".infolayer .legendtext").all()]
    assert tools
    assert len(names) == 7
    for name in names:
        assert name
        is_beside = name["x"] + name["width"] <= tools["x"] or tools["x"] + tools["width"] <= name["x"]
        assert is_beside or name["y"] + name["height"] <= tools["y"] or tools["y"] + tools["height"] <= name["y"]


def test_another_type_is_one_click_away(visit: Visit) -> None:
    page = visit.open()
    page.get_by_role("link", name="q4_0", exact=True).click()
    page.wait_for_url("**kv=q4_0")
    assert fields(page)["k"] == fields(page)["v"] == "q4_0"


def test_it_works_without_javascript(visit: Visit) -> None:
    page = visit.open(script=False)
    page.locator("#bundled").select_option("qwen3-14b")
    page.get_by_label("Device 1", exact=True).fill("RTX 4080")
    page.locator("#k").select_option("q8_0")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("h1")).to_contain_text("Fits an RTX 4080 16 GB up to")
    expect(page.locator(".subject")).to_contain_text("qwen3-14b · Q4_K_M · K/V cache q8_0:f16")
    rows = page.locator("table").first.locator("tbody tr")
    assert rows.count() > 4
    expect(page.get_by_role("button", name="Copy link")).to_be_hidden()


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_nothing_is_wider_than_the_screen(visit: Visit, width: int, dark: bool) -> None:
    page = visit.open(STATE, width=width, dark=dark)
    chart(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    plot = page.locator("fit-chart .plot .main-svg").first.bounding_box()
    assert plot is not None
    assert plot["width"] > width / 2
