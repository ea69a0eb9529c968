"""What a model on the Hub is called, and that no name leads elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import RequestError
from app.hub.names import Name, is_name, parse_name

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("org/repo", Name("org/repo")),
        ("org/repo/", Name("org/repo")),
        ("Org/Repo-1.5_x", Name("Org/Repo-1.5_x")),
        ("org/repo/file.gguf", Name("org/repo", "file.gguf")),
        ("org/repo/file.GGUF", Name("org/repo", "file.GGUF")),
        ("org/repo/a b/c+d (1).gguf", Name("org/repo", "a b/c+d (1).gguf")),
        ("org/repo/file@2x.gguf", Name("org/repo", "file@2x.gguf")),
        ("org/repo/UD-Q4_K_XL", Name("org/repo", "UD-Q4_K_XL")),
        ("org/repo@v1.0", Name("org/repo", "", "v1.0")),
        ("org/repo@main", Name("org/repo", "", "main")),
        ("org/repo/file.gguf@refs/pr/3", Name("org/repo", "file.gguf", "refs/pr/3")),
        (f"org/repo/file.gguf@{COMMIT}", Name("org/repo", "file.gguf", COMMIT)),
        ("https://huggingface.co/org/repo", Name("org/repo")),
        ("HTTPS://HuggingFace.co/org/repo/", Name("org/repo")),
        ("https://www.huggingface.co/org/repo", Name("org/repo")),
        ("huggingface.co/org/repo", Name("org/repo")),
        ("hf.co/org/repo", Name("org/repo")),
        ("https://huggingface.co/org/repo?show_file_info=file.gguf", Name("org/repo")),
        ("https://huggingface.co/org/repo/tree/main", Name("org/repo")),
        ("https://huggingface.co/org/repo/tree/main/UD-Q4_K_XL", Name("org/repo", "UD-Q4_K_XL")),
        ("https://huggingface.co/org/repo/tree/v1", Name("org/repo", "", "v1")),
        ("https://huggingface.co/org/repo/blob/main/a/file.gguf", Name("org/repo", "a/file.gguf")),
        ("https://huggingface.co/org/repo/resolve/main/file.gguf?download=true", Name("org/repo", "file.gguf")),
        (f"https://huggingface.co/org/repo/resolve/{COMMIT}/f.gguf#x", Name("org/repo", "f.gguf", COMMIT)),
        ("https://huggingface.co/org/repo/blob/refs%2Fpr%2F1/f.gguf", Name("org/repo", "f.gguf", "refs/pr/1")),
        ("https://huggingface.co/org/repo/blob/main/a%20b.gguf", Name("org/repo", "a b.gguf")),
        ("https://huggingface.co/org/repo/blob/main/README.md", Name("org/repo")),
        ("hf://org/repo@v1/file.gguf", Name("org/repo", "file.gguf", "v1")),
    ],
)
def test_what_is_understood(text: str, name: Name) -> None:
    assert parse_name(text) == name
    assert parse_name(name.text) == name


@pytest.mark.parametrize(
    "text",
    [
        *(
            "org//repo",
            "/org/repo",
            "org/",
            "/",
            "//",
            "../repo",
            "org/..",
            "org/repo..x",
            "org/re--po",
            "org/repo.git",
        ),
        *("org/repo/../x.gguf", "org/repo/./x.gguf", "org/repo//x.gguf", "org/repo/a\\b.gguf", "org/repo/x\n.gguf"),
        *("org/repo@", "org/repo@..", "org/repo@a..b", "org/repo@-x", "org/repo@a b", "org/repo@/x", "org/repo@a@b"),
        *("org/répo", "o r g/repo", "org/repo?x=1", "org/repo#x", "org/" + "r" * 97, "org/repo@" + "r" * 101),
        *("https://evil.example/org/repo", "http://127.0.0.1/org/repo", "http://[::1]/org/repo", "https://[x/org/repo"),
        *("https://huggingface.co@evil.example/org/repo", "https://huggingface.co.evil.example/org/repo"),
        *("file:///etc/passwd", "ftp://huggingface.co/org/repo", "//evil.example/org/repo", "evil.example:80/a/b/c"),
        *("https://huggingface.co/datasets/org/repo", "https://huggingface.co/spaces/org/repo"),
        *("https://huggingface.co/org", "https://huggingface.co/org/repo/discussions/1", "https://huggingface.co/"),
        "https://huggingface.co/org/repo/blob/main/%2e%2e/x.gguf",
    ],
)
def test_what_is_refused(text: str) -> None:
    assert is_name(text)
    with pytest.raises(RequestError) as caught:
        parse_name(text)
    assert (caught.value.code, caught.value.field, caught.value.status) == ("bad-name", "model", 400)
    assert "org/repo/file.gguf" in caught.value.message
    assert repr(text[:100])[1:-1] in caught.value.message


@pytest.mark.parametrize("text", ["llama-3.1-8b-instruct", "nope", ""])
def test_a_bundled_model_has_no_slash(text: str) -> None:
    assert not is_name(text)


@given(st.text(max_size=60).map(lambda text: text + "/" + text[::-1]) | st.from_regex(r"[\w./@:%?#\\ -]{1,40}/.{1,20}"))
def test_any_text_is_a_name_or_refused_by_field(text: str) -> None:
    try:
        name = parse_name(text)
    except RequestError as error:
        found = error
    else:
        assert parse_name(name.text) == name
        assert name.repo.count("/") == 1
        assert ".." not in name.repo
        assert not {"", ".", ".."} & set(name.path.split("/") if name.path else [])
        return
    assert found.field == "model"
