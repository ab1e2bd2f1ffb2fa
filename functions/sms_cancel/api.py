"""The HTTP door: the routes of an API Gateway HTTP API (payload 2.0).

``DELETE /messages/{messageId}`` cancels, ``POST /cancellations`` puts many cancels on the queue.
"""

import json
import os
import re
import time
from base64 import b64decode
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from sms_cancel import cancellation, telemetry
from sms_cancel.outcome import Cancellation, Outcome

RESERVE_S = 7  # for a refetched key and an alert, 3 s each, and the answer
ROUTE = "DELETE /messages/{messageId}"
MANY_ROUTE = "POST /cancellations"

STATUSES = {
    Outcome.CANCELLED: HTTPStatus.OK,
    Outcome.ALREADY_CANCELLED: HTTPStatus.OK,
    Outcome.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Outcome.TOO_LATE: HTTPStatus.CONFLICT,
    Outcome.ALREADY_SENT: HTTPStatus.CONFLICT,
    Outcome.INVALID_REQUEST: HTTPStatus.BAD_REQUEST,
    Outcome.API_KEY_REJECTED: HTTPStatus.BAD_GATEWAY,
    Outcome.CREDITS_EXHAUSTED: HTTPStatus.BAD_GATEWAY,
    Outcome.ACCOUNT_BLOCKED: HTTPStatus.BAD_GATEWAY,
    Outcome.THROTTLED: HTTPStatus.SERVICE_UNAVAILABLE,
    Outcome.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Outcome.TIMED_OUT: HTTPStatus.GATEWAY_TIMEOUT,
    Outcome.UNREADABLE: HTTPStatus.BAD_GATEWAY,
    Outcome.KEY_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}
RETRY_AFTER_S = {
    Outcome.THROTTLED: 60,  # SMS Partner counts requests per minute
    Outcome.UNAVAILABLE: 10,
    Outcome.TIMED_OUT: 1,  # the sooner it is asked again, the sooner it is known
    Outcome.KEY_UNAVAILABLE: 10,  # a failed read of the secret is repeated after as long
}


@telemetry.logger.inject_lambda_context(log_event=False, clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Cancel the message that the path names, and say what became of it; or queue many cancels.

    Done: 200 and JSON ``{"messageId", "outcome", "code"}``. Else: ``application/problem+json``
    (RFC 9457) with the same three as extensions. Many: 202 and JSON ``{"accepted", "rejected"}``.
    Never raises, so that no stack trace gets out.
    """
    try:
        cancellation.check_configuration()
        return _respond(event, context)
    except Exception as error:  # noqa: BLE001  whatever it is, it must not reach the caller
        telemetry.log_bug(error)
        return _problem(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "The function failed; its log says where. Ask again, it is safe.",
            context.aws_request_id,
        )


def _respond(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    request_id = context.aws_request_id
    if event["routeKey"] == MANY_ROUTE:
        return _queue_many(event, context)
    if event["routeKey"] != ROUTE:
        return _no_such_route(event["rawPath"], request_id)
    settled = _cancel(event["pathParameters"]["messageId"], context)
    if settled.outcome.done:
        settled = settled._replace(settled_at=time.time())
    telemetry.log_settled(settled, door="http")
    cancellation.report([settled], door="http", request_id=request_id)
    return _answer(settled, request_id)


def _no_such_route(path: str, request_id: str) -> dict[str, Any]:
    if re.search(r"/messages/[^/]+$", path):
        detail = "A message can only be cancelled: use DELETE."
        return _problem(HTTPStatus.METHOD_NOT_ALLOWED, detail, request_id, Allow="DELETE")
    if path.endswith("/cancellations"):
        detail = "Cancels can only be handed in: use POST."
        return _problem(HTTPStatus.METHOD_NOT_ALLOWED, detail, request_id, Allow="POST")
    detail = f"There is no such route: use {ROUTE} or {MANY_ROUTE}."
    return _problem(HTTPStatus.NOT_FOUND, detail, request_id)


def _cancel(message_id: str, context: LambdaContext) -> Cancellation:
    if not cancellation.is_message_id(message_id):
        return Cancellation(None, Outcome.INVALID_REQUEST)
    return cancellation.cancel(message_id, _ends_at(context))


def _ends_at(context: LambdaContext) -> float:
    return time.monotonic() + context.get_remaining_time_in_millis() / 1000 - RESERVE_S


def _queue_many(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    from sms_cancel import campaign  # noqa: PLC0415  who cancels one message does not wait for it

    request_id = context.aws_request_id
    if not _is_json(event):
        detail = "Send the request as application/json."
        return _problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, request_id)
    try:
        asked_for = campaign.read(_body(event))
    except campaign.TooLarge as error:
        return _problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error), request_id)
    except campaign.Unreadable as error:
        return _problem(HTTPStatus.BAD_REQUEST, str(error), request_id)
    accepted, rejected = campaign.enqueue(asked_for, _ends_at(context))
    if asked_for.message_ids and not accepted:
        detail = "The queue confirmed none of them: send all of it again, it is safe."
        status = HTTPStatus.SERVICE_UNAVAILABLE
        return _problem(status, detail, request_id, **{"Retry-After": "10"})
    body = {"accepted": accepted, "rejected": rejected}
    return _json(HTTPStatus.ACCEPTED, "application/json", body)


def _is_json(event: dict[str, Any]) -> bool:
    content_type = event["headers"].get("content-type", "")
    return bool(content_type.partition(";")[0].strip().lower() == "application/json")


def _body(event: dict[str, Any]) -> bytes:
    body: str = event.get("body", "")
    return b64decode(body) if event.get("isBase64Encoded") else body.encode(errors="replace")


def _answer(settled: Cancellation, request_id: str) -> dict[str, Any]:
    outcome = settled.outcome
    body = {"messageId": settled.message_id, "outcome": outcome, "code": settled.code}
    if outcome.done:
        return _json(STATUSES[outcome], "application/json", body)
    problem = {
        "type": f"urn:problem-type:sms-cancel:{outcome.replace('_', '-')}",
        "title": outcome.replace("_", " ").capitalize(),
        "status": STATUSES[outcome],
        "detail": outcome.detail,
        "instance": request_id,
    }
    headers = {"Retry-After": str(RETRY_AFTER_S[outcome])} if outcome in RETRY_AFTER_S else {}
    return _json(STATUSES[outcome], "application/problem+json", problem | body, **headers)


def _problem(status: HTTPStatus, detail: str, request_id: str, **headers: str) -> dict[str, Any]:
    problem = {
        "type": "about:blank",  # RFC 9457: the status says it all
        "title": status.phrase,
        "status": status,
        "detail": detail,
        "instance": request_id,
    }
    return _json(status, "application/problem+json", problem, **headers)


def _json(status: int, content_type: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    return {
        "statusCode": int(status),
        "headers": {"Content-Type": content_type, "Cache-Control": "no-store", **headers},
        "body": json.dumps(body),
    }


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    cancellation.prepare()
