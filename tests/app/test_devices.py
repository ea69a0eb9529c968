"""Devices by name: what is understood, what is offered instead, and what the form shows and sends."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from app import text
from app.devices import SIZES, device_ids, device_text, parse_devices
from app.errors import RequestError
from estimator.devices import GENERIC, device, devices
from estimator.estimate import MAX_DEVICES
from tests.app import html

if TYPE_CHECKING:
    from flask.testing import FlaskClient

    from estimator import Device


@pytest.mark.parametrize("one", [*devices(), GENERIC], ids=lambda one: one.id)
def test_a_device_goes_by_its_id_and_both_its_names(one: Device) -> None:
    names = (one.id, one.id.upper(), one.name, text.device_name(one), text.device_name(one).lower())
    assert {device_ids(name) for name in names} == {(one.id,)}
    assert device_text(one.id) == text.device_name(one)


@pytest.mark.parametrize(
    ("typed", "ids"),
    [
        ("RTX 4090", ("rtx-4090",)),
        ("rtx4090", ("rtx-4090",)),
        ("GeForce RTX 3060 12GB", ("rtx-3060-12-gb",)),
        ("2 x RTX 3090", ("rtx-3090", "rtx-3090")),
        ("3x rtx-4090", ("rtx-4090",) * 3),
        ("2*M1 16 GB", ("m1-16gb", "m1-16gb")),
        ("CUDA 24 GB", ("cuda-24gb",)),
        ("any Mac with 64 GB", ("metal-64gb",)),
        ("rocm-17gb", ("rocm-17gb",)),
    ],
)
def test_what_people_type(typed: str, ids: tuple[str, ...]) -> None:
    assert device_ids(typed) == ids


@pytest.mark.parametrize("id", [*SIZES, "cuda-7gb"])
def test_a_device_of_a_size_is_shown_by_its_id(id: str) -> None:
    assert device_text(id) == id
    assert device_ids(device(id).name) == (id,)


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("RTX 3060", {"rtx-3060-12-gb", "rtx-3060-8-gb"}),
        ("m4 max", {"m4-max-16c-64gb"}),
        ("2 x NVIDIA RTX 3060", {"rtx-3060-12-gb"}),
        ("0 x rtx-3090", set()),
        ("cuda-0gb", set()),
        ("!", set()),
    ],
)
def test_what_is_not_known_names_the_nearest(typed: str, near: set[str]) -> None:
    with pytest.raises(RequestError) as caught:
        device_ids(typed)
    assert (caught.value.code, caught.value.field) == ("unknown-device", "device")
    assert near <= set(caught.value.allowed or ())
    assert device_text(typed) == typed


def test_several_at_once_are_counted_together() -> None:
    assert len(parse_devices([f"{MAX_DEVICES} x rtx-3090"])) == MAX_DEVICES
    for typed in ([f"{MAX_DEVICES + 1}x rtx-3090"], ["9x rtx-3090", "8x rtx-4090"], ["rtx-3090"] * (MAX_DEVICES + 1)):
        with pytest.raises(RequestError, match="17 times") as caught:
            parse_devices(typed)
        assert caught.value.code == "device-count"


def link(client: FlaskClient, given: list[tuple[str, str]]) -> str:
    """The canonical link of what a form sent."""
    page = html.parse(client.get(f"/?{urlencode(given)}").text)
    return page.one("link", rel="canonical").attributes["href"].partition("device=")[2]


@pytest.mark.parametrize(
    ("typed", "picked", "devices"),
    [
        (["RTX 4080 16 GB", ""], ["", ""], "rtx-4080"),
        (["RTX 4080 16 GB", ""], ["rtx-3090", ""], "rtx-3090"),
        (["RTX 4080 16 GB", ""], ["", "rtx-3090"], "rtx-4080&device=rtx-3090"),
        (["RTX 4080 16 GB", "2 x RTX 3090"], ["", ""], "rtx-4080&device=rtx-3090&device=rtx-3090"),
        (["RTX 4080 16 GB", "m1-16gb", ""], ["remove", "", ""], "m1-16gb"),
        (["", "m1-16gb", ""], ["", "", ""], "m1-16gb"),
    ],
)
def test_what_was_browsed_for_goes_in_place_of_what_was_typed(
    client: FlaskClient, typed: list[str], picked: list[str], devices: str
) -> None:
    given = [("model", "llama-3.2-1b-instruct"), *(("device", name) for name in typed)]
    assert link(client, given + [("pick", name) for name in picked]) == devices


def test_a_device_that_is_not_known_stays_typed(client: FlaskClient) -> None:
    reply = client.get("/?device=rtx-4090&device=my+card")
    assert reply.status_code == 400
    page = html.parse(reply.text)
    values = [control.attributes["value"] for control in page.all("input", name="device")]
    assert values == ["RTX 4090 24 GB", "my card", ""]


def test_only_several_can_be_removed(client: FlaskClient) -> None:
    for query, n_removable in (("", 0), ("?device=2+x+rtx-3090", 2)):
        page = html.parse(client.get(f"/{query}").text)
        lists = page.all("select", name="pick")
        assert len(lists) == max(n_removable, 1) + 1
        removable = [one for one in lists if one.all("option", value="remove")]
        assert (
            len(removable) == len([one for one in page.all("button") if "data-remove" in one.attributes]) == n_removable
        )
