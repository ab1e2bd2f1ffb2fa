"""The ids of a recall: one per line, or a column of a table. What is not certain is refused."""

import re
import unicodedata
from typing import NamedTuple

from . import table
from .ending import Ending
from .table import Row

SHOWN = 20  # wrong lines: more of them mean the wrong file, or the wrong column
OWN_NAMES = {"messageid", "message_id", "message id"}  # a mere "id" may be a customer's
TOTALS = {"total", "totals", "grand total", "sum", "count", "somme", "summe", "gesamt"}


class Ids(NamedTuple):
    """The ids in their order, each once; how many more there were, and their column's name."""

    ids: list[str]
    duplicates: int
    column: str | None


def read(data: bytes, column: str | None = None) -> Ids:
    """Read the ids; raise Ending, which lists what is wrong by line, unless all are certain.

    The text is read once for each delimiter. One that fits no first line finds no ids in it.
    """
    wanted = OWN_NAMES if column is None else {_plain(column)}
    readings: list[Ids] = []
    refusals: list[tuple[bool, int, Ending]] = []
    for delimiter, text in table.split(table.decode(data)):
        try:
            readings.append(_read(table.rows(text, delimiter), column, wanted))
        except Ending as refusal:
            first = table.first_row(text, delimiter)
            refusals.append((_names(first, wanted) != [], len(first), refusal))
    if not readings:
        raise max(refusals, key=lambda each: each[:2])[2]  # of the delimiter that fits best
    if any(each.ids != readings[0].ids for each in readings):
        raise Ending("its cells can be told apart in two ways: keep the column of the ids alone")
    return readings[0]


def _read(rows: list[Row], column: str | None, wanted: set[str]) -> Ids:
    header = _header(rows, column, wanted)
    rows = rows[1:] if header else rows
    if not rows:
        raise Ending("there is no id in it")
    if any(name.count("(") != name.count(")") for name in header):
        raise Ending("a name in its first line is cut in two: keep the column of the ids alone")
    index = _index(header, rows, column, wanted)
    _refuse(
        "the rows do not fit the first line (keep the column of the ids alone)",
        _misfits(rows, header, index),
    )
    _refuse("not all are ids of 1 to 20 digits", [_trouble(row, index) for row in rows])
    cells = [row.cells[index] for row in rows]
    if len(rows[0].cells) > 1 and cells in (_numbers(0, len(cells)), _numbers(1, len(cells))):
        raise Ending("its ids are those of row numbers: choose another column with --column")
    if header and any(_plain(cell).rstrip(" :") in TOTALS for cell in rows[-1].cells):
        raise Ending(f"line {rows[-1].line} looks like a total, not like an SMS: take it out")
    ids = list(dict.fromkeys(cells))
    return Ids(ids, len(cells) - len(ids), header[index] if header else None)


def _header(rows: list[Row], column: str | None, wanted: set[str]) -> list[str]:
    """Return the names in the first row, without unnamed ones at its end; [] if it has none."""
    if not rows:
        return []
    first = rows[0].cells
    if column is None and re.search("[0-9]", "".join(first)) and not _names(first, wanted):
        return []
    while not first[-1]:
        first = first[:-1]
    return first


def _index(header: list[str], rows: list[Row], column: str | None, wanted: set[str]) -> int:
    """Return which column holds the ids; raise Ending where that is not certain."""
    found = _names(header, wanted)
    if len(found) == 1 and not _is_id(header[found[0]]):
        return found[0]
    lines = [header, *(row.cells[: len(header) or None] for row in rows)]
    used = {index for cells in lines for index, cell in enumerate(cells) if cell}
    if column is None and len(used) == 1:
        return used.pop()
    if not header or any(_is_id(name) for name in header):
        text = "several columns and no header" if column is None else "its first line names nothing"
        raise Ending(f"{text}: add a line of names, and name the column with --column")
    there = ", ".join(_shown(name) for name in header[:SHOWN] if name)
    what = "several columns" if column is None else f"{len(found)} columns {column!r}"
    raise Ending(f"it has {what}: choose one of {there} with --column")


def _names(cells: list[str], wanted: set[str]) -> list[int]:
    return [index for index, name in enumerate(cells) if _plain(name) in wanted]


def _plain(name: str) -> str:
    """Return a name without what nobody sees: its case, invisible characters, odd spaces."""
    text = unicodedata.normalize("NFKC", name)
    seen = "".join(each for each in text if unicodedata.category(each) != "Cf")
    return " ".join(seen.split()).casefold()


def _refuse(what: str, troubles: list[str]) -> None:
    if wrong := [each for each in troubles if each]:
        more = [f"and {len(wrong) - SHOWN:,} more"] if len(wrong) > SHOWN else []
        raise Ending("\n  ".join([f"{what}:", *wrong[:SHOWN], *more]))


def _misfits(rows: list[Row], header: list[str], index: int) -> list[str]:
    """Say which rows may be shifted: row numbers without a name, or a comma inside a number.

    Empty cells at a row's end, and missing ones, are fine. But in a row of another length than the
    first line's a second cell that may be an id may be the right one, and a short row may be the
    rest of the one before, which a line break without quotes has cut.
    """
    names, previous, found = len(header), 0, []
    for line, cells in rows if header else []:
        length = len(cells)
        others = [cell for at, cell in enumerate(cells) if at != index]
        if length != names and (any(cells[names:]) or any(map(_is_id, others))):
            found.append(f"line {line} has {length} cells, the first line names {names}")
        elif index + 1 < previous < names and previous + length == names + 1:
            found.append(f"line {line} may be the rest of the line before it")
        previous = length
    return found


def _trouble(row: Row, index: int) -> str:
    cell = row.cells[index] if index < len(row.cells) else ""
    if _is_id(cell) and not re.fullmatch("[0-9]{15}0+", cell):
        return ""
    return f"line {row.line}: {_shown(cell, quoted=True)}{_hint(cell)}"


def _is_id(cell: str) -> bool:
    return re.fullmatch("[0-9]{1,20}", cell) is not None


def _numbers(first: int, count: int) -> list[str]:
    return [str(first + number) for number in range(count)]


def _shown(cell: str, *, quoted: bool = False) -> str:
    text = repr(cell[:40])  # escapes what is invisible
    return text if quoted else text[1:-1]


def _hint(cell: str) -> str:
    """Say what a spreadsheet or a program made of an id; name none that it may not have been."""
    if not cell:
        return " is empty"
    if re.fullmatch(r"[0-9]{1,3}([.,'\u2019_\s][0-9]{3})+", cell):
        return " has a separator, of thousands or of decimals: export the column as text"
    if decimal := re.fullmatch("([0-9]+)[.,]0+", cell):
        return f" looks like an id turned into a decimal; did you mean {decimal[1]}?"
    if re.fullmatch(r"[0-9][.,]?[0-9]*[eE]\+?[0-9]+", cell) or _is_id(cell):
        return " may have lost digits in a spreadsheet: export the column as text"
    if _is_id(_plain(cell)):
        return " holds more than its digits: type it anew"
    return ""
