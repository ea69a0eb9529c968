"""What an estimate costs: the share of a request that is the model's and not Flask's, and how it grows.

    python -m tests.bench.bench_request

Absolute times depend on the machine; read the shares and ratios, which are of one run.
"""

from __future__ import annotations

import sys
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final

import estimator as fathom
from app import create_app
from estimator.sources.catalogue import catalogue_model, entries

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATS: Final = 30
DEVICE: Final = "rtx-4090"
QUERY: Final = "/api/v1/estimate?model=llama-3.1-8b-instruct&kv=q8_0"

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
    over = [id for id, seconds in times.items() if seconds * 1e3 > LIMIT_MS]
    if over:
        print(f"over the limit: {', '.join(over)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
