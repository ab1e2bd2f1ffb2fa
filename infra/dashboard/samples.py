"""Sample data for the dashboard's picture: three hours of a team's day, minute by minute. Invented.

At 14:40 a campaign is called off by the queue. At 15:35 somebody revokes the API key, and a new one
is in the secret twelve minutes later. At 16:20 SMS Partner is slow. At 16:40 somebody empties the
dead-letter queue.
"""

import math
import random
from collections.abc import Callable

MINUTES = 180
CAMPAIGN, DEAD_KEY, SLOW, EMPTIED = range(40, 44), range(95, 107), range(140, 145), 160

_chance = random.Random(6)  # always the same picture


def _around(mean: float, spread: float = 0.15) -> float:
    return max(0.0, _chance.gauss(mean, mean * spread))


def _each_minute(value: Callable[[int], float]) -> list[float]:
    return [value(minute) for minute in range(MINUTES)]


HTTP = _each_minute(lambda minute: round(_around(40 + 15 * math.sin(minute / 35))))
QUEUED = _each_minute(
    lambda minute: round(_around(330 if minute in CAMPAIGN else 50 + 10 * math.cos(minute / 25)))
)
# What the dead key keeps on the queue: all that came since, each tried again every other minute.
HELD = _each_minute(lambda minute: sum(QUEUED[DEAD_KEY[0] : minute + 1]) * (minute in DEAD_KEY))
REJECTED = _each_minute(
    lambda minute: round((HTTP[minute] + HELD[minute] / 2) * (minute in DEAD_KEY))
)
RELEASED = _each_minute(lambda minute: HELD[minute - 1] * (minute == DEAD_KEY[-1] + 1))
SETTLED = _each_minute(
    lambda minute: (HTTP[minute] + QUEUED[minute] + RELEASED[minute]) * (minute not in DEAD_KEY)
)


def _now_and_then(odds: float, most: int) -> list[float]:
    return _each_minute(
        lambda minute: (
            _chance.randint(1, most) if minute not in DEAD_KEY and _chance.random() < odds else 0
        )
    )


TIMED_OUT = _each_minute(lambda minute: round(_around(14, 0.3)) * (minute in SLOW))
UNAVAILABLE = _each_minute(lambda minute: round(_around(6, 0.3)) * (minute in SLOW))
OUTCOMES = {
    "already_cancelled": _each_minute(lambda minute: round(SETTLED[minute] * 0.03)),
    "not_found": _now_and_then(0.3, 2),
    "too_late": _each_minute(lambda minute: 9 if RELEASED[minute] else 0),
    "already_sent": _now_and_then(0.05, 1),
    "invalid_request": _now_and_then(0.04, 1),
    "timed_out": TIMED_OUT,
    "unavailable": UNAVAILABLE,
    "api_key_rejected": REJECTED,
    "throttled": _each_minute(lambda minute: 12 if minute == CAMPAIGN[1] else 0),
    "unreadable": _each_minute(lambda _: 0),
    "key_unavailable": _each_minute(lambda _: 0),
    "credits_exhausted": _each_minute(lambda _: 0),
    "account_blocked": _each_minute(lambda _: 0),
}
OUTCOMES["cancelled"] = _each_minute(
    lambda minute: max(
        0, SETTLED[minute] - sum(each[minute] for each in OUTCOMES.values()) + REJECTED[minute]
    )
)
DEAD_LETTERED = _each_minute(
    lambda minute: (
        sum(
            OUTCOMES[outcome][minute]
            for outcome in ("not_found", "already_sent", "invalid_request")
        )
        // 2
        + OUTCOMES["too_late"][minute]
    )
)
HTTP_5XX = _each_minute(
    lambda minute: (
        HTTP[minute] * (minute in DEAD_KEY) + (TIMED_OUT[minute] + UNAVAILABLE[minute]) // 2
    )
)
WORKER_STARTS = _each_minute(lambda minute: 30 + (QUEUED[minute] + HELD[minute]) / 4)

# By the metric's name, then by what in its dimensions' values tells it from others.
SAMPLES: dict[str, dict[str, list[float]]] = {
    "Cancellations": OUTCOMES,
    "ProviderLatency": {
        "p50": _each_minute(lambda minute: _around(900 if minute in SLOW else 95, 0.06)),
        "p99": _each_minute(lambda minute: 6000 if minute in SLOW else _around(410, 0.2)),
    },
    "QueueAge": {
        "": _each_minute(
            lambda minute: (
                1000 * (60 * (minute - DEAD_KEY[0] + 0.5) if HELD[minute] else 0)
                + _around(21_000 if minute in SLOW else 700, 0.4)
            )
        )
    },
    # Campaigns are called off hours before they leave, appointments often at the last moment.
    "CutOffMargin": {
        "": _each_minute(
            lambda minute: -400 if RELEASED[minute] else min(_around(1500, 0.3), _around(1500, 0.3))
        )
    },
    "ApproximateAgeOfOldestMessage": {
        "": _each_minute(lambda minute: min(95.0, HELD[minute]) + 8 * (minute in SLOW))
    },
    "ApproximateNumberOfMessagesVisible": {
        "DeadLetter": _each_minute(
            lambda minute: sum(DEAD_LETTERED[EMPTIED if minute >= EMPTIED else 0 : minute + 1])
        ),
        "": _each_minute(lambda minute: round(QUEUED[minute] / 40)),
    },
    "ApproximateNumberOfMessagesNotVisible": {
        "": _each_minute(
            lambda minute: HELD[minute] + 12 * (minute in SLOW) + round(QUEUED[minute] / 60)
        )
    },
    "Count": {"": HTTP},
    "4xx": {"": _now_and_then(0.3, 2)},
    "5xx": {"": HTTP_5XX},
    "Invocations": {"Api": HTTP, "Worker": WORKER_STARTS},
    "Duration": {
        "Api": _each_minute(lambda minute: HTTP[minute] * (2600 if minute in SLOW else 120)),
        "Worker": _each_minute(
            lambda minute: WORKER_STARTS[minute] * (2200 if minute in SLOW else 160)
        ),
    },
    "Errors": {"": _each_minute(lambda _: 0)},
    "Throttles": {"": _each_minute(lambda _: 0)},
    "Bugs": {"": _each_minute(lambda _: 0)},
    "AlertPublishFailed": {"": _each_minute(lambda minute: minute == DEAD_KEY[4])},
    "IncomingBytes": {
        "Api": _each_minute(lambda minute: HTTP[minute] * 1450),
        "Worker": _each_minute(lambda minute: (QUEUED[minute] + HELD[minute] / 2) * 930),
    },
}


def sample(metric: str, hints: str) -> list[float]:
    """Return a metric's samples; ``hints``: its dimensions' values and statistic, in one text."""
    for hint, values in SAMPLES[metric].items():
        if hint in hints.split() if metric == "Cancellations" else hint in hints:
            return values
    raise KeyError(f"no samples for {metric} of {hints}")


FAILED = [  # in the order of the log query's fields
    ("16:24:51", "2270391", "timed_out", "", "http", "3", "", "5b0e61d4-…"),
    ("16:24:38", "2270388", "timed_out", "", "queue", "3", "1", "c2d66658-…"),
    ("16:22:07", "2270377", "unavailable", "", "http", "3", "", "91f37a0c-…"),
    ("15:47:09", "2269120", "too_late", "6", "queue", "1", "7", "e47cc1b9-…"),
    ("15:47:08", "2269107", "too_late", "6", "queue", "1", "7", "e47cc1b9-…"),
    ("15:46:58", "2269344", "api_key_rejected", "10", "http", "1", "", "07ad52ee-…"),
]
