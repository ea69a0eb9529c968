"""LMDeploy 0.16.0: loads the weights, and takes eight tenths of what is free then for blocks of cache.

Files are those of the wheel, below lmdeploy.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

from estimator.cautions import Caution
from estimator.companions import ALONE
from estimator.engines.base import Engine, Job
from estimator.engines.checkpoint import Parts, encoder_parts, weight_parts
from estimator.engines.layout import layout
from estimator.engines.lmdeploy_cache import Blocks, blocks_of
from estimator.engines.lmdeploy_recipe import recipes
from estimator.engines.lmdeploy_tables import (
    CACHE_TYPES,
    OPTIONS,
    WEIGHT_FORMATS,
    backend,
    is_latent,
    max_batch_size,
    refusal,
    refuse,
    refuse_devices,
)
from estimator.engines.result import Budget, Result, Support, result
from estimator.lines import Line, labels_of
from estimator.memory.overhead import driver_context

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from estimator.companions import Companions
    from estimator.devices import Device
    from estimator.engines.base import Run
    from estimator.engines.recipe import Recipe, Source
    from estimator.model import Model

MAX_PREFILL: Final = 8192
"""``max_prefill_token_num`` (messages.py:334 and 475)."""

LEAST_BLOCKS: Final = 16
"""PyTorch halves its rows of logits until so many blocks fit (executor/base.py:222-243)."""


class Lmdeploy(Engine):
    """LMDeploy's server, with TurboMind or the PyTorch engine."""

    id = "lmdeploy"
    name = "LMDeploy"
    version = "0.16.0"
    source = "https://pypi.org/project/lmdeploy/0.16.0/"
    family = "lmdeploy"
    summary = "takes 80 % of what the weights leave free for blocks of cache, with TurboMind or PyTorch"
    backends = ("cuda",)
    cache_types = CACHE_TYPES
    weight_formats = WEIGHT_FORMATS
    options = OPTIONS
    reserves_requests = False

    def job(self, model: Model, run: Run, devices: Sequence[Device], companions: Companions = ALONE) -> Job:
        """As every engine's, without devices that no type runs on."""
        refuse_devices(devices)
        return super().job(model, run, devices, companions)

    def default_chunk(self, model: Model, devices: Sequence[Device], n_ctx: int) -> int:
        """``max_prefill_token_num``."""
        return MAX_PREFILL

    def lay_out(self, job: Job) -> Result:
        refuse(job)
        labels = labels_of(job.devices)
        blocks = blocks_of(job)
        own = [*_weights(job), *_states(job, blocks)]
        before = [list(_before(device)) for device in job.devices]
        lines = [Line(label, *parts) for label, costs in zip(labels, before, strict=True) for parts in (*costs, *own)]
        fixed = sum(parts[2] for parts in own)
        frees = [
            device.capacity - fixed - sum(cost[2] for cost in costs)
            for device, costs in zip(job.devices, before, strict=True)
            if device.capacity is not None
        ]
        least = max(min(frees), 0) if len(frees) == len(job.devices) else None
        logits = _logits(job, blocks, least)
        lines += [Line(label, *parts) for label in labels for parts in _cache(job, blocks)]
        lines += [Line(label, *parts) for label in labels for parts in _rows(job, logits)]
        if least is not None:
            lines += [_left(job, label, free, least, logits) for label, free in zip(labels, frees, strict=True)]
        return result(
            job.devices,
            lines,
            tuple(_cautions(job)),
            n_ctx=job.n_ctx,
            n_requests=job.n_requests,
            budget=_budget(job, blocks, least, logits, [fixed + sum(cost[2] for cost in costs) for costs in before]),
        )

    def support(self, device: Device, type_k: str, type_v: str) -> Support:
        found = self.cache_type(type_k)
        assert found, type_k
        why, source = refusal(found.id, device)
        if why:
            return Support("refused", why, self.version, source)
        which = f"kernels of {found.note}" if found.note.startswith("PyTorch") else "both engines have kernels for it"
        return Support("supported", which, self.version, source)

    def recipes(self, job: Job, source: Source) -> tuple[Recipe, ...]:
        return recipes(job, source)


def _before(device: Device) -> Iterator[Parts]:
    """What is on a device before LMDeploy is."""
    for cost in driver_context(device):
        yield "overhead", cost.label, cost.bytes, cost.basis, cost.explain
    for kept in device.reserves:
        yield "overhead", kept.label, kept.bytes, "margin", kept.explain


def _weights(job: Job) -> Iterator[Parts]:
    yield from weight_parts(job)
    yield from encoder_parts(job)


def _states(job: Job, blocks: Blocks) -> Iterator[Parts]:
    """PyTorch makes states for the largest batch (executor/base.py:274-300)."""
    if blocks.states:
        text = f"max_batch_size {max_batch_size(job)} and 2 more x {blocks.state:,} B at 16 bits"
        yield "recurrent_state", "States", blocks.states * blocks.state, "modelled", text


def _cache(job: Job, blocks: Blocks) -> Iterator[Parts]:
    """What the asked requests take of the pool."""
    n = job.n_requests
    if blocks.bytes:
        each = blocks.of(job.n_ctx)
        text = f"{n} requests x {each:,} blocks of {blocks.tokens} tokens, {blocks.bytes:,} B each: {blocks.explain}"
        yield "kv_cache", "Cache", n * each * blocks.bytes, "exact", text
    if blocks.pooled_state:
        text = f"{n} requests x {blocks.state:,} B at 16 bits; pages of the pool are not counted"
        yield "recurrent_state", "States", n * blocks.state, "modelled", text


def _logits(job: Job, blocks: Blocks, least: int | None) -> int:
    """Bytes that the PyTorch engine keeps for rows of logits: fewer rows if hardly a block fits beside them."""
    if backend(job) != "pytorch":
        return 0
    tokens, share = job.chunk, _share(job)
    size = _row_bytes(job, tokens)
    while (
        least is not None and tokens > 0 and blocks.bytes and int((least - size) * share) < LEAST_BLOCKS * blocks.bytes
    ):
        tokens //= 2
        size = _row_bytes(job, tokens)
    return size


def _row_bytes(job: Job, tokens: int) -> int:
    return (tokens + 2 * max_batch_size(job)) * (job.model.n_vocab_out or job.model.n_vocab) * 2


def _rows(job: Job, logits: int) -> Iterator[Parts]:
    if logits:
        n_vocab = job.model.n_vocab_out or job.model.n_vocab
        rows = logits // n_vocab // 2
        text = f"{rows:,} rows ({job.chunk:,} tokens at most, and 2 x {max_batch_size(job)}) x {n_vocab:,} logits x 2 B"
        yield "compute", "Reserve for logits", logits, "margin", text


def _share(job: Job) -> Fraction:
    return Fraction(str(job.number("cache_max_entry_count")))


def _room(job: Job, least: int, logits: int) -> int:
    """Bytes of the pool."""
    return max(int((least - logits) * _share(job)), 0)


def _left(job: Job, label: str, free: int, least: int, logits: int) -> Line:
    """What stays free beside the pool, for activations and graphs."""
    size = max(free - logits - _room(job, least, logits), 0)
    text = f"cache_max_entry_count {float(_share(job))} of {least - logits:,} B that are free is for the cache"
    return Line(label, "compute", "Left for computing", size, "margin", text)


def _budget(job: Job, blocks: Blocks, least: int | None, logits: int, fixed: Sequence[int]) -> Budget | None:
    """What LMDeploy takes, and what its blocks hold; None where some device has no limit."""
    if least is None:
        return None
    room = _room(job, least, logits)
    each = blocks.request(job.n_ctx)
    most = float(max_batch_size(job))
    requests = min(room / each, most) if each else most
    return Budget(
        field="cache_max_entry_count",
        share=job.number("cache_max_entry_count"),
        taken=tuple(size + room for size in fixed),
        pool=(room,) * len(job.devices),
        pool_tokens=room // blocks.bytes * blocks.tokens if blocks.bytes else int(requests * job.n_ctx),
        requests=requests,
        explain=(
            f"{float(_share(job))} of {least:,} B that weights leave free"
            + (f", less {logits:,} B for logits" if logits else "")
            + f"; a request of {job.n_ctx:,} tokens takes {each:,} B of it"
        ),
    )


def _cautions(job: Job) -> Iterator[Caution]:
    model = job.model
    if job.n_ctx > model.context_length:
        text = f"The model was trained for {model.context_length:,} tokens: the answers get worse beyond."
        yield Caution("beyond-training-context", text)
    if any(cached.window for cached in layout(model)):
        yield Caution("whole-windows", f"LMDeploy caches the whole context in all layers of {model.architecture}.")
    if backend(job) == "pytorch" and job.options["backend"] is None:
        why = "the model" if job.type_k.id == "none" or is_latent(model) else f"the model or {job.type_k.id}"
        yield Caution("pytorch-backend", f"TurboMind does not have {why}: this is the PyTorch engine.")
    if job.format and job.format.note.startswith("needs") and model.checkpoint is None:
        yield Caution("other-checkpoint", f"{job.format.label}: LMDeploy {job.format.note}.")


ENGINES: Final = (Lmdeploy(),)
