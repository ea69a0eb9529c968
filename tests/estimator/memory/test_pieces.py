"""What is known of one context answers for others: just as if each were laid out by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.backends import BACKENDS
from estimator.errors import SettingsError
from estimator.memory import graph, pieces
from estimator.memory.context import STEP, resolve
from estimator.memory.free_list import FreeList
from estimator.memory.graph import buffers
from estimator.memory.pieces import are_within, compute_buffers, run_of
from estimator.memory.placement import places
from estimator.memory.target import target
from estimator.memory.trunk import ByLayer
from estimator.settings import Settings
from estimator.sources.catalogue import full_precision
from tests.estimator import truth

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from estimator.devices import BackendName
    from estimator.memory.context import Context
    from estimator.memory.placement import Places
    from estimator.memory.target import Target
    from estimator.model import Model

ASKED: tuple[BackendName, ...] = ("generic", "cuda", "metal")
TARGETS = tuple(target(BACKENDS[name]) for name in ASKED)

CONTEXTS = st.lists(
    st.one_of(st.integers(1, 40), st.integers(1, 600), st.sampled_from((32, 128, 512, 1024, 4096))),
    min_size=4,
    max_size=8,
)
"""Contexts in steps, small ones and powers of two more often."""

SETTINGS = st.fixed_dictionaries(
    {
        "n_parallel": st.sampled_from((1, 1, 3)),
        "flash_attn": st.booleans(),
        "n_ubatch": st.sampled_from((64, 512)),
        "n_outputs": st.sampled_from((None, 0)),
        "n_gpu_layers": st.sampled_from((-1, -1, 2)),
        "offload_kqv": st.sampled_from((True, True, False)),
        "kv_unified": st.booleans(),
        "swa_full": st.booleans(),
    }
)


@settings(deadline=None, max_examples=100)
@given(
    name=st.sampled_from(truth.names()),
    drawn=st.lists(st.sampled_from(TARGETS), min_size=1, max_size=2),
    run=SETTINGS,
    contexts=CONTEXTS,
)
def test_pieces_are_what_is_laid_out(name: str, drawn: list[Target], run: dict[str, Any], contexts: list[int]) -> None:
    agree(truth.model(name), tuple(drawn), run, contexts)


@settings(deadline=None, max_examples=60)
@given(name=st.sampled_from(truth.names()), drawn=st.sampled_from(TARGETS), run=SETTINGS, contexts=CONTEXTS)
def test_so_are_contexts_of_one_layout(name: str, drawn: Target, run: dict[str, Any], contexts: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "FEW", 1)
        patch.setattr(pieces, "SHORT", 2**50)  # no line is long
        agree(replace(truth.model(name)), (drawn,), run, contexts)


def agree(model: Model, targets: tuple[Target, ...], run: dict[str, Any], contexts: list[int]) -> None:
    """What is asked for one after the other is what each is by itself."""
    for context, placed in accepted(model, targets, run, contexts):
        *devices, host = buffers(model, context, targets, placed)
        assert compute_buffers(model, context, targets, placed) == (devices, host)


def accepted(
    model: Model, targets: Sequence[Target], run: dict[str, Any], contexts: list[int]
) -> Iterator[tuple[Context, Places]]:
    """Those of the contexts that llama.cpp takes, and where everything lies."""
    for steps in contexts:
        asked = Settings(n_ctx=steps * STEP, **run)
        try:
            context = resolve(model, asked)
        except SettingsError:
            continue
        yield context, places(model, asked, [1] * len(targets))


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(truth.names()),
    drawn=st.lists(st.sampled_from(TARGETS), min_size=1, max_size=2),
    run=SETTINGS,
    contexts=CONTEXTS,
    off=st.lists(st.sampled_from((-(2**20), -1, 0, 1, None)), min_size=2, max_size=2),
)
def test_what_is_larger_than_its_limit_is_told(
    name: str, drawn: list[Target], run: dict[str, Any], contexts: list[int], off: list[int | None]
) -> None:
    model, targets, given = replace(truth.model(name)), tuple(drawn), off[: len(drawn)]
    for context, placed in accepted(model, targets, run, contexts):
        sizes = buffers(model, context, targets, placed)
        limits = [None if more is None else size.total + more for size, more in zip(sizes, given, strict=False)]
        expected = all(more is None or more >= 0 for more in given)
        assert are_within(model, context, targets, placed, limits) == expected


def noted(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, model: str, contexts: list[int]) -> list[int]:
    """Of some contexts of a model that nothing is known of, those for which a function was called."""
    fresh = replace(truth.model(model))
    function = getattr(owner, name)
    found = []

    def noting(*args: Any) -> Any:
        found.append(steps)
        return function(*args)

    monkeypatch.setattr(owner, name, noting)
    for steps in contexts:
        run = Settings(n_ctx=steps * STEP, n_parallel=1)
        compute_buffers(fresh, resolve(fresh, run), TARGETS[:1], places(fresh, run, [1]))
    return found


def test_a_known_piece_is_not_laid_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert noted(monkeypatch, ByLayer, "sizes", "llama-dense", [64, 64, 65, 66, 400, 63, 64]) == [64, 65]


def test_with_leaves_each_context_is_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert truth.model("glm-dsa-moe").has_leaves
    assert noted(monkeypatch, ByLayer, "sizes", "glm-dsa-moe", [64, 64, 65, 66, 65]) == [64, 65, 66]


def test_their_graph_is_built_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert noted(monkeypatch, graph, "Graph", "glm-dsa-moe", [64, 64, 65, 66, 65, 400]) == [64]


@pytest.mark.parametrize(
    ("n_ctx", "expected"),
    [(512, 2), (700, 3), (8192, 8), (8448, 9), (9216, 9), (9217, 10)],  # the window of 128 tokens fills 768 cells
)
def test_contexts_with_as_many_blocks_are_alike(n_ctx: int, expected: int) -> None:
    model = full_precision("deepseek-v4-flash")
    assert model.block_tokens == 4
    run = Settings(n_ctx=n_ctx)
    _, steps = run_of(model, resolve(model, run), TARGETS[1:2], places(model, run, [1]))
    assert steps == expected


@pytest.mark.parametrize("id", ["llama-3.1-8b-instruct", "gemma-3-1b-it", "deepseek-v3.2", "mistral-7b-v0.1"])
def test_without_blocks_each_step_is_one(id: str) -> None:
    assert full_precision(id).block_tokens == 0


def test_another_graph_is_built_once_for_itself_and_once_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    assert noted(monkeypatch, graph, "Graph", "llama-dense", [64, 64, 65, 66, 65, 400]) == [64, 65]


@pytest.mark.parametrize(
    ("name", "backend", "flash_attn", "n_ubatch", "steps"),
    [
        ("gpt-oss-20b", "metal", True, 512, (40, 198, 22, 2141)),
        ("qwen3.5-9b", "cuda", False, 64, (3, 1862, 27, 7)),
        ("deepseek-v2-lite", "cuda", False, 512, (7, 52, 3, 210)),
    ],
)
def test_a_layout_is_followed_by_several_at_once(
    name: str,
    backend: BackendName,
    flash_attn: bool,
    n_ubatch: int,
    steps: Sequence[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While one compares its numbers at some steps, another asks at other steps: no span is shared."""
    model, targets = replace(truth.model(name)), (target(BACKENDS[backend]),)
    where = places(model, Settings(), [1])
    run = Settings(n_parallel=1, flash_attn=flash_attn, n_ubatch=n_ubatch)
    before, after, asked, meanwhile = (resolve(model, replace(run, n_ctx=256 * n)) for n in steps)
    follow, waiting = FreeList.follow, [meanwhile]

    def interrupted(free: FreeList, *args: Any) -> Any:
        if waiting:
            compute_buffers(model, waiting.pop(), targets, where)
        return follow(free, *args)

    for context in (before, after):
        compute_buffers(model, context, targets, where)
    monkeypatch.setattr(FreeList, "follow", interrupted)
    found = compute_buffers(model, asked, targets, where)
    assert not waiting
    assert found.devices[0] == buffers(model, asked, targets, where)[0]
