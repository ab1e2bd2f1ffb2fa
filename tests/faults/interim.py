"""Faults of the simulated provider: interim answers (1xx; RFC 9110, 15.2) before the genuine one.

http.client takes all but 100 for the final answer. Who believes it reads the genuine answer later,
as that to another request.
"""

import time
from collections.abc import Callable, Iterator
from http import HTTPStatus

from infra.local.provider_server import Reply

# By then, a client that took the interim answer for the final one has asked for the next id.
LATE_S = 1.0
DRIP_S = 0.3

Script = Callable[[Callable[[], Reply]], Iterator[bytes | float]]


def _head(status: int) -> bytes:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nLink: </a>; rel=next\r\n\r\n".encode()


def _late(status: int) -> Script:
    def script(settle: Callable[[], Reply]) -> Iterator[bytes]:
        yield _head(status)
        time.sleep(LATE_S)  # a wait of the server's own would end with the client's next request
        yield settle().encode()

    return script


def _at_once(settle: Callable[[], Reply]) -> Iterator[bytes]:
    yield _head(102) + _head(103) + settle().encode()


def _dripped(settle: Callable[[], Reply]) -> Iterator[bytes | float]:
    for byte in _head(103) + settle().encode():
        yield bytes([byte])
        yield DRIP_S


def _endless(_: Callable[[], Reply]) -> Iterator[bytes | float]:
    while True:
        yield _head(103)
        yield DRIP_S


INTERIM: dict[str, Script] = {
    **{f"interim_{status}": _late(status) for status in (100, 101, 102, 103)},
    "interim_at_once": _at_once,
    "interim_dripped": _dripped,
    "interim_endless": _endless,
}
# What a cancel must come to: the first five end with the genuine answer, the others never end.
OUTCOMES = dict.fromkeys(INTERIM, "cancelled") | {
    "interim_dripped": "timed_out",
    "interim_endless": "timed_out",
}
