"""What can go wrong between a client and the simulated SMS Partner: the faults, by name.

A fault applies to the next `times` cancel calls (None: all of them), for one message or for any;
with `call="me"`, to the calls of `GET /me`. With the moment "before", the cancel is not executed,
unless the fault passes on the genuine answer (marked * in FAULTS). With "after", the cancel is
executed first, and then its answer is lost or spoilt. A fault ends after LONGEST_FAULT_S, or when
its client hangs up.

    provider.plan(fault("status", status=429, headers={"Retry-After": "7"}))
    provider.plan(fault("close", moment="after", message_id=300, times=2))
"""

import base64
import functools
import gzip
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from http import HTTPStatus
from typing import Any, Literal

LONGEST_FAULT_S = 60.0
JSON_TYPE = "application/json; charset=utf-8"
XML_TYPE = "text/xml; charset=utf-8"
HTML_TYPE = "text/html; charset=utf-8"


@dataclass(frozen=True)
class Reply:
    """One HTTP answer. `headers`: more lines, in bytes, because some faults need broken ones."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON_TYPE
    headers: tuple[bytes, ...] = ()

    def head(self) -> bytes:
        known = self.status in HTTPStatus.__members__.values()
        reason = HTTPStatus(self.status).phrase if known else "Unknown"
        start = f"HTTP/1.1 {self.status} {reason}\r\nContent-Type: {self.content_type}\r\n"
        length = f"Content-Length: {len(self.body)}".encode()
        return b"\r\n".join([start.encode() + length, *self.headers]) + b"\r\n\r\n"

    def encode(self) -> bytes:
        return self.head() + self.body


class End(Enum):
    """How a fault ends the connection. Without one of these, it stays open."""

    CLOSE = "close"
    RESET = "reset"


# A fault is a script for the wire: bytes to send, seconds to wait, an end. It gets a function that
# executes the cancel, the first time it is called, and returns the genuine answer.
Script = Iterator[bytes | float | End]
Settle = Callable[[], Reply]


@dataclass
class Fault:
    """A planned fault; `times` counts down."""

    name: str
    script: Callable[[Settle], Script]
    times: int | None
    message_id: int | None
    moment: Literal["before", "after"]
    call: Literal["cancel", "me"] = "cancel"


def fault(
    name: str,
    *,
    times: int | None = 1,
    message_id: int | None = None,
    moment: Literal["before", "after"] = "before",
    call: Literal["cancel", "me"] = "cancel",
    **parameters: Any,
) -> Fault:
    """Make one of FAULTS, for `Provider.plan`. TypeError: it has no such parameters."""
    if name not in FAULTS:
        raise ValueError(f"the faults are {', '.join(FAULTS)}")
    inspect.signature(FAULTS[name]).bind(Reply, **parameters)  # fails now, not in the server
    script = functools.partial(FAULTS[name], **parameters)
    return Fault(name, script, times, message_id, moment, call)


def _raw(_: Settle, *, data: str = "") -> Script:
    """Send these bytes, given in base64, and close."""
    yield base64.b64decode(data)
    yield End.CLOSE


def _delay(settle: Settle, *, seconds: float = 1.0) -> Script:
    yield seconds
    yield settle().encode()


def _truncated(settle: Settle) -> Script:
    yield settle().encode()[:-10]
    yield End.CLOSE


def _drip_header(settle: Settle, *, interval: float = 1.0) -> Script:
    yield from _drip(settle().encode(), interval)


def _drip_body(settle: Settle, *, interval: float = 1.0) -> Script:
    yield settle().head()
    yield from _drip(settle().body, interval)


def _drip(data: bytes, interval: float) -> Script:
    for byte in data:
        yield bytes([byte])
        yield interval


def _endless_body(_: Settle, *, interval: float = 0.01) -> Script:
    yield f"HTTP/1.1 200 OK\r\nContent-Type: {JSON_TYPE}\r\n".encode()
    yield b"Transfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"400\r\n" + b" " * 0x400 + b"\r\n"
        yield interval


def _status(
    _: Settle,
    *,
    status: int = 503,
    body: str = "",
    content_type: str = "text/html",
    headers: dict[str, str] | None = None,
) -> Script:
    lines = tuple(f"{name}: {value}".encode() for name, value in (headers or {}).items())
    yield Reply(status, body.encode(), content_type, lines).encode()


def _redirect(settle: Settle, *, status: int = 302, location: str = "/") -> Script:
    return _status(settle, status=status, headers={"Location": location})


def _contradiction(_: Settle, *, body: str = '{"success": true, "code": 10}') -> Script:
    yield Reply(body=body.encode()).encode()


# A success after so much white space that no client should believe it.
_SUCCESS = b'{"success": true, "code": 200}'


def _oversized(_: Settle, *, size: int = 1_000_000) -> Script:
    yield Reply(body=_SUCCESS.rjust(size)).encode()


def _gzip_bomb(_: Settle, *, size: int = 16_000_000) -> Script:
    bomb = gzip.compress(_SUCCESS.rjust(size))
    yield Reply(body=bomb, headers=(b"Content-Encoding: gzip",)).encode()


def _many_headers(settle: Settle, *, count: int = 200) -> Script:
    yield replace(settle(), headers=tuple(b"X-Line-%d: 1" % n for n in range(count))).encode()


def _steps(*steps: bytes | float | End) -> Callable[[Settle], Script]:
    return lambda _: iter(steps)


def _fixed(reply: Reply) -> Callable[[Settle], Script]:
    return _steps(reply.encode())


def _spoilt(spoil: Callable[[Reply], Reply]) -> Callable[[Settle], Script]:
    return lambda settle: iter([spoil(settle()).encode()])


_DOCTYPE = (
    b'<?xml version="1.0"?><!DOCTYPE result [<!ENTITY code "200">]>'
    b"<result><entry>true</entry><entry>&code;</entry><entry>ok</entry></result>"
)

FAULTS: dict[str, Callable[..., Script]] = {
    # No answer, or half of one.
    "close": _steps(End.CLOSE),
    "reset": _steps(End.RESET),
    "silence": _steps(LONGEST_FAULT_S, End.CLOSE),
    "truncated": _truncated,  # *
    # Late, or byte by byte.
    "delay": _delay,  # *
    "drip_header": _drip_header,  # *
    "drip_body": _drip_body,  # *
    "endless_body": _endless_body,
    # A different answer.
    "status": _status,
    "redirect": _redirect,
    "bad_location": _fixed(Reply(302, headers=(b"Location: /\xff\xfe\xe9",))),
    "contradiction": _contradiction,
    "wrong_types": _fixed(Reply(body=b'{"success": "true", "code": "200"}')),
    "html": _fixed(
        Reply(body=b"<!DOCTYPE html><title>Maintenance</title>", content_type=HTML_TYPE)
    ),
    "empty": _fixed(Reply()),
    # What breaks a parser.
    "raw": _raw,
    "garbage_status_line": _steps(b"\x16\x03 no HTTP at all\r\n\r\n", End.CLOSE),
    "garbage_body": _fixed(Reply(body=bytes(range(256)))),
    "malformed_header": _spoilt(  # *
        lambda reply: replace(reply, headers=(b"a line without a colon",))
    ),
    "many_headers": _many_headers,  # *
    "bom": _spoilt(lambda reply: replace(reply, body=b"\xef\xbb\xbf" + reply.body)),  # *
    "nul": _spoilt(lambda reply: replace(reply, body=b"\0" + reply.body + b"\0")),  # *
    "oversized": _oversized,
    "gzip_bomb": _gzip_bomb,
    "deep_json": _fixed(Reply(body=b"[" * 16_384)),
    "huge_number": _fixed(Reply(body=b'{"success": false, "code": ' + b"9" * 5000 + b"}")),
    "doctype": _fixed(Reply(body=_DOCTYPE, content_type=XML_TYPE)),
}
