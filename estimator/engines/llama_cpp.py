"""llama.cpp's programs: one engine, but each with defaults of its own that decide memory (b11434)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from estimator.companions import ALONE
from estimator.engines.base import Engine, Job
from estimator.engines.llama_cpp_recipe import recipe
from estimator.engines.options import Option
from estimator.engines.packing import CacheType, Packing, cache_type, nominal_bits
from estimator.engines.result import Point, Result, Support
from estimator.estimate import MAX_DEVICES, estimate
from estimator.fit import curve, max_context
from estimator.ggml import CACHE_TYPES, block_elements, row_bytes
from estimator.ggml import cache_type as element_type
from estimator.kernels import cached_head_sizes, kernel
from estimator.settings import MAX_N_BATCH, MAX_N_PARALLEL, Settings
from estimator.sources.hparams import MAX_LAYERS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from estimator.companions import Companions
    from estimator.devices import Device
    from estimator.engines.base import Run
    from estimator.engines.options import Value
    from estimator.engines.recipe import Recipe, Source
    from estimator.estimate import Estimate
    from estimator.model import Model


@dataclass(frozen=True, slots=True)
class Program:
    """A program of llama.cpp.

    Args:
        id: its name on the command line.
        summary: what sets it apart, for people.
        n_parallel: slots where ``-np`` is not given; -1 = llama-server's choice.
        n_outputs: rows of logits that it reserves; None = one a slot, 0 = every row of the ubatch.
        loads_companions: it can load a draft and a projector beside the model.
    """

    id: str
    summary: str
    n_parallel: int
    n_outputs: int | None
    loads_companions: bool = True

    def settings(self, **given: Any) -> Settings:
        """Settings with this program's defaults for what is not ``given``."""
        return Settings(**{"n_parallel": self.n_parallel, "n_outputs": self.n_outputs, **given})


EXPERTS: Final = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"
DENSE: Final = r"\.ffn_(up|down|gate)\."
"""Weights of a feed-forward by their names (common/common.h:1224-1226)."""


def kept_on_cpu(n_cpu_moe: int, n_cpu_ffn: int) -> str | None:
    """The pattern of the tensors that ``--n-cpu-moe``, ``--cpu-moe`` and ``--n-cpu-ffn`` keep in host memory.

    Args:
        n_cpu_moe: the first layers whose experts stay there; -1 = all (``--cpu-moe``).
        n_cpu_ffn: the first layers whose dense feed-forward stays there.
    """
    patterns = [EXPERTS] if n_cpu_moe < 0 else [f"blk\\.{below(n_cpu_moe)}{EXPERTS}"] if n_cpu_moe else []
    patterns += [f"blk\\.{below(n_cpu_ffn)}{DENSE}"] if n_cpu_ffn else []
    return "|".join(patterns) or None


def below(n: int) -> str:
    """A pattern of the whole numbers below ``n``, which is at least 1: ``(\\d|1[0-6])`` for 17."""
    digits = str(n - 1)
    shorter = [r"\d" if length == 1 else "[1-9]" + r"\d" * (length - 1) for length in range(1, len(digits))]
    same = []
    for place, digit in enumerate(digits):
        low = 1 if place == 0 and len(digits) > 1 else 0
        if int(digit) > low:
            rest = r"\d" * (len(digits) - place - 1)
            same.append(f"{digits[:place]}[{low}-{int(digit) - 1}]{rest}")
    return f"({'|'.join([*shorter, *same, digits])})"


PROGRAMS: Final = (
    # tools/server/server.cpp:168-173, server-context.cpp:42-54
    Program("llama-server", "4 slots that share one cache, logits for one row a slot", n_parallel=-1, n_outputs=None),
    # tools/cli/cli-server.h:34-45: the server's code with n_parallel 1 (common.h:460)
    Program("llama-cli", "one conversation, logits for one row", n_parallel=1, n_outputs=None),
    # n_outputs_max is never set, so every row of the ubatch gets logits (llama-context.cpp:252)
    Program("llama-bench", "one sequence, logits for every row; as do llama-perplexity and most bindings", 1, 0, False),
)
"""The default comes first."""


def program(id: str) -> Program | None:
    """The program of this name, if it is known."""
    return next((program for program in PROGRAMS if program.id == id), None)


VERSION: Final = "b11434"
SOURCE: Final = "https://github.com/ggml-org/llama.cpp/tree/b11434"


def _cache_type(name: str) -> CacheType:
    """A type of ggml: blocks of 32 elements with one or two factors of two bytes, or no blocks."""
    element, bits = element_type(name), nominal_bits(name)
    block = block_elements(element)
    extra = 8 * row_bytes(element, block) - block * bits
    return cache_type(name, name, Packing(bits, block if extra else 0, extra))


DEFAULT_FIRST: Final = ("f16", *(name for name in CACHE_TYPES if name != "f16"))

OPTIONS: Final = (
    Option(
        name="n_gpu_layers",
        label="Layers on devices",
        kind="whole",
        default=-1,
        flag="-ngl",
        low=-1,
        high=10_000,
        summary="counted from the last, the output layer first; -1 = all",
    ),
    Option(
        name="n_cpu_moe",
        label="Layers whose experts stay in system memory",
        kind="whole",
        default=0,
        flag="-ncmoe",
        low=-1,
        high=MAX_LAYERS,
        summary="the first layers; -1 = all",
    ),
    Option(
        name="n_cpu_ffn",
        label="Layers whose dense feed-forward stays in system memory",
        kind="whole",
        default=0,
        flag="-ncffn",
        high=MAX_LAYERS,
        summary="the first layers",
    ),
    Option(
        name="tensor_split",
        label="Share of each device",
        kind="shares",
        default=None,
        flag="-ts",
        summary="by free memory unless it is said",
    ),
    Option(
        name="offload_kqv",
        label="Cache on devices",
        kind="switch",
        default=True,
        flag="-nkvo",
        summary="off keeps the cache in system memory",
    ),
    Option(
        name="swa_full",
        label="Full-size cache for windows",
        kind="switch",
        default=False,
        flag="--swa-full",
        summary="layers with a sliding window cache the whole context",
    ),
    Option(
        name="n_batch",
        label="Logical batch",
        kind="whole",
        default=2048,
        flag="-b",
        low=1,
        high=MAX_N_BATCH,
        summary="tokens that are handed over at once; the ubatch is no larger",
    ),
)


class LlamaCpp(Engine):
    """A program of llama.cpp. The estimate is ``estimator.estimate``'s, to the byte."""

    family = "llama.cpp"
    version = VERSION
    source = SOURCE
    backends = ("cuda", "rocm", "metal")
    cache_types = tuple(map(_cache_type, DEFAULT_FIRST))
    separate_kv = True
    options: tuple[Option, ...] = OPTIONS
    shares_context = True
    context_step = 256
    max_requests = MAX_N_PARALLEL
    mixes_backends = True
    max_devices = MAX_DEVICES

    def __init__(self, program: Program) -> None:
        self.program = program
        self.id = self.name = program.id
        self.summary = program.summary
        self.reserves_requests = program.id != "llama-bench"
        if program.id == "llama-bench":  # tools/llama-bench/llama-bench.cpp:1317
            self.options = tuple(option for option in OPTIONS if option.name != "swa_full")

    def default_requests(self, model: Model, devices: Sequence[Device]) -> int:
        return self.program.settings().n_seq_max

    def default_chunk(self, model: Model, devices: Sequence[Device], n_ctx: int) -> int:
        """``n_ubatch`` (common.h:457)."""
        return 512

    def settings(self, job: Job) -> Settings:
        """The job in llama.cpp's own parameters.

        Raises:
            SettingsError: they contradict each other.
        """
        given: dict[str, Any] = {} if job.run.n_requests is None else {"n_parallel": job.n_requests}
        return self.program.settings(
            n_ctx=job.run.n_ctx,
            n_batch=job.whole("n_batch"),
            n_ubatch=job.chunk,
            cache_type_k=job.type_k.id,
            cache_type_v=job.type_v.id,
            flash_attn=job.flash_attn is not False,
            swa_full=job.options.get("swa_full") is True,
            n_gpu_layers=job.whole("n_gpu_layers"),
            tensor_split=_shares(job.options.get("tensor_split")),
            offload_kqv=job.is_on("offload_kqv"),
            cpu_tensors=kept_on_cpu(job.whole("n_cpu_moe"), job.whole("n_cpu_ffn")),
            **given,
        )

    def lay_out(self, job: Job) -> Result:
        return of_estimate(job, self.settings(job))

    def max_context(
        self, model: Model, run: Run, devices: Sequence[Device], companions: Companions = ALONE, *, spare: int = 0
    ) -> int:
        job = self.job(model, run, devices, companions)
        return max_context(model, self.settings(job), devices, companions, spare=spare)

    def curve(
        self, model: Model, run: Run, devices: Sequence[Device], last: int, companions: Companions = ALONE
    ) -> tuple[Point, ...]:
        job = self.job(model, run, devices, companions)
        points = curve(model, self.settings(job), devices, last, companions)
        return tuple(Point(point.n_ctx, wrapped(point.estimate)) for point in points)

    def support(self, device: Device, type_k: str, type_v: str) -> Support:
        return of_kernel(device, type_k, type_v)

    def support_for(self, model: Model, device: Device, type_k: str, type_v: str) -> Support:
        return of_kernel(device, type_k, type_v, cached_head_sizes(model))

    def recipes(self, job: Job, source: Source) -> tuple[Recipe, ...]:
        return (recipe(self.program, job, self.settings(job), source),)


def _shares(text: Value | None) -> tuple[float, ...] | None:
    return tuple(map(float, str(text).split(","))) if text else None


def of_estimate(job: Job, settings: Settings) -> Result:
    """What llama.cpp allocates for a job, in the terms of all engines."""
    return wrapped(estimate(job.model, settings, job.devices, job.companions))


def wrapped(found: Estimate) -> Result:
    """An estimate of llama.cpp in the terms of all engines."""
    return Result(
        devices=found.devices,
        host=found.host,
        lines=found.lines,
        warnings=found.warnings,
        n_ctx=found.context.n_ctx_seq,
        n_requests=found.context.n_seq_max,
    )


def of_kernel(device: Device, type_k: str, type_v: str, head_sizes: Collection[int] = ()) -> Support:
    """How llama.cpp's flash attention reads a pair, of heads of these sizes where they are told."""
    found = kernel(device.backend, element_type(type_k), element_type(type_v), head_sizes)
    speed = "supported" if found.speed == "fast" else found.speed
    return Support(speed, found.why, VERSION, "ggml-cuda/fattn.cu:497-640, ggml-metal-device.m:1726-1770")


ENGINES: Final = tuple(map(LlamaCpp, PROGRAMS))
