"""A hard end for one HTTP call, whatever the other side does.

``timeout=`` of an HTTP library bounds one read: a peer that drips byte by byte keeps the call
alive for ever. Here a timer shuts the socket down, which ends every read, write and handshake.
"""

import os
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

_thread = threading.local()


class Deadline:
    """Bounds the calls made through a ``DeadlineAdapter`` inside the ``with`` block.

    ``expired`` says that time ran out; ``connected`` that the request may have left, so that
    the other side may have acted on it.
    """

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self.connected = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        _thread.deadline = self
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        with self._lock:
            self._drop()
        _thread.deadline = None

    def watch(self, sock: socket.socket) -> None:
        """Take charge of the socket that the call runs on."""
        with self._lock:
            self._drop()
            # A duplicate, because TLS empties the socket object it wraps, and an answer with
            # `Connection: close` drops it while the body is still to be read.
            self._socket = socket.socket(fileno=os.dup(sock.fileno()))
            if self.expired:
                self._shut_down()

    def _expire(self) -> None:
        with self._lock:
            self.expired = True
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
    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        _thread.deadline.watch(sock)
        return sock

    def connect(self) -> None:
        super().connect()
        _thread.deadline.connected = True

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None and not _thread.deadline.connected:  # kept from an earlier call
            _thread.deadline.watch(self.sock)
            _thread.deadline.connected = True
        super().request(*args, **kwargs)


class _WatchedTLSConnection(_WatchedConnection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _WatchedConnection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedTLSConnection


class DeadlineAdapter(HTTPAdapter):
    """A requests adapter whose calls must run inside a ``Deadline``."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
