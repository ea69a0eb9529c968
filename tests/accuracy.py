"""How near the estimates are to llama.cpp's own breakdowns, as a table.

``python -m tests.accuracy`` prints it with what users' logs show (``tests.logs``), and writes both to
``docs/accuracy.md``. The figures go to ``estimator/data/accuracy.json``, for the page, and those of the logs to
``tests/data/logs/figures.json``. It fails, and leaves the files alone, when a figure is worse than a file says.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from estimator.accuracy import DATA, PLACEMENTS, Band, placement
from estimator.devices import GENERIC
from estimator.errors import FathomError
from estimator.estimate import estimate
from tests.estimator import truth
from tests.logs import report

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from estimator.accuracy import Placement

PAGE: Final = Path(__file__).parents[1] / "docs" / "accuracy.md"

LOGS: Final = Path(__file__).parent / "data" / "logs" / "figures.json"
"""What must not get worse of the comparison with users' logs."""

KINDS: Final = ("model", "context", "compute")
"""llama.cpp's names of what it reserves: weights, K/V cache and state, compute buffers."""

INTRODUCTION: Final = """# How exact the estimates are

llama.cpp b11434 was asked for the memory of {asked:,} runs of {models} models: what it reserves on each device and on
the host, without overhead of drivers, which an estimate shows as a line of its own. `make accuracy` asks the memory
model the same questions and writes this page.

A case is exact when weights, cache and compute buffers are equal to the byte on every device and the host; three
columns count each kind alone. Cache is K/V cache and recurrent state. The worst difference is that of one size in per
cent of the measured total. {unanswered}

"""

HEAD: Final = """| {title} | Models | Cases | Exact | Weights | Cache | Compute | Within 1 % | Worst |
| --- | --: | --: | --: | --: | --: | --: | --: | --: |
"""


@dataclass
class Row:
    """One line of a table."""

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

    @property
    def band(self) -> Band:
        return Band(self.cases, self.exact, self.near, round(self.worst, 6))


@dataclass
class Table:
    """All runs that llama.cpp answered, by architecture and place."""

    asked: int = 0
    unanswered: int = 0
    rows: dict[tuple[str, Placement], Row] = field(default_factory=lambda: defaultdict(Row))
    architectures: dict[str, Row] = field(default_factory=lambda: defaultdict(Row))
    places: dict[Placement, Row] = field(default_factory=lambda: defaultdict(Row))
    whole: Row = field(default_factory=Row)


@cache
def table() -> Table:
    """The comparison, of every case that llama.cpp answered."""
    found = Table()
    known = set(truth.names())
    for name, cases in truth.all_cases().items():
        for case in cases:
            if "error" in case.breakdown:
                continue  # llama.cpp refuses it too
            found.asked += 1
            figures = _figures(name, case) if name in known else None
            if figures is None:
                found.unanswered += 1
                continue
            model = truth.model(name)
            where = placement(model, case.settings, case.n_devices)
            for row in (
                found.rows[model.architecture, where],
                found.architectures[model.architecture],
                found.places[where],
                found.whole,
            ):
                row.count(name, figures)
    return found


def _figures(name: str, case: truth.Case) -> list[truth.Figure] | None:
    try:
        found = estimate(truth.model(name), case.settings, [GENERIC] * case.n_devices)
    except FathomError:
        return None
    return list(truth.figures(case, found))


def page() -> str:
    """The whole of ``docs/accuracy.md``."""
    found = table()
    refused = f"{found.unanswered:,} runs are refused by name, not guessed: their architectures have no rule yet."
    text = INTRODUCTION.format(
        asked=found.asked,
        models=len(truth.all_cases()),
        unanswered=refused if found.unanswered else "None is refused.",
    )
    places = [found.places[where].line(PLACEMENTS[where]) for where in PLACEMENTS]
    lines = [row.line(title) for title, row in sorted(found.architectures.items())]
    return (
        f"{text}{HEAD.format(title='Where')}{_joined(places)}\n"
        f"{HEAD.format(title='Architecture')}{_joined([*lines, found.whole.line('**all**')])}\n"
        f"{report.section()}"
    )


def _joined(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def bands() -> Mapping[str, Mapping[str, Band]]:
    """The figures of each architecture and place."""
    found: dict[str, dict[str, Band]] = defaultdict(dict)
    for (architecture, where), row in sorted(table().rows.items()):
        found[architecture][where] = row.band
    return found


def data() -> str:
    """The whole of ``estimator/data/accuracy.json``: a line for each architecture."""
    lines = [f"  {json.dumps(name)}: {json.dumps(found)}" for name, found in bands().items()]
    source = "make accuracy: [cases, exact, within 1 %, worst fraction] of runs measured with llama.cpp b11434"
    return f'{{"source": {json.dumps(source)}, "bands": {{\n' + ",\n".join(lines) + "\n}}\n"


def data_of_logs() -> str:
    """The whole of ``tests/data/logs/figures.json``: a line for each group of sizes."""
    lines = [f"  {json.dumps(name)}: {json.dumps(found)}" for name, found in report.sums().items()]
    source = "make accuracy, sizes of users' logs: [compared, equal by the rules of the log's build, worst fraction]"
    return f'{{"source": {json.dumps(source)}, "logs": {{\n' + ",\n".join(lines) + "\n}}\n"


def worse(before: Mapping[str, Any], now: Mapping[str, Mapping[str, Band]]) -> Iterator[str]:
    """What got worse, a sentence each."""
    for architecture, places in before.items():
        for where, old in places.items():
            was, new = Band(*old), now.get(architecture, {}).get(where, Band(0, 0, 0, 0.0))
            if new.cases < was.cases or new.exact < was.exact or new.near < was.near or new.worst > was.worst:
                yield f"{architecture} {PLACEMENTS[where]}: {tuple(new)} is worse than {tuple(was)}"


def main() -> int:
    """Prints the table, writes the files, fails where a figure got worse."""
    print(page())
    complaints = [*worse(_before(DATA, "bands"), bands()), *report.worse(_before(LOGS, "logs"), report.sums())]
    if complaints:
        print("\n".join(complaints), file=sys.stderr)
        return 1
    PAGE.write_text(page(), encoding="utf-8")
    DATA.write_text(data(), encoding="utf-8")
    LOGS.write_text(data_of_logs(), encoding="utf-8")
    return 0


def _before(path: Path, key: str) -> dict[str, Any]:
    """The figures that a file has under a key, if there is one."""
    return dict(json.loads(path.read_text(encoding="utf-8"))[key]) if path.exists() else {}


if __name__ == "__main__":
    sys.exit(main())
