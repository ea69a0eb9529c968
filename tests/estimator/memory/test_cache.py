"""The K/V cache, against figures worked by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from estimator.memory.cache import CachePart, cache_parts
from estimator.memory.context import resolve
from estimator.mixers import Blocks, Indexer, Latent
from estimator.settings import Settings
from tests.estimator import samples

if TYPE_CHECKING:
    from estimator.layer import Layer

MIB = 2**20


def parts(*layers: Layer, n_parallel: int = 1, **given: Any) -> list[CachePart]:
    model = samples.model(*layers)
    context = resolve(model, Settings(**{"n_ctx": 8192, "n_parallel": n_parallel, **given}))
    return list(cache_parts(model, context, model.layer_kinds))


@pytest.mark.parametrize(
    ("name", "mib"),
    [
        ("f32", 256),
        ("f16", 128),
        ("bf16", 128),
        ("q8_0", 68),
        ("q5_1", 48),
        ("q5_0", 44),
        ("q4_1", 40),
        ("q4_0", 36),
        ("iq4_nl", 36),
    ],
)
def test_four_layers_of_8_heads_of_128_over_8192_tokens(name: str, mib: int) -> None:
    found = parts(*(samples.layer(),) * 4, cache_type_k=name, cache_type_v=name)
    assert [part.bytes for part in found] == [mib * MIB // 2] * 2
    assert [part.label for part in found] == ["K cache, 4 layers", "V cache, 4 layers"]


def test_k_and_v_have_types_and_widths_of_their_own() -> None:
    layer = samples.layer(n_embd_head_k=192, n_embd_head_v=128)
    k, v = parts(layer, layer, cache_type_k="q8_0", cache_type_v="q4_0")
    assert k.bytes == 2 * 8192 * (8 * 192 // 32) * 34
    assert v.bytes == 2 * 8192 * (8 * 128 // 32) * 18
    assert k.explain == "2 layers x 8,192 cells x 1,536 q8_0 elements (1,632 B)"
    assert v.explain == "2 layers x 8,192 cells x 1,024 q4_0 elements (576 B)"


def test_layers_with_a_window_are_a_kind_of_their_own() -> None:
    windowed = samples.layer(n_swa=1024)
    found = parts(windowed, windowed, samples.layer(), windowed)
    assert [(part.label, part.bytes) for part in found] == [
        # 1024 + 512 cells of 1024 elements of 2 bytes
        ("K cache, 3 layers with a window of 1,024", 3 * 1536 * 2048),
        ("V cache, 3 layers with a window of 1,024", 3 * 1536 * 2048),
        ("K cache, 1 layer", 8192 * 2048),
        ("V cache, 1 layer", 8192 * 2048),
    ]


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        ({"n_parallel": 3}, 3 * 2816),  # 8192 / 3 = 2730
        ({"n_parallel": 4}, 8192),
        ({"n_parallel": -1}, 8192),
        ({"n_ctx": 5000}, 5120),
    ],
)
def test_every_stream_has_its_cells(given: dict[str, Any], rows: int) -> None:
    assert [part.bytes for part in parts(samples.layer(), **given)] == [rows * 2048] * 2


def test_the_formula_names_streams() -> None:
    assert parts(samples.layer(), samples.layer(), n_parallel=4)[0].explain == (
        "2 layers x 4 streams x 2,048 cells x 1,024 f16 elements (2,048 B)"
    )


def test_without_flash_attention_v_is_as_wide_as_in_the_widest_layer() -> None:
    narrow, wide = samples.layer(n_head_kv=2), samples.layer(n_head_kv=8)
    assert [part.bytes for part in parts(narrow, wide)] == [8192 * 512] * 2 + [8192 * 2048] * 2
    assert [part.bytes for part in parts(narrow, wide, flash_attn=False)] == [8192 * 512, *[8192 * 2048] * 3]


def test_only_the_layers_asked_for() -> None:
    model = samples.model(*(samples.layer(),) * 4)
    context = resolve(model, Settings(n_ctx=8192, n_parallel=1))
    assert sum(part.bytes for part in cache_parts(model, context, model.layer_kinds[:1])) == 32 * MIB
    assert list(cache_parts(model, context, ())) == []


def latent(**facts: Any) -> Layer:
    """A layer of DeepSeek V3's shape: 512 elements of latent and 64 beside it."""
    mixer = Latent(n_lora_q=1536, n_lora_kv=512, n_rot=64, n_embd_head_k_mla=192, n_embd_head_v_mla=128, **facts)
    return samples.layer(n_head=128, n_head_kv=1, n_embd_head_k=576, n_embd_head_v=512, mixer=mixer)


def test_heads_that_share_a_latent_need_no_v() -> None:
    (found,) = parts(latent(), latent())
    assert (found.label, found.bytes) == ("K cache, 2 layers", 2 * 8192 * 576 * 2)


def test_an_indexer_has_keys_of_its_own() -> None:
    with_indexer = latent(indexer=Indexer(n_head=64, n_embd_head=128, top_k=2048))
    without = latent(indexer=Indexer(n_head=64, n_embd_head=128, top_k=2048, own=False))
    found = parts(with_indexer, without, with_indexer, cache_type_k="q8_0", cache_type_v="q8_0")
    assert [(part.label, part.bytes) for part in found] == [
        ("K cache, 2 layers", 2 * 8192 * 612),  # 576 / 32 * 34
        ("Indexer cache, 2 layers", 2 * 8192 * 136),
        ("K cache, 1 layer", 8192 * 612),
    ]


def test_layers_that_look_at_the_cache_of_others_have_none() -> None:
    assert parts(samples.layer(), samples.layer(own_cache=False)) == parts(samples.layer())


def test_the_keys_of_an_indexer_and_the_v_beside_them() -> None:
    mixer = Blocks(n_head=8, n_embd_head=64, n_embd_head_v=128, block_size=128, top_k=16)
    found = parts(samples.layer(mixer=mixer), cache_type_k="q8_0", cache_type_v="f16")
    assert [(part.label, part.bytes) for part in found[2:]] == [
        ("Indexer cache, 1 layer", 8192 * 68),
        ("Indexer V cache, 1 layer", 8192 * 256),
    ]
