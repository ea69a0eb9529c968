"""Devices in the form: typed, browsed for, several at once, added and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.test_page import changed

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import Visit

pytestmark = pytest.mark.browser

STATE = "/?model=llama-3.2-1b-instruct&device=rtx-3090"


def shown(page: Page) -> list[str]:
    """What the fields of the devices hold."""
    values: list[str] = page.eval_on_selector_all("input[name=device]", "fields => fields.map(field => field.value)")
    return values


def test_a_name_is_enough(visit: Visit) -> None:
    page = visit.open(STATE)
    field, url = page.get_by_label("Device 1", exact=True), page.url
    field.click(delay=50)
    page.keyboard.type("GeForce RTX 4080")  # what was there is typed over
    page.keyboard.press("Enter")
    assert changed(page, url).endswith("device=rtx-4080")
    expect(page.locator("h1")).to_contain_text("an RTX 4080 16 GB")


def test_nothing_is_asked_while_a_name_is_being_typed(visit: Visit) -> None:
    page = visit.open(STATE)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_label("Device 1", exact=True).click(delay=50)
    page.keyboard.type("rtx-4090")
    page.wait_for_timeout(400)
    assert not [url for url in asked if "device=" in url]
    page.keyboard.type("-d")
    page.keyboard.press("Enter")
    page.wait_for_url("**device=rtx-4090-d")


def test_what_is_chosen_from_the_list_is_shown_by_its_name(visit: Visit) -> None:
    page = visit.open(STATE)
    field = page.get_by_label("Device 1", exact=True)
    field.focus()
    url = page.url
    field.evaluate("field => { field.value = 'rtx-4090'; field.dispatchEvent(new Event('input', {bubbles: true})) }")
    assert changed(page, url).endswith("?model=llama-3.2-1b-instruct")
    expect(field).to_have_value("RTX 4090 24 GB")


def test_several_are_typed_at_once_and_removed_one_by_one(visit: Visit) -> None:
    page = visit.open(STATE)
    url = page.url
    page.get_by_label("Another device").first.fill("2 x RTX 3060 12 GB")
    page.keyboard.press("Enter")
    url = changed(page, url)
    assert url.endswith("device=rtx-3090&device=rtx-3060-12-gb&device=rtx-3060-12-gb")
    assert shown(page) == ["RTX 3090 24 GB", "RTX 3060 12 GB", "RTX 3060 12 GB", ""]
    page.get_by_role("button", name="Remove device 1").click()
    url = changed(page, url)
    page.get_by_label("Browse: device 2").select_option("remove")
    assert changed(page, url).endswith("?model=llama-3.2-1b-instruct&device=rtx-3060-12-gb")
    assert shown(page) == ["RTX 3060 12 GB", ""]
    expect(page.get_by_role("button", name="Remove device")).to_have_count(0)


def test_a_name_that_is_not_known_stays_and_says_what_is(visit: Visit) -> None:
    page = visit.open(STATE)
    page.get_by_label("Device 1", exact=True).fill("RTX 3060")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("rtx-3060-12-gb")
    assert shown(page) == ["RTX 3060", ""]
    assert page.get_by_label("Device 1", exact=True).get_attribute("aria-invalid") == "true"


def test_it_works_without_javascript(visit: Visit) -> None:
    page = visit.open(STATE, script=False)
    page.get_by_label("Browse: another device").select_option("cuda-24gb")
    page.get_by_role("button", name="Show").click()
    assert shown(page) == ["RTX 3090 24 GB", "cuda-24gb", ""]
    page.get_by_label("Browse: device 1").select_option("remove")
    page.get_by_role("button", name="Show").click()
    assert shown(page) == ["cuda-24gb", ""]
    expect(page.locator("h1")).to_contain_text("a CUDA GPU with 24 GB")
