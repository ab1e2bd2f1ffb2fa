"""The command line of ``recall``."""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from . import times
from .times import Reader, Unclear

PROGRAMS = "for programs: at the end, print one JSON object per id on standard output"


class Parser(argparse.ArgumentParser):
    """A parser whose errors take one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help lists the options)\n")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options; ``times`` is a Reader, ``send_at`` a time or None."""
    parser = _parser()
    options = parser.parse_args(arguments)
    is_timed = options.send_at is not None or options.send_at_column is not None
    if (options.timezone or options.day_first) and not is_timed:
        parser.error("--timezone and --day-first need --send-at or --send-at-column")
    if options.json and not (options.wait or options.dry_run):
        parser.error("--json needs --wait or --dry-run: otherwise there is nothing to print")
    if options.json and sys.stdout is None:  # it was closed before Python started
        parser.error("--json needs standard output, which is closed")
    try:
        zone = times.zone(options.timezone) if options.timezone is not None else None
    except Unclear as unclear:
        parser.error(f"--timezone: {options.timezone!r} {unclear}")
    options.times = Reader(zone, options.day_first)
    try:
        text = options.send_at
        options.send_at = None if text is None else options.times.read(text.strip())
    except Unclear as unclear:
        parser.error(f"--send-at: {text!r} {unclear}")
    return options


def _parser() -> Parser:
    parser = Parser(
        prog="recall",
        description="Cancel the scheduled SMS of a whole campaign, and report the outcome of each.",
        epilog="Exit codes: 0 all done, 1 some not cancelled, 2 nothing sent, 3 some not sent or "
        "without an outcome, 70 a bug, 130 interrupted. It is harmless to run it again.",
    )
    add = parser.add_argument
    add("file", metavar="FILE", help="the ids, one per line or in a CSV; - is standard input")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--stack", metavar="NAME", help="the name of the deployed stack")
    place.add_argument("--local", action="store_true", help="the stack of a running `make run`")
    when = parser.add_mutually_exclusive_group()
    at = f"when the SMS go out, such as {times.example()}"
    when.add_argument("--send-at", metavar="TIME", help=at)
    when.add_argument("--send-at-column", metavar="NAME", help="the column with the send times")
    add("--timezone", metavar="ZONE", help="for times without an offset, such as Europe/Paris")
    add("--day-first", action="store_true", help="read 03/04/2030 as 3 April")
    add("--column", metavar="NAME", help="the column of the CSV that holds the ids")
    add("--yes", action="store_true", help="do not ask for confirmation")
    add("--wait", action="store_true", help="wait for all outcomes and write the results")
    add("--dry-run", action="store_true", help="check and forecast everything, but send nothing")
    add("--results", type=Path, default=Path("results.csv"), help="write them here (%(default)s)")
    add("--json", action="store_true", help=PROGRAMS)
    return parser
