"""How well the length of a header is forecast: what a reader by ranges would ask for, against what there is."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest
from gguf.constants import GGUFValueType
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.errors import IncompleteHeaderError, ModelError
from estimator.sources.gguf import read_header
from estimator.sources.gguf_cursor import MAX_HEADER_BYTES
from estimator.sources.gguf_forecast import expected_bytes, least_bytes
from tests.estimator.sources.gguf_bytes import LE, GGUFBytes, attempt, small

REAL = Path(__file__).parents[2] / "data" / "gguf" / "gemma-3-270m.header.gguf.xz"


def tokenizer(
    kind: str, n_tokens: int, n_merges: int = 0, *, scores: bool = False, pre: str = "default", to: GGUFBytes = LE
) -> bytes:
    """A header whose tokens and merges grow longer along their lists, as they do where they are sorted by rank."""
    tokens = ["t" * (2 + 8 * i // n_tokens) + str(i) for i in range(n_tokens)]
    pairs = [
        to.text("general.architecture", "llama"),
        to.text("tokenizer.ggml.model", kind),
        to.text("tokenizer.ggml.pre", pre),
        to.strings("tokenizer.ggml.tokens", tokens),
        to.numbers("tokenizer.ggml.token_type", GGUFValueType.INT32, [1] * n_tokens),
    ]
    if scores:
        pairs.append(to.numbers("tokenizer.ggml.scores", GGUFValueType.FLOAT32, [0.0] * n_tokens))
    if n_merges:
        pairs.append(
            to.strings("tokenizer.ggml.merges", ["m" * (3 + 8 * i // n_merges) + str(i) for i in range(n_merges)])
        )
    pairs.append(to.text("tokenizer.chat_template", "x" * 5000))
    tensors = [to.tensor(f"blk.{i}.ffn_norm.weight", (8,), offset=32 * i) for i in range(300)]
    return to.header(pairs, tensors)


CASES = {
    "merges": lambda: tokenizer("gpt2", 40_000, 39_000),
    "twice the merges": lambda: tokenizer("gpt2", 32_000, 70_000),
    "big-endian": lambda: tokenizer("gpt2", 40_000, 39_000, to=GGUFBytes(">")),
    "no merges": lambda: tokenizer("gpt2", 60_000, pre="kimi-k2"),
    "scores": lambda: tokenizer("llama", 60_000, scores=True),
    "neither": lambda: tokenizer("rwkv", 65_000),
    "gemma 3": lambda: lzma.decompress(REAL.read_bytes()),
}


def asked(header: bytes, first: int) -> list[int]:
    """The lengths that a reader asks for in turn."""
    padded = header + bytes(len(header))  # weights
    lengths = [first]
    while (need := expected_bytes(padded[: lengths[-1]])) > lengths[-1]:
        lengths.append(need)
    return lengths


@pytest.mark.parametrize("case", CASES)
def test_few_bytes_too_many_and_few_trips(case: str) -> None:
    header = CASES[case]()
    end = read_header(header).n_bytes
    lengths = asked(header[:end], end // 6)
    assert len(lengths) <= 4
    assert end <= lengths[-1] <= 1.25 * end


@pytest.mark.parametrize("case", CASES)
def test_a_whole_header_has_its_length(case: str) -> None:
    header = CASES[case]()
    assert expected_bytes(header + b"weights") == read_header(header).n_bytes


@given(st.integers(0, len(small())))
def test_a_part_is_forecast_to_be_longer(n: int) -> None:
    data = small()
    try:
        read_header(data[:n])
    except IncompleteHeaderError:
        assert n < expected_bytes(data[:n]) <= MAX_HEADER_BYTES
    else:
        assert expected_bytes(data[:n]) == read_header(data).n_bytes


@given(st.binary(max_size=64))
def test_what_is_refused_is_not_forecast(tail: bytes) -> None:
    data = b"GGUF" + LE.u32(3) + tail
    found = attempt(data)
    if isinstance(found, IncompleteHeaderError):
        assert expected_bytes(data) > len(data)
    elif isinstance(found, ModelError):
        with pytest.raises(ModelError) as caught:
            expected_bytes(data)
        assert caught.value.code == found.code


def test_a_list_that_lies_about_its_length_costs_no_more_than_is_read() -> None:
    data = LE.header([LE.array("tokenizer.ggml.tokens", GGUFValueType.STRING, LE.string("a"), 30_000_000)])
    assert expected_bytes(data) == MAX_HEADER_BYTES


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=10, deadline=None)
@given(part=st.floats(0.01, 1))
def test_no_header_is_shorter_than_the_least(case: str, part: float) -> None:
    header = CASES[case]()
    n_bytes = read_header(header).n_bytes
    assert least_bytes(header[: int(n_bytes * part)]) <= n_bytes
    assert least_bytes(header[:n_bytes]) == n_bytes


def test_the_least_counts_every_string_that_is_missing() -> None:
    data = LE.header([LE.array("tokenizer.ggml.tokens", GGUFValueType.STRING, LE.string("a"), 1_000_000)])
    assert len(data) + 8 * 999_000 < least_bytes(data) <= len(data) + 8 * 1_000_000
