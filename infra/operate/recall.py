"""``recall``: cancel the scheduled SMS of a whole campaign, and say what became of each."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from . import forecast, outcomes, programs, progress
from .ending import Ending, ExitCode, console, run
from .forecast import Forecast
from .ids import Ids, Wanted, read
from .options import parse
from .outcomes import Outcomes
from .plan import Plan
from .stack import Stack, explained, find
from .times import CUT_OFF, shown, span

TERMINAL = Path("/dev/tty")  # standard input may be the ids
AGAIN = "Run it again: what was accepted is being cancelled, and sending all once more is harmless."


def main(arguments: list[str] | None = None) -> ExitCode:
    """Recall a campaign; return the exit code."""
    return run("recall", AGAIN, lambda: _recall(parse(arguments)))


def _recall(options: argparse.Namespace) -> ExitCode:
    try:
        stack, plan = _prepare(options)
    except KeyboardInterrupt:
        raise Ending("interrupted, and nothing was sent", ExitCode.INTERRUPTED) from None
    if options.dry_run:
        return ExitCode.DONE
    recall_id = plan.recall_id(stack.api_url)
    progress.send(stack, plan, recall_id)
    if not options.wait:
        console.print("To see what becomes of each, run it again with --wait.")
        return ExitCode.DONE
    known = Outcomes(plan.ids, recall_id, stack.begun_at)
    with explained(ExitCode.UNFINISHED):
        progress.follow(stack, plan, known, options.results)
        if options.json:
            programs.write(known.rows())
    return progress.conclude(known.counts(), options.results)


def _prepare(options: argparse.Namespace) -> tuple[Stack, Plan]:
    """Check all, say what will be done, and ask; return what to do."""
    chosen = _read(options)
    stack = find(options.stack)
    if options.send_at and options.send_at <= stack.now():
        past = f"--send-at {shown(options.send_at)} is past"
        raise Ending(f"{past}: without --send-at, each is asked for anyway")
    send_at = {each: chosen.send_at.get(each, options.send_at) for each in chosen.ids}
    plan = Plan(send_at, stack.now().timestamp())
    if options.wait:
        with explained(ExitCode.NOTHING_SENT):
            outcomes.check(options.results, plan.recall_id(stack.api_url))
    _announce(options, chosen, stack, plan)
    foreseen = _foresee(stack, plan)
    if options.dry_run:
        if options.json:
            programs.write(_rows(plan, foreseen))
        console.print("Dry run: nothing was sent.")
        return stack, plan
    if not options.yes:
        _confirm()
    return stack, _renew(plan, stack)


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


def _announce(options: argparse.Namespace, chosen: Ids, stack: Stack, plan: Plan) -> None:
    source = _name(options.file) + (f", column {chosen.column}" if chosen.column else "")
    dropped = f", {chosen.duplicates:,} duplicates dropped" if chosen.duplicates else ""
    console.print(f"{len(chosen.ids):,} SMS to cancel, from {source}{dropped}")
    console.print("one id may stand for up to 500 recipients: it is cancelled as a whole")
    console.print(f"stack {stack.name} in {stack.region}, {stack.api_url}")
    times = [time for time in plan.send_at.values() if time]
    if not times:
        console.print("without --send-at they are tried for two hours, whenever the SMS leave")
        return
    past, now = plan.past(), stack.now()
    first, last = min(times), max(times)
    leave = f"at {shown(first)}" if first == last else f"from {shown(first)} to {shown(last)}"
    console.print(f"they leave {leave}; it is {shown(now.astimezone(first.tzinfo))} by AWS's clock")
    if len(past) < len(plan.ids):
        due = times[0] - CUT_OFF
        left = span((due - now).total_seconds())
        console.print(f"the {'' if first == last else 'first '}cut-off is {shown(due)}, in {left}")
    if past:
        _tell_past(plan, past)


def _tell_past(plan: Plan, past: list[str]) -> None:
    ago = span(plan.now_s - plan.cut_offs[past[0]])
    of = f"{len(past):,} of {len(plan.ids):,}"
    console.print(f"{of} are PAST THEIR CUT-OFF, the first by {ago}: they are asked last, for")
    console.print("SMS Partner will refuse them, unless their times are wrong")


def _foresee(stack: Stack, plan: Plan) -> Forecast:
    foreseen = forecast.ask(stack)
    outlook = foreseen.outlook(plan.cut_offs.values(), plan.now_s)
    console.print(f"forecast: {foreseen}: {outlook}")
    if outlook.late:
        console.print(foreseen.capacity.advice(stack.region, outlook, foreseen.a_second))
    return foreseen


def _rows(plan: Plan, foreseen: Forecast) -> programs.Rows:
    """Yield what a dry run tells of each id. ``in_time`` is null without a time."""
    for number, (message_id, send_at) in enumerate(plan.send_at.items(), 1):
        asked_s = plan.now_s + foreseen.start_s + number / foreseen.a_second
        cut_off = send_at and (send_at - CUT_OFF).isoformat()
        yield {
            "id": message_id,
            "send_at": send_at and send_at.isoformat(),
            "cut_off": cut_off,
            "asked_at": datetime.fromtimestamp(asked_s, UTC).isoformat(timespec="seconds"),
            "in_time": asked_s < plan.cut_offs[message_id] if send_at else None,
        }


def _confirm() -> None:
    console.print("Cancel them? [y/N] ", end="")
    try:
        with TERMINAL.open() as terminal:
            answer = terminal.readline().strip().lower()
    except OSError:
        raise Ending("cannot ask for confirmation without a terminal; pass --yes") from None
    if answer not in ("y", "yes"):
        raise Ending("nothing was sent")


def _renew(plan: Plan, stack: Stack) -> Plan:
    """Return the plan as it is after the question; say what is past its cut-off since."""
    renewed = Plan(plan.send_at, stack.now().timestamp())
    if len(past := renewed.past()) > len(plan.past()):
        _tell_past(renewed, past)
    return renewed
