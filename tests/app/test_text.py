"""Numbers and names as people read them."""

from __future__ import annotations

import pytest

from app import text
from estimator import Device, device, devices
from estimator.accuracy import Band


@pytest.mark.parametrize(
    ("n_bytes", "shown"),
    [
        (0, "0"),
        (1, "0.0 MiB"),
        (2**20 - 1, "1.0 MiB"),
        (144_703_488, "138.0 MiB"),
        (2**30 - 1, "1,024.0 MiB"),
        (2**30, "1.00 GiB"),
        (25_386_024_960, "23.64 GiB"),
        (5 * 2**40, "5,120.00 GiB"),
        (-(2**30), "-1.00 GiB"),
    ],
)
def test_size(n_bytes: int, shown: str) -> None:
    assert text.size(n_bytes) == shown


@pytest.mark.parametrize(
    ("n", "shown"), [(0, "0"), (256, "256"), (131_072, "131,072"), (2_147_483_392, "2,147,483,392")]
)
def test_tokens(n: int, shown: str) -> None:
    assert text.tokens(n) == shown


@pytest.mark.parametrize(
    ("n", "shown"), [(268_098_176, "268M"), (8_030_261_248, "8.0B"), (405_853_388_864, "405.9B"), (10**9, "1.0B")]
)
def test_parameters(n: int, shown: str) -> None:
    assert text.parameters(n) == shown


@pytest.mark.parametrize(
    ("id", "shown"),
    [
        ("rtx-4090", "RTX 4090 24 GB"),
        ("rtx-3060-12-gb", "RTX 3060 12 GB"),
        ("rtx-pro-5000-72-gb-blackwell", "RTX PRO 5000 72 GB Blackwell"),
        ("radeon-rx-7900-xtx", "Radeon RX 7900 XTX 24 GB"),
        ("m1-16gb", "M1 16 GB"),
        ("tesla-t4", "Tesla T4 16 GB"),
        ("gb200-per-gpu", "GB200 (per GPU)"),
        ("generic", "Generic device (no limit)"),
    ],
)
def test_device_name(id: str, shown: str) -> None:
    assert text.device_name(device(id)) == shown


def test_a_device_of_ones_own_keeps_its_name() -> None:
    own = Device(id="own", name="My board", backend="cuda", nominal_gib=20)
    assert text.device_name(own) == "My board 20 GB"


def test_every_device_has_a_name_of_its_own() -> None:
    shown = [text.device_name(one) for one in devices()]
    assert len(set(shown)) == len(shown) == 312


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("RTX 4090", "an RTX 4090"),
        ("GTX 1080", "a GTX 1080"),
        ("TITAN V", "a TITAN V"),
        ("Radeon RX 7900", "a Radeon RX 7900"),
        ("Instinct MI300X", "an Instinct MI300X"),
        ("Tesla T4", "a Tesla T4"),
        ("Quadro P4000", "a Quadro P4000"),
        ("H100 SXM5", "an H100 SXM5"),
        ("A100", "an A100"),
        ("L4", "an L4"),
        ("GB200", "a GB200"),
        ("B200", "a B200"),
        ("T1000", "a T1000"),
        ("M1 Max", "an M1 Max"),
        ("Ryzen AI Max+ 395", "a Ryzen AI Max+ 395"),
        ("Jetson Orin", "a Jetson Orin"),
        ("CUDA GPU with 24 GB", "a CUDA GPU with 24 GB"),
        ("ROCm GPU with 16 GB", "a ROCm GPU with 16 GB"),
        ("Mac with 64 GB", "a Mac with 64 GB"),
    ],
)
def test_with_article(name: str, shown: str) -> None:
    assert text.with_article(name) == shown


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["a"], "a"),
        (["a", "b"], "a + b"),
        (["a", "a"], "2 x a"),
        (["a", "b", "a", "a"], "3 x a + b"),
    ],
)
def test_joined(names: list[str], shown: str) -> None:
    assert text.joined(names) == shown


@pytest.mark.parametrize(
    ("band", "said"),
    [
        (Band(707, 707, 707, 0.0), "707 runs of llama models on one device measured with llama.cpp itself: every size"),
        (Band(1, 1, 1, 0.0), "One run of llama models on one device"),
        (Band(1200, 1198, 1199, 0.0123), "1,200 runs of llama models"),
        (Band(1200, 1198, 1199, 0.0123), "1,198 equal to the byte, no size off by more than 1.23 % of the total."),
        (Band(9, 8, 9, 0.00001), "no size off by 0.01 % of the total."),
    ],
)
def test_accuracy(band: Band, said: str) -> None:
    assert said in text.accuracy(band, "llama", "on one device")
