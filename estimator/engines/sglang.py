"""SGLang 0.5.23: keeps a share of each device free for computing; weights and pools of cache fill the rest."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Final

from estimator.capacity import GIB
from estimator.cautions import Caution
from estimator.companions import ALONE
from estimator.engines import sglang_share
from estimator.engines.base import Engine, Job
from estimator.engines.checkpoint import Parts, absorbed, encoder_parts, weight_parts
from estimator.engines.layout import layout
from estimator.engines.result import Budget, Result, Support, result
from estimator.engines.sglang_cache import Pools, pools
from estimator.engines.sglang_recipe import recipes
from estimator.engines.sglang_tables import (
    CACHE_TYPES,
    OPTIONS,
    WEIGHT_FORMATS,
    WINDOWED,
    is_major,
    refusal,
    refuse,
    refuse_devices,
)
from estimator.errors import DeviceError
from estimator.lines import Kind, Line, labels_of
from estimator.memory.overhead import driver_context

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from estimator.companions import Companions
    from estimator.devices import Device
    from estimator.engines.base import Run
    from estimator.engines.recipe import Recipe, Source
    from estimator.model import Model

COMMUNICATION: Final = 201 * GIB // 100
"""What devices that work together take before weights are loaded: 1.77 to 2.01 GiB on each of eight H200 ("Init torch
distributed ends. mem usage", sgl-project/sglang PR 11716). Fewer devices were not seen."""

MOST_REQUESTS: Final = 4096
"""Requests at once where nothing else bounds them (kv_cache_configurator.py:3119-3126)."""


@dataclass(frozen=True, slots=True)
class Start:
    """What is on a device before weights are loaded, and how much of it is free."""

    device: Device
    label: str
    lines: tuple[Line, ...]

    @property
    def free(self) -> int | None:
        """Bytes."""
        capacity = self.device.capacity
        return None if capacity is None else max(capacity - sum(line.bytes for line in self.lines), 0)


class Sglang(Engine):
    """SGLang, its server."""

    id = "sglang"
    name = "SGLang"
    version = "0.5.23"
    source = "https://pypi.org/project/sglang/0.5.23/"
    family = "sglang"
    summary = "leaves a reserve for computing free and fills the rest of each device with cache for many requests"
    backends = ("cuda", "rocm")
    cache_types = CACHE_TYPES
    weight_formats = WEIGHT_FORMATS
    options = OPTIONS
    reserves_requests = False

    def job(self, model: Model, run: Run, devices: Sequence[Device], companions: Companions = ALONE) -> Job:
        """As every engine's, without devices that no type runs on."""
        refuse_devices(devices)
        return super().job(model, run, devices, companions)

    def default_chunk(self, model: Model, devices: Sequence[Device], n_ctx: int) -> int:
        """``chunked_prefill_size``, by the memory of the device."""
        return sglang_share.default_chunk(devices)

    def lay_out(self, job: Job) -> Result:
        refuse(job)
        starts = [_start(job, *pair) for pair in zip(job.devices, labels_of(job.devices), strict=True)]
        frees = [start.free for start in starts if start.free is not None]
        least = min(frees) if len(frees) == len(starts) else None
        _refuse_unlike(job, frees)
        found = pools(job)
        weights = list(_weights(job))
        cache = list(_cache(job, found))
        lines = [line for start in starts for line in start.lines]
        lines += [Line(start.label, *parts) for start in starts for parts in (*weights, *cache)]
        lines += [line for start in starts for line in _reserve(job, start, least)]
        return result(
            job.devices,
            lines,
            tuple(_cautions(job, found)),
            n_ctx=job.n_ctx,
            n_requests=job.n_requests,
            budget=_budget(job, found, least, sum(parts[2] for parts in weights)),
        )

    def support(self, device: Device, type_k: str, type_v: str) -> Support:
        found = self.cache_type(type_k)
        assert found, type_k
        why, source = refusal(found.id, device)
        if why:
            return Support("refused", why, self.version, source)
        if found.id == "fp4_mx_block16":
            why = "the cache of a layer is unpacked to 16 bits for each step"
            return Support("slow", why, self.version, "mem_cache/memory_pool.py:2841-2874")
        return Support("supported", "attention backends have kernels for it", self.version, source)

    def recipes(self, job: Job, source: Source) -> tuple[Recipe, ...]:
        return recipes(job, source)


def _start(job: Job, device: Device, label: str) -> Start:
    costs = driver_context(device)
    lines = [Line(label, "overhead", cost.label, cost.bytes, cost.basis, cost.explain) for cost in costs]
    lines += [Line(label, "overhead", kept.label, kept.bytes, "margin", kept.explain) for kept in device.reserves]
    if len(job.devices) > 1 and device.backend != "generic":
        explain = "1.77 to 2.01 GiB on each of eight H200, the most taken; fewer devices take less"
        lines.append(Line(label, "overhead", "Communication", COMMUNICATION, "margin", explain))
    return Start(device, label, tuple(lines))


def _refuse_unlike(job: Job, frees: Sequence[int]) -> None:
    """Devices of which one has less than nine tenths of another's free memory (distributed/bootstrap.py:442-456)."""
    if len(frees) == len(job.devices) and min(frees) < max(frees) * 9 // 10:
        message = f"the devices have {min(frees) / GIB:.1f} to {max(frees) / GIB:.1f} GiB free; SGLang wants them alike"
        raise DeviceError("unlike-devices", message, field="device", allowed="devices of the same memory")


def _weights(job: Job) -> Iterator[Parts]:
    yield from weight_parts(job)
    yield from encoder_parts(job)
    if twice := absorbed(job.model):
        explain = (
            f"{twice:,} elements of kv_b_proj once more at 16 bits (deepseek_common/deepseek_weight_loader.py:762)"
        )
        yield "weights", "Absorbed matrices", -(-twice * 2 // len(job.devices)), "modelled", explain


def _cache(job: Job, found: Pools) -> Iterator[Parts]:
    """What the asked requests need of the pools of each device."""
    slots = found.slots(job.n_ctx, job.n_requests, job.chunk)
    total = 0
    for part in found.parts:
        name: Kind = "kv_cache"
        if part.where == "context":
            size, text = slots * part.bytes, f"{slots:,} tokens x {part.bytes:,} B"
        elif part.where == "window" and found.fixed_window:
            size, text = found.fixed_window * part.bytes, f"{found.fixed_window:,} tokens x {part.bytes:,} B"
        elif part.where == "window":
            size, text = ceil(slots * found.ratio * part.bytes), f"{slots:,} x {float(found.ratio)} x {part.bytes:,} B"
        else:
            name, size = "recurrent_state", found.state_bytes(job.n_requests) // found.sum("state") * part.bytes
            text = f"{size // part.bytes} states of {part.bytes:,} B, one of them for padding"
        total += size
        yield name, part.label, size, "exact", f"{text}: {part.explain}"
    if more := found.total(job.n_ctx, job.n_requests, job.chunk) - total:
        states = found.state_bytes(job.n_requests)
        is_cache = (total - states) * found.split < states
        explain = f"states and cache share the pool {float(found.split)} : 1; one of them gets more than it needs"
        name = "kv_cache" if is_cache else "recurrent_state"
        yield name, "Share of the other pool", more, "exact", explain


def _reserve(job: Job, start: Start, least: int | None) -> Iterator[Line]:
    if start.free is None or least is None:
        return
    size = start.free - sglang_share.taken(job, least)
    explain = f"all but {sglang_share.why(job, least)}. Activations, graphs and the table of requests come out of it"
    yield Line(start.label, "compute", "Reserve for computing", size, "margin", explain)


def _budget(job: Job, found: Pools, least: int | None, weights: int) -> Budget | None:
    """What SGLang takes, and what its pools hold; None where some device has no limit."""
    if least is None:
        return None
    share = sglang_share.fraction(job)
    taken = sglang_share.taken(job, least)
    room = max(taken - weights, 0)
    most = job.options["max_running_requests"]
    requests = found.requests(room, job.n_ctx, job.chunk, most if isinstance(most, int) else MOST_REQUESTS)
    tokens, states = found.held(room)
    each = found.per_window(job.n_ctx) if found.window else 0
    windows = f"; a window takes {each:,} of {int(tokens * found.ratio):,}" if each and not found.fixed_window else ""
    return Budget(
        field="mem_fraction_static",
        share=share.value,
        taken=(taken,) * len(job.devices),
        pool=(room,) * len(job.devices),
        pool_tokens=tokens if found.cell() else int(requests * job.n_ctx),
        requests=requests,
        explain=(
            f"{sglang_share.why(job, least)}; beside the weights {tokens:,} tokens"
            + (f" and {states:,} states, {found.states} a request" if found.states else "")
            + f" fit{windows}"
        ),
    )


def _cautions(job: Job, found: Pools) -> Iterator[Caution]:
    model = job.model
    if job.n_ctx > model.context_length:
        yield Caution(
            "beyond-training-context",
            f"SGLang refuses {job.n_ctx:,} tokens for a model of {model.context_length:,} unless "
            "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1 is set; the answers get worse.",
        )
    if any(cached.window for cached in layout(model)) and model.architecture not in WINDOWED:
        yield Caution("whole-windows", f"SGLang caches the whole context in all layers of {model.architecture}.")
    if job.type_k.id == "fp4_mx_block16" and not is_major(job.devices[0], 10):
        yield Caution(
            "unpacked-cache",
            "fp4_mx_block16 is unpacked to 16 bits a layer at a time, for all of the pool: a large pool may not leave "
            "enough for that. A lower mem_fraction_static helps.",
        )
    if found.states > 1:
        yield Caution(
            "states-for-prefixes",
            f"Each request holds {found.states} recurrent states, most for its cached prefixes; disable_radix_cache "
            "leaves one.",
        )
    if job.format and job.format.note.startswith("needs") and model.checkpoint is None:
        yield Caution("other-checkpoint", f"{job.format.label}: SGLang needs such a checkpoint.")


ENGINES: Final = (Sglang(),)
