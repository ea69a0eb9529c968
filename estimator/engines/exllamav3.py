"""ExLlamaV3 1.6.5: a cache of pages that is there from the start, and layers that fill one device after the other.

Line numbers are of exllamav3/. Not modelled: tensor parallelism (``-tp``), drafts, tiers of the cache in system memory
and on disk (``-ccs``, ``-dcd``), experts that are shared between device and host (``-mcs``).
"""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import TYPE_CHECKING, Final

from estimator.capacity import GIB
from estimator.cautions import Caution
from estimator.engines.base import Engine, Job
from estimator.engines.checkpoint import activations
from estimator.engines.exllamav3_modules import PAGE, Part, layer_of, modules, offloaded, whole_pages
from estimator.engines.exllamav3_recipe import recipes
from estimator.engines.exllamav3_tables import (
    CACHE_TYPES,
    GROUP,
    MAX_ONLINE,
    OPTIONS,
    RINGS,
    WEIGHT_FORMATS,
    Exl3,
    refuse,
)
from estimator.engines.layout import layout
from estimator.engines.packing import F16
from estimator.engines.pytorch import torch_lines
from estimator.engines.result import Result, Support, result
from estimator.engines.weights import tensors_of
from estimator.lines import HOST, Basis, Kind, Line, labels_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from estimator.devices import Device
    from estimator.engines.layout import Cached
    from estimator.engines.recipe import Recipe, Source
    from estimator.model import Model

RESERVE: Final = GIB // 2
"""What is left free of each device (model/model.py:644). A layer goes to the next device when the largest results of a
layer would no longer fit beside it (model/model_ls.py:200-260)."""

OUTPUT_ROWS: Final = 32
"""Rows of logits that a load allows for (``max_output_size``)."""

MAX_SAID: Final = 3
"""Kinds of layers that a line tells apart."""


class Exllamav3(Engine):
    """ExLlamaV3 with its own command line arguments."""

    id = "exllamav3"
    name = "ExLlamaV3"
    version = "1.6.5"
    source = "https://pypi.org/project/exllamav3/1.6.5/"
    family = "exllamav3"
    summary = "weights and cache of 2 to 8 bits, K and V each its own; the cache is there from the start"
    backends = ("cuda",)
    cache_types = CACHE_TYPES
    separate_kv = True
    weight_formats = WEIGHT_FORMATS
    options = OPTIONS
    shares_context = True
    context_step = PAGE

    def default_n_ctx(self, model: Model, devices: Sequence[Device]) -> int:
        """``-cs`` (model_init.py:15)."""
        return 8192

    def default_chunk(self, model: Model, devices: Sequence[Device], n_ctx: int) -> int:
        """``-chunk_size`` (model_init.py:23)."""
        return 4096

    def lay_out(self, job: Job) -> Result:
        refuse(job)
        labels = labels_of(job.devices)
        computing = list(_computing(job))
        places = _placed(job, sum(part.bytes for part in computing))
        lines = list(_host(job))
        for label, device, parts in zip(labels, job.devices, places, strict=True):
            lines += [Line(label, *part) for part in _added([*parts, *(computing if parts else [])])]
            lines += _beside(device, label, is_used=bool(parts))
        return result(job.devices, lines, tuple(_cautions(job)), n_ctx=whole_pages(job), n_requests=job.n_requests)

    def support(self, device: Device, type_k: str, type_v: str) -> Support:
        found = self.cache_type(type_k)
        assert found, type_k
        why = "attention reads it as it is, for heads of a multiple of 32 up to 512"
        if found.k == F16:
            why = "paged attention"
        return Support("supported", why, self.version, "modules/attention_fn/dispatch.py:119-135")

    def recipes(self, job: Job, source: Source) -> tuple[Recipe, ...]:
        return recipes(job, source, whole_pages(job))


def _beside(device: Device, label: str, *, is_used: bool) -> Iterator[Line]:
    """What is taken of a device beside modules; of one that none is on, only what others keep."""
    if not is_used:
        yield from (Line(label, "overhead", one.label, one.bytes, "margin", one.explain) for one in device.reserves)
        return
    yield from torch_lines(device, label)
    if device.backend != "generic":
        explain = "left free of each device unless -gs says how much to take (model/model.py:644)"
        yield Line(label, "overhead", "Reserve", RESERVE, "margin", explain)


# --- places


def _placed(job: Job, computing: int) -> list[list[Part]]:
    """Parts on each device: modules fill one after the other; what fits nowhere is on the last."""
    room = [_room(device, computing) for device in job.devices]
    places: list[list[Part]] = [[] for _ in job.devices]
    here, left = 0, room[0]
    for module in modules(job):
        size = sum(part.bytes for part in module)
        while left is not None and size > left and here < len(room) - 1:
            here += 1
            left = room[here]
        places[here] += module
        left = None if left is None else left - size
    return places


def _room(device: Device, computing: int) -> int | None:
    """Bytes for modules; None where there is no limit."""
    if device.capacity is None:
        return None
    others = sum(line.bytes for line in torch_lines(device, ""))
    return device.capacity - others - RESERVE - computing


def _added(parts: Iterable[Part]) -> Iterator[Part]:
    """Parts of one name as one, with what is alike counted."""
    alike: dict[tuple[Kind, str, Basis], Counter[Part]] = {}
    for part in parts:
        alike.setdefault((part.kind, part.label, part.basis), Counter())[part] += 1
    for (kind, label, basis), found in alike.items():
        said = [f"{n} x {part.explain}" for part, n in found.most_common(MAX_SAID)]
        more = [f"{len(found) - MAX_SAID} kinds more"] if len(found) > MAX_SAID else []
        yield Part(kind, label, sum(n * part.bytes for part, n in found.items()), basis, "; ".join([*said, *more]))


# --- what is computed, and what the host holds


def _computing(job: Job) -> Iterator[Part]:
    """The largest results of a layer: each device has room for them."""
    model, rows = job.model, min(job.chunk, whole_pages(job))
    size, explain = activations(model, rows)
    yield Part("compute", "Activations", size, "modelled", explain)
    if isinstance(job.format, Exl3):
        widest = max((prod(tensor.shape) for tensor in tensors_of(model, "matrix")), default=0)
        explain = (
            f"{widest:,} weights x 2 B: a chunk is multiplied with a matrix made whole (modules/quant/exl3.py:198)"
        )
        yield Part("compute", "One matrix at 16 bits", widest * 2, "modelled", explain)
    n_vocab = model.n_vocab_out or model.n_vocab
    explain = f"{OUTPUT_ROWS} rows x {n_vocab:,} logits x 4 B"
    yield Part("compute", "Logits", OUTPUT_ROWS * n_vocab * 4, "modelled", explain)
    if job.type_k.k != F16 and (odd := [cached for cached in layout(model) if not _is_online(cached)]):
        most = max(cached.n_head_kv * cached.n_embd_head_k for cached in odd)
        size = whole_pages(job) * most * 2 * 2
        explain = f"{whole_pages(job):,} tokens x 2 x {most:,} x 2 B: K and V of a layer, of heads not read as stored"
        yield Part("compute", "One layer at 16 bits", size, "modelled", explain)


def _is_online(cached: Cached) -> bool:
    is_whole = cached.n_embd_head_k % GROUP == 0 and cached.n_embd_head_k <= MAX_ONLINE
    return cached.attention in ("none", "latent") or is_whole


def _host(job: Job) -> Iterator[Line]:
    model, form = job.model, job.format
    assert form
    n_elements = sum(tensor.n_elements for tensor in tensors_of(model, "embedding"))
    explain = f"{n_elements:,} elements at 16 bits, in system memory (modules/embedding.py:101)"
    yield Line(HOST, "weights", "Embedding", n_elements * 2, "exact", explain)
    on_host = offloaded(job)
    if experts := [t for t in tensors_of(model, "expert") if layer_of(model, t.name_in_stack) in on_host]:
        size = sum(form.tensor_bytes("expert", tensor.shape) for tensor in experts)
        explain = f"{len(on_host)} layers (-mcl), {form.packing}"
        yield Line(HOST, "weights", "Experts", size, "modelled", explain)
    has_rings = model.architecture in RINGS and model.has_windows and not job.is_on("swa_full")
    if size := int(job.number("recurrent_cache_size") * GIB) * (has_rings or model.has_states):
        explain = f"up to {job.number('recurrent_cache_size')} GB of states and windows of earlier prompts (-rcs)"
        yield Line(HOST, "recurrent_state", "Checkpoints", size, "margin", explain)


def _cautions(job: Job) -> Iterator[Caution]:
    model = job.model
    if job.n_ctx > model.context_length * job.n_requests:
        text = f"{job.n_ctx:,} tokens are more than the {model.context_length:,} of training; the answers get worse."
        yield Caution("beyond-training-context", text)
    if job.type_k.k != F16 and any(cached.attention == "latent" for cached in layout(model)):
        yield Caution(
            "latents-have-one-type", "Of latents the bits of K count; those of V are not read (cache/mla.py)."
        )
    if job.format and job.format.note.startswith("needs"):
        yield Caution(
            "other-checkpoint", f"{job.format.label}: ExLlamaV3 loads no GGUF file, it needs such a checkpoint."
        )


ENGINES: Final = (Exllamav3(),)
