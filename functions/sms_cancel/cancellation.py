"""The use case: ask SMS Partner with the key in force, and ask again while that helps."""

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import NamedTuple

from sms_cancel import smspartner
from sms_cancel.answer import Account, Answer
from sms_cancel.api_key import ApiKey
from sms_cancel.outcome import Outcome
from sms_cancel.request import Request
from sms_cancel.telemetry import ConfigurationError, required

CALL_DEADLINE_S = 6.0
MAX_ATTEMPTS = 3
PAUSE_S = 0.2  # before the second attempt 0.2 to 0.4 s, before the third 0.4 to 0.8 s
PREPARE_S = 4  # Lambda gives the start of an environment ten seconds

Found = Answer | Account
Ask = Callable[[str, float], Found]  # with an API key, in so many seconds

_api_key = ApiKey()


class Cancellation(NamedTuple):
    """What became of a request; ``latencies_ms`` has one entry for each provider call.

    The account watch asks for no message: its ``request`` is empty, and ``account`` known.
    """

    request: Request
    outcome: Outcome
    code: int | None = None
    http_status: int | None = None
    latencies_ms: tuple[float, ...] = ()
    duration_ms: float = 0.0
    ended_at: float = 0.0  # of time.time
    account: Account | None = None

    @property
    def margin_s(self) -> int | None:
        """Seconds that were left until the cut-off, negative after it; None without ``sendAt``."""
        return self.request.margin_s(self.ended_at)


def check_configuration(*more: str) -> None:
    """Raise ConfigurationError, naming the variable, before any work is begun with a wrong one."""
    for name in ("API_KEY_SECRET_ARN", "ALERT_TOPIC_ARN", *more):
        required(name)
    smspartner.endpoint()


def prepare() -> None:
    """Fetch the key and connect to the provider before the first cancel asks for them.

    To be called while Lambda starts the environment, when the CPU is not throttled. Whatever fails
    or takes too long here, the first cancel does itself and writes down.
    """
    with suppress(ConfigurationError):
        check_configuration()
        pool = ThreadPoolExecutor()
        tasks = [pool.submit(_api_key.prefetch), pool.submit(smspartner.connect, PREPARE_S)]
        wait(tasks, PREPARE_S)  # not for ever: no library bounds the look-up of a name
        pool.shutdown(wait=False)
    gc.freeze()  # what is there now stays: the collector need never look at it again
    gc.enable()


def cancel(request: Request, ends_at: float) -> Cancellation:
    """Cancel one message, with all provider calls over by ``ends_at`` (of ``time.monotonic``)."""
    if (message_id := request.message_id) is None:
        return Cancellation(request, Outcome.INVALID_REQUEST, ended_at=time.time())

    def ask(api_key: str, deadline_s: float) -> Answer:
        return smspartner.cancel(api_key, message_id, deadline_s)

    return _settle(request, ask, ends_at)


def watch(ends_at: float) -> Cancellation:
    """Look at the account's state as a cancel would meet it: the same key, attempts, outcomes."""
    return _settle(Request(None), smspartner.watch, ends_at)


def _settle(request: Request, ask: Ask, ends_at: float) -> Cancellation:
    begun_at = time.monotonic()
    calls: list[tuple[Found, float]] = []
    answer: Found = Answer(Outcome.KEY_UNAVAILABLE)
    if (api_key := _api_key.current()) is not None:
        calls = list(_try(ask, api_key, ends_at))
        answer = _conclude([answer for answer, _ in calls])
    latencies_ms = tuple(ms for _, ms in calls)
    duration_ms = (time.monotonic() - begun_at) * 1000
    account = answer if isinstance(answer, Account) else None
    verdict = answer.outcome, answer.code, answer.http_status
    return Cancellation(request, *verdict, latencies_ms, duration_ms, time.time(), account)


def _try(ask: Ask, api_key: str, ends_at: float) -> Iterator[tuple[Found, float]]:
    """Ask the provider until it answers; yield each answer with its latency in milliseconds."""
    for attempt in range(MAX_ATTEMPTS):
        if attempt:
            pause_s = PAUSE_S * 2**attempt * random.uniform(0.5, 1)
            time.sleep(max(0.0, min(pause_s, ends_at - time.monotonic())))
        if time.monotonic() >= ends_at:
            return
        answer, latency_ms = _call(ask, api_key, ends_at)
        yield answer, latency_ms
        if answer.outcome not in (Outcome.TIMED_OUT, Outcome.UNAVAILABLE):
            break
    if answer.outcome is Outcome.API_KEY_REJECTED and time.monotonic() < ends_at:
        replacement = _api_key.replacement(api_key)
        if replacement is not None:
            yield _call(ask, replacement, ends_at)


def _call(ask: Ask, api_key: str, ends_at: float) -> tuple[Found, float]:
    called_at = time.monotonic()
    deadline_s = max(0.0, min(CALL_DEADLINE_S, ends_at - called_at))
    answer = ask(api_key, deadline_s)
    return answer, (time.monotonic() - called_at) * 1000


def _conclude(answers: Sequence[Found]) -> Found:
    """Return what the calls for one message came to together.

    ``not_found`` may only mean that an earlier call, sent and without a verdict, did cancel.
    """
    last = answers[-1] if answers else Answer(Outcome.UNAVAILABLE)
    lost = [each for each in answers if each.outcome is Outcome.TIMED_OUT]
    failed = [each for each in answers if each.outcome is Outcome.UNAVAILABLE and each.http_status]
    if lost and last.outcome in (Outcome.UNAVAILABLE, Outcome.NOT_FOUND):
        return lost[-1]
    if failed and last.outcome is Outcome.NOT_FOUND:
        return failed[-1]
    return last
