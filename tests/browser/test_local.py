"""A GGUF file of one's own in the page: dropped or picked, read by its first bytes, and carried on by a link."""

from __future__ import annotations

import base64
import lzma
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import LOOKS
from tests.browser.test_page import chart, fields
from tests.estimator.sources.gguf_bytes import LE, split_up

if TYPE_CHECKING:
    from playwright.sync_api import FilePayload, Page, Route

    from tests.browser.conftest import Visit

pytestmark = pytest.mark.browser

DATA = Path(__file__).parents[1] / "data" / "gguf"
SMALL = (DATA / "gpt-oss-moe.gguf").read_bytes()
LARGE = lzma.decompress((DATA / "gemma-3-270m.header.gguf.xz").read_bytes())
PICK = "Or a GGUF file of yours"


def payload(data: bytes, name: str = "model.gguf") -> FilePayload:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": data}


def drop(page: Page, data: bytes) -> None:
    """Drop a file on the page, as a browser does when somebody lets go of it."""
    transfer = page.evaluate_handle(
        """coded => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(coded), letter => letter.charCodeAt(0));
            transfer.items.add(new File([bytes], "model.gguf"));
            return transfer;
        }""",
        base64.b64encode(data).decode(),
    )
    page.dispatch_event("#answer", "dragover", {"dataTransfer": transfer})
    expect(page.locator("html.dropping")).to_be_attached()
    page.dispatch_event("#answer", "drop", {"dataTransfer": transfer})
    expect(page.locator("html.dropping")).not_to_be_attached()


def opened(page: Page) -> str:
    """The address once the model of a file is shown."""
    page.wait_for_url("**facts=1**")
    page.wait_for_selector("#answer:not([aria-busy])")
    return page.url


def test_a_dropped_header_becomes_a_chart_and_a_link_that_anybody_can_open(visit: Visit) -> None:
    page = visit.open("/?model=llama-3.2-1b-instruct&quant=Q8_0&ctx=8192&kv=q8_0&device=rtx-3060-12-gb")
    drop(page, LARGE)
    assert opened(page).endswith("&ctx=8192&kv=q8_0&device=rtx-3060-12-gb")
    expect(page.locator(".subject")).to_contain_text("Gemma 3 270m · Q4_K_M")
    assert page.locator(".failure").is_hidden()
    drawn = chart(page)
    page.get_by_role("button", name="Copy link").click()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url
    assert len(link) < 1000
    other = visit.open(link)
    assert chart(other) == drawn
    assert fields(other) == fields(page)
    assert other.locator("h1").inner_text() == page.locator("h1").inner_text()
    assert other.locator("table").all_inner_texts() == page.locator("table").all_inner_texts()


def test_only_as_much_as_the_header_is_sent(visit: Visit, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with path.open("wb") as file:
        file.write(LARGE)
        file.truncate(200 * 2**20)
    page = visit.open()
    page.evaluate(
        """() => {
            const ask = window.fetch;
            window.sent = [];
            window.fetch = (url, options) => {
                if (options.body) window.sent.push(options.body.get("file").size);
                return ask(url, options);
            };
        }"""
    )
    page.get_by_label(PICK).set_input_files(path)
    opened(page)
    sent = page.evaluate("window.sent")
    assert 1 < len(sent) < 12
    assert sent == sorted(sent)
    assert sent[0] == 2**18
    assert sent[-1] < 2 * len(LARGE) + 2**18


def test_progress_is_shown_while_the_header_is_read(visit: Visit) -> None:
    page = visit.open()
    held: list[bool] = []

    def hold(route: Route) -> None:
        held.append(page.locator(".reading progress").is_visible())
        route.continue_()

    page.route("**/api/v1/gguf", hold)
    page.get_by_label(PICK).set_input_files(payload(SMALL))
    opened(page)
    assert held == [True]
    assert page.locator(".reading").is_hidden()


def test_a_projector_is_counted_beside_the_model(visit: Visit) -> None:
    page = visit.open("/?model=gemma-3-12b-it")
    projector = LE.header([LE.text("general.architecture", "clip")], [LE.tensor("mm.0.weight", (1024, 2048))])
    page.get_by_label(PICK).set_input_files(payload(projector))
    page.wait_for_url("**/?model=gemma-3-12b-it&mmproj=8388608")
    expect(page.locator("#mmproj")).to_have_value("8388608")
    expect(page.locator(".subject")).to_contain_text("projector")


def test_all_files_of_a_split_model(visit: Visit) -> None:
    page = visit.open()
    shards = [payload(shard, f"model-{n + 1}.gguf") for n, shard in enumerate(split_up(LARGE, 3))]
    page.get_by_label(PICK).set_input_files(shards[1:])
    expect(page.get_by_role("alert")).to_have_text("this model is in 3 files; missing: 1")
    assert page.get_by_label(PICK).get_attribute("aria-invalid") == "true"
    page.get_by_label(PICK).set_input_files(shards)
    opened(page)
    expect(page.locator(".subject")).to_contain_text("Gemma 3 270m · Q4_K_M")
    assert page.get_by_label(PICK).get_attribute("aria-invalid") is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04 an archive", "this is not a GGUF file"),
        (SMALL[:9000], "model.gguf ends before its header does"),
        (SMALL.replace(b"gpt-oss", b"gpt-osx"), "gpt-osx"),
    ],
    ids=["no GGUF", "cut off", "unknown"],
)
def test_what_is_no_model_is_said_beside_the_field(visit: Visit, data: bytes, message: str) -> None:
    page = visit.open()
    url = page.url
    page.get_by_label(PICK).set_input_files(payload(data))
    expect(page.get_by_role("alert")).to_contain_text(message)
    assert page.url == url
    page.locator("#ctx").fill("8192")
    page.wait_for_url("**ctx=8192")
    expect(page.locator(".failure")).to_be_hidden()


def test_it_is_reached_by_the_keyboard_and_keeps_the_focus(visit: Visit) -> None:
    page = visit.open()
    page.locator("#quant").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    page.get_by_label(PICK).set_input_files(payload(SMALL))
    opened(page)
    assert page.evaluate("document.activeElement.id") == "file"


def test_the_way_back_to_the_bundled_models(visit: Visit) -> None:
    page = visit.open("/?ctx=4096")
    page.get_by_label(PICK).set_input_files(payload(SMALL))
    opened(page)
    page.locator("#k").select_option("q8_0")
    page.wait_for_url("**kv=q8_0:f16")
    assert "facts=1" in page.url
    page.get_by_role("link", name="Choose another").click()
    page.wait_for_url("**/?ctx=4096&kv=q8_0:f16")
    expect(page.locator("#model")).to_be_visible()


def test_without_javascript_no_file_is_asked_for(visit: Visit) -> None:
    page = visit.open(script=False)
    expect(page.locator("#file")).to_be_hidden()


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_nothing_is_wider_than_the_screen(visit: Visit, width: int, dark: bool) -> None:
    page = visit.open(width=width, dark=dark)
    page.get_by_label(PICK).set_input_files(payload(b"x" * 300))
    expect(page.get_by_role("alert")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.get_by_label(PICK).set_input_files(payload(SMALL, "m" * 200 + ".gguf"))
    opened(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width
