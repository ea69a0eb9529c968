"""Logs of loading a model that users posted: tests/data/logs, described in tests/data/README.md."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from estimator.devices import Device, device
from estimator.ggml import ElementType
from estimator.layer import Layer
from estimator.model import Model
from estimator.settings import Settings
from estimator.sources.catalogue import catalogue_model, full_precision
from estimator.sources.quantize import quantize
from estimator.traits import PLAIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from estimator.backends import BackendName

DATA: Final = Path(__file__).parents[1] / "data" / "logs"

BACKENDS: Final[Mapping[str, BackendName]] = {"CUDA": "cuda", "ROCm": "rocm", "Metal": "metal", "Vulkan": "generic"}
"""Vulkan is not modelled: its logs are compared with a device that adds nothing."""

WINDOWS: Final = {"gemma2": 2}
"""Every so many layers one sees the whole context (llama-model.cpp, ``set_swa_pattern``)."""

ENCODERS: Final = frozenset({"bert"})

SLACK: Final = 0.1
"""MiB that sums of printed sizes leave open."""

EMBEDDING: Final = "token_embd.weight"

GRID_DEVICE: Final = "tesla-p100-pcie-16-gb"


@dataclass(frozen=True, eq=False)
class Log:
    """What one log shows. Sizes are MiB as printed, with two digits.

    ``source`` names the issue, or the repository and the file. ``date`` is the day, or the month, of the post.
    ``known`` is the id of a bundled model and its quantization, or a name in ``models.json``; "" where neither is
    known. ``shows_overrides``: it is known which weights were kept on the host by name. ``facts`` are those of the
    header that the log prints. ``buffers`` are sizes by kind, then by the name that llama.cpp gives the buffer;
    ``k_mib`` and ``v_mib`` the cache as a whole.
    """

    source: str
    date: str
    backend: str
    settings: Settings
    buffers: Mapping[str, Mapping[str, float]]
    known: str = ""
    name: str = ""
    architecture: str = ""
    file_gib: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    k_mib: float | None = None
    v_mib: float | None = None
    shows_overrides: bool = True
    in_grid: bool = False

    @cached_property
    def device_names(self) -> tuple[str, ...]:
        """The devices that have a compute buffer, as llama.cpp calls them."""
        return tuple(name for name in self.buffers["compute"] if not is_host(name))

    @cached_property
    def devices(self) -> tuple[Device, ...]:
        if self.in_grid:
            return (device(GRID_DEVICE),) * len(self.device_names)
        return tuple(Device(id=name, name=name, backend=BACKENDS[self.backend]) for name in self.device_names)

    @property
    def tells_split(self) -> bool:
        """Whether it is known which device holds which layer, and which weights are on the host."""
        is_split = len(self.device_names) == 1 or self.settings.tensor_split is not None
        return self.shows_overrides and is_split

    @cached_property
    def model(self) -> Model | None:
        """The model, where it is known with all its tensors. Its quantization may still be another.

        Files of old have their input embedding first. Metal maps it only where it lies between other tensors: without
        it the buffers of both sides add up to the file.
        """
        if not self.known:
            return None
        if self.in_grid:
            return _model_of_grid(self.known)
        model = catalogue_model(*self.known.split(" "))
        if self.backend == "Metal" and abs(self._printed_weights - model.weights_bytes / 2**20) < SLACK:
            return replace(model, tensors=tuple(sorted(model.tensors, key=lambda tensor: tensor.name != EMBEDDING)))
        return model

    @property
    def _printed_weights(self) -> float:
        return sum(self.buffers["model"].values())

    @cached_property
    def shows_its_file(self) -> bool:
        """Whether the file is the known model's at its quantization: then its element types are known too.

        The printed size of the file tells, and that its tensors lie in buffers, some of them perhaps in two.
        """
        if self.model is None or self.in_grid:
            return self.in_grid
        size = self.model.weights_bytes
        return self.file_gib == round(size / 2**30, 2) and self._printed_weights > size / 2**20 - SLACK

    def printed(self, kind: str, name: str) -> float | None:
        """The size of a buffer of a device, or of all of the ``"host"``; None where the log has none."""
        sizes = self.buffers.get(kind, {})
        if name == "host":
            found = [size for buffer, size in sizes.items() if is_host(buffer)]
        else:
            found = [size for buffer, size in sizes.items() if re.fullmatch(f"{name}(_Mapped|_Split)?", buffer)]
        return sum(found) if found else None

    @cached_property
    def printed_cache(self) -> float:
        """All of the K/V cache."""
        if self.k_mib is None or self.v_mib is None:
            return sum(self.buffers["kv"].values())
        return self.k_mib + self.v_mib

    @property
    def keeps_latent(self) -> bool:
        """Whether the cache holds what K and V of all heads are made of (MLA), as far as the facts tell."""
        return self.architecture == "deepseek2" and self.facts.get("n_head_kv") == 1

    @cached_property
    def cached_model(self) -> Model:
        """A model with this log's cache: the known one, or one made of the facts, which can tell nothing else."""
        return self.model or _model_of_facts(self)


def is_host(buffer: str) -> bool:
    """Whether a buffer of this name lies in system memory."""
    return buffer.startswith(("CPU", "AMX")) or buffer.endswith("_Host")


@cache
def posted() -> tuple[Log, ...]:
    """Logs of many users, models, devices and builds."""
    return tuple(_log(row) for row in _rows("posted"))


@cache
def grid() -> tuple[Log, ...]:
    """Runs of one hybrid model on four P100, its experts in part on the host, by one user."""
    return tuple(_log(row | {"date": row["source"][:10], "backend": "CUDA"}, in_grid=True) for row in _rows("grid"))


def _rows(name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _log(row: dict[str, Any], *, in_grid: bool = False) -> Log:
    return Log(
        source=row["source"],
        date=row["date"],
        backend=row["backend"],
        settings=Settings(**row["settings"]),
        buffers=row["buffers"],
        known=row.get("model", ""),
        name=row.get("name", ""),
        architecture=row.get("arch", ""),
        file_gib=_gib(row.get("file_size")),
        facts=row.get("facts", {}),
        k_mib=row.get("k_mib"),
        v_mib=row.get("v_mib"),
        shows_overrides=row.get("shows_overrides", True),
        in_grid=in_grid,
    )


def _gib(text: str | None) -> float | None:
    """The number in ``4.58 GiB (4.89 BPW)``."""
    if not text:
        return None
    number, unit = text.split()[:2]
    return float(number) if unit == "GiB" else round(float(number) / 1024, 2)


@cache
def _model_of_grid(name: str) -> Model:
    """A bundled model with other element types, or with two tensors of its experts as one."""
    said = json.loads((DATA / "models.json").read_text(encoding="utf-8"))[name]
    model = full_precision(said["model"])
    if "types" in said:
        kept = ElementType.F32
        tensors = [
            tensor if tensor.type is kept else replace(tensor, type=_type(tensor.name, said["types"]))
            for tensor in model.tensors
        ]
        return replace(model, tensors=tuple(tensors))
    fused = []
    for tensor in model.tensors:
        if "ffn_up_exps" in tensor.name:
            n_embd, n_ff, n_expert = tensor.shape
            tensor = replace(tensor, name=tensor.name.replace("up", "gate_up"), shape=(n_embd, 2 * n_ff, n_expert))
        if "ffn_gate_exps" not in tensor.name:
            fused.append(tensor)
    layers = tuple(replace(layer, fused_exps=True) for layer in model.layers)
    return quantize(replace(model, tensors=tuple(fused), layers=layers), said["quantization"])


def _type(name: str, types: list[list[str]]) -> ElementType:
    return ElementType.__members__[next(element for pattern, element in types if re.search(pattern, name))]


def _model_of_facts(log: Log) -> Model:
    """A model with no more than a cache.

    What a latent attention keeps is in K: a V beside it comes from the rules of older builds.
    """
    facts = log.facts
    n_layer = facts["n_layer"]
    heads = facts["n_head_kv"] if isinstance(facts["n_head_kv"], list) else [facts["n_head_kv"]] * n_layer
    period = WINDOWS.get(log.architecture)
    layers = tuple(
        Layer(
            n_head=0,
            n_head_kv=n_head_kv,
            n_embd_head_k=facts["n_embd_head_k"],
            n_embd_head_v=0 if log.keeps_latent else facts["n_embd_head_v"],
            n_swa=facts["n_swa"] if period and il % period < period - 1 else 0,
            n_ff=0,
        )
        for il, n_head_kv in enumerate(heads)
    )
    traits = replace(PLAIN, cached=False) if log.architecture in ENCODERS else PLAIN
    return Model(log.architecture, log.name, log.settings.n_ctx, facts["n_embd"], 0, layers, (), traits=traits)
