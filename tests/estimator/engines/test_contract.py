"""What holds for every engine of the registry, without naming one: a new engine is tested here by being in it."""

from __future__ import annotations

import shlex
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from estimator.devices import device
from estimator.engines.base import Run
from estimator.engines.recipe import Source
from estimator.engines.registry import ENGINES, engine
from estimator.errors import DeviceError, FathomError, SettingsError
from estimator.lines import HOST, KINDS
from estimator.settings import MAX_N_CTX
from estimator.sources.catalogue import catalogue_model
from tests.estimator import samples

if TYPE_CHECKING:
    from estimator.devices import Device
    from estimator.engines.base import Engine
    from estimator.engines.result import Result
    from estimator.model import Model

each = pytest.mark.parametrize("one", ENGINES, ids=lambda one: one.id)

CARDS = {"cuda": "rtx-4090", "rocm": "radeon-rx-7900-xtx", "metal": "m3-max-14c-36gb"}
MODELS = ("llama-3.1-8b-instruct", "gemma-3-4b-it", "qwen3-30b-a3b", "deepseek-v2-lite", "qwen3.5-4b")


@cache
def model(id: str) -> Model:
    return catalogue_model(id, "Q4_K_M")


def card(one: Engine, capacity: int | None = None) -> Device:
    """A device that the engine runs on; of another capacity if one is said."""
    found = device(CARDS[one.backends[0]])
    return found if capacity is None else replace(found, capacity=capacity, memory_bytes=capacity)


def large(one: Engine) -> Device:
    """One that holds anything."""
    return card(one, 2**42)


def estimated(one: Engine, id: str, run: Run) -> Result | None:
    """The result, None where the engine refuses this model by name."""
    try:
        return one.estimate(model(id), run, [large(one)])
    except SettingsError:
        return None


def test_every_engine_has_a_name_of_its_own() -> None:
    ids = [one.id for one in ENGINES]
    assert len(set(ids)) == len(ids)
    assert all(engine(id) is one for id, one in zip(ids, ENGINES, strict=True))
    assert engine("no-such-engine") is None


@each
def test_it_says_what_it_is(one: Engine) -> None:
    assert one.id == one.id.lower()
    assert all((one.name, one.version, one.summary, one.family, one.backends))
    assert one.source.startswith("https://")
    names = [name for kind in one.cache_types for name in (kind.id, *kind.aliases)]
    assert len(set(names)) == len(names)
    assert one.cache_type("f16")  # what a page starts with, under whatever name
    for option in one.options:
        assert option.flag
        assert option.summary
        assert option.default is None or option.checked(option.default) == option.default


@each
@pytest.mark.parametrize("id", MODELS)
def test_lines_add_up(one: Engine, id: str) -> None:
    found = estimated(one, id, Run(n_ctx=8192))
    if found is None:
        return
    assert {line.device for line in found.lines} <= {HOST, *(share.label for share in found.devices)}
    for share in (*found.devices, found.host):
        for kind in KINDS:
            own = [line.bytes for line in found.lines if (line.device, line.kind) == (share.label, kind)]
            assert getattr(share, kind) == sum(own)
    for line in found.lines:
        assert line.bytes >= 0
        assert line.label
        assert line.explain


@each
def test_plain_models_are_not_refused(one: Engine) -> None:
    for id in MODELS[:2]:
        assert estimated(one, id, Run(n_ctx=8192)), id


@each
@hypothesis(deadline=None, max_examples=20)
@given(
    id=st.sampled_from(MODELS),
    n_ctx=st.integers(512, 200_000),
    more=st.integers(0, 100_000),
    n_requests=st.sampled_from([None, 1, 3]),
)
def test_more_context_never_needs_less(one: Engine, id: str, n_ctx: int, more: int, n_requests: int | None) -> None:
    """At one chunk: rules of defaults may choose a smaller one for a deeper context."""
    run = Run(n_ctx=n_ctx, n_requests=n_requests, chunk=512)
    less = estimated(one, id, run)
    deeper = estimated(one, id, replace(run, n_ctx=n_ctx + more))
    if less is None or deeper is None:
        return
    for before, after in zip(less.devices, deeper.devices, strict=True):
        assert before.kv_cache <= after.kv_cache
        assert before.weights == after.weights
        assert before.total - before.holes <= after.total


@each
@pytest.mark.parametrize("id", MODELS[:3])
def test_the_deepest_context_fits_and_no_deeper_one(one: Engine, id: str) -> None:
    devices = [card(one)]
    deepest = one.max_context(model(id), Run(), devices)
    if deepest == 0:
        assert not one.estimate(model(id), Run(n_ctx=4096), devices).fits
        return
    assert one.estimate(model(id), Run(n_ctx=deepest), devices).fits
    most = model(id).context_length if one.caps_context else MAX_N_CTX - one.context_step
    if deepest < most:
        assert not one.estimate(model(id), Run(n_ctx=deepest + one.context_step), devices).fits


@each
def test_nothing_fits_a_tiny_device(one: Engine) -> None:
    assert one.max_context(model("qwen3-30b-a3b"), Run(), [card(one, 2**33)]) == 0


@each
def test_a_curve_goes_through_estimates(one: Engine) -> None:
    for id in MODELS[:2]:
        devices = [large(one)]
        points = one.curve(model(id), Run(), devices, 65_536)
        places = [point.n_ctx for point in points]
        assert places == sorted(set(places))
        assert places[-1] >= min(65_536, model(id).context_length)
        last = one.estimate(model(id), Run(n_ctx=places[-1]), devices)
        assert [share.total for share in points[-1].estimate.devices] == [share.total for share in last.devices]


@each
def test_a_budget_holds_what_fits(one: Engine) -> None:
    found = one.estimate(model(MODELS[0]), Run(n_ctx=4096), [card(one)])
    if found.budget is None:
        return
    assert found.fits == (found.budget.requests >= found.n_requests)
    assert len(found.budget.taken) == len(found.budget.pool) == 1
    assert 0 < found.budget.pool[0] < found.budget.taken[0] <= (card(one).capacity or 0)
    assert found.budget.pool_tokens >= found.budget.requests * 4096 * 0.99


@each
def test_a_type_that_it_lacks(one: Engine) -> None:
    with pytest.raises(SettingsError) as caught:
        one.estimate(model(MODELS[0]), Run(cache_type_k="q8_1_nonsense"), [card(one)])
    assert caught.value.field == "cache_type_k"
    assert f"the nearest is {one.nearest_cache_type('q8_1_nonsense', [card(one)]).id} " in caught.value.message
    assert caught.value.allowed == tuple(
        kind.id for kind in one.cache_types if one.support(card(one), kind.id, kind.id).speed != "refused"
    )


@each
def test_values_out_of_range(one: Engine) -> None:
    bad = {
        "n_ctx": Run(n_ctx=-1),
        "n_requests": Run(n_requests=0),
        "chunk": Run(chunk=0),
        "weight_format": Run(weight_format="float7"),
        "no_such_option": Run(options={"no_such_option": 1}),
    }
    for field, run in bad.items():
        with pytest.raises(SettingsError) as caught:
            one.estimate(model(MODELS[0]), run, [card(one)])
        assert caught.value.field == field
    for option in one.options:
        with pytest.raises(SettingsError) as caught:
            one.estimate(model(MODELS[0]), Run(options={option.name: "no such value"}), [card(one)])
        assert caught.value.field == option.name


@each
def test_k_and_v_of_different_types(one: Engine) -> None:
    if len(one.cache_types) < 2:
        return
    run = Run(n_ctx=4096, cache_type_k=one.cache_types[0].id, cache_type_v=one.cache_types[1].id)
    if one.separate_kv:
        assert one.job(model(MODELS[0]), run, [large(one)]).type_v == one.cache_types[1]
        return
    with pytest.raises(SettingsError) as caught:
        one.estimate(model(MODELS[0]), run, [large(one)])
    assert (caught.value.code, caught.value.field) == ("one-cache-type", "cache_type_v")


@each
def test_devices_that_it_does_not_run_on(one: Engine) -> None:
    with pytest.raises(DeviceError):
        one.estimate(model(MODELS[0]), Run(), [])
    for backend in set(CARDS) - set(one.backends):
        with pytest.raises(DeviceError, match=one.name):
            one.estimate(model(MODELS[0]), Run(), [device(CARDS[backend])])


@each
def test_every_pair_is_answered_for(one: Engine) -> None:
    for backend in one.backends:
        for k in one.cache_types:
            for v in one.cache_types if one.separate_kv else (k,):
                found = one.support(device(CARDS[backend]), k.id, v.id)
                assert all(found)


@each
def test_what_starts_is_supported(one: Engine) -> None:
    """A type that is refused on a device is refused by the estimate too, and the other way round."""
    for kind in one.cache_types:
        run = Run(n_ctx=4096, cache_type_k=kind.id)
        if one.support(card(one), kind.id, kind.id).speed != "refused":
            assert one.estimate(model(MODELS[0]), run, [card(one)])
            continue
        with pytest.raises(SettingsError) as caught:
            one.estimate(model(MODELS[0]), run, [card(one)])
        assert (caught.value.code, caught.value.field) == ("unsupported-cache-type", "cache_type_k")
        assert caught.value.allowed
        assert kind.id not in caught.value.allowed


@each
def test_recipes_are_quoted(one: Engine) -> None:
    nasty = Source(repo="a b/$(c)", file="my model's.gguf", library="x;y")
    job = one.job(model(MODELS[0]), Run(n_ctx=8192), [card(one)])
    found = one.recipes(job, nasty)
    assert found
    for recipe in found:
        if recipe.kind == "command":
            words = shlex.split(recipe.text)
            assert {"a b/$(c)", "my model's.gguf", "x;y"} & set(words) or "a b" not in recipe.text
        elif recipe.kind == "python":
            compile(recipe.text, recipe.label, "exec")


@each
def test_recipes_change_with_what_is_asked(one: Engine) -> None:
    """Whatever changes the estimate changes the recipe."""
    devices = [large(one)]
    plain = one.recipes(one.job(model(MODELS[0]), Run(n_ctx=8192), devices), Source())
    changed = [Run(n_ctx=16384), Run(n_ctx=8192, chunk=1536)]
    if one.reserves_requests:
        changed.append(Run(n_ctx=8192, n_requests=2))
    for run in changed:
        assert one.recipes(one.job(model(MODELS[0]), run, devices), Source()) != plain
    for kind in one.cache_types[1:]:
        if one.support(card(one), kind.id, kind.id).speed == "refused":
            continue
        job = one.job(model(MODELS[0]), Run(n_ctx=8192, cache_type_k=kind.id), devices)
        assert one.recipes(job, Source()) != plain


def test_names_that_would_break_a_recipe() -> None:
    for name in ("a\nb", "x" * 501, "tab\t"):
        with pytest.raises(FathomError):
            Source(repo=name)


def test_samples_have_no_limit() -> None:
    """Every engine runs on the generic device, which tells what would be needed."""
    for one in ENGINES:
        found = one.estimate(model(MODELS[0]), Run(n_ctx=8192), [samples.device("generic")])
        assert found.devices[0].total > 0
        assert found.fits
