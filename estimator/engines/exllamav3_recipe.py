"""What somebody types to run ExLlamaV3 as it was estimated (arguments of model_init.py, classes of the package)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.engines.packing import F16
from estimator.engines.recipe import Recipe, Source, command

if TYPE_CHECKING:
    from estimator.engines.base import Job

FOLDER = "MODEL_DIR"
"""ExLlamaV3 loads a folder, whatever the repository that it came from is called."""


def recipes(job: Job, source: Source, tokens: int) -> tuple[Recipe, ...]:
    """The chat of its repository, and the same in Python; a folder with the checkpoint comes first."""
    folder = source.repo.rpartition("/")[2] or FOLDER
    form = job.format.label if job.format else ""
    note = f"examples/chat.py of the repository; the folder holds a checkpoint in {form}"
    return (
        Recipe("command", "chat.py", command("python", "examples/chat.py", "-m", folder, *_words(job, tokens)), note),
        Recipe("python", "Python", _snippet(job, folder, tokens), f"the folder holds a checkpoint in {form}"),
    )


def _bits(job: Job) -> tuple[int, int] | None:
    if job.type_k.k == F16:
        return None
    return int(job.type_k.k.bits), int(job.type_v.v.bits)


def _words(job: Job, tokens: int) -> list[object]:
    words: list[object] = ["-cs", tokens, "-chunk_size", job.chunk, "-ambs", job.n_requests]
    if bits := _bits(job):
        words += ["-cq", f"{bits[0]},{bits[1]}"]
    if job.is_on("swa_full"):
        words.append("-swa_full")
    if job.is_on("recurrent_state_fp32"):
        words.append("-rs32")
    if layers := job.whole("moe_cpu_offload"):
        words += ["-mcl", layers]
    if job.number("recurrent_cache_size") != 4:
        words += ["-rcs", job.number("recurrent_cache_size")]
    return words


def _snippet(job: Job, folder: str, tokens: int) -> str:
    bits = _bits(job)
    names = ["Cache", "Config", "Generator", "Model", "Tokenizer"]
    cache = [f"max_num_tokens={tokens}", f"max_batch_size={job.n_requests}"]
    imports = f"from exllamav3 import {', '.join(names)}\n"
    if bits:
        imports += "from exllamav3.cache import CacheLayer_quant\n"
        cache += ["layer_type=CacheLayer_quant", f"k_bits={bits[0]}", f"v_bits={bits[1]}"]
    if job.is_on("recurrent_state_fp32"):
        imports = "import torch\n" + imports
        cache.append("recurrent_dtype=torch.float")
    offload = job.whole("moe_cpu_offload")
    return (
        f"{imports}\n"
        f"config = Config.from_directory({folder!r})\n"
        + (f"config.infer_params.moe_cpu_offload = {offload}\n" if offload else "")
        + f"model = Model.from_config(config{', swa_full=True' if job.is_on('swa_full') else ''})\n"
        f"cache = Cache(model, {', '.join(cache)})\n"
        f"model.load(max_chunk_size={job.chunk}, max_batch_size={job.n_requests})\n"
        "tokenizer = Tokenizer.from_config(config)\n"
        f"generator = Generator(model, cache, tokenizer, max_chunk_size={job.chunk}, max_batch_size={job.n_requests})\n"
        "print(generator.generate('Hello', max_new_tokens=256))\n"
    )
