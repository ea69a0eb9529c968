"""What an estimate costs: the share of a request that is the model's and not Flask's, and how it grows.

    python -m tests.bench.bench_request

Absolute times depend on the machine; read the shares and ratios, which are of one run.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final

import estimator as fathom
from app import create_app
from estimator.errors import FathomError
from estimator.ggml import CACHE_TYPES
from estimator.matrix import matrix
from estimator.sources.catalogue import catalogue_model, entries
from tests.estimator import truth

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REPEATS: Final = 30
DEVICE: Final = "rtx-4090"
QUERY: Final = "/api/v1/estimate?model=llama-3.1-8b-instruct&kv=q8_0"

N_SLOWEST: Final = 10
LIMIT_MS: Final = 1.0
"""One estimate of a bundled model, on a machine that does nothing else."""

SETTINGS: Final = fathom.Settings(n_ctx=32768)
"""llama-server's default run, which is stored of bundled models."""

OTHER: Final = replace(SETTINGS, n_parallel=1)
"""A run that is laid out."""

CONTEXTS: Final = range(SETTINGS.n_ctx, 2 * SETTINGS.n_ctx, 1024)


def best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of several runs."""
    return min(_seconds(work) for _ in range(REPEATS))


def _seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def cold(model: fathom.Model, run: fathom.Settings, device: Sequence[fathom.Device]) -> float:
    """Seconds of the first estimate of a model that was just built, of which not even the parts are known."""
    return min(_seconds(partial(fathom.estimate, replace(model), run, device)) for _ in range(REPEATS // 3))


def first(model: fathom.Model, run: fathom.Settings, device: Sequence[fathom.Device]) -> float:
    """Seconds of the first estimate of a run, of which nothing is known."""
    return min(_seconds(partial(fathom.estimate, _new(model, device), run, device)) for _ in range(REPEATS // 3))


def further(model: fathom.Model, run: fathom.Settings, device: Sequence[fathom.Device]) -> float:
    """Seconds of an estimate at one more context, on average over contexts of which none was asked for before."""
    times = []
    for _ in range(REPEATS // 10):
        new = _new(model, device)
        for n_ctx in CONTEXTS:
            fathom.estimate(new, replace(run, n_ctx=n_ctx), device)
        others = (replace(run, n_ctx=n_ctx + 512) for n_ctx in CONTEXTS)
        times.append(sum(_seconds(partial(fathom.estimate, new, other, device)) for other in others))
    return min(times) / len(CONTEXTS)


def _new(model: fathom.Model, device: Sequence[fathom.Device]) -> fathom.Model:
    """An equal model of which no graph is known, though facts such as which layers are alike."""
    new = replace(model)
    fathom.estimate(new, replace(SETTINGS, n_ubatch=256), device)
    return new


def main() -> int:
    """Print the figures."""
    client = create_app().test_client()
    flask = best(lambda: client.get("/healthz"))
    request = best(lambda: client.get(QUERY))
    print(f"request: {request * 1e3:.2f} ms, of which ours {1 - flask / request:.0%}, Flask's {flask / request:.0%}")
    page = best(lambda: client.get("/"))
    print(f"page of a state seen before: {page * 1e3:.2f} ms, {page / request:.1f} requests")
    device = [fathom.device(DEVICE)]
    models = {entry.id: catalogue_model(entry.id, "Q4_K_M") for entry in entries()}
    for kind, run in (("default", SETTINGS), ("other", OTHER)):
        for title, ask in (
            ("first estimate of a model", cold),
            ("first estimate of a run", first),
            ("at one more context", further),
        ):
            report(f"{kind} run, {title}", {id: ask(model, run, device) for id, model in models.items()})
    model = models["llama-3.1-8b-instruct"]
    one = first(model, OTHER, device)
    deepest = best(lambda: fathom.max_context(_new(model, device), OTHER, device))
    points = len(fathom.curve(model, OTHER, device, model.context_length))
    line = best(lambda: fathom.curve(_new(model, device), OTHER, device, model.context_length))
    print(f"other run: max_context {deepest / one:.1f} first estimates; curve of {points} points {line / one:.1f}")
    pairs = best(lambda: matrix(_new(model, device), OTHER, device))
    print(f"all {len(CACHE_TYPES) ** 2} pairs of cache types: {pairs / one:.1f} first estimates")
    growth(device)
    slowest_architectures(device)
    return 0


def report(title: str, times: dict[str, float]) -> None:
    """How the times are spread, in limits, and what takes longest."""
    limits = {id: seconds * 1e3 / LIMIT_MS for id, seconds in times.items()}
    ordered = sorted(limits, key=limits.__getitem__)
    shares = (("fastest", 0.0), ("median", 0.5), ("nine of ten", 0.9), ("slowest", 1.0))
    spread = ", ".join(f"{name} {limits[ordered[round(share * (len(ordered) - 1))]]:.2f}" for name, share in shares)
    over = sum(limit > 1 for limit in limits.values())
    print(f"{title}, in limits of {LIMIT_MS} ms: {spread}; over: {over} of {len(limits)} models")
    print(f"  slowest: {', '.join(f'{id} {limits[id]:.1f}' for id in ordered[: -N_SLOWEST - 1 : -1])}")


def growth(device: Sequence[fathom.Device]) -> None:
    """How the time grows with layers, and with the points of a curve: both times 8."""
    model = catalogue_model("llama-3.1-8b-instruct", "Q4_K_M")
    few, many = (replace(model, layers=model.layers * count) for count in (1, 8))
    times = [first(each, OTHER, device) for each in (few, many)]
    print(f"other run, 8 times the layers ({many.n_layer}): {times[1] / times[0]:.1f} x")
    contexts = (model.context_length // 8, model.context_length)
    points = [len(fathom.curve(model, OTHER, device, n_ctx)) for n_ctx in contexts]
    times = [best(partial(fathom.curve, model, OTHER, device, n_ctx)) for n_ctx in contexts]
    print(f"{points[1] / points[0]:.1f} times the points of a curve: {times[1] / times[0]:.1f} x")


def slowest_architectures(device: Sequence[fathom.Device]) -> None:
    """The longest first estimate of a run that is laid out, by architecture, over bundled models and fixtures."""
    longest: dict[str, float] = {}
    for name in truth.names():
        model = truth.model(name)
        try:
            seconds = first(model, OTHER, device)
        except FathomError:
            continue
        longest[model.architecture] = max(seconds, longest.get(model.architecture, 0))
    print("other run, slowest architectures at the first estimate, in limits:")
    for architecture in sorted(longest, key=longest.__getitem__, reverse=True)[:N_SLOWEST]:
        print(f"  {architecture} {longest[architecture] * 1e3 / LIMIT_MS:.1f}")


if __name__ == "__main__":
    sys.exit(main())
