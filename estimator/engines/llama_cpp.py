"""llama.cpp's programs: one engine, but each with defaults of its own that decide memory (b11434)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from estimator.settings import Settings


@dataclass(frozen=True, slots=True)
class Program:
    """A program of llama.cpp.

    Args:
        id: its name on the command line.
        summary: what sets it apart, for people.
        n_parallel: slots where ``-np`` is not given; -1 = llama-server's choice.
        n_outputs: rows of logits that it reserves; None = one a slot, 0 = every row of the ubatch.
        loads_companions: it can load a draft and a projector beside the model.
    """

    id: str
    summary: str
    n_parallel: int
    n_outputs: int | None
    loads_companions: bool = True

    def settings(self, **given: Any) -> Settings:
        """Settings with this program's defaults for what is not ``given``."""
        return Settings(**{"n_parallel": self.n_parallel, "n_outputs": self.n_outputs, **given})


EXPERTS: Final = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"
DENSE: Final = r"\.ffn_(up|down|gate)\."
"""Weights of a feed-forward by their names (common/common.h:1224-1226)."""


def kept_on_cpu(n_cpu_moe: int, n_cpu_ffn: int) -> str | None:
    """The pattern of the tensors that ``--n-cpu-moe``, ``--cpu-moe`` and ``--n-cpu-ffn`` keep in host memory.

    Args:
        n_cpu_moe: the first layers whose experts stay there; -1 = all (``--cpu-moe``).
        n_cpu_ffn: the first layers whose dense feed-forward stays there.
    """
    patterns = [EXPERTS] if n_cpu_moe < 0 else [f"blk\\.{below(n_cpu_moe)}{EXPERTS}"] if n_cpu_moe else []
    patterns += [f"blk\\.{below(n_cpu_ffn)}{DENSE}"] if n_cpu_ffn else []
    return "|".join(patterns) or None


def below(n: int) -> str:
    """A pattern of the whole numbers below ``n``, which is at least 1: ``(\\d|1[0-6])`` for 17."""
    digits = str(n - 1)
    shorter = [r"\d" if length == 1 else "[1-9]" + r"\d" * (length - 1) for length in range(1, len(digits))]
    same = []
    for place, digit in enumerate(digits):
        low = 1 if place == 0 and len(digits) > 1 else 0
        if int(digit) > low:
            rest = r"\d" * (len(digits) - place - 1)
            same.append(f"{digits[:place]}[{low}-{int(digit) - 1}]{rest}")
    return f"({'|'.join([*shorter, *same, digits])})"


PROGRAMS: Final = (
    # tools/server/server.cpp:168-173, server-context.cpp:42-54
    Program("llama-server", "4 slots that share one cache, logits for one row a slot", n_parallel=-1, n_outputs=None),
    # tools/cli/cli-server.h:34-45: the server's code with n_parallel 1 (common.h:460)
    Program("llama-cli", "one conversation, logits for one row", n_parallel=1, n_outputs=None),
    # n_outputs_max is never set, so every row of the ubatch gets logits (llama-context.cpp:252)
    Program("llama-bench", "one sequence, logits for every row; as do llama-perplexity and most bindings", 1, 0, False),
)
"""The default comes first."""


def program(id: str) -> Program | None:
    """The program of this name, if it is known."""
    return next((program for program in PROGRAMS if program.id == id), None)
