"""The queue door: SQS messages ``{"messageId": 300}``, in partial batch responses."""

import json
import math
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from sms_cancel import aws, cancellation, telemetry
from sms_cancel.environment import ConfigurationError, required
from sms_cancel.outcome import Cancellation, Outcome

RESERVE_S = 12  # for a refetched key, a dead letter, a visibility change, an alert: 3 s each
MAX_THREADS = 20  # ten take 1.7 times as long for a hundred messages, forty no less (make bench)

DEAD_LETTER_NOW = (
    Outcome.NOT_FOUND,
    Outcome.TOO_LATE,
    Outcome.ALREADY_SENT,
    Outcome.INVALID_REQUEST,
)
RETRY_SLOWLY = (Outcome.API_KEY_REJECTED, Outcome.CREDITS_EXHAUSTED, Outcome.ACCOUNT_BLOCKED)

Record = dict[str, Any]  # one message of the event


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
        result = _cancel(record["body"], ends_at)
        age_ms = int(time.time() * 1000) - int(record["attributes"]["SentTimestamp"])
        telemetry.log_settled(
            result, door="queue", receive_count=_receive_count(record), queue_age_ms=age_ms
        )
        settled.append(result)
        queue_ages_ms.append(age_ms)
        return _dispose(record, result)
    except Exception as error:  # noqa: BLE001  one item's trouble must stay its own
        telemetry.log_bug(error)
        _delay(record, Outcome.UNREADABLE)  # without it, it would sleep for three minutes
        return False


def _cancel(body: str, ends_at: float) -> Cancellation:
    message_id = _message_id(body)
    if message_id is None:
        return Cancellation(None, Outcome.INVALID_REQUEST)
    return cancellation.cancel(message_id, ends_at)


def _message_id(body: str) -> str | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    value = document.get("messageId") if isinstance(document, dict) else None
    return cancellation.read_message_id(value)


def _dispose(record: Record, result: Cancellation) -> bool:
    """Return True if the message may leave the queue, False once it waits there for its retry."""
    if result.outcome.done:
        return True
    is_last_receive = _receive_count(record) >= _max_receive_count()
    if (result.outcome in DEAD_LETTER_NOW or is_last_receive) and _dead_letter(record, result):
        return True
    _delay(record, result.outcome)
    return False


def _dead_letter(record: Record, result: Cancellation) -> bool:
    """Put a copy that says why into the dead-letter queue; return False if that failed."""
    attributes = {
        "outcome": {"DataType": "String", "StringValue": result.outcome.value},
        "detail": {"DataType": "String", "StringValue": result.outcome.detail},
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


def _delay(record: Record, outcome: Outcome) -> None:
    """Have SQS show the message again after 5, 10, 20 … 120 s; 30, 60, 120 s where it is slow."""
    first_s = 30 if outcome in RETRY_SLOWLY else 5
    try:
        delay_s = min(120, first_s * 2 ** (_receive_count(record) - 1))
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
