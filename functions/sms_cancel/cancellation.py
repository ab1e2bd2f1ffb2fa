"""The use case: cancel one SMS with the key in force, and alert the operators who must act."""

import gc
import os
import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import datetime, timedelta
from threading import Thread
from typing import TypeGuard

from sms_cancel import alerts, smspartner, telemetry
from sms_cancel.api_key import ApiKey
from sms_cancel.environment import ConfigurationError, required
from sms_cancel.outcome import Cancellation, Outcome
from sms_cancel.smspartner import Answer

CALL_DEADLINE_S = 6.0
MAX_ATTEMPTS = 3
PAUSE_S = 0.2  # before the second attempt 0.2 to 0.4 s, before the third 0.4 to 0.8 s
TELL_S = 3  # for alerts and events together
CUT_OFF = timedelta(minutes=5)  # before the send time: SMS Partner cancels nothing after it
CONNECT_S = 3  # Lambda gives the start of an environment ten seconds

ALERTING = (Outcome.API_KEY_REJECTED, Outcome.CREDITS_EXHAUSTED, Outcome.ACCOUNT_BLOCKED)
ALERT_FAILED, EVENT_FAILED = "AlertPublishFailed", "EventPutFailed"  # metrics
UNTOLD = {ALERT_FAILED: "alert not published", EVENT_FAILED: "event not put"}
_ASK_AGAIN = (Outcome.TIMED_OUT, Outcome.UNAVAILABLE)

_api_key = ApiKey()


def check_configuration() -> None:
    """Raise ConfigurationError, naming the variable, before any work is begun with a wrong one."""
    required("API_KEY_SECRET_ARN")
    required("ALERT_TOPIC_ARN")
    smspartner.endpoint()


def prepare() -> None:
    """Fetch the key and connect to the provider before the first cancel asks for it.

    To be called while Lambda starts the environment: the CPU is not throttled then. What fails
    here, the first cancel does again and writes down.
    """
    with suppress(ConfigurationError):
        check_configuration()
        connecting = Thread(target=smspartner.connect, args=(CONNECT_S,), daemon=True)
        connecting.start()
        _api_key.prefetch()
        connecting.join()
    gc.freeze()  # what is there now stays: the collector need not look at it ever
    gc.enable()


def is_message_id(value: object) -> TypeGuard[str]:
    """True for a string of 1 to 20 ASCII digits."""
    return isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20


def read_message_id(value: object) -> str | None:
    """Return the id that a value of a JSON document is, number or string; None if it is none."""
    if type(value) is int:  # not isinstance: true is an int too
        value = str(value)
    return value if is_message_id(value) else None


def read_send_at(value: object) -> datetime | None:
    """Return the time that ISO 8601 text with an offset gives; None if it is none.

    One whose cut-off would lie before the first day of the calendar is none either.
    """
    if not isinstance(value, str):
        return None
    try:
        send_at = datetime.fromisoformat(value)
        return send_at if (send_at - CUT_OFF).tzinfo else None
    except (ValueError, OverflowError):
        return None


def is_recall_id(value: object) -> TypeGuard[str]:
    """True for a string of 1 to 64 ASCII letters, digits, hyphens and underscores."""
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value) is not None


def cancel(message_id: str, ends_at: float) -> Cancellation:
    """Cancel one message, with all provider calls over by ``ends_at`` (of ``time.monotonic``)."""
    begun_at = time.monotonic()
    api_key = _api_key.current()
    if api_key is None:
        calls, answer = [], Answer(Outcome.KEY_UNAVAILABLE)
    else:
        calls = list(_ask(api_key, message_id, ends_at))
        answer = _conclude([answer for answer, _ in calls])
    duration_ms = (time.monotonic() - begun_at) * 1000
    return Cancellation(message_id, *answer, tuple(ms for _, ms in calls), duration_ms)


def _ask(api_key: str, message_id: str, ends_at: float) -> Iterator[tuple[Answer, float]]:
    """Call the provider until it answers; yield each answer with its latency in milliseconds."""
    outcome = None
    for attempt in range(MAX_ATTEMPTS):
        if attempt:
            pause_s = PAUSE_S * 2**attempt * random.uniform(0.5, 1)
            time.sleep(max(0.0, min(pause_s, ends_at - time.monotonic())))
        if time.monotonic() >= ends_at:
            return
        answer, latency_ms = _call(api_key, message_id, ends_at)
        yield answer, latency_ms
        outcome = answer.outcome
        if outcome not in _ASK_AGAIN:
            break
    if outcome is Outcome.API_KEY_REJECTED and time.monotonic() < ends_at:
        replacement = _api_key.replacement(api_key)
        if replacement is not None:
            yield _call(replacement, message_id, ends_at)


def _call(api_key: str, message_id: str, ends_at: float) -> tuple[Answer, float]:
    called_at = time.monotonic()
    deadline_s = max(0.0, min(CALL_DEADLINE_S, ends_at - called_at))
    answer = smspartner.cancel(api_key, message_id, deadline_s)
    return answer, (time.monotonic() - called_at) * 1000


def _conclude(answers: Sequence[Answer]) -> Answer:
    """Return what the calls for one message came to together.

    ``not_found`` may only mean that an earlier call, sent and without a verdict, did cancel.
    """
    last = answers[-1] if answers else Answer(Outcome.UNAVAILABLE)
    lost = [each for each in answers if each.outcome is Outcome.TIMED_OUT]
    failed = [each for each in answers if each.outcome is Outcome.UNAVAILABLE and each.http_status]
    if last.outcome is Outcome.UNAVAILABLE:
        return [last, *lost][-1]
    if last.outcome is Outcome.NOT_FOUND:
        return [last, *failed, *lost][-1]
    return last


def report(
    cancellations: Sequence[Cancellation],
    *,
    door: str,
    request_id: str,
    queue_ages_ms: Sequence[int] = (),
) -> None:
    """Push the alerts and events of one invocation, and emit its metrics.

    Alerts: one per alerting outcome. Events: one per settled cancel, where OUTCOME_EVENTS is true.
    Never raises: what has become of an SMS does not change because nobody could be told.
    """
    try:
        untold = _tell(cancellations, door, request_id)
        telemetry.emit_metrics(cancellations, untold | _api_key.take_events(), queue_ages_ms)
    except Exception as error:  # noqa: BLE001  see above
        telemetry.log_bug(error)


def _tell(cancellations: Sequence[Cancellation], door: str, request_id: str) -> dict[str, int]:
    """Publish and put what there is to tell; return how many calls failed, by their metric."""
    by_outcome = [
        [each for each in cancellations if each.outcome is outcome] for outcome in ALERTING
    ]
    # Not waited for beyond 3 s: a thread that hangs ends by its client's timeouts.
    pool = ThreadPoolExecutor(len(ALERTING) + 1)
    telling = {
        pool.submit(alerts.publish, concerned, door=door, request_id=request_id): ALERT_FAILED
        for concerned in by_outcome
        if concerned
    }
    if os.environ.get("OUTCOME_EVENTS") == "true":
        from sms_cancel import outcome_events  # noqa: PLC0415  only who wants events pays for it

        for batch in outcome_events.batches(cancellations):
            telling[pool.submit(outcome_events.put, batch, door=door)] = EVENT_FAILED
    pool.shutdown(wait=False)
    _, late = wait(telling, TELL_S)
    for metric in {telling[each] for each in late}:
        telemetry.logger.error(UNTOLD[metric], extra={"reason": f"over {TELL_S} s"})
    return dict(Counter(telling[each] for each in telling if each in late or not each.result()))
