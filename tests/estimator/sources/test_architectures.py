"""What each architecture reads beside the shared keys: its windows and traits."""

from __future__ import annotations

from typing import Any

import pytest

from estimator.errors import ModelError
from estimator.ggml import ElementType
from estimator.model import Model, Tensor
from estimator.sources.architectures import ARCHITECTURES, architecture
from estimator.sources.from_gguf import model_from_header
from estimator.sources.gguf import GGUFHeader, Value
from estimator.traits import PLAIN, Traits

W = 1024
WINDOW = {"attention.sliding_window": W}
LIST = {**WINDOW, "attention.sliding_window_pattern": (True, False)}
HEADS = {"attention.key_length_swa": 64, "attention.value_length_swa": 64}
BLOCKS = {f"attention.indexer.{key}": 4 for key in ("head_count", "key_length", "block_size", "top_k")}
REQUIRED_KEYS: dict[str, dict[str, Any]] = {
    "cohere2moe": {**WINDOW, "leading_dense_block_count": 0},
    "exaone-moe": WINDOW,
    "gemma4": {**LIST, **HEADS, "embedding_length_per_layer_input": 0},
    "granite_swa": LIST,
    "hrm_text": {"hrm.layers_per_stack": 1, "hrm.h_cycles": 1, "hrm.l_cycles": 1},
    "maple": LIST,
    "mimo2": LIST,
    "minimax-m3": BLOCKS,
    "muse-glimmer": WINDOW,
    "spark2_5": LIST,
}
"""Keys that an architecture cannot do without."""
REQUIRED = {name: {f"{name}.{key}": value for key, value in keys.items()} for name, keys in REQUIRED_KEYS.items()}

F32 = ElementType.F32


def read(name: str, n_layer: int, *, metadata: dict[str, Any] | None = None, **keys: Any) -> Model:
    """A model of layers that have the norms of their architecture and nothing else."""
    metadata = {
        "general.architecture": name,
        f"{name}.block_count": n_layer,
        f"{name}.context_length": 8192,
        f"{name}.embedding_length": 256,
        f"{name}.attention.head_count": 4,
        **(metadata or {}),
        **{f"{name}.attention.{key}": value for key, value in keys.items()},
    }
    tensors = [Tensor("token_embd.weight", (256, 10), ElementType.F16)]
    norms = ("attn_norm", ARCHITECTURES[name].traits.ffn_norm)
    tensors += [Tensor(f"blk.{il}.{norm}.weight", (256,), ElementType.F32) for il in range(n_layer) for norm in norms]
    return model_from_header(GGUFHeader(3, True, 32, metadata, {}, tuple(tensors), 0))


def windows(name: str, n_layer: int, **keys: Any) -> list[int]:
    return [layer.n_swa for layer in read(name, n_layer, **keys).layers]


@pytest.mark.parametrize(
    ("name", "keys", "expected"),
    [
        # every other layer, from the first on; the size has a default
        ("gemma2", {"sliding_window": W}, [W, 0, W, 0, W, 0, W]),
        ("gemma2", {}, [4096, 0, 4096, 0, 4096, 0, 4096]),
        ("gpt-oss", {"sliding_window": 128}, [128, 0, 128, 0, 128, 0, 128]),
        ("gpt-oss", {}, [0] * 7),
        # five of six
        ("gemma3", {"sliding_window": W}, [W, W, W, W, W, 0, W]),
        ("gemma3", {}, [0] * 7),
        ("gemma3", {"sliding_window": 0}, [0] * 7),
        # the file's own period
        ("gemma3", {"sliding_window": W, "sliding_window_pattern": 3}, [W, W, 0, W, W, 0, W]),
        ("gemma2", {"sliding_window": W, "sliding_window_pattern": 1}, [0] * 7),
        ("gemma3", {"sliding_window": W, "sliding_window_pattern": 0}, [W] * 7),
        # the file's own list wins, and may be longer than there are layers
        (
            "gemma3",
            {"sliding_window": W, "sliding_window_pattern": (True, False, False, True, False, True, True)},
            [W, 0, 0, W, 0, W, W],
        ),
        ("gpt-oss", {"sliding_window": W, "sliding_window_pattern": (0, 1, 0, 1, 0, 1, 0, 1)}, [0, W, 0, W, 0, W, 0]),
        ("gemma2", {"sliding_window_pattern": (False,) * 6 + (True,)}, [0] * 6 + [4096]),
        # a pattern begins with its full layer
        ("laguna", {"sliding_window": W}, [0, W, W, W, 0, W, W]),
        ("laguna", {}, [0] * 7),
        ("laguna", {"sliding_window": W, "sliding_window_pattern": 0}, [W] * 7),
        # always the same size, if there is one
        ("smallthinker", {"sliding_window": W}, [0, 4096, 4096, 4096, 0, 4096, 4096]),
        ("smallthinker", {}, [0] * 7),
        ("llama4", {"sliding_window": W}, [8192, 8192, 8192, 0, 8192, 8192, 8192]),
        ("llama4", {}, [8192, 8192, 8192, 0, 8192, 8192, 8192]),
        ("llama4", {"sliding_window": 0}, [0] * 7),
        ("afmoe", {"sliding_window": W}, [W, W, W, 0, W, W, W]),
        ("afmoe", {}, [0] * 7),
        ("exaone-moe", {"sliding_window": 128}, [128, 128, 128, 0, 128, 128, 128]),
        ("muse-glimmer", {"sliding_window": W}, [W, W, W, 0, W, W, W]),
        *(
            (name, {"sliding_window": W, "sliding_window_pattern": (1, 0, 0, 1, 1, 1, 0)}, [W, 0, 0, W, W, W, 0])
            for name in ("granite_swa", "maple", "mimo2", "spark2_5")
        ),
        # these loaders have no windows, or turn them off
        *((name, {"sliding_window": W}, [0] * 7) for name in ("llama", "mistral3", "qwen2", "qwen3", "qwen3moe")),
        ("phi3", {"sliding_window": 262144}, [0] * 7),
    ],
)
def test_windows(name: str, keys: dict[str, Any], expected: list[int]) -> None:
    assert windows(name, 7, **keys) == expected


@pytest.mark.parametrize("name", ["granite_swa", "maple", "mimo2", "spark2_5"])
@pytest.mark.parametrize("keys", [{}, {"sliding_window": W}, {"sliding_window": W, "sliding_window_pattern": 4}])
def test_loaders_that_need_a_size_and_a_list(name: str, keys: dict[str, int]) -> None:
    with pytest.raises(ModelError) as caught:
        windows(name, 7, **keys)
    assert caught.value.code == "missing-key"


def test_a_list_that_is_too_short() -> None:
    with pytest.raises(ModelError) as caught:
        windows("gemma3", 7, sliding_window=W, sliding_window_pattern=(True,) * 6)
    assert (caught.value.code, caught.value.field) == ("bad-array-length", "gemma3.attention.sliding_window_pattern")


@pytest.mark.parametrize("keys", [{"sliding_window": -1}, {"sliding_window": W, "sliding_window_pattern": -6}])
def test_bad_windows(keys: dict[str, int]) -> None:
    with pytest.raises(ModelError) as caught:
        windows("gemma3", 7, **keys)
    assert caught.value.code == "bad-value"


@pytest.mark.parametrize(
    ("name", "traits"),
    [
        ("llama", PLAIN),
        ("gemma3", Traits(scaled_embedding_rows=True)),
        ("gpt-oss", Traits(expert_weights="softmax", selects_rows="behind_last_layer", ffn_norm="post_attention_norm")),
        ("bloom", Traits(layer_norm=True, normed_embedding=True)),
        ("falcon", Traits(layer_norm=True, parallel="feed_forward_and_attention")),
        ("grok", Traits(flash_attention=False)),
        ("llama4", Traits(expert_weights="plain")),
        ("cogvlm", Traits(mixed_batches=False, selects_rows="nowhere")),
        ("qwen2moe", Traits(expert_weights="plain")),
        ("starcoder2", Traits(layer_norm=True)),
        ("phi2", Traits(layer_norm=True, parallel="attention")),
        ("command-r", Traits(layer_norm=True, parallel="feed_forward")),
        ("qwen3vl", Traits(m_rope=True)),
        ("bert", Traits(layer_norm=True, normed_embedding=True, cached=False, head="hidden", output_matrix=False)),
        ("dream", Traits(cached=False, causal=False)),
        ("llada-moe", Traits(cached=False, causal=False, expert_weights="plain")),
    ],
)
def test_traits(name: str, traits: Traits) -> None:
    assert read(name, 1).traits == traits


@pytest.mark.parametrize("name", [name for name, rules in ARCHITECTURES.items() if not rules.refine])
def test_every_architecture_reads_a_model_of_nothing_but_norms(name: str) -> None:
    found = read(name, 2, metadata=REQUIRED.get(name))
    assert (found.architecture, found.n_layer, found.n_layer_all) == (name, 2, 2)
    assert all(layer.attn_norm and layer.ffn_norm for layer in found.layers)


@pytest.mark.parametrize(
    ("sections", "m_rope"), [((16, 24, 24, 0), True), ((0, 0, 0, 0), False), ((16, 0, 0, 0), False), (None, False)]
)
def test_m_rope_by_sections(sections: tuple[int, ...] | None, m_rope: bool) -> None:
    metadata = {} if sections is None else {"glm4.rope.dimension_sections": sections}
    assert read("glm4", 1, metadata=metadata).traits.m_rope is m_rope


@pytest.mark.parametrize(
    ("name", "factor", "scaled"),
    [
        ("granite", None, False),
        ("granite", 12.0, True),
        ("granitehybrid", 1, True),
        ("minicpm", None, True),
        ("minicpm", 0.0, False),
        ("llama", 12.0, False),
    ],
)
def test_a_factor_of_the_embedding(name: str, factor: float | None, scaled: bool) -> None:
    metadata = {} if factor is None else {f"{name}.embedding_scale": factor}
    assert read(name, 1, metadata=metadata).traits.scaled_embedding is scaled


@pytest.mark.parametrize("factor", ["12", True])
def test_a_factor_that_is_no_number(factor: str | bool) -> None:
    with pytest.raises(ModelError) as caught:
        read("granite", 1, metadata={"granite.embedding_scale": factor})
    assert (caught.value.code, caught.value.field) == ("bad-value", "granite.embedding_scale")


def test_layers_without_rope() -> None:
    assert [layer.turned for layer in read("smollm3", 8).layers] == [True, True, True, False] * 2
    assert [layer.turned for layer in read("cohere2", 4, sliding_window=W).layers] == [True, True, True, False]
    assert [layer.turned for layer in read("cohere2", 4).layers] == [True] * 4


def test_a_norm_turns_q_and_k_where_rope_does_not() -> None:
    found = read("muse-glimmer", 4, sliding_window=W).layers
    assert [(layer.turned, layer.placed) for layer in found] == [(True, True)] * 3 + [(False, False)]
    assert [layer.placed for layer in read("afmoe", 5).layers] == [True, True, True, False, True]


@pytest.mark.parametrize(
    ("keys", "n_layer", "normed"),
    [
        ({}, 4, True),
        ({"num_loops": 1}, 4, True),
        ({"num_loops": 3}, 12, True),
        ({"num_loops": 128, "skip_loop_final_norm": True}, 512, False),
    ],
)
def test_loops(keys: dict[str, Any], n_layer: int, normed: bool) -> None:
    found = read("nanbeige", 4, metadata={f"nanbeige.{key}": value for key, value in keys.items()})
    assert (found.n_layer, found.n_layer_all, found.n_loops) == (n_layer, n_layer, n_layer // 4)
    assert found.normed_loops is normed
    assert found.share_rope_factors(range(n_layer))
    assert not found.share_rope_factors(range(4, n_layer))


@pytest.mark.parametrize("n_loops", [0, 129, "2"])
def test_bad_loops(n_loops: object) -> None:
    with pytest.raises(ModelError) as caught:
        read("nanbeige", 4, metadata={"nanbeige.num_loops": n_loops})
    assert (caught.value.code, caught.value.field) == ("bad-value", "nanbeige.num_loops")


def test_windows_of_one_size_only() -> None:
    assert windows("exaone4", 30, sliding_window=W) == [0] * 30
    assert windows("exaone4", 64)[:4] == [4096, 4096, 4096, 0]


def test_layers_that_predict_further_tokens_are_not_of_the_trunk() -> None:
    found = read("glm4moe", 5, metadata={"glm4moe.nextn_predict_layers": 1})
    assert (found.n_layer, found.n_layer_all, found.n_nextn_layers) == (4, 5, 1)


def test_deepstack() -> None:
    metadata = {"qwen3vl.n_deepstack_layers": 3, "llama.n_deepstack_layers": 3}
    assert read("qwen3vl", 4, metadata=metadata).n_deepstack_layers == 3
    assert read("llama", 4, metadata=metadata).n_deepstack_layers == 0


def test_one_norm_of_two_is_refused() -> None:
    tensors = (Tensor("token_embd.weight", (256, 10), ElementType.F16), Tensor("blk.0.attn_norm.weight", (256,), F32))
    keys = {"block_count": 1, "context_length": 1, "embedding_length": 256, "attention.head_count": 4}
    for name, refused in (("stablelm", True), ("phi2", False)):
        metadata: dict[str, Value] = {f"{name}.{key}": value for key, value in keys.items()}
        metadata["general.architecture"] = name
        header = GGUFHeader(3, True, 32, metadata, {}, tensors, 0)
        if not refused:
            assert not model_from_header(header).layers[0].ffn_norm
            continue
        with pytest.raises(ModelError) as caught:
            model_from_header(header)
        assert caught.value.code == "unknown-layout"


def test_an_unknown_one() -> None:
    with pytest.raises(ModelError) as caught:
        architecture("gemma5")
    assert (caught.value.code, caught.value.field) == ("unknown-architecture", "model")
    assert caught.value.allowed == tuple(ARCHITECTURES)
    assert "'gemma5'" in caught.value.message


@pytest.mark.parametrize(
    ("name", "key", "causal"), [("bert", None, True), ("bert", False, False), ("dream", True, False)]
)
def test_causal_attention(name: str, key: bool | None, causal: bool) -> None:
    metadata = {} if key is None else {f"{name}.attention.causal": key}
    assert read(name, 1, metadata=metadata).traits.causal is causal
