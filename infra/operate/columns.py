"""Finds the columns of ids and of times: by their names, or because there is only one."""

import re
import unicodedata

from .ending import Ending
from .table import SHOWN, Row, shown

OWN_NAMES = {"messageid", "message_id", "message id"}  # not "id", which may be a customer's
NO_NAMES = "it has no header line"


def wanted(column: str | None) -> set[str]:
    """Return the names that the column of ids may have."""
    return OWN_NAMES if column is None else {plain(column)}


def header(rows: list[Row], column: str | None, send_at: str | None) -> list[str]:
    """Return the column names in the first row, without empty ones at its end; [] if it has none.

    ``column`` and ``send_at``: the names that the user asked for, if any.
    """
    if not rows:
        return []
    first = rows[0].cells
    is_named = column is not None or send_at is not None or names(first, OWN_NAMES)
    if re.search("[0-9]", "".join(first)) and not is_named:
        return []
    while not first[-1]:
        first = first[:-1]
    return first


def of_ids(head: list[str], rows: list[Row], column: str | None, others: set[int]) -> int:
    """Return the index of the column of ids; raise Ending if it is not certain.

    ``others``: columns that hold something else. If there are any, a single remaining column is not
    assumed to hold ids, because it may hold telephone numbers.
    """
    found = names(head, wanted(column))
    if len(found) == 1 and not is_id(head[found[0]]):
        return found[0]
    lines = [head, *(row.cells[: len(head) or None] for row in rows)]
    used = {index for cells in lines for index, cell in enumerate(cells) if cell} - others
    if column is None and len(used) == 1 and not others:
        return used.pop()
    what = "no column named messageId" if others and not found else "several columns"
    what = what if column is None else f"{len(found)} columns named {column!r}"
    no_names = "it has several columns and no header line" if column is None else NO_NAMES
    raise _unclear(head, what, no_names, "--column")


def of_times(head: list[str], column: str) -> int:
    """Return the index of the column with this name; raise Ending unless exactly one has it."""
    found = names(head, {plain(column)})
    if len(found) == 1:
        return found[0]
    raise _unclear(head, f"{len(found)} columns named {column!r}", NO_NAMES, "--send-at-column")


def _unclear(head: list[str], what: str, no_names: str, option: str) -> Ending:
    """Return the Ending that lists the columns."""
    if not head or any(is_id(name) for name in head):
        return Ending(f"{no_names}: add one, and choose the column with {option}")
    there = ", ".join(shown(name)[1:-1] for name in head[:SHOWN] if name)
    return Ending(f"it has {what}: choose one of {there} with {option}")


def names(cells: list[str], these: set[str]) -> list[int]:
    """Return the indexes of the cells that hold one of these names."""
    return [index for index, name in enumerate(cells) if plain(name) in these]


def plain(name: str) -> str:
    """Return a name to compare with: without case, invisible characters and odd spaces."""
    text = unicodedata.normalize("NFKC", name)
    seen = "".join(each for each in text if unicodedata.category(each) != "Cf")
    return " ".join(seen.split()).casefold()


def is_id(cell: str) -> bool:
    return re.fullmatch("[0-9]{1,20}", cell) is not None
