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


def best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of several runs."""
    times = []
    for _ in range(REPEATS):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return min(times)


def main() -> int:
    """Print the figures."""
    client = create_app().test_client()
    flask = best(lambda: client.get("/healthz"))
    request = best(lambda: client.get(QUERY))
    print(f"request: {request * 1e3:.2f} ms, of which ours {1 - flask / request:.0%}, Flask's {flask / request:.0%}")
    page = best(lambda: client.get("/"))
    print(f"page of a state seen before: {page * 1e3:.2f} ms, {page / request:.1f} requests")
    device = [fathom.device(DEVICE)]
    settings = fathom.Settings(n_ctx=32768)
    times = {}
    for entry in entries():
        model = catalogue_model(entry.id, "Q4_K_M")
        fathom.estimate(model, settings, device)
        times[entry.id] = best(partial(fathom.estimate, model, settings, device))
    slowest, fastest = max(times, key=times.__getitem__), min(times, key=times.__getitem__)
    median = sorted(times.values())[len(times) // 2]
    print(f"estimate: median {median * 1e3:.2f} ms over {len(times)} models (limit {LIMIT_MS} ms each)")
    print(f"  slowest {slowest} {times[slowest] / median:.1f} x, fastest {fastest} {times[fastest] / median:.1f} x")
    model = catalogue_model("llama-3.1-8b-instruct", "Q4_K_M")
    deepest = best(lambda: fathom.max_context(model, settings, device))
    points = len(fathom.curve(model, settings, device, model.context_length))
    line = best(lambda: fathom.curve(model, settings, device, model.context_length))
    one = times["llama-3.1-8b-instruct"]
    print(f"max_context: {deepest / one:.1f} estimates; curve of {points} points: {line / one:.1f} estimates")
    growth(settings, device)
    over = [id for id, seconds in times.items() if seconds * 1e3 > LIMIT_MS]
    if over:
        print(f"over the limit: {', '.join(over)}")
    slowest_architectures(settings, device)
    return 0


def growth(settings: fathom.Settings, device: Sequence[fathom.Device]) -> None:
    """How the time grows with layers, and with the points of a curve: both times 8."""
    model = catalogue_model("llama-3.1-8b-instruct", "Q4_K_M")
    few, many = (replace(model, layers=model.layers * count) for count in (1, 8))
    times = [best(partial(fathom.estimate, each, settings, device)) for each in (few, many)]
    print(f"8 times the layers ({many.n_layer}): {times[1] / times[0]:.1f} x")
    contexts = (model.context_length // 8, model.context_length)
    points = [len(fathom.curve(model, settings, device, n_ctx)) for n_ctx in contexts]
    times = [best(partial(fathom.curve, model, settings, device, n_ctx)) for n_ctx in contexts]
    print(f"{points[1] / points[0]:.1f} times the points of a curve: {times[1] / times[0]:.1f} x")


def slowest_architectures(settings: fathom.Settings, device: Sequence[fathom.Device]) -> None:
    """The longest estimate of each architecture against the limit, over bundled models and fixtures."""
    longest: dict[str, float] = {}
    for name in truth.names():
        model = truth.model(name)
        try:
            fathom.estimate(model, settings, device)
        except FathomError:
            continue
        seconds = best(partial(fathom.estimate, model, settings, device))
        longest[model.architecture] = max(seconds, longest.get(model.architecture, 0))
    print("slowest architectures, in limits:")
    for architecture in sorted(longest, key=longest.__getitem__, reverse=True)[:N_SLOWEST]:
        print(f"  {architecture} {longest[architecture] * 1e3 / LIMIT_MS:.1f}")


if __name__ == "__main__":
    sys.exit(main())
