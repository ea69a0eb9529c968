"""Asks llama.cpp itself about settings that nobody measured before, and prints what an estimate says otherwise.

``python -m tests.oracle [-n CASES] [-s SEED] [-k KINDS] HEADER.gguf...`` needs two environment variables.
``FATHOM_ORACLE`` is a program that is called as ``PROGRAM measure FILE.gguf HOST:PORT,...``, reads a case a line (the
words of ``tests/data/README.md``) and answers each with a line of JSON; ``FATHOM_ORACLE_RPC`` are the addresses of one
or two of llama.cpp's RPC servers, which stand for devices.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from estimator.devices import GENERIC
from estimator.engines.llama_cpp import kept_on_cpu
from estimator.errors import ModelError, SettingsError
from estimator.estimate import estimate
from estimator.ggml import CACHE_TYPES, pad
from estimator.sources.from_gguf import model_from_header
from estimator.sources.gguf import read_header
from tests.estimator.truth import Case, figures

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from estimator.model import Model
    from estimator.sources.gguf import GGUFHeader

KINDS: Final = ("whole", "partial", "pattern", "two")
"""All on one device, some layers or the cache on the host, some tensors on the host, all or some on two devices."""

PER_LOAD: Final = 6
"""Contexts asked of a model before it is loaded anew for another placement."""

SIDES: Final = ("model", "context", "compute")


def contexts(rng: random.Random, *, plain: bool = False) -> str:
    """Words of a context: half of them as people set it, the other half anything; ``plain`` draws only the former."""
    if plain or rng.random() < 0.5:
        n_ctx = rng.choice((4096, 8192, 16384, 32768, 131072))
        n_ubatch = rng.choice((256, 512, 512, 512, 1024, 2048))
        n_batch = max(2048, n_ubatch)
    else:
        n_ctx = rng.choice((0, rng.randint(1, 600), rng.randint(1, 20_000), rng.randint(1, 300_000)))
        n_ubatch = rng.choice((1, 2, rng.randint(1, 64), rng.randint(1, 600), rng.randint(1, 4096)))
        n_batch = rng.choice((2048, 4096, n_ubatch, rng.randint(1, 4096)))
    n_parallel = rng.choice((1, 1, 1, 2, 4, rng.randint(1, 8)))
    n_outputs = rng.choice((0, n_parallel, n_parallel, rng.randint(n_parallel, 700)))  # llama.cpp dies of fewer
    words = f"c={n_ctx} b={max(n_batch, n_parallel)} ub={n_ubatch} np={n_parallel} no={n_outputs}"
    if rng.random() < 0.4:
        words += f" ctk={rng.choice(CACHE_TYPES)} ctv={rng.choice(CACHE_TYPES)}"
    elif rng.random() < 0.2:
        both = rng.choice(CACHE_TYPES)
        words += f" ctk={both} ctv={both}"
    options = (("kvu=1", 0.4), ("fa=0", 0.3), ("swafull=1", 0.15))
    return " ".join([words, *(word for word, share in options if rng.random() < share)])


def pattern(rng: random.Random, model: Model) -> str:
    """A pattern of tensors that stay on the host, without a backslash, which the oracle's answer would not survive."""
    n = rng.randint(1, model.n_layer)
    tensor = rng.choice(model.tensors).name.replace(".", "[.]")
    part = rng.choice(("ffn_", "attn_", "attn_(k|v)[.]", "attn_output", "ffn_(up|down)", "ssm_", "_shexp", "ffn_down"))
    experts, ffn = kept_on_cpu(n, 0), kept_on_cpu(0, n)
    of_all = kept_on_cpu(-1, 0) if rng.random() < 0.5 else kept_on_cpu(n, rng.randint(1, n))
    text = rng.choice((experts, experts, ffn, of_all, part, f"blk[.]{n - 1}[.]", tensor)) or part
    return text.replace(r"\.", "[.]").replace(r"\d", "[0-9]")


def placement(rng: random.Random, model: Model, kind: str) -> str:
    """Words that say what lies where."""
    if kind == "partial":
        n_gpu_layers = rng.choice((0, 1, 2, model.n_layer, rng.randint(0, model.n_layer + 1)))
        return rng.choice((f"ngl={n_gpu_layers}", f"ngl={n_gpu_layers}", f"ngl={n_gpu_layers} nkvo=1", "nkvo=1"))
    if kind == "pattern":
        return f"ot={pattern(rng, model)}"
    if kind == "two":
        words = f"nd=2 ts={rng.choice(('1/1', '3/1', '1/2', '0/1', f'{rng.randint(1, 9)}/{rng.randint(1, 9)}'))}"
        more = ("", "", f" ngl={rng.randint(1, model.n_layer)}", " nkvo=1", f" ot={pattern(rng, model)}")
        return words + rng.choice(more)
    return ""


def draw(rng: random.Random, model: Model, kinds: Sequence[str], n: int) -> list[str]:
    """``n`` cases, those with one placement behind each other."""
    cases: list[str] = []
    while len(cases) < n:
        kind = rng.choice(kinds)
        where = placement(rng, model, kind)
        cases += [f"{contexts(rng)} {where}".strip() for _ in range(PER_LOAD)]
    return cases[:n]


def ask(header: GGUFHeader, path: Path, cases: Sequence[str]) -> Iterator[Mapping[str, Any] | None]:
    """llama.cpp's answer to each case, as ``Case`` holds it; None where it stops instead of answering."""
    program, addresses = os.environ["FATHOM_ORACLE"], os.environ["FATHOM_ORACLE_RPC"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.gguf"
        shutil.copyfile(path, file)
        data = sum(pad(tensor.n_bytes, header.alignment) for tensor in header.tensors)
        os.truncate(file, header.data_offset + data)  # sparse: takes no room on the disk
        while cases:
            command = [program, "measure", str(file), addresses]
            done = subprocess.run(command, input="\n".join(cases) + "\n", capture_output=True, text=True, check=False)
            lines = [line for line in done.stdout.splitlines() if line.startswith('{"cfg"')]
            yield from (_breakdown(json.loads(line), addresses.split(",")) for line in lines)
            if len(lines) < len(cases):
                yield None
            cases = cases[len(lines) + 1 :]


def _breakdown(answer: Mapping[str, Any], addresses: Sequence[str]) -> Mapping[str, Any]:
    if "error" in answer:
        return answer
    n_devices = int(Case(answer["cfg"], {}).words.get("nd", 1))
    parts = [dict.fromkeys(SIDES, 0) for _ in range(n_devices + 1)]
    for name, sizes in answer["buffers"].items():
        index = next((i for i, address in enumerate(addresses) if f"[{address}]" in name), -1)
        for side in SIDES:
            parts[index][side] += sizes[side]
    return {"n_ctx": answer["n_ctx"], "devices": parts[:-1], "host": parts[-1]}


def compare(model: Model, case: Case) -> tuple[str, str]:
    """What kind of difference there is, in a word, and the difference; of equal answers two empty texts."""
    try:
        found = estimate(model, case.settings, [GENERIC] * case.n_devices)
    except SettingsError as error:
        return ("", "") if "error" in case.breakdown else ("refused", str(error))
    if "error" in case.breakdown:
        return "not refused", case.breakdown["error"]
    if found.context.n_ctx != case.breakdown["n_ctx"]:
        return "n_ctx", f"{found.context.n_ctx} is not {case.breakdown['n_ctx']}"
    wrong = [figure for figure in figures(case, found) if figure.found != figure.measured]
    if not wrong:
        return "", ""
    kind = min((figure.kind for figure in wrong), key=SIDES.index)
    texts = (f"{it.share} {it.kind} {it.found:,} is not {it.measured:,} ({it.found - it.measured:+,})" for it in wrong)
    return kind, "; ".join(texts)


def main() -> int:
    """Asks about each header, and fails if an answer is another than the estimate's."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracle")
    parser.add_argument("headers", nargs="+", type=Path, metavar="HEADER.gguf", help="GGUF files, or their headers")
    parser.add_argument("-n", type=int, default=60, help="cases for each header")
    parser.add_argument("-s", "--seed", type=int, default=0)
    parser.add_argument("-k", "--kinds", default=",".join(KINDS), help=f"some of {','.join(KINDS)}")
    arguments = parser.parse_args()
    two = "," in os.environ["FATHOM_ORACLE_RPC"]
    kinds = [kind for kind in arguments.kinds.split(",") if two or kind != "two"]
    count: Counter[str] = Counter()
    for path in arguments.headers:
        try:
            header = read_header(path)
            model = model_from_header(header)
        except ModelError as error:
            print(f"{path.name}: {error}")
            continue
        texts = draw(random.Random(f"{arguments.seed}/{path.name}"), model, kinds, arguments.n)
        for text, answer in zip(texts, ask(header, path, texts), strict=True):
            kind, what = ("no answer", "") if answer is None else compare(model, Case(text, answer))
            count[kind or "equal"] += 1
            if kind:
                print(f"{path.name} {kind}: {text}: {what}", flush=True)
    print(dict(count))
    return 0 if not count.keys() - {"equal", "no answer"} else 1


if __name__ == "__main__":
    sys.exit(main())
