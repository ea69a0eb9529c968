"""What a user should know about an estimate that its numbers do not say."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from estimator.ggml import ElementType, block_elements, is_quantized
from estimator.kernels import CUDA_VECTOR_HEAD_SIZES, SLOW_BEFORE, as_read, cached_head_sizes, kernel, odd_head_size
from estimator.sources.quantize_rules import BASE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from estimator.devices import Device
    from estimator.memory.context import Context
    from estimator.model import Model
    from estimator.settings import Settings


class Caution(NamedTuple):
    """A stable code for programs and a sentence for people."""

    code: str
    text: str


def cautions(model: Model, settings: Settings, context: Context, devices: Sequence[Device]) -> tuple[Caution, ...]:
    """Everything worth saying about running ``model`` so."""
    return (
        *_of_weights(model),
        *_about_context(model, settings, context),
        *_about_attention(model, context, devices),
        *_about(devices),
    )


@lru_cache(maxsize=256)
def _of_weights(model: Model) -> tuple[Caution, ...]:
    return tuple(_about_weights(model))


def _about_weights(model: Model) -> Iterator[Caution]:
    if model.checkpoint is not None and model.checkpoint.quantization is not None:
        yield Caution(
            "converted-checkpoint",
            f"The checkpoint is quantized ({model.checkpoint.quantization}), which llama.cpp cannot load as it is: the "
            f"estimate is for the GGUF that it converts to, in {model.file_type}.",
        )
    quantized = [tensor for tensor in model.tensors if is_quantized(tensor.type)]
    base = BASE.get(model.file_type or "")
    if model.file_type == "MXFP4_MOE" and all(tensor.type is not ElementType.MXFP4 for tensor in quantized):
        yield Caution(
            "no-experts-for-mxfp4", "MXFP4_MOE narrows experts only; this model has none, so it takes 8 bits."
        )
    elif base is not None:
        block = block_elements(base)
        wider = [tensor for tensor in quantized if tensor.shape[0] % block]
        if wider and 2 * sum(tensor.n_bytes for tensor in wider) > model.weights_bytes:
            choice = " MXFP4_MOE keeps the experts at 4 bits." if any(layer.n_expert for layer in model.layers) else ""
            yield Caution(
                "wider-weights",
                f"Rows of {wider[0].shape[0]:,} do not fill the {block}-element blocks of {model.file_type}: "
                f"llama-quantize stores most of this model in wider types than the name says.{choice}",
            )


def _about_context(model: Model, settings: Settings, context: Context) -> Iterator[Caution]:
    if context.n_ctx_seq > model.context_length:
        yield Caution(
            "beyond-training-context",
            f"A sequence of {context.n_ctx_seq:,} tokens is longer than the {model.context_length:,} that the model "
            "was trained for: it fits in memory, but the answers get worse.",
        )
    if settings.n_ctx and settings.n_ctx != context.n_ctx:
        yield Caution("context-rounded", f"llama.cpp rounds {settings.n_ctx:,} tokens to {context.n_ctx:,}.")
    if context.n_stream > 1:
        yield Caution(
            "context-per-slot", f"Each of the {context.n_stream} slots has {context.n_ctx_seq:,} tokens of its own."
        )
    if settings.n_ubatch > settings.n_batch:
        yield Caution(
            "ubatch-limited",
            f"llama.cpp limits the ubatch of {settings.n_ubatch:,} tokens to the batch of {settings.n_batch:,}.",
        )


def _about_attention(model: Model, context: Context, devices: Sequence[Device]) -> Iterator[Caution]:
    if not context.flash_attn:
        return
    backends = {device.backend for device in devices}
    type_k, type_v = as_read(context.type_k), as_read(context.type_v)
    if "metal" in backends and type_k is not type_v:
        yield Caution(
            "metal-mixed-kv-types",
            "Metal has no flash attention for K and V of different types: attention then runs on the CPU, far slower. "
            "Use the same type for both.",
        )
    if ElementType.IQ4_NL in (type_k, type_v) and backends & {"cuda", "rocm", "metal"}:
        yield Caution(
            "iq4-nl-on-cpu",
            "CUDA, ROCm and Metal have no flash attention for an iq4_nl cache: attention then runs on the CPU, far "
            "slower. q4_0 takes the same memory.",
        )
    speeds = {kernel(backend, type_k, type_v).speed for backend in backends}
    if "slow" in speeds and "cpu" not in speeds:
        yield Caution(
            "kv-pair-without-kernel",
            f"CUDA and ROCm builds have no kernel for a cache of {_pair(context)} unless they were built with "
            f"GGML_CUDA_FA_QUANTS=all: the cache of each layer is converted to f16 for every token; {SLOW_BEFORE}.",
        )
    sizes = cached_head_sizes(model)
    with_heads = {kernel(backend, type_k, type_v, sizes).speed for backend in backends}
    if "slow" in with_heads and speeds == {"fast"}:
        yield Caution(
            "kv-heads-read-in-f16",
            f"CUDA and ROCm read a cache of {_pair(context)} as it is with heads of 64, 128 or 256 only: with those of "
            f"{min(sizes - CUDA_VECTOR_HEAD_SIZES)} the cache of each layer is converted to f16 for every token.",
        )
    for backend in sorted(backends):
        if odd := odd_head_size(backend, model):
            yield Caution(
                "head-size-without-flash-attention",
                f"{backend.upper()} may have no flash attention for heads of {odd}: attention then runs on the CPU.",
            )


def _pair(context: Context) -> str:
    return " and ".join(dict.fromkeys(side.name.lower() for side in (context.type_k, context.type_v)))


def _about(devices: Sequence[Device]) -> Iterator[Caution]:
    for device in dict.fromkeys(devices):
        if device.capacity_basis == "derived":
            yield Caution(
                "capacity-derived", f"The memory of {device.name} was not seen in a log: {device.capacity_source}."
            )
