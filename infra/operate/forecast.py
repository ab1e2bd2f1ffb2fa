"""When the ids of a recall will be tried, how many too late, and what to do about it."""

from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from math import ceil, inf
from typing import NamedTuple

from .capacity import Capacity, latency_s, look_up, waiting
from .stack import Stack
from .times import span

# What a batch of ten takes in addition to SMS Partner's answer, with 256 MB (tests/README.md,
# memory). The local stack takes less, because nothing throttles its functions, but two cores limit
# the rate (make bench, growth).
OWN_S = 0.097
LOCAL_OWN_S, LOCAL_PER_SECOND = 0.05, 400
START_S = 0.5  # until the first is tried: two functions must start
HEADROOM = 1.2  # times the concurrency that would just be enough
MOST = 1000  # Lambda's maximum
ACCEPTED_PER_SECOND = 900  # measured at the local stack's API (tests/README.md)
WINDOW_S = 30  # a rate is measured over the last half minute
KNOWN_AFTER_S = 10  # after the first try; until then, functions may still be starting


class Outlook(NamedTuple):
    """What a rate leads to. Seconds from now; ``spare_s``: smallest margin, inf without times."""

    last_s: float
    spare_s: float
    late: int
    needed: float  # the rate per second at which none would be late

    def __str__(self) -> str:
        text = f"the last is tried in {span(self.last_s)}"
        if self.late or self.spare_s == inf:
            return text + (f", {self.late:,} TOO LATE" if self.late else "")
        return f"{text}, the tightest {span(self.spare_s)} before its cut-off"


def predict(
    cut_offs: Iterable[float], now_s: float, per_second: float, start_s: float = 0, ahead: int = 0
) -> Outlook:
    """Predict what a rate leads to; ``cut_offs`` (Unix seconds): of the untried ids, in order.

    ``ahead`` other messages are tried before them. Ids whose cut-off is already past do not count
    as late, because no rate would help them.
    """
    last_s, spare_s, late, needed = start_s, inf, 0, 0.0
    for number, cut_off in enumerate(cut_offs, ahead + 1):
        last_s, left_s = start_s + number / per_second, cut_off - now_s
        if left_s > 0:
            spare_s = min(spare_s, left_s - last_s)
            late += last_s > left_s
            needed = max(needed, number / max(left_s - start_s, 1))
    return Outlook(last_s, spare_s, late, needed)


def advice(
    stack: Stack,
    capacity: Capacity,
    outlook: Outlook,
    per_second: float,
    most_per_second: float = inf,
) -> str:
    """Return what to do now so that all are in time; no concurrency exceeds ``most_per_second``."""
    late = f"{outlook.late:,} will be too late"
    if stack.is_local:
        return f"{late}: the local stack cannot go any faster"
    if not (capacity.uuid and capacity.is_limited):
        return f"{late}. Now raise the concurrency: infra/runbook.md, Raise the concurrency"
    wanted = ceil(capacity.concurrency * HEADROOM * outlook.needed / per_second)
    number = min(max(wanted, capacity.concurrency + 1), MOST)
    is_enough = wanted <= MOST and outlook.needed <= most_per_second
    enough = "" if is_enough else " (even that is not enough for all)"
    return (
        f"{late}. Now, in another window, raise MaximumConcurrency "
        f"from {capacity.concurrency} to {number}{enough}:\n"
        f"  aws lambda update-event-source-mapping --region {stack.region} --uuid {capacity.uuid} "
        f"--scaling-config MaximumConcurrency={number}\n"
        "If the worker has reserved concurrency, raise that first (infra/runbook.md, Raise the "
        "concurrency)"
    )


class Forecast(NamedTuple):
    """What is known before anything is sent. ``ahead``: messages already on the queue."""

    capacity: Capacity
    latency_s: float
    ahead: int
    per_second: float

    def asked_s(self, number: int) -> float:
        """Return in how many seconds the id with this number is tried; the first is 1."""
        return START_S + (self.ahead + number) / self.per_second

    def outlook(self, cut_offs: Iterable[float], now_s: float) -> Outlook:
        return predict(cut_offs, now_s, self.per_second, START_S, self.ahead)

    def __str__(self) -> str:
        ahead = f", after {self.ahead:,} that are already waiting" if self.ahead else ""
        return (
            f"about {self.per_second:,.0f} per second ({self.capacity}, "
            f"SMS Partner answers in {self.latency_s:.2f} s){ahead}"
        )


def ask(stack: Stack) -> Forecast:
    """Ask AWS for what a forecast needs, in parallel."""
    pool = ThreadPoolExecutor()
    looks = pool.submit(look_up, stack), pool.submit(latency_s, stack), pool.submit(waiting, stack)
    pool.shutdown(wait=False)  # Ctrl-C does not wait for AWS
    capacity, answer_s, ahead = looks[0].result(), looks[1].result(), looks[2].result()
    batch_s = answer_s + (LOCAL_OWN_S if stack.is_local else OWN_S)
    most = LOCAL_PER_SECOND if stack.is_local else ACCEPTED_PER_SECOND
    per_second = min(capacity.concurrency * capacity.batch / batch_s, most)
    return Forecast(capacity, answer_s, ahead, per_second)


class Pace:
    """How many were tried per second lately; ``idle_s``: seconds since the last one."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque()
        self._tried, self._moved_s = -1, 0.0
        self.idle_s = 0.0

    def look(self, at_s: float, tried: int) -> float:
        """Take the number tried so far; return the rate per second, 0 if not yet known."""
        if tried != self._tried:
            self._tried, self._moved_s = tried, at_s
        self.idle_s = at_s - self._moved_s
        if not tried:
            return 0
        self._looks.append((at_s, tried))
        while len(self._looks) > 2 and self._looks[1][0] <= at_s - WINDOW_S:
            self._looks.popleft()
        first_s, first = self._looks[0]
        return (tried - first) / (at_s - first_s) if at_s - first_s >= KNOWN_AFTER_S else 0
