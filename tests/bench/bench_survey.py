"""What a survey costs: the whole catalogue times its quantizations times the K/V pairs, and how that grows.

    python -m tests.bench.bench_survey

Absolute times depend on the machine; read the ratios, which are of one run. ``--cold`` prints the seconds of the first
survey of this process, with every pair of cache types, and nothing else.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final

import estimator as fathom
from app import create_app
from estimator.inverse import PAIRS
from estimator.sources.catalogue import QUANTIZATIONS, catalogue_model, entries
from estimator.survey import smaller_pairs, survey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REPEATS: Final = 5
CARD: Final = "rtx-4090"
SETTINGS: Final = fathom.Settings(n_ctx=32768)
OTHER: Final = replace(SETTINGS, n_parallel=1)
"""A run that is laid out."""

MODEL: Final = "llama-3.1-8b-instruct"
POINTS: Final = 256

LARGE: Final = "cuda-2000gb"
LAYERS: Final = ("llama-3.2-1b-instruct", "meta-llama-3.1-405b")
"""16 and 126 of them."""

KEPT: Final = tuple(pair for pair in PAIRS if "iq4_nl" not in pair)
"""All pairs that CUDA has a kernel for, fast or not."""


def seconds(work: Callable[[], object]) -> float:
    """Of one run."""
    start = perf_counter()
    work()
    return perf_counter() - start


def best(work: Callable[[], object]) -> float:
    """Of the fastest of several."""
    return min(seconds(work) for _ in range(REPEATS))


def surveyed(
    devices: Sequence[str] = (CARD,),
    pairs: Sequence[tuple[str, str]] = KEPT,
    ids: Sequence[str] | None = None,
    settings: fathom.Settings = SETTINGS,
) -> list[object]:
    """A survey with every quantization."""
    return list(survey(settings, [fathom.device(id) for id in devices], QUANTIZATIONS, pairs, ids))


def cold() -> float:
    """Seconds of the first survey of a fresh process."""
    command = [sys.executable, "-m", "tests.bench.bench_survey", "--cold"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def fresh(model: fathom.Model) -> fathom.Model:
    """An equal model of which no graph is known."""
    return replace(model)


def main() -> int:
    """Print the figures."""
    if "--cold" in sys.argv:
        print(seconds(surveyed))
        return 0
    catalogue()
    growth()
    runs()
    return 0


def catalogue() -> None:
    """The whole matrix, and the survey of a page."""
    first, warm = min(cold() for _ in range(REPEATS)), best(surveyed)
    n_cells = len(entries()) * len(QUANTIZATIONS) * len(KEPT)
    print(f"{len(entries())} models x {len(QUANTIZATIONS)} quantizations x {len(KEPT)} pairs: {n_cells:,} cells")
    print(f"  in a fresh process {first:.2f} s, {first / n_cells * 1e6:.1f} us a cell; warm {warm / first:.0%} of that")
    devices = [fathom.device(CARD)]
    pairs = smaller_pairs(("f16", "f16"), devices)
    print(f"  with the {1 + len(pairs)} fast pairs {best(partial(surveyed, pairs=pairs)) / warm:.0%} of warm")
    client = create_app().test_client()
    client.get("/what-runs")
    seen, other = best(lambda: client.get("/what-runs")), seconds(lambda: client.get("/what-runs?ctx=16k"))
    print(f"  the page {other / warm:.1f} of warm; of a state seen before {seen / other:.0%} of that")


def growth() -> None:
    """How the time grows with the catalogue, with layers, with devices: never faster than they do."""
    ids = [entry.id for entry in entries()]
    half, whole = (best(partial(surveyed, ids=some)) for some in (ids[::2], ids))
    print(f"twice the models: {whole / half:.1f} x")
    few, many = (best(partial(surveyed, devices=[LARGE], ids=[id])) for id in LAYERS)
    print(f"7.9 times the layers: {many / few:.1f} x")
    one, two = (best(partial(surveyed, devices=(CARD,) * count)) for count in (1, 2))
    print(f"twice the devices: {two / one:.1f} x")
    some = [entry.id for entry in entries()[20:40]]
    surveyed(devices=(CARD,) * 4, pairs=(), ids=some)  # makes the models
    laid_out = [seconds(partial(surveyed, devices=(CARD,) * n, pairs=(), ids=some)) for n in (3, 6)]
    print(f"twice the devices, laid out: {laid_out[1] / laid_out[0]:.1f} x")


def runs() -> None:
    """A run that is not kept in files: one fit, one curve, and a whole survey, in first estimates of a run."""
    model, devices = catalogue_model(MODEL, "Q4_K_M"), [fathom.device(CARD)]
    estimate = best(lambda: fathom.estimate(fresh(model), OTHER, devices))
    fit = best(lambda: fathom.max_context(fresh(model), OTHER, devices))
    print(f"one fit: {fit / estimate:.1f} first estimates")
    contexts = [(index + 1) * model.context_length // POINTS for index in range(POINTS)]

    def curve() -> None:
        new = fresh(model)
        for n_ctx in contexts:
            fathom.estimate(new, replace(OTHER, n_ctx=n_ctx), devices)

    print(f"a curve of {POINTS} points: {best(curve) / estimate:.1f} first estimates")
    other = partial(surveyed, pairs=(), settings=OTHER)
    first, again = seconds(other), best(other)
    print(f"a survey that is laid out: {first / estimate / len(entries()):.1f} first estimates a model, ", end="")
    print(f"then {again / first:.0%} of that")


if __name__ == "__main__":
    sys.exit(main())
