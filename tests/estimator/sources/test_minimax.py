"""What MiniMax M3 says about single layers."""

from __future__ import annotations

import pytest

from estimator.errors import ModelError
from estimator.mixers import Blocks
from tests.estimator.sources.test_attention_variants import NORMS, read

KEYS = {
    "attention.head_count_kv": 2,
    "attention.indexer.head_count": 2,
    "attention.indexer.key_length": 32,
    "attention.indexer.block_size": 128,
    "attention.indexer.top_k": 16,
}


def test_leading_layers_attend_to_everything() -> None:
    found = read("minimax-m3", *[NORMS] * 3, keys={**KEYS, "leading_dense_block_count": 1}).layers
    mixer = Blocks(n_head=2, n_embd_head=32, n_embd_head_v=64, block_size=128, top_k=16)
    assert [layer.mixer for layer in found] == [None, mixer, mixer]
    assert (mixer.n_embd_indexer, mixer.n_embd_indexer_v, mixer.reads_parts) == (32, 64, True)


@pytest.mark.parametrize("key", [key for key in KEYS if "indexer" in key])
@pytest.mark.parametrize(("value", "code"), [(None, "missing-key"), (0, "bad-value"), (2**40, "bad-value")])
def test_bad_indexers(key: str, value: int | None, code: str) -> None:
    keys = {**KEYS, key: value}
    if value is None:
        del keys[key]
    with pytest.raises(ModelError) as caught:
        read("minimax-m3", NORMS, keys=keys)
    assert (caught.value.code, caught.value.field) == (code, f"minimax-m3.{key}")


def test_an_indexer_head_for_each_head_of_k() -> None:
    with pytest.raises(ModelError) as caught:
        read("minimax-m3", NORMS, keys={**KEYS, "attention.head_count_kv": 4})
    assert (caught.value.code, caught.value.field) == ("bad-value", "minimax-m3.attention.indexer.head_count")
