"""The page of accuracy says what a run says, and a worse run is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from estimator.accuracy import DATA, Band
from tests import accuracy
from tests.estimator.truth import Figure

if TYPE_CHECKING:
    from pathlib import Path


def test_the_page_is_current() -> None:
    assert accuracy.PAGE.read_text(encoding="utf-8") == accuracy.page(), "run make accuracy"


def test_the_data_are_current() -> None:
    assert DATA.read_text(encoding="utf-8") == accuracy.data(), "run make accuracy"


def test_a_row() -> None:
    row = accuracy.Row()
    row.count("a", [Figure("GPU", "model", 100, 100), Figure("GPU", "compute", 90, 100)])
    row.count("a", [Figure("GPU", "model", 100, 100), Figure("GPU", "compute", 100, 100)])
    assert row.line("x") == "| x | 1 | 2 | 1 | 2 | 2 | 1 | 1 | 5.00% |"
    assert row.band == Band(2, 1, 1, 0.05)


GOOD = Band(10, 9, 9, 0.02)


@pytest.mark.parametrize(
    ("now", "count"),
    [
        (GOOD, 0),
        (Band(11, 10, 11, 0.01), 0),
        (Band(9, 9, 9, 0.02), 1),
        (Band(11, 8, 9, 0.02), 1),
        (Band(11, 9, 8, 0.02), 1),
        (Band(11, 9, 9, 0.03), 1),
        (None, 1),
    ],
)
def test_what_is_worse(now: Band | None, count: int) -> None:
    before = {"llama": {"host": list(GOOD)}}
    found = {"llama": {"host": now}} if now else {}
    complaints = list(accuracy.worse(before, found))
    assert len(complaints) == count
    assert all("llama partly in system memory" in text for text in complaints)


@pytest.mark.parametrize(("before", "code"), [(None, 0), (9, 0), (10, 0), (11, 1)])
def test_worse_is_refused(before: int | None, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def written(exact: int) -> str:
        return f'{{"bands": {{"llama": {{"device": [12, {exact}, 12, 0.0]}}}}}}'

    page, data = tmp_path / "accuracy.md", tmp_path / "accuracy.json"
    if before:
        data.write_text(written(before))
    monkeypatch.setattr(accuracy, "PAGE", page)
    monkeypatch.setattr(accuracy, "DATA", data)
    monkeypatch.setattr(accuracy, "page", lambda: "a page")
    monkeypatch.setattr(accuracy, "bands", lambda: {"llama": {"device": Band(12, 10, 12, 0.0)}})
    assert accuracy.main() == code
    assert page.exists() is (code == 0)
    if code:
        assert data.read_text() == written(11)
    else:
        assert "[12, 10, 12, 0.0]" in data.read_text()
