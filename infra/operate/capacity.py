"""What the stack can do, according to AWS. What AWS does not report is assumed, and printed."""

from collections.abc import Callable
from datetime import timedelta
from math import inf
from typing import NamedTuple, TypeVar

from .ending import Ending, ExitCode, console
from .stack import Stack, explained

Known = TypeVar("Known")

TIMEOUT_S = 3.3  # to read, and half of it to connect: a forecast must not delay a recall
PERIOD_S = 3600
# A batch takes as long as the slowest of its ten calls, which is about the 90th percentile.
STATISTIC = "p90"
# A message that is to be retried is not visible until then.
WAITING = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]


class Capacity(NamedTuple):
    """``concurrency`` batches of ``batch`` messages at once.

    ``uuid``: of the event source mapping, "" if unknown. If its concurrency is not limited, Lambda
    raises it by itself.
    """

    uuid: str
    concurrency: int
    batch: int
    is_stopped: bool = False
    is_limited: bool = True

    def __str__(self) -> str:
        if self.is_limited:
            return f"MaximumConcurrency {self.concurrency}"
        return f"no MaximumConcurrency, {self.concurrency} assumed"


UNKNOWN = Capacity("", 5, 10)  # the template's defaults
UNLIMITED = 5  # batches that Lambda starts with ("Configuring scaling behavior for SQS")


def look_up(stack: Stack) -> Capacity:
    return _known("MaximumConcurrency 5 is assumed", UNKNOWN, lambda: _capacity(stack))


def latency_s(stack: Stack) -> float:
    """Return the 90th percentile of SMS Partner's latency in the last hour."""
    return _known("0.3 s is assumed for SMS Partner", 0.3, lambda: _latency_s(stack))


def waiting(stack: Stack) -> int:
    """Return how many messages are already on the queue, including those to be retried."""
    return _known("the queue is assumed to be empty", 0, lambda: _waiting(stack))


def _known(otherwise: str, default: Known, look: Callable[[], Known]) -> Known:
    try:
        with explained(ExitCode.UNFINISHED):
            return look()
    except Ending as why:
        text = str(why).removesuffix(", and run it again")
        console.print(f"forecast: {text}; {otherwise}")
    except (KeyError, ValueError, TypeError):
        console.print(f"forecast: AWS's answer was not understood; {otherwise}")
    return default


def _capacity(stack: Stack) -> Capacity:
    functions = stack.client("lambda", 1, TIMEOUT_S)
    answer = functions.list_event_source_mappings(EventSourceArn=stack.queue_arn)
    [mapping] = answer["EventSourceMappings"]
    limit = mapping.get("ScalingConfig", {}).get("MaximumConcurrency")
    concurrency = UNLIMITED if limit is None else _between(1, limit, 1000)
    batch = _between(1, mapping["BatchSize"], 10_000)
    is_stopped = mapping["State"] in {"Disabled", "Disabling"}
    return Capacity(mapping["UUID"], int(concurrency), int(batch), is_stopped, limit is not None)


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
    found = [float(each["ExtendedStatistics"][STATISTIC]) for each in answer["Datapoints"]]
    if not found:
        raise Ending("SMS Partner was not called in the last hour")
    # The last hour may span two periods.
    return max(_between(0, each, PERIOD_S * 1000) for each in found) / 1000


def _waiting(stack: Stack) -> int:
    answer = stack.client("sqs", 1, TIMEOUT_S).get_queue_attributes(
        QueueUrl=stack.queue_url, AttributeNames=WAITING
    )
    return sum(int(_between(0, int(answer["Attributes"][name]), inf)) for name in WAITING)


def _between(least: float, value: float, most: float) -> float:
    """Return the value; raise ValueError if it is out of range."""
    if not least <= value <= most:
        raise ValueError
    return value
