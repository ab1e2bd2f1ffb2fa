"""SMS Partner and AWS over TLS on loopback, in a process of their own.

    python -m tests.bench.loopback CERTIFICATE --latency 100 --round-trip 0

prints its two ports, the provider's and AWS's. The provider thinks for ``--latency``
milliseconds and then says "cancelled"; every byte to or from it is under way for half of
``--round-trip``. AWS has one secret and answers at once.
"""

import argparse
import asyncio
import json
import ssl
from functools import partial

API_KEY = "a-key-for-the-benchmark-only"
CANCELLED = {"success": True, "code": 200, "message": "L'envoi du SMS a été annulé."}
SECRET = {"ARN": "arn", "Name": "key", "SecretString": API_KEY, "VersionId": "1"}


class Server(asyncio.Protocol):
    """HTTP/1.1 with kept connections: the same answer to every request, after a while."""

    def __init__(self, answer: dict[str, object], latency_s: float) -> None:
        body = json.dumps(answer).encode()
        self._answer = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
        ) % (len(body), body)
        self._latency_s = latency_s
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        _, has_body, length = head.lower().partition(b"content-length:")
        if end and len(body) >= (int(length.split(b"\r\n")[0]) if has_body else 0):
            self._received = b""
            asyncio.get_running_loop().call_later(self._latency_s, self._send)

    def _send(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(self._answer)


async def relay(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, delay_s: float
) -> None:
    """Pass on what comes in over a connection to a port, and back, each way after a delay."""
    there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.gather(
        _pass_on(reader, there_writer, delay_s), _pass_on(there_reader, writer, delay_s)
    )


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float
) -> None:
    loop = asyncio.get_running_loop()
    try:
        while data := await reader.read(65536):
            loop.call_later(delay_s, writer.write, data)
    except OSError:
        pass
    loop.call_later(delay_s, writer.close)


async def serve(certificate: str, latency_s: float, round_trip_s: float) -> None:
    """Serve until the process is ended."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    answers = ((CANCELLED, latency_s), (SECRET, 0.0))
    servers = [
        await loop.create_server(partial(Server, *answer), "127.0.0.1", 0, ssl=tls, backlog=1024)
        for answer in answers
    ]
    provider_port, aws_port = (server.sockets[0].getsockname()[1] for server in servers)
    if round_trip_s:
        wire = await asyncio.start_server(
            partial(relay, port=provider_port, delay_s=round_trip_s / 2), "127.0.0.1", 0
        )
        provider_port = wire.sockets[0].getsockname()[1]
    print(provider_port, aws_port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("certificate", help="a file with the private key and the certificate chain")
    parser.add_argument("--latency", type=float, default=100, help="milliseconds")
    parser.add_argument("--round-trip", type=float, default=0, help="milliseconds")
    options = parser.parse_args()
    asyncio.run(serve(options.certificate, options.latency / 1000, options.round_trip / 1000))
