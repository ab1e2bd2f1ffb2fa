"""The HTTP door: the routes of an API Gateway HTTP API (payload 2.0).

``DELETE /messages/{messageId}`` cancels, ``POST /cancellations`` puts many cancels on the queue.
"""

import json
import os
import time
from base64 import b64decode
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from sms_cancel import aws, cancellation, report, telemetry
from sms_cancel.cancellation import Cancellation
from sms_cancel.outcome import Outcome
from sms_cancel.request import Request, read_message_id

RESERVE_S = 2 * aws.CALL_S + 0.5  # for a refetched key, an alert or an event, and the answer
ROUTE = "DELETE /messages/{messageId}"
MANY_ROUTE = "POST /cancellations"
NOT_OURS = f"This answers only an API Gateway HTTP API (payload 2.0): {ROUTE} and {MANY_ROUTE}."

RETRY_AFTER_S = {  # by outcome, or by status if there is none
    Outcome.THROTTLED: 60,  # SMS Partner counts requests per minute
    Outcome.UNAVAILABLE: 10,
    Outcome.TIMED_OUT: 1,  # asking again tells whether it was cancelled
    Outcome.KEY_UNAVAILABLE: 10,  # the secret is read again after that long
    HTTPStatus.SERVICE_UNAVAILABLE: 10,  # the queue took nothing
}

Response = dict[str, Any]


@telemetry.logger.inject_lambda_context(log_event=False, clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> Response:
    """Cancel the message that the path names, and say what became of it; or queue many cancels.

    Done: 200 and JSON ``{"messageId", "outcome", "code"}``. Otherwise: RFC 9457's
    ``application/problem+json`` with these three as extensions. Queued: 202 and JSON
    ``{"accepted", "rejected"}``.
    Never raises, so that no stack trace gets out.
    """
    try:
        route = event.get("routeKey") if isinstance(event, dict) else None
        if route == ROUTE:
            return _cancel(event, context)
        if route == MANY_ROUTE:
            return _queue_many(event, context)
        # A warmer, a function URL or a load balancer: API Gateway sends only these two routes.
        telemetry.logger.warning("not an event of the HTTP API")
        return _problem(HTTPStatus.NOT_FOUND, NOT_OURS, context)
    except Exception as error:  # noqa: BLE001  whatever it is, it must not reach the caller
        telemetry.bug(error)
        detail = "The function failed; its log says where. It is safe to ask again."
        return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail, context)


def _cancel(event: dict[str, Any], context: LambdaContext) -> Response:
    cancellation.check_configuration()
    request = Request(read_message_id(event["pathParameters"]["messageId"]))
    result = cancellation.cancel(request, _ends_at(context))
    report.log(result, door="http")
    settled = [result] if result.outcome.done else []
    report.notify([result], settled, door="http", request_id=context.aws_request_id)
    return _answer(result, context)


def _queue_many(event: dict[str, Any], context: LambdaContext) -> Response:
    from sms_cancel import bulk  # noqa: PLC0415  not needed to cancel one message

    cancellation.check_configuration("QUEUE_URL")
    body = event.get("body") or ""
    content_type = event["headers"].get("content-type", "").partition(";")[0]
    if body and content_type.strip().lower() != "application/json":
        detail = "Send the request as application/json."
        return _problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, context)
    raw = b64decode(body) if event.get("isBase64Encoded") else body.encode(errors="replace")
    try:
        accepted, rejected = bulk.enqueue(bulk.read(raw), context.aws_request_id, _ends_at(context))
    except bulk.Refused as refusal:
        return _problem(refusal.status, str(refusal), context)
    return _respond(HTTPStatus.ACCEPTED, {"accepted": accepted, "rejected": rejected})


def _ends_at(context: LambdaContext) -> float:
    return time.monotonic() + context.get_remaining_time_in_millis() / 1000 - RESERVE_S


def _answer(result: Cancellation, context: LambdaContext) -> Response:
    outcome, message_id = result.outcome, result.request.message_id
    body = {"messageId": message_id, "outcome": outcome, "code": result.code}
    if outcome.done:
        return _respond(outcome.status, body)
    body["type"] = f"urn:problem-type:sms-cancel:{outcome.replace('_', '-')}"
    body["title"] = outcome.replace("_", " ").capitalize()
    return _problem(outcome.status, outcome.detail, context, **body)


def _problem(status: HTTPStatus, detail: str, context: LambdaContext, **more: Any) -> Response:
    """Return a problem of RFC 9457, of type ``about:blank`` if it has no outcome."""
    problem = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail}
    problem["instance"] = context.aws_request_id
    return _respond(status, problem | more, RETRY_AFTER_S.get(more.get("outcome", status)))


def _respond(status: HTTPStatus, body: dict[str, Any], retry_s: int | None = None) -> Response:
    content_type = "application/json" if status < 400 else "application/problem+json"
    headers = {"Content-Type": content_type, "Cache-Control": "no-store"}
    if retry_s:
        headers["Retry-After"] = str(retry_s)
    return {"statusCode": int(status), "headers": headers, "body": json.dumps(body)}


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    cancellation.prepare()
