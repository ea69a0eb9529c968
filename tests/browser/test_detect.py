"""The GPU of a visitor's computer: what browsers say of it, and what the page makes of that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from app import text
from estimator.devices import devices
from tests.browser.test_page import changed, fields

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import Visit

pytestmark = pytest.mark.browser

D3D11 = "Direct3D11 vs_5_0 ps_5_0, D3D11)"
METAL = "ANGLE (Apple, ANGLE Metal Renderer:"
MACS = [device.id for device in devices() if device.backend == "metal"]

RENDERERS: list[tuple[str, str, list[str]]] = [
    (f"ANGLE (NVIDIA, NVIDIA GeForce RTX 4090 {D3D11}", "found", ["rtx-4090"]),
    (f"ANGLE (NVIDIA, NVIDIA GeForce RTX 3080 (0x00002206) {D3D11}", "found", ["rtx-3080-12-gb", "rtx-3080"]),
    (
        f"ANGLE (NVIDIA, NVIDIA GeForce RTX 5060 Ti (0x00002D04) {D3D11}",
        "found",
        ["rtx-5060-ti-16-gb", "rtx-5060-ti-8-gb"],
    ),
    (f"ANGLE (NVIDIA, NVIDIA GeForce RTX 3060 Laptop GPU (0x00002520) {D3D11}", "found", ["rtx-3060-laptop-gpu"]),
    (
        f"ANGLE (NVIDIA, NVIDIA GeForce RTX 3050 6GB Laptop GPU (0x000025EC) {D3D11}",
        "found",
        ["rtx-3050-laptop-gpu-refresh-6-gb"],
    ),
    (
        f"ANGLE (NVIDIA, NVIDIA RTX 5000 Ada Generation Laptop GPU (0x000027BA) {D3D11}",
        "found",
        ["rtx-5000-ada-generation-laptop-gpu"],
    ),
    ("ANGLE (NVIDIA, Vulkan 1.3.277 (NVIDIA NVIDIA GeForce RTX 4090 (0x00002684)), NVIDIA)", "found", ["rtx-4090"]),
    (
        "ANGLE (NVIDIA Corporation, NVIDIA GeForce GTX 1650/PCIe/SSE2, OpenGL 4.5.0)",
        "found",
        ["gtx-1650-gddr6", "gtx-1650", "gtx-1650-laptop-gpu"],
    ),
    (
        "ANGLE (NVIDIA, NVIDIA GeForce RTX 2070 with Max-Q Design Direct3D11 vs_5_0 ps_5_0, D3D11-30.0.14.7141)",
        "found",
        ["rtx-2070-laptop-gpu"],
    ),
    (f"ANGLE (NVIDIA, NVIDIA GeForce GTX 1650 Ti {D3D11}", "found", ["gtx-1650-ti-laptop-gpu"]),
    (f"ANGLE (NVIDIA, NVIDIA GeForce RTX 5090 D v2 {D3D11}", "unknown", []),
    ("ANGLE (NVIDIA GeForce GTX 1060 3GB Direct3D11 vs_5_0 ps_5_0)", "unknown", []),
    ("NVIDIA GeForce RTX 2060/PCIe/SSE2", "found", ["rtx-2060-12-gb", "rtx-2060", "rtx-2060-laptop-gpu"]),
    ("GeForce GTX 1070/PCIe/SSE2", "found", ["gtx-1070", "gtx-1070-laptop-gpu"]),
    ("NVIDIA GeForce RTX 3080 Ti/PCIe/SSE2", "found", ["rtx-3080-ti"]),
    ("GeForce GTX 960/PCIe/SSE2", "unknown", []),
    ("ANGLE (NVIDIA Corporation, NVIDIA GeForce RTX)", "unknown", []),
    ("AMD Radeon RX 7900 XTX (radeonsi, navi31, LLVM 17.0.6, DRM 3.57)", "found", ["radeon-rx-7900-xtx"]),
    (
        "AMD Radeon RX 7900 XT (radeonsi, navi31, LLVM 19.1.0, DRM 3.59, 6.11.7-300.fc41.x86_64)",
        "found",
        ["radeon-rx-7900-xt"],
    ),
    ("AMD Radeon Pro W7800 48GB (radeonsi, navi31)", "found", ["radeon-pro-w7800-48-gb"]),
    (
        f"ANGLE (AMD, AMD Radeon(TM) 8060S Graphics (0x00001586) {D3D11}",
        "found",
        ["ryzen-ai-max-395-128gb", "ryzen-ai-max-395-96gb", "ryzen-ai-max-395-64gb"],
    ),
    (f"ANGLE (AMD, AMD Radeon RX 6600 XT {D3D11}", "found", ["radeon-rx-6600-xt"]),
    (f"ANGLE (AMD, AMD Radeon(TM) Graphics {D3D11}", "unknown", []),
    ("AMD Radeon RX 580 Series", "unknown", []),
    (f"{METAL} Apple M5, Unspecified Version)", "found", ["m5-16gb", "m5-24gb", "m5-32gb"]),
    (f"{METAL} Apple M4 Pro, Unspecified Version)", "found", ["m4-pro-24gb", "m4-pro-48gb", "m4-pro-64gb"]),
    (f"{METAL} Apple M3 Max, Unspecified Version)", "found", [one for one in MACS if one.startswith("m3-max")]),
    ("Apple M1", "found", ["m1-8gb", "m1-16gb"]),
    ("Apple GPU", "hidden", MACS),
    ("Apple M1, or similar", "hidden", MACS),
    ("NVIDIA GeForce GTX 980, or similar", "hidden", []),
    (f"ANGLE (NVIDIA, NVIDIA GeForce GTX 980 {D3D11}, or similar", "hidden", []),
    ("llvmpipe (LLVM 20.1.8, 256 bits)", "software", []),
    ("ANGLE (Google, Vulkan 1.3.0 (SwiftShader Device (Subzero) (0x0000C0DE)), SwiftShader driver)", "software", []),
    (f"ANGLE (Microsoft, Microsoft Basic Render Driver {D3D11}", "software", []),
    (f"ANGLE (Intel, Intel(R) Arc(TM) A770 Graphics {D3D11}", "unknown", []),
    ("Mesa Intel(R) UHD Graphics 770 (ADL-S GT1)", "unknown", []),
    ("V3D 4.2", "unknown", []),
    ("", "none", []),
]
"""What browsers say, as people posted it, what that is, and the profiles that are meant."""

DETECT = """async ([source, renderers, profiles]) => {
  const { detect } = await import(source);
  return renderers.map((renderer) => detect(renderer, profiles));
}"""


def detected(page: Page, renderers: list[str]) -> list[dict[str, Any]]:
    """What the page's own module makes of each."""
    main = page.locator("script[type=module]").get_attribute("src")
    assert main
    profiles = [{"id": device.id, "name": text.device_name(device)} for device in devices()]
    found: list[dict[str, Any]] = page.evaluate(DETECT, [main.replace("main", "detect"), renderers, profiles])
    return found


def test_what_browsers_say(visit: Visit) -> None:
    found = detected(visit.open(), [renderer for renderer, *_ in RENDERERS])
    for (renderer, kind, ids), one in zip(RENDERERS, found, strict=True):
        assert (renderer, one["kind"], [candidate["id"] for candidate in one["candidates"]]) == (renderer, kind, ids)


def test_every_card_is_found_by_its_name(visit: Visit) -> None:
    """Among few others, and none of another chip's name."""
    cards = [device for device in devices() if device.form_factor in ("desktop", "laptop", "workstation", "soc")]
    for card, one in zip(cards, detected(visit.open(), [card.name for card in cards]), strict=True):
        ids = [candidate["id"] for candidate in one["candidates"]]
        assert card.id in ids, card.name
        assert len(ids) <= 5, card.name


def test_the_name_is_without_what_surrounds_it(visit: Visit) -> None:
    names = {
        f"ANGLE (NVIDIA, NVIDIA GeForce RTX 3080 (0x00002206) {D3D11}": "NVIDIA GeForce RTX 3080",
        "ANGLE (NVIDIA, Vulkan 1.4.312 (NVIDIA GeForce RTX 5090), NVIDIA)": "NVIDIA GeForce RTX 5090",
        f"ANGLE (AMD, AMD Radeon(TM) 780M Graphics {D3D11}": "AMD Radeon 780M Graphics",
        f"{METAL} Apple M3 Max, Unspecified Version)": "Apple M3 Max",
        "AMD Radeon RX 7900 XT (radeonsi, navi31, LLVM 19.1.0)": "AMD Radeon RX 7900 XT",
        "NVIDIA GeForce RTX 2060/PCIe/SSE2": "NVIDIA GeForce RTX 2060",
    }
    assert [one["name"] for one in detected(visit.open(), list(names))] == list(names.values())


def with_gpu(page: Page, renderer: str) -> None:
    """Let the browser speak of another GPU than this machine's."""
    page.evaluate(
        f"""HTMLCanvasElement.prototype.getContext = () => ({{
          RENDERER: 1,
          getParameter: (name) => (name === 2 ? {json.dumps(renderer)} : "WebKit WebGL"),
          getExtension: () => ({{ UNMASKED_RENDERER_WEBGL: 2, loseContext() {{}} }}),
        }});
        Object.defineProperty(navigator, "gpu", {{ value: undefined }});"""
    )


def press(page: Page, renderer: str) -> None:
    with_gpu(page, renderer)
    page.get_by_role("button", name="Use this computer's GPU").click()


def test_the_one_that_is_meant_is_taken(visit: Visit) -> None:
    page = visit.open("/?model=llama-3.2-1b-instruct&device=2+x+rtx-3060-12-gb")
    url = page.url
    press(page, RENDERERS[3][0])
    assert changed(page, url).endswith("?model=llama-3.2-1b-instruct&device=rtx-3060-laptop-gpu")
    assert fields(page)["device"] == "RTX 3060 Laptop GPU 6 GB"


def test_of_several_memory_sizes_one_is_chosen(visit: Visit) -> None:
    page = visit.open("/?model=llama-3.2-1b-instruct")
    url = page.url
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    press(page, f"{METAL} Apple M4 Pro, Unspecified Version)")
    expect(page.get_by_role("status")).to_have_text("The browser tells of Apple M4 Pro. Which one is it?")
    assert not [url for url in asked if "model=" in url]
    choices = page.locator(".detect a")
    assert choices.all_inner_texts() == ["M4 Pro 24 GB", "M4 Pro 48 GB", "M4 Pro 64 GB"]
    choices.nth(1).click()
    assert changed(page, url).endswith("device=m4-pro-48gb")
    assert fields(page)["device"] == "M4 Pro 48 GB"


@pytest.mark.parametrize(
    ("renderer", "says", "n_choices"),
    [
        ("Apple GPU", "only tells of an “Apple GPU”. Which Mac is it?", len(MACS)),
        ("NVIDIA GeForce GTX 980, or similar", "hides which GPU this is", 0),
        ("llvmpipe (LLVM 20.1.8, 256 bits)", "shows no GPU", 0),
        ("GeForce GTX 960/PCIe/SSE2", "no profile here: type its memory above, such as cuda-12gb.", 0),
        ("Mesa Intel(R) UHD Graphics 770 (ADL-S GT1)", "has no profile here.", 0),
        ("", "does not tell which GPU", 0),
    ],
)
def test_what_cannot_be_told_is_said(visit: Visit, renderer: str, says: str, n_choices: int) -> None:
    page = visit.open("/?model=llama-3.2-1b-instruct")
    press(page, renderer)
    expect(page.get_by_role("status")).to_contain_text(says)
    expect(page.locator(".detect a")).to_have_count(n_choices)
    assert page.url.endswith("?model=llama-3.2-1b-instruct")


def test_without_javascript_there_is_no_button(visit: Visit) -> None:
    page = visit.open(script=False)
    expect(page.get_by_text("Use this computer's GPU")).to_be_hidden()
