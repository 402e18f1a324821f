"""Pages of results, read strictly."""

from __future__ import annotations

from html.parser import HTMLParser

import xarray as xr

VOID = {"meta", "img", "br"}
SECTIONS = [
    "Protocol",
    "Provenance",
    "Sample stimuli",
    "Depth profile",
    "Shares of the variance",
    "Distributions",
    "Strongest units",
    "Interactions",
    "Dead and rarely active units",
    "Convergence",
    "Preferred factors",
    "Specialisation",
    "How to read the numbers",
]


class Page(HTMLParser):
    """What a page holds, read strictly: elements are closed in the order in which they were opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, list[str]] = {}
        self.tables: list[list[list[str]]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in {"td", "th"}:
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.words.setdefault(self.open[-1], []).append(data)
        if self.open and self.open[-1] in {"td", "th"}:
            self.tables[-1][-1][-1] += data

    def attrs(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]

    def text(self, tag: str) -> str:
        return "\n".join(self.words.get(tag, []))

    def table(self, *head: str) -> list[list[str]]:
        """Rows of the first table whose head begins so."""
        return next(rows[1:] for rows in self.tables if tuple(rows[0][: len(head)]) == head)


def has(page: Page, *sentences: str) -> bool:
    text = page.text("p")
    return all(sentence in text for sentence in sentences)


def joined(made: xr.DataTree, *others: xr.DataTree, alone: bool = False) -> xr.DataTree:
    """Groups of several results in one, under the attributes of the first; of that, where alone, the stimuli only."""
    kept = {"stimuli"} if alone else set(made.children)
    nodes = {name: made.children[name] for name in kept} | {
        name: child for other in others for name, child in other.children.items()
    }
    tree = xr.DataTree(children={name: child.copy() for name, child in nodes.items()})
    tree.attrs = made.attrs
    return tree
