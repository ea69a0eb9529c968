"""Times the header scanner against other readers on a header with the tokenizer of Llama 3.

Run as ``python -m tests.bench.bench_scan``; exits with 1 if the scanner is less than ``LIMIT`` times as fast as the
``gguf`` package's reader. ``@huggingface/gguf`` is measured too where npm can install it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
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

HUGGINGFACE: Final = "@huggingface/gguf@0.4.6"
SCRIPT: Final = """
import { gguf } from "@huggingface/gguf";
const times = [];
for (let round = 0; round < 5; round += 1) {
  const start = performance.now();
  await gguf(process.argv[2], { allowLocalFile: true });
  times.push(performance.now() - start);
}
console.log(JSON.stringify(Math.min(...times) / 1000));
"""
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


def of_huggingface(path: Path) -> float | None:
    """Seconds of the JavaScript reader; None where it cannot be installed."""
    npm = shutil.which("npm")
    if npm is None:
        return None
    script = path.with_name("read.mjs")
    script.write_text(SCRIPT, encoding="utf-8")
    try:
        install = [npm, "install", "--silent", "--no-save", "--prefix", str(path.parent), HUGGINGFACE]
        subprocess.run(install, check=True, capture_output=True, timeout=120)
        done = subprocess.run(["node", script, path], check=True, capture_output=True, timeout=120)
        return float(json.loads(done.stdout))
    except (subprocess.SubprocessError, OSError, ValueError):
        return None


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
        javascript = of_huggingface(path)
        after = [seconds(lambda: read_header(path)) for _ in range(ROUNDS)]
    scanner = min(before + after)
    ratio = reader / scanner
    verdict = "holds" if ratio >= LIMIT else "FAILS"
    print(f"scanner: {scanner:.4f} s, GGUFReader: {reader:.2f} s, {ratio:.0f}x (limit {LIMIT}x: {verdict})")
    if javascript is None:
        print(f"{HUGGINGFACE} could not be installed")
    else:
        print(f"{HUGGINGFACE}: {javascript:.3f} s, {javascript / scanner:.0f}x")
    return 0 if ratio >= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
