"""A page as a tree, and what a browser without JavaScript would send back from its form."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

VOID = frozenset({"base", "br", "hr", "img", "input", "link", "meta"})


@dataclass
class Element:
    """A tag with its attributes, and what is inside: texts and elements."""

    tag: str
    attributes: dict[str, str]
    inside: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text inside, with single spaces."""
        return " ".join("".join(self._texts()).split())

    def _texts(self) -> Iterator[str]:
        for part in self.inside:
            if isinstance(part, str):
                yield part
            else:
                yield from part._texts()

    def all(self, tag: str | None = None, **attributes: str) -> list[Element]:
        """Elements inside, at any depth; ``class_`` stands for ``class``."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [
            element
            for element in self._elements()
            if tag in (None, element.tag) and wanted.items() <= element.attributes.items()
        ]

    def _elements(self) -> Iterator[Element]:
        for part in self.inside:
            if isinstance(part, Element):
                yield part
                yield from part._elements()

    def one(self, tag: str, **attributes: str) -> Element:
        """The only element of that kind."""
        (element,) = self.all(tag, **attributes)
        return element

    def table(self) -> list[list[str]]:
        """The texts of a table's rows."""
        return [[cell.text for cell in row.inside if isinstance(cell, Element)] for row in self.all("tr")]


class _Builder(HTMLParser):
    """Refuses what is not well formed, so that no text can break out of its place unseen."""

    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute twice: {tag} {names}"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].inside.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.open[-1].inside.append(data)


def parse(html: str) -> Element:
    """The tree of a page."""
    builder = _Builder()
    builder.feed(html)
    builder.close()
    assert len(builder.open) == 1, f"<{builder.open[-1].tag}> is not closed"
    return builder.open[0]


def chosen(select: Element) -> str:
    """The value of a list: of the selected option, else of the first."""
    options = select.all("option")
    selected = [option for option in options if "selected" in option.attributes]
    assert len(selected) <= 1
    option = (selected or options)[0]
    return option.attributes.get("value", option.text)


def filled(page: Element) -> list[tuple[str, str]]:
    """Names and values that the page's form would send."""
    form = page.one("form", id="state")
    return [
        (control.attributes["name"], chosen(control) if control.tag == "select" else control.attributes["value"])
        for control in form.all()
        if control.tag in ("input", "select") and "name" in control.attributes
    ]
