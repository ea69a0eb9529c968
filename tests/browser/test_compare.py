"""Engines compared, as people look at them: in Chromium, with and without JavaScript."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import LOOKS

if TYPE_CHECKING:
    from tests.browser.conftest import Visit

pytestmark = pytest.mark.browser

STATE = "?model=llama-3.2-1b-instruct&ctx=8192&device=rtx-3060-12-gb"


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_nothing_is_wider_than_the_screen(visit: Visit, width: int, dark: bool) -> None:
    page = visit.open("/compare" + STATE, width=width, dark=dark)
    expect(page.locator("fit-chart[data-drawn]")).to_be_visible()
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_chart_has_the_bars_and_numbers_of_the_table(visit: Visit) -> None:
    page = visit.open("/compare" + STATE)
    expect(page.locator("fit-chart[data-drawn]")).to_be_visible()
    rows = page.locator("table.engines tbody tr")
    assert page.locator("fit-chart .bars .point").count() == 3 * rows.count()
    drawn = {text.removesuffix(" →") for text in page.locator("fit-chart .bartext").all_text_contents()}
    assert {link.inner_text() for link in rows.locator("td a").all()} <= drawn
    fills = page.locator("fit-chart .trace.bars").evaluate_all(
        "traces => traces.map((trace) => getComputedStyle(trace.querySelector('.point path')).fill)"
    )
    assert len(set(fills)) == 3


def test_a_cell_leads_to_its_state_and_back(visit: Visit) -> None:
    page = visit.open("/compare" + STATE)
    page.locator("table.engines tbody tr", has_text="vLLM").locator("td a").nth(1).click()
    page.wait_for_url("**kv=fp8**engine=vllm")
    expect(page.locator("h1")).to_contain_text("RTX 3060")
    page.get_by_role("link", name="Compare engines").last.click()
    expect(page.locator("h1")).to_contain_text("gets deepest")
    expect(page.locator("table.engines tr.chosen")).to_contain_text("vLLM")


def test_a_copied_link_opens_the_same_state(visit: Visit) -> None:
    page = visit.open("/compare" + STATE)
    page.get_by_role("button", name="Copy link").click()
    assert page.evaluate("navigator.clipboard.readText()") == f"{visit.address}/compare{STATE}"


def test_it_works_without_javascript(visit: Visit) -> None:
    page = visit.open("/compare" + STATE, script=False)
    assert page.locator("table.engines tbody tr").count() == 7
    page.get_by_text("Engines, types and what is known of them").click()
    expect(page.locator("table.support")).to_contain_text("mlx-lm does not run on NVIDIA GeForce RTX 3060")
    page.get_by_role("link", name="Change model, device or engine").click()
    expect(page.locator("#state")).to_be_visible()
