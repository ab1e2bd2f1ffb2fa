"""In which order a recall sends its ids, and in which requests."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from math import inf
from typing import NamedTuple

from .times import CUT_OFF

CHUNK = 1000  # ids in a request: the API takes no more
# If send times differ, requests are smaller and fewer are in flight, so that at most a thousand ids
# at a time may reach the queue out of order.
ORDERED_CHUNK, ORDERED_AT_ONCE = 250, 4
AT_ONCE = 8  # requests in flight; the API allows a hundred
# The ids of a request share one sendAt, the earliest of theirs. For the others it is too early by
# at most this share of the time left, or by a minute if that is more.
SPREAD, SPREAD_S = 0.1, 60


class Request(NamedTuple):
    """Ids that are sent together; ``send_at``: when the first of their SMS goes out."""

    ids: list[str]
    send_at: datetime | None


class Plan:
    """The ids in the order in which they are tried: the earliest cut-off first.

    Those whose cut-off is past at ``now_s`` come last, because they cannot be in time any more.
    ``cut_offs``: Unix seconds, inf for an id without a send time.
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
        """How many requests may be in flight."""
        return ORDERED_AT_ONCE if self.is_ordered else AT_ONCE

    def past(self) -> list[str]:
        """Return the ids whose cut-off is already past, the earliest first."""
        return [each for each, cut_off in self.cut_offs.items() if cut_off <= self.now_s]

    def recall_id(self, api_url: str) -> str:
        """Return an id that is the same in each run of a recall, so that runs share outcomes."""
        times = {each: time and time.astimezone(UTC) for each, time in self.send_at.items()}
        rows = sorted(f"{each} {time and time.isoformat()}" for each, time in times.items())
        return hashlib.sha256("\n".join([api_url, *rows]).encode()).hexdigest()[:32]

    def requests(self) -> Iterator[Request]:
        """Yield the requests in order; ids past their cut-off are sent without a time.

        The API refuses a time in the past, and a negative margin is of no use.
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
