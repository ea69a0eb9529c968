"""Models on the Hub, as people find them: typed, pasted, browsed for, chosen among the files of a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import LOOKS

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.browser.conftest import Visit
    from tests.hub_server import HubServer

pytestmark = pytest.mark.browser

LINK = "https://huggingface.co/org/small-GGUF/blob/main/small-Q8_0.gguf?download=true"


def files(page: Page) -> Locator:
    """The card that lists the files of a repository."""
    return page.locator("section", has=page.get_by_role("heading", name="Files of org/small-GGUF"))


def test_a_name_is_looked_up_when_it_is_whole(visit: Visit, hub: HubServer) -> None:
    page = visit.open()
    hub.asked.clear()
    page.locator("#model").press_sequentially("x", delay=50)
    page.locator("#model").fill("")
    page.locator("#model").press_sequentially("org/small-GGUF", delay=40)
    page.wait_for_timeout(400)
    assert hub.asked == []
    page.locator("#model").press("Enter")
    page.wait_for_url("**/?model=org/small-GGUF")
    expect(page.locator(".subject")).to_contain_text("org/small-GGUF · Q4_K_M")
    assert page.locator("#model").input_value() == "org/small-GGUF"


def test_a_pasted_link_becomes_the_name(visit: Visit) -> None:
    page = visit.open()
    page.locator("#model").fill(LINK)
    page.locator("#model").blur()
    page.wait_for_url("**/?model=org/small-GGUF/small-Q8_0.gguf")
    expect(page.locator("#quant")).to_be_disabled()
    expect(page.locator("#quant")).to_contain_text("Q8_0")
    assert page.locator("#model").input_value() == "org/small-GGUF/small-Q8_0.gguf"


def test_another_file_is_one_click_away(visit: Visit) -> None:
    page = visit.open("/?model=org/small-GGUF&ctx=128")
    expect(files(page).locator("tr.chosen")).to_contain_text("small-Q4_K_M.gguf")
    files(page).get_by_role("link", name="Q3_K_M").click()
    page.wait_for_url("**/?model=org/small-GGUF/small-Q3_K_M.gguf&ctx=128")
    expect(files(page).locator("tr.chosen")).to_contain_text("small-Q3_K_M.gguf")


def test_a_bundled_model_that_is_browsed_for_is_typed_over(visit: Visit) -> None:
    page = visit.open("/?model=org/small-GGUF/small-Q8_0.gguf")
    page.locator("#bundled").select_option("qwen3-14b")
    page.wait_for_url("**/?model=qwen3-14b")
    assert (page.locator("#model").input_value(), page.locator("#bundled").input_value()) == ("qwen3-14b", "")
    expect(page.locator("#quant")).to_be_enabled()
    page.locator("#model").fill("qwen3-8b")
    page.wait_for_url("**/?model=qwen3-8b")


def test_what_is_not_there_keeps_what_was_typed(visit: Visit) -> None:
    page = visit.open()
    page.locator("#model").fill("org/none")
    page.locator("#model").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("the Hub shows no repository org/none")
    assert page.locator("#model").input_value() == "org/none"


def test_without_javascript(visit: Visit) -> None:
    page = visit.open(script=False)
    page.locator("#model").fill(LINK)
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".subject")).to_contain_text("org/small-GGUF/small-Q8_0.gguf · Q8_0")
    files(page).get_by_role("link", name="Q4_K_M").click()
    expect(page.locator(".subject")).to_contain_text("org/small-GGUF/small-Q4_K_M.gguf · Q4_K_M")
    page.locator("#bundled").select_option("qwen3-14b")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".subject")).to_contain_text("qwen3-14b · Q4_K_M")


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_nothing_is_wider_than_the_screen(visit: Visit, width: int, dark: bool) -> None:
    page = visit.open("/?model=org/small-GGUF", width=width, dark=dark)
    page.wait_for_selector("fit-chart[data-drawn]")
    assert page.evaluate("document.documentElement.scrollWidth") == width
