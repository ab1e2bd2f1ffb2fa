"""The simulated SMS Partner over HTTP, on 127.0.0.1 only: `with serve(Provider("KEY")) as url:`.

    GET /v1/message-cancel, GET /v1/me    answers as SMS Partner does, or with a planned fault
    GET /messages                         lists the messages, for people:
                                          [{"id": 300, "state": "scheduled", "dueInS": 86400}, ...]
    PUT /messages/300?dueInS=86400        schedules a message, or reschedules it

No request is ever logged, because the key is in its URL.
"""

import contextlib
import functools
import json
import re
import selectors
import socket
import socketserver
import ssl
import struct
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl

from infra.local.provider import Answer, Provider, read_id, render_json, render_xml
from infra.local.provider_faults import (
    FAULTS,
    LONGEST_FAULT_S,
    XML_TYPE,
    End,
    Fault,
    Reply,
    Script,
    Settle,
    fault,
)

__all__ = ["FAULTS", "fault", "serve"]  # what tests import

HOST = "127.0.0.1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = LONGEST_FAULT_S
    server: "_Server"

    def log_message(self, *_: Any) -> None:
        """Write nothing, because the request line contains the API key."""

    def send_error(self, code: int, *_: Any) -> None:
        """Answer what is not HTTP, without echoing it as the base class does."""
        self.close_connection = True
        # The base class uses 501 for an unknown method and 505 for an unknown version.
        self._reply(_refusal(code if code < 500 else 400))

    def _route(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))  # no call has a body
        path, _, query = self.path.partition("?")
        # The last of a repeated parameter counts, as in PHP.
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        message = re.fullmatch("/messages/([0-9]+)", path)
        if (self.command, path) == ("GET", "/v1/message-cancel"):
            self._cancel(parameters)
        elif (self.command, path) == ("GET", "/v1/me"):
            self._me(parameters)
        elif (self.command, path) == ("GET", "/messages"):
            self._reply(self._show_messages())
        elif self.command == "PUT" and message:
            self._reply(self._schedule(message[1], parameters.get("dueInS", "")))
        else:
            self._reply(_refusal(404))

    # The base class looks for these names.
    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = _route  # noqa: N815

    def _cancel(self, parameters: dict[str, str]) -> None:
        provider = self.server.provider
        api_key, message_id = parameters.get("apiKey"), parameters.get("messageId")

        def settle() -> Reply:
            return self._render(provider.cancel(api_key, message_id), parameters.get("_format"))

        self._answer(settle, provider.arrive(read_id(message_id or "")))

    def _me(self, parameters: dict[str, str]) -> None:
        provider = self.server.provider

        def settle() -> Reply:
            return self._render(provider.me(parameters.get("apiKey")), "json")

        self._answer(settle, provider.arrive_at_me())

    def _answer(self, settle: Settle, planned: Fault | None) -> None:
        settle = functools.cache(settle)
        if planned is None:
            self._reply(settle())
            return
        if planned.moment == "after":
            settle()
        self._play(planned.script(settle))

    def _render(self, answer: Answer, style: str | None) -> Reply:
        status = 200 if answer["success"] else self.server.provider.account.refusal_status
        if style is not None and style.lower() == "xml":
            return Reply(status, render_xml(answer), XML_TYPE)
        return Reply(status, render_json(answer))

    def _show_messages(self) -> Reply:
        now = self.server.provider.now()
        shown = [
            {"id": each.id, "state": each.state(now), "dueInS": round(each.send_at - now)}
            for each in self.server.provider.messages()
        ]
        return Reply(body=json.dumps(shown).encode())

    def _schedule(self, text: str, due_in_s: str) -> Reply:
        message_id = read_id(text)
        if message_id is None or not re.fullmatch("[0-9]{1,9}", due_in_s):
            return _refusal(400)
        self.server.provider.schedule(message_id, int(due_in_s))
        return self._show_messages()

    def _reply(self, reply: Reply) -> None:
        if self.request_version != "HTTP/1.1":
            self.close_connection = True
        if self.close_connection:
            reply = replace(reply, headers=(*reply.headers, b"Connection: close"))
        # One write: two packets would be slowed down by Nagle and delayed acknowledgements.
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
        """Wait; return True as soon as the client hangs up, because it sends nothing else now."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            return bool(selector.select(within_s))

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()  # it holds the socket too, which closes only with its last holder
        self.connection.close()


def _refusal(status: int) -> Reply:
    return Reply(status, b'{"error": "no such request"}')


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, provider: Provider, ssl_context: ssl.SSLContext | None) -> None:
        super().__init__((HOST, 0), _Handler)
        self.provider = provider
        self._ssl_context = ssl_context
        self._connections: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._ssl_context is not None:
            # The connection's own thread does the handshake, so that a slow one delays nobody else.
            connection = self._ssl_context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Close the open connections, because a closed server must not answer."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: Any) -> None:
        """Print a bug of ours, without its text, which may hold a key; clients may hang up."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            traceback.print_tb(error.__traceback__)
            print(type(error).__name__, file=sys.stderr)


@contextlib.contextmanager
def serve(provider: Provider, *, ssl_context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve the provider on 127.0.0.1 while the context lasts; yield its URL with `/v1`."""
    with _Server(provider, ssl_context) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            scheme = "http" if ssl_context is None else "https"
            yield f"{scheme}://{HOST}:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            server.hang_up()
