"""Projectors and adapters from the headers of their files."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from gguf.constants import GGMLQuantizationType

from estimator import IncompleteHeaderError, ModelError, read_lora, read_mmproj
from tests.estimator.sources.gguf_bytes import LE

MODEL = Path(__file__).parents[2] / "data" / "gguf" / "llama-dense.gguf"
F16 = GGMLQuantizationType.F16


def header(kind: str, architecture: str, *names: str, lora: bool = False) -> bytes:
    """A header with F16 matrices of 64 by 8."""
    pairs = [LE.text("general.architecture", architecture), LE.text("general.type", kind), LE.text("general.name", "x")]
    pairs += [LE.text("adapter.type", "lora")] if lora else []
    return LE.header(pairs, [LE.tensor(name, (64, 8), F16, 1024 * n) for n, name in enumerate(names)])


def adapter(*names: str) -> bytes:
    return header("adapter", "llama", *names, lora=True)


def test_a_projector() -> None:
    data = header("mmproj", "clip", "v.patch_embd.weight", "mm.0.weight")
    for source in (data, io.BytesIO(data + bytes(2048))):
        projector = read_mmproj(source)
        assert projector.name == "x"
        assert [tensor.name for tensor in projector.tensors] == ["v.patch_embd.weight", "mm.0.weight"]
        assert projector.weights_bytes == 2048


@pytest.mark.parametrize("source", [MODEL, header("model", "llama"), adapter()])
def test_what_is_no_projector(source: Path | bytes) -> None:
    with pytest.raises(ModelError) as caught:
        read_mmproj(source)
    assert (caught.value.code, caught.value.field) == ("not-a-projector", "mmproj")


def test_an_adapter() -> None:
    found = read_lora(
        adapter(
            "blk.0.attn_q.weight.lora_b", "blk.0.attn_q.weight.lora_a", "output_norm.weight", "o.lora_a", "o.lora_b"
        )
    )
    assert (found.name, found.architecture) == ("x", "llama")
    assert {name: (a.name, b.name) for name, (a, b) in found.pairs.items()} == {
        "blk.0.attn_q.weight": ("blk.0.attn_q.weight.lora_a", "blk.0.attn_q.weight.lora_b"),
        "o": ("o.lora_a", "o.lora_b"),
    }


@pytest.mark.parametrize(
    "source", [MODEL, header("mmproj", "clip"), header("adapter", "llama"), header("model", "llama", lora=True)]
)
def test_what_is_no_adapter(source: Path | bytes) -> None:
    with pytest.raises(ModelError) as caught:
        read_lora(source)
    assert (caught.value.code, caught.value.field) == ("not-a-lora", "lora")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["a.lora_a"], "a has an A or a B, but not both"),
        (["a.lora_b"], "a has an A or a B, but not both"),
        (["a.lora_a", "a.lora_b", "b.weight"], "b.weight is neither"),
    ],
)
def test_an_adapter_that_llama_cpp_refuses(names: list[str], says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        read_lora(adapter(*names))
    assert caught.value.code == "bad-lora"


@pytest.mark.parametrize("read", [read_mmproj, read_lora])
def test_a_header_that_ends_early(read: object) -> None:
    assert callable(read)
    with pytest.raises(IncompleteHeaderError):
        read(adapter("a.lora_a")[:-4])
