"""Reads files as spreadsheets, databases and scripts write them: into text, then into rows."""

import codecs
import csv
import io
import re
from typing import NamedTuple

from .ending import Ending

DELIMITERS = (";", ",", "\t", "|")
CONTROL = re.compile("[\x00-\x08\x0e-\x1f]")  # never in a text file; excludes white space
SEPARATOR_LINE = re.compile(
    r'\s*"?sep=([;,|:^~\t])"?[;,|\t ]*(?=[\r\n]|\Z)', re.IGNORECASE
)  # Excel
TYPE_LINE = re.compile(r'\s*"?#TYPE [^\r\n]*')  # PowerShell's Export-Csv
JSON = re.compile(r'\s*(\{|\[\s*["\d{\[\]])')

SIGNATURES = {
    b"PK\x03\x04": "a workbook (.xlsx, .ods) or another ZIP archive: save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "a workbook (.xls): save the sheet as CSV",
    b"\x1f\x8b": "compressed (gzip): unpack it first",
    b"%PDF": "a PDF: save the ids as CSV",
}


SHOWN = 20  # wrong lines listed; with more, the file or the column itself is wrong


class Row(NamedTuple):
    """A row that is not empty. Its ``cells`` are stripped of white space."""

    line: int
    cells: list[str]


def decode(data: bytes) -> str:
    """Return the text of a file; if it cannot be a table, raise Ending, which quotes none of it."""
    for signature, kind in SIGNATURES.items():
        if data.startswith(signature):
            raise Ending(f"this is {kind}")
    try:
        text = _text(data).lstrip("\ufeff").rstrip("\x1a")  # DOS marks the end with it
    except UnicodeDecodeError:
        text = "\0"
    if CONTROL.search(text):
        raise Ending("this is not a text file: save the ids as CSV, or one per line")
    if JSON.match(text):
        raise Ending("this is JSON: save the ids as CSV, or one per line")
    if text.lstrip().startswith("<"):
        raise Ending("this is HTML or XML, whatever its name says: save the sheet as CSV")
    return text


def _text(data: bytes) -> str:
    data = data.removeprefix(codecs.BOM_UTF8)
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return data.decode("utf-32")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    if b"\0" in data:  # UTF-16 without its mark: every other byte of digits and delimiters is zero
        is_little = data[1::2].count(0) > data[::2].count(0)
        text = data.decode("utf-16-le" if is_little else "utf-16-be")
        return text if re.search("[0-9]", text) and "\ufffe" not in text else "\0"
    try:
        return data.decode()
    except UnicodeDecodeError:
        # What Excel calls CSV; ids are ASCII in any encoding.
        return data.decode("cp1252", errors="replace")


def split(text: str) -> list[tuple[str, str]]:
    """Return each possible delimiter with the text, in which the lines meant for tools are blank.

    They are blanked rather than removed, so that line numbers stay right. All delimiters that do
    not occur in the text give the same rows, so only one of them is returned.
    """
    text = TYPE_LINE.sub("", text, count=1) if TYPE_LINE.match(text) else text
    if named := SEPARATOR_LINE.match(text):
        return [(named[1], re.sub("[^\r\n]", "", named[0]) + text[named.end() :])]
    absent = [delimiter for delimiter in DELIMITERS if delimiter not in text]
    return [(delimiter, text) for delimiter in DELIMITERS if delimiter not in absent[1:]]


def rows(text: str, delimiter: str) -> list[Row]:
    """Return the rows that are not empty; raise Ending if quotes do not match."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    found = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                found.append(Row(reader.line_num, cells))
    except csv.Error as error:
        raise Ending(f"line {reader.line_num}: this is not valid CSV: {error}") from error
    return found


def first_row(text: str, delimiter: str) -> list[str]:
    """Return the cells of the first line that is not empty, as far as it can be parsed."""
    first = next((line for line in re.split("[\r\n]", text) if line.strip()), "")
    return next(csv.reader([first[:10_000]], delimiter=delimiter, skipinitialspace=True), [])


def shown(cell: str) -> str:
    """Return the beginning of a cell, with invisible characters escaped."""
    return repr(cell[:40])


def refuse(what: str, troubles: list[str]) -> None:
    """Raise Ending with the first troubles, if there are any; an empty string is no trouble."""
    if wrong := [each for each in troubles if each]:
        more = [f"and {len(wrong) - SHOWN:,} more"] if len(wrong) > SHOWN else []
        raise Ending("\n  ".join([f"{what}:", *wrong[:SHOWN], *more]))
