"""Writes what the weights of each bundled model take on a device, at each quantization that is offered.

    python -m tools.build_weights [--check]

All follows from the catalogue. ``--check`` writes nothing and fails if the file would change.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Final

from estimator.devices import Device
from estimator.estimate import fixed
from estimator.inverse import quantized
from estimator.memory.overhead import overhead
from estimator.settings import Settings
from estimator.sources.catalogue import QUANTIZATIONS, entries, full_precision
from estimator.survey import WEIGHTS

if TYPE_CHECKING:
    from estimator.backends import BackendName
    from estimator.model import Model

BACKENDS: Final[tuple[BackendName, ...]] = ("generic", "cuda", "metal")
"""In the order of ``estimator.survey.Stored``; ROCm stores as CUDA does."""


def main() -> int:
    """Write or check the file; 1 if the check fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    text = render([entry.id for entry in entries()])
    if not parser.parse_args().check:
        WEIGHTS.write_text(text, encoding="utf-8")
        return 0
    if WEIGHTS.read_text(encoding="utf-8") == text:
        return 0
    print(f"{WEIGHTS.name} would change", file=sys.stderr)
    return 1


def render(ids: list[str]) -> str:
    """The file's text: one model a line."""
    lines = ",\n".join(f"{json.dumps(id)}:{json.dumps(stored(id), separators=(',', ':'))}" for id in ids)
    return f"{{\n{lines}\n}}\n"


def stored(id: str) -> dict[str, list[int]]:
    """Bytes by quantization, on each backend."""
    full = full_precision(id)
    found = {}
    for name in QUANTIZATIONS:
        if model := quantized(full, name):
            found[name] = [_on(model, backend) for backend in BACKENDS]
    return found


def _on(model: Model, backend: BackendName) -> int:
    device = Device(id=backend, name=backend, backend=backend)
    costs = sum(cost.bytes for cost in overhead(device))
    return fixed(model, Settings(), [device])[0] - costs


if __name__ == "__main__":
    sys.exit(main())
