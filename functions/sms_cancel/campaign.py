"""A campaign that is called off: the ids of one request, put on the queue many at a time."""

import json
import math
import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from sms_cancel import aws, cancellation, telemetry
from sms_cancel.environment import required
from sms_cancel.outcome import Outcome

FIELDS = {"messageIds", "sendAt", "recallId"}
MAX_IDS = 1000
MAX_BYTES = 64 * 1024  # a thousand ids of twenty digits take 24
MAX_ECHO = 64  # characters of what is no id, so that its sender finds it again
BATCH = 10  # the most that SQS takes at once
MAX_THREADS = 10
TRIES = 3
PAUSE_S = 0.2  # before the second try 0.2 to 0.4 s, before the third 0.4 to 0.8 s

NOT_QUEUED = "The queue did not take it: send it again, it is safe."

Rejected = dict[str, Any]  # messageId, as it was given, and detail


class Unreadable(Exception):
    """The request is of another form; the text says of which it must be, and echoes nothing."""


class TooLarge(Exception):
    """The request must be sent in parts; the text says so."""


class Campaign(NamedTuple):
    """What one request asks for; ``message_ids`` has each valid id once, with how it was given."""

    message_ids: dict[str, int | str]
    rejected: list[Rejected]
    send_at: datetime | None
    recall_id: str | None

    def message(self, message_id: str) -> str:
        """Return the body of the queue's message that cancels one of them."""
        send_at = self.send_at and self.send_at.isoformat()
        fields = {"messageId": message_id, "sendAt": send_at, "recallId": self.recall_id}
        return json.dumps({name: value for name, value in fields.items() if value is not None})


def read(body: bytes) -> Campaign:
    """Read ``{"messageIds": [300, "301"], "sendAt": "…", "recallId": "…"}``, without side effects.

    The last two may be left out. What is no id is only rejected. Raises TooLarge and Unreadable.
    """
    if len(body) > MAX_BYTES:
        raise TooLarge(f"A request has at most {MAX_BYTES // 1024} KiB: send it in parts.")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    given = document.get("messageIds") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(given, list) or not given:
        raise Unreadable('Send a JSON object, in it "messageIds", a list of at least one id.')
    if len(given) > MAX_IDS:
        raise TooLarge(f"A request has at most {MAX_IDS:,} ids: send it in parts.")
    if not document.keys() <= FIELDS:  # a misspelt sendAt would be no deadline, and nobody knew
        raise Unreadable('Send no fields besides "messageIds", "sendAt" and "recallId".')
    send_at = cancellation.read_send_at(document.get("sendAt"))
    recall_id = document.get("recallId")
    if "sendAt" in document and send_at is None:
        raise Unreadable(
            "sendAt must be a date and a time with an offset, as 2026-11-24T09:00:00+01:00."
        )
    if "recallId" in document and not cancellation.is_recall_id(recall_id):
        raise Unreadable("recallId must be 1 to 64 letters, digits, hyphens or underscores.")
    return Campaign(*_sort(given), send_at, recall_id)


def _sort(given: list[Any]) -> tuple[dict[str, int | str], list[Rejected]]:
    """Return the ids, each once, and what is none."""
    message_ids: dict[str, int | str] = {}
    rejected = []
    for each in given:
        message_id = cancellation.read_message_id(each)
        if message_id is None:
            rejected.append(_reject(each, Outcome.INVALID_REQUEST.detail))
        else:
            message_ids.setdefault(message_id, each)
    return message_ids, rejected


def _reject(given: Any, detail: str) -> Rejected:
    text = given if isinstance(given, str) else json.dumps(given)
    is_number = type(given) is int or (type(given) is float and math.isfinite(given))
    echo = given if is_number and len(text) <= MAX_ECHO else text[:MAX_ECHO]
    return {"messageId": echo, "detail": detail}


def enqueue(campaign: Campaign, ends_at: float) -> tuple[int, list[Rejected]]:
    """Put a message for each id on the queue (``QUEUE_URL``), until ``ends_at`` at the latest.

    Returns how many it took, and what is rejected: every id that is not in there is on the queue.
    """
    begun_at = time.monotonic()
    required("QUEUE_URL")
    ids = list(campaign.message_ids)
    batches = [ids[at : at + BATCH] for at in range(0, len(ids), BATCH)]
    with ThreadPoolExecutor(MAX_THREADS) as pool:
        left = list(chain(*pool.map(partial(_put, campaign, ends_at=ends_at), batches)))
    accepted = len(ids) - len(left)
    rejected = campaign.rejected + [
        _reject(campaign.message_ids[each], NOT_QUEUED) for each in left
    ]
    telemetry.logger.info(
        "cancels queued",
        extra={
            "accepted": accepted,
            "rejected": len(rejected),
            "recall_id": campaign.recall_id,
            "send_at": campaign.send_at and campaign.send_at.isoformat(),
            "duration_ms": round((time.monotonic() - begun_at) * 1000),
        },
    )
    if accepted:
        telemetry.emit_metrics([], {"CancelsQueued": accepted}, [])
    return accepted, rejected


def _put(campaign: Campaign, left: list[str], ends_at: float) -> list[str]:
    """Send a batch, three times at most; return the ids that SQS never said it has."""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_S * 2**attempt * random.uniform(0.5, 1))
        if time.monotonic() >= ends_at:
            break
        taken = _send(campaign, left)
        left = [each for each in left if each not in taken]
        if not left:
            break
    return left


def _send(campaign: Campaign, message_ids: list[str]) -> set[str]:
    """Send one batch; return the ids that SQS says it has."""
    entries = [{"Id": each, "MessageBody": campaign.message(each)} for each in message_ids]
    try:
        answer = aws.client("sqs").send_message_batch(
            QueueUrl=required("QUEUE_URL"), Entries=entries
        )
        reasons = sorted({each["Code"] for each in answer.get("Failed", [])})
        taken = {each["Id"] for each in answer.get("Successful", [])}
    except Exception as error:  # noqa: BLE001  an odd answer makes botocore raise what it likes
        reasons, taken = [aws.reason(error)], set()
    if reasons:
        telemetry.logger.warning("not queued", extra={"reason": ", ".join(reasons)})
    return taken
