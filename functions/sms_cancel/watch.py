"""The watch door: finds a dead key or an empty account before a cancel does.

EventBridge Scheduler calls it every five minutes.
"""

import gc
import os
import time

from aws_lambda_powertools.utilities.typing import LambdaContext

from sms_cancel import aws, cancellation, report, telemetry
from sms_cancel.outcome import Kind

RESERVE_S = 2 * aws.CALL_S + 0.5  # for a refetched key, an alert, and the code itself


class AccountUnknown(Exception):
    """SMS Partner was asked but did not report the account's state."""


@telemetry.logger.inject_lambda_context(log_event=False, clear_state=True)
def handler(_event: object, context: LambdaContext) -> None:
    """Look at the account, log the result, and alert if every cancel would fail.

    Raises only AccountUnknown, so that Lambda counts the run as failed: a watch that learns nothing
    for long has an alarm of its own.
    """
    try:
        cancellation.check_configuration()
        ends_at = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - RESERVE_S
        watched = cancellation.watch(ends_at)
        report.log(watched, door="watch")
        report.notify([watched], [], door="watch", request_id=context.aws_request_id)
    except Exception as error:  # noqa: BLE001  its text may hold a URL, and so the key
        telemetry.bug(error)
        return
    if watched.outcome.kind is Kind.PASSING and watched.latencies_ms:
        raise AccountUnknown(watched.outcome)


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    gc.enable()  # nothing to prepare, because each run reads the key and connects anew
