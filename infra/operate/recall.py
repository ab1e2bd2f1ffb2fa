"""``recall``: cancel the scheduled SMS of a whole campaign, and report the outcome of each."""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

from . import announcement, forecast, json_lines, outcomes, progress
from .ending import Ending, ExitCode, console, run
from .ids import Ids, Wanted, read
from .options import parse
from .outcomes import Outcomes
from .plan import Plan
from .stack import Stack, explained, find
from .times import shown

TERMINAL = Path("/dev/tty")  # standard input may be the ids
AGAIN = "Run it again: what was accepted is being cancelled, and sending it all again is harmless."

RENEW_S = 60  # after a longer pause at the question, the forecast is made again


class Prepared(NamedTuple):
    """What a recall needs to start."""

    stack: Stack
    plan: Plan
    predicted: forecast.Forecast


def main(arguments: list[str] | None = None) -> ExitCode:
    """Recall a campaign; return the exit code."""
    return run("recall", AGAIN, lambda: _recall(parse(arguments)))


def _recall(options: argparse.Namespace) -> ExitCode:
    stack, plan, predicted = _before_sending(options)
    if options.dry_run:
        return ExitCode.DONE
    recall_id = plan.recall_id(stack.api_url)
    progress.send(stack, plan, recall_id)
    if not options.wait:
        console.print("To see what becomes of each, run it again with --wait.")
        return ExitCode.DONE
    known = Outcomes(plan.ids, recall_id, stack.begun_at)
    with explained(ExitCode.UNFINISHED):
        progress.follow(stack, plan, known, options.results, predicted)
        if options.json:
            json_lines.write(known.rows())
    return progress.conclude(known.counts(), options.results)


def _before_sending(options: argparse.Namespace) -> Prepared:
    """Prepare; whatever stops it, the message says that nothing was sent."""
    try:
        return _prepare(options)
    except Ending:
        raise
    except KeyboardInterrupt:
        raise Ending("interrupted, and nothing was sent", ExitCode.INTERRUPTED) from None
    except Exception as error:
        text = "this is a bug in recall: nothing was sent. Report it with the lines below"
        raise Ending(text, ExitCode.BUG) from error


def _prepare(options: argparse.Namespace) -> Prepared:
    """Check everything, say what will be done, and ask for confirmation; return what to do."""
    chosen = _read(options)
    stack = find(options.stack)
    if options.send_at and options.send_at <= stack.now():
        past = f"--send-at {shown(options.send_at)} is in the past"
        raise Ending(f"{past}: leave out --send-at to try to cancel them anyway")
    send_at = {each: chosen.send_at.get(each, options.send_at) for each in chosen.ids}
    plan = Plan(send_at, stack.now().timestamp())
    if options.wait:
        with explained(ExitCode.NOTHING_SENT):
            outcomes.check(options.results, plan.recall_id(stack.api_url))
    announcement.announce(stack, plan, chosen, _name(options.file))
    prepared = Prepared(stack, plan, forecast.ask(stack))
    announcement.tell_forecast(*prepared)
    if options.dry_run:
        if options.json:
            with explained(ExitCode.NOTHING_SENT):
                json_lines.write(announcement.rows(plan, prepared.predicted))
        console.print("Dry run: nothing was sent.")
        return prepared
    if not options.yes:
        _confirm()
    return _renew(prepared)


def _read(options: argparse.Namespace) -> Ids:
    if options.file == "-" and sys.stdin.isatty():
        console.print("Type the ids, one per line; end with Ctrl-D.")
    with explained(ExitCode.NOTHING_SENT):
        is_stdin = options.file == "-"
        data = sys.stdin.buffer.read() if is_stdin else Path(options.file).read_bytes()
    try:
        return read(data, Wanted(options.column, options.send_at_column, options.times))
    except Ending as ending:
        raise Ending(f"{_name(options.file)}: {ending}") from None


def _name(file: str) -> str:
    return "standard input" if file == "-" else file


def _confirm() -> None:
    console.print("Cancel them? [y/N] ", end="")
    try:
        with TERMINAL.open() as terminal:
            answer = terminal.readline().strip().lower()
    except OSError:
        raise Ending("cannot ask for confirmation without a terminal; pass --yes") from None
    if answer not in ("y", "yes"):
        raise Ending("nothing was sent")


def _renew(prepared: Prepared) -> Prepared:
    """Return what to do as of now, after the question; say what has changed meanwhile."""
    stack, plan, predicted = prepared
    renewed = Plan(plan.send_at, stack.now().timestamp())
    if len(renewed.past()) > len(plan.past()):
        announcement.tell_past(renewed)
    if renewed.now_s - plan.now_s > RENEW_S:  # the concurrency may have been raised
        predicted = forecast.ask(stack)
        announcement.tell_forecast(stack, renewed, predicted)
    return Prepared(stack, renewed, predicted)
