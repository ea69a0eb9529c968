"""What a repository is said to hold, and which of its files is meant."""

from __future__ import annotations

from typing import Any

import pytest
from huggingface_hub import ModelInfo

from app.errors import RequestError
from app.hub.bounds import BrokenReplyError
from app.hub.listing import MAX_FILES, MAX_PARTS, Listing, bits, choose, label_of, listing_of
from app.hub.names import Name, parse_name

MIB = 2**20


def listing(files: dict[str, int], **more: object) -> Listing:
    """A repository with files of so many MiB."""
    siblings = [{"rfilename": path, "size": size * MIB, "blobId": "b"} for path, size in files.items()]
    info: Any = ModelInfo
    return listing_of(info(id="o/r", sha="c" * 40, siblings=siblings, **more), "o/r")


def chosen(files: dict[str, int], name: str = "o/r", quantization: str = "Q4_K_M", **more: object) -> str:
    return choose(listing(files, **more), parse_name(name), quantization).path


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("Qwen3-8B-Q4_K_M.gguf", "Q4_K_M"),
        ("qwen2.5-7b-instruct-q5_k_s.gguf", "Q5_K_S"),
        ("gemma-3-27b-it-q4_0.gguf", "Q4_0"),
        ("model.i1-IQ2_XXS.gguf", "IQ2_XXS"),
        ("model.Q8_0.gguf", "Q8_0"),
        ("model-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("UD-IQ1_S/DeepSeek-V3-UD-IQ1_S-00001-of-00004.gguf", "UD-IQ1_S"),
        ("BF16/model-00001-of-00002.gguf", "BF16"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("gpt-oss-120b-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("Phi-3-mini-4k-instruct-fp16.gguf", "FP16"),
        ("model-TQ1_0.gguf", "TQ1_0"),
        ("ggml-model-f16.gguf", "F16"),
        ("Qwen3-8B.gguf", ""),
        ("q.gguf", ""),
    ],
)
def test_the_quantization_in_a_name(path: str, label: str) -> None:
    assert label_of(path) == label


def test_split_files_are_one_entry_and_projectors_stand_aside() -> None:
    found = listing(
        {
            "m-Q8_0-00002-of-00002.gguf": 200,
            "m-Q8_0-00001-of-00002.gguf": 300,
            "Q4_K_M/m-Q4_K_M-00001-of-00001.gguf": 100,
            "mmproj-model-f16.gguf": 9,
            "sub/m.mmproj-Q8_0.gguf": 5,
            "imatrix_unsloth.gguf": 1,
            "README.md": 1,
            "m.safetensors": 1,
        }
    )
    assert [(entry.path, entry.label, entry.size // MIB, len(entry.files)) for entry in found.entries] == [
        ("Q4_K_M/m-Q4_K_M-00001-of-00001.gguf", "Q4_K_M", 100, 1),
        ("m-Q8_0-00001-of-00002.gguf", "Q8_0", 500, 2),
    ]
    assert [file.path for file in found.entries[1].files] == [
        "m-Q8_0-00001-of-00002.gguf",
        "m-Q8_0-00002-of-00002.gguf",
    ]
    assert [file.path for file in found.aside] == [
        "imatrix_unsloth.gguf",
        "mmproj-model-f16.gguf",
        "sub/m.mmproj-Q8_0.gguf",
    ]
    assert Listing.from_json(found.as_json()) == found


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["model.safetensors", "consolidated.safetensors"], ["model.safetensors"]),
        (
            ["model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors", "original/model.safetensors"],
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ),
        (["model.safetensors-00001-of-00001.safetensors"], ["model.safetensors-00001-of-00001.safetensors"]),
        (["model-00001-of-00002.safetensors"], []),
        (["adapter_model.safetensors", "x/model.safetensors"], []),
    ],
)
def test_the_safetensors_of_the_model(files: list[str], expected: list[str]) -> None:
    assert [file.path for file in listing(dict.fromkeys(files, 1)).safetensors] == expected


SIZES = {"m-Q8_0.gguf": 8000, "m-Q5_K_M.gguf": 5400, "m-Q3_K_M.gguf": 3700, "m-IQ2_M.gguf": 2800}


@pytest.mark.parametrize(
    ("files", "name", "quantization", "expected"),
    [
        (SIZES | {"m-Q4_K_M.gguf": 4700}, "o/r", "Q4_K_M", "m-Q4_K_M.gguf"),
        (SIZES | {"m-Q4_K_M.gguf": 4700}, "o/r", "Q8_0", "m-Q8_0.gguf"),
        (SIZES, "o/r", "Q4_K_M", "m-Q5_K_M.gguf"),
        (SIZES, "o/r", "IQ2_XXS", "m-IQ2_M.gguf"),
        (SIZES, "o/r", "BF16", "m-Q8_0.gguf"),
        (SIZES | {"m-UD-Q4_K_XL.gguf": 4800}, "o/r", "Q4_K_M", "m-UD-Q4_K_XL.gguf"),
        (SIZES | {"m-UD-Q4_K_M.gguf": 4300, "m-Q4_K_M.gguf": 4700}, "o/r", "Q4_K_M", "m-Q4_K_M.gguf"),
        ({"m-mxfp4.gguf": 12000, "m-F16.gguf": 13000}, "o/r", "MXFP4_MOE", "m-mxfp4.gguf"),
        ({"m-fp16.gguf": 16000, "m-Q2_K.gguf": 3000}, "o/r", "BF16", "m-fp16.gguf"),
        ({"m.gguf": 1}, "o/r", "Q4_K_M", "m.gguf"),
        ({"a.gguf": 1, "b.gguf": 2, "c.gguf": 3}, "o/r", "Q4_K_M", "b.gguf"),
        (SIZES, "o/r/m-Q3_K_M.gguf", "Q8_0", "m-Q3_K_M.gguf"),
        (SIZES | {"mmproj-F16.gguf": 800}, "o/r/mmproj-F16.gguf", "Q8_0", "mmproj-F16.gguf"),
        ({"x/m-Q8_0.gguf": 8, "y/m-Q4_K_M.gguf": 4}, "o/r/x", "Q4_K_M", "x/m-Q8_0.gguf"),
        (
            {"m-Q8_0-00001-of-00002.gguf": 1, "m-Q8_0-00002-of-00002.gguf": 1},
            "o/r/m-Q8_0-00002-of-00002.gguf",
            "Q4_K_M",
            "m-Q8_0-00001-of-00002.gguf",
        ),
    ],
)
def test_which_file_is_meant(files: dict[str, int], name: str, quantization: str, expected: str) -> None:
    assert chosen(files, name, quantization) == expected


def test_the_number_of_weights_that_the_hub_shows_counts() -> None:
    files = {"small.gguf": 1200, "middle.gguf": 2300, "large.gguf": 7000}
    assert chosen(files, gguf={"total": 2 * 10**9}) == "small.gguf"
    assert chosen(files, gguf={"total": 12 * 10**9}) == "large.gguf"


@pytest.mark.parametrize(
    ("files", "name", "code"),
    [
        ({"a-Q8_0.gguf": 1}, "o/r/b.gguf", "no-such-file"),
        ({"a-Q8_0.gguf": 1}, "o/r/folder", "no-such-file"),
        ({"a-Q8_0-00001-of-00003.gguf": 1, "a-Q8_0-00003-of-00003.gguf": 1}, "o/r", "missing-part"),
        ({f"a-{n:05}-of-00201.gguf": 1 for n in range(1, MAX_PARTS + 2)}, "o/r", "too-many-parts"),
    ],
)
def test_what_is_not_there(files: dict[str, int], name: str, code: str) -> None:
    found = listing(files)
    with pytest.raises(RequestError) as caught:
        choose(found, parse_name(name), "Q4_K_M")
    status = 400 if code == "too-many-parts" else 404
    assert (caught.value.code, caught.value.field, caught.value.status) == (code, "model", status)
    assert caught.value.allowed == tuple(Name("o/r", entry.path).text for entry in found.entries)


def test_more_files_than_are_looked_at() -> None:
    with pytest.raises(BrokenReplyError, match="10,000"):
        listing({f"{n}.bin": 1 for n in range(MAX_FILES + 1)})


def test_bits_follow_from_the_quantizer() -> None:
    assert bits("Q8_0") == pytest.approx(8.5, abs=0.01)
    assert bits("FP16") == bits("F16") == pytest.approx(16, abs=0.01)
    assert bits("MXFP4") == bits("MXFP4_MOE") == 4.25
    assert bits("UD-Q4_K_XL") is bits("") is None
