"""The forecast while a recall runs, and what has gone wrong in it."""

from collections import Counter
from math import inf
from typing import NamedTuple

from . import capacity, forecast
from .ending import console
from .follow import is_worker_busy
from .outcomes import Outcomes
from .plan import Plan
from .stack import Stack
from .times import span

TOLD_EVERY_S = 30  # unless it gets worse: a borderline forecast may change with each look
MANY = 0.1  # of all ids: a few failures are normal


class Snapshot(NamedTuple):
    """The state at one moment; until a rate is measured, ``per_second`` is that of the forecast.

    ``idle_s``: for how long none was tried, 0 if only briefly; ``is_busy``: other messages were,
    and about ``ahead`` more of them come first. ``missed``: how many undecided ids have passed
    their cut-off since the recall began. ``failed``: how many will be retried, by their latest
    outcome. The next cut-offs are Unix seconds.
    """

    now_s: float
    per_second: float
    is_measured: bool
    outlook: forecast.Outlook | None
    idle_s: float
    is_busy: bool
    ahead: int
    missed: int
    failed: Counter[str]
    next_untried_s: float
    next_failed_s: float

    def notes(self) -> list[str]:
        """Return what to tell the user."""
        notes = []
        if self.idle_s:
            notes.append(self._idle())
        if self.outlook:
            about = "" if self.is_measured else "about "
            notes.append(f"{about}{self.per_second:,.0f} per second, {self.outlook}")
        if self.missed:
            notes.append(f"{self.missed:,} are now past their cut-off")
        if self.failed:
            words = ", ".join(f"{count:,} {word}" for word, count in self.failed.most_common(3))
            due = self._due(self.next_failed_s)
            notes.append(f"{self.failed.total():,} failed and will be retried ({words}){due}")
        return notes

    def _idle(self) -> str:
        since = f"for {span(self.idle_s)}{self._due(self.next_untried_s)}"
        if not self.is_busy:
            return f"NOTHING WAS TRIED {since}: see infra/runbook.md, Queue not read"
        others = f"about {self.ahead:,} others" if self.ahead else "others"
        return f"none of these was tried {since}: {others} on the queue come first"

    def _due(self, cut_off_s: float) -> str:
        left_s = cut_off_s - self.now_s
        return "" if left_s == inf else f", the next cut-off in {span(left_s)}"


class Lookout:
    """Predicts when the last will be tried, from the measured rate or, until then, the forecast."""

    def __init__(
        self, stack: Stack, plan: Plan, known: Outcomes, predicted: forecast.Forecast
    ) -> None:
        self._stack = stack
        self._plan = plan
        self._known = known
        self._predicted, self._ahead = predicted, predicted.ahead
        self._pace, self._others = forecast.Pace(), forecast.Pace()
        self._told: tuple[int, ...] = ()
        self._told_s = -inf

    def look(self) -> str:
        """Return what to show beside the bar; print it on a line of its own if it has changed."""
        snapshot = self._see(self._stack.now().timestamp())
        text = "; ".join(snapshot.notes())
        late = snapshot.outlook.late if snapshot.outlook else 0
        is_hard = snapshot.failed.total() > MANY * len(self._plan.cut_offs)
        idle = (snapshot.idle_s > 0) * (2 - snapshot.is_busy)
        troubles = snapshot.missed > 0, late > 0, idle, is_hard
        is_certain = snapshot.is_measured or snapshot.missed or idle or is_hard
        if is_certain and self._is_new(troubles, snapshot.now_s):
            console.print(f"forecast: {text}")
            if snapshot.outlook and late:
                console.print(self._advice(snapshot.outlook, snapshot))
        return text

    def _see(self, now_s: float) -> Snapshot:
        undecided, cut_offs = self._known.undecided, self._plan.cut_offs
        untried = [cut_offs[each] for each, outcome in undecided.items() if not outcome]
        tried = [cut_offs[each] for each, outcome in undecided.items() if outcome]
        per_second = self._pace.look(now_s, len(cut_offs) - len(untried))
        is_idle = bool(untried) and self._pace.idle_s > forecast.WINDOW_S
        is_busy = is_idle and self._is_busy(now_s)
        return Snapshot(
            now_s,
            per_second or self._predicted.per_second,
            per_second > 0,
            None if is_idle and not is_busy else self._outlook(untried, now_s, per_second),
            self._pace.idle_s if is_idle else 0,
            is_busy,
            self._predicted.ahead,
            sum(self._plan.now_s < each <= now_s for each in untried + tried),
            Counter(filter(None, undecided.values())),
            min((each for each in untried if each > now_s), default=inf),
            min((each for each in tried if each > now_s), default=inf),
        )

    def _is_busy(self, now_s: float) -> bool:
        """Return whether the worker has tried others lately; if so, look up how many are left."""
        is_busy = is_worker_busy(self._stack, now_s - forecast.WINDOW_S)
        if is_busy and self._predicted.ahead:
            ahead = max(0, capacity.waiting(self._stack) - len(self._known.undecided))
            per_second = self._others.look(now_s, max(0, self._ahead - ahead))
            per_second = per_second or self._predicted.per_second
            self._predicted = self._predicted._replace(ahead=ahead, per_second=per_second)
        return is_busy

    def _outlook(
        self, untried: list[float], now_s: float, per_second: float
    ) -> forecast.Outlook | None:
        if untried and per_second:
            return forecast.predict(untried, now_s, per_second)
        is_predicted = untried and not self._predicted.capacity.is_stopped
        return self._predicted.outlook(untried, now_s) if is_predicted else None

    def _is_new(self, troubles: tuple[int, ...], now_s: float) -> bool:
        is_due = now_s - self._told_s >= TOLD_EVERY_S
        is_new = troubles > self._told or (troubles != self._told and is_due)
        if is_new:
            self._told, self._told_s = troubles, now_s
        return is_new

    def _advice(self, outlook: forecast.Outlook, snapshot: Snapshot) -> str:
        if snapshot.failed["throttled"]:
            return "SMS Partner is throttling: do not raise the concurrency (infra/runbook.md)"
        now = capacity.look_up(self._stack)  # it may have been raised meanwhile
        return forecast.advice(self._stack, now, outlook, snapshot.per_second)
