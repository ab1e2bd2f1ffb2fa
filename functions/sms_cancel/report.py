"""Reports a cancel or a watch: one log line with its metrics, an alert, an event."""

import logging
import os
from collections.abc import Sequence
from typing import Any

from sms_cancel import alerts, telemetry
from sms_cancel.cancellation import Cancellation
from sms_cancel.outcome import Kind, Outcome

LEVELS = {  # by outcome or by kind; of all others WARNING
    Kind.DONE: logging.INFO,
    Kind.READY: logging.INFO,
    Kind.BLOCKED: logging.ERROR,
    Outcome.KEY_UNAVAILABLE: logging.ERROR,
}


def log(cancelled: Cancellation, *, door: str, **queue: Any) -> None:
    """Log one line of a cancel or a watch, without None values; ``queue``: that door's fields.

    A watch counts as a cancel only where it finds what stops every cancel.
    """
    request, outcome, margin_s = cancelled.request, cancelled.outcome, cancelled.margin_s
    level = LEVELS.get(outcome, LEVELS.get(outcome.kind, logging.WARNING))
    is_watch = door == "watch"
    metrics = {
        "Cancellations": None if is_watch and level < logging.ERROR else 1,
        "Attempts": len(cancelled.latencies_ms),
        "ProviderLatency": tuple(round(each, 1) for each in cancelled.latencies_ms),
        "QueueAge": queue.get("queue_age_ms"),
        "CutOffMargin": None if queue.get("disposition") == "retry" else margin_s,
        "Credits": cancelled.credits,
        "ToSend": cancelled.to_send,
    }
    fields = {
        "message_id": request.message_id,
        "outcome": outcome,
        "code": cancelled.code,
        "http_status": cancelled.http_status,
        "attempts": len(cancelled.latencies_ms),
        "duration_ms": round(cancelled.duration_ms),
        "door": door,
        "recall_id": request.recall_id,
        "send_at": request.send_at and request.send_at.isoformat(),
        "margin_s": margin_s,
    }
    message = "account watched" if is_watch else "cancel settled"
    telemetry.write(level, message, metrics=metrics, **fields, **queue)


def tell(
    tried: Sequence[Cancellation], settled: Sequence[Cancellation], *, door: str, request_id: str
) -> None:
    """Alert the operators, and put an event for each settled cancel where OUTCOME_EVENTS is true.

    Never raises: what became of an SMS does not change because nobody could be told.
    """
    try:
        alerts.publish(tried, door=door, request_id=request_id)
        if settled and os.environ.get("OUTCOME_EVENTS") == "true":
            from sms_cancel import events  # noqa: PLC0415  only who wants events pays for it

            events.put(settled, door=door)
    except Exception as error:  # noqa: BLE001  see above
        telemetry.bug(error)
