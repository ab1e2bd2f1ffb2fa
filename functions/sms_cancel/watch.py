"""The watch door: what a cancel would meet at SMS Partner, seen before one needs it.

EventBridge Scheduler calls it every five minutes.
"""

import os
import time

from aws_lambda_powertools.utilities.typing import LambdaContext

from sms_cancel import aws, cancellation, report, telemetry

RESERVE_S = 2 * aws.CALL_S + 0.5  # for a refetched key, an alert, and the code itself


@telemetry.logger.inject_lambda_context(log_event=False, clear_state=True)
def handler(_event: object, context: LambdaContext) -> None:
    """Look at the account, whatever the event is; write down what was found, and alert.

    Never raises, because Lambda would repeat an asynchronous call that failed.
    """
    try:
        cancellation.check_configuration()
        ends_at = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - RESERVE_S
        watched = cancellation.watch(ends_at)
        report.log(watched, door="watch")
        report.tell([watched], [], door="watch", request_id=context.aws_request_id)
    except Exception as error:  # noqa: BLE001  see above
        telemetry.bug(error)


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    cancellation.prepare()
