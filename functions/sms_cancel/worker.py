"""The queue door: SQS messages ``{"messageId": 300}``, in partial batch responses.

One with ``"sendAt"`` is tried until its cut-off, five minutes before that time, and once after it.
"""

import json
import math
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from aws_lambda_powertools.utilities.typing import LambdaContext

from sms_cancel import aws, cancellation, telemetry
from sms_cancel.environment import ConfigurationError, required
from sms_cancel.outcome import Cancellation, Outcome

RESERVE_S = 12  # for a refetched key, a dead letter, a visibility change, an alert: 3 s each
RETRY_BEFORE_S = 10  # the cut-off: so long may the message take to come back
MAX_THREADS = 20  # ten take 1.7 times as long for a hundred messages, forty no less (make bench)

DEAD_LETTER_NOW = (
    Outcome.NOT_FOUND,
    Outcome.TOO_LATE,
    Outcome.ALREADY_SENT,
    Outcome.INVALID_REQUEST,
)
RETRY_SLOWLY = (Outcome.API_KEY_REJECTED, Outcome.CREDITS_EXHAUSTED, Outcome.ACCOUNT_BLOCKED)

Record = dict[str, Any]  # one message of the event


class Request(NamedTuple):
    """What a message asks for; ``message_id`` is None where it names none."""

    message_id: str | None
    recall_id: str | None = None
    send_at: datetime | None = None

    @property
    def margin_s(self) -> int | None:
        """Whole seconds until the cut-off, negative after it; None where there is none."""
        if self.send_at is None:
            return None
        return math.floor((self.send_at - cancellation.CUT_OFF).timestamp() - time.time())


@telemetry.logger.inject_lambda_context(log_event=False, clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Settle each message of the batch; return the ids of those that are to be tried again.

    ``{"batchItemFailures": [{"itemIdentifier": "<the message's id>"}]}``, as AWS documents it
    for ReportBatchItemFailures.
    """
    cancellation.check_configuration()
    required("QUEUE_URL")
    required("DEAD_LETTER_QUEUE_URL")
    _max_receive_count()
    records = event.get("Records")
    if not records:  # an empty answer would tell Lambda that all is done
        raise ValueError("not an SQS event: it has no Records")
    budget_s = context.get_remaining_time_in_millis() / 1000 - RESERVE_S
    settled: list[Cancellation] = []
    queue_ages_ms: list[int] = []
    handle = partial(
        _handle,
        ends_at=time.monotonic() + budget_s,
        settled=settled,
        queue_ages_ms=queue_ages_ms,
    )
    # Threads of our own: Powertools' batch processor takes one item after the other.
    with ThreadPoolExecutor(MAX_THREADS) as pool:
        leave_the_queue = list(pool.map(handle, records))
    cancellation.report(
        settled, door="queue", request_id=context.aws_request_id, queue_ages_ms=queue_ages_ms
    )
    return {
        "batchItemFailures": [
            {"itemIdentifier": record["messageId"]}
            for record, leaves in zip(records, leave_the_queue, strict=True)
            if not leaves
        ]
    }


def _handle(
    record: Record, ends_at: float, settled: list[Cancellation], queue_ages_ms: list[int]
) -> bool:
    """Settle one message; return True if it may leave the queue. Never raises."""
    if time.monotonic() >= ends_at:
        return False
    try:
        request = _read(record["body"])
        is_late = (request.margin_s or 0) < 0
        result = _cancel(request.message_id, ends_at)
        age_ms = int(time.time() * 1000) - int(record["attributes"]["SentTimestamp"])
        disposition = _dispose(record, request, result, is_late=is_late)
        result = result._replace(
            recall_id=request.recall_id,
            margin_s=request.margin_s,
            settled_at=None if disposition == "retry" else time.time(),
        )
        telemetry.log_settled(
            result,
            door="queue",
            disposition=disposition,
            send_at=request.send_at and request.send_at.isoformat(),
            receive_count=_receive_count(record),
            queue_age_ms=age_ms,
        )
        settled.append(result)
        queue_ages_ms.append(age_ms)
    except Exception as error:  # noqa: BLE001  one item's trouble must stay its own
        telemetry.log_bug(error)
        _delay(record, Outcome.UNREADABLE)  # without it, it would sleep for three minutes
        return False
    return disposition != "retry"


def _read(body: str) -> Request:
    """Read a message; where a field that may be left out is not readable, it was left out."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return Request(None)
    message_id = cancellation.read_message_id(document.get("messageId"))
    recall_id = document.get("recallId")
    send_at = cancellation.read_send_at(document.get("sendAt"))
    if "sendAt" in document and send_at is None:
        telemetry.logger.warning("sendAt not readable", extra={"message_id": message_id})
    return Request(message_id, recall_id if cancellation.is_recall_id(recall_id) else None, send_at)


def _cancel(message_id: str | None, ends_at: float) -> Cancellation:
    if message_id is None:
        return Cancellation(None, Outcome.INVALID_REQUEST)
    return cancellation.cancel(message_id, ends_at)


def _dispose(record: Record, request: Request, result: Cancellation, *, is_late: bool) -> str:
    """Return ``done`` or ``dead_lettered``, or ``retry`` once the message waits for that."""
    outcome = result.outcome
    if outcome.done:
        return "done"
    detail = outcome.detail
    if is_late and request.send_at and outcome not in DEAD_LETTER_NOW:
        cut_off = (request.send_at - cancellation.CUT_OFF).isoformat()
        detail += f" It is not tried again: the cut-off, five minutes before sendAt, was {cut_off}."
    is_last = is_late or _receive_count(record) >= _max_receive_count()
    if (outcome in DEAD_LETTER_NOW or is_last) and _dead_letter(record, result, detail):
        return "dead_lettered"
    _delay(record, outcome, None if is_late else request.margin_s)
    return "retry"


def _dead_letter(record: Record, result: Cancellation, detail: str) -> bool:
    """Put a copy that says why into the dead-letter queue; return False if that failed."""
    attributes = {
        "outcome": {"DataType": "String", "StringValue": result.outcome.value},
        "detail": {"DataType": "String", "StringValue": detail},
        "originalMessageId": {"DataType": "String", "StringValue": record["messageId"]},
    }
    if result.code is not None:  # SQS refuses an empty value
        attributes["code"] = {"DataType": "Number", "StringValue": str(result.code)}
    try:
        copied = aws.client("sqs").send_message(
            QueueUrl=required("DEAD_LETTER_QUEUE_URL"),
            MessageBody=record["body"],
            MessageAttributes=attributes,
        )
        return bool(copied["MessageId"])
    except Exception as error:  # noqa: BLE001  an odd answer makes botocore raise what it likes
        telemetry.logger.error("not dead-lettered", extra={"reason": aws.reason(error)})
        return False


def _delay(record: Record, outcome: Outcome, margin_s: int | None = None) -> None:
    """Have SQS show the message again after 5, 10, 20 … 120 s; 30, 60, 120 s where it is slow.

    Before the cut-off, where there is one, as long as that leaves five seconds.
    """
    first_s = 30 if outcome in RETRY_SLOWLY else 5
    try:
        delay_s = min(120, first_s * 2 ** (_receive_count(record) - 1))
        if margin_s is not None:
            delay_s = min(delay_s, max(5, margin_s - RETRY_BEFORE_S))
        aws.client("sqs").change_message_visibility(
            QueueUrl=required("QUEUE_URL"),
            ReceiptHandle=record["receiptHandle"],
            VisibilityTimeout=math.ceil(delay_s * random.uniform(0.8, 1)),
        )
    except Exception as error:  # noqa: BLE001  as above
        # It is tried again all the same, after the queue's own visibility timeout.
        telemetry.logger.warning("visibility not set", extra={"reason": aws.reason(error)})


def _receive_count(record: Record) -> int:
    return int(record["attributes"]["ApproximateReceiveCount"])


def _max_receive_count() -> int:
    """Return the queue's maxReceiveCount, which the worker must know to dead-letter in time."""
    value = required("MAX_RECEIVE_COUNT")
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise ConfigurationError("environment variable MAX_RECEIVE_COUNT must be a whole number")
    return int(value)


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    cancellation.prepare()
