"""The HTTP door: ``DELETE /messages/{messageId}`` of an API Gateway HTTP API (payload 2.0)."""

import json
import os
import re
import time
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from sms_cancel import cancellation, telemetry
from sms_cancel.outcome import Cancellation, Outcome

RESERVE_S = 7  # for a refetched key and an alert, 3 s each, and the answer
ROUTE = "DELETE /messages/{messageId}"

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
    """Cancel the message that the path names, and say what became of it.

    Done: 200 and JSON ``{"messageId", "outcome", "code"}``. Else: ``application/problem+json``
    (RFC 9457) with the same three as extensions. Never raises, so that no stack trace gets out.
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
    if event["routeKey"] != ROUTE:
        return _no_such_route(event["rawPath"], request_id)
    settled = _cancel(event["pathParameters"]["messageId"], context)
    telemetry.log_settled(settled, door="http")
    cancellation.report([settled], door="http", request_id=request_id)
    return _answer(settled, request_id)


def _no_such_route(path: str, request_id: str) -> dict[str, Any]:
    if re.search(r"/messages/[^/]+$", path):
        detail = "A message can only be cancelled: use DELETE."
        return _problem(HTTPStatus.METHOD_NOT_ALLOWED, detail, request_id, Allow="DELETE")
    detail = f"There is no such route: use {ROUTE}."
    return _problem(HTTPStatus.NOT_FOUND, detail, request_id)


def _cancel(message_id: str, context: LambdaContext) -> Cancellation:
    if not cancellation.is_message_id(message_id):
        return Cancellation(None, Outcome.INVALID_REQUEST)
    budget_s = context.get_remaining_time_in_millis() / 1000 - RESERVE_S
    return cancellation.cancel(message_id, ends_at=time.monotonic() + budget_s)


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
