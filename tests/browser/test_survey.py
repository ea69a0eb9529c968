"""What runs on a device, as people use it: in Chromium, with and without JavaScript."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import LOOKS

if TYPE_CHECKING:
    from tests.browser.conftest import Visit

pytestmark = pytest.mark.browser

STATE = "/what-runs?ctx=16384&device=rtx-3060-12-gb&find=qwen3"


def test_every_change_asks_again_and_rewrites_the_address(visit: Visit) -> None:
    page = visit.open("/what-runs")
    before = page.locator("h1").inner_text()
    page.locator("select[name=pick]").first.select_option("rtx-3060-12-gb")
    page.wait_for_url("**/what-runs?device=rtx-3060-12-gb")
    expect(page.locator("h1")).to_contain_text("RTX 3060 12 GB")
    page.locator("#find").fill("qwen3")
    page.wait_for_url("**&find=qwen3")
    page.locator("#sort").select_option("speed")
    page.wait_for_url("**&sort=speed")
    assert page.locator("h1").inner_text() != before
    rates = [
        float(text.replace(",", ""))
        for text in page.locator("table").first.locator("td:nth-child(6)").all_inner_texts()
    ]
    assert rates == sorted(rates, reverse=True)


def test_an_impossible_state_keeps_what_was_typed(visit: Visit) -> None:
    page = visit.open(STATE)
    page.locator("#ctx").fill("many")
    expect(page.get_by_role("alert")).to_contain_text("ctx is 'many'")
    assert page.locator("#ctx").get_attribute("aria-invalid") == "true"
    assert page.locator("#find").input_value() == "qwen3"
    page.locator("#ctx").fill("8k")
    page.wait_for_url("**ctx=8192**")
    assert page.locator("#ctx").get_attribute("aria-invalid") is None


def test_a_row_leads_to_every_byte_of_it_and_back(visit: Visit) -> None:
    page = visit.open(STATE)
    page.locator("table").first.locator("tbody a").first.click()
    expect(page.locator("h1")).to_contain_text("Fits an RTX 3060 12 GB")
    page.get_by_role("link", name="What else runs on this").click()
    expect(page.locator("h1")).to_contain_text("models run on an RTX 3060 12 GB with 16,384 tokens")


def test_a_copied_link_opens_the_same_state(visit: Visit) -> None:
    page = visit.open(STATE)
    page.get_by_role("button", name="Copy link").click()
    assert page.evaluate("navigator.clipboard.readText()") == visit.address + STATE


def test_it_works_without_javascript(visit: Visit) -> None:
    page = visit.open("/what-runs", script=False)
    page.locator("#find").fill("gemma")
    page.locator("#kind").select_option("dense")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("table").first.locator("tbody th").first).to_contain_text("Gemma")
    page.locator("summary", has_text="What does not run").click()
    expect(page.locator("table").last).to_contain_text("trained for 8,192 tokens only")


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_nothing_is_wider_than_the_screen(visit: Visit, width: int, dark: bool) -> None:
    page = visit.open(STATE, width=width, dark=dark)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
