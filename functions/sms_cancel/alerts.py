"""Alerts to the operators: one SNS message per invocation and outcome that blocks every cancel."""

import json
import logging
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sms_cancel import aws
from sms_cancel.cancellation import Cancellation
from sms_cancel.outcome import Kind, Outcome
from sms_cancel.telemetry import write

# fmt: off
FIXED_ADDRESS = "deploy with SubnetIds and SecurityGroupIds, so that the functions call from the fixed address of a NAT gateway, and have SMS Partner authorise that address."
ACTIONS = {  # by outcome, or by outcome and code; code None: a page that is not SMS Partner's own
    Outcome.API_KEY_REJECTED: "Put a valid API key of the SMS Partner account into the secret; no deployment is needed; the key takes effect within half a minute.",
    Outcome.CREDITS_EXHAUSTED: "Top up the SMS Partner account; waiting cancels resume by themselves within two minutes.",
    Outcome.ACCOUNT_BLOCKED: "Look up the code with SMS Partner (20 deactivated, 30 blocked, 40 API access denied) and have the account released.",
    (Outcome.ACCOUNT_BLOCKED, 96): f"The SMS Partner account accepts only known addresses, and not this one: {FIXED_ADDRESS}",
    (Outcome.ACCOUNT_BLOCKED, None): f"A firewall in front of SMS Partner refuses the address that the functions call from: ask SMS Partner to let it pass. If they need a fixed address, {FIXED_ADDRESS}",
}
# fmt: on


def publish(cancellations: Sequence[Cancellation], *, door: str, request_id: str) -> None:
    """Push the alerts of one invocation to the topic (``ALERT_TOPIC_ARN``), in one call."""
    outcomes = {each.outcome for each in cancellations if each.outcome.kind is Kind.BLOCKED}
    if not outcomes:
        return
    entries = [_entry(each, cancellations, door, request_id) for each in outcomes]
    topic_arn = os.environ["ALERT_TOPIC_ARN"]
    confirmed, reason = aws.send_batch(
        "sns", "publish_batch", TopicArn=topic_arn, PublishBatchRequestEntries=entries
    )
    if failed := len(entries) - len(confirmed):
        metrics = {"AlertPublishFailed": failed}
        write(logging.ERROR, "alert not published", metrics=metrics, reason=reason)


def _entry(outcome: Outcome, tried: Sequence[Cancellation], door: str, request_id: str) -> Any:
    blocked = [each for each in tried if each.outcome is outcome]
    code = next((each.code for each in blocked if each.code is not None), None)
    alert = {
        "outcome": outcome,
        "code": code,
        "count": len(blocked),
        "messageIds": [each.request.message_id for each in blocked if each.request.message_id],
        "detail": outcome.detail,
        "action": ACTIONS.get((outcome, code), ACTIONS[outcome]),
        "service": os.environ.get("POWERTOOLS_SERVICE_NAME"),
        "door": door,
        "requestId": request_id,
        "occurredAt": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    attributes = aws.attributes(outcome=outcome.value, code=code)
    return {"Id": outcome.value, "Message": json.dumps(alert), "MessageAttributes": attributes}
