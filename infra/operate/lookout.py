"""What is foreseen while a recall runs, and what has gone wrong in it."""

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

TOLD_EVERY_S = 30  # what is no worse: at the boundary, a forecast may change with each look
MANY = 0.1  # of all: a few tries in vain are usual


class Sight(NamedTuple):
    """What is seen at one moment; until a rate is seen, ``a_second`` is the one foreseen before.

    ``idle_s``: for how long none was tried, 0 if that is not too long; ``is_busy``: others were, of
    which about ``ahead`` come first. ``missed``: how many are undecided, and past their cut-off
    since the recall began. The next cut-offs are Unix seconds.
    """

    now_s: float
    a_second: float
    is_seen: bool
    outlook: forecast.Outlook | None
    idle_s: float
    is_busy: bool
    ahead: int
    missed: int
    in_vain: Counter[str]  # by outcome
    next_untried_s: float
    next_in_vain_s: float

    def notes(self) -> list[str]:
        """Return what to say of it."""
        notes = []
        if self.idle_s:
            notes.append(self._idle())
        if self.outlook:
            about = "" if self.is_seen else "about "
            notes.append(f"{about}{self.a_second:,.0f} a second, {self.outlook}")
        if self.missed:
            notes.append(f"{self.missed:,} are past their cut-off by now")
        if self.in_vain:
            words = ", ".join(f"{count:,} {word}" for word, count in self.in_vain.most_common(3))
            due = self._due(self.next_in_vain_s)
            notes.append(f"{self.in_vain.total():,} tried in vain so far ({words}){due}")
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
    """Foresees when the last will be tried: by the rate that is seen, until then as before."""

    def __init__(
        self, stack: Stack, plan: Plan, known: Outcomes, foreseen: forecast.Forecast
    ) -> None:
        self._stack = stack
        self._plan = plan
        self._known = known
        self._foreseen, self._ahead = foreseen, foreseen.ahead
        self._pace, self._others = forecast.Pace(), forecast.Pace()
        self._told: tuple[int, ...] = ()
        self._told_s = -inf

    def look(self) -> str:
        """Return what to show beside the bar; say it in a line of its own where it changes."""
        sight = self._see(self._stack.now().timestamp())
        text = "; ".join(sight.notes())
        late = sight.outlook.late if sight.outlook else 0
        is_hard = sight.in_vain.total() > MANY * len(self._plan.cut_offs)
        idle = (sight.idle_s > 0) * (2 - sight.is_busy)
        troubles = sight.missed > 0, late > 0, idle, is_hard
        is_certain = sight.is_seen or sight.missed or idle or is_hard
        if is_certain and self._is_new(troubles, sight.now_s):
            console.print(f"forecast: {text}")
            if sight.outlook and late:
                console.print(self._advice(sight.outlook, sight))
        return text

    def _see(self, now_s: float) -> Sight:
        undecided, cut_offs = self._known.undecided, self._plan.cut_offs
        untried = [cut_offs[each] for each, outcome in undecided.items() if not outcome]
        tried = [cut_offs[each] for each, outcome in undecided.items() if outcome]
        a_second = self._pace.look(now_s, len(cut_offs) - len(untried))
        is_idle = bool(untried) and self._pace.idle_s > forecast.WINDOW_S
        is_busy = is_idle and self._is_busy(now_s)
        return Sight(
            now_s,
            a_second or self._foreseen.a_second,
            a_second > 0,
            None if is_idle and not is_busy else self._outlook(untried, now_s, a_second),
            self._pace.idle_s if is_idle else 0,
            is_busy,
            self._foreseen.ahead,
            sum(self._plan.now_s < each <= now_s for each in untried + tried),
            Counter(filter(None, undecided.values())),
            min((each for each in untried if each > now_s), default=inf),
            min((each for each in tried if each > now_s), default=inf),
        )

    def _is_busy(self, now_s: float) -> bool:
        """Return whether the worker tried others of late; if so, look how many of them are left."""
        is_busy = is_worker_busy(self._stack, now_s - forecast.WINDOW_S)
        if is_busy and self._foreseen.ahead:
            ahead = max(0, capacity.waiting(self._stack) - len(self._known.undecided))
            a_second = self._others.look(now_s, max(0, self._ahead - ahead))
            a_second = a_second or self._foreseen.a_second
            self._foreseen = self._foreseen._replace(ahead=ahead, a_second=a_second)
        return is_busy

    def _outlook(
        self, untried: list[float], now_s: float, a_second: float
    ) -> forecast.Outlook | None:
        if untried and a_second:
            return forecast.foresee(untried, now_s, a_second)
        is_foreseen = untried and not self._foreseen.capacity.is_stopped
        return self._foreseen.outlook(untried, now_s) if is_foreseen else None

    def _is_new(self, troubles: tuple[int, ...], now_s: float) -> bool:
        is_due = now_s - self._told_s >= TOLD_EVERY_S
        is_new = troubles > self._told or (troubles != self._told and is_due)
        if is_new:
            self._told, self._told_s = troubles, now_s
        return is_new

    def _advice(self, outlook: forecast.Outlook, sight: Sight) -> str:
        if sight.in_vain["throttled"]:
            return "SMS Partner throttles: do not raise the concurrency (infra/runbook.md)"
        now = capacity.look_up(self._stack)  # it may have been raised meanwhile
        return forecast.advice(self._stack, now, outlook, sight.a_second)
