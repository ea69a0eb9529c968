"""Every pair of K and V types: within the page where it is opened, and as a page of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import LOOKS

if TYPE_CHECKING:
    from tests.browser.conftest import Visit

pytestmark = pytest.mark.browser

STATE = "/?model=llama-3.2-1b-instruct&kv=q8_0&device=rtx-3060-12-gb"


def test_it_is_loaded_when_it_is_opened_and_stays_open(visit: Visit) -> None:
    page = visit.open(STATE)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    expect(page.locator("#matrix")).to_have_count(0)
    page.get_by_text("Every pair of K and V types").click()
    grid = page.locator("#pairs .grid")
    expect(grid.locator("td.chosen")).to_contain_text("fast chosen")
    assert len([url for url in asked if "/matrix" in url]) == 1
    page.locator("#v").select_option("q4_0")
    expect(grid.locator("td.chosen")).to_contain_text("slow chosen")


def test_a_cell_leads_to_its_pair_with_the_table_open(visit: Visit) -> None:
    page = visit.open(STATE)
    page.get_by_text("Every pair of K and V types").click()
    page.locator("#pairs .grid tbody tr").nth(1).locator("a").nth(5).click()
    page.wait_for_url("**kv=q8_0:q4_0**")
    expect(page.locator("#pairs .grid td.chosen")).to_contain_text("chosen")


def test_without_javascript_it_is_a_page_of_its_own(visit: Visit) -> None:
    page = visit.open(STATE, script=False)
    page.get_by_text("Every pair of K and V types").click()
    page.get_by_role("link", name="All 81 pairs").click()
    expect(page.locator("h1")).to_have_text("Every pair of K and V types")
    expect(page.locator(".grid td.chosen")).to_contain_text("fast chosen")
    page.get_by_role("link", name="Back to this state").click()
    expect(page.locator("h1")).to_contain_text("RTX 3060")


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_the_types_of_k_stay_in_sight(visit: Visit, width: int, dark: bool) -> None:
    page = visit.open("/matrix" + STATE[1:], width=width, dark=dark)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator(".grid").evaluate("grid => grid.parentElement.scrollBy(2000, 0)")
    name = page.locator(".grid tbody th").first.bounding_box()
    last = page.locator(".grid tbody tr").first.locator("td").last.bounding_box()
    assert name
    assert last
    assert 0 <= name["x"] < name["x"] + name["width"] <= last["x"]
    assert last["x"] + last["width"] <= width
