"""Many cancels in one request: each becomes a message on the queue."""

import json
import logging
import math
import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple

from sms_cancel import aws, request
from sms_cancel.outcome import Outcome
from sms_cancel.request import Request
from sms_cancel.telemetry import logger, required, write

FIELDS = {"messageIds", "sendAt", "recallId"}
MAX_IDS = 1000
MAX_BYTES = 64 * 1024  # a thousand ids of twenty digits take 24 KiB
MAX_ECHO = 64  # longest echo of an invalid id
BATCH = 10  # the most that SQS takes at once
MAX_THREADS = 10
PAUSES_S = (0, 0.4, 0.8)  # before each of three tries, less up to half at random

NOT_QUEUED = "The queue did not take it: it is safe to send it again."

Rejected = dict[str, Any]  # messageId, as it was given, and detail


class Refused(Exception):
    """The request as a whole is refused; the text says what to send, and echoes nothing."""

    status = HTTPStatus.BAD_REQUEST


class TooLarge(Refused):
    """The request asks for more than one request may."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class Bulk(NamedTuple):
    """What one request asks for; ``requests`` has each valid id once, with how it was given."""

    send_at: datetime | None
    recall_id: str | None
    requests: dict[Request, int | str]
    rejected: list[Rejected]


def read(body: bytes) -> Bulk:
    """Read ``{"messageIds": [300, "301"], "sendAt": "…", "recallId": "…"}``, without side effects.

    The last two may be left out. An invalid id is only rejected; all else raises Refused.
    """
    document = _load(body)
    given = document.get("messageIds")
    if not isinstance(given, list) or not given:
        raise Refused('Send "messageIds", a list of at least one id.')
    if len(given) > MAX_IDS:
        raise TooLarge(f"A request has at most {MAX_IDS:,} ids: send it in parts.")
    if not document.keys() <= FIELDS:  # a misspelt sendAt would silently mean no deadline
        raise Refused('Send no fields besides "messageIds", "sendAt" and "recallId".')
    send_at = request.read_send_at(document.get("sendAt"))
    if "sendAt" in document and send_at is None:
        raise Refused("sendAt must be a time with an offset, such as 2030-01-31T09:00:00+01:00.")
    if request.is_past(send_at):
        raise Refused("sendAt must be in the future: check its offset, or omit it.")
    recall_id = request.read_recall_id(document.get("recallId"))
    if "recallId" in document and recall_id is None:
        raise Refused("recallId must be 1 to 64 letters, digits, hyphens or underscores.")
    asked_for = Bulk(send_at, recall_id, {}, [])
    for each in given:
        if message_id := request.read_message_id(each):
            asked_for.requests.setdefault(Request(message_id, send_at, recall_id), each)
        else:
            asked_for.rejected.append(_reject(each, Outcome.INVALID_REQUEST.detail))
    return asked_for


def _load(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_BYTES:
        raise TooLarge(f"A request has at most {MAX_BYTES // 1024} KiB: send it in parts.")
    try:
        document = request.load(body)
    except request.Unreadable as error:
        raise Refused(f'The body {error}: send a JSON object with "messageIds".') from None
    return document if isinstance(document, dict) else {}


def _reject(given: Any, detail: str) -> Rejected:
    text = given if isinstance(given, str) else json.dumps(given)
    is_number = type(given) is int or (type(given) is float and math.isfinite(given))
    echo = given if is_number and len(text) <= MAX_ECHO else text[:MAX_ECHO]
    return {"messageId": echo, "detail": detail}


def enqueue(asked_for: Bulk, request_id: str, ends_at: float) -> tuple[int, list[Rejected]]:
    """Put a message for each id on the queue (``QUEUE_URL``); begin no send after ``ends_at``.

    Returns how many it took, and what is rejected: every id that is not in there is on the queue.
    """
    begun_at = time.monotonic()
    # A message group is a tenant of a fair queue: a large one does not delay the others.
    group = asked_for.recall_id or request_id
    put = partial(_put, queue_url=required("QUEUE_URL"), group=group, ends_at=ends_at)
    requests = list(asked_for.requests)
    batches = [requests[at : at + BATCH] for at in range(0, len(requests), BATCH)]
    with ThreadPoolExecutor(MAX_THREADS) as pool:
        left = [each for batch in pool.map(put, batches) for each in batch]
    accepted = len(requests) - len(left)
    not_queued = [_reject(asked_for.requests[each], NOT_QUEUED) for each in left]
    rejected = asked_for.rejected + not_queued
    write(
        logging.INFO,
        "cancels queued",
        metrics={"CancelsQueued": accepted or None},
        accepted=accepted,
        rejected=len(rejected),
        recall_id=asked_for.recall_id,
        send_at=asked_for.send_at and asked_for.send_at.isoformat(),
        duration_ms=round((time.monotonic() - begun_at) * 1000),
    )
    return accepted, rejected


def _put(left: list[Request], queue_url: str, group: str, ends_at: float) -> list[Request]:
    """Send a batch, three times at most; return the requests that SQS did not confirm."""
    for pause_s in PAUSES_S:
        time.sleep(pause_s * random.uniform(0.5, 1))
        if time.monotonic() >= ends_at:
            break
        taken = _send(left, queue_url, group)
        left = [each for each in left if each.message_id not in taken]
        if not left:
            break
    return left


def _send(requests: list[Request], queue_url: str, group: str) -> set[str]:
    """Send one batch; return the ids that SQS confirms."""
    entries = [
        {"Id": each.message_id, "MessageBody": each.body(), "MessageGroupId": group}
        for each in requests
    ]
    taken, reason = aws.send_batch("sqs", "send_message_batch", QueueUrl=queue_url, Entries=entries)
    if reason:
        logger.warning("not queued", extra={"reason": reason})
    return taken
