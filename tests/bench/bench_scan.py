"""Times the header scanner against the ``gguf`` package's reader on a header with the tokenizer of Llama 3.

Run as ``python -m tests.bench.bench_scan``; exits with 1 if the scanner is less than ``LIMIT`` times as fast.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gguf import GGUFReader
from gguf.constants import GGUFValueType

sys.path.insert(0, str(Path(__file__).parents[2]))  # for a run as a plain script

from estimator.sources.gguf import read_header
from tests.estimator.sources.gguf_bytes import GGUFBytes

if TYPE_CHECKING:
    from collections.abc import Callable

N_TOKENS: Final = 128_256
N_MERGES: Final = 280_147
N_TENSORS: Final = 291
ROUNDS: Final = 15
LIMIT: Final = 200


def header_bytes() -> bytes:
    """A header of about 9 MB, and the weights of tiny tensors, which the package's reader wants to see."""
    to = GGUFBytes()
    pairs = [
        to.text("general.architecture", "llama"),
        to.number("llama.block_count", 32),
        to.strings("tokenizer.ggml.tokens", [f"tok{i}" for i in range(N_TOKENS)]),
        to.numbers("tokenizer.ggml.scores", GGUFValueType.FLOAT32, [0.0] * N_TOKENS),
        to.numbers("tokenizer.ggml.token_type", GGUFValueType.INT32, [1] * N_TOKENS),
        to.strings("tokenizer.ggml.merges", [f"to k{i}" for i in range(N_MERGES)]),
    ]
    tensors = [to.tensor(f"blk.{i}.attn_norm.weight", (8,), offset=32 * i) for i in range(N_TENSORS)]
    return to.header(pairs, tensors) + bytes(32 * (N_TENSORS + 1))


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "header.gguf"
        path.write_bytes(header_bytes())
        header = read_header(path)
        assert header.array_lengths["tokenizer.ggml.tokens"] == N_TOKENS
        assert header.array_lengths["tokenizer.ggml.merges"] == N_MERGES
        assert len(header.tensors) == N_TENSORS
        before = [seconds(lambda: read_header(path)) for _ in range(ROUNDS)]
        reader = seconds(lambda: GGUFReader(path))
        after = [seconds(lambda: read_header(path)) for _ in range(ROUNDS)]
    scanner = min(before + after)
    ratio = reader / scanner
    verdict = "holds" if ratio >= LIMIT else "FAILS"
    print(f"scanner: {scanner:.4f} s, GGUFReader: {reader:.2f} s, {ratio:.0f}x (limit {LIMIT}x: {verdict})")
    return 0 if ratio >= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
