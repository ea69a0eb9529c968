"""The cache on disk: what it keeps, how much, and for whom."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.hub import store as module
from app.hub.packing import pack_header, pack_json, unpack_header, unpack_json
from app.hub.store import NoStore, SqliteStore
from estimator.sources.gguf import read_header
from tests.app.hub.headers import large, small

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "hub.sqlite"


class Clock:
    """Stands for the time of the store."""

    now = 1e9

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_a_value_and_its_age(path: Path, clock: Clock) -> None:
    store = SqliteStore(path, 1000)
    assert store.get("a") is None
    store.put("a", b"one")
    clock.now += 100
    found = store.get("a")
    assert found is not None
    assert (found.value, found.age) == (b"one", 100)
    store.put("a", b"two")
    found = store.get("a")
    assert found is not None
    assert (found.value, found.age) == (b"two", 0)


def test_what_was_not_used_for_longest_goes_first(path: Path, clock: Clock) -> None:
    store = SqliteStore(path, 1000)
    for key in "abc":
        clock.now += 100
        store.put(key, bytes(299))
    clock.now += 100
    assert store.get("a")
    store.put("d", bytes(299))
    assert [key for key in "abcd" if store.get(key)] == ["a", "c", "d"]
    store.put("e", bytes(900))
    assert [key for key in "abcde" if store.get(key)] == ["e"]
    store.put("f", bytes(1000))  # with its key it is too long
    assert [key for key in "ef" if store.get(key)] == ["e"]


def test_the_file_stays_near_its_bound(path: Path) -> None:
    store = SqliteStore(path, 200_000)
    for n in range(100):
        store.put(str(n), os.urandom(20_000))
    with sqlite3.connect(path) as database:
        (total,) = database.execute("SELECT SUM(size) FROM entries").fetchone()
    database.close()
    assert total <= 200_000
    assert path.stat().st_size < 500_000


def test_its_folder_is_for_its_user_alone(path: Path) -> None:
    SqliteStore(path, 1000).put("a", b"x")
    assert path.parent.stat().st_mode & 0o077 == 0


def test_other_processes_and_threads_use_it_at_the_same_time(path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from app.hub.store import SqliteStore\n"
        "store = SqliteStore(Path(sys.argv[1]), 1 << 20)\n"
        "for n in range(50): store.put(f'{sys.argv[2]} {n}', b'x' * 1000)\n"
    )
    root = Path(__file__).parents[3]
    others = [subprocess.Popen([sys.executable, "-c", script, str(path), name], cwd=root) for name in ("p", "q")]
    store = SqliteStore(path, 1 << 20)

    def write() -> None:
        for n in range(50):
            store.put(f"t {n}", b"x" * 1000)

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.wait() for other in others] == [0, 0]
    assert all(store.get(f"{name} {n}") for name in "pqt" for n in range(50))


def broken_file(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 100)


def file_for_a_folder(path: Path) -> None:
    path.parent.write_bytes(b"")


@pytest.mark.parametrize("spoil", [broken_file, file_for_a_folder])
def test_a_broken_disk_is_no_failure(
    path: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    spoil(path)
    store = SqliteStore(path, 1000)
    for _ in range(2):
        store.put("a", b"x")
        assert store.get("a") is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(path) in caplog.text


def test_no_store_keeps_nothing() -> None:
    store = NoStore()
    store.put("a", b"x")
    assert store.get("a") is None


@pytest.mark.parametrize("data", [small().head, large()])
def test_a_header_is_kept_whole_but_for_its_tokenizer(data: bytes) -> None:
    header = read_header(data)
    packed = pack_header(header)
    assert unpack_header(packed) == header
    assert len(packed) < 10_000
    assert pack_header(unpack_header(packed)) == packed


def test_any_json_is_kept() -> None:
    value = {"a": [1, None, "ü", float("inf")]}
    assert unpack_json(pack_json(value)) == value
