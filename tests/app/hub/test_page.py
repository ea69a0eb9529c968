"""The page of a model on the Hub: where it was read, what else is there, and what its form sends back."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from tests.app import html
from tests.app.hub.headers import GIB, parts, small
from tests.hub_server import COMMIT, Repo

if TYPE_CHECKING:
    from tests.app.html import Element
    from tests.app.hub.conftest import Visitor
    from tests.hub_server import HubServer


@pytest.fixture(autouse=True)
def repo(hub: HubServer) -> None:
    """``o/r``, with three models."""
    split = dict(zip(("m-F16-00001-of-00002.gguf", "m-F16-00002-of-00002.gguf"), parts(2), strict=True))
    hub.repos["o/r"] = Repo({"m-Q4_K_M.gguf": small(GIB // 2), "<i>.gguf": small(GIB), **split})


def opened(visitor: Visitor, state: dict[str, str]) -> Element:
    reply = visitor.app.test_client().get("/", query_string=state)
    assert reply.status_code == 200, reply.text
    return html.parse(reply.text)


def rows(page: Element) -> list[list[str]]:
    """The table of the repository's files."""
    (table,) = (table for table in page.all("table") if "Quantization" in table.text)
    return table.table()[1:]


def test_the_files_are_links_to_the_same_state_with_another_model(visitor: Visitor) -> None:
    page = opened(visitor, {"model": "o/r@main", "ctx": "128", "kv": "q8_0", "quant": "Q8_0"})
    assert rows(page) == [
        ["Q4_K_M", "m-Q4_K_M.gguf", "512.0 MiB"],
        ["unnamed", "<i>.gguf", "1.00 GiB"],
        ["F16", "m-F16-00001-of-00002.gguf 2 parts", "2.00 GiB"],
    ]
    links = [link.attributes["href"] for link in page.all("a") if "o/r/" in link.attributes["href"]]
    assert "?model=o/r/m-F16-00001-of-00002.gguf@main&quant=Q8_0&ctx=128&kv=q8_0" in links
    assert any(f"/o/r/blob/{COMMIT}/" in link for link in links)


@pytest.mark.parametrize("model", ["o/r", "o/r/m-Q4_K_M.gguf", "o/r/<i>.gguf", "o/r/m-F16-00002-of-00002.gguf@main"])
def test_the_form_sends_back_its_state(visitor: Visitor, model: str) -> None:
    page = opened(visitor, {"model": model, "ctx": "128"})
    again = opened(visitor, dict(html.filled(page)) | {"device": "rtx-4090"})
    canonical = page.one("link", rel="canonical").attributes
    assert again.one("link", rel="canonical").attributes == canonical
    assert canonical["href"] == f"http://localhost/?{urlencode({'model': model, 'ctx': 128}, safe='/:@')}"


def test_a_named_file_leaves_no_quantization_to_choose(visitor: Visitor) -> None:
    select = opened(visitor, {"model": "o/r/m-Q4_K_M.gguf", "quant": "Q8_0"}).one("select", id="quant")
    assert "disabled" in select.attributes
    assert [option.text for option in select.all("option")] == ["Q4_K_M"]
    select = opened(visitor, {"model": "o/r/<i>.gguf"}).one("select", id="quant")
    assert [option.text for option in select.all("option")] == ["that of the file"]
    assert "disabled" not in opened(visitor, {"model": "o/r"}).one("select", id="quant").attributes


def test_a_bundled_model_that_was_browsed_for_wins(visitor: Visitor) -> None:
    page = opened(visitor, {"model": "o/r", "bundled": "qwen3-8b"})
    assert page.one("input", id="model").attributes["value"] == "qwen3-8b"
    assert page.one("link", rel="canonical").attributes["href"] == "http://localhost/?model=qwen3-8b"
