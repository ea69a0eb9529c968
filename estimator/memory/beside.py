"""Bytes of a projector and of LoRA adapters, and where they lie (llama.cpp b11434)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from estimator.backends import BACKENDS, alloc_bytes
from estimator.errors import ModelError
from estimator.memory.alloc import HOST
from estimator.memory.weights import weights
from estimator.model import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from estimator.backends import BackendName
    from estimator.companions import Adapter, Projector
    from estimator.memory.context import Context
    from estimator.memory.placement import Places
    from estimator.model import Model

PROJECTOR_COMPUTE: Final = 1 << 30
"""What ollama holds back for computing images, beside the projector's bytes (llm/llama_server.go:663-735). It is
enough for the six that were measured, as llama.cpp warms up headers of their shapes: LLaVA 1.5 22 MiB, InternVL 28,
Pixtral 65, Gemma 3 121, Qwen 3 VL 372, Qwen 2.5 VL 705."""

PROJECTOR_SCORES: Final = 5 << 30
"""The same without flash attention, where each pair of patches has a score: 33, 80, 87, 1132, 4769 and 4872 MiB in the
same order."""

PROJECTOR_HOST: Final = 300 << 20
"""On the host, for the image itself: 1 to 292 MiB of the same six."""


@dataclass(frozen=True, slots=True)
class BesidePart:
    """One allocation at a place: the index of a device, or ``HOST``. ``basis`` and ``explain`` as ``lines.Line``."""

    place: int
    kind: Literal["weights", "compute"]
    label: str
    bytes: int
    basis: Literal["exact", "modelled", "margin"]
    explain: str


def projector_parts(
    projector: Projector, backend: BackendName, place: int, *, flash_attn: bool
) -> Iterator[BesidePart]:
    """The weights, all in one buffer of the first device (clip.cpp:188-219 and 3642), and room for its graph.

    A projector ignores tensors that its kind does not ask for; of six that were measured none did. A larger image than
    llama.cpp warms up with may take more.
    """
    stored = sum(alloc_bytes(backend, tensor.type, tensor.shape) for tensor in projector.tensors)
    explain = f"all {len(projector.tensors)} tensors, each padded to {BACKENDS[backend].alignment} B"
    yield BesidePart(place, "weights", "Projector", stored, "modelled", explain)
    if flash_attn:
        explain = "the graph of an image is not modelled: what ollama holds back for it; 22 to 705 MiB measured"
    else:
        explain = "the graph of an image is not modelled: without flash attention 33 to 4,872 MiB measured"
    graph = PROJECTOR_COMPUTE if flash_attn else PROJECTOR_SCORES
    yield BesidePart(place, "compute", "Projector", graph, "margin", explain)
    yield BesidePart(HOST, "compute", "Projector", PROJECTOR_HOST, "margin", "the image itself: 1 to 292 MiB measured")


def adapter_parts(
    model: Model,
    adapter: Adapter,
    context: Context,
    backends: Sequence[BackendName],
    placed: Places,
    pattern: str | None,
) -> Iterator[BesidePart]:
    """A and B of each adapted tensor, in a buffer where the tensor itself lies (llama-adapter.cpp:267-345).

    Beside each adapted product the graph computes that of the adapter (llama-graph.cpp:1549-1586), for which there is a
    margin wherever it may be computed.

    Raises:
        ModelError: the adapter is of another model.
    """
    pairs = _of_model(model, adapter)
    label = f"LoRA {adapter.name}"
    margin, explain = _product(model, adapter, context, placed)
    for place, backend in (*enumerate(backends), (HOST, "generic")):
        parts = weights(pairs, backend, pattern)
        size = sum(parts.layers[il] for il in placed.held.get(place, ()))
        size += sum(parts.layers[model.n_layer + il] for il, device in enumerate(placed.nextn) if device == place)
        size += parts.output if placed.output.device == place else 0
        size += parts.inputs + parts.on_host if place == HOST else 0
        if size:
            where = f"A and B of {len(adapter.pairs)} tensors, each where the tensor lies"
            yield BesidePart(place, "weights", label, size, "exact", where)
        if margin and (size or not placed.is_whole):
            yield BesidePart(place, "compute", label, margin, "margin", explain)


def _product(model: Model, adapter: Adapter, context: Context, placed: Places) -> tuple[int, str]:
    """Room for the widest product of an adapter, in bytes, and how it comes about.

    Where the host holds a part of the model, the input, both results and the weights may be at two places. Of 760 runs
    with adapters that were measured (two and three layers, one device) none took more.
    """
    used = max((layer.n_expert_used for layer in model.layers), default=0)

    def width(pair: tuple[Tensor, Tensor]) -> int:
        a, b = pair
        times = used if len(b.shape) > 2 else 1
        once = times * b.shape[1] + b.shape[0]
        return once if placed.is_whole else once + times * (a.shape[0] + 2 * b.shape[1])

    widest = max(map(width, adapter.pairs.values()), default=0)
    fetched = 0 if placed.is_whole else max((a.n_bytes + b.n_bytes for a, b in adapter.pairs.values()), default=0)
    explain = f"at most the widest product again: {widest:,} rows x {context.n_tokens} tokens x 4 B"
    if fetched:
        explain += f", with its input and the plain result, and weights of {fetched:,} B"
    return widest * context.n_tokens * 4 + fetched, explain


@lru_cache(maxsize=64)
def _of_model(model: Model, adapter: Adapter) -> Model:
    """The model with A and B in place of each adapted tensor, under the tensor's name."""
    if adapter.architecture != model.architecture:
        message = f"lora is for {adapter.architecture[:60]} models; this one is {model.architecture}"
        raise ModelError("wrong-lora", message, field="lora", allowed=f"an adapter for {model.architecture}")
    shapes = {tensor.name: tensor.shape for tensor in model.tensors}
    for name, (a, b) in adapter.pairs.items():
        _check(name, shapes.get(name), a, b)
    pairs = tuple(Tensor(name, half.shape, half.type) for name, pair in adapter.pairs.items() for half in pair)
    return replace(model, tensors=pairs)


def _check(name: str, shape: tuple[int, ...] | None, a: Tensor, b: Tensor) -> None:
    """A and B must fit the tensor (llama-adapter.cpp:316-331); those of the embedding are stored the other way."""
    if shape is None:
        raise ModelError("wrong-lora", f"lora adapts {name}, which this model does not have", field="lora")
    n_in, n_out = (*shape, 1)[:2]
    fits = (
        (b.shape[-1], a.shape[-1]) == (n_in, n_out)
        if name == "token_embd.weight"
        else (a.shape[0], (*b.shape, 1)[1], (*a.shape, 1)[1]) == (n_in, n_out, b.shape[0])
    )
    if not fits:
        message = f"lora has {a.shape} and {b.shape} for {name}, which is {shape}: it is for another model"
        raise ModelError("wrong-lora", message, field="lora")
