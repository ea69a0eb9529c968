"""The page of accuracy says what a run says, and a worse run is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import accuracy
from tests.estimator.truth import Figure

if TYPE_CHECKING:
    from pathlib import Path


def test_the_page_is_current() -> None:
    assert accuracy.PAGE.read_text(encoding="utf-8") == accuracy.page(), "run make accuracy"


def test_a_row() -> None:
    row = accuracy.Row()
    row.count("a", [Figure("GPU", "model", 100, 100), Figure("GPU", "compute", 90, 100)])
    row.count("a", [Figure("GPU", "model", 100, 100), Figure("GPU", "compute", 100, 100)])
    assert row.line("x") == "| x | 1 | 2 | 1 | 2 | 2 | 1 | 1 | 5.00% |"


@pytest.mark.parametrize(("before", "code"), [((9, 9), 0), ((10, 10), 0), ((11, 10), 1), ((10, 11), 1), (None, 0)])
def test_worse_is_refused(
    before: tuple[int, int] | None, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(answered: int, exact: int) -> str:
        return f"| a | 1 | 99 | 99 |\n| **all** | 3 | {answered} | {exact} | 1 |\n"

    path = tmp_path / "accuracy.md"
    if before:
        path.write_text(written(*before))
    monkeypatch.setattr(accuracy, "PAGE", path)
    monkeypatch.setattr(accuracy, "page", lambda: written(10, 10))
    assert accuracy.main() == code
    assert (path.read_text() == written(10, 10)) is (code == 0 or before == (10, 10))
