"""What there is: tasks, probes, closed forms and options, read from the library's catalogue."""
from __future__ import annotations

import ctypes
import textwrap
from dataclasses import dataclass
from typing import Any, Iterator, List, Mapping, Tuple

from . import _abi
from ._library import check, initialised, library

WIDTH = 100


@dataclass(frozen=True)
class Entry:
    """A row of the catalogue: an option, or the name of a task, probe or closed form."""

    name: str
    kind: str
    owner: str
    default: str
    minimum: float
    maximum: float
    words: Tuple[str, ...]
    summary: str
    description: str

    @property
    def allowed(self) -> str:
        """What an option takes."""
        if self.words:
            return "|".join(self.words)
        if self.kind in ("number", "integer"):
            return f"{self.kind} in [{self.minimum:g}, {self.maximum:g}]"
        return self.kind

    def value(self, text: str) -> Any:
        """A value of this option from its text: a number, a list of numbers, or the text itself."""
        if self.kind == "array":
            return [float(item) for item in text.split(",") if item]
        if self.kind not in ("number", "integer") or not text:
            return text
        number = float(text)
        return int(number) if self.kind == "integer" and number.is_integer() else number

    def __repr__(self) -> str:
        if self.kind == "name":
            head = f"{self.name}: {self.description}" if "->" in self.description else self.name
        else:
            head = f"{self.name}{' = ' + self.default if self.default else ''}  ({self.allowed})"
        return head + "\n" + _fill(self.summary, 4)


class Listing(Mapping[str, Entry]):
    """Entries by name; shows one per paragraph."""

    def __init__(self, entries: List[Entry]) -> None:
        self._entries = {entry.name: entry for entry in entries}

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self._entries.values()))


class Description(Listing):
    """A task and every option of a run of it: a mapping from an option's name to its entry."""

    def __init__(self, task: Entry, options: List[Entry]) -> None:
        super().__init__(options)
        self.task = task

    def __repr__(self) -> str:
        lines = [self.task.name, _fill(self.task.summary, 4), _fill(self.task.description, 4)]
        for owner in dict.fromkeys(entry.owner for entry in self.values()):
            lines.append(f"\nOptions of the {owner}:")
            lines += [textwrap.indent(repr(entry), "  ") for entry in self.values() if entry.owner == owner]
        return "\n".join(line for line in lines if line)


def _fill(text: str, indent: int) -> str:
    space = " " * indent
    return textwrap.fill(text, WIDTH, initial_indent=space, subsequent_indent=space, break_on_hyphens=False)


def entries(scope: str) -> List[Entry]:
    """The rows of a scope of the catalogue, none if there is no such scope."""
    found = []
    name = scope.encode()
    for index in range(library.lamina_catalogue_count(name)):
        row = initialised(_abi.CatalogueEntry, "lamina_catalogue_entry_init")
        check(library.lamina_catalogue_describe(name, index, ctypes.byref(row)))
        words = tuple(word for word in row.words.decode().split("|") if word)
        found.append(Entry(row.key.decode(), _abi.KINDS[row.kind], row.owner.decode(), row.fallback.decode(), row.minimum,
                           row.maximum, words, row.summary.decode(), row.description.decode()))
    return found


SCOPES = ("tasks", "probes", "theory")


def list_names(what: str = "tasks") -> Listing:
    """What there is of `what`: "tasks", "probes" or "theory" (closed forms)."""
    if what not in SCOPES:
        raise ValueError(f"what is {what!r}, must be one of {', '.join(SCOPES)}")
    return Listing(entries(what))


def describe(name: str) -> Entry | Description:
    """A task with all its options, a probe, a closed form, or an option, by name."""
    scopes = {scope: Listing(entries(scope)) for scope in SCOPES}
    if name in scopes["tasks"]:
        return Description(scopes["tasks"][name], entries(name))
    options = [Listing(entries(task)) for task in scopes["tasks"]]
    for listing in [scopes["probes"], scopes["theory"], *options]:
        if name in listing:
            return listing[name]
    known = "; ".join(f"{scope}: {', '.join(listing)}" for scope, listing in scopes.items())
    raise ValueError(f"name is {name!r}, must be an option or one of {known}")
