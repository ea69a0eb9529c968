"""Commands are quoted for a shell, and names cannot break out of them."""

from __future__ import annotations

import shlex

import pytest

from estimator.engines.recipe import MAX_NAME, Source, command
from estimator.errors import SettingsError


def test_words_survive_a_shell() -> None:
    words = ["vllm", "serve", "a b", "$(rm -rf /)", "it's", "--x=1;2"]
    assert shlex.split(command(*words)) == words


def test_variables_come_first() -> None:
    text = command("ollama", "serve", env={"A": 1, "B": "x y"})
    assert text == "A=1 B='x y' ollama serve"
    assert shlex.split(text) == ["A=1", "B=x y", "ollama", "serve"]


@pytest.mark.parametrize("name", ["a\nb", "\x00", "a\u2028b", "x" * (MAX_NAME + 1)])
@pytest.mark.parametrize("part", ["repo", "file", "library"])
def test_names_that_are_no_names(part: str, name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Source(**{part: name})
    assert caught.value.field == "model"


def test_what_is_not_known_is_to_be_filled_in() -> None:
    assert (Source().checkpoint, Source().gguf) == ("ORG/MODEL", "model.gguf")
    assert Source(repo="a/b", file="c.gguf").checkpoint == "a/b"
