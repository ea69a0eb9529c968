"""What a header on the Hub costs: bytes and round trips, as ratios against the header's own bytes.

Run as ``python -m tests.bench.bench_hub``; exits with 1 if a header above 1 MiB takes more than ``LIMIT`` times its
bytes, or any more than ``MAX_TRIPS`` trips. A Hub on this machine counts what it sends. Headers are the real one of the
tests, and ones with as many tokens and merges as well-known tokenizers have, of lengths that grow alike.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gguf.constants import GGUFValueType

sys.path.insert(0, str(Path(__file__).parents[2]))  # for a run as a plain script

from app import create_app
from app.hub.headers import MAX_TRIPS
from estimator.sources.gguf import read_header
from tests.app.hub.headers import large, small
from tests.estimator.sources.gguf_bytes import LE
from tests.hub_server import Blob, HubServer, Repo, running

if TYPE_CHECKING:
    from flask.testing import FlaskClient

LIMIT: Final = 1.25
GIB: Final = 2**30

TOKENIZERS: Final = {
    "llama-spm": ("llama", 32_000, 0),
    "gpt-2": ("gpt2", 50_257, 50_000),
    "llama-3": ("gpt2", 128_256, 280_147),
    "qwen-3": ("gpt2", 151_936, 151_387),
    "gpt-oss": ("gpt2", 201_088, 446_189),
    "gemma-4": ("gemma4", 262_144, 514_906),
    "rwkv": ("rwkv", 65_536, 0),
}
"""Kind, tokens and merges."""


def header_bytes(kind: str, n_tokens: int, n_merges: int) -> bytes:
    """A header with a llama's metadata, a tokenizer of that size and 400 tensors."""
    tokens = ["t" * (3 + 7 * i // n_tokens) for i in range(n_tokens)]
    pairs = [
        LE.text("general.architecture", "llama"),
        LE.text("tokenizer.ggml.model", kind),
        LE.strings("tokenizer.ggml.tokens", tokens),
        LE.numbers("tokenizer.ggml.token_type", GGUFValueType.INT32, [1] * n_tokens),
    ]
    if n_merges:
        pairs.append(LE.strings("tokenizer.ggml.merges", ["m" * (5 + 7 * i // n_merges) for i in range(n_merges)]))
    else:
        pairs.append(LE.numbers("tokenizer.ggml.scores", GGUFValueType.FLOAT32, [0.0] * n_tokens))
    tensors = [LE.tensor(f"blk.{i}.attn_norm.weight", (8,), offset=32 * i) for i in range(400)]
    return LE.header(pairs, tensors)


def main() -> int:
    headers = {"llama of the tests": small().head, "gemma-3-270m (real)": large()}
    headers |= {name: header_bytes(*sizes) for name, sizes in TOKENIZERS.items()}
    with running() as hub, tempfile.TemporaryDirectory() as folder:
        client = create_app({"HUB_ENDPOINT": hub.endpoint, "HUB_CACHE": folder}).test_client()
        failed = [name for name, header in headers.items() if not measure(hub, client, name, header)]
    if failed:
        print(f"over the limit of {LIMIT} or of {MAX_TRIPS} trips: {', '.join(failed)}")
    return 1 if failed else 0


def measure(hub: HubServer, client: FlaskClient, name: str, header: bytes) -> bool:
    """Ask for a model with this header; whether that kept the bounds."""
    own = read_header(header).n_bytes
    commit = name.encode().hex()[:40]
    hub.repos = {"o/r": Repo({f"{name}.gguf": Blob(header, GIB)}, commit=commit)}
    hub.asked.clear()
    start = time.perf_counter()
    client.get("/api/v1/estimate", query_string={"model": f"o/r/{name}.gguf@{commit}"})
    seconds = time.perf_counter() - start
    ranges = hub.ranges()
    ratio = sum(one.sent for one in ranges) / own
    print(f"{name}: {own / 1e6:.2f} MB, {len(ranges)} trips, {ratio:.3f} times its bytes, {seconds:.2f} s")
    return 0 < len(ranges) <= MAX_TRIPS and (own <= 2**20 or ratio <= LIMIT)


if __name__ == "__main__":
    sys.exit(main())
