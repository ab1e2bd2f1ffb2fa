"""The use case: ask SMS Partner with the key in force, and ask again while that helps."""

import gc
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import NamedTuple

from sms_cancel import smspartner
from sms_cancel.answer import Answer
from sms_cancel.api_key import ApiKey
from sms_cancel.outcome import Outcome
from sms_cancel.request import Request
from sms_cancel.telemetry import ConfigurationError

CALL_DEADLINE_S = 6.0
MAX_ATTEMPTS = 3
PAUSE_S = 0.2  # 0.2 to 0.4 s before the second attempt, 0.4 to 0.8 s before the third
VARIABLES = (  # without the last two there are no metrics, so no alarms
    "API_KEY_SECRET_ARN",
    "ALERT_TOPIC_ARN",
    "POWERTOOLS_SERVICE_NAME",
    "POWERTOOLS_METRICS_NAMESPACE",
)
PREPARE_S = 4  # Lambda gives the start of an environment ten seconds

Ask = Callable[[str, float], Answer]  # (API key, deadline in seconds)

_api_key = ApiKey()


class Cancellation(NamedTuple):
    """What became of a request; ``latencies_ms`` has one entry for each provider call.

    For a watch, ``request`` is empty, and ``credits`` and ``to_send`` are SMS Partner's numbers.
    """

    request: Request
    outcome: Outcome
    code: int | None = None
    http_status: int | None = None
    credits: int | None = None
    to_send: int | None = None
    latencies_ms: tuple[float, ...] = ()
    duration_ms: float = 0.0
    ended_at: float = 0.0  # of time.time

    @property
    def margin_s(self) -> int | None:
        """Seconds that were left until the cut-off, negative after it; None without ``sendAt``."""
        return self.request.margin_s(self.ended_at)


def check_configuration(*more: str) -> None:
    """Raise ConfigurationError, naming the variable, if one is missing or wrong."""
    for name in (*VARIABLES, *more):
        if not os.environ.get(name):
            raise ConfigurationError(f"environment variable {name} is not set")
    smspartner.endpoint()


def prepare() -> None:
    """Fetch the key and connect to the provider before the first cancel asks for them.

    Call it while Lambda starts the environment, when the CPU is not throttled. The first cancel
    repeats, and logs, whatever fails or takes too long here.
    """
    pool = ThreadPoolExecutor()
    tasks = [pool.submit(_api_key.prefetch), pool.submit(smspartner.connect, PREPARE_S)]
    wait(tasks, PREPARE_S)  # because DNS look-ups have no time-out
    gc.freeze()  # objects made at start-up are never garbage
    gc.enable()


def cancel(request: Request, ends_at: float) -> Cancellation:
    """Cancel one message, with all provider calls over by ``ends_at`` (of ``time.monotonic``)."""
    if (message_id := request.message_id) is None:
        return Cancellation(request, Outcome.INVALID_REQUEST, ended_at=time.time())

    def ask(api_key: str, deadline_s: float) -> Answer:
        return smspartner.cancel(api_key, message_id, deadline_s)

    return _settle(request, ask, _api_key, ends_at)


def watch(ends_at: float) -> Cancellation:
    """Look at the account as the first cancel of an environment would: with no cached key."""
    return _settle(Request(None), smspartner.account, ApiKey(), ends_at)


def _settle(request: Request, ask: Ask, key: ApiKey, ends_at: float) -> Cancellation:
    begun_at = time.monotonic()
    latencies_ms: list[float] = []

    def call(api_key: str) -> Answer:
        called_at = time.monotonic()
        answer = ask(api_key, max(0.0, min(CALL_DEADLINE_S, ends_at - called_at)))
        latencies_ms.append((time.monotonic() - called_at) * 1000)
        return answer

    answer = _conclude(list(_try(call, key, ends_at)))
    duration_ms = (time.monotonic() - begun_at) * 1000
    return Cancellation(request, *answer, tuple(latencies_ms), duration_ms, time.time())


def _try(call: Callable[[str], Answer], key: ApiKey, ends_at: float) -> Iterator[Answer]:
    """Call the provider until it gives a whole answer; yield the result of each attempt."""
    if (api_key := key.current()) is None:
        yield Answer(Outcome.KEY_UNAVAILABLE)
        return
    for attempt in range(MAX_ATTEMPTS):
        if attempt:
            pause_s = PAUSE_S * 2**attempt * random.uniform(0.5, 1)
            time.sleep(max(0.0, min(pause_s, ends_at - time.monotonic())))
        if time.monotonic() >= ends_at:
            return
        yield (answer := call(api_key))
        if answer.outcome not in (Outcome.TIMED_OUT, Outcome.UNAVAILABLE):
            break
    if answer.outcome is Outcome.API_KEY_REJECTED and time.monotonic() < ends_at:
        replacement = key.replacement(api_key)
        if replacement is not None:
            yield call(replacement)


def _conclude(answers: Sequence[Answer]) -> Answer:
    """Reduce the answers to one.

    ``not_found`` after a lost answer settles nothing, because the lost call may have cancelled.
    """
    last = answers[-1] if answers else Answer(Outcome.UNAVAILABLE)
    lost = [each for each in answers if each.outcome is Outcome.TIMED_OUT]
    failed = [each for each in answers if each.outcome is Outcome.UNAVAILABLE and each.http_status]
    if last.outcome in (Outcome.UNAVAILABLE, Outcome.NOT_FOUND):
        return [last, *failed, *lost][-1]  # a lost answer outweighs a failed one, and that the last
    return last
