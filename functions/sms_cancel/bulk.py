"""Many cancels in one request: each becomes a message on the queue."""

import json
import logging
import math
import os
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Any

from sms_cancel import aws, request
from sms_cancel.outcome import Outcome
from sms_cancel.request import Request
from sms_cancel.telemetry import logger, write

MAX_IDS = 1000
MAX_BYTES = 64 * 1024  # a thousand ids of twenty digits take 24 KiB
MAX_ECHO = 64  # longest echo of an invalid id
BATCH = 10  # the most that SQS takes at once
MAX_THREADS = 10
PAUSES_S = (0, 0.4, 0.8)  # before each of three tries, shortened by up to half at random

TOO_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
NOT_QUEUED = "SQS did not accept it: it is safe to send it again."
NONE_QUEUED = "SQS confirmed none of the ids: send all of it again, which is safe."

Rejected = dict[str, Any]  # messageId, as it was given, and detail


class Refused(Exception):
    """The request as a whole is not accepted; the text says what to send, and echoes nothing."""

    def __init__(self, text: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(text)
        self.status = status


def read(body: bytes) -> list[tuple[Any, Request]]:
    """Read ``{"messageIds": [300, "301"], "sendAt": "…", "recallId": "…"}``, without side effects.

    The last two may be left out. Returns each id as given, with its request, which has no
    ``message_id`` if the id is not valid. Anything else that is wrong raises Refused.
    """
    if len(body) > MAX_BYTES:
        raise Refused(f"Send at most {MAX_BYTES // 1024} KiB at a time.", TOO_LARGE)
    try:
        document = request.load(body)
    except request.InvalidJson as error:
        raise Refused(f'The body {error}: send a JSON object with "messageIds".') from None
    given = document.get("messageIds") if isinstance(document, dict) else None
    if not isinstance(given, list) or not given:
        raise Refused('Send "messageIds", a list of at least one id.')
    if len(given) > MAX_IDS:
        raise Refused(f"Send at most {MAX_IDS:,} ids at a time.", TOO_LARGE)
    # A misspelt sendAt would silently mean no deadline.
    if document.keys() - {"messageIds", "sendAt", "recallId"}:
        raise Refused('Send no fields besides "messageIds", "sendAt" and "recallId".')
    send_at, doubt = request.read_send_at(document)
    if doubt:
        raise Refused("sendAt must be a future time with offset, like 2030-01-31T09:00:00+01:00.")
    recall_id = request.read_recall_id(document.get("recallId"))
    if "recallId" in document and recall_id is None:
        raise Refused("recallId must be 1 to 64 letters, digits, hyphens or underscores.")
    return [(each, Request(request.read_message_id(each), send_at, recall_id)) for each in given]


def _reject(given: Any, detail: str) -> Rejected:
    text = given if isinstance(given, str) else json.dumps(given)
    is_number = type(given) is int or (type(given) is float and math.isfinite(given))
    echo = given if is_number and len(text) <= MAX_ECHO else text[:MAX_ECHO]
    return {"messageId": echo, "detail": detail}


def enqueue(
    asked_for: Sequence[tuple[Any, Request]], request_id: str, ends_at: float
) -> tuple[int, list[Rejected]]:
    """Put a message for each id on the queue (``QUEUE_URL``); begin no send after ``ends_at``.

    Returns how many SQS accepted, and what is rejected: every other id is on the queue. Raises
    Refused if SQS accepted none of the valid ids.
    """
    begun_at = time.monotonic()
    given = {asked: each for each, asked in asked_for if asked.message_id}  # each id once
    requests = list(given)
    _, campaign = asked_for[0]  # all share one send time and recall id
    # A message group is a tenant of a fair queue, so a large one does not delay the others.
    group = campaign.recall_id or request_id
    put = partial(_put, url=os.environ["QUEUE_URL"], group=group, ends_at=ends_at)
    batches = [requests[at : at + BATCH] for at in range(0, len(requests), BATCH)]
    with ThreadPoolExecutor(MAX_THREADS) as pool:
        left = [each for batch in pool.map(put, batches) for each in batch]
    accepted = len(requests) - len(left)
    invalid = [each for each, asked in asked_for if asked.message_id is None]
    rejected = [_reject(each, Outcome.INVALID_REQUEST.detail) for each in invalid]
    rejected += [_reject(given[each], NOT_QUEUED) for each in left]
    write(
        logging.INFO,
        "cancels queued",
        metrics={"CancelsQueued": accepted or None},
        accepted=accepted,
        rejected=len(rejected),
        recall_id=campaign.recall_id,
        send_at=campaign.send_at and campaign.send_at.isoformat(),
        duration_ms=round((time.monotonic() - begun_at) * 1000),
    )
    if left and not accepted:
        raise Refused(NONE_QUEUED, HTTPStatus.SERVICE_UNAVAILABLE)
    return accepted, rejected


def _put(left: list[Request], url: str, group: str, ends_at: float) -> list[Request]:
    """Send a batch, three times at most; return the requests that SQS did not confirm."""
    for pause_s in PAUSES_S:
        time.sleep(pause_s * random.uniform(0.5, 1))
        if time.monotonic() >= ends_at:
            break
        entries = [
            {"Id": each.message_id, "MessageBody": each.body(), "MessageGroupId": group}
            for each in left
        ]
        taken, reason = aws.send_batch("sqs", "send_message_batch", QueueUrl=url, Entries=entries)
        left = [each for each in left if each.message_id not in taken]
        if not left:
            break
        logger.warning("not queued", extra={"reason": reason})
    return left
