"""What every engine answers. An engine is one file here: a subclass of ``Engine``, its tables and its rules.

To add one, write ``estimator/engines/NAME.py`` with a class like this and ``ENGINES: Final = (Mine(),)``, name the
module in ``estimator/engines/registry.py``, and write ``tests/estimator/engines/test_NAME.py``::

    class Mine(Engine):
        id, name, version = "mine", "Mine", "1.2.0"
        source = "https://pypi.org/project/mine/1.2.0/"
        backends = ("cuda", "rocm")
        cache_types = (cache_type("auto", "16-bit", F16, ("f16",)), cache_type("int8", "8-bit", Packing(8, 0, 32)))
        weight_formats = (BF16, WeightFormat("awq", "AWQ 4-bit, groups of 128", Packing(4, 128, 20)))
        options = (Option(name="share", label="Share of memory", kind="number", default=0.9, low=0.1, high=1, ...),)

        def lay_out(self, job: Job) -> Result: ...        # lines -> result(...)
        def support(self, device, type_k, type_v) -> Support: ...
        def recipes(self, job: Job, source: Source) -> tuple[Recipe, ...]: ...

``Engine`` checks a ``Run`` against these tables first (cache types by name or alias, K and V alike unless
``separate_kv``, bounds of numbers and options, backends) and hands a ``Job`` to ``lay_out``, in which every default is
filled in. Rules of defaults that depend on the model or the device override ``default_*``. What a model caches, layer
by layer, is ``layout.layout(model)``; bytes of its weights in a format are ``weights.stored(model, format)``; of a
head ``job.type_k.k.row_bytes(n_embd_head)``; what the driver takes is ``estimator.memory.overhead.overhead(device)``.
Every line has a basis and a formula with the model's own numbers. What is not known is refused by name with a
``SettingsError``, or counted as a margin that says so. An engine that takes a share of the device whatever the context
is returns a ``Budget`` too (``result.py`` tells what lines and capacities mean then).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Final

from estimator.companions import ALONE
from estimator.engines.choices import check_devices, choose_format, choose_options, choose_types, offered_types
from estimator.engines.options import whole
from estimator.engines.packing import nearest
from estimator.engines.result import Point, Result, Support
from estimator.engines.search import bends, deepest
from estimator.estimate import MAX_DEVICES
from estimator.settings import MAX_N_BATCH, MAX_N_CTX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from estimator.backends import BackendName
    from estimator.companions import Companions
    from estimator.devices import Device
    from estimator.engines.options import Option, Value
    from estimator.engines.packing import CacheType
    from estimator.engines.recipe import Recipe, Source
    from estimator.engines.weights import WeightFormat
    from estimator.model import Model

MAX_REQUESTS: Final = 4096
"""Our bound on requests at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a model is run, in the terms that all engines share; None is the engine's own default.

    Args:
        n_ctx: tokens, as the engine's own option counts them: of one request, for llama.cpp of all slots together
            (``Engine.shares_context``). 0 = the engine's default.
        n_requests: requests of that length at once: slots, parallel requests, a batch.
        cache_type_k: one of ``Engine.cache_types``, or an alias of it.
        cache_type_v: likewise; None = as K.
        weight_format: one of ``Engine.weight_formats``; None = the nearest to the model's own quantization.
        chunk: tokens of a prompt that are computed at once (ubatch, batched tokens, prefill step).
        flash_attn: where the engine leaves the choice.
        options: values of ``Engine.options`` by name.
    """

    n_ctx: int = 0
    n_requests: int | None = None
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    weight_format: str | None = None
    chunk: int | None = None
    flash_attn: bool | None = None
    options: Mapping[str, Value] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run with every default filled in and every value checked: all that an engine needs to answer.

    ``run`` is what was asked for, where it matters whether a value was given. ``options`` has every option of the
    engine; None is one that it decides by a rule. ``format`` is None for engines that load a GGUF file as it is.
    """

    run: Run
    model: Model
    devices: tuple[Device, ...]
    companions: Companions
    n_ctx: int
    n_requests: int
    type_k: CacheType
    type_v: CacheType
    format: WeightFormat | None
    chunk: int
    flash_attn: bool | None
    options: Mapping[str, Value | None] = field(hash=False)

    def whole(self, name: str) -> int:
        """A whole number among the options."""
        value = self.options[name]
        assert isinstance(value, int), name
        return value

    def number(self, name: str) -> float:
        """A number among the options."""
        value = self.options[name]
        assert isinstance(value, (int, float)), name
        return value

    def is_on(self, name: str) -> bool:
        """Whether a switch among the options is on; one that is left to the engine is not."""
        return self.options[name] is True


class Engine(ABC):
    """An engine, or a program of one with defaults of its own.

    Attributes:
        id: short, stable, lower case: what queries call it.
        name: for people.
        version: whose source was read.
        source: where that is.
        family: what it runs underneath, for programs of one engine.
        backends: the devices that it runs on; ``generic`` devices suit all.
        cache_types: best first, the default before all others.
        separate_kv: whether K and V may have different types.
        weight_formats: empty where it loads the GGUF file as it is.
        options: those that other engines do not have.
        shares_context: ``n_ctx`` is for all requests together.
        reserves_requests: it is told how many requests there are at once; else its cache is for whatever comes.
        caps_context: no context is longer than the model was trained for.
        context_step: what contexts are multiples of.
        max_requests: the most at once.
        mixes_backends: devices of different backends share a model.
    """

    id: str
    name: str
    version: str
    source: str
    family: str
    summary: str
    backends: tuple[BackendName, ...]
    cache_types: tuple[CacheType, ...]
    separate_kv: ClassVar[bool] = False
    weight_formats: tuple[WeightFormat, ...] = ()
    options: tuple[Option, ...] = ()
    shares_context: ClassVar[bool] = False
    reserves_requests: bool = True
    caps_context: ClassVar[bool] = False
    context_step: ClassVar[int] = 1
    max_requests: int = MAX_REQUESTS
    mixes_backends: ClassVar[bool] = False
    max_devices: ClassVar[int] = MAX_DEVICES

    # --- what an engine writes

    @abstractmethod
    def lay_out(self, job: Job) -> Result:
        """Every line of a job.

        Raises:
            SettingsError: the engine refuses it, or it is not modelled.
        """

    @abstractmethod
    def support(self, device: Device, type_k: str, type_v: str) -> Support:
        """Whether it runs such a cache on a device. The types are names of ``cache_types``, or aliases."""

    @abstractmethod
    def recipes(self, job: Job, source: Source) -> tuple[Recipe, ...]:
        """What somebody types to run the job; the most usual first. Only options that this version has."""

    def default_n_ctx(self, model: Model, devices: Sequence[Device]) -> int:
        """The context where none is asked for."""
        return model.context_length

    def default_requests(self, model: Model, devices: Sequence[Device]) -> int:
        """Requests at once where no number is asked for."""
        return 1

    def default_chunk(self, model: Model, devices: Sequence[Device], n_ctx: int) -> int:
        """Tokens of a prompt computed at once where no number is asked for."""
        return 2048

    def support_for(self, model: Model, device: Device, type_k: str, type_v: str) -> Support:
        """The same for the heads of a model, where they decide."""
        return self.support(device, type_k, type_v)

    # --- what follows from it

    def job(self, model: Model, run: Run, devices: Sequence[Device], companions: Companions = ALONE) -> Job:
        """A run with every default filled in.

        Raises:
            SettingsError: a value is out of range, or this engine has no such type or option; ``field`` is its name.
            DeviceError: no device, too many, or one that the engine does not run on.
        """
        check_devices(self, devices)
        n_ctx = whole("n_ctx", run.n_ctx, 0, MAX_N_CTX) or self.default_n_ctx(model, devices)
        n_requests = self.default_requests(model, devices) if run.n_requests is None else run.n_requests
        chunk = self.default_chunk(model, devices, n_ctx) if run.chunk is None else run.chunk
        type_k, type_v = choose_types(self, run, devices)
        return Job(
            run=run,
            model=model,
            devices=tuple(devices),
            companions=companions,
            n_ctx=n_ctx,
            n_requests=whole("n_requests", n_requests, 1, self.max_requests),
            type_k=type_k,
            type_v=type_v,
            format=choose_format(self, model, run.weight_format),
            chunk=whole("chunk", chunk, 1, MAX_N_BATCH),
            flash_attn=run.flash_attn,
            options=choose_options(self, run.options),
        )

    def estimate(self, model: Model, run: Run, devices: Sequence[Device], companions: Companions = ALONE) -> Result:
        """What the engine allocates.

        Raises:
            SettingsError, DeviceError: as ``job`` and ``lay_out`` do.
        """
        return self.lay_out(self.job(model, run, devices, companions))

    def max_context(
        self, model: Model, run: Run, devices: Sequence[Device], companions: Companions = ALONE, *, spare: int = 0
    ) -> int:
        """The largest ``n_ctx`` whose estimate leaves ``spare`` bytes on every device; 0 if none does.

        It may be more than the model was trained for.

        Raises:
            SettingsError, DeviceError: as ``estimate`` does.
        """

        def fits(n_ctx: int) -> bool:
            return self.estimate(model, replace(run, n_ctx=n_ctx), devices, companions).leaves(spare)

        return deepest(fits, self.context_step, MAX_N_CTX)

    def curve(
        self, model: Model, run: Run, devices: Sequence[Device], last: int, companions: Companions = ALONE
    ) -> tuple[Point, ...]:
        """Memory from the least context to ``last``, with a point wherever a line bends: between points it is straight.

        Raises:
            SettingsError, DeviceError: as ``estimate`` does.
        """

        def at(n_ctx: int) -> Result:
            return self.estimate(model, replace(run, n_ctx=n_ctx), devices, companions)

        step = max(self.context_step, 256)
        places = bends(lambda n_ctx: [share.total for share in at(n_ctx).devices], step, last)
        return tuple(Point(n_ctx, at(n_ctx)) for n_ctx in places)

    def cache_type(self, name: str) -> CacheType | None:
        """The type of this name or alias, if the engine has it."""
        return next((one for one in self.cache_types if name == one.id or name in one.aliases), None)

    def nearest_cache_type(self, name: str, devices: Sequence[Device] = ()) -> CacheType:
        """The type that this name stands for, or that comes nearest to it, of those that run on all devices."""
        offered = offered_types(self, devices)
        found = self.cache_type(name)
        return found if found in offered else nearest(name, offered)
