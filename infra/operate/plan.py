"""What a recall asks for, in which order, and in which requests."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from math import inf
from typing import NamedTuple

from .times import CUT_OFF

CHUNK = 1000  # the most that the API takes
# Where times differ, requests are smaller and fewer are under way, so that no more than a thousand
# ids are on their way to the queue in any order.
ORDERED_CHUNK, ORDERED_AT_ONCE = 250, 4
AT_ONCE = 8  # requests to the API, which lets a hundred through
# The ids of a request share its sendAt, the earliest of theirs. It is early by no more than this
# share of the time left, or a minute.
SPREAD, SPREAD_S = 0.1, 60


class Request(NamedTuple):
    """Ids that are sent together; ``send_at``: when the first of them leaves."""

    ids: list[str]
    send_at: datetime | None


class Plan:
    """The ids in the order in which they are tried: the earliest cut-off first.

    What is past its cut-off at ``now_s`` comes last, because it cannot be in time any more; an id
    without a time is due at no time. ``cut_offs``: Unix seconds.
    """

    def __init__(self, send_at: dict[str, datetime | None], now_s: float) -> None:
        cut_offs = {each: _cut_off(time) for each, time in send_at.items()}
        ids = sorted(send_at, key=lambda each: (cut_offs[each] <= now_s, cut_offs[each]))
        self.send_at = {each: send_at[each] for each in ids}
        self.cut_offs = {each: cut_offs[each] for each in ids}
        self.now_s = now_s
        self.is_ordered = len(set(cut_offs.values())) > 1

    @property
    def ids(self) -> list[str]:
        return list(self.send_at)

    @property
    def at_once(self) -> int:
        """How many requests may be under way."""
        return ORDERED_AT_ONCE if self.is_ordered else AT_ONCE

    def past(self) -> list[str]:
        """Return what is past its cut-off already, the earliest first."""
        return [each for each, cut_off in self.cut_offs.items() if cut_off <= self.now_s]

    def recall_id(self, api_url: str) -> str:
        """Return the same id for the same recall: a second run follows the first's outcomes."""
        times = {each: time and time.astimezone(UTC) for each, time in self.send_at.items()}
        rows = sorted(f"{each} {time and time.isoformat()}" for each, time in times.items())
        return hashlib.sha256("\n".join([api_url, *rows]).encode()).hexdigest()[:32]

    def requests(self) -> Iterator[Request]:
        """Yield the requests in their order. What is past its cut-off is without its time.

        The API refuses a time in the past, and a negative margin helps nobody.
        """
        size = ORDERED_CHUNK if self.is_ordered else CHUNK
        chunk, until = Request([], None), inf
        for each, cut_off in self.cut_offs.items():
            due = cut_off if cut_off > self.now_s else inf
            if chunk.ids and (due > until or len(chunk.ids) == size):
                yield chunk
                chunk = Request([], None)
            if not chunk.ids:
                chunk = Request([], None if due == inf else self.send_at[each])
                until = due + max(SPREAD_S, SPREAD * (due - self.now_s))
            chunk.ids.append(each)
        yield chunk


def _cut_off(send_at: datetime | None) -> float:
    return (send_at - CUT_OFF).timestamp() if send_at else inf
