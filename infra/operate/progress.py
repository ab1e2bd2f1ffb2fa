"""What a person sees while a recall runs, and at its end."""

from collections import Counter
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from .ending import Ending, ExitCode, console
from .follow import Follower
from .forecast import Forecast
from .lookout import Lookout
from .outcomes import DONE, UNDECIDED, Outcomes
from .plan import Plan
from .sending import Sender
from .stack import Stack

LOST = ("too_late", "already_sent")
WRONG = ("not_found", "invalid_request")


def send(stack: Stack, plan: Plan, recall_id: str) -> None:
    """Put all ids on the queue; a note on any exception says how many were accepted."""
    bar = _bar()
    task = bar.add_task("accepted", total=len(plan.ids), note="")
    sender = Sender(
        stack,
        recall_id,
        keep=lambda taken: bar.update(task, advance=len(taken), note=""),
        tell=lambda why: bar.update(task, note=why),
    )
    try:
        with bar:
            sender.send(plan)
    except BaseException as error:
        bar.stop()  # the interrupt may have come while it started
        error.add_note(_accepted(bar))
        raise
    console.print(_accepted(bar))


def _accepted(bar: Progress) -> str:
    return f"{bar.tasks[0].completed:,.0f} of {bar.tasks[0].total:,.0f} are accepted"


def follow(stack: Stack, plan: Plan, known: Outcomes, results: Path, predicted: Forecast) -> None:
    """Follow all ids to their outcomes; whatever ends it, write the outcomes known so far."""
    looked, lookout, bar = False, Lookout(stack, plan, known, predicted), _bar()
    try:
        with bar:
            task = bar.add_task("decided", total=len(plan.ids), note="")
            for _ in Follower(stack, known).follow():
                looked = True
                decided = len(plan.ids) - len(known.undecided)
                bar.update(task, completed=decided, note=lookout.look())
    finally:
        bar.stop()  # as above
        if looked or not results.exists():  # one look also finds what an earlier run found
            known.write(results)


def conclude(counts: Counter[str], results: Path) -> ExitCode:
    """Report the outcomes (first, what to do next) and return the exit code."""
    done, total = sum(counts[word] for word in DONE), counts.total()
    rows = [f"{count:>12,}  {word}" for word, count in counts.most_common()]
    rows.append(f"{done:,} of {total:,} are cancelled. The outcome of each is in {results}")
    if counts[UNDECIDED]:
        text = (
            f"{counts[UNDECIDED]:,} are undecided: the log has had no news of them for 15 minutes"
        )
        ending = Ending(f"{text}. Look at the alarms (infra/runbook.md)", ExitCode.UNFINISHED)
        for row in [*_next_steps(counts), *rows]:
            ending.add_note(row)
        raise ending
    for line in _next_steps(counts):
        console.print(line)
    console.print("\n".join(rows))
    return ExitCode.DONE if done == total else ExitCode.NOT_ALL_CANCELLED


def _next_steps(counts: Counter[str]) -> list[str]:
    """Say what to do about those that are settled but not cancelled."""
    lost = sum(counts[word] for word in LOST)
    wrong = sum(counts[word] for word in WRONG)
    rest = counts.total() - counts[UNDECIDED] - lost - wrong - sum(counts[word] for word in DONE)
    again = "can succeed once the cause is removed (infra/runbook.md): redrive or recall them"
    steps = {
        "can no longer be cancelled: warn their recipients": lost,
        "have wrong ids: correct them": wrong,
        again: rest,
    }
    return [f"{count:,} {text}" for text, count in steps.items() if count]


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        # A note wraps; otherwise a long one would push out the numbers.
        TextColumn("{task.fields[note]}", markup=False, table_column=Column()),
        console=console,
    )
