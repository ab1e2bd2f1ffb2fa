"""What became of a cancel, as events on the account's default EventBridge bus."""

import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from sms_cancel import aws
from sms_cancel.outcome import Cancellation
from sms_cancel.telemetry import logger

BATCH = 10  # the most that EventBridge takes at once


def batches(cancellations: Sequence[Cancellation]) -> Iterator[list[Cancellation]]:
    """Yield those that are settled, so many at a time as can be put at once."""
    settled = [each for each in cancellations if each.settled_at is not None]
    for at in range(0, len(settled), BATCH):
        yield settled[at : at + BATCH]


def put(cancellations: Sequence[Cancellation], *, door: str) -> bool:
    """Put an event for each of them, ten at most; return False where EventBridge did not take all.

    Never raises: an event changes no outcome.
    """
    try:
        entries = [_entry(each, door) for each in cancellations]
        answer = aws.client("events").put_events(Entries=entries)
        failed = int(answer["FailedEntryCount"])
        reasons = {str(each["ErrorCode"]) for each in answer["Entries"] if "ErrorCode" in each}
    except Exception as error:  # noqa: BLE001  an odd answer makes botocore raise what it likes
        failed, reasons = len(cancellations), {aws.reason(error)}
    if failed:
        extra = {"reason": ", ".join(sorted(reasons)), "count": failed}
        logger.error("event not put", extra=extra)
    return not failed


def _entry(settled: Cancellation, door: str) -> dict[str, Any]:
    at = datetime.fromtimestamp(settled.settled_at or 0, UTC)
    detail = {
        "messageId": settled.message_id,
        "outcome": settled.outcome,
        "code": settled.code,
        "door": door,
        "settledAt": at.isoformat(timespec="milliseconds"),
        "marginSeconds": settled.margin_s,
        "recallId": settled.recall_id,
        "service": os.environ.get("POWERTOOLS_SERVICE_NAME"),  # which of the account's stacks
    }
    return {
        "Time": at,
        "Source": "sms-cancel",
        "DetailType": "SMS cancel settled",
        "Detail": json.dumps(detail),
    }
