"""A hard end for one HTTP call, whatever the other side does.

``timeout=`` of an HTTP library bounds one read: a peer that drips byte by byte keeps the call
alive for ever. Here a timer shuts the socket down, which ends every read, write and handshake.
"""

import os
import socket
import ssl
import threading
import time
from contextlib import suppress
from heapq import heappop, heappush
from types import TracebackType
from typing import Any, Self

from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

MAX_IDLE_S = 30  # of a kept connection

_thread = threading.local()


class _Watchdog:
    """Expires deadlines from one thread: a thread for each call would cost a fifth of its CPU."""

    def __init__(self) -> None:
        self._pending: list[tuple[float, int, Deadline]] = []  # a heap, the next to end first
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, deadline: "Deadline", seconds: float) -> None:
        with self._changed:
            entry = (time.monotonic() + seconds, id(deadline), deadline)
            heappush(self._pending, entry)
            if self._thread is None:
                thread = threading.Thread(target=self._run, daemon=True)
                thread.start()
                self._thread = thread  # only now: without a thread no call would ever end
            elif self._pending[0] is entry:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                left_s = self._pending[0][0] - time.monotonic() if self._pending else None
                if left_s is None or left_s > 0:
                    self._changed.wait(left_s)
                    continue
                _, _, deadline = heappop(self._pending)
            deadline.expire()


_watchdog = _Watchdog()


class Deadline:
    """Bounds the calls made through a ``DeadlineAdapter`` inside the ``with`` block.

    ``expired`` says that time ran out; ``connected`` that the request may have left, so that
    the other side may have acted on it.
    """

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self.connected = False
        self._seconds = seconds
        self._ended = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        _thread.deadline = self
        _watchdog.add(self, self._seconds)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._ended = True
            self._drop()
        _thread.deadline = None

    def expire(self) -> None:
        """End the call: shut its socket down, now or as soon as it has one."""
        with self._lock:
            if not self._ended:
                self.expired = True
                self._shut_down()

    def watch(self, sock: socket.socket) -> None:
        """Take charge of the socket that the call runs on."""
        with self._lock:
            self._drop()
            # A duplicate, because TLS empties the socket object it wraps, and an answer with
            # `Connection: close` drops it while the body is still to be read.
            self._socket = socket.socket(fileno=os.dup(sock.fileno()))
            if self.expired:
                self._shut_down()

    def _shut_down(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # the peer may have gone first
                self._socket.shutdown(socket.SHUT_RDWR)

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _WatchedConnection(HTTPConnection):
    _used_at = 0.0  # by the wall clock: the other may stand still while Lambda freezes us

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        _thread.deadline.watch(sock)
        return sock

    def connect(self) -> None:
        super().connect()
        _thread.deadline.connected = True
        self._used_at = time.time()

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None and not _thread.deadline.connected:  # kept from an earlier call
            _thread.deadline.watch(self.sock)
            _thread.deadline.connected = True
        super().request(*args, **kwargs)
        self._used_at = time.time()

    @property
    def is_connected(self) -> bool:
        """True if the connection, kept from an earlier call, can carry another."""
        # On the way to the provider it may have been forgotten by now, without a word to us.
        return time.time() - self._used_at < MAX_IDLE_S and self._is_open()

    def _is_open(self) -> bool:
        return super().is_connected


class _WatchedTLSConnection(_WatchedConnection, HTTPSConnection):
    sock: ssl.SSLSocket | None

    def _is_open(self) -> bool:
        # What waits to be read on a new connection may be its session tickets: not its end, as
        # urllib3 thinks.
        if self.sock is None:
            return False
        self.sock.settimeout(0)
        try:
            self.sock.recv(1)
        except OSError as error:
            return isinstance(error, ssl.SSLWantReadError)
        finally:
            self.sock.settimeout(self.timeout)
        return False  # it ended, or a byte came that nobody asked for


class _Pool(HTTPConnectionPool):
    ConnectionCls = _WatchedConnection

    def connect(self, timeout_s: float) -> None:
        connection = self._get_conn()
        connection.timeout = timeout_s
        connection.connect()
        self._put_conn(connection)


class _TLSPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _WatchedTLSConnection


class DeadlineAdapter(HTTPAdapter):
    """A requests adapter whose calls must run inside a ``Deadline``."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def connect(self, request: PreparedRequest, verify: bool | str, timeout_s: float) -> None:
        """Open the connection that a request will need, and keep it for the first that comes."""
        pool: Any = self.get_connection_with_tls_context(request, verify)
        self.cert_verify(pool, str(request.url), verify, None)
        pool.connect(timeout_s)
