"""The breakdowns that llama.cpp b11434 gave itself: tests/data/truth, described in tests/data/README.md."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from estimator.settings import Settings
from estimator.sources.architectures import ARCHITECTURES
from estimator.sources.catalogue import catalogue_model, entries
from estimator.sources.compact import unpack
from estimator.sources.from_gguf import model_from_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from estimator.estimate import Estimate
    from estimator.model import Model
    from estimator.sources.gguf import GGUFHeader

DATA: Final = Path(__file__).parents[1] / "data" / "truth"
SERVED: Final = "Q4_K_M"
"""The quantization that the real models were measured at."""

TINY: Final = ("archs", "more")
"""Files of tiny models and of what was measured of them."""

PARTIAL: Final = frozenset({"ngl", "nkvo", "ot"})
"""Words of a case that leaves a part of the model on the host."""


@dataclass(frozen=True)
class Case:
    """One measurement. ``breakdown`` is llama.cpp's answer: ``n_ctx``, ``devices`` and ``host``, or its ``error``."""

    text: str
    breakdown: Mapping[str, Any]

    @property
    def words(self) -> dict[str, str]:
        return dict(word.split("=", 1) for word in self.text.split())

    @property
    def n_devices(self) -> int:
        return int(self.words.get("nd", 1))

    @property
    def is_whole(self) -> bool:
        """Whether all of the model is on devices."""
        return not PARTIAL & self.words.keys()

    @property
    def settings(self) -> Settings:
        words = self.words
        return Settings(
            n_ctx=int(words["c"]),
            n_batch=int(words.get("b", 2048)),
            n_ubatch=int(words.get("ub", 512)),
            n_parallel=int(words.get("np", 1)),
            kv_unified=words.get("kvu") == "1",
            cache_type_k=words.get("ctk", "f16"),
            cache_type_v=words.get("ctv", "f16"),
            flash_attn=words.get("fa", "1") == "1",
            swa_full=words.get("swafull") == "1",
            n_outputs=int(words["no"]),
            n_gpu_layers=int(words.get("ngl", -1)),
            tensor_split=tuple(map(float, words["ts"].split("/"))) if "ts" in words else None,
            offload_kqv=words.get("nkvo") != "1",
            cpu_tensors=words.get("ot"),
        )


class Figure(NamedTuple):
    """One size in bytes: as estimated and as measured. ``kind`` is llama.cpp's: model, context or compute."""

    share: str
    kind: str
    found: int
    measured: int


def figures(case: Case, found: Estimate) -> Iterator[Figure]:
    """All sizes of a case that llama.cpp answered, device by device and then the host."""
    measured = (*case.breakdown["devices"], case.breakdown["host"])
    for share, wanted in zip((*found.devices, found.host), measured, strict=True):
        yield Figure(share.label, "model", share.weights, wanted["model"])
        yield Figure(share.label, "context", share.kv_cache + share.recurrent_state, wanted["context"])
        yield Figure(share.label, "compute", share.compute, wanted["compute"])


@cache
def all_cases() -> Mapping[str, tuple[Case, ...]]:
    """Everything that was measured, by model: also what the memory model does not answer yet."""
    found: dict[str, list[Case]] = {}
    for name in ("models", *TINY):
        with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                found.setdefault(row["model"], []).append(Case(row["case"], row))
    return {name: tuple(cases) for name, cases in found.items()}


@cache
def _tiny() -> Mapping[str, Mapping[str, Any]]:
    packed: dict[str, dict[str, Any]] = {}
    for name in TINY:
        with gzip.open(DATA / f"{name}.json.gz", "rt", encoding="utf-8") as file:
            packed |= json.load(file)
    return {
        name: header for name, header in packed.items() if header["metadata"]["general.architecture"] in ARCHITECTURES
    }


def tiny_headers() -> Mapping[str, GGUFHeader]:
    """The headers of all tiny models whose architecture has a reading rule."""
    return {name: unpack(packed) for name, packed in _tiny().items()}


def names() -> tuple[str, ...]:
    """All measured models whose architecture has a reading rule: the bundled ones, and a tiny one an architecture."""
    return (*(id for id in (entry.id for entry in entries()) if id in all_cases() and id not in _tiny()), *_tiny())


def whole_cases(name: str, n_devices: int) -> tuple[Case, ...]:
    """What was measured of a model with all of it on so many devices."""
    return tuple(case for case in all_cases()[name] if case.is_whole and case.n_devices == n_devices)


def partial_cases(name: str) -> tuple[Case, ...]:
    """What was measured of a model with a part of it on the host."""
    return tuple(case for case in all_cases()[name] if not case.is_whole)


@cache
def model(name: str) -> Model:
    """The model that was measured."""
    if name in _tiny():
        return model_from_header(unpack(_tiny()[name]))
    return catalogue_model(name, SERVED)
