"""vLLM 0.33.0: takes a share of each device, fills what weights and computing leave of it with a pool of cache."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Final

from estimator.capacity import GIB, MIB
from estimator.cautions import Caution
from estimator.engines.base import Engine, Job
from estimator.engines.checkpoint import Parts, absorbed, encoder_parts, weight_parts, widest
from estimator.engines.result import Budget, Result, Support, result
from estimator.engines.vllm_cache import Plan, plan
from estimator.engines.vllm_recipe import recipes
from estimator.engines.vllm_tables import CACHE_TYPES, OPTIONS, WEIGHT_FORMATS, max_num_seqs, refusal, refuse, tier
from estimator.errors import SettingsError
from estimator.lines import Basis, Kind, Line, labels_of
from estimator.memory.overhead import driver_context

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from estimator.devices import Device
    from estimator.engines.recipe import Recipe, Source
    from estimator.model import Model

GRAPHS: Final = 8 * GIB // 10
"""CUDA graphs as vLLM estimates them: 0.78 GiB (Qwen3.5-9B on an L40S, v0.19.0) and 0.64 (Qwen3.5-4B, v0.22.0) with
sizes up to 512, 0.37 up to 256 (Qwen2.5-7B, v0.22.0). Other hybrids, and two devices, were seen to take 1.6 to 2.0."""

LIBRARIES: Final = 963 * MIB
"""What a start took of the budget beyond weights, pool, graphs and the activations counted here: 0.94 GiB (Qwen2.5-7B,
v0.22.0) and 0.75 (gpt-oss-20b on an A100, v0.19.0): kernels, workspaces of cuBLAS and FlashInfer, buffers of inputs.
Encoders of images come on top: some 0.6 GiB more with Qwen3.5-4B."""

LOGIT_BYTES: Final = 2 + 4 + 4
"""Of a logit when the sampler is profiled: in the model's type, in f32, and as the probabilities that are drawn from
(v1/worker/gpu/sample/sampler.py). v0.22 and before sorted them, which took 26."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What one device holds apart from the cache, line by line, and the share that vLLM takes of it."""

    device: Device
    label: str
    lines: tuple[Line, ...]
    budget: int | None

    @property
    def room(self) -> int | None:
        """Bytes of the budget for the pool."""
        return None if self.budget is None else self.budget - sum(line.bytes for line in self.lines)


class Vllm(Engine):
    """vLLM, its API server."""

    id = "vllm"
    name = "vLLM"
    version = "0.33.0"
    source = "https://pypi.org/project/vllm/0.33.0/"
    family = "vllm"
    summary = "takes 92 % of each device and fills it with cache for many requests"
    backends = ("cuda", "rocm")
    cache_types = CACHE_TYPES
    weight_formats = WEIGHT_FORMATS
    options = OPTIONS
    reserves_requests = False

    def default_chunk(self, model: Model, devices: Sequence[Device], n_ctx: int) -> int:
        """``max_num_batched_tokens`` of the API server (engine/arg_utils.py:2972-3006)."""
        return (16384, 8192, 2048)[tier(devices[0])]

    def lay_out(self, job: Job) -> Result:
        refuse(job)
        pool = plan(job, len(job.devices), int(str(job.options["block_size"])))
        labels = labels_of(job.devices)
        needs = [_needs(job, device, label) for device, label in zip(job.devices, labels, strict=True)]
        states = 2 if job.is_on("enable_prefix_caching") else 1
        per_request = sum(group.blocks(job.n_ctx, job.chunk, states) for group in pool.groups)
        cache = list(_cache_lines(job, pool, states))
        lines = [line for need in needs for line in need.lines]
        lines += [Line(label, *parts) for label in labels for parts in cache]
        return result(
            job.devices,
            lines,
            tuple(_cautions(job, pool)),
            n_ctx=job.n_ctx,
            n_requests=job.n_requests,
            budget=_budget(job, needs, pool, per_request),
            capacities=[need.budget for need in needs],
        )

    def support(self, device: Device, type_k: str, type_v: str) -> Support:
        found = self.cache_type(type_k)
        assert found, type_k
        why, source = refusal(found.id, device)
        if why:
            return Support("refused", why, self.version, source)
        return Support("supported", "an attention backend has kernels for it", self.version, source)

    def recipes(self, job: Job, source: Source) -> tuple[Recipe, ...]:
        return recipes(job, source)


def _needs(job: Job, device: Device, label: str) -> Needs:
    lines = tuple(Line(label, *parts) for parts in (*_weights(job), *_computing(job)))
    if device.capacity is None:
        return Needs(device, label, lines, None)
    share = job.number("gpu_memory_utilization")
    budget = ceil(device.capacity * share)
    # vLLM looks at what is free after the driver's context is there (v1/worker/utils.py:780-800)
    context = sum(cost.bytes for cost in driver_context(device))
    free = device.capacity - context - sum(reserve.bytes for reserve in device.reserves)
    if budget > free:
        most = int(100 * free / device.capacity) / 100
        message = (
            f"gpu_memory_utilization {share} asks for {budget / GIB:.2f} GiB of {device.name}, but only "
            f"{max(free, 0) / GIB:.2f} GiB are free: use at most {most:.2f}"
        )
        raise SettingsError("budget-not-free", message, field="gpu_memory_utilization", allowed=f"up to {most:.2f}")
    return Needs(device, label, lines, budget)


def _weights(job: Job) -> Iterator[Parts]:
    """What each device holds of the weights; latent attention keeps ``W_UK_T`` and ``W_UV`` besides."""
    yield from weight_parts(job)
    if twice := absorbed(job.model):
        explain = f"{twice:,} elements of kv_b_proj once more at 16 bits, by head (mla_attention.py)"
        yield "weights", "Absorbed matrices", -(-twice * 2 // len(job.devices)), "modelled", explain
    yield from encoder_parts(job)


def _computing(job: Job) -> Iterator[Parts]:
    """The peak of the run that vLLM profiles, and what is taken beside torch's tensors."""
    yield "compute", "Activations", *_activations(job)
    if job.devices[0].backend == "generic":
        return
    if not job.is_on("enforce_eager"):
        yield "overhead", "CUDA graphs", GRAPHS, "margin", "0.37 to 0.78 GiB in three logs of vLLM, the most taken"
    explain = "0.75 and 0.94 GiB left unexplained in two logs, the most taken: kernels, workspaces, buffers"
    yield "overhead", "Libraries and workspaces", LIBRARIES, "margin", explain


def _activations(job: Job) -> tuple[int, Basis, str]:
    """The larger of a layer's results for a whole batch, and of the sampler's for a row of logits a request.

    Residual and hidden state are whole on each device; what matrices give is cut by tensor parallelism. Experts give
    ``k`` rows for each token (fused_moe.py:1748-1760).
    """
    model, n, tokens = job.model, len(job.devices), job.chunk
    wide = max((widest(layer) for layer in model.kinds), default=0)
    forward = tokens * (2 * model.n_embd + -(-wide // n)) * 2
    rows, n_vocab = max_num_seqs(job), model.n_vocab_out or model.n_vocab
    sampler = tokens * model.n_embd * 2 + rows * n_vocab * LOGIT_BYTES
    if forward >= sampler:
        explain = f"{tokens:,} tokens x (2 x {model.n_embd:,} + {wide:,} / {n}) x 2 B in the widest layer; not measured"
        return forward, "modelled", explain
    explain = (
        f"{rows:,} rows x {n_vocab:,} logits x {LOGIT_BYTES} B and {tokens:,} x {model.n_embd:,} x 2 B; not measured"
    )
    return sampler, "modelled", explain


def _cache_lines(job: Job, pool: Plan, states: int) -> Iterator[Parts]:
    """What the asked requests take of the pool of each device."""
    for group in pool.groups:
        kind = group.kind
        blocks = group.blocks(job.n_ctx, job.chunk, states)
        size = job.n_requests * blocks * pool.bytes_per_block
        what = f"a block of {kind.block:,} tokens" if kind.token else "a state"
        explain = (
            f"{job.n_requests} requests x {blocks:,} blocks x {pool.bytes_per_block:,} B; {kind.n_layer} layers, "
            f"{kind.explain}, {what} is {kind.page:,} B" + (f", {group.n_group} tables" if group.n_group > 1 else "")
        )
        name: Kind = "recurrent_state" if kind.attention == "state" else "kv_cache"
        yield name, f"Cache of {kind.label}", size, "exact", explain
    if pool.groups:
        yield "kv_cache", "Null block", pool.bytes_per_block, "exact", "held back by vLLM (kv_cache_planning.py:1535)"


def _budget(job: Job, needs: Sequence[Needs], pool: Plan, per_request: int) -> Budget | None:
    """What vLLM takes, and what its pool holds; None where some device has no limit."""
    budgets = [need.budget for need in needs if need.budget is not None]
    if len(budgets) < len(needs):
        return None
    rooms = [max(need.room or 0, 0) for need in needs]
    blocks = min(rooms) // pool.bytes_per_block if pool.bytes_per_block else 0
    requests = blocks / per_request if per_request else float(max_num_seqs(job))
    share = job.number("gpu_memory_utilization")
    return Budget(
        field="gpu_memory_utilization",
        share=share,
        taken=tuple(budgets),
        pool=tuple(rooms),
        pool_tokens=int(requests * job.n_ctx),
        requests=requests,
        explain=(
            f"{share} of each device; {blocks:,} blocks of {pool.bytes_per_block:,} B fit beside all else, and a "
            f"request of {job.n_ctx:,} tokens takes {per_request:,}"
        ),
    )


def _cautions(job: Job, pool: Plan) -> Iterator[Caution]:
    model = job.model
    if job.n_ctx > model.context_length:
        yield Caution(
            "beyond-training-context",
            f"vLLM refuses {job.n_ctx:,} tokens for a model of {model.context_length:,} unless "
            "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 is set; the answers get worse.",
        )
    if pool.padding:
        yield Caution(
            "padding-layers",
            f"vLLM groups layers of different kinds by number: {pool.padding} layers are cached that the model lacks.",
        )
    if job.type_k.id.startswith(("turboquant", "ultraquant")) and not model.has_states:
        yield Caution("boundary-layers", f"{job.type_k.id} leaves the first and the last two layers at 16 bits.")
    if job.format and job.format.note.startswith("needs") and model.checkpoint is None:
        yield Caution("other-checkpoint", f"{job.format.label}: vLLM loads no GGUF file, it needs such a checkpoint.")


ENGINES: Final = (Vllm(),)
