"""Settings: llama-server's defaults, and every bound."""

from __future__ import annotations

from typing import Any

import pytest

from estimator.errors import SettingsError
from estimator.ggml import CACHE_TYPES
from estimator.settings import MAX_N_BATCH, MAX_N_CTX, MAX_N_PARALLEL, MAX_PATTERN, Settings


def test_defaults_are_llama_servers() -> None:
    settings = Settings()
    assert (settings.n_ctx, settings.n_batch, settings.n_ubatch) == (0, 2048, 512)
    assert (settings.cache_type_k, settings.cache_type_v) == ("f16", "f16")
    assert (settings.flash_attn, settings.swa_full, settings.offload_kqv) == (True, False, True)
    assert (settings.n_gpu_layers, settings.tensor_split, settings.cpu_tensors) == (-1, None, None)
    assert settings.n_outputs is None


@pytest.mark.parametrize(
    ("given", "slots", "unified"),
    [
        ({}, 4, True),
        ({"n_parallel": -1}, 4, True),
        ({"n_parallel": 1}, 1, False),
        ({"n_parallel": 4}, 4, False),
        ({"n_parallel": 8, "kv_unified": True}, 8, True),
        ({"kv_unified": False}, 4, False),
        ({"n_parallel": MAX_N_PARALLEL, "kv_unified": False}, 256, False),
    ],
)
def test_slots_and_whether_they_share_a_cache(given: dict[str, Any], slots: int, unified: bool) -> None:
    settings = Settings(**given)
    assert (settings.n_seq_max, settings.is_unified) == (slots, unified)


@pytest.mark.parametrize(
    "given",
    [
        {"n_ctx": 0},
        {"n_ctx": MAX_N_CTX},
        {"n_batch": 1, "n_ubatch": 1},
        {"n_batch": MAX_N_BATCH, "n_ubatch": MAX_N_BATCH},
        {"n_parallel": 1},
        {"n_outputs": 0},
        {"n_outputs": MAX_N_BATCH},
        {"n_gpu_layers": -1},
        {"n_gpu_layers": 10_000},
        {"tensor_split": [0, 1]},
        {"cpu_tensors": ""},
        {"cpu_tensors": "x" * MAX_PATTERN},
        {"cpu_tensors": r"blk\.(1|2)\.ffn_(up|down)_exps"},
        *({"cache_type_k": name, "cache_type_v": name} for name in CACHE_TYPES),
    ],
)
def test_the_limits_themselves_are_allowed(given: dict[str, Any]) -> None:
    settings = Settings(**given)
    assert all(getattr(settings, field) == (tuple(v) if isinstance(v, list) else v) for field, v in given.items())


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("n_ctx", -1, "a whole number from 0 to 2,147,483,392"),
        ("n_ctx", MAX_N_CTX + 1, "a whole number from 0 to 2,147,483,392"),
        ("n_ctx", True, "a whole number from 0 to 2,147,483,392"),
        ("n_ctx", 4096.0, "a whole number from 0 to 2,147,483,392"),
        ("n_ctx", "4096", "a whole number from 0 to 2,147,483,392"),
        ("n_ctx", None, "a whole number from 0 to 2,147,483,392"),
        ("n_batch", 0, "a whole number from 1 to 1,048,576"),
        ("n_batch", MAX_N_BATCH + 1, "a whole number from 1 to 1,048,576"),
        ("n_ubatch", 0, "a whole number from 1 to 1,048,576"),
        ("n_ubatch", MAX_N_BATCH + 1, "a whole number from 1 to 1,048,576"),
        ("n_ubatch", True, "a whole number from 1 to 1,048,576"),
        ("n_parallel", 0, "a whole number from 1 to 256"),
        ("n_parallel", -2, "a whole number from 1 to 256"),
        ("n_parallel", 257, "a whole number from 1 to 256"),
        ("n_outputs", -1, "a whole number from 0 to 1,048,576"),
        ("n_outputs", MAX_N_BATCH + 1, "a whole number from 0 to 1,048,576"),
        ("n_outputs", False, "a whole number from 0 to 1,048,576"),
        ("n_gpu_layers", -2, "a whole number from -1 to 10,000"),
        ("n_gpu_layers", 10_001, "a whole number from -1 to 10,000"),
    ],
)
def test_out_of_range(field: str, value: object, allowed: str) -> None:
    error = refusal(field, value)
    assert (error.code, error.field, error.allowed) == ("out-of-range", field, allowed)
    assert repr(value) in error.message


@pytest.mark.parametrize("field", ["cache_type_k", "cache_type_v"])
@pytest.mark.parametrize("value", ["q4_k", "Q8_0", "", "f16 ", "turbo3"])
def test_unknown_cache_type(field: str, value: str) -> None:
    error = refusal(field, value)
    assert (error.code, error.field, error.allowed) == ("unknown-cache-type", field, CACHE_TYPES)
    assert "q8_0" in error.message


@pytest.mark.parametrize(
    "value", [[], [-1, 2], [0, 0], [float("inf"), 1], [float("nan"), 1], [1e-46, 0], [1e308] * 2, ["1", 1], 3]
)
def test_bad_tensor_split(value: object) -> None:
    error = refusal("tensor_split", value)
    assert (error.code, error.field) == ("bad-tensor-split", "tensor_split")


@pytest.mark.parametrize("value", ["(", "*", "[a", "x" * (MAX_PATTERN + 1)])
def test_bad_pattern(value: str) -> None:
    error = refusal("cpu_tensors", value)
    assert (error.code, error.field) == ("bad-pattern", "cpu_tensors")


def test_a_split_is_kept_as_a_tuple_so_that_settings_can_be_hashed() -> None:
    assert Settings(tensor_split=[3, 1]) == Settings(tensor_split=(3, 1))
    assert hash(Settings(tensor_split=[3, 1])) == hash(Settings(tensor_split=(3, 1)))


def refusal(field: str, value: object) -> SettingsError:
    given: dict[str, Any] = {field: value}
    with pytest.raises(SettingsError) as caught:
        Settings(**given)
    return caught.value
