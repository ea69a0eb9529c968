"""How near the estimates are to llama.cpp's own breakdowns, as a table.

``python -m tests.accuracy`` prints it and writes it to ``docs/accuracy.md``. It fails, and leaves the file alone, when
fewer cases are answered or exact than the file says.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from estimator.devices import GENERIC
from estimator.errors import FathomError
from estimator.estimate import estimate
from tests.estimator import truth

PAGE: Final = Path(__file__).parents[1] / "docs" / "accuracy.md"

KINDS: Final = ("model", "context", "compute")
"""llama.cpp's names of what it reserves: weights, K/V cache, compute buffers."""

TOTALS: Final = re.compile(r"^\| \*\*all\*\* \| \d+ \| (\d+) \| (\d+) \|", re.MULTILINE)

INTRODUCTION: Final = """# How exact the estimates are

llama.cpp b11434 was asked for the memory of {asked:,} runs of {models} models: what it reserves on each device and on
the host, without overhead of drivers, which an estimate shows as a line of its own. `make accuracy` asks the memory
model the same questions and writes this page.

A case is exact when weights, K/V cache and compute buffers are equal to the byte on every device and the host; three
columns count each kind alone. The worst difference is that of one size in per cent of the measured total.
{unanswered:,} runs are refused by name, not guessed: those of architectures without a reading rule, and those that
leave layers, experts or the cache on the host.

"""

HEAD: Final = """| Architecture | Models | Cases | Exact | Weights | K/V cache | Compute | Within 1 % | Worst |
| --- | --: | --: | --: | --: | --: | --: | --: | --: |
"""


@dataclass
class Row:
    """One line of the table."""

    models: set[str] = field(default_factory=set)
    cases: int = 0
    exact: int = 0
    near: int = 0
    kinds: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    worst: float = 0.0

    def count(self, name: str, figures: list[truth.Figure]) -> None:
        """Adds a case."""
        wrong = {figure.kind for figure in figures if figure.found != figure.measured}
        total = sum(figure.measured for figure in figures)
        worst = max(abs(figure.found - figure.measured) for figure in figures) / total
        self.models.add(name)
        self.cases += 1
        self.exact += not wrong
        self.near += worst <= 0.01
        self.worst = max(self.worst, worst)
        for kind in KINDS:
            self.kinds[kind] += kind not in wrong

    def line(self, title: str) -> str:
        """The row in Markdown."""
        counts = (len(self.models), self.cases, self.exact, *self.kinds.values(), self.near)
        return f"| {title} | {' | '.join(map(str, counts))} | {self.worst:.2%} |"


def page() -> str:
    """The whole of ``docs/accuracy.md``."""
    rows: dict[str, Row] = defaultdict(Row)
    asked = unanswered = 0
    known = set(truth.names())
    for name, cases in truth.all_cases().items():
        for case in cases:
            if "error" in case.breakdown:
                continue  # llama.cpp refuses it too
            asked += 1
            figures = _figures(name, case) if name in known else None
            if figures is None:
                unanswered += 1
                continue
            for title in (truth.model(name).architecture, "**all**"):
                rows[title].count(name, figures)
    whole = rows.pop("**all**")
    lines = [row.line(title) for title, row in sorted(rows.items())]
    text = INTRODUCTION.format(asked=asked, models=len(truth.all_cases()), unanswered=unanswered)
    return text + HEAD + "\n".join([*lines, whole.line("**all**")]) + "\n"


def _figures(name: str, case: truth.Case) -> list[truth.Figure] | None:
    try:
        found = estimate(truth.model(name), case.settings, [GENERIC] * case.n_devices)
    except FathomError:
        return None
    return list(truth.figures(case, found))


def totals(text: str) -> tuple[int, int]:
    """Cases answered and cases exact of a page, 0 of each where it has none."""
    found = TOTALS.search(text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def main() -> int:
    """Prints the table, writes the page, fails where it got worse."""
    new = page()
    print(new)
    before, after = totals(PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""), totals(new)
    if after[0] < before[0] or after[1] < before[1]:
        print(
            f"worse: {after[0]} answered and {after[1]} exact, {PAGE.name} says {before[0]} and {before[1]}",
            file=sys.stderr,
        )
        return 1
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
