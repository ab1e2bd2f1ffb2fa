"""The ids of a recall: one per line, or a column of a CSV as spreadsheets export it."""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from typing import NamedTuple

from infra.recall import Ending, ExitCode

SHOWN = 20  # wrong lines: more of them are the wrong file, or the wrong column
OWN_NAMES = ("messageid", "message_id", "message id")  # a mere "id" may be a customer's

Row = tuple[int, list[str]]  # the number of its line, and its cells without white space around


class Ids(NamedTuple):
    """The ids in their order, each once; how many more there were, and their column's name."""

    ids: list[str]
    duplicates: int
    column: str | None


def read(data: bytes, column: str | None = None) -> Ids:
    """Read the ids; raise Ending, which lists what is wrong by line, unless all are valid.

    An id is 1 to 20 digits. A first line without any digit is a header.
    """
    rows = list(_rows(_decode(data)))
    is_headed = bool(rows) and (column is not None or not re.search("[0-9]", "".join(rows[0][1])))
    header = rows.pop(0)[1] if is_headed else []
    if not rows:
        raise Ending("there is no id in it", ExitCode.NOTHING_SENT)
    index = _index(header, rows, column)
    cells = [(line, row[index] if index < len(row) else "") for line, row in rows]
    wrong = [f"line {line}: {_trouble(cell)}" for line, cell in cells if not _is_id(cell)]
    if wrong:
        more = [f"and {len(wrong) - SHOWN:,} more"] if len(wrong) > SHOWN else []
        said = "\n  ".join([*wrong[:SHOWN], *more])
        raise Ending(f"not all are ids of 1 to 20 digits:\n  {said}", ExitCode.NOTHING_SENT)
    ids = list(dict.fromkeys(cell for _, cell in cells))
    return Ids(ids, len(cells) - len(ids), header[index] if header else None)


def _is_id(cell: str) -> bool:
    return re.fullmatch("[0-9]{1,20}", cell) is not None


def _decode(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")  # Excel's "CSV"; ids are ASCII in any


def _rows(text: str) -> Iterator[Row]:
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(";\t,", key=first.count)
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        text = f"line {reader.line_num}: this is no CSV: {error}"
        raise Ending(text, ExitCode.NOTHING_SENT) from error


def _index(header: list[str], rows: list[Row], column: str | None) -> int:
    """Return which column holds the ids; raise Ending where that is not certain."""
    wanted = OWN_NAMES if column is None else (column.strip().lower(),)
    found = [index for index, name in enumerate(header) if name.lower() in wanted]
    if len(found) == 1:
        return found[0]
    used = {index for row in (header, *(row for _, row in rows)) for index in _used(row)}
    if column is None and len(used) == 1:
        return used.pop()
    what = "it has several columns" if column is None else f"it has {len(found)} columns {column!r}"
    there = f"of {', '.join(filter(None, header))}" if header else "of a first line with names"
    raise Ending(f"{what}: choose one {there} with --column", ExitCode.NOTHING_SENT)


def _used(row: list[str]) -> list[int]:
    return [index for index, cell in enumerate(row) if cell]


def _trouble(cell: str) -> str:
    if re.fullmatch("[0-9]+[.,]0+", cell):
        return f"{cell!r}, of which a spreadsheet made a decimal: {re.split('[.,]', cell)[0]}?"
    if re.fullmatch(r"[0-9][.,]?[0-9]*[eE]\+?[0-9]+", cell):
        return f"{cell!r}, of which a spreadsheet has cut digits: export the column as text"
    return repr(cell[:40]) if cell else "nothing"
