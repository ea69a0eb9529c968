"""What llama.cpp makes of the settings: rounding, windows, rows of logits, refusals."""

from __future__ import annotations

from typing import Any

import pytest

from estimator.errors import SettingsError
from estimator.ggml import ElementType
from estimator.memory.context import Context, resolve
from estimator.mixers import Latent
from estimator.settings import MAX_N_CTX, Settings
from tests.estimator import samples

FULL = samples.layer()
WINDOWED = samples.layer(n_swa=1024)
QUANTIZED = ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")


def context(n_parallel: int = 1, **given: Any) -> Context:
    return resolve(samples.model(FULL), Settings(n_parallel=n_parallel, **given))


@pytest.mark.parametrize(
    ("given", "n_ctx", "n_ctx_seq", "n_stream"),
    [
        ({"n_ctx": 5000}, 5120, 5120, 1),
        ({"n_ctx": 256}, 256, 256, 1),
        ({"n_ctx": 257}, 512, 512, 1),
        ({"n_ctx": 1}, 256, 256, 1),
        ({"n_ctx": 0}, 8192, 8192, 1),  # what the model was trained for
        ({"n_ctx": MAX_N_CTX}, 2**31 - 256, 2**31 - 256, 1),
        # 5120 / 3 = 1706, of which each slot gets 1792
        ({"n_ctx": 5000, "n_parallel": 3}, 5376, 1792, 3),
        ({"n_ctx": 4096, "n_parallel": 4}, 4096, 1024, 4),
        ({"n_ctx": 256, "n_parallel": 4}, 1024, 256, 4),
        ({"n_ctx": 5000, "n_parallel": 3, "kv_unified": True}, 5120, 5120, 1),
        ({"n_ctx": 5000, "n_parallel": -1}, 5120, 5120, 1),
        ({"n_ctx": 5000, "n_parallel": -1, "kv_unified": False}, 5120, 1280, 4),
    ],
)
def test_context_is_rounded_up(given: dict[str, Any], n_ctx: int, n_ctx_seq: int, n_stream: int) -> None:
    found = context(**given)
    assert (found.n_ctx, found.n_ctx_seq, found.n_stream) == (n_ctx, n_ctx_seq, n_stream)


@pytest.mark.parametrize(
    ("given", "cells"),
    [
        # the window and a batch: 1024 + 512
        ({"n_ctx": 32768}, 1536),
        # rounded up to 256: 1024 + 100
        ({"n_ctx": 32768, "n_ubatch": 100}, 1280),
        ({"n_ctx": 32768, "n_ubatch": 2048, "n_batch": 2048}, 3072),
        # a batch is no larger than the logical one
        ({"n_ctx": 32768, "n_ubatch": 2048, "n_batch": 512}, 1536),
        # no more than the context
        ({"n_ctx": 1024}, 1024),
        ({"n_ctx": 1500}, 1536),
        ({"n_ctx": 1792}, 1536),
        # one window for each slot in a shared cache: 4 * 1024 + 512
        ({"n_ctx": 32768, "n_parallel": -1}, 4608),
        ({"n_ctx": 4096, "n_parallel": -1}, 4096),
        ({"n_ctx": 32768, "n_parallel": 2, "kv_unified": True}, 2560),
        # each slot has a cache of its own
        ({"n_ctx": 32768, "n_parallel": 4}, 1536),
        ({"n_ctx": 4096, "n_parallel": 4}, 1024),
        ({"n_ctx": 32768, "swa_full": True}, 32768),
        ({"n_ctx": 32768, "n_parallel": 4, "swa_full": True}, 8192),
    ],
)
def test_cells_of_a_window(given: dict[str, Any], cells: int) -> None:
    found = context(**given)
    assert found.cells(WINDOWED) == cells
    assert found.cells(FULL) == found.n_ctx_seq


@pytest.mark.parametrize(
    ("given", "n_ubatch", "n_tokens"),
    [
        ({"n_ctx": 4096}, 512, 512),
        ({"n_ctx": 4096, "n_ubatch": 4096}, 2048, 2048),
        ({"n_ctx": 4096, "n_ubatch": 4096, "n_batch": 4096}, 4096, 4096),
        ({"n_ctx": 4096, "n_batch": 64}, 64, 64),
        # the batch follows what was asked, not what it is rounded to
        ({"n_ctx": 300}, 300, 300),
        ({"n_ctx": 100}, 100, 100),
        ({"n_ctx": 0, "n_ubatch": 4096, "n_batch": 16384}, 4096, 4096),
    ],
)
def test_batches(given: dict[str, Any], n_ubatch: int, n_tokens: int) -> None:
    found = context(**given)
    assert (found.n_ubatch, found.n_tokens) == (n_ubatch, n_tokens)


@pytest.mark.parametrize(
    ("given", "n_outputs"),
    [
        # llama-server: one row a slot
        ({}, 1),
        ({"n_parallel": 3}, 3),
        ({"n_parallel": -1}, 4),
        ({"n_parallel": 256}, 256),
        ({"n_parallel": 256, "n_ubatch": 64}, 64),
        ({"n_parallel": 4, "n_ctx": 3, "kv_unified": True}, 3),
        # every row
        ({"n_outputs": 0}, 512),
        ({"n_outputs": 0, "n_ubatch": 2048}, 2048),
        ({"n_outputs": 0, "n_batch": 100}, 100),
        # as many as asked for, but no more than there are
        ({"n_outputs": 7, "n_parallel": 4}, 7),
        ({"n_outputs": 4096}, 512),
    ],
)
def test_rows_of_logits(given: dict[str, Any], n_outputs: int) -> None:
    assert context(**{"n_ctx": 32768, **given}).n_outputs == n_outputs


@pytest.mark.parametrize(
    ("given", "most"),
    [
        ({"n_parallel": 4, "n_outputs": 1}, 1),
        ({"n_parallel": 100, "n_batch": 64}, 64),
        # every row of the batch, which is no longer than the context
        ({"n_parallel": 4, "n_outputs": 0, "n_ctx": 2}, 2),
        ({"n_parallel": 4, "n_outputs": 0, "n_batch": 3}, 3),
    ],
)
def test_every_slot_needs_a_row_of_logits(given: dict[str, Any], most: int) -> None:
    with pytest.raises(SettingsError) as caught:
        context(**given)
    assert (caught.value.code, caught.value.field) == ("fewer-outputs-than-slots", "n_parallel")
    assert caught.value.allowed == f"1 to {most}"
    assert context(**{**given, "n_parallel": most}).n_outputs == most


def test_the_rest_is_passed_on() -> None:
    found = context(cache_type_k="q5_1", cache_type_v="bf16", flash_attn=False, swa_full=True)
    assert (found.type_k, found.type_v) == (ElementType.Q5_1, ElementType.BF16)
    assert (found.flash_attn, found.swa_full, found.offload_kqv) == (False, True, True)
    assert not context(offload_kqv=False).offload_kqv


def refusal(head_k: int, head_v: int, **given: Any) -> SettingsError | None:
    model = samples.model(FULL, samples.layer(n_embd_head_k=head_k, n_embd_head_v=head_v))
    try:
        resolve(model, Settings(**given))
    except SettingsError as error:
        return error
    return None


@pytest.mark.parametrize("type_v", QUANTIZED)
def test_a_quantized_v_needs_flash_attention(type_v: str) -> None:
    error = refusal(128, 128, cache_type_v=type_v, flash_attn=False)
    assert error
    assert (error.code, error.field) == ("quantized-v-needs-flash-attention", "cache_type_v")
    assert error.allowed == ("f16", "bf16", "f32")
    assert type_v in error.message
    assert refusal(128, 128, cache_type_v=type_v) is None
    assert refusal(128, 128, cache_type_k=type_v, flash_attn=False) is None


def test_one_cache_for_k_and_v_has_one_type() -> None:
    layer = samples.layer(n_head_kv=1, n_embd_head_k=576, n_embd_head_v=512, mixer=Latent(1536, 512, 64, 192, 128))
    model = samples.model(FULL, layer)
    with pytest.raises(SettingsError) as caught:
        resolve(model, Settings(cache_type_k="q8_0", cache_type_v="f16"))
    assert (caught.value.code, caught.value.field) == ("cache-types-must-be-equal", "cache_type_v")
    assert caught.value.allowed == ("q8_0",)
    assert resolve(model, Settings(cache_type_k="q8_0", cache_type_v="q8_0")).type_v is ElementType.Q8_0


@pytest.mark.parametrize("type_v", ["f16", "bf16", "f32"])
def test_other_types_do_without_flash_attention(type_v: str) -> None:
    assert refusal(80, 80, cache_type_v=type_v, flash_attn=False) is None


@pytest.mark.parametrize("name", QUANTIZED)
def test_a_head_must_fill_whole_blocks(name: str) -> None:
    for head_k, head_v, given, field in (
        (80, 64, {"cache_type_k": name}, "cache_type_k"),
        (64, 80, {"cache_type_v": name}, "cache_type_v"),
        (80, 80, {"cache_type_k": name, "cache_type_v": name}, "cache_type_k"),
    ):
        settings: dict[str, Any] = given
        error = refusal(head_k, head_v, **settings)
        assert error
        assert (error.code, error.field) == ("head-size-not-a-multiple-of-the-block", field)
        assert "80" in error.message
        assert name in error.message
    assert refusal(64, 80, cache_type_k=name) is None
    assert refusal(80, 64, cache_type_v=name) is None
    # llama.cpp asks this only with flash attention
    assert refusal(80, 80, cache_type_k=name, flash_attn=False) is None
