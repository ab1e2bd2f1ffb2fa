"""The command: what it is given, what it says, how it ends."""

import argparse
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from infra.recall import Ending, ExitCode
from infra.recall.api import Sender
from infra.recall.ids import Ids, read
from infra.recall.journal import Journal
from infra.recall.outcomes import DONE, UNDECIDED, Follower, Outcomes
from infra.recall.stack import Stack, explained, find

CUT_OFF = timedelta(minutes=5)  # before the send time; SMS Partner cancels nothing later
TERMINAL = Path("/dev/tty")  # standard input may be the ids

console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)


def main(arguments: list[str] | None = None) -> int:
    """Recall a campaign; return the exit code."""
    options = _parse(arguments)
    try:
        return _recall(options)
    except Ending as ending:
        console.print(f"recall: {ending}")
        if ending.code in (ExitCode.UNFINISHED, ExitCode.INTERRUPTED):
            console.print("What is accepted is being cancelled. The same command again goes on.")
        return ending.code
    except KeyboardInterrupt:
        console.print("recall: interrupted; this run has sent nothing")
        return ExitCode.INTERRUPTED


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="recall",
        description="Cancel the scheduled SMS of a whole campaign, and say what became of each.",
        epilog="It ends with 0: all done, 1: some not cancelled, 2: nothing sent, 3: not all could "
        "be sent or are decided, 130: interrupted. The same command again goes on from there.",
    )
    add = parser.add_argument
    add("file", metavar="FILE", help="the ids, one per line or in a CSV; - is standard input")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--stack", metavar="NAME", help="the stack that the bundle is deployed as")
    place.add_argument("--local", action="store_true", help="the stack of a running `make run`")
    add("--send-at", type=_time, metavar="TIME", help="when they leave: 2026-11-24T09:00+01:00")
    add("--column", metavar="NAME", help="the column of the CSV that holds the ids")
    add("--yes", action="store_true", help="do not ask")
    add("--wait", action="store_true", help="follow all to the end, and write the results")
    add("--dry-run", action="store_true", help="check all, say what would be done, send nothing")
    add("--results", type=Path, default=Path("results.csv"), help="default: %(default)s")
    return parser.parse_args(arguments)


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        if (time - CUT_OFF).tzinfo:  # none on the first day of the calendar
            return time
    except (ValueError, OverflowError):
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no time like 2026-11-24T09:00+01:00")


def _recall(options: argparse.Namespace) -> int:
    chosen = _read(options.file, options.column)
    stack = find(options.stack)
    send_at = options.send_at and options.send_at.isoformat()
    with explained(ExitCode.NOTHING_SENT):
        journal = Journal(options.results, chosen.ids, stack.api_url, send_at)
        left = [each for each in chosen.ids if each not in journal.accepted]
        _announce(options, chosen, stack, len(chosen.ids) - len(left))
        if options.dry_run:
            console.print("Dry run: nothing was sent.")
            return ExitCode.DONE
        if left and not options.yes:
            _confirm()
        journal.begin()
    try:
        with explained(ExitCode.UNFINISHED):
            _send(stack, journal, left, send_at)
            if options.wait:
                return _follow(stack, journal, chosen.ids, options.results)
    except KeyboardInterrupt:
        text = f"interrupted; {len(journal.accepted):,} of {len(chosen.ids):,} are accepted"
        raise Ending(text, ExitCode.INTERRUPTED) from None
    console.print("All are accepted. What becomes of each: the same command with --wait.")
    return ExitCode.DONE


def _read(file: str, column: str | None) -> Ids:
    with explained(ExitCode.NOTHING_SENT):
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        return read(data, column)
    except Ending as ending:
        raise Ending(f"{_name(file)}: {ending}", ending.code) from None


def _name(file: str) -> str:
    return "standard input" if file == "-" else file


def _announce(options: argparse.Namespace, chosen: Ids, stack: Stack, accepted: int) -> None:
    source = _name(options.file) + (f", column {chosen.column}" if chosen.column else "")
    dropped = f", {chosen.duplicates:,} duplicates dropped" if chosen.duplicates else ""
    console.print(f"{len(chosen.ids):,} SMS to cancel, from {source}{dropped}")
    console.print("one id may stand for up to 500 recipients: it is cancelled as a whole")
    console.print(f"stack {stack.name} in {stack.region}, {stack.api_url}")
    console.print(_deadline(options.send_at))
    if accepted:
        console.print(f"{accepted:,} of them were accepted before: only the others are sent")


def _deadline(send_at: datetime | None) -> str:
    if send_at is None:
        return "without --send-at they are tried for two hours, whenever the SMS leave"
    cut_off = send_at - CUT_OFF
    minutes = round((cut_off - datetime.now(UTC)).total_seconds() / 60)
    days, hours = abs(minutes) // 1440, abs(minutes) // 60 % 24
    left = f"{days} days {hours} h" if days else f"{hours} h {abs(minutes) % 60} min"
    when = f"in {left}" if minutes >= 0 else f"{left} AGO: each is still tried once"
    return f"they leave at {_minute(send_at)}; the cut-off is {_minute(cut_off)}, {when}"


def _minute(time: datetime) -> str:
    return time.isoformat(" ", "minutes")


def _confirm() -> None:
    console.print("Cancel them? [y/N] ", end="")
    try:
        with TERMINAL.open() as terminal:
            answer = terminal.readline().strip().lower()
    except OSError:
        raise Ending("no terminal to answer at: give --yes", ExitCode.NOTHING_SENT) from None
    if answer not in ("y", "yes"):
        raise Ending("this run has sent nothing", ExitCode.NOTHING_SENT)


def _send(stack: Stack, journal: Journal, ids: list[str], send_at: str | None) -> None:
    campaign = {"recallId": journal.recall_id} | ({"sendAt": send_at} if send_at else {})
    with _bar() as bar:
        task = bar.add_task("accepted", total=len(ids), note="")

        def keep(taken: list[str]) -> None:
            journal.keep(taken)
            bar.update(task, advance=len(taken), note="")

        Sender(stack, campaign, keep, lambda why: bar.update(task, note=why)).send(ids)


def _follow(stack: Stack, journal: Journal, ids: list[str], results: Path) -> int:
    outcomes = Outcomes(ids, journal.recall_id)
    outcomes.recollect(results)
    try:
        with _bar() as bar:
            task = bar.add_task("decided", total=len(ids), note="")
            for _ in Follower(stack, outcomes, journal.begun_at).follow():
                tried = Counter(filter(None, outcomes.undecided.values()))
                note = ", ".join(f"{count:,} {word}" for word, count in tried.most_common(3))
                decided = len(ids) - len(outcomes.undecided)
                bar.update(task, completed=decided, note=note and f"tried again: {note}")
    finally:
        outcomes.write(results)
    return _conclude(outcomes.counts(), results)


def _conclude(counts: Counter[str], results: Path) -> int:
    for word, count in counts.most_common():
        console.print(f"{count:>12,}  {word}")
    done = sum(counts[word] for word in DONE)
    console.print(f"{done:,} of {counts.total():,} are cancelled. What became of each: {results}")
    if counts[UNDECIDED]:
        text = f"{counts[UNDECIDED]:,} are undecided: nothing was heard of them for a quarter hour"
        raise Ending(f"{text}. Look at the alarms", ExitCode.UNFINISHED)
    if done == counts.total():
        return ExitCode.DONE
    console.print("The others are not asked again. Those that can succeed once their cause is gone")
    console.print("are taken back with infra.redrive (infra/runbook.md); run this again to follow.")
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
