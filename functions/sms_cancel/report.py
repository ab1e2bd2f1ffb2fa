"""Reports a cancel or a watch: one log line with its metrics, an alert, an event."""

import logging
import os
from collections.abc import Sequence
from typing import Any

from sms_cancel import alerts, telemetry
from sms_cancel.cancellation import Cancellation
from sms_cancel.outcome import Kind, Outcome

LEVELS = {  # by outcome or by kind; all others are WARNING
    Kind.DONE: logging.INFO,
    Kind.READY: logging.INFO,
    Kind.BLOCKED: logging.ERROR,
    Outcome.KEY_UNAVAILABLE: logging.ERROR,
}


def log(result: Cancellation, *, door: str, **queue: Any) -> None:
    """Log one line for a cancel or a watch, without None values.

    ``queue`` holds the queue door's own fields. A watch counts in ``Cancellations`` only if it
    finds what stops every cancel.
    """
    request, outcome, margin_s = result.request, result.outcome, result.margin_s
    level = LEVELS.get(outcome, LEVELS.get(outcome.kind, logging.WARNING))
    is_watch = door == "watch"
    metrics = {
        "Cancellations": None if is_watch and level < logging.ERROR else 1,
        "Attempts": len(result.latencies_ms),
        "ProviderLatency": tuple(round(each, 1) for each in result.latencies_ms),
        "QueueAge": queue.get("queue_age_ms"),
        "CutOffMargin": None if queue.get("disposition") == "retry" else margin_s,
        "Credits": result.credits,
        "ToSend": result.to_send,
    }
    fields = {
        "message_id": request.message_id,
        "outcome": outcome,
        "code": result.code,
        "http_status": result.http_status,
        "attempts": len(result.latencies_ms),
        "duration_ms": round(result.duration_ms),
        "door": door,
        "recall_id": request.recall_id,
        "send_at": request.send_at and request.send_at.isoformat(),
        "margin_s": margin_s,
    }
    message = "account watched" if is_watch else "cancel settled"
    telemetry.write(level, message, metrics=metrics, **fields, **queue)


def notify(
    tried: Sequence[Cancellation], settled: Sequence[Cancellation], *, door: str, request_id: str
) -> None:
    """Alert the operators, and put an event for each settled cancel if OUTCOME_EVENTS is true.

    Never raises, because a failed notification must not change an outcome.
    """
    try:
        alerts.publish(tried, door=door, request_id=request_id)
        if settled and os.environ.get("OUTCOME_EVENTS") == "true":
            from sms_cancel import events  # noqa: PLC0415  only those who want events pay for it

            events.put(settled, door=door)
    except Exception as error:  # noqa: BLE001  see above
        telemetry.bug(error)
