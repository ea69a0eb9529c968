"""What llama.cpp makes of the settings before it allocates anything (llama-context.cpp:120-308, b11434)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from estimator.errors import SettingsError
from estimator.ggml import ElementType, block_elements, cache_type, is_quantized, pad

if TYPE_CHECKING:
    from estimator.layer import Layer
    from estimator.model import Model
    from estimator.settings import Settings


STEP: Final = 256
"""Tokens that every ``n_ctx_seq`` is a multiple of (llama-context.cpp:292)."""


@dataclass(frozen=True, slots=True)
class Context:
    """The resolved parameters, in the names of ``llama_cparams``.

    ``n_ctx`` is what is really allocated over all sequences, ``n_ctx_seq`` what one sequence can use;
    ``n_tokens`` and ``n_outputs`` are the rows that the worst-case graph is reserved for.
    """

    n_ctx: int
    n_ctx_seq: int
    n_seq_max: int
    n_stream: int
    n_ubatch: int
    n_tokens: int
    n_outputs: int
    type_k: ElementType
    type_v: ElementType
    flash_attn: bool
    swa_full: bool
    offload_kqv: bool

    def cells(self, layer: Layer) -> int:
        """Cache cells of one stream in this layer: the whole context, or the window (llama-kv-cache-iswa.cpp:69-81)."""
        if not layer.n_swa or self.swa_full:
            return self.n_ctx_seq
        sequences = self.n_seq_max if self.n_stream == 1 else 1
        return pad(min(self.n_ctx_seq, layer.n_swa * sequences + self.n_ubatch), 256)

    def blocks(self, n_tokens: int) -> int:
        """Cells of one stream where ``n_tokens`` share one (llama-kv-cache-dsv4.cpp:28-30 and 1280-1305)."""
        return pad(-(-self.n_ctx_seq // n_tokens), 256)


def resolve(model: Model, settings: Settings) -> Context:
    """The context that llama.cpp would create.

    Raises:
        SettingsError: llama.cpp refuses these settings for this model.
    """
    _refuse(model, settings)
    n_seq_max = settings.n_seq_max
    asked = settings.n_ctx or model.context_length
    n_batch = min(asked, settings.n_batch) if model.traits.causal else settings.n_batch
    n_ubatch = min(n_batch, settings.n_ubatch)
    n_ctx = pad(asked, STEP)
    n_ctx_seq = n_ctx if settings.is_unified else pad(n_ctx // n_seq_max, STEP)
    n_ctx = n_ctx_seq if settings.is_unified else n_ctx_seq * n_seq_max
    n_tokens = min(n_ctx, n_ubatch)
    n_outputs_max = _n_outputs_max(model, settings, n_batch)
    _refuse_few_outputs(settings, n_outputs_max)
    return Context(
        n_ctx=n_ctx,
        n_ctx_seq=n_ctx_seq,
        n_seq_max=n_seq_max,
        n_stream=1 if settings.is_unified and not model.traits.streams_apart else n_seq_max,
        n_ubatch=n_ubatch,
        n_tokens=n_tokens,
        n_outputs=min(n_tokens, n_outputs_max),
        type_k=cache_type(settings.cache_type_k),
        type_v=cache_type(settings.cache_type_v),
        flash_attn=settings.flash_attn and model.traits.flash_attention,
        swa_full=settings.swa_full,
        offload_kqv=settings.offload_kqv,
    )


def _n_outputs_max(model: Model, settings: Settings, n_batch: int) -> int:
    """Rows of logits: llama-server asks for one a slot (server-context.cpp:42-54), 0 is the whole batch.

    With an encoder it is the whole batch whatever was asked for (llama-context.cpp:252).
    """
    if model.traits.encodes or settings.n_outputs == 0:
        return n_batch
    return min(settings.n_batch, settings.n_seq_max) if settings.n_outputs is None else settings.n_outputs


def _refuse_few_outputs(settings: Settings, n_outputs_max: int) -> None:
    """Every slot needs a row of logits: llama.cpp stops without one (llama-context.cpp:2275, ``output_reserve``)."""
    if settings.n_seq_max <= n_outputs_max:
        return
    raise SettingsError(
        "fewer-outputs-than-slots",
        f"n_parallel is {settings.n_seq_max} and every slot needs a row of logits, but llama.cpp would reserve "
        f"{n_outputs_max}: use at most {n_outputs_max}, or a larger n_outputs, n_batch or n_ctx",
        field="n_parallel",
        allowed=f"1 to {n_outputs_max}",
    )


def _refuse(model: Model, settings: Settings) -> None:
    """The conditions under which ``llama_init_from_model`` gives up (llama-context.cpp:3819-3870)."""
    type_v = cache_type(settings.cache_type_v)
    if type_v is not cache_type(settings.cache_type_k) and not all(layer.has_v for layer in model.kinds):
        raise SettingsError(
            "cache-types-must-be-equal",
            f"this model keeps K and V in one cache: cache_type_v {settings.cache_type_v} must be the same type as "
            f"cache_type_k {settings.cache_type_k}",
            field="cache_type_v",
            allowed=(settings.cache_type_k,),
        )
    flash_attn = settings.flash_attn and model.traits.flash_attention
    if is_quantized(type_v) and not flash_attn:
        remedy = "turn it on, or use" if model.traits.flash_attention else "this model runs without it, so use"
        raise SettingsError(
            "quantized-v-needs-flash-attention",
            f"cache_type_v {settings.cache_type_v} needs flash attention: {remedy} f16, bf16 or f32 for V",
            field="cache_type_v",
            allowed=("f16", "bf16", "f32"),
        )
    if model.traits.encodes and model.traits.cached and not settings.is_unified and settings.n_seq_max > 1:
        raise SettingsError(
            "one-stream-only",
            "llama.cpp gives up on this model with a cache for each sequence: turn kv_unified on, or use one sequence",
            field="kv_unified",
            allowed="true",
        )
    if flash_attn:
        for layer in model.kinds:
            _refuse_block("cache_type_k", settings.cache_type_k, layer.n_embd_head_k)
            _refuse_block("cache_type_v", settings.cache_type_v, layer.n_embd_head_v)


def _refuse_block(field: str, type_name: str, n_embd_head: int) -> None:
    """A head must fill whole blocks of a quantized type."""
    elements = block_elements(cache_type(type_name))
    if n_embd_head % elements:
        raise SettingsError(
            "head-size-not-a-multiple-of-the-block",
            f"{field} {type_name} stores blocks of {elements} elements, which do not divide this model's "
            f"head size {n_embd_head}: use f16, bf16 or f32",
            field=field,
            allowed=("f16", "bf16", "f32"),
        )
