"""Alerts to the operators: one SNS message per invocation and outcome that blocks every cancel."""

import json
import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sms_cancel import aws
from sms_cancel.cancellation import Cancellation
from sms_cancel.outcome import Kind, Outcome
from sms_cancel.telemetry import required, write

ACTIONS = {
    Outcome.API_KEY_REJECTED: "Put a valid API key of the SMS Partner account into the secret; "
    "no deployment is needed; it takes effect within half a minute.",
    Outcome.CREDITS_EXHAUSTED: "Top up the SMS Partner account; waiting cancels go on by "
    "themselves within two minutes.",
    Outcome.ACCOUNT_BLOCKED: "Look up the code with SMS Partner (20 deactivated, 30 blocked, "
    "40 API access denied) and have the account released.",
}
FIXED_ADDRESS = (
    "deploy with SubnetIds and SecurityGroupIds, so that the functions call from the fixed address "
    "of a NAT gateway, and have SMS Partner authorise that address."
)
ADDRESS_ACTIONS = {  # of ACCOUNT_BLOCKED, by code; None: a page that is not SMS Partner's own
    96: f"The SMS Partner account accepts only known addresses, and not this one: {FIXED_ADDRESS}",
    None: "A firewall in front of SMS Partner refuses the address that the functions call from: "
    f"ask SMS Partner to let it pass. If they need an address that stays, {FIXED_ADDRESS}",
}


def publish(cancellations: Sequence[Cancellation], *, door: str, request_id: str) -> None:
    """Push the alerts of one invocation to the topic (``ALERT_TOPIC_ARN``), in one call."""
    blocked = defaultdict(list)
    for each in cancellations:
        if each.outcome.kind is Kind.BLOCKED:
            blocked[each.outcome].append(each)
    if not blocked:
        return
    entries = [_entry(each, door, request_id) for each in blocked.values()]
    topic_arn = required("ALERT_TOPIC_ARN")
    try:
        answer = aws.call(
            "sns", "publish_batch", TopicArn=topic_arn, PublishBatchRequestEntries=entries
        )
        failed = len(entries) - len(answer["Successful"])
        reasons = [str(each["Code"]) for each in answer.get("Failed", [])]
    except Exception as error:  # noqa: BLE001  an odd answer makes botocore raise what it likes
        failed, reasons = len(entries), [aws.reason(error)]
    if failed:
        metrics = {"AlertPublishFailed": failed}
        write(logging.ERROR, "alert not published", metrics=metrics, reason=", ".join(reasons))


def _entry(blocked: Sequence[Cancellation], door: str, request_id: str) -> dict[str, Any]:
    outcome = blocked[0].outcome
    code = next((each.code for each in blocked if each.code is not None), None)
    action = ACTIONS[outcome]
    if outcome is Outcome.ACCOUNT_BLOCKED:
        action = ADDRESS_ACTIONS.get(code, action)
    alert = {
        "outcome": outcome,
        "code": code,
        "count": len(blocked),
        "messageIds": [each.request.message_id for each in blocked if each.request.message_id],
        "detail": outcome.detail,
        "action": action,
        "service": os.environ.get("POWERTOOLS_SERVICE_NAME"),
        "door": door,
        "requestId": request_id,
        "occurredAt": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    attributes = aws.attributes(outcome=outcome.value, code=code)
    return {"Id": outcome.value, "Message": json.dumps(alert), "MessageAttributes": attributes}
