"""What a person sees while a recall runs, and what it has come to."""

import time
from collections import Counter
from math import inf
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import capacity, forecast
from .ending import Ending, ExitCode, console
from .follow import Follower
from .outcomes import DONE, UNDECIDED, Outcomes
from .plan import Plan
from .sending import Sender
from .stack import Stack

TOLD_EVERY_S = 30  # at the boundary, a forecast may change with each look


def send(stack: Stack, plan: Plan, recall_id: str) -> None:
    """Put all on the queue; an exception says in a note how many were accepted."""
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
        bar.stop()  # it may have been interrupted while it started
        error.add_note(_accepted(bar))
        raise
    console.print(_accepted(bar))


def _accepted(bar: Progress) -> str:
    return f"{bar.tasks[0].completed:,.0f} of {bar.tasks[0].total:,.0f} are accepted"


def follow(stack: Stack, plan: Plan, known: Outcomes, results: Path) -> None:
    """Follow all to their outcomes; whatever ends it, write down what is known."""
    looked, watch, bar = False, Watch(stack, plan, known), _bar()
    try:
        with bar:
            task = bar.add_task("decided", total=len(plan.ids), note="")
            for _ in Follower(stack, known).follow():
                looked = True
                decided = len(plan.ids) - len(known.undecided)
                bar.update(task, completed=decided, note=watch.look())
    finally:
        bar.stop()  # as above
        if looked or not results.exists():  # one look finds what an earlier run had found
            known.write(results)


class Watch:
    """Foresees, while a recall runs, when the last will be asked."""

    def __init__(self, stack: Stack, plan: Plan, known: Outcomes) -> None:
        self._stack = stack
        self._cut_offs = plan.cut_offs
        self._known = known
        self._pace = forecast.Pace()
        self._was_late: bool | None = None
        self._told_s = -inf

    def look(self) -> str:
        """Return what to show beside the bar; say it in a line of its own where it changes."""
        undecided = self._known.undecided
        waiting = [self._cut_offs[each] for each, tried in undecided.items() if not tried]
        now_s = self._stack.now().timestamp()
        a_second = self._pace.look(now_s, len(self._cut_offs) - len(waiting))
        tried = Counter(filter(None, undecided.values()))
        again = ", ".join(f"{count:,} {word}" for word, count in tried.most_common(3))
        notes = [f"tried again: {again}"] if again else []
        if waiting and a_second:
            outlook = forecast.foresee(waiting, now_s, a_second)
            self._tell(outlook, a_second)
            notes.insert(0, f"{a_second:,.0f} a second, {outlook}")
        return "; ".join(notes)

    def _tell(self, outlook: forecast.Outlook, a_second: float) -> None:
        is_late, now_s = outlook.late > 0, time.monotonic()
        if is_late is self._was_late or now_s - self._told_s < TOLD_EVERY_S:
            return
        self._was_late, self._told_s = is_late, now_s
        console.print(f"forecast: {a_second:,.0f} a second are asked: {outlook}")
        if is_late:
            now = capacity.look_up(self._stack)  # it may have been raised meanwhile
            console.print(forecast.advice(self._stack, now, outlook, a_second))


def conclude(counts: Counter[str], results: Path) -> ExitCode:
    """Say what became of all, first what to do next; return the exit code."""
    done, total = sum(counts[word] for word in DONE), counts.total()
    rows = [f"{count:>12,}  {word}" for word, count in counts.most_common()]
    rows.append(f"{done:,} of {total:,} are cancelled. What became of each: {results}")
    if counts[UNDECIDED]:
        text = f"{counts[UNDECIDED]:,} are undecided: nothing was heard of them for a quarter hour"
        ending = Ending(f"{text}. Look at the alarms (infra/runbook.md)", ExitCode.UNFINISHED)
        for row in rows:
            ending.add_note(row)
        raise ending
    if done < total:
        text = "are not cancelled, nor tried again by themselves: once their cause is gone"
        console.print(f"{total - done:,} {text} (infra/runbook.md), redrive them or run this again")
    console.print("\n".join(rows))
    return ExitCode.DONE if done == total else ExitCode.NOT_ALL_CANCELLED


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
    )
