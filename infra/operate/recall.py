"""``recall``: cancel the scheduled SMS of a whole campaign, and say what became of each."""

import argparse
import hashlib
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import outcomes
from .ending import Ending, ExitCode, console, run
from .follow import Follower
from .ids import Ids, read
from .outcomes import DONE, UNDECIDED, Outcomes
from .sending import Sender
from .stack import Stack, explained, find

CUT_OFF = timedelta(minutes=5)  # before the send time; SMS Partner cancels nothing later
TERMINAL = Path("/dev/tty")  # standard input may be the ids
AGAIN = "What was accepted is being cancelled. Run it again: sending all once more is harmless."


def main(arguments: list[str] | None = None) -> ExitCode:
    """Recall a campaign; return the exit code."""
    return run("recall", AGAIN, lambda: _recall(_parse(arguments)))


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="recall",
        description="Cancel the scheduled SMS of a whole campaign, and say what became of each.",
        epilog="Exit codes: 0 all done, 1 some not cancelled, 2 nothing sent, 3 not all could be "
        "sent or are decided, 70 a bug, 130 interrupted. The same command again is harmless.",
    )
    add = parser.add_argument
    add("file", metavar="FILE", help="the ids, one per line or in a CSV; - is standard input")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--stack", metavar="NAME", help="the stack that the bundle is deployed as")
    place.add_argument("--local", action="store_true", help="the stack of a running `make run`")
    add("--send-at", type=_time, metavar="TIME", help=f"when the SMS leave, like {_example()}")
    add("--column", metavar="NAME", help="the column of the CSV that holds the ids")
    add("--yes", action="store_true", help="do not ask")
    add("--wait", action="store_true", help="follow all to the end, and write the results")
    add("--dry-run", action="store_true", help="check all, say what would be done, send nothing")
    add("--results", type=Path, default=Path("results.csv"), help="default: %(default)s")
    return parser.parse_args(arguments)


def _example() -> str:
    """Return tomorrow at nine with this machine's offset."""
    tomorrow = datetime.now().astimezone() + timedelta(days=1)
    return tomorrow.replace(hour=9, minute=0).isoformat(timespec="minutes")


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text.strip())
        moment = time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time like {_example()}") from None
    if time.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no offset: write it like {_example()}")
    if moment <= datetime.now(UTC):
        raise argparse.ArgumentTypeError(
            f"{text!r} is past: without --send-at, each is asked for anyway"
        )
    return time


def _recall(options: argparse.Namespace) -> ExitCode:
    chosen = _read(options.file, options.column)
    stack = find(options.stack)
    recall_id = _recall_id(stack, chosen.ids, options.send_at)
    if options.wait:
        with explained(ExitCode.NOTHING_SENT):
            outcomes.check(options.results, recall_id)
    _announce(options, chosen, stack)
    if options.dry_run:
        console.print("Dry run: nothing was sent.")
        return ExitCode.DONE
    if not options.yes:
        _confirm()
    _send(stack, chosen.ids, recall_id, options.send_at)
    if options.wait:
        return _follow(stack, Outcomes(chosen.ids, recall_id, stack.begun_at), options.results)
    console.print("To see what becomes of each, run it again with --wait.")
    return ExitCode.DONE


def _read(file: str, column: str | None) -> Ids:
    if file == "-" and sys.stdin.isatty():
        console.print("Type the ids, one per line; end with Ctrl-D.")
    with explained(ExitCode.NOTHING_SENT):
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        return read(data, column)
    except Ending as ending:
        raise Ending(f"{_name(file)}: {ending}") from None


def _recall_id(stack: Stack, ids: list[str], send_at: datetime | None) -> str:
    """Return the same id for the same recall, so that a second run follows the first's outcomes."""
    when = send_at.astimezone(UTC).isoformat() if send_at else ""
    text = "\n".join([stack.api_url, when, *sorted(ids)])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _name(file: str) -> str:
    return "standard input" if file == "-" else file


def _announce(options: argparse.Namespace, chosen: Ids, stack: Stack) -> None:
    source = _name(options.file) + (f", column {chosen.column}" if chosen.column else "")
    dropped = f", {chosen.duplicates:,} duplicates dropped" if chosen.duplicates else ""
    console.print(f"{len(chosen.ids):,} SMS to cancel, from {source}{dropped}")
    console.print("one id may stand for up to 500 recipients: it is cancelled as a whole")
    console.print(f"stack {stack.name} in {stack.region}, {stack.api_url}")
    console.print(_deadline(options.send_at))


def _deadline(send_at: datetime | None) -> str:
    if send_at is None:
        return "without --send-at they are tried for two hours, whenever the SMS leave"
    cut_off = send_at - CUT_OFF
    minutes = round((cut_off - datetime.now(UTC)).total_seconds() / 60)
    days, hours = abs(minutes) // 1440, abs(minutes) // 60 % 24
    left = f"{days} days {hours} h" if days else f"{hours} h {abs(minutes) % 60} min"
    when = f"in {left}" if minutes >= 0 else f"{left} AGO: SMS Partner will refuse, but is asked"
    return f"they leave at {_minute(send_at)}; the cut-off is {_minute(cut_off)}, {when}"


def _minute(time: datetime) -> str:
    return time.isoformat(" ", "minutes")


def _confirm() -> None:
    console.print("Cancel them? [y/N] ", end="")
    try:
        with TERMINAL.open() as terminal:
            answer = terminal.readline().strip().lower()
    except OSError:
        raise Ending("cannot ask for confirmation without a terminal; pass --yes") from None
    if answer not in ("y", "yes"):
        raise Ending("nothing was sent")


def _send(stack: Stack, ids: list[str], recall_id: str, send_at: datetime | None) -> None:
    campaign = {"recallId": recall_id} | ({"sendAt": send_at.isoformat()} if send_at else {})
    bar = _bar()
    task = bar.add_task("accepted", total=len(ids), note="")
    sender = Sender(
        stack,
        campaign,
        keep=lambda taken: bar.update(task, advance=len(taken), note=""),
        tell=lambda why: bar.update(task, note=why),
    )
    try:
        with bar:
            sender.send(ids)
    finally:
        console.print(f"{bar.tasks[0].completed:,} of {len(ids):,} are accepted")


def _follow(stack: Stack, known: Outcomes, results: Path) -> ExitCode:
    total, looked = len(known.undecided), False
    with explained(ExitCode.UNFINISHED):
        try:
            with _bar() as bar:
                task = bar.add_task("decided", total=total, note="")
                for _ in Follower(stack, known).follow():
                    looked = True
                    tried = Counter(filter(None, known.undecided.values()))
                    note = ", ".join(f"{count:,} {word}" for word, count in tried.most_common(3))
                    decided = total - len(known.undecided)
                    bar.update(task, completed=decided, note=note and f"tried again: {note}")
        finally:
            if looked or not results.exists():  # one look finds what an earlier run had found
                known.write(results)
    return _conclude(known.counts(), results)


def _conclude(counts: Counter[str], results: Path) -> ExitCode:
    for word, count in counts.most_common():
        console.print(f"{count:>12,}  {word}")
    done = sum(counts[word] for word in DONE)
    console.print(f"{done:,} of {counts.total():,} are cancelled. What became of each: {results}")
    if counts[UNDECIDED]:
        text = f"{counts[UNDECIDED]:,} are undecided: nothing was heard of them for a quarter hour"
        raise Ending(f"{text}. Look at the alarms", ExitCode.UNFINISHED)
    if done == counts.total():
        return ExitCode.DONE
    console.print("The others are not tried again by themselves. Once their cause is gone")
    console.print("(infra/runbook.md), take them back with redrive, or run this again.")
    return ExitCode.NOT_ALL_CANCELLED


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
    )
