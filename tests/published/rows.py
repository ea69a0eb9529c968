"""A published figure beside ours, and those of one source as a table in Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.published.counting import GIB, KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES: Final = {GIB: "GiB", MIB: "MiB", KIB: "KiB"}

HEAD: Final = """| What | Published | Fathom | Difference |
| --- | --: | --: | --: |
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Args:
        what: of which run, and what of it.
        published: the number.
        digits: behind its point; -1 = it was rounded to tens.
        unit: as it was published.
        ours: counts our bytes.
        scale: bytes of the unit that was meant.
        agrees: whether ours is the same to the last published digit.
    """

    what: str
    published: float
    digits: int
    unit: str
    ours: Callable[[], int]
    scale: int
    agrees: bool = True

    @property
    def is_same(self) -> bool:
        """Whether it agrees with what we count now."""
        return round(self.ours() / self.scale, self.digits) == round(self.published, self.digits)

    def line(self) -> str:
        """The row in Markdown."""
        published = f"{self.published:,.{max(0, self.digits)}f} {self.unit}"
        ours = f"{self.ours() / self.scale:,.3f} {NAMES[self.scale]}"
        change = "none" if self.is_same else f"{self.published * self.scale / self.ours() - 1:+.0%}"
        return f"| {self.what} | {published} | {ours} | {change} |\n"


@dataclass(frozen=True, slots=True)
class Section:
    """The figures below one title of the document; the rest of the section is written by hand."""

    title: str
    rows: tuple[Row, ...]

    def table(self) -> str:
        """The rows as a table."""
        return HEAD + "".join(row.line() for row in self.rows)
