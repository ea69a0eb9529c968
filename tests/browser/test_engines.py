"""The switch of engines in Chromium: types, options and recipes follow it, and the address keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from estimator.engines.registry import engine

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import Visit

pytestmark = pytest.mark.browser

STATE = "/?model=llama-3.2-1b-instruct&ctx=8192&kv=q8_0"


def types(page: Page, field: str) -> list[str]:
    """What a list of cache types offers."""
    found: list[str] = page.eval_on_selector_all(f"#{field} option", "options => options.map(({value}) => value)")
    return found


def offered(id: str) -> list[str]:
    """The types that an engine has."""
    found = engine(id)
    assert found
    return [one.id for one in found.cache_types]


def test_everything_follows_the_engine(visit: Visit) -> None:
    page = visit.open(STATE)
    page.locator("#engine").select_option("vllm")
    page.wait_for_url("**&kv=fp8&engine=vllm")
    expect(page.locator("[data-code=switched]")).to_contain_text("vLLM has no q8_0 cache: fp8 is the nearest")
    assert types(page, "kv") == offered("vllm")
    expect(page.locator("#engine-hint")).to_contain_text("vLLM 0.33.0")
    expect(page.locator(".recipe pre").first).to_contain_text("--kv-cache-dtype fp8")
    page.locator("#engine").select_option("sglang")
    page.wait_for_url("**&engine=sglang")
    assert types(page, "kv") == offered("sglang")
    expect(page.locator(".recipe pre").first).to_contain_text("sglang")
    page.locator("#engine").select_option("exllamav3")
    page.wait_for_url("**&engine=exllamav3")
    assert types(page, "v") == offered("exllamav3")
    page.locator("#engine").select_option("llama-server")
    page.wait_for_url(lambda url: "engine=" not in url)
    assert types(page, "k") == offered("llama-server")
    expect(page.locator("#ngl")).to_have_value("all")


def test_an_option_of_the_engine_is_in_the_address(visit: Visit) -> None:
    page = visit.open(f"{STATE.replace('q8_0', 'fp8')}&engine=vllm")
    page.get_by_text("How it is run", exact=True).click()
    page.locator("#gpu_memory_utilization").fill("0.5")
    page.wait_for_url("**&gpu_memory_utilization=0.5")
    expect(page.locator(".recipe pre").first).to_contain_text("--gpu-memory-utilization 0.5")
    page.locator("#gpu_memory_utilization").fill("7")
    expect(page.get_by_role("alert").first).to_contain_text("gpu_memory_utilization is 7")
    assert page.locator("#gpu_memory_utilization").get_attribute("aria-invalid") == "true"


@pytest.mark.parametrize("id", ["vllm", "transformers", "exllamav3"])
@pytest.mark.parametrize("width", [1440, 768, 390])
def test_nothing_scrolls_sideways(visit: Visit, id: str, width: int) -> None:
    page = visit.open(f"/?model=llama-3.2-1b-instruct&ctx=8192&engine={id}", width=width, dark=width == 768)
    page.eval_on_selector_all("details", "parts => parts.forEach((part) => { part.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
