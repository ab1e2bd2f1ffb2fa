"""When the SMS of a recall will be tried, which of them too late, and what to do about it."""

from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from math import ceil, inf
from typing import NamedTuple

from .capacity import Capacity, latency_s, look_up, waiting
from .stack import Stack
from .times import span

# What a batch of ten takes besides SMS Partner's answer: with 256 MB (tests/README.md, memory), and
# on the local stack, where nothing throttles the functions, but two cores do no more than so many a
# second (make bench, growth).
OWN_S = 0.224
LOCAL_OWN_S, LOCAL_A_SECOND = 0.05, 400
START_S = 0.5  # until the first is tried: both functions start
HEADROOM = 1.2  # of the concurrency that would just do
MOST = 1000  # Lambda's maximum
ACCEPTED_A_SECOND = 900  # as the local stack's API did (tests/README.md)
WINDOW_S = 30  # a rate that is seen is that of the last half minute
KNOWN_AFTER_S = 10  # with something tried: before, functions may still start


class Outlook(NamedTuple):
    """What a rate leads to. Seconds from now; ``spare_s`` is the tightest's, inf without times."""

    last_s: float
    spare_s: float
    late: int
    needed: float  # the rate at which none would be late

    def __str__(self) -> str:
        text = f"the last is tried in {span(self.last_s)}"
        if self.late or self.spare_s == inf:
            return text + (f", {self.late:,} TOO LATE" if self.late else "")
        return f"{text}, the tightest {span(self.spare_s)} before its cut-off"


def foresee(
    cut_offs: Iterable[float], now_s: float, a_second: float, start_s: float = 0, ahead: int = 0
) -> Outlook:
    """Look ahead; ``cut_offs`` (Unix seconds) are of what is not tried yet, in its order.

    ``ahead`` others are tried before them. What is past its cut-off now is not counted as late: no
    rate would help it.
    """
    last_s, spare_s, late, needed = start_s, inf, 0, 0.0
    for number, cut_off in enumerate(cut_offs, ahead + 1):
        last_s, left_s = start_s + number / a_second, cut_off - now_s
        if left_s > 0:
            spare_s = min(spare_s, left_s - last_s)
            late += last_s > left_s
            needed = max(needed, number / max(left_s - start_s, 1))
    return Outlook(last_s, spare_s, late, needed)


def advice(
    stack: Stack, capacity: Capacity, outlook: Outlook, a_second: float, most_a_second: float = inf
) -> str:
    """Return what to do now for all to be in time; no concurrency makes it more than the most."""
    late = f"{outlook.late:,} will be too late"
    if stack.is_local:
        return f"{late}: the local stack does no more"
    if not (capacity.uuid and capacity.is_limited):
        return f"{late}. Now raise the concurrency: infra/runbook.md, Raise the concurrency"
    wanted = ceil(capacity.concurrency * HEADROOM * outlook.needed / a_second)
    number = min(max(wanted, capacity.concurrency + 1), MOST)
    is_enough = wanted <= MOST and outlook.needed <= most_a_second
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
    """What is known before anything is sent. ``ahead``: messages that wait on the queue already."""

    capacity: Capacity
    latency_s: float
    ahead: int
    a_second: float

    def asked_s(self, number: int) -> float:
        """Return in how many seconds the first, second … is tried."""
        return START_S + (self.ahead + number) / self.a_second

    def outlook(self, cut_offs: Iterable[float], now_s: float) -> Outlook:
        return foresee(cut_offs, now_s, self.a_second, START_S, self.ahead)

    def __str__(self) -> str:
        ahead = f", after {self.ahead:,} that wait already" if self.ahead else ""
        return (
            f"about {self.a_second:,.0f} a second ({self.capacity}, "
            f"SMS Partner answers in {self.latency_s:.2f} s){ahead}"
        )


def ask(stack: Stack) -> Forecast:
    """Ask AWS for what a forecast needs, all at once."""
    pool = ThreadPoolExecutor()
    looks = pool.submit(look_up, stack), pool.submit(latency_s, stack), pool.submit(waiting, stack)
    pool.shutdown(wait=False)  # Ctrl-C does not wait for AWS
    capacity, answer_s, ahead = looks[0].result(), looks[1].result(), looks[2].result()
    batch_s = answer_s + (LOCAL_OWN_S if stack.is_local else OWN_S)
    most = LOCAL_A_SECOND if stack.is_local else ACCEPTED_A_SECOND
    a_second = min(capacity.concurrency * capacity.batch / batch_s, most)
    return Forecast(capacity, answer_s, ahead, a_second)


class Pace:
    """How many are tried a second, of late; ``idle_s``: for how long none was."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque()
        self._tried, self._moved_s = -1, 0.0
        self.idle_s = 0.0

    def look(self, at_s: float, tried: int) -> float:
        """Take how many were tried until now; return the rate, 0 where it is not known yet."""
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
