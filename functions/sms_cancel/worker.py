"""The queue door: SQS messages ``{"messageId": 300}``, in partial batch responses."""

import math
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from aws_lambda_powertools.utilities.typing import LambdaContext

from sms_cancel import aws, cancellation, report, request, telemetry
from sms_cancel.cancellation import Cancellation
from sms_cancel.outcome import Kind

# For a refetched key, a dead letter, a visibility change, an alert, an event, and the code itself.
RESERVE_S = 5 * aws.CALL_S + 0.5
RETRY_BEFORE_S = 10  # before the cut-off, to allow for redelivery
MAX_THREADS = 20  # ten take 1.5 times as long for a hundred messages, forty no less (make bench)

MAX_DELAY_S = 120  # the longest wait once the key or the credits are restored

Record = dict[str, Any]  # one message of the event


class Handled(NamedTuple):
    """What became of one message, which is retried unless it is settled.

    ``cancellation`` is None if no cancel was started, or a bug ended it.
    """

    record: Record
    cancellation: Cancellation | None = None
    is_settled: bool = False


@telemetry.logger.inject_lambda_context(log_event=False, clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Settle each message of the batch; return the ids of those to be retried.

    ``{"batchItemFailures": [{"itemIdentifier": "<the message's id>"}]}``, as AWS documents it
    for ReportBatchItemFailures.
    """
    cancellation.check_configuration("QUEUE_URL", "DEAD_LETTER_QUEUE_URL", "MAX_RECEIVE_COUNT")
    records = event.get("Records")
    if not records:  # an empty answer would tell Lambda that all is done
        raise ValueError("not an SQS event: it has no Records")
    ends_at = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - RESERVE_S
    # Threads of our own: Powertools' batch processor takes one item after the other.
    with ThreadPoolExecutor(MAX_THREADS) as pool:
        handled = list(pool.map(lambda each: _handle(each, ends_at), records))
    tried = [each.cancellation for each in handled if each.cancellation]
    settled = [each.cancellation for each in handled if each.cancellation and each.is_settled]
    report.notify(tried, settled, door="queue", request_id=context.aws_request_id)
    failed = [each.record["messageId"] for each in handled if not each.is_settled]
    return {"batchItemFailures": [{"itemIdentifier": each} for each in failed]}


def _handle(record: Record, ends_at: float) -> Handled:
    """Settle one message. Never raises, because one item must not fail the others."""
    margin_s = None
    try:
        asked, count = request.read(record["body"]), _receive_count(record)
        margin_s = asked.margin_s(time.time())
        if time.monotonic() < ends_at:
            if asked.doubt and count == 1:  # a retry would only repeat it
                telemetry.logger.warning(asked.doubt, extra={"message_id": asked.message_id})
            result = cancellation.cancel(asked, ends_at)
            age_ms = round(result.ended_at * 1000) - int(record["attributes"]["SentTimestamp"])
            disposition = _dispose(record, result)
            fields = {"disposition": disposition, "receive_count": count, "queue_age_ms": age_ms}
            report.log(result, door="queue", **fields)
            return Handled(record, result, is_settled=disposition != "retry")
        waiting = {"sqs_message_id": record["messageId"]}
        telemetry.logger.warning("no time left to begin", extra=waiting)
    except Exception as error:  # noqa: BLE001  see above
        telemetry.bug(error)
    _delay(record, Kind.PASSING, margin_s)  # otherwise hidden for the queue's full 180 s
    return Handled(record)


def _dispose(record: Record, result: Cancellation) -> str:
    """Return ``done`` or ``dead_lettered``, or ``retry`` after setting the message's delay."""
    kind = result.outcome.kind
    if kind is Kind.DONE:
        return "done"
    is_last = _receive_count(record) >= int(os.environ["MAX_RECEIVE_COUNT"])
    if (kind is Kind.FINAL or is_last) and _dead_letter(record, result):
        return "dead_lettered"
    _delay(record, kind, result.margin_s)
    return "retry"


def _dead_letter(record: Record, result: Cancellation) -> bool:
    """Put a copy that says why into the dead-letter queue; return False if that failed."""
    outcome, original_id = result.outcome, record["messageId"]
    detail = result.request.problem or outcome.detail
    attributes = aws.attributes(
        outcome=outcome.value, code=result.code, detail=detail, originalMessageId=original_id
    )
    url, body = os.environ["DEAD_LETTER_QUEUE_URL"], record["body"]
    try:
        answer = aws.call(
            "sqs", "send_message", QueueUrl=url, MessageBody=body, MessageAttributes=attributes
        )
        return bool(answer["MessageId"])
    except Exception as error:  # noqa: BLE001  botocore may raise anything on a malformed answer
        telemetry.logger.error("not dead-lettered", extra={"reason": aws.reason(error)})
        return False


def _delay(record: Record, kind: Kind, margin_s: int | None) -> None:
    """Hide the message for about 5, 10, 20 … 120 s, or 30, 60, 120 s for a blocked outcome.

    Less if that would miss the cut-off, but at least about five seconds.
    """
    try:
        first_s = 30 if kind is Kind.BLOCKED else 5
        delay_s = min(MAX_DELAY_S, first_s * 2 ** (_receive_count(record) - 1))
        if margin_s is not None and margin_s >= 0:
            delay_s = min(delay_s, max(5, margin_s - RETRY_BEFORE_S))
        aws.call(
            "sqs",
            "change_message_visibility",
            QueueUrl=os.environ["QUEUE_URL"],
            ReceiptHandle=record["receiptHandle"],
            VisibilityTimeout=math.ceil(delay_s * random.uniform(0.8, 1)),
        )
    except Exception as error:  # noqa: BLE001  botocore may raise anything on a malformed answer
        # It is retried anyway, after the queue's own visibility timeout.
        telemetry.logger.warning("visibility not set", extra={"reason": aws.reason(error)})


def _receive_count(record: Record) -> int:
    return int(record["attributes"]["ApproximateReceiveCount"])


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    cancellation.prepare()
