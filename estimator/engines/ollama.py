"""Ollama 0.33.0-rc2: llama-server (b10488) underneath, with defaults of its own for context, batch and layers.

The estimate is llama.cpp's, as of the build that Fathom models. Models in safetensors, which Ollama runs on Macs with
MLX (``x/mlxrunner``), are not these. Since July 2026 there is no other engine in it: earlier releases computed a cache
of f16, with a warning, where a quantized one needs flash attention and there is none; now llama-server refuses.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from estimator.capacity import GIB, MIB
from estimator.cautions import Caution
from estimator.companions import ALONE
from estimator.engines.base import Engine, Job
from estimator.engines.llama_cpp import ENGINES as PROGRAMS
from estimator.engines.llama_cpp import of_estimate, of_kernel, wrapped
from estimator.engines.ollama_recipe import recipes
from estimator.engines.options import Option
from estimator.engines.result import Point, Result, Support
from estimator.errors import SettingsError
from estimator.fit import curve, max_context
from estimator.kernels import cached_head_sizes
from estimator.lines import SAFE_MARGIN
from estimator.settings import MAX_N_PARALLEL, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator.companions import Companions
    from estimator.devices import Device
    from estimator.engines.base import Run
    from estimator.engines.recipe import Recipe, Source
    from estimator.model import Model

VERSION: Final = "0.33.0-rc2"

CONTEXTS: Final = ((47, 262_144), (23, 32_768), (0, 4096))
"""(GiB of all devices from which it holds, tokens of a request) (server/routes.go:2049-2057)."""

BATCHES: Final = ((32_768, 2048), (4096, 1024), (0, 512))
"""(tokens of all requests above which it holds, tokens of a batch) (server/sched.go:790-835)."""

HEADROOM: Final = {2048: (60, 2 * GIB), 1024: (75, 768 * MIB)}
"""A batch is lowered where the prediction is above so many percent of the memory, or it and so many bytes above 80
(server/sched.go:872-911)."""

CONSTRAINED: Final = 256
"""The batch of CUDA without flash attention on 8 GiB or less, above 4096 tokens; on more it is 512."""

ONE_AT_A_TIME: Final = frozenset(
    {
        "mllama",
        "qwen3vl",
        "qwen3vlmoe",
        "qwen35",
        "qwen35moe",
        "qwen3next",
        "lfm2",
        "lfm2moe",
        "nemotron_h",
        "nemotron_h_moe",
    }
)
"""Architectures whose requests wait for each other whatever ``OLLAMA_NUM_PARALLEL`` says (server/sched.go:498-510)."""

MAX_OVERHEAD: Final = 2**40

OPTIONS: Final = (
    Option(
        name="num_gpu",
        label="Layers on devices",
        kind="whole",
        default=-1,
        flag="num_gpu",
        low=-1,
        high=10_000,
        summary="counted from the last; -1 = as many as leave 1 GiB free",
    ),
    Option(
        name="gpu_overhead",
        label="Bytes that Ollama leaves to others",
        kind="whole",
        default=0,
        flag="OLLAMA_GPU_OVERHEAD",
        high=MAX_OVERHEAD,
        summary="lowers the default context; llama-server is not told of it",
    ),
)


class Ollama(Engine):
    """Ollama's server."""

    id = "ollama"
    name = "Ollama"
    version = f"{VERSION} (llama-server b10488)"
    source = "https://github.com/ollama/ollama/tree/fb3076099"
    family = "llama.cpp"
    summary = "llama-server with one request at a time, and a context that the memory of the devices decides"
    backends = ("cuda", "rocm", "metal")
    # OLLAMA_KV_CACHE_TYPE is handed to llama-server unread (llm/llama_server.go:393-396); these are documented
    cache_types = tuple(kind for kind in PROGRAMS[0].cache_types if kind.id in ("f16", "q8_0", "q4_0"))
    options = OPTIONS
    max_requests = MAX_N_PARALLEL
    caps_context = True

    def default_n_ctx(self, model: Model, devices: Sequence[Device]) -> int:
        """By the memory of all devices, less what was told to be left to others."""
        return self._default_n_ctx(devices, 0)

    def _default_n_ctx(self, devices: Sequence[Device], overhead: int) -> int:
        memory = sum((device.capacity or MAX_OVERHEAD) - overhead for device in devices)
        return next(tokens for gib, tokens in CONTEXTS if memory >= gib * GIB or not gib)

    def job(self, model: Model, run: Run, devices: Sequence[Device], companions: Companions = ALONE) -> Job:
        """As ``Engine.job``, with a batch that follows from what Ollama predicts."""
        job = super().job(model, run, devices, companions)
        n_ctx = run.n_ctx or self._default_n_ctx(devices, job.whole("gpu_overhead"))
        job = replace(job, n_ctx=min(n_ctx, model.context_length), flash_attn=_flash_attn(job))
        if model.architecture in ONE_AT_A_TIME or not model.traits.cached:
            job = replace(job, n_requests=1)
        return job if run.chunk else replace(job, chunk=_batch(job))

    def lay_out(self, job: Job) -> Result:
        _refuse(job)
        found = of_estimate(job, _settings(job))
        return replace(found, warnings=(*found.warnings, *_cautions(job, found)))

    def max_context(
        self, model: Model, run: Run, devices: Sequence[Device], companions: Companions = ALONE, *, spare: int = 0
    ) -> int:
        """As ``Engine.max_context``, never more than the model was trained for.

        A larger batch may be chosen for a context that is not so deep, so each batch has a deepest one of its own.
        """
        job = self.job(model, run, devices, companions)
        _refuse(job)
        found = {
            chunk: max_context(model, _settings(replace(job, chunk=chunk)), devices, companions, spare=spare)
            // job.n_requests
            for chunk in _chunks(job)
        }
        ends = {min(end, model.context_length) for end in (*found.values(), *_tiers(job))}
        return max((end for end in ends if 0 < end <= found[_chunk_at(job, end)]), default=0)

    def curve(
        self, model: Model, run: Run, devices: Sequence[Device], last: int, companions: Companions = ALONE
    ) -> tuple[Point, ...]:
        """As ``Engine.curve``: of each batch the stretch where it is chosen; it ends where the model's context does."""
        job = self.job(model, run, devices, companions)
        end = min(last, model.context_length)
        points = {}
        for chunk in _chunks(job):
            settings = _settings(replace(job, chunk=chunk))
            for point in curve(model, settings, devices, end * job.n_requests, companions):
                n_ctx = min(point.n_ctx // job.n_requests, model.context_length)
                if _chunk_at(job, n_ctx) == chunk:
                    points[n_ctx] = wrapped(point.estimate)
        for n_ctx in {end, *(tier for tier in _tiers(job) if tier < end)}:
            points[n_ctx] = self.estimate(model, replace(run, n_ctx=n_ctx), devices, companions)
        return tuple(Point(n_ctx, points[n_ctx]) for n_ctx in sorted(points))

    def support(self, device: Device, type_k: str, type_v: str) -> Support:
        return of_kernel(device, type_k, type_v)._replace(version=self.version)

    def support_for(self, model: Model, device: Device, type_k: str, type_v: str) -> Support:
        return of_kernel(device, type_k, type_v, cached_head_sizes(model))._replace(version=self.version)

    def recipes(self, job: Job, source: Source) -> tuple[Recipe, ...]:
        return recipes(job, source)


def _settings(job: Job) -> Settings:
    """How Ollama starts llama-server (llm/llama_server.go:348-440): ``-np`` is always given, so caches are apart."""
    return Settings(
        n_ctx=job.n_ctx * job.n_requests,
        n_batch=job.chunk,
        n_ubatch=job.chunk,
        n_parallel=job.n_requests,
        cache_type_k=job.type_k.id,
        cache_type_v=job.type_v.id,
        flash_attn=job.flash_attn is not False,
        n_gpu_layers=job.whole("num_gpu"),
    )


def _flash_attn(job: Job) -> bool:
    """``OLLAMA_FLASH_ATTENTION``, else off for old cards (llm/llama_server.go:597-625, ml/device.go:571-600)."""
    if job.flash_attn is not None:
        return job.flash_attn
    versions = [device.compute_capability for device in job.devices if device.backend == "cuda"]
    return not any(version and (version < (6, 0) or version == (7, 2)) for version in versions)


def _refuse(job: Job) -> None:
    if job.companions.draft is not None:
        raise SettingsError("not-modelled", "draft: Ollama's own drafts are not modelled", field="draft")
    if job.type_k.id != "f16" and not job.flash_attn:
        message = (
            f"cache_type_k {job.type_k.id} needs flash attention, without which llama-server does not start: use f16, "
            "or set OLLAMA_FLASH_ATTENTION=1. Ollama before July 2026 used f16 with a warning"
        )
        raise SettingsError("quantized-v-needs-flash-attention", message, field="cache_type_k", allowed=("f16",))


# --- the batch


def _batch(job: Job) -> int:
    """``automaticGenerationBatch`` (server/sched.go:822-835): by the context, lowered until it fits the prediction."""
    tokens = job.n_ctx * job.n_requests
    if not job.flash_attn and any(device.backend == "cuda" for device in job.devices):
        is_small = any((device.capacity or 8 * GIB + 1) <= 8 * GIB for device in job.devices)
        return CONSTRAINED if is_small and tokens > 4096 else 512
    batch = next(batch for more_than, batch in BATCHES if tokens > more_than)
    while batch in HEADROOM and not _fits(job, batch):
        batch //= 2
    return batch


def _fits(job: Job, batch: int) -> bool:
    if any(device.capacity is None for device in job.devices):
        return True
    kept = sum(reserve.bytes for device in job.devices for reserve in device.reserves)
    available = sum(device.capacity or 0 for device in job.devices) - kept
    percent, surcharge = HEADROOM[batch]
    predicted = _predicted(job)
    return predicted <= available * percent // 100 and predicted + surcharge <= available * 80 // 100


def _predicted(job: Job) -> int:
    """``PredictServerVRAM``: the file, and an f16 cache of whole heads in every layer (llama_server.go:2681-2702)."""
    model = job.model
    heads = min((layer.n_head_kv for layer in model.layers), default=0)
    width = model.n_embd // max(max((layer.n_head for layer in model.layers), default=1), 1)
    return model.weights_bytes + 2 * model.n_layer * heads * width * job.n_ctx * job.n_requests * 2


def _chunks(job: Job) -> tuple[int, ...]:
    """Batches that may be chosen."""
    return (job.chunk,) if job.run.chunk else (2048, 1024, 512, CONSTRAINED)


def _chunk_at(job: Job, n_ctx: int) -> int:
    """The batch that is chosen for a context."""
    return job.chunk if job.run.chunk else _batch(replace(job, n_ctx=n_ctx))


def _tiers(job: Job) -> tuple[int, ...]:
    """Contexts up to which a smaller batch is chosen."""
    return () if job.run.chunk else tuple(tokens // job.n_requests for tokens, _ in BATCHES if tokens)


# --- what to know


def shown_by_ps(found: Result) -> tuple[int, int]:
    """What ``ollama ps`` shows: bytes of all buffers, and those on devices (llm/llama_server.go:2638-2670)."""
    on_devices = sum(share.total - share.overhead for share in found.devices)
    return on_devices + found.host.total - found.host.overhead, on_devices


def _cautions(job: Job, found: Result) -> list[Caution]:
    size, on_devices = shown_by_ps(found)
    percent = 100 if job.whole("num_gpu") < 0 else round(100 * on_devices / max(size, 1))
    cautions = [
        Caution(
            "ollama-ps",
            f"ollama ps will show {size / 1e9:.1f} GB and {percent}% GPU: its buffers, without the driver's context.",
        )
    ]
    if job.run.n_ctx > job.n_ctx:
        text = f"Ollama lowers {job.run.n_ctx:,} tokens to the {job.n_ctx:,} that the model was trained for."
        cautions.append(Caution("context-capped", text))
    if job.run.n_requests and job.run.n_requests > job.n_requests:
        text = (
            f"Ollama runs {job.model.architecture} models for one request at a time, whatever OLLAMA_NUM_PARALLEL says."
        )
        cautions.append(Caution("one-request-at-a-time", text))
    if job.whole("num_gpu") < 0 and not found.leaves(SAFE_MARGIN):
        cautions.append(
            Caution(
                "layers-in-system-memory", "Ollama leaves 1 GiB free: some layers will be in system memory, slower."
            )
        )
    return cautions


ENGINES: Final = (Ollama(),)
