"""Buffers that are read are those that would be laid out, and nothing else is read."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator import device, estimate
from estimator.backends import BACKENDS
from estimator.errors import SettingsError
from estimator.ggml import CACHE_TYPES
from estimator.memory import pieces
from estimator.memory.context import STEP, Context, resolve
from estimator.memory.graph import buffers
from estimator.memory.pieces import compute_buffers
from estimator.memory.placement import places
from estimator.memory.target import target
from estimator.settings import Settings
from estimator.sources.catalogue import catalogue_model, entries, full_precision
from estimator.stored_buffers import BATCH, CLASSES, COUNTS, StoredBuffers, digest, stored_buffers, stored_graph

if TYPE_CHECKING:
    from estimator.backends import BackendName
    from estimator.memory.target import Target
    from estimator.model import Model

IDS = tuple(entry.id for entry in entries())
LLAMA = full_precision("llama-3.1-8b-instruct")
BACKEND_NAMES: tuple[BackendName, ...] = ("generic", "cuda", "rocm", "metal")
DEEP = 1 << 20


def targets(backend: BackendName, count: int = 1) -> tuple[Target, ...]:
    return (target(BACKENDS[backend]),) * count


def kept(model: Model, run: Settings, backend: BackendName = "cuda", count: int = 1) -> StoredBuffers | None:
    """What is stored of a run, by the step that its contexts are known in."""
    context = resolve(model, run)
    step = STEP * (model.block_tokens or 1)
    one = replace(context, n_ctx=context.n_ctx // context.n_ctx_seq * step, n_ctx_seq=step)
    return stored_buffers(model, one, targets(backend, count), places(model, run, [1] * count))


def laid_out(model: Model, context: Context, backend: BackendName, count: int) -> tuple[list[Any], Any]:
    where = places(model, Settings(), [1] * count)
    *devices, host = buffers(model, context, targets(backend, count), where)
    return devices, host


@pytest.mark.parametrize("id", IDS)
def test_every_bundled_model_has_its_default_run(id: str) -> None:
    model = full_precision(id)
    assert all(kept(model, Settings(n_ctx=4096), backend) for backend in BACKEND_NAMES)
    context = resolve(model, Settings(n_ctx=20000))
    where = places(model, Settings(), [1])
    assert compute_buffers(model, context, targets("cuda"), where) == laid_out(model, context, "cuda", 1)


@settings(deadline=None, max_examples=150)
@given(
    id=st.sampled_from(IDS),
    backend=st.sampled_from(BACKEND_NAMES),
    count=st.sampled_from(COUNTS),
    pair=st.tuples(st.sampled_from(tuple(CACHE_TYPES)), st.sampled_from(tuple(CACHE_TYPES))),
    n_ctx=st.one_of(st.integers(1, 4096), st.integers(BATCH, DEEP)),
)
def test_any_model_types_and_context(
    id: str, backend: BackendName, count: int, pair: tuple[str, str], n_ctx: int
) -> None:
    model = full_precision(id)
    try:
        context = resolve(model, Settings(n_ctx=n_ctx, cache_type_k=pair[0], cache_type_v=pair[1]))
    except SettingsError:
        return
    where = places(model, Settings(), [1] * count)
    found = compute_buffers(model, context, targets(backend, count), where)
    assert found == laid_out(model, context, backend, count)


def test_nothing_is_laid_out_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Mock()
    monkeypatch.setattr(pieces, "layout", layout)
    model = catalogue_model("glm-5", "Q4_K_M")
    for n_ctx in (BATCH, 4097, 202752):
        assert estimate(replace(model), Settings(n_ctx=n_ctx), [device("rtx-4090")]).devices[0].compute
    assert not layout.called


@pytest.mark.parametrize(
    "change",
    [
        {"n_ubatch": 256},
        {"n_batch": 256},
        {"n_parallel": 1},
        {"n_parallel": 8},
        {"kv_unified": False},
        {"flash_attn": False},
        {"n_outputs": 0},
        {"swa_full": True},
        {"offload_kqv": False},
        {"n_gpu_layers": 20},
        {"cpu_tensors": "ffn_down"},
        {"n_ctx": BATCH - 1},
        {"cache_type_k": "f32"},
        {"cache_type_k": "q8_0", "cache_type_v": "f16"},
    ],
)
def test_other_runs_are_not_read(change: dict[str, Any]) -> None:
    assert kept(LLAMA, Settings(n_ctx=4096))
    assert not kept(LLAMA, Settings(**{"n_ctx": 4096, **change}))


@pytest.mark.parametrize("count", COUNTS)
def test_layers_lie_where_equal_devices_have_them(count: int) -> None:
    context = replace(resolve(LLAMA, Settings(n_ctx=4096)), n_ctx=STEP, n_ctx_seq=STEP)
    where = places(LLAMA, Settings(), [3] * count)
    assert stored_buffers(LLAMA, context, targets("cuda", count), where)
    if count == 1:
        return
    split = places(LLAMA, Settings(), [1, 2])
    assert not stored_buffers(LLAMA, context, targets("cuda", count), split)
    assert not stored_buffers(LLAMA, context, targets("cuda", count), replace(where, is_pipelined=False))
    assert not stored_buffers(LLAMA, context, (*targets("cuda"), *targets("generic")), where)


def test_nor_are_more_devices_and_changed_backends() -> None:
    assert not kept(LLAMA, Settings(n_ctx=4096), count=3)
    context = replace(resolve(LLAMA, Settings(n_ctx=4096)), n_ctx=STEP, n_ctx_seq=STEP)
    changed = (targets("cuda")[0]._replace(reduces=1),)
    assert not stored_buffers(LLAMA, context, changed, places(LLAMA, Settings(), [1]))


def changed(**change: Any) -> Model:
    return replace(LLAMA, **change)


@pytest.mark.parametrize(
    "other",
    [
        changed(n_vocab=LLAMA.n_vocab + 1),
        changed(n_embd=LLAMA.n_embd + 32),
        changed(layers=LLAMA.layers[1:]),
        changed(layers=(replace(LLAMA.layers[0], n_ff=1), *LLAMA.layers[1:])),
        changed(architecture="qwen2"),
        changed(traits=replace(LLAMA.traits, normed_embedding=True)),
        changed(tensors=[tensor for tensor in LLAMA.tensors if tensor.name != "output_norm.weight"]),
    ],
)
def test_another_model_has_another_digest(other: Model) -> None:
    assert digest(other) != digest(LLAMA)
    assert not kept(other, Settings(n_ctx=4096))


@pytest.mark.parametrize("same", [changed(name="Tune"), changed(context_length=1), catalogue_model(IDS[0], "Q4_0")])
def test_what_no_graph_depends_on_does_not_count(same: Model) -> None:
    assert kept(same, Settings(n_ctx=4096))


def test_the_digest_is_the_same_in_every_process() -> None:
    ids = IDS[::50]
    code = (
        "from estimator.stored_buffers import digest\n"
        "from estimator.sources.catalogue import full_precision\n"
        f"print(*(digest(full_precision(id)) for id in {ids}))"
    )
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code]
        found = subprocess.run(command, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True)
        assert found.stdout.split() == [digest(full_precision(id)) for id in ids]


def test_no_set_is_part_of_a_digest() -> None:
    for id in IDS:
        model = full_precision(id)
        assert "frozenset" not in repr((model.kinds, model.traits, model.stacks, model.ngrams))


def test_what_was_not_looked_at_is_laid_out() -> None:
    """Of models that attend to blocks it is known as deep as they were trained for."""
    model = full_precision("deepseek-v4-flash")
    found = kept(model, Settings(n_ctx=4096))
    assert found
    assert found.at(model.context_length // found.step)
    assert not found.at(model.context_length // found.step + 1)
    assert not found.at(0)


@pytest.mark.parametrize("n_ctx", [BATCH, 700, 768])
def test_a_window_that_is_not_full_is_laid_out(n_ctx: int) -> None:
    """Its contexts go by other steps than those that are stored."""
    model = replace(full_precision("deepseek-v4-flash"))
    context = resolve(model, Settings(n_ctx=n_ctx))
    found = compute_buffers(model, context, targets("cuda"), places(model, Settings(), [1]))
    assert found == laid_out(model, context, "cuda", 1)


def test_an_unknown_graph_is_none() -> None:
    assert stored_graph("0" * 16, 1) is None
    assert set(CLASSES) < set(BACKENDS)
