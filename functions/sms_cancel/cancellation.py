"""The use case: cancel one SMS with the key in force, and alert the operators who must act."""

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from sms_cancel import alerts, smspartner, telemetry
from sms_cancel.api_key import ApiKey
from sms_cancel.environment import required
from sms_cancel.outcome import Cancellation, Outcome

CALL_DEADLINE_S = 6.0
MAX_ATTEMPTS = 3
PAUSE_S = 0.2  # doubled at each attempt, plus up to as much again by chance

ALERTING = (Outcome.API_KEY_REJECTED, Outcome.CREDITS_EXHAUSTED, Outcome.ACCOUNT_BLOCKED)
_ASK_AGAIN = (Outcome.TIMED_OUT, Outcome.UNAVAILABLE)
# After a lost answer these leave open whether the SMS is cancelled.
_INCONCLUSIVE = (Outcome.NOT_FOUND, Outcome.UNAVAILABLE)

_api_key = ApiKey()


def check_configuration() -> None:
    """Raise ConfigurationError, naming the variable, before any work is begun with a wrong one."""
    required("API_KEY_SECRET_ARN")
    required("ALERT_TOPIC_ARN")
    smspartner.endpoint()


def is_message_id(value: object) -> bool:
    """True for a string of 1 to 20 ASCII digits."""
    return isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20


def cancel(message_id: str, ends_at: float) -> Cancellation:
    """Cancel one message, with all calls over by ``ends_at`` (of ``time.monotonic``)."""
    begun_at = time.monotonic()
    api_key = _api_key.current()
    if api_key is None:
        duration_ms = (time.monotonic() - begun_at) * 1000
        return Cancellation(message_id, Outcome.KEY_UNAVAILABLE, duration_ms=duration_ms)
    answer, latencies_ms = _ask(api_key, message_id, ends_at)
    replacement = None
    if answer.outcome is Outcome.API_KEY_REJECTED:
        replacement = _api_key.replacement(api_key)
    if replacement is not None:
        answer, more_ms = _ask(replacement, message_id, ends_at, max_attempts=1)
        latencies_ms += more_ms
    return Cancellation(
        message_id,
        answer.outcome,
        answer.code,
        answer.http_status,
        tuple(latencies_ms),
        duration_ms=(time.monotonic() - begun_at) * 1000,
        key_refetched=replacement is not None,
    )


def _ask(
    api_key: str, message_id: str, ends_at: float, max_attempts: int = MAX_ATTEMPTS
) -> tuple[smspartner.Answer, list[float]]:
    """Call the provider until it answers; return the answer and the duration of each call."""
    answer = smspartner.Answer(Outcome.UNAVAILABLE)
    lost: smspartner.Answer | None = None
    latencies_ms: list[float] = []
    while (time_left_s := ends_at - time.monotonic()) > 0:
        called_at = time.monotonic()
        answer = smspartner.cancel(api_key, message_id, min(CALL_DEADLINE_S, time_left_s))
        latencies_ms.append((time.monotonic() - called_at) * 1000)
        if answer.outcome is Outcome.TIMED_OUT:
            lost = answer
        if answer.outcome not in _ASK_AGAIN or len(latencies_ms) == max_attempts:
            break
        pause_s = PAUSE_S * 2 ** (len(latencies_ms) - 1) * random.uniform(1, 2)
        time.sleep(max(0.0, min(pause_s, ends_at - time.monotonic())))
    if lost and answer.outcome in _INCONCLUSIVE:
        answer = lost
    return answer, latencies_ms


def report(
    cancellations: Sequence[Cancellation],
    *,
    door: str,
    request_id: str,
    queue_ages_ms: Sequence[int] = (),
) -> None:
    """Push the alerts of one invocation, one per alerting outcome, and emit its metrics.

    Never raises: what has become of an SMS does not change because nobody could be told.
    """
    try:
        failed = _alert(cancellations, door, request_id)
        telemetry.emit_metrics(cancellations, failed, queue_ages_ms)
    except Exception as error:  # noqa: BLE001  see above
        telemetry.log_bug(error)


def _alert(cancellations: Sequence[Cancellation], door: str, request_id: str) -> int:
    """Return how many alerts could not be published."""
    by_outcome = [
        [each for each in cancellations if each.outcome is outcome] for outcome in ALERTING
    ]
    # At once, so that a topic that hangs costs the time of one publish.
    with ThreadPoolExecutor(len(ALERTING)) as pool:
        published = [
            pool.submit(alerts.publish, concerned, door=door, request_id=request_id)
            for concerned in by_outcome
            if concerned
        ]
    return sum(not each.result() for each in published)
