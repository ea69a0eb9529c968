"""The comparison with users' logs as a section of ``docs/accuracy.md``, and as figures that must not get worse."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.logs.builds import RULES
from tests.logs.comparison import MIB, OPEN, compared_grid, compared_posts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tests.logs.comparison import Compared, Figure
    from tests.logs.log import Log

TEXT: Final = """## What users' logs show

Real devices and drivers answer in logs of loading a model that people posted: {n_posts} of all kinds from public
issues and repositories ({first} to {last}; CUDA, ROCm, Metal, Vulkan), and {n_grid} runs that one user made of one
hybrid model (Qwen3.5 122B A10B, its experts in part on the host) on four Tesla P100 over context, batch, flash
attention and cache type. Builds older than b11434 had other rules here and there: each that matters is named below
with what ended it, and lives in the tests alone (`tests/logs/builds.py`). A size is equal where it is the printed
number, to 0.01 MiB: as b11434 would allocate, or with the rules of the log's own build. Weights are compared where the
file is a bundled model at a known quantization, compute buffers where the model's shape is known and the log tells what
lies where.

| What | Logs | Sizes | Equal as b11434 | Equal by the build's rules | Worst |
| --- | --: | --: | --: | --: | --: |
"""

GRID: Final = """
The runs of the grid, with the rules of their builds (b8829 and its neighbours, April 2026). The last column is what
b11434 would take for the compute buffers of all devices beside what was printed.

| Runs with | Runs | Context | Rows | Weights | Cache | State | Compute | Worst | b11434 |
| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: |
"""

BUILDS: Final = """
What older builds did otherwise, each until a pull request of ggml-org/llama.cpp; logs that it concerns.

| Rule | Until | Ended by | Logs | Runs |
| --- | --: | --: | --: | --: |
"""

REMAINING: Final = """
What is left, and what is known of it:

| Log | Size | Printed | Found | Why |
| --- | --- | --: | --: | --- |
"""

NAMES: Final = {
    "weights": "Weights of a device",
    "kv_cache": "K/V cache of a device or the host",
    "recurrent_state": "Recurrent state of a device",
    "compute": "Compute buffer of a device",
}
WHOLE_CACHE: Final = "K/V cache as a whole"
HOST_COMPUTE: Final = "Compute buffer of the host"
SHORT: Final = {"weights": "weights", "kv_cache": "K/V cache", "recurrent_state": "state", "compute": "compute"}


class Sum(NamedTuple):
    """Sizes that were compared, those equal by the build's rules, and the worst error as a fraction."""

    sizes: int
    equal: int
    worst: float


def total(figures: Iterable[Figure]) -> Sum:
    found = list(figures)
    return Sum(
        len(found),
        sum(figure.is_equal for figure in found),
        round(max((figure.error for figure in found if not figure.is_equal), default=0.0), 6),
    )


def section() -> str:
    """The section in Markdown."""
    posts, runs = compared_posts(), compared_grid()
    days = sorted(found.log.date for found in posts)
    text = TEXT.format(n_posts=len(posts), n_grid=len(runs), first=days[0][:4], last=days[-1][:4])
    rows = [_what_line(name, logs, figures) for name, logs, figures in _by_what((*posts, *runs))]
    grid = [_grid_line(name, found) for name, found in _groups(runs).items()]
    builds = [_rule_line(name, posts, runs) for name in RULES]
    return f"{text}{_joined(rows)}{GRID}{_joined(grid)}{BUILDS}{_joined(builds)}{REMAINING}{_joined(_remaining())}"


def sums() -> dict[str, Sum]:
    """The figures that must not get worse, by group."""
    found = {name: total(figures) for name, _, figures in _by_what(compared_posts())}
    for name, runs in _groups(compared_grid()).items():
        found[f"grid: {name}"] = total(figure for run in runs for figure in run.figures)
    return found


def worse(before: Mapping[str, Sequence[float]], now: Mapping[str, Sum]) -> Iterator[str]:
    """What got worse, a sentence each."""
    for name, figures in before.items():
        sizes, equal, worst = figures
        new = now.get(name, Sum(0, 0, 0.0))
        if new.sizes < sizes or new.equal < equal or new.worst > worst:
            yield f"logs, {name}: {tuple(new)} is worse than {tuple(figures)}"


def _joined(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _by_what(logs: Iterable[Compared]) -> Iterator[tuple[str, int, list[Figure]]]:
    """The kind of size, the logs that have one, and the sizes."""
    found: dict[str, list[Figure]] = defaultdict(list)
    n_logs: dict[str, set[Log]] = defaultdict(set)
    for compared in logs:
        for figure in compared.figures:
            name = _name(figure)
            found[name].append(figure)
            n_logs[name].add(compared.log)
    for name in (WHOLE_CACHE, *NAMES.values(), HOST_COMPUTE):
        if found[name]:
            yield name, len(n_logs[name]), found[name]


def _name(figure: Figure) -> str:
    if figure.where == "all":
        return WHOLE_CACHE
    return HOST_COMPUTE if (figure.where, figure.kind) == ("host", "compute") else NAMES[figure.kind]


def _what_line(name: str, n_logs: int, figures: list[Figure]) -> str:
    found = total(figures)
    n_now = sum(figure.is_equal_now for figure in figures)
    return f"| {name} | {n_logs} | {found.sizes} | {n_now} | {found.equal} | {found.worst:.2%} |"


def _groups(runs: Iterable[Compared]) -> dict[str, list[Compared]]:
    """The runs of the grid by what they have in common."""
    found: dict[str, list[Compared]] = defaultdict(list)
    for run in runs:
        found[_group(run.log)].append(run)
    return dict(sorted(found.items()))


def _group(log: Log) -> str:
    if "attn" in (log.settings.cpu_tensors or ""):
        return "no flash attention, attention's weights on the host too"
    if not log.settings.flash_attn:
        return "no flash attention"
    split = ", unequal shares" if len(set(log.settings.tensor_split or ())) > 1 else ""
    return f"flash attention, {log.settings.cache_type_k}{split}"


def _grid_line(name: str, runs: list[Compared]) -> str:
    def equal(kind: str) -> str:
        found = total(figure for run in runs for figure in run.figures if figure.kind == kind)
        return f"{found.equal} of {found.sizes}"

    settings = [run.log.settings for run in runs]
    counts = [equal(kind) for kind in NAMES]
    worst = total(figure for run in runs for figure in run.figures).worst
    changes = [_change(run) for run in runs]
    cells = (
        name,
        len(runs),
        _span([found.n_ctx for found in settings]),
        _span([found.n_ubatch for found in settings]),
        *counts,
        f"{worst:.2%}",
        f"{min(changes):+.0%} to {max(changes):+.0%}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def _span(values: Iterable[int]) -> str:
    found = sorted(set(values))
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"


def _change(run: Compared) -> float:
    """How much more b11434 would take for all devices' compute buffers than the log says."""
    figures = [figure for figure in run.figures if figure.kind == "compute" and figure.where != "host"]
    printed = sum(figure.printed for figure in figures)
    return sum(figure.now for figure in figures) / MIB / printed - 1


def _rule_line(name: str, posts: Iterable[Compared], runs: Iterable[Compared]) -> str:
    rule = RULES[name]
    n_posts, n_runs = (sum(name in found.rules for found in logs) for logs in (posts, runs))
    source = re.sub(r"\d{4,}", lambda number: f"[{number[0]}]({PULL}{number[0]})", rule.source)
    return f"| {rule.what} | {rule.until} | {source} | {n_posts} | {n_runs} |"


PULL: Final = "https://github.com/ggml-org/llama.cpp/pull/"


def _remaining() -> Iterator[str]:
    for compared in (*compared_posts(), *compared_grid()):
        for figure in compared.figures:
            if not figure.is_equal:
                reason = OPEN.get((compared.log.source, figure.kind), "")
                source = compared.log.source.partition(":")[0].partition(" (")[0]
                cells = (
                    f"{source}, {compared.log.date[:7]}",
                    f"{SHORT[figure.kind]}, {figure.where}",
                    f"{figure.printed:.2f} MiB",
                    f"{figure.built / MIB - figure.printed:+.2f} MiB",
                    reason,
                )
                yield f"| {' | '.join(cells)} |"
