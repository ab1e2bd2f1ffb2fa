"""HTTP connections on which one deadline ends the whole call, whatever the other side does.

``timeout=`` of an HTTP library bounds one read, so a peer that sends byte by byte keeps the call
alive for ever. The sockets here give each operation only the time that is left for the call.
"""

import http.client
import socket
import ssl
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import certifi
from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.ssl_ import create_urllib3_context

MAX_IDLE_S = 30  # of a kept connection, because NAT gateways drop idle ones silently
ADDRESS_SHARES = 3  # each address gets a third of the call: two dead ones leave time for another

# The build splits certifi's file, because OpenSSL takes 15 ms of CPU to read all of it.
CA_FOLDER = Path(__file__).parents[1] / "ca-certificates"


class Call(threading.local):
    """The call that the current thread is making; ``sent``: the other side may have seen it."""

    ends_at = 0.0  # of time.monotonic
    sent = False
    connection: Any = None  # held until its answer is known, then given back
    give_back: Any = None

    def begin(self, seconds: float) -> None:
        """Start a call of this thread that must end within ``seconds``."""
        self.ends_at, self.sent, self.connection = time.monotonic() + seconds, False, None

    def left_s(self) -> float:
        """Return the seconds left; raise TimeoutError if there are none."""
        if (left_s := self.ends_at - time.monotonic()) > 0:
            return left_s
        raise TimeoutError

    def end(self, *, keep: bool) -> None:
        """Keep the connection for another call, or close it."""
        if self.connection is not None and keep:
            self.connection.kept_at = time.time()
            self.give_back(self.connection)
        elif self.connection is not None:
            self.connection.close()


call = Call()


class _Socket(socket.socket):
    def sendall(self, *args: Any) -> None:
        self.settimeout(call.left_s())
        call.sent = True
        super().sendall(*args)

    def recv_into(self, *args: Any) -> int:
        self.settimeout(call.left_s())
        return super().recv_into(*args)


class _TLSSocket(_Socket, ssl.SSLSocket): ...


class _Response(http.client.HTTPResponse):
    def _read_status(self) -> tuple[str, int, str]:
        """Skip interim answers (RFC 9110, 15.2): http.client takes all but 100 for final."""
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status >= 200:
                return version, status, reason
            http.client.parse_headers(self.fp)

    def _close_conn(self) -> None:
        """Shut down a connection that received more than this answer, because it is out of step."""
        ends_at, call.ends_at = call.ends_at, 0.0  # peek only at what was received
        with suppress(OSError):
            if self.fp.peek():
                self.fp.raw._sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]  # noqa: SLF001
        call.ends_at = ends_at
        super()._close_conn()  # type: ignore[misc]


class _Connection(HTTPConnection):
    response_class = _Response
    kept_at = 0.0  # wall clock: a monotonic clock may stop while Lambda freezes the process

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that answers; RES_OPTIONS in template.yaml bounds DNS."""
        share_s = call.left_s() / ADDRESS_SHARES
        for *kind, _, address in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
            # On a host without IPv6, _Socket raises OSError too.
            with suppress(OSError), ExitStack() as on_failure:
                sock = on_failure.enter_context(_Socket(*kind))
                sock.settimeout(min(share_s, call.left_s()))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(call.left_s())  # for the TLS handshake, which CPython bounds whole
                on_failure.pop_all()
                return sock
        raise OSError("no address answered")

    @property
    def is_connected(self) -> bool:
        """True if a kept connection can carry another call."""
        if self.sock is None or time.time() - self.kept_at >= MAX_IDLE_S:
            return False
        self.sock.settimeout(0)
        try:
            self.sock.recv(1)
        except OSError as error:  # nothing, or TLS session tickets: still open
            return isinstance(error, BlockingIOError | ssl.SSLWantReadError)
        return False  # closed, or unsolicited data


class _TLSConnection(_Connection, HTTPSConnection): ...


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection

    def _put_conn(self, conn: Any) -> None:
        # Held until Call.end: a connection that is out of step must not return to the pool.
        call.connection, call.give_back = conn, super()._put_conn


class _TLSPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class Adapter(HTTPAdapter):
    """A requests adapter whose connections obey the deadline of ``call``."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        context = create_urllib3_context()
        roots = {"capath": CA_FOLDER} if CA_FOLDER.is_dir() else {"cafile": certifi.where()}
        context.load_verify_locations(**roots)
        context.sslsocket_class = _TLSSocket
        super().init_poolmanager(*args, ssl_context=context, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def cert_verify(self, *args: Any) -> None:
        """Do nothing: the context has the roots, and requests would load them per connection."""

    def connect(self, request: PreparedRequest) -> None:
        """Open the connection that a request will need."""
        pool: Any = self.get_connection_with_tls_context(request, verify=True)
        connection = pool._get_conn()  # noqa: SLF001
        connection.connect()
        pool._put_conn(connection)  # noqa: SLF001
        call.end(keep=True)
