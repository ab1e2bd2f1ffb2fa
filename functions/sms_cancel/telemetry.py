"""What is written down: one log line per cancel, metrics per invocation, nothing secret."""

import traceback
from collections import Counter
from collections.abc import Sequence

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit, single_metric

from sms_cancel.environment import ConfigurationError
from sms_cancel.outcome import Cancellation, Outcome

logger = Logger()

_NEEDS_AN_OPERATOR = (
    Outcome.API_KEY_REJECTED,
    Outcome.CREDITS_EXHAUSTED,
    Outcome.ACCOUNT_BLOCKED,
    Outcome.KEY_UNAVAILABLE,
)


def log_settled(cancellation: Cancellation, door: str, **queue: object) -> None:
    """Write the one line per cancel, without what is None; ``queue``: what only that door knows."""
    if cancellation.outcome.done:
        write = logger.info
    elif cancellation.outcome in _NEEDS_AN_OPERATOR:
        write = logger.error
    else:
        write = logger.warning
    write(
        "cancel settled",
        extra={
            "message_id": cancellation.message_id,
            "outcome": cancellation.outcome,
            "code": cancellation.code,
            "http_status": cancellation.http_status,
            "attempts": len(cancellation.latencies_ms),
            "duration_ms": round(cancellation.duration_ms),
            "door": door,
            "recall_id": cancellation.recall_id,
            "margin_s": cancellation.margin_s,
            **queue,
        },
    )


def log_bug(error: BaseException) -> None:
    """Write down where an unexpected exception arose, but not its text, which may hold a URL."""
    logger.error(
        "bug",
        extra={
            "error": str(error) if isinstance(error, ConfigurationError) else type(error).__name__,
            "frames": [
                f"{frame.filename}:{frame.lineno} {frame.name}"
                for frame in traceback.extract_tb(error.__traceback__)
            ],
        },
    )


def emit_metrics(
    cancellations: Sequence[Cancellation], events: dict[str, int], queue_ages_ms: Sequence[int]
) -> None:
    """Print the invocation's metrics in CloudWatch's embedded metric format.

    ``events``: metrics that are plain counts, by name; without those that did not happen.
    """
    # A dimension has one value per blob, so each outcome has a blob of its own.
    for outcome, count in Counter(each.outcome for each in cancellations).items():
        with single_metric("Cancellations", MetricUnit.Count, count) as metric:
            metric.add_dimension("outcome", outcome)
    values: list[tuple[str, MetricUnit, float]] = [
        (name, MetricUnit.Count, count) for name, count in events.items() if count
    ]
    for each in cancellations:
        values.append(("Attempts", MetricUnit.Count, len(each.latencies_ms)))
        values += [("ProviderLatency", MetricUnit.Milliseconds, ms) for ms in each.latencies_ms]
        if each.settled_at is not None and each.margin_s is not None:
            values.append(("CutOffMargin", MetricUnit.Seconds, each.margin_s))
    values += [("QueueAge", MetricUnit.Milliseconds, ms) for ms in queue_ages_ms]
    metrics = EphemeralMetrics()
    for name, unit, value in values:
        metrics.add_metric(name, unit, value)
    metrics.flush_metrics()
