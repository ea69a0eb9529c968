"""What each architecture reads beside the shared keys: its windows and traits."""

from __future__ import annotations

from typing import Any

import pytest

from estimator.errors import ModelError
from estimator.ggml import ElementType
from estimator.model import PLAIN, Model, Tensor, Traits
from estimator.sources.architectures import ARCHITECTURES, architecture
from estimator.sources.from_gguf import model_from_header
from estimator.sources.gguf import GGUFHeader

W = 1024


def read(name: str, n_layer: int, **keys: Any) -> Model:
    metadata = {
        "general.architecture": name,
        f"{name}.block_count": n_layer,
        f"{name}.context_length": 8192,
        f"{name}.embedding_length": 256,
        f"{name}.attention.head_count": 4,
        **{f"{name}.attention.{key}": value for key, value in keys.items()},
    }
    tensors = [Tensor("token_embd.weight", (256, 10), ElementType.F16)]
    tensors += [Tensor(f"blk.{il}.attn_norm.weight", (256,), ElementType.F32) for il in range(n_layer)]
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
        # these loaders have no windows, or turn them off
        *((name, {"sliding_window": W}, [0] * 7) for name in ("llama", "mistral3", "qwen2", "qwen3", "qwen3moe")),
        ("phi3", {"sliding_window": 262144}, [0] * 7),
    ],
)
def test_windows(name: str, keys: dict[str, Any], expected: list[int]) -> None:
    assert windows(name, 7, **keys) == expected


def test_a_list_that_is_too_short() -> None:
    with pytest.raises(ModelError) as caught:
        windows("gemma3", 7, sliding_window=W, sliding_window_pattern=(True,) * 6)
    assert (caught.value.code, caught.value.field) == ("bad-array-length", "gemma3.attention.sliding_window_pattern")


@pytest.mark.parametrize("keys", [{"sliding_window": -1}, {"sliding_window": W, "sliding_window_pattern": -6}])
def test_bad_windows(keys: dict[str, int]) -> None:
    with pytest.raises(ModelError) as caught:
        windows("gemma3", 7, **keys)
    assert caught.value.code == "bad-value"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_traits(name: str) -> None:
    traits = {
        "gemma3": Traits(scaled_embedding_rows=True),
        "gpt-oss": Traits(normalized_expert_weights=False),
    }
    assert read(name, 1).traits == traits.get(name, PLAIN)


def test_an_unknown_one() -> None:
    with pytest.raises(ModelError) as caught:
        architecture("gemma4")
    assert (caught.value.code, caught.value.field) == ("unknown-architecture", "model")
    assert caught.value.allowed == tuple(ARCHITECTURES)
    assert "'gemma4'" in caught.value.message
