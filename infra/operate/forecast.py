"""When the SMS of a recall will be asked, which of them too late, and what to do about it."""

from collections import deque
from collections.abc import Callable, Iterable
from datetime import timedelta
from math import ceil, inf
from typing import NamedTuple, TypeVar

from .ending import Ending, ExitCode, console
from .stack import Stack, explained
from .times import span

Known = TypeVar("Known")

TIMEOUT_S = 5  # of each look beforehand: a forecast must not hold up a recall
PERIOD_S = 3600
# Of ten calls at once the slowest counts: it takes what nine in ten do not exceed.
STATISTIC = "p90"
# What a batch of ten takes besides SMS Partner's answer: with 256 MB (tests/README.md, memory), and
# on the local stack, where nothing throttles the functions.
OWN_S, LOCAL_OWN_S = 0.224, 0.05
START_S = 0.5  # until the first is asked: both functions start
HEADROOM = 1.2  # of the concurrency that would just do
MOST = 1000  # Lambda's maximum
WINDOW_S = 30  # a rate is that of the last half minute


class Outlook(NamedTuple):
    """What a rate leads to. Seconds from now; ``spare_s`` is the tightest's, inf without times."""

    last_s: float
    spare_s: float
    late: int
    needed: float  # the rate at which none would be late

    def __str__(self) -> str:
        text = f"the last is asked in {span(self.last_s)}"
        if self.late or self.spare_s == inf:
            return text + (f", {self.late:,} TOO LATE" if self.late else "")
        return f"{text}, the tightest {span(self.spare_s)} before its cut-off"


def foresee(
    cut_offs: Iterable[float], now_s: float, a_second: float, start_s: float = 0
) -> Outlook:
    """Look ahead; ``cut_offs`` (Unix seconds) are of what is not asked yet, in its order.

    What is past its cut-off now is not counted as late: no rate would help it.
    """
    last_s, spare_s, late, needed = start_s, inf, 0, 0.0
    for number, cut_off in enumerate(cut_offs, 1):
        last_s, left_s = start_s + number / a_second, cut_off - now_s
        if left_s > 0:
            spare_s = min(spare_s, left_s - last_s)
            late += last_s > left_s
            needed = max(needed, number / max(left_s - start_s, 1))
    return Outlook(last_s, spare_s, late, needed)


class Capacity(NamedTuple):
    """What the stack can do: ``concurrency`` batches at once; ``uuid`` is the event source's."""

    uuid: str
    concurrency: int
    batch: int

    def advice(self, region: str, outlook: Outlook, a_second: float) -> str:
        """Return what to do now for all to be in time."""
        wanted = ceil(self.concurrency * HEADROOM * outlook.needed / a_second)
        number = max(min(wanted, MOST), self.concurrency + 1)
        enough = "" if wanted <= MOST else " (even that is not enough for all)"
        return (
            f"{outlook.late:,} will be too late. Now, in another window, raise MaximumConcurrency "
            f"from {self.concurrency} to {number}{enough}:\n"
            f"  aws lambda update-event-source-mapping --region {region} --uuid {self.uuid} "
            f"--scaling-config MaximumConcurrency={number}\n"
            "and see infra/runbook.md, Raise the concurrency"
        )


UNKNOWN = Capacity('"$(resource WorkerFunctionQueue)"', 5, 10)  # the template's


class Forecast(NamedTuple):
    """What is known before anything is sent. ``ahead``: messages that wait on the queue already."""

    capacity: Capacity
    latency_s: float
    ahead: int
    own_s: float

    @property
    def a_second(self) -> float:
        return self.capacity.concurrency * self.capacity.batch / (self.latency_s + self.own_s)

    @property
    def start_s(self) -> float:
        return START_S + self.ahead / self.a_second

    def outlook(self, cut_offs: Iterable[float], now_s: float) -> Outlook:
        return foresee(cut_offs, now_s, self.a_second, self.start_s)

    def __str__(self) -> str:
        ahead = f", after {self.ahead:,} that wait already" if self.ahead else ""
        return (
            f"about {self.a_second:,.0f} a second (MaximumConcurrency {self.capacity.concurrency}, "
            f"SMS Partner answers in {self.latency_s:.2f} s){ahead}"
        )


def ask(stack: Stack) -> Forecast:
    """Ask AWS for what a forecast needs. What is not known is said, and assumed."""
    capacity = look_up(stack)
    latency_s = _known("0.3 s of SMS Partner are assumed", 0.3, lambda: _latency_s(stack))
    ahead = _known("the queue is taken to be empty", 0, lambda: _waiting(stack))
    return Forecast(capacity, latency_s, ahead, LOCAL_OWN_S if stack.is_local else OWN_S)


def look_up(stack: Stack) -> Capacity:
    return _known("MaximumConcurrency 5 is assumed", UNKNOWN, lambda: _capacity(stack))


def _known(otherwise: str, default: Known, look: Callable[[], Known]) -> Known:
    try:
        with explained(ExitCode.UNFINISHED):
            return look()
    except Ending as why:
        console.print(f"forecast: {why}; {otherwise}")
    except (KeyError, ValueError, TypeError):
        console.print(f"forecast: AWS's answer is not understood; {otherwise}")
    return default


def _capacity(stack: Stack) -> Capacity:
    functions = stack.client("lambda", 1, TIMEOUT_S)
    answer = functions.list_event_source_mappings(EventSourceArn=stack.queue_arn)
    [mapping] = answer["EventSourceMappings"]
    if mapping["State"] in {"Disabled", "Disabling"}:
        console.print("the worker is STOPPED (infra/runbook.md, Stop everything): start it again")
    concurrency = int(mapping["ScalingConfig"]["MaximumConcurrency"])
    return Capacity(mapping["UUID"], concurrency, int(mapping["BatchSize"]))


def _latency_s(stack: Stack) -> float:
    answer = stack.client("cloudwatch", 1, TIMEOUT_S).get_metric_statistics(
        Namespace="SmsCancel",
        MetricName="ProviderLatency",
        Dimensions=[{"Name": "service", "Value": stack.name}],
        StartTime=stack.now() - timedelta(seconds=PERIOD_S),
        EndTime=stack.now() + timedelta(minutes=1),
        Period=PERIOD_S,
        ExtendedStatistics=[STATISTIC],
    )
    found = [each["ExtendedStatistics"][STATISTIC] for each in answer["Datapoints"]]
    if not found:
        raise Ending("SMS Partner was not asked in the last hour")
    return float(max(found)) / 1000  # an hour may begin in one period and end in another


def _waiting(stack: Stack) -> int:
    name = "ApproximateNumberOfMessages"
    answer = stack.client("sqs", 1, TIMEOUT_S).get_queue_attributes(
        QueueUrl=stack.queue_url, AttributeNames=[name]
    )
    return int(answer["Attributes"][name])


class Pace:
    """How many are asked a second, of late."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque()

    def look(self, at_s: float, asked: int) -> float:
        """Take how many were asked until now; return the rate, 0 where it is not known yet."""
        self._looks.append((at_s, asked))
        while len(self._looks) > 2 and self._looks[1][0] <= at_s - WINDOW_S:
            self._looks.popleft()
        first_s, first = self._looks[0]
        return (asked - first) / (at_s - first_s) if at_s > first_s else 0
