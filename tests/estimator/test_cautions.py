"""Each caution comes when it should, and only then."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from estimator.cautions import Caution, cautions
from estimator.devices import device
from estimator.estimate import estimate
from estimator.memory.context import resolve
from estimator.settings import Settings
from estimator.sources.catalogue import catalogue_model
from tests.estimator import samples

if TYPE_CHECKING:
    from estimator.devices import Device
    from estimator.layer import Layer

SEEN = device("rtx-4090")
ROCM = samples.device("rocm")
METAL = samples.device("metal")
GENERIC = device("generic")
DERIVED = samples.device("cuda", 2**33, capacity_basis="derived", capacity_source="a rule over figures")


def found(*devices: Device, layers: tuple[Layer, ...] = (samples.layer(),), **given: Any) -> list[Caution]:
    model = samples.model(*layers)
    settings = Settings(**{"n_parallel": 1, "n_ctx": 4096, **given})
    return list(cautions(model, settings, resolve(model, settings), devices))


def codes(*devices: Device, **given: Any) -> list[str]:
    return [caution.code for caution in found(*devices, **given)]


@pytest.mark.parametrize("where", [SEEN, ROCM, METAL, GENERIC])
def test_nothing_to_say_about_a_plain_run(where: Device) -> None:
    assert codes(where) == []


@pytest.mark.parametrize(
    ("type_k", "type_v", "where", "expected"),
    [
        ("q8_0", "q4_0", METAL, ["metal-mixed-kv-types"]),
        ("f16", "q8_0", METAL, ["metal-mixed-kv-types"]),
        ("q8_0", "q8_0", METAL, []),
        ("q8_0", "q4_0", SEEN, ["kv-pair-without-kernel"]),
        ("q5_1", "q5_1", ROCM, ["kv-pair-without-kernel"]),
        ("q5_1", "q5_1", METAL, []),
        ("q8_0", "q4_0", GENERIC, []),
        ("iq4_nl", "iq4_nl", SEEN, ["iq4-nl-on-cpu"]),
        ("iq4_nl", "iq4_nl", ROCM, ["iq4-nl-on-cpu"]),
        ("iq4_nl", "iq4_nl", METAL, ["iq4-nl-on-cpu"]),
        ("q5_1", "iq4_nl", SEEN, ["iq4-nl-on-cpu"]),
        ("iq4_nl", "f16", SEEN, ["iq4-nl-on-cpu"]),
        ("q5_1", "iq4_nl", METAL, ["metal-mixed-kv-types", "iq4-nl-on-cpu"]),
        ("iq4_nl", "iq4_nl", GENERIC, []),
        ("q4_0", "q4_0", SEEN, []),
        ("f32", "f16", METAL, []),
        ("f32", "q8_0", METAL, ["metal-mixed-kv-types"]),
        ("f32", "f32", SEEN, []),
        ("f32", "q8_0", SEEN, ["kv-pair-without-kernel"]),
    ],
)
def test_cache_types_without_flash_attention(type_k: str, type_v: str, where: Device, expected: list[str]) -> None:
    assert codes(where, cache_type_k=type_k, cache_type_v=type_v) == expected


@pytest.mark.parametrize(
    ("head", "type_k", "where", "expected"),
    [
        (96, "q8_0", SEEN, ["kv-heads-read-in-f16"]),
        (96, "bf16", ROCM, ["kv-heads-read-in-f16"]),
        (96, "f16", SEEN, []),
        (96, "f32", SEEN, []),
        (96, "q5_1", SEEN, ["kv-pair-without-kernel"]),
        (96, "q8_0", METAL, []),
        (96, "q8_0", GENERIC, []),
        (256, "q8_0", SEEN, []),
    ],
)
def test_heads_that_are_read_in_f16(head: int, type_k: str, where: Device, expected: list[str]) -> None:
    layers = (samples.layer(n_embd_head_k=head, n_embd_head_v=head),)
    said = found(where, layers=layers, cache_type_k=type_k, cache_type_v=type_k)
    assert [caution.code for caution in said] == expected
    assert all("96" in caution.text for caution in said if caution.code == "kv-heads-read-in-f16")


def test_cache_types_do_not_matter_when_flash_attention_is_off() -> None:
    assert codes(METAL, cache_type_k="q8_0", cache_type_v="f16", flash_attn=False) == []
    assert codes(SEEN, cache_type_k="iq4_nl", flash_attn=False) == []


def test_one_metal_device_among_others_is_enough() -> None:
    assert codes(SEEN, METAL, cache_type_k="q8_0") == ["metal-mixed-kv-types"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"n_ctx": 8192}, []),
        ({"n_ctx": 0}, []),
        ({"n_ctx": 8448}, ["beyond-training-context"]),
        # what counts is what one sequence can use
        ({"n_ctx": 16384, "n_parallel": 2}, ["context-per-slot"]),
        ({"n_ctx": 16896, "n_parallel": 2}, ["beyond-training-context", "context-per-slot"]),
        ({"n_ctx": 16384, "n_parallel": 2, "kv_unified": True}, ["beyond-training-context"]),
    ],
)
def test_beyond_training_context(given: dict[str, Any], expected: list[str]) -> None:
    assert codes(SEEN, **given) == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"n_ctx": 5000}, ("5,000", "5,120")),
        ({"n_ctx": 1}, ("1 tokens", "256")),
        ({"n_ctx": 4096, "n_parallel": 3}, ("4,096", "4,608")),
        ({"n_ctx": 5120}, ()),
    ],
)
def test_context_rounded(given: dict[str, Any], words: tuple[str, ...]) -> None:
    texts = [caution.text for caution in found(SEEN, **given) if caution.code == "context-rounded"]
    assert len(texts) == bool(words)
    assert all(word in text for word in words for text in texts)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"n_ubatch": 2048}, []),
        ({"n_ubatch": 4096}, ["ubatch-limited"]),
        ({"n_ubatch": 512, "n_batch": 256}, ["ubatch-limited"]),
        ({"n_ubatch": 4096, "n_batch": 4096}, []),
    ],
)
def test_ubatch_limited(given: dict[str, Any], expected: list[str]) -> None:
    assert codes(SEEN, **given) == expected


def test_a_default_context_is_nobodys_number_to_be_rounded() -> None:
    model = samples.model(samples.layer(), context_length=5000)
    settings = Settings(n_ctx=0, n_parallel=1)
    context = resolve(model, settings)
    assert context.n_ctx == 5120
    assert "context-rounded" not in [caution.code for caution in cautions(model, settings, context, [SEEN])]


def test_capacity_derived_once_for_equal_devices() -> None:
    assert codes(DERIVED) == ["capacity-derived"]
    assert codes(DERIVED, DERIVED, SEEN) == ["capacity-derived"]
    other = replace(DERIVED, id="other", name="Other")
    assert codes(DERIVED, other) == ["capacity-derived", "capacity-derived"]
    assert [caution.text for caution in found(other)] == [
        "The memory of Other was not seen in a log: a rule over figures."
    ]


@pytest.mark.parametrize(
    ("head", "where", "expected"),
    [
        (128, SEEN, 0),
        (256, ROCM, 0),
        (48, SEEN, 1),
        (160, ROCM, 1),
        (160, METAL, 1),
        (48, METAL, 0),
        (160, GENERIC, 0),
    ],
)
def test_head_size_without_flash_attention(head: int, where: Device, expected: int) -> None:
    layers = (samples.layer(), samples.layer(n_embd_head_k=head, n_embd_head_v=head))
    said = found(where, layers=layers)
    assert [caution.code for caution in said] == ["head-size-without-flash-attention"] * expected
    assert all(str(head) in caution.text and where.backend.upper() in caution.text for caution in said)
    assert codes(where, layers=layers, flash_attn=False) == []


def test_head_size_is_said_for_each_backend() -> None:
    layers = (samples.layer(n_embd_head_k=160, n_embd_head_v=160),)
    assert codes(METAL, SEEN, SEEN, layers=layers) == ["head-size-without-flash-attention"] * 2


def test_an_estimate_carries_them() -> None:
    model = samples.model(samples.layer())
    settings = Settings(n_ctx=9000, n_parallel=1, cache_type_k="q8_0")
    warnings = estimate(model, settings, [METAL]).warnings
    assert [caution.code for caution in warnings] == [
        "beyond-training-context",
        "context-rounded",
        "metal-mixed-kv-types",
    ]
    assert all(caution.text.endswith(".") for caution in warnings)


@pytest.mark.parametrize(
    ("id", "quantization", "expected"),
    [
        ("llama-3.1-8b-instruct", "Q4_K_M", []),
        ("gpt-oss-20b", "MXFP4_MOE", []),
        ("gpt-oss-20b", "Q4_K_M", ["wider-weights"]),
        ("qwen2.5-0.5b-instruct", "Q4_K_M", ["wider-weights"]),
        ("qwen2.5-72b-instruct", "Q4_K_M", []),  # only ffn_down
        ("gpt-oss-20b", "BF16", []),
        ("llama-3.1-8b-instruct", "MXFP4_MOE", ["no-experts-for-mxfp4"]),
    ],
)
def test_a_quantization_that_is_not_what_its_name_says(id: str, quantization: str, expected: list[str]) -> None:
    model = catalogue_model(id, quantization)
    settings = Settings(n_ctx=4096, n_parallel=1)
    found = cautions(model, settings, resolve(model, settings), (SEEN,))
    assert [caution.code for caution in found] == expected
    if expected == ["wider-weights"]:
        assert ("MXFP4_MOE" in found[0].text) == (id == "gpt-oss-20b")
