"""Texts that no link of ours has are refused by name: nothing a stranger writes is trusted."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator import ModelError, read_facts
from estimator.sources.facts import MAX_INFLATED, MAX_TEXT, facts_text
from estimator.sources.facts_header import MAX_ARRAY, MAX_KEYS, MAX_TENSORS
from estimator.sources.gguf import read_header

TEXT = facts_text(read_header(Path(__file__).parents[2] / "data" / "gguf" / "llama-dense.gguf"))
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def inflated(text: str) -> bytes:
    return zlib.decompress(base64.urlsafe_b64decode(text[1:] + "=" * (-len(text[1:]) % 4)), -15)


def deflated(plain: bytes) -> str:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = compressor.compress(plain) + compressor.flush()
    return "1" + base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def said() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(inflated(TEXT))
    return found


def written(what: Any) -> str:
    return deflated(json.dumps(what).encode())


def with_keys(**metadata: Any) -> str:
    what = said()
    what["metadata"] |= {name.replace("__", "."): value for name, value in metadata.items()}
    return written(what)


def with_tensors(*entries: Any) -> str:
    what = said()
    what["tensors"] += entries
    return written(what)


def refusal(text: str) -> ModelError:
    with pytest.raises(ModelError) as caught:
        read_facts(text)
    assert caught.value.field == "facts"
    assert caught.value.message.startswith("facts")
    assert len(caught.value.message) < 500
    return caught.value


def test_what_was_not_tampered_with_is_read() -> None:
    assert read_facts(TEXT).architecture == "llama"
    assert read_facts(written(said())).architecture == "llama"
    assert read_facts(with_keys(llama__new_key=[1, 2.5, True])).architecture == "llama"
    assert read_facts(with_tensors(["new.weight", "Q4_K", [256, 4]])).architecture == "llama"


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("", "bad-facts", "version ''"),
        ("2" + TEXT[1:], "bad-facts", "version '2'"),
        ("1", "bad-facts", "its end is missing"),
        (TEXT[:-8], "bad-facts", "damaged"),
        (TEXT + "AAAA", "bad-facts", "something follows"),
        (TEXT + "/", "bad-facts", "none of base64url"),
        (TEXT + "é", "bad-facts", "none of base64url"),
        (TEXT[:9] + " " + TEXT[9:], "bad-facts", "none of base64url"),
        ("1" + TEXT[3:], "bad-facts", "cannot be unpacked"),
        ("1" + "A" * MAX_TEXT, "facts-too-long", "6,001 characters"),
        (deflated(b""), "bad-facts", "no JSON"),
        (deflated(b"{"), "bad-facts", "no JSON"),
        (deflated(b'"\xff"'), "bad-facts", "no JSON"),
        (deflated(b"[" * 100_000), "bad-facts", "no JSON"),
        (deflated(b"9" * 10_000), "bad-facts", "no JSON"),
        (deflated(bytes(MAX_INFLATED + 1)), "bad-facts", "more than 131,072 bytes"),
        (deflated(bytes(4_000_000)), "bad-facts", "more than 131,072 bytes"),
    ],
)
def test_what_cannot_be_unpacked(text: str, code: str, says: str) -> None:
    error = refusal(text)
    assert error.code == code
    assert says in error.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (written([]), "metadata and tensors"),
        (written({"metadata": {}}), "metadata and tensors"),
        (written({**said(), "more": 1}), "metadata and tensors"),
        (written({**said(), "metadata": []}), "no object"),
        (written({**said(), "metadata": {}}), "general.architecture"),
        (written({**said(), "tensors": {}}), "no list"),
        (with_keys(**{f"llama.key{n}": 1 for n in range(MAX_KEYS)}), f"at most {MAX_KEYS} keys"),
        (with_keys(llama__a=None), "llama.a neither a number"),
        (with_keys(llama__a={}), "llama.a neither a number"),
        (with_keys(llama__a=[[]]), "llama.a no array"),
        (with_keys(llama__a=["1"]), "llama.a no array"),
        (with_keys(llama__a=[1] * (MAX_ARRAY + 1)), "llama.a no array"),
        (with_keys(llama__a=2**64), "llama.a neither a number"),
        (with_keys(llama__a=float("nan")), "llama.a neither a number"),
        (with_keys(llama__a="text"), "llama.a, which no link has"),
        (with_keys(llama__rope__freq_base=1e6), "llama.rope.freq_base, which no link has"),
        (with_keys(qwen3__block_count=3), "qwen3.block_count, which no link has"),
        (with_keys(general__author="me"), "general.author, which no link has"),
        (with_keys(**{"llama.ключ": 1}), "has the key 'llama.ключ'"),
        (with_keys(**{"": 1}), "has the key ''"),
        (with_keys(general__name="a" * 101), "general.name that is too long"),
        (with_keys(general__name="\ud800"), "general.name that is too long, or cannot be printed"),
        (with_keys(general__name="a\nb"), "general.name that is too long, or cannot be printed"),
        (with_tensors("a"), "[name, type, shape, layers]"),
        (with_tensors(["a", "F32"]), "[name, type, shape, layers]"),
        (with_tensors(["a", "F32", [1], "0", 1]), "[name, type, shape, layers]"),
        (with_tensors(["a", "F33", [1]]), "element type 'F33'"),
        (with_tensors(["a", 0, [1]]), "element type '0'"),
        (with_tensors(["a", "F32", []]), "shape []"),
        (with_tensors(["a", "F32", 7]), "shape 7"),
        (with_tensors(["a", "F32", [True]]), "shape [True]"),
        (with_tensors(["a", "F32", [1.5]]), "shape [1.5]"),
        (with_tensors(["a", "F32", [0]]), "shape [0]"),
        (with_tensors(["a", "F32", [10**100]]), "shape [1000"),
        (with_tensors(["", "F32", [1]]), "name ''"),
        (with_tensors([None, "F32", [1]]), "name 'None'"),
        (with_tensors(["a" * 64, "F32", [1]]), "name 'aaa"),
        (with_tensors(["a b", "F32", [1]]), "name 'a b'"),
        (with_tensors(["a*", "F32", [1]]), "name 'a*'"),
        (with_tensors(["a", "F32", [1], "0"]), "layers for 'a'"),
        (with_tensors(["blk.*.a", "F32", [1], [0]]), "layers for 'blk.*.a'"),
        (with_tensors(["a", "F32", [1]], ["a", "F32", [1]]), "'a' twice"),
        (with_tensors(["blk.*.a", "F32", [1]], ["blk.0.a", "F16", [1]]), "'blk.0.a' twice"),
        (with_tensors(*([f"blk.*.{n}", "F32", [1], "0-511"] for n in range(9))), f"more than {MAX_TENSORS:,} tensors"),
    ],
)
def test_what_is_no_header(text: str, says: str) -> None:
    error = refusal(text)
    assert error.code == "bad-facts"
    assert says in error.message


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (with_tensors(["a", "F32", [1, 1, 1, 1, 1]]), "bad-dimensions"),
        (with_tensors(["a", "F32", [2**32, 2**32]]), "bad-dimensions"),
        (with_tensors(["a", "Q4_K", [100]]), "bad-dimensions"),
        (with_tensors(["blk.*.a", "F32", [1], "512"]), "bad-layers"),
        (with_tensors(["blk.*.a", "F32", [1], "0-511"]), "unknown-tensor"),
        (with_keys(llama__block_count=10**9), "bad-value"),
        (with_keys(llama__block_count=0), "bad-value"),
        (with_keys(llama__block_count=True), "bad-value"),
        (with_keys(llama__embedding_length=7), "bad-embedding"),
        (written({"metadata": {"general.architecture": "llama"}, "tensors": []}), "missing-key"),
        (
            written({"metadata": {"general.architecture": "x", "x.block_count": 1}, "tensors": []}),
            "unknown-architecture",
        ),
    ],
)
def test_what_is_no_model(text: str, code: str) -> None:
    assert refusal(text).code == code


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(TEXT) - 1), st.sampled_from(ALPHABET))
def test_a_changed_character_is_refused_or_read(index: int, letter: str) -> None:
    changed(TEXT[:index] + letter + TEXT[index + 1 :])


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(inflated(TEXT)) - 1), st.binary(max_size=4))
def test_changed_json_is_refused_or_read(index: int, letters: bytes) -> None:
    plain = inflated(TEXT)
    changed(deflated(plain[:index] + letters + plain[index + 1 :]))


def changed(text: str) -> None:
    """Whatever happens is a model or a refusal that names the field."""
    try:
        read_facts(text)
    except ModelError as caught:
        error = caught
    else:
        return
    assert error.field == "facts"
    assert error.message.encode()
