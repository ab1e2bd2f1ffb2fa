"""The ids of a recall: one per line, or a column of a table. Whatever is ambiguous is refused."""

import re
from datetime import datetime
from typing import NamedTuple

from . import columns, table
from .columns import is_id
from .ending import Ending
from .table import Row, refuse, shown
from .times import Reader, Unclear, order

TOTALS = {"total", "totals", "grand total", "sum", "count", "somme", "summe", "gesamt"}


class Ids(NamedTuple):
    """The ids without duplicates, in the order of the file, and the name of their column.

    ``duplicates``: how many were dropped; ``send_at``: when each SMS goes out, if a column says so.
    """

    ids: list[str]
    duplicates: int
    column: str | None
    send_at: dict[str, datetime]


class Wanted(NamedTuple):
    """The column names that the user asked for, and how to read times."""

    column: str | None = None
    send_at: str | None = None
    times: Reader = Reader()

    @property
    def remedy(self) -> str:
        """What to do if it is unclear where cells begin and end."""
        alone = "keep only the column of ids"
        return alone if self.send_at is None else "quote the cells that contain the delimiter"


def read(data: bytes, wanted: Wanted = Wanted()) -> Ids:  # noqa: B008  it is immutable
    """Read the ids; unless all are certain, raise Ending, which lists what is wrong by line.

    The text is read once with each possible delimiter; one that does not fit finds no ids.
    """
    readings: list[Ids] = []
    refusals: list[tuple[bool, int, Ending]] = []
    for delimiter, text in table.split(table.decode(data)):
        try:
            readings.append(_read(table.rows(text, delimiter), wanted))
        except Ending as refusal:
            first = table.first_row(text, delimiter)
            is_named = columns.names(first, columns.wanted(wanted.column)) != []
            refusals.append((is_named, len(first), refusal))
    if not readings:
        raise max(refusals, key=lambda each: each[:2])[2]  # for the delimiter that fits best
    if any((each.ids, each.send_at) != (readings[0].ids, readings[0].send_at) for each in readings):
        raise Ending(f"it can be split into cells in two ways: {wanted.remedy}")
    return readings[0]


def _read(rows: list[Row], wanted: Wanted) -> Ids:
    header = columns.header(rows, wanted.column, wanted.send_at)
    rows = rows[1:] if header else rows
    if not rows:
        raise Ending("it contains no ids")
    if any(name.count("(") != name.count(")") for name in header):
        raise Ending(f"a name in its first line is split in two: {wanted.remedy}")
    when = None if wanted.send_at is None else columns.of_times(header, wanted.send_at)
    index = columns.of_ids(header, rows, wanted.column, set() if when is None else {when})
    refuse(
        f"these rows do not match the first line ({wanted.remedy})",
        _misfits(rows, header, index),
    )
    refuse(
        "an id has 1 to 20 digits: correct these lines, or choose another --column",
        [_trouble(row, index) for row in rows],
    )
    cells = [row.cells[index] for row in rows]
    numbers = [str(number) for number in range(len(cells) + 1)]
    if len(rows[0].cells) > 1 and cells in (numbers[:-1], numbers[1:]):
        raise Ending("its ids look like row numbers: choose another column with --column")
    if header and any(columns.plain(cell).rstrip(" :") in TOTALS for cell in rows[-1].cells):
        raise Ending(f"line {rows[-1].line} looks like a total, not like an id: remove it")
    send_at = {} if when is None else _send_at(rows, index, when, wanted.times)
    ids = list(dict.fromkeys(cells))
    return Ids(ids, len(cells) - len(ids), header[index] if header else None, send_at)


def _send_at(rows: list[Row], index: int, when: int, reader: Reader) -> dict[str, datetime]:
    """Return when each SMS goes out; raise Ending, by line, unless each has one certain time."""
    found: dict[str, tuple[int, datetime]] = {}
    troubles, doubles = [], []
    for row in rows:
        message_id, cell = row.cells[index], _cell(row, when)
        try:
            time = reader.read(cell)
        except Unclear as unclear:
            troubles.append(f"line {row.line}: {shown(cell)} {unclear}")
            continue
        line, first = found.setdefault(message_id, (row.line, time))
        if time != first:
            doubles.append(f"line {row.line}: {message_id} has a different time in line {line}")
    refuse("correct the rows whose time is missing or unclear", troubles)
    refuse("write the day and the month of all dates in the same order", _mixed(rows, when))
    refuse("keep only one time for each id", doubles)
    return {message_id: time for message_id, (_, time) in found.items()}


def _mixed(rows: list[Row], when: int) -> list[str]:
    """List the dates whose day and month are not in the order of the first unambiguous date."""
    known = [(row, which) for row in rows if (which := order(_cell(row, when)))]
    return [
        f"line {row.line}: {shown(_cell(row, when))} begins with the {which}, "
        f"line {known[0][0].line} with the {known[0][1]}"
        for row, which in known
        if which != known[0][1]
    ]


def _misfits(rows: list[Row], header: list[str], index: int) -> list[str]:
    """List the rows whose cells may be shifted, by unnamed row numbers or a comma in a number.

    Empty or missing cells at the end of a row are fine. But if a row is longer or shorter than the
    first line and another of its cells looks like an id, that cell may be the right one. And a
    short row may be the rest of the row before it, split by a line break without quotes.
    """
    names, previous, found = len(header), 0, []
    for line, cells in rows if header else []:
        length = len(cells)
        others = [cell for at, cell in enumerate(cells) if at != index]
        if length != names and (any(cells[names:]) or any(map(is_id, others))):
            of_names = f"{names} column{'s' * (names > 1)}"
            found.append(f"line {line} has {length} cells, the first line names {of_names}")
        elif index + 1 < previous < names and previous + length == names + 1:
            found.append(f"line {line} may be the rest of the line before it")
        previous = length
    return found


def _trouble(row: Row, index: int) -> str:
    cell = _cell(row, index)
    if is_id(cell) and not re.fullmatch("[0-9]{15}0+", cell):
        return ""
    return f"line {row.line}: {shown(cell)}{_hint(cell)}"


def _cell(row: Row, index: int) -> str:
    return row.cells[index] if index < len(row.cells) else ""


def _hint(cell: str) -> str:
    """Say how a spreadsheet or a program may have changed an id; suggest one only if certain."""
    if not cell:
        return " is empty"
    if re.fullmatch(r"[0-9]{1,3}([.,'\u2019_\s][0-9]{3})+", cell):
        return " has a thousands or decimal separator: export the column as text"
    if decimal := re.fullmatch("([0-9]+)[.,]0+", cell):
        return f" looks like an id turned into a decimal; did you mean {decimal[1]}?"
    if re.fullmatch(r"[0-9][.,]?[0-9]*[eE]\+?[0-9]+", cell) or is_id(cell):
        return " may have lost digits in a spreadsheet: export the column as text"
    if is_id(columns.plain(cell)):
        return " contains invisible or unusual characters: type it again"
    return ""
