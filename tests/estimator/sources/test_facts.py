"""The facts of a model as a text: short, the same for the same model, and all that an estimate needs."""

from __future__ import annotations

import lzma
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator import Model, ModelError, Settings, device, estimate, read_facts
from estimator.ggml import ElementType
from estimator.memory.weights import mapped_besides
from estimator.model import Tensor
from estimator.sources.catalogue import QUANTIZATIONS, catalogue_header, catalogue_model, entries
from estimator.sources.facts import MAX_KINDS, MAX_TEXT, checked_facts, facts_text
from estimator.sources.facts_header import MAX_TENSORS
from estimator.sources.from_gguf import model_from_header
from estimator.sources.gguf import GGUFHeader, Value, read_header
from tests.estimator import truth

if TYPE_CHECKING:
    from random import Random

DATA = Path(__file__).parents[2] / "data" / "gguf"
IDS = [entry.id for entry in entries()]
MAC = device("m1-16gb")
"""Metal asks for the order of tensors too."""


def quantized(id: str, quantization: str) -> GGUFHeader:
    """The header of a bundled model at a quantization."""
    return replace(catalogue_header(id), tensors=catalogue_model(id, quantization).tensors)


def fixtures() -> dict[str, GGUFHeader]:
    found = {path.stem: read_header(path) for path in DATA.glob("*.gguf")}
    found |= {path.stem: read_header(lzma.decompress(path.read_bytes())) for path in DATA.glob("*.xz")}
    return found


def check(header: GGUFHeader) -> str:
    """The text of a model, which must bring back all that an estimate reads."""
    model = model_from_header(header)
    text = facts_text(header)
    again, same = checked_facts(text)
    assert same == text
    for field in fields(Model):
        if field.name != "tensors":
            assert getattr(again, field.name) == getattr(model, field.name), field.name
    assert sorted(again.tensors, key=repr) == sorted(model.tensors, key=repr)
    assert mapped_besides(again) == mapped_besides(model)
    return text


@pytest.mark.parametrize("name", sorted(fixtures()))
def test_files(name: str) -> None:
    assert len(check(fixtures()[name])) < 2000


@pytest.mark.parametrize("index", range(len(QUANTIZATIONS)), ids=lambda index: QUANTIZATIONS[index])
def test_bundled_models(index: int) -> None:
    """Each model at one quantization, each quantization with its part of the models."""
    for number in range(index, len(IDS), len(QUANTIZATIONS)):
        text = check(
            quantized(IDS[number], QUANTIZATIONS[(number + number // len(QUANTIZATIONS)) % len(QUANTIZATIONS)])
        )
        assert len(text) < 1500, IDS[number]


def test_one_model_of_each_architecture() -> None:
    lengths = {name: len(check(header)) for name, header in truth.tiny_headers().items()}
    assert len(lengths) > 120
    assert max(lengths.values()) < MAX_TEXT / 2


def test_eighty_layers_with_a_pattern_of_types_are_short() -> None:
    assert len(check(quantized("llama-3.3-70b-instruct", "Q4_K_M"))) < 700


@settings(max_examples=25, deadline=None)
@given(
    id=st.sampled_from(IDS),
    quantization=st.sampled_from(QUANTIZATIONS),
    n_ctx=st.integers(1, 128).map(lambda n: 256 * n),
    types=st.sampled_from([("f16", "f16"), ("q8_0", "q8_0"), ("q8_0", "q4_0")]),
    n_gpu_layers=st.integers(-1, 20),
)
def test_the_estimate_is_the_same_to_the_byte(
    id: str, quantization: str, n_ctx: int, types: tuple[str, str], n_gpu_layers: int
) -> None:
    header = quantized(id, quantization)
    how = Settings(n_ctx=n_ctx, cache_type_k=types[0], cache_type_v=types[1], n_gpu_layers=n_gpu_layers)
    linked = read_facts(facts_text(header))
    try:
        expected = estimate(model_from_header(header), how, [MAC])
    except ValueError as error:
        with pytest.raises(type(error)):
            estimate(linked, how, [MAC])
    else:
        assert estimate(linked, how, [MAC]) == expected


@given(st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_the_order_of_tensors_changes_nothing_but_where_the_embedding_lies(random: Random) -> None:
    header = fixtures()["llama-dense"]
    tensors = [tensor for tensor in header.tensors if not tensor.name.startswith("token_embd.")]
    random.shuffle(tensors)
    (embedding,) = (tensor for tensor in header.tensors if tensor.name.startswith("token_embd."))
    texts = [
        check(replace(header, tensors=(*tensors[:at], embedding, *tensors[at:]))) for at in (0, 1, 5, len(tensors))
    ]
    assert texts[1] == texts[2]
    assert len(set(texts)) == 3


def test_what_no_byte_depends_on_does_not_change_the_text() -> None:
    header = fixtures()["llama-dense"]
    more: dict[str, Value] = {
        "general.author": "somebody",
        "llama.rope.freq_base": 1e6,
        "llama.note": "a text",
        "split.count": 1,
    }
    assert facts_text(replace(header, metadata={**header.metadata, **more})) == facts_text(header)


def test_a_name_is_cut_and_printable() -> None:
    header = fixtures()["llama-dense"]
    named = replace(header, metadata={**header.metadata, "general.name": "a\x00\u202eb\n" + "é" * 200})
    assert read_facts(facts_text(named)).name == "ab" + "é" * 98


def with_tensors(*tensors: Tensor) -> GGUFHeader:
    header = fixtures()["llama-dense"]
    return replace(header, tensors=(*header.tensors, *tensors))


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (with_tensors(Tensor("blk.01.odd", (32,), ElementType.F32)), "no-facts"),
        (with_tensors(Tensor("odd.*", (32,), ElementType.F32)), "no-facts"),
        (with_tensors(Tensor("blk.*.odd", (32,), ElementType.F32)), "unknown-tensor"),
        (with_tensors(Tensor("naïve", (32,), ElementType.F32)), "no-facts"),
        (with_tensors(*(Tensor(f"t.{n}", (32,), ElementType.F32) for n in range(MAX_TENSORS))), "no-facts"),
        (with_tensors(*(Tensor(f"t.{n * n}", (n + 1,), ElementType.F32) for n in range(1000))), "facts-too-long"),
    ],
    ids=["a zero before a number", "a star", "a star for a layer", "not ASCII", "too many", "too long"],
)
def test_what_no_link_can_carry_is_refused(header: GGUFHeader, code: str) -> None:
    with pytest.raises(ModelError) as caught:
        facts_text(header)
    assert caught.value.code == code


def test_too_many_different_layers_are_refused() -> None:
    header = catalogue_header("llama-3.3-70b-instruct")
    widths = (*range(32, 32 * (MAX_KINDS + 1), 32), *[64] * (80 - MAX_KINDS))
    facts_text(replace(header, metadata={**header.metadata, "llama.feed_forward_length": widths}))
    with pytest.raises(ModelError, match="65 different layers"):
        facts_text(replace(header, metadata={**header.metadata, "llama.feed_forward_length": (*widths[:-1], 16)}))


def test_infinite_numbers_are_kept_and_what_is_none_is_refused() -> None:
    header = fixtures()["llama-dense"]
    check(replace(header, metadata={**header.metadata, "llama.kda.gate_lower_bound": float("-inf")}))
    with pytest.raises(ModelError) as caught:
        facts_text(replace(header, metadata={**header.metadata, "llama.kda.gate_lower_bound": float("nan")}))
    assert caught.value.code == "no-facts"
