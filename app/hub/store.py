"""What is kept of the Hub on disk, for all processes of this machine; what was not used for longest goes first."""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

LOCK_SECONDS: Final = 5.0
"""How long a process waits for another one that writes."""

TOUCH_SECONDS: Final = 60.0
"""A value's last use is written down no more often than this."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entries (
    key TEXT PRIMARY KEY, value BLOB NOT NULL, size INTEGER NOT NULL, stored REAL NOT NULL, used REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS entries_by_use ON entries (used);
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """A value, and how many seconds ago it was stored."""

    value: bytes
    age: float


class Store(Protocol):
    """Keeps values under keys, as long as there is room. Safe for threads and processes; never raises."""

    def get(self, key: str) -> Stored | None: ...

    def put(self, key: str, value: bytes) -> None: ...


class NoStore:
    """Keeps nothing."""

    def get(self, key: str) -> Stored | None:
        return None

    def put(self, key: str, value: bytes) -> None:
        pass


class SqliteStore:
    """A file of SQLite with up to ``max_bytes`` of values.

    A file that cannot be read or written is no reason to fail: then nothing is found, and nothing kept.

    Args:
        path: of the file; its folder is made, for this user alone.
        max_bytes: of all keys and values together. The file is a little longer.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._is_broken = False

    def get(self, key: str) -> Stored | None:
        now = time.time()
        try:
            with self._open() as database:
                row = database.execute("SELECT value, stored, used FROM entries WHERE key = ?", (key,)).fetchone()
                if row is None:
                    return None
                if now - row[2] > TOUCH_SECONDS:
                    database.execute("UPDATE entries SET used = ? WHERE key = ?", (now, key))
                return Stored(bytes(row[0]), max(0.0, now - row[1]))
        except (sqlite3.Error, OSError) as error:
            self._complain(error)
            return None

    def put(self, key: str, value: bytes) -> None:
        size, now = len(key.encode()) + len(value), time.time()
        if size > self._max_bytes:
            return
        try:
            with self._open() as database:
                database.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)", (key, value, size, now, now))
                self._make_room(database)
        except (sqlite3.Error, OSError) as error:
            self._complain(error)

    def _make_room(self, database: sqlite3.Connection) -> None:
        (excess,) = database.execute("SELECT SUM(size) - ? FROM entries", (self._max_bytes,)).fetchone()
        if excess > 0:
            # The oldest whose sizes before them do not yet make up for what is too much.
            database.execute(
                "DELETE FROM entries WHERE key IN (SELECT key FROM (SELECT key, SUM(size) OVER (ORDER BY used, key) "
                "- size AS before FROM entries) WHERE before < ?)",
                (excess,),
            )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own each time: threads and forked processes cannot share one."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=LOCK_SECONDS)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.executescript(_SCHEMA)
            with database:
                yield database

    def _complain(self, error: Exception) -> None:
        """Once: a disk that is full stays so."""
        if not self._is_broken:
            log.warning("the cache of the Hub in %s is not used: %s", self._path, error)
        self._is_broken = True
