"""The page of accuracy says what a run says, and a worse run is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from estimator.accuracy import DATA, Band
from tests import accuracy
from tests.estimator.truth import Figure
from tests.logs import report

if TYPE_CHECKING:
    from pathlib import Path


def test_the_page_is_current() -> None:
    assert accuracy.PAGE.read_text(encoding="utf-8") == accuracy.page(), "run make accuracy"


def test_the_data_are_current() -> None:
    assert DATA.read_text(encoding="utf-8") == accuracy.data(), "run make accuracy"


def test_the_figures_of_the_logs_are_current() -> None:
    assert accuracy.LOGS.read_text(encoding="utf-8") == accuracy.data_of_logs(), "run make accuracy"


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
@pytest.mark.parametrize("of_logs", [False, True])
def test_worse_is_refused(
    before: int | None, code: int, of_logs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(key: str, exact: int) -> str:
        figures = f"[12, {exact}, 0.0]" if key == "logs" else f'{{"device": [12, {exact}, 12, 0.0]}}'
        return f'{{"{key}": {{"llama": {figures}}}}}'

    paths = {name: tmp_path / f"{name.lower()}.json" for name in ("PAGE", "DATA", "LOGS")}
    if before:
        paths["LOGS" if of_logs else "DATA"].write_text(written("logs" if of_logs else "bands", before))
    for name, path in paths.items():
        monkeypatch.setattr(accuracy, name, path)
    monkeypatch.setattr(accuracy, "page", lambda: "a page")
    monkeypatch.setattr(accuracy, "bands", lambda: {"llama": {"device": Band(12, 10, 12, 0.0)}})
    monkeypatch.setattr(report, "sums", lambda: {"llama": report.Sum(12, 10, 0.0)})
    assert accuracy.main() == code
    assert paths["PAGE"].exists() is (code == 0)
    if code:
        assert written("logs" if of_logs else "bands", 11) in [
            path.read_text() for path in paths.values() if path.exists()
        ]
    else:
        assert "[12, 10, 12, 0.0]" in paths["DATA"].read_text()
        assert "[12, 10, 0.0]" in paths["LOGS"].read_text()
