"""The document of published figures says what the core counts, and whether that is what was published."""

from __future__ import annotations

import re
from itertools import chain
from urllib.parse import urlsplit

import pytest

from tests.published import page
from tests.published.counting import GIB, Estimated, cache, of_smcleod, plain
from tests.published.rows import Row, Section
from tests.published.sources import SECTIONS

TEXT = page.PAGE.read_text(encoding="utf-8")
ROWS = list(chain.from_iterable(section.rows for section in SECTIONS))


def text_of(section: Section) -> str:
    return TEXT.partition(f"## {section.title}\n")[2].partition("\n## ")[0]


def test_the_tables_are_current() -> None:
    assert page.filled(TEXT) == TEXT, "run make published"
    assert TEXT.count("\n| --- ") == TEXT.count("\n## ") == len(SECTIONS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_a_figure_is_what_we_count_where_it_is_said_to_be(row: Row) -> None:
    assert row.is_same == row.agrees
    assert ("| none |" in row.line()) == row.agrees


def test_the_document_is_about_many_engines_and_does_not_only_agree() -> None:
    assert 10 <= len(SECTIONS) <= 15
    assert 10 < sum(row.agrees for row in ROWS) < len(ROWS) - 10


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_every_section_has_a_source_and_a_text(section: Section) -> None:
    links = re.findall(r"\]\((\S+)\)", text_of(section))
    assert links
    assert all(urlsplit(link).scheme == "https" for link in links)
    assert len(text_of(section).replace(section.table(), "")) > 200


@pytest.mark.parametrize(("place", "n_ctx"), [(0, 131_072), (1, 32_768)])
def test_what_the_estimator_gave_is_what_the_text_says(place: int, n_ctx: int) -> None:
    """128k: its totals are the published figures; 32k: its caches are those of the two quantized types, rounded."""
    found = [of_smcleod(8, n_ctx, 4.83, bits) for bits in (16, 8, 4)]
    sizes = [size.cache if place else size.total for size in found]
    said = "{:.1f}, {:.1f} and {:.1f}".format(*sizes)
    assert said in text_of(SECTIONS[place]).replace("\n", " ")
    published = [row.published for row in SECTIONS[place].rows[:3]]
    same = [round(size, 0 if place else 1) == figure for size, figure in zip(sizes, published, strict=True)]
    assert same == [not place, True, True]


def test_parts_of_the_estimator() -> None:
    """12.6 of keys and values and 5.7 of overhead."""
    found = of_smcleod(8, 131_072, 4.83, 16)
    halved = of_smcleod(8, 131_072, 4.83, 8)
    assert f"{2 * (found.cache - halved.cache):.1f}" == "12.6"
    assert f"{2 * halved.cache - found.cache:.1f}" == "5.7"
    assert f"{found.model:.1f}" == "5.0"
    assert Estimated(1.5, 2).total == 3.5


@pytest.mark.parametrize("model", ["llama-3.1-8b-instruct", "llama-2-7b-hf", "qwen3-4b", "deepseek-v3"])
def test_the_plain_formula_is_llama_cpps_and_vllms(model: str) -> None:
    assert plain(model, 8192) == cache("llama-bench", model, 8192) == cache("vllm", model, 8192)


def test_heads_are_shared_by_devices_and_repeated_beyond() -> None:
    assert plain("qwen3-235b-a22b", 16, n_devices=4) * 4 == plain("qwen3-235b-a22b", 16)
    assert plain("qwen3-235b-a22b", 16, n_devices=8) * 4 == plain("qwen3-235b-a22b", 16)


def test_a_line() -> None:
    row = Row("x", 2, 0, "GB", lambda: 3 * GIB // 2, GIB)
    assert row.line() == "| x | 2 GB | 1.500 GiB | none |\n"
    assert Row("x", 3, 0, "GB", lambda: 2 * GIB, GIB).line() == "| x | 3 GB | 2.000 GiB | +50% |\n"


def test_a_section_without_a_title_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "SECTIONS", [Section("Nothing", ())])
    with pytest.raises(ValueError, match="Nothing"):
        page.filled(TEXT)
