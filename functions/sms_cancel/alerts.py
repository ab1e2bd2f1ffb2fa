"""Alerts to the operators: one SNS message per invocation and outcome."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime

from sms_cancel import aws
from sms_cancel.environment import required
from sms_cancel.outcome import Cancellation, Outcome
from sms_cancel.telemetry import logger

ACTIONS = {
    Outcome.API_KEY_REJECTED: "Put a valid API key of the SMS Partner account into the secret; "
    "no deployment is needed, it is in force within half a minute.",
    Outcome.CREDITS_EXHAUSTED: "Top up the SMS Partner account; waiting cancels go on by "
    "themselves within two minutes.",
    Outcome.ACCOUNT_BLOCKED: "Look up the code with SMS Partner (20 deactivated, 30 blocked, "
    "40 API access denied) and have the account released.",
}
CODE_ACTIONS: dict[int | None, str] = {
    96: "The SMS Partner account accepts only known addresses, and this is none of them: deploy "
    "with SubnetIds and SecurityGroupIds, so that the functions call from the fixed address of a "
    "NAT gateway, and have SMS Partner authorise that.",
}


def publish(cancellations: Sequence[Cancellation], *, door: str, request_id: str) -> bool:
    """Push one alert for cancels of one outcome to the topic (``ALERT_TOPIC_ARN``).

    Returns False where AWS fails, and never raises: an alert changes no outcome.
    """
    outcome = cancellations[0].outcome
    code = next((each.code for each in cancellations if each.code is not None), None)
    alert = {
        "outcome": outcome,
        "code": code,
        "count": len(cancellations),
        "messageIds": [each.message_id for each in cancellations],
        "detail": outcome.detail,
        "action": CODE_ACTIONS.get(code, ACTIONS[outcome]),
        "service": os.environ.get("POWERTOOLS_SERVICE_NAME"),
        "door": door,
        "requestId": request_id,
        "occurredAt": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    attributes = {"outcome": {"DataType": "String", "StringValue": outcome.value}}
    if code is not None:
        attributes["code"] = {"DataType": "Number", "StringValue": str(code)}
    try:
        published = aws.client("sns").publish(
            TopicArn=required("ALERT_TOPIC_ARN"),
            Message=json.dumps(alert),
            MessageAttributes=attributes,
        )
        return bool(published["MessageId"])
    except Exception as error:  # noqa: BLE001  an odd answer makes botocore raise what it likes
        logger.error("alert not published", extra={"reason": aws.reason(error)})
        return False
