"""The worst-case graph: some layers stand for all, and sums worked by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from estimator.devices import GENERIC
from estimator.errors import SettingsError
from estimator.estimate import estimate
from estimator.memory import graph
from estimator.memory.alloc import at_once
from estimator.memory.repeat import Placed
from estimator.mixers import Mamba2
from estimator.settings import Settings
from estimator.sources.catalogue import catalogue_model, entries
from tests.estimator import samples, truth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator.devices import Device
    from estimator.memory.placement import Place
    from estimator.model import Model

MIB = 2**20

RUNS = (
    Settings(n_ctx=8192),
    Settings(n_ctx=32768, n_parallel=1, n_ubatch=64, cache_type_k="q8_0", cache_type_v="q8_0"),
    Settings(n_ctx=4096, n_parallel=3, n_outputs=0, flash_attn=False),
    Settings(n_ctx=131072, n_parallel=1, n_batch=4096, n_ubatch=4096, swa_full=True, cache_type_v="f32"),
)


def every_layer(kinds: Sequence[int], places: Sequence[Place], n_special: int) -> list[Placed]:
    return list(map(Placed, kinds, places))


def shapes() -> list[str]:
    """Bundled models without those that have the same layers as another."""
    found: dict[object, str] = {}
    for entry in entries():
        model = catalogue_model(entry.id, "Q4_K_M")
        found.setdefault((model.layers, model.n_embd, model.n_vocab, model.traits), entry.id)
    return list(found.values())


def tiny() -> list[str]:
    """The fixtures: every architecture that has a reading rule."""
    return [name for name in truth.names() if name not in {entry.id for entry in entries()}]


def compute(model: Model, settings: Settings, devices: list[Device]) -> list[tuple[int, int]] | str:
    try:
        found = estimate(model, settings, devices)
    except SettingsError as error:
        return error.code
    return [(share.compute, share.holes) for share in (*found.devices, found.host)]


def runs(model: Model) -> list[tuple[Settings, list[Device]]]:
    return [
        *((settings, [device]) for settings in RUNS for device in (GENERIC, samples.device("metal"))),
        (Settings(n_ctx=8192), [GENERIC] * 2),
        (Settings(n_ctx=8192, n_gpu_layers=model.n_layer_all // 2), [GENERIC]),
        (Settings(n_ctx=8192, offload_kqv=False), [GENERIC]),
        (Settings(n_ctx=8192, cpu_tensors="exps"), [GENERIC]),
    ]


@pytest.mark.parametrize("id", [*shapes(), *tiny()])
def test_some_layers_stand_for_all(id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = truth.model(id)
    some = [compute(model, *run) for run in runs(model)]
    monkeypatch.setattr(graph, "representative", every_layer)
    monkeypatch.setattr(graph, "_layer_by_layer", lambda *_: None)
    assert some == [compute(model, *run) for run in runs(model)]


@pytest.mark.parametrize("id", ["nvidia-nemotron-3-ultra-550b-a55b-bf16", "granite-4.0-h-1b"])
def test_holes_are_those_of_all_layers(id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = truth.model(id)
    run = Settings(n_ctx=32768, n_ubatch=256)
    some = estimate(replace(model), run, [GENERIC]).devices
    monkeypatch.setattr(graph, "representative", every_layer)
    monkeypatch.setattr(graph, "_layer_by_layer", lambda *_: None)
    assert some == estimate(replace(model), run, [GENERIC]).devices


UNEVEN: list[tuple[str, dict[str, Any], int]] = [
    # the buffer comes back to the same place after several layers only
    ("aya-23-8b", {"n_ctx": 8192, "n_ubatch": 1024, "n_outputs": 700}, 2),
    ("c4ai-command-r-plus", {"n_ctx": 512, "n_ubatch": 256, "n_outputs": 0}, 2),
    ("gpt-neox-20b", {"n_ctx": 2048, "n_ubatch": 2048, "n_outputs": 0, "flash_attn": False, "n_gpu_layers": 16}, 1),
    ("granite-4.0-h-1b", {"n_ctx": 32768, "n_outputs": 0, "cache_type_k": "q8_0", "cpu_tensors": "ssm_"}, 1),
    # so it does with groups of layers
    ("qwen3.5-0.8b", {"n_ctx": 2048, "n_ubatch": 2048, "n_outputs": 700, "tensor_split": (4, 5)}, 2),
    ("qwen3.8-27b", {"n_ctx": 512, "n_ubatch": 256, "flash_attn": False, "n_gpu_layers": 37}, 1),
    # it settles after more than two repetitions
    (
        "glm-4.7-flash",
        {"n_ctx": 2048, "n_ubatch": 1024, "n_outputs": 0, "flash_attn": False, "tensor_split": (2, 5, 5)},
        3,
    ),
    # layers in no strict order
    ("granite-4.0-h-1b", {"n_ctx": 91177, "n_ubatch": 1024, "n_outputs": 700, "n_gpu_layers": 30}, 1),
    ("nvidia-nemotron-3-ultra-550b-a55b-bf16", {"n_ctx": 32768, "n_ubatch": 256, "offload_kqv": False}, 1),
]
"""Found among random settings, where fewer layers than we lay out give another size."""


@pytest.mark.parametrize(("id", "given", "n_devices"), UNEVEN)
@pytest.mark.parametrize("n_parallel", [1, 2])
def test_enough_layers_stand_for_all(
    id: str, given: dict[str, Any], n_devices: int, n_parallel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Settings(n_parallel=n_parallel, **given), [GENERIC] * n_devices
    some = compute(truth.model(id), *run)
    monkeypatch.setattr(graph, "representative", every_layer)
    assert some == compute(truth.model(id), *run)


def repeatable() -> list[str]:
    """Fixtures whose layers mean the same wherever they stand."""
    models = ((id, truth.model(id)) for id in tiny())
    return [
        id
        for id, model in models
        if not (model.stacks or model.n_loops > 1 or model.n_deepstack_layers) and model.layers[0].own_cache
    ]


@pytest.mark.parametrize("id", repeatable())
def test_layers_repeated_stand_for_all(id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More layers than the fixtures have: theirs, again and again, in this order and in another."""
    model = truth.model(id)
    model = replace(model, layers=model.layers * 3 + model.layers[::-1])
    settings = [Settings(n_ctx=8192, n_parallel=2), RUNS[2]]
    some = [compute(model, each, [GENERIC]) for each in settings]
    monkeypatch.setattr(graph, "representative", every_layer)
    monkeypatch.setattr(graph, "_layer_by_layer", lambda *_: None)
    assert some == [compute(model, each, [GENERIC]) for each in settings]


@pytest.mark.parametrize(
    "given", [{"n_gpu_layers": 11}, {"offload_kqv": False}, {"tensor_split": (1, 1)}, {"tensor_split": (5, 1)}]
)
@pytest.mark.parametrize("order", ["own" * 6 + "x" * 12, "sesesaesesesaesesesaesesesaesesesaesesesesaesesesese"])
def test_no_layer_is_left_out_where_each_adds_copies(
    order: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Caches that later layers read (x), and states (s) in no strict order, as in Nemotron 3 Nano."""
    state = {"mixer": Mamba2(4096, 128, 64, 8, normed=True), "n_head_kv": 0, "wiring": "mixer_only"}
    experts = {"n_ff": 1856, "n_expert": 128, "n_expert_used": 6, "n_ff_shexp": 3712, "feed_forward": "plain"}
    facts: dict[str, dict[str, Any]] = {
        "x": {"own_cache": False},
        "s": {**state, "n_embd_r": 3 * 6144, "n_embd_s": 4096 * 128},
        "e": {**experts, "n_head_kv": 0, "wiring": "feed_forward_only"},
        "a": {"n_head_kv": 2, "wiring": "mixer_only"},
    }
    layers = (samples.layer(**facts.get(kind, {})) for kind in order)
    model = samples.model(*layers, n_embd=2688, n_vocab=131072)
    run = Settings(n_ctx=4096, n_parallel=1, n_outputs=612, **given), [GENERIC] * len(given.get("tensor_split", (1,)))
    some = compute(model, *run)
    monkeypatch.setattr(graph, "representative", every_layer)
    assert some == compute(model, *run)


APART = frozenset(
    {
        "bitnet-b1.58-2b-4t",
        "bitnet-dense",
        "chameleon-dense",
        "chameleon-swin",
        "glm5-next-moe",
        "hrm_text-dense",
        "kimi-k3-moe",
        "minimax-m3-moe",
        "qwen4exp-moe",
        "t5-dense",
        "t5-plain",
        "t5encoder-dense",
        "t5encoder-plain",
    }
)
"""Their layers read inputs of their own, or are run in loops, or the host computes behind them."""


@pytest.mark.parametrize("id", [*shapes(), *tiny()])
def test_layers_on_one_device_form_a_chain(id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Mock(wraps=at_once)
    monkeypatch.setattr(graph, "at_once", whole)
    assert compute(truth.model(id), Settings(n_parallel=1), [GENERIC])
    assert whole.called == (id in APART)


# --- sums worked by hand, for layers as wide as Llama 3.1 8B's (E 4096, F 14336) over 8192 cells in batches of 512

ROW = 4096 * 4
FEED_FORWARD = 512 * (4 * 4096 + 3 * 14336) * 4  # four rows of the width of the model, gate, up and their product
MASK = 8192 * 512 * 2
SMALL = MIB // 8
"""Indices, positions, and the rows of logits that are selected."""


def buffers(*layers: dict[str, Any], n_vocab: int = 1024, **given: Any) -> tuple[int, int]:
    """Compute buffers of a generic device and of the host."""
    model = samples.model(*(samples.layer(**facts) for facts in layers), n_vocab=n_vocab)
    settings = Settings(**{"n_ctx": 8192, "n_parallel": 1, **given})
    found = estimate(model, settings, [GENERIC])
    return found.devices[0].compute, found.host.compute


@pytest.mark.parametrize(
    ("given", "device", "host"),
    [
        ({}, FEED_FORWARD + MASK, 4 * 512 * ROW + MASK),
        ({"n_ubatch": 128}, (FEED_FORWARD + MASK) // 4, (4 * 512 * ROW + MASK) // 4),
        ({"n_ctx": 32768}, FEED_FORWARD + 4 * MASK, 4 * 512 * ROW + 4 * MASK),
        # the cells of one slot only
        ({"n_parallel": 4}, FEED_FORWARD + MASK // 4, 4 * 512 * ROW + MASK // 4),
        # a row of logits for every token of the batch: now they take the most
        ({"n_outputs": 0, "n_vocab": 128256}, 512 * (4 * 4096 + 128256) * 4 + MASK, 4 * 512 * ROW + MASK),
        ({"n_outputs": 1, "n_vocab": 128256}, FEED_FORWARD + MASK, 4 * 512 * ROW + MASK),
    ],
)
def test_dense_layers(given: dict[str, Any], device: int, host: int) -> None:
    found = buffers({}, {}, {}, **given)
    assert 0 <= found[0] - device < SMALL
    assert 0 <= found[1] - host < SMALL


def test_without_flash_attention_the_scores_exist_at_once() -> None:
    scores, mask, rows = 8192 * 512 * 32 * 4, 8192 * 512 * 4, 512 * 1024 * 8
    device, host = buffers({}, {}, {}, flash_attn=False)
    assert 0 <= device - (scores + mask + rows + 5 * 512 * ROW) < SMALL
    assert 0 <= host - (4 * 512 * ROW + mask + rows) < SMALL


def test_a_window_has_a_mask_of_its_own() -> None:
    device, host = buffers({"n_swa": 1024}, {}, {"n_swa": 1024}, {})
    masks = MASK + 1536 * 512 * 2
    assert 0 <= device - (FEED_FORWARD + masks) < SMALL
    assert 0 <= host - (4 * 512 * ROW + masks) < SMALL


def test_experts() -> None:
    experts = {"n_ff": 2048, "n_expert": 64, "n_expert_used": 8}
    # 4E + 3 F k rows: four of the model's width, gate, up and their product for each of 8 experts
    assert 0 <= buffers(experts, experts, experts)[0] - (512 * (4 * 4096 + 3 * 2048 * 8) * 4 + MASK) < 2 * MIB


def test_a_quantized_cache_is_rotated_where_heads_allow() -> None:
    layers: tuple[dict[str, Any], ...] = ({}, {}, {})
    # one matrix of 128 x 128 floats for K, one of 64 x 64 for V
    assert buffers(*layers, cache_type_k="q8_0")[1] - buffers(*layers)[1] == 128 * 128 * 4
    assert buffers(*layers, cache_type_v="q8_0")[1] - buffers(*layers)[1] == 64 * 64 * 4
    odd = ({"n_embd_head_k": 96, "n_embd_head_v": 96},) * 3
    assert buffers(*odd, cache_type_k="q8_0", cache_type_v="q8_0") == buffers(*odd)


def test_two_devices_keep_four_copies_of_what_they_are_given() -> None:
    model = samples.model(*(samples.layer(),) * 8)
    settings = Settings(n_ctx=8192, n_parallel=1)
    one, two = estimate(model, settings, [GENERIC]), estimate(model, settings, [GENERIC] * 2)
    for share in two.devices:
        assert share.compute > one.devices[0].compute + 3 * MASK
    assert 0 <= two.host.compute - (4 * (2 * 512 * ROW + MASK) + 2 * 512 * ROW) < 4 * SMALL
