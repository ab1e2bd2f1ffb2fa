"""What is told of a cancel or a watch: one log line with its metrics, an alert, an event."""

import logging
import os
from collections.abc import Sequence
from typing import Any

from sms_cancel import alerts, telemetry
from sms_cancel.cancellation import Cancellation
from sms_cancel.outcome import Kind, Outcome

_LEVELS = {  # of all others: WARNING
    Kind.DONE: logging.INFO,
    Kind.READY: logging.INFO,
    Kind.BLOCKED: logging.ERROR,
}


def log(cancelled: Cancellation, *, door: str, **queue: Any) -> None:
    """Write the one line of a cancel, without what is None; ``queue``: what that door knows."""
    request, outcome, margin_s = cancelled.request, cancelled.outcome, cancelled.margin_s
    level = _LEVELS.get(outcome.kind, logging.WARNING)
    if outcome is Outcome.KEY_UNAVAILABLE:
        level = logging.ERROR  # it passes by itself only where AWS was away
    metrics = {
        "Cancellations": None if outcome.kind is Kind.READY else 1,
        "Attempts": len(cancelled.latencies_ms),
        "ProviderLatency": [round(each, 1) for each in cancelled.latencies_ms] or None,
        "QueueAge": queue.get("queue_age_ms"),
        "CutOffMargin": None if queue.get("disposition") == "retry" else margin_s,
        "Credits": cancelled.account and cancelled.account.credits,
        "ToSend": cancelled.account and cancelled.account.to_send,
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
    known = {name: value for name, value in metrics.items() if value is not None}
    message = "account watched" if door == "watch" else "cancel settled"
    telemetry.write(level, message, metrics=known, **fields, **queue)


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
