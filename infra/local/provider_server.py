"""The simulated SMS Partner over HTTP, on 127.0.0.1 only, with faults on demand.

    SIMULATOR_API_KEY=... python -m infra.local.provider_server --port 8025

prints its URL when it is ready and runs until SIGINT or SIGTERM; in a test it is
`with serve(Provider("KEY")) as url:`. No request is ever logged: the key is in its URL.

Control, for other processes (JSON in and out; never shows the key; 400 and `error` if refused):

    GET    /_simulator/messages  {"messages": [{"id": 300, "state": "scheduled", "dueInS": 3600.0,
                                 "recipients": 1}]}; states: scheduled, cancelled, sent
    POST   /_simulator/messages  {"id": 300, "dueInS": 3600, "recipients": ["+33600000000"]}
                                 (recipients optional): the message, as above
    GET    /_simulator/account   {"credits": 1000, "status": "active", "refusalStatus": 200}
    PUT    /_simulator/account   any of these and "apiKey"; status: active, deactivated, blocked,
                                 denied, ip_refused
    POST   /_simulator/clock     {"advanceS": 3600}: {"now": Unix seconds}
    GET    /_simulator/faults    {"faults": [{"name": ..., "times": 1, "messageId": null,
                                 "moment": "before"}]}
    POST   /_simulator/faults    {"name": "delay", "seconds": 2}: the line as above. Optional:
                                 times (default 1, null for ever), messageId, moment
    GET    /_simulator/calls     {"cancels": 3, "byMessageId": {"300": 2}}
    POST   /_simulator/reset     {}: everything as at the start

Faults apply to cancel calls. Moment "before": the cancel is not executed, unless the fault passes
its genuine answer on (marked *). Moment "after": it is executed first, then its answer is lost or
spoilt. No fault lasts longer than 60 s or outlives its client.

    delay*(seconds=1.0)   silence()   close()   reset()   truncated*()
    drip_header*(interval=1.0)   drip_body*(interval=1.0)   endless_body(interval=0.01)
    status(status=503, body="", content_type="text/html", headers={})
    redirect(status=302, location="/")
    contradiction(body='{"success": true, "code": 10}')   oversized(size=1000000)
    gzip_bomb(size=16000000)   malformed_header*()   many_headers*(count=200)   bom*()   nul*()
    raw(data="base64 of bytes that are sent as they are, before the connection is closed")
    and without parameters: garbage_status_line, garbage_body, html, empty, bad_location,
    deep_json, huge_number, wrong_types, doctype
"""

from __future__ import annotations

import argparse
import base64
import binascii
import contextlib
import functools
import gzip
import inspect
import json
import os
import re
import selectors
import signal
import socket
import socketserver
import ssl
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl

from infra.local.provider import Fault, Message, Provider, read_id, render_json, render_xml

HOST = "127.0.0.1"
LONGEST_FAULT_S = 60.0
LONGEST_BODY_BYTES = 1_000_000
JSON_TYPE = "application/json; charset=utf-8"
XML_TYPE = "text/xml; charset=utf-8"
HTML_TYPE = "text/html; charset=utf-8"


@dataclass(frozen=True)
class Reply:
    """One HTTP answer. `headers`: further lines, in bytes, since some faults need broken ones."""

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
    """How a fault ends the connection; one that does not leaves it open for the next request."""

    CLOSE = "close"
    RESET = "reset"


# A fault is a script of what happens on the wire: bytes to send, seconds to wait, an end. It is
# given a function that executes the cancel, once, and returns its genuine answer.
Script = Iterator[bytes | float | End]
Settle = Callable[[], Reply]


def _raw(_: Settle, *, data: str = "") -> Script:
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
    headers: dict[str, str] = {},  # noqa: B006 (read only: the defaults are the documentation)
) -> Script:
    lines = tuple(f"{name}: {value}".encode(errors="replace") for name, value in headers.items())
    yield Reply(status, body.encode(errors="replace"), content_type, lines).encode()


def _redirect(settle: Settle, *, status: int = 302, location: str = "/") -> Script:
    yield from _status(settle, status=status, headers={"Location": location})


def _contradiction(_: Settle, *, body: str = '{"success": true, "code": 10}') -> Script:
    yield Reply(body=body.encode(errors="replace")).encode()


# A success that nobody should believe, at the far end of too much white space.
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
    "raw": _raw,
    "close": _steps(End.CLOSE),
    "reset": _steps(End.RESET),
    "silence": _steps(LONGEST_FAULT_S, End.CLOSE),
    "delay": _delay,
    "truncated": _truncated,
    "drip_header": _drip_header,
    "drip_body": _drip_body,
    "endless_body": _endless_body,
    "status": _status,
    "redirect": _redirect,
    "contradiction": _contradiction,
    "oversized": _oversized,
    "gzip_bomb": _gzip_bomb,
    "many_headers": _many_headers,
    "malformed_header": _spoilt(lambda reply: replace(reply, headers=(b"a line without a colon",))),
    "bom": _spoilt(lambda reply: replace(reply, body=b"\xef\xbb\xbf" + reply.body)),
    "nul": _spoilt(lambda reply: replace(reply, body=b"\0" + reply.body + b"\0")),
    "garbage_status_line": _steps(b"\x16\x03 no HTTP at all\r\n\r\n", End.CLOSE),
    "garbage_body": _fixed(Reply(body=bytes(range(256)))),
    "html": _fixed(
        Reply(body=b"<!DOCTYPE html><title>Maintenance</title>", content_type=HTML_TYPE)
    ),
    "empty": _fixed(Reply()),
    "bad_location": _fixed(Reply(302, headers=(b"Location: /\xff\xfe\xe9",))),
    "deep_json": _fixed(Reply(body=b"[" * 16_384)),
    "huge_number": _fixed(Reply(body=b'{"success": false, "code": ' + b"9" * 5000 + b"}")),
    "wrong_types": _fixed(Reply(body=b'{"success": "true", "code": "200"}')),
    "doctype": _fixed(Reply(body=_DOCTYPE, content_type=XML_TYPE)),
}


def fault(
    name: str,
    *,
    times: int | None = 1,
    message_id: int | None = None,
    moment: Literal["before", "after"] = "before",
    **parameters: Any,
) -> Fault:
    """Make one of the faults of the module's docstring, for `Provider.plan`.

    Raises ValueError for an unknown name, and for a parameter that the fault does not take.
    """
    if name not in FAULTS:
        raise ValueError(f"the faults are {', '.join(FAULTS)}")
    if times is not None and (type(times) is not int or times < 1):
        raise ValueError("times must be an integer from 1, or null for ever")
    if message_id is not None and type(message_id) is not int:
        raise ValueError("the message id must be an integer, or null for any")
    if moment not in ("before", "after"):
        raise ValueError('moment must be "before" or "after"')
    defaults = {p.name: p.default for p in inspect.signature(FAULTS[name]).parameters.values()}
    for key, value in parameters.items():
        _check_parameter(key, value, defaults.get(key))
    return Fault(name, functools.partial(FAULTS[name], **parameters), times, message_id, moment)


def _check_parameter(key: str, value: Any, default: Any) -> None:
    if default in (None, inspect.Parameter.empty):
        raise ValueError("the fault does not take one of these parameters")
    number = type(value) in (int, float) and type(default) is float
    if not number and type(value) is not type(default):
        raise ValueError(f"{key} must be a {type(default).__name__}")
    if type(value) in (int, float) and not 0 <= value <= 100_000_000:
        raise ValueError(f"{key} must be from 0 to 100000000")
    if key == "data":
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("data must be base64") from None


def _show_message(message: Message, now: float) -> dict[str, Any]:
    return {
        "id": message.id,
        "state": message.state(now),
        "dueInS": round(message.send_at - now, 3),
        "recipients": len(message.recipients),
    }


def _show_fault(planned: Fault) -> dict[str, Any]:
    return {
        "name": planned.name,
        "times": planned.times,
        "messageId": planned.message_id,
        "moment": planned.moment,
    }


def _list_messages(provider: Provider, _: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [_show_message(m, provider.now()) for m in provider.messages()]}


def _add_message(provider: Provider, order: dict[str, Any]) -> dict[str, Any]:
    message_id, due_in_s = order.get("id"), order.get("dueInS")
    recipients = order.get("recipients", ["+33600000000"])
    if type(message_id) is not int or read_id(str(message_id)) is None:
        raise ValueError("id must be an integer of 1 to 20 digits")
    if type(recipients) is not list:
        raise ValueError("recipients must be a list")
    message = provider.schedule(message_id, _read_seconds(due_in_s, "dueInS"), recipients)
    return _show_message(message, provider.now())


def _show_account(provider: Provider, _: dict[str, Any]) -> dict[str, Any]:
    account = provider.account
    return {
        "credits": account.credits,
        "status": account.status,
        "refusalStatus": account.refusal_status,
    }


def _set_account(provider: Provider, order: dict[str, Any]) -> dict[str, Any]:
    names = {
        "apiKey": "api_key",
        "credits": "credits",
        "status": "status",
        "refusalStatus": "refusal_status",
    }
    if not names.keys() >= order.keys():
        raise ValueError(f"an account has {', '.join(names)}")
    provider.configure(**{names[key]: value for key, value in order.items()})
    return _show_account(provider, order)


def _move_clock(provider: Provider, order: dict[str, Any]) -> dict[str, Any]:
    provider.advance(_read_seconds(order.get("advanceS"), "advanceS"))
    return {"now": provider.now()}


def _list_faults(provider: Provider, _: dict[str, Any]) -> dict[str, Any]:
    return {"faults": [_show_fault(planned) for planned in list(provider.faults)]}


def _add_fault(provider: Provider, order: dict[str, Any]) -> dict[str, Any]:
    parameters = {key: value for key, value in order.items() if key not in ("name", "messageId")}
    planned = fault(str(order.get("name")), message_id=order.get("messageId"), **parameters)
    provider.plan(planned)
    return _show_fault(planned)


def _show_calls(provider: Provider, _: dict[str, Any]) -> dict[str, Any]:
    calls = provider.calls.copy()
    by_message_id = {str(key): count for key, count in calls.items() if key is not None}
    return {"cancels": calls.total(), "byMessageId": by_message_id}


def _reset_everything(provider: Provider, _: dict[str, Any]) -> dict[str, Any]:
    provider.reset()
    return {}


def _read_seconds(value: Any, name: str) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not abs(value) <= 1e9:  # also false of NaN
        raise ValueError(f"{name} must be a number of seconds")
    return float(value)


CONTROL: dict[str, dict[str, Callable[[Provider, dict[str, Any]], dict[str, Any]]]] = {
    "/_simulator/messages": {"GET": _list_messages, "POST": _add_message},
    "/_simulator/account": {"GET": _show_account, "PUT": _set_account},
    "/_simulator/clock": {"POST": _move_clock},
    "/_simulator/faults": {"GET": _list_faults, "POST": _add_fault},
    "/_simulator/calls": {"GET": _show_calls},
    "/_simulator/reset": {"POST": _reset_everything},
}
API = {"/v1/send": ["POST"], "/v1/message-cancel": ["GET"]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = LONGEST_FAULT_S
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Write nothing: the request line holds the API key."""

    def send_error(self, code: int, *_: Any) -> None:
        """Answer a request that is no HTTP, without the base class's echo of it."""
        self.close_connection = True
        # The base class has 501 for an unknown method and 505 for an unknown version.
        self._reply_json({501: 405, 505: 400}.get(code, code), {"error": "no such request"})

    def _route(self) -> None:
        body = self._read_body()
        path, _, query = self.path.partition("?")
        # The last of a repeated parameter counts, as in PHP.
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        methods = API.get(path) or CONTROL.get(path)
        if body is None:
            self._reply_json(400, {"error": "the body needs a Content-Length, of 1 MB at most"})
        elif methods is None:
            self._reply_json(404, {"error": "not found"})
        elif self.command not in methods:
            allow = f"Allow: {', '.join(methods)}".encode()
            self._reply(Reply(405, b'{"error": "method not allowed"}', headers=(allow,)))
        elif path == "/v1/send":
            self._send(parameters, body)
        elif path == "/v1/message-cancel":
            self._cancel(parameters)
        else:
            self._control(path, body)

    # The base class looks for these names.
    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = _route  # noqa: N815

    def _read_body(self) -> bytes | None:
        """Read the request body; None (and no next request) where it has no usable length."""
        length = self.headers.get("Content-Length", "0")
        usable = re.fullmatch(r"[0-9]{1,9}", length) and "Transfer-Encoding" not in self.headers
        if usable and int(length) <= LONGEST_BODY_BYTES:
            return self.rfile.read(int(length))
        self.close_connection = True
        return None

    def _send(self, parameters: dict[str, str], body: bytes) -> None:
        fields = _read_object(body)
        style = parameters.get("_format") or fields.get("_format")
        self._reply(self._render(self.server.provider.send(fields), style))

    def _cancel(self, parameters: dict[str, str]) -> None:
        provider = self.server.provider
        api_key, message_id = parameters.get("apiKey"), parameters.get("messageId")

        @functools.cache
        def settle() -> Reply:
            return self._render(provider.cancel(api_key, message_id), parameters.get("_format"))

        planned = provider.arrive(read_id(message_id or ""))
        if planned is None:
            self._reply(settle())
            return
        if planned.moment == "after":
            settle()
        self._play(planned.script(settle))

    def _render(self, answer: dict[str, Any], style: object) -> Reply:
        status = 200 if answer["success"] else self.server.provider.account.refusal_status
        if str(style).lower() == "xml":
            return Reply(status, render_xml(answer), XML_TYPE)
        return Reply(status, render_json(answer), JSON_TYPE)

    def _control(self, path: str, body: bytes) -> None:
        try:
            answer = CONTROL[path][self.command](self.server.provider, _read_object(body))
        except (ValueError, TypeError) as error:
            # Our own sentences repeat no value, which may be a key; Python's (TypeError) might.
            sentence = isinstance(error, ValueError)
            text = str(error) if sentence else "a field is unknown, or of the wrong type"
            self._reply_json(400, {"error": text})
        else:
            self._reply_json(200, answer)

    def _reply_json(self, status: int, body: dict[str, Any]) -> None:
        self._reply(Reply(status, json.dumps(body).encode()))

    def _reply(self, reply: Reply) -> None:
        if self.request_version != "HTTP/1.1":
            self.close_connection = True
        if self.close_connection:
            reply = replace(reply, headers=(*reply.headers, b"Connection: close"))
        # One write: a head and a body in two packets meet Nagle and delayed acknowledgements.
        self.wfile.write(reply.head() if self.command == "HEAD" else reply.encode())

    def _play(self, script: Script) -> None:
        end_at = time.monotonic() + LONGEST_FAULT_S
        for step in script:
            left_s = end_at - time.monotonic()
            if isinstance(step, bytes):
                self.wfile.write(step)
            elif isinstance(step, End) or left_s <= 0 or self._client_goes(min(step, left_s)):
                self.close_connection = True
                if step is End.RESET:
                    self._reset()
                return

    def _client_goes(self, within_s: float) -> bool:
        """Wait; true as soon as the client hangs up, the only thing it can have to say by now."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            return bool(selector.select(within_s))

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()  # it holds the socket, which closes with the last of its holders
        self.connection.close()


def _read_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object; whatever else the body is counts as an empty one."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, provider: Provider, port: int, ssl_context: ssl.SSLContext | None) -> None:
        super().__init__((HOST, port), _Handler)
        self.provider = provider
        self._ssl_context = ssl_context
        self._connections: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._ssl_context is not None:
            # The handshake waits for the connection's own thread: a slow one stops nobody else.
            connection = self._ssl_context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that are open, so that a closed simulator answers nobody."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: Any) -> None:
        """Name a bug of ours, without the values in its text; clients may go as they please."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            traceback.print_tb(error.__traceback__)
            print(type(error).__name__, file=sys.stderr)


@contextlib.contextmanager
def serve(
    provider: Provider, port: int = 0, ssl_context: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Serve the provider on 127.0.0.1 while the context lasts; gives its URL, up to `/v1`."""
    with _Server(provider, port, ssl_context) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            scheme = "http" if ssl_context is None else "https"
            yield f"{scheme}://{HOST}:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            server.hang_up()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="A simulated SMS Partner, on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=8025, help="0: any free one (default: 8025)")
    parser.add_argument("--api-key-file", type=Path, help="default: $SIMULATOR_API_KEY")
    options = parser.parse_args(arguments)
    if options.api_key_file is not None:
        api_key = options.api_key_file.read_text().strip()
    else:
        api_key = os.environ.get("SIMULATOR_API_KEY", "").strip()
    if not api_key:
        parser.error("the API key is missing: give --api-key-file, or set SIMULATOR_API_KEY")
    stop = threading.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda *_: stop.set())
    with serve(Provider(api_key), options.port) as url:
        print(url, flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
