"""Transformers 5.23.0 with ``generate``: a cache that is copied when it grows, and one layer whole when it is read.

Line numbers are of transformers/. Not modelled: several devices (``device_map``), assisted decoding, beams, compiled
graphs. A checkpoint whose config.json sets a window that llama.cpp ignores (Mistral 7B v0.1, Phi-3 mini) keeps less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from estimator.cautions import Caution
from estimator.engines.base import Engine, Job
from estimator.engines.checkpoint import Parts, activations, columns, encoder_parts, weight_parts
from estimator.engines.layout import counts, shown
from estimator.engines.pytorch import ROUNDED_FROM, ROUNDED_TO, SEGMENT, torch_lines
from estimator.engines.result import Result, Support, result
from estimator.engines.transformers_recipe import recipes
from estimator.engines.transformers_tables import (
    CACHE_TYPES,
    OPTIONS,
    WEIGHT_FORMATS,
    backend,
    packing,
    refuse,
)
from estimator.lines import HOST, Line, labels_of
from estimator.settings import MAX_N_BATCH

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from estimator.devices import Device
    from estimator.engines.layout import Cached
    from estimator.engines.recipe import Recipe, Source
    from estimator.model import Model

HQQ_QUANTIZES: Final = 4 + 5 * 2
"""Bytes for each element of K while HQQ fits its scales: K as f32, and five of two bytes (hqq quantize.py:118,
optimize.py:201-240). As written; not measured."""

QUANTO_QUANTIZES: Final = 3 * 2
"""The same for Quanto: what is divided, rounded and clamped (optimum-quanto, tensor/weights). Not measured."""

FP8_READS: Final = 4 + 4 + 2
"""Bytes for each element of V while fp8 is read: as f32, scaled, and in the model's type (cache_utils.py:990-993)."""

LOGIT_BYTES: Final = 2 + 4
"""Of a logit: in the model's type, and as f32 for the sampler; only of the last token (generation/utils.py:2954)."""

IN_FLIGHT: Final = 2
"""Layers of an offloaded cache on the device: the one that is read, and the next (cache_utils.py:1560-1572)."""


class Transformers(Engine):
    """A Python process that calls ``generate``."""

    id = "transformers"
    name = "Transformers"
    version = "5.23.0"
    source = "https://pypi.org/project/transformers/5.23.0/"
    family = "transformers"
    summary = "the reference in Python: a prompt is computed at once, and a quantized cache is read layer by layer"
    backends = ("cuda", "rocm")
    cache_types = CACHE_TYPES
    weight_formats = WEIGHT_FORMATS
    options = OPTIONS
    max_devices = 1

    def default_chunk(self, model: Model, devices: Sequence[Device], n_ctx: int) -> int:
        """All of a prompt, unless ``prefill_chunk_size`` is set (generation/utils.py:4312)."""
        return min(n_ctx, MAX_N_BATCH)

    def lay_out(self, job: Job) -> Result:
        refuse(job)
        (label,) = labels_of(job.devices)
        kept = [_held(job, cached, n_layer) for cached, n_layer in counts(job.model).items()]
        parts = [*weight_parts(job), *encoder_parts(job), *_states(job), *_computing(job, kept)]
        lines = [Line(label, *part) for part in parts if part[2]]
        lines += _cache_lines(job, label, [held for held in kept if held.n_token])
        lines += torch_lines(job.devices[0], label)
        return result(job.devices, lines, tuple(_cautions(job)), n_ctx=job.n_ctx, n_requests=job.n_requests)

    def support(self, device: Device, type_k: str, type_v: str) -> Support:
        found = self.cache_type(type_k)
        assert found, type_k
        if not backend(found):
            return Support("supported", "read as it is", self.version, "cache_utils.py:105-186")
        why = "each layer is made 16-bit whole at every token"
        return Support("slow", why, self.version, "cache_utils.py:781-1033")

    def recipes(self, job: Job, source: Source) -> tuple[Recipe, ...]:
        return recipes(job, source)


@dataclass(frozen=True, slots=True)
class Held:
    """What layers of one kind keep of all requests.

    Args:
        cached: the kind.
        n_layer: layers.
        n_token: elements that a token adds to one layer.
        tokens: tokens of all requests that are kept.
        bytes: of one layer.
    """

    cached: Cached
    n_layer: int
    n_token: int
    tokens: int
    bytes: int

    @property
    def wide(self) -> int:
        """Bytes of one layer at 16 bits."""
        return self.tokens * self.n_token * 2


def _held(job: Job, cached: Cached, n_layer: int) -> Held:
    """All classes with latent attention cache the latent itself (``kv_nope, k_rot``, models/deepseek_v3:459)."""
    n_token = cached.n_elements if cached.attention != "none" else 0
    tokens = job.n_requests * _tokens(job, cached)
    return Held(cached, n_layer, n_token, tokens, tokens * packing(job).row_bytes(n_token))


def _tokens(job: Job, cached: Cached) -> int:
    """Tokens that a layer keeps of a request.

    After a prompt a layer with a window keeps a view of all that it was given, until the next token makes a new tensor
    (cache_utils.py:245-257); of a static cache only the window.
    """
    is_static = str(job.options["cache_implementation"]).endswith("static")
    return cached.tokens(job.n_ctx, 0 if is_static else job.chunk - 1)


def _is_offloaded(job: Job, held: Held) -> bool:
    """Layers with windows stay: they are small once a prompt is computed (cache_utils.py:1515)."""
    return str(job.options["cache_implementation"]).startswith("offloaded") and not held.cached.window


def _cache_lines(job: Job, label: str, kept: Sequence[Held]) -> Iterator[Line]:
    for held in kept:
        where = f" in a window of {held.cached.window:,}" if held.cached.window else ""
        name = f"Cache of attention{where}"
        explain = f"{held.n_layer} layers x {held.tokens:,} tokens x {packing(job)} of {held.n_token:,} elements"
        explain += f" ({shown(held.cached)})"
        if not _is_offloaded(job, held):
            yield Line(label, "kv_cache", name, held.n_layer * held.bytes, "exact", explain)
            continue
        yield Line(HOST, "kv_cache", name, held.n_layer * held.bytes, "exact", explain)
        n = min(IN_FLIGHT, held.n_layer)
        explain = f"{n} layers at a time: the one that is read and the next"
        yield Line(label, "kv_cache", f"{name}, on the way", n * held.bytes, "modelled", explain)
    residual = min(job.whole("residual_length") - 1, job.n_ctx) if backend(job.type_k) in ("hqq", "quanto") else 0
    if residual:
        n_token = sum(held.n_layer * held.n_token for held in kept)
        explain = f"{job.n_requests} x {residual} tokens x {n_token:,} elements of all layers x 2 B, not quantized yet"
        yield Line(label, "kv_cache", "Residual", job.n_requests * residual * n_token * 2, "exact", explain)


def _states(job: Job) -> Iterator[Parts]:
    """States are f32 where kernels of the model give them so, the most that is known (cache_utils.py:1190-1230)."""
    for cached, n_layer in counts(job.model).items():
        if cached.is_recurrent:
            conv = columns(job.model, cached.n_conv)
            size = job.n_requests * n_layer * (conv * 2 + cached.n_state * 4)
            explain = f"{job.n_requests} x {n_layer} layers x ({conv:,} x 2 B + {cached.n_state:,} x 4 B)"
            yield "recurrent_state", "Recurrent state", size, "modelled", explain


def _computing(job: Job, kept: Sequence[Held]) -> Iterator[Parts]:
    chunk = min(job.chunk, job.n_ctx)
    size, explain = activations(job.model, job.n_requests * chunk)
    yield "compute", "Activations", size, "modelled", explain
    n_vocab = job.model.n_vocab_out or job.model.n_vocab
    explain = f"{job.n_requests} rows x {n_vocab:,} logits x {LOGIT_BYTES} B: of the last token only"
    yield "compute", "Logits", job.n_requests * n_vocab * LOGIT_BYTES, "modelled", explain
    if attending := [held for held in kept if held.n_token]:
        widest = max(attending, key=lambda held: held.wide)
        yield from _reading(job, widest)
        yield from _expanding(job, attending, chunk)
        yield from _rounding(job, attending)


def _reading(job: Job, widest: Held) -> Iterator[Parts]:
    """What one layer takes a second time when a token comes."""
    how, wide = backend(job.type_k), widest.wide
    if not how:
        if not str(job.options["cache_implementation"]).endswith("static"):
            part = max(widest.cached.n_embd_head_k, widest.cached.n_embd_head_v) * widest.cached.n_head_kv * 2
            size = widest.tokens * part
            explain = f"{widest.tokens:,} tokens x {part:,} B: K of one layer is copied as it grows (torch.cat)"
            yield "compute", "Growth of one layer", size, "modelled", explain
        return
    if how == "fp8":
        size = wide // 2 + widest.tokens * widest.n_token // 2 * FP8_READS
        explain = f"{wide // 2:,} B of K and {FP8_READS} B an element of V, as one layer is read"
    else:
        each = HQQ_QUANTIZES if how == "hqq" else QUANTO_QUANTIZES
        size = 2 * wide + widest.tokens * widest.n_token // 2 * each
        explain = f"2 x {wide:,} B (read, and with new tokens), and {each} B an element of K as it is quantized again"
    yield "compute", "One layer at 16 bits", size, "modelled", explain + "; not measured"


def _is_masked(job: Job, chunk: int) -> bool:
    """Whether sdpa is given a mask: for windows, batches of unlike length, and parts of a prompt (masking_utils.py)."""
    has_windows = any(cached.window and job.n_ctx > cached.window for cached in counts(job.model))
    return has_windows or job.n_requests > 1 or chunk < job.n_ctx


def _expanding(job: Job, kept: Sequence[Held], chunk: int) -> Iterator[Parts]:
    """K and V of all heads of one layer, where they are repeated or made of a latent, and scores or a mask."""
    rows = job.n_requests * chunk * job.n_ctx
    how = str(job.options["attn_implementation"])
    is_masked = how == "sdpa" and _is_masked(job, chunk)
    sizes = [_expanded(held, repeats=is_masked or how == "eager") for held in kept]
    if most := max(sizes):
        explain = f"{most:,} B: K and V of all heads of one layer (repeat_kv, expand_kv)"
        yield "compute", "Heads of one layer", most, "modelled", explain
    if how == "eager":
        n_head = max(held.cached.n_head for held in kept)
        explain = f"{n_head} heads x {rows:,} scores x 8 B: computed, masked, as f32 and back"
        yield "compute", "Scores of attention", n_head * rows * 8, "modelled", explain
    elif is_masked:
        yield "compute", "Attention mask", rows * 3, "modelled", f"{rows:,} x (1 + 2) B: as bits and as numbers"


def _expanded(held: Held, *, repeats: bool) -> int:
    cached = held.cached
    if cached.attention == "latent":
        return 2 * held.tokens * cached.n_expanded * 2  # as the matrix gives them, and with the rotated part beside
    if not repeats or cached.n_head == cached.n_head_kv:
        return 0
    return held.tokens * cached.n_head * (cached.n_embd_head_k + cached.n_embd_head_v) * 2


def _rounding(job: Job, kept: Sequence[Held]) -> Iterator[Parts]:
    """What PyTorch's allocator leaves between tensors: K and V of each layer are tensors of their own."""
    if job.devices[0].backend == "generic":
        return
    large = sum(2 * held.n_layer for held in kept if held.bytes // 2 >= ROUNDED_FROM and not _is_offloaded(job, held))
    size = large * ROUNDED_TO + SEGMENT
    explain = f"{large} tensors rounded up to 2 MiB and a segment of 20 MiB (c10/cuda/CUDACachingAllocator)"
    yield "overhead", "Allocator", size, "margin", explain


def _cautions(job: Job) -> Iterator[Caution]:
    model = job.model
    if job.n_ctx > model.context_length:
        text = f"{job.n_ctx:,} tokens are more than the {model.context_length:,} of training; the answers get worse."
        yield Caution("beyond-training-context", text)
    if job.run.chunk is None and any(cached.window and job.n_ctx > cached.window for cached in counts(model)):
        text = (
            "Transformers computes a prompt at once, so windows save nothing then and their mask is as large as the "
            "context squared: set prefill_chunk_size."
        )
        yield Caution("windows-save-nothing", text)
    if job.format and job.format.option and any(layer.n_expert for layer in model.kinds):
        text = f"{job.format.label} narrows linear layers; experts are none, they stay at 16 bits."
        yield Caution("experts-not-quantized", text)


ENGINES: Final = (Transformers(),)
