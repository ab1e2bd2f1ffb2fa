"""What became of a cancel, as events on the account's default EventBridge bus."""

import json
import logging
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sms_cancel import aws
from sms_cancel.cancellation import Cancellation
from sms_cancel.telemetry import write


def put(settled: Sequence[Cancellation], *, door: str) -> None:
    """Put an event for each cancel that is not retried: at most ten, PutEvents' limit."""
    entries = [_entry(each, door) for each in settled]
    confirmed, reason = aws.send_batch("events", "put_events", Entries=entries)
    if failed := len(entries) - len(confirmed):
        metrics = {"EventPutFailed": 1}
        write(logging.ERROR, "event not put", metrics=metrics, count=failed, reason=reason)


def _entry(settled: Cancellation, door: str) -> dict[str, Any]:
    at = datetime.fromtimestamp(settled.ended_at, UTC)
    detail = {
        "messageId": settled.request.message_id,
        "outcome": settled.outcome,
        "code": settled.code,
        "door": door,
        "settledAt": at.isoformat(timespec="milliseconds"),
        "marginSeconds": settled.margin_s,
        "recallId": settled.request.recall_id,
        "service": os.environ.get("POWERTOOLS_SERVICE_NAME"),  # which of the account's stacks
    }
    entry = {"Source": "sms-cancel", "DetailType": "SMS cancel settled", "Time": at}
    return entry | {"Detail": json.dumps(detail)}
