"""What runs on devices: of every bundled model the largest quantization that fits, and how deep it gets.

One run of a model serves all of its quantizations (``estimator.bundled``). A graph is laid out only for what the files
do not tell, and only where weights and caches leave room.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from estimator.bundled import KeptRun, OnDevices
from estimator.errors import SettingsError
from estimator.estimate import placed
from estimator.ggml import CACHE_TYPES
from estimator.inverse import MAX_BYTES, PAIRS, is_fast
from estimator.sources.catalogue import entries, full_precision
from estimator.speed import bound_of
from estimator.stored_weights import stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from estimator.bundled import Run, Sizes
    from estimator.devices import Device
    from estimator.settings import Settings
    from estimator.sources.catalogue import Entry
    from estimator.stored_runs import Pair, StoredRun
    from estimator.stored_weights import Stored


MAX_PAIRS: Final = len(CACHE_TYPES) ** 2


class Rung(NamedTuple):
    """A model's weights at one quantization, with what they take on each device."""

    stored: Stored
    sizes: Sizes


@dataclass(frozen=True, slots=True)
class Choice:
    """A pair of cache types with the largest quantization that fits the context beside it.

    ``totals`` are bytes on each device at the context, ``max_context`` the deepest in tokens, ``tokens_per_second`` the
    bound on decoding with a full context, None where it is not known.
    """

    pair: Pair
    quantization: str
    totals: tuple[int, ...]
    max_context: int
    tokens_per_second: float | None


@dataclass(frozen=True, slots=True)
class Miss:
    """The smallest run that does not fit: ``needed`` bytes on all devices, of which ``lacking`` are not there.

    ``at_least``: that is without the compute buffer. Of several devices it lacks most on one.
    """

    pair: Pair
    quantization: str
    needed: int
    lacking: int
    at_least: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A bundled model on the devices.

    ``choices`` are those of the pairs that fit, in the order asked; ``n_ctx`` is the context looked at. Without any
    there is a ``miss``, if any pair is possible. ``refusal`` is why llama.cpp does not take the first for the model.
    """

    entry: Entry
    facts: StoredRun
    n_ctx: int
    choices: tuple[Choice, ...] = ()
    miss: Miss | None = None
    refusal: str | None = None

    def choice(self, pair: Pair) -> Choice | None:
        """What fits beside a pair of cache types."""
        return next((choice for choice in self.choices if choice.pair == pair), None)


def survey(
    settings: Settings,
    devices: Sequence[Device],
    quantizations: Sequence[str],
    pairs: Sequence[Pair] = (),
    ids: Iterable[str] | None = None,
    enough: int = MAX_PAIRS,
) -> Iterator[Found]:
    """Every bundled model, or those of some ids, wholly on the devices.

    Args:
        settings: with the context that is wanted; 0 is each model's own.
        devices: those that share the layers.
        quantizations: those to choose from.
        pairs: cache types to try, in this order, beside those of the settings.
        enough: of so many pairs that fit no more are tried.

    Raises:
        SettingsError: ``not-whole``: the settings keep a part in system memory; or a bad split.
        DeviceError: no device, or too many.
    """
    _check(settings)
    placed(full_precision(entries()[0].id), settings, devices)
    wanted = None if ids is None else frozenset(ids)
    asked = _Asked(settings, devices, quantizations, pairs, enough)
    return (asked.found(entry) for entry in entries() if wanted is None or entry.id in wanted)


def smaller_pairs(pair: Pair, devices: Sequence[Device]) -> list[Pair]:
    """The pairs that take less than one and that every device has a fast kernel for, the most bits first."""
    behind = PAIRS.index(pair) + 1 if pair in PAIRS else 0
    return [other for other in PAIRS[behind:] if other != pair and is_fast(other, devices)]


class _Asked:
    """What is asked of every model."""

    def __init__(
        self,
        settings: Settings,
        devices: Sequence[Device],
        quantizations: Sequence[str],
        pairs: Sequence[Pair],
        enough: int,
    ) -> None:
        self.settings = settings
        self.devices = devices
        self.quantizations = quantizations
        self.pairs = tuple(dict.fromkeys(((settings.cache_type_k, settings.cache_type_v), *pairs)))
        self.enough = enough

    def found(self, entry: Entry) -> Found:
        """What is found of a model."""
        n_ctx = self.settings.n_ctx or entry.context_length
        model = OnDevices(entry.id, replace(self.settings, n_ctx=n_ctx), self.devices)
        facts = model.facts
        rungs = self._rungs(entry.id, model)
        if not rungs:
            return Found(entry, facts, n_ctx, refusal="none of these quantizations can be made of this model")
        if self._lacking(rungs[-1].sizes) > 0:
            miss = self._miss(self.pairs[0], rungs[-1], (0,) * len(self.devices), at_least=True)
            return Found(entry, facts, n_ctx, miss=miss)
        choices: list[Choice] = []
        least: Miss | None = None
        refusal = None
        for pair in self.pairs:
            if len(choices) == self.enough:
                break
            try:
                found = self._of_pair(model, pair, n_ctx, rungs)
            except SettingsError as error:
                refusal = error.message if pair == self.pairs[0] else refusal
                continue
            if isinstance(found, Choice):
                choices.append(found)
            elif least is None or found.needed < least.needed:
                least = found
        return Found(entry, facts, n_ctx, tuple(choices), None if choices else least, refusal)

    def _rungs(self, id: str, model: OnDevices) -> list[Rung]:
        """The quantizations of a model, the largest first. MXFP4_MOE is for experts: a dense model ends as in Q8_0."""
        of_use = (name for name in self.quantizations if name != "MXFP4_MOE" or model.facts.has_experts)
        known = [stored(id)[name] for name in of_use if name in stored(id)]
        rungs = [Rung(one, model.weights(one)) for one in known]
        return sorted(rungs, key=lambda rung: sum(rung.sizes), reverse=True)

    def _of_pair(self, model: OnDevices, pair: Pair, n_ctx: int, rungs: Sequence[Rung]) -> Choice | Miss:
        """The largest quantization that fits beside a pair of cache types, or by how much the smallest does not."""
        run = model.run(pair)
        least = run.least(n_ctx)
        if self._lacking(_sum(least, rungs[-1].sizes)) > 0:
            return self._miss(pair, rungs[-1], least, at_least=not isinstance(run, KeptRun))
        held = run.held(n_ctx)
        for rung in rungs:
            if self._lacking(totals := _sum(held, rung.sizes)) <= 0:
                rate = self._rate(model, rung, run, n_ctx)
                return Choice(pair, rung.stored.name, totals, run.deepest(rung.sizes), rate)
        return self._miss(pair, rungs[-1], held, at_least=False)

    def _rate(self, model: OnDevices, rung: Rung, run: Run, n_ctx: int) -> float | None:
        """Tokens a second at most, with a full context."""
        if not model.facts.decodes:
            return None
        n_past, caches = run.caches_read(n_ctx)
        bound = bound_of(model.weights_read(rung.stored), caches, self.devices, n_past)
        return bound.tokens_per_second if bound else None

    def _lacking(self, totals: Sizes) -> int:
        """Bytes that are not there on the device that lacks most; less than 0 where some are free."""
        capacities = (MAX_BYTES if device.capacity is None else device.capacity for device in self.devices)
        return max(total - capacity for total, capacity in zip(totals, capacities, strict=True))

    def _miss(self, pair: Pair, rung: Rung, held: Sizes, *, at_least: bool) -> Miss:
        totals = _sum(held, rung.sizes)
        return Miss(pair, rung.stored.name, sum(totals), self._lacking(totals), at_least)


def _sum(one: Sizes, other: Sizes) -> Sizes:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _check(settings: Settings) -> None:
    """A survey is of models that are wholly on devices.

    Raises:
        SettingsError: ``not-whole``.
    """
    if settings.n_gpu_layers == -1 and settings.cpu_tensors is None and settings.offload_kqv:
        return
    field = "n_gpu_layers" if settings.n_gpu_layers != -1 else "cpu_tensors" if settings.cpu_tensors else "offload_kqv"
    raise SettingsError(
        "not-whole",
        f"{field} keeps a part in system memory; this is asked of models that are wholly on devices",
        field=field,
        allowed="its default",
    )
