"""AWS services that hang, drip or answer oddly: it costs seconds, and changes no outcome."""

import json
import socket
import threading
import time
from contextlib import contextmanager, suppress

import pytest
from botocore.exceptions import BotoCoreError

from conftest import KEY, Context
from sms_cancel import api, aws, cancellation, worker
from sms_cancel.api_key import ApiKey

CALL_S = aws.CALL_S  # what one call to AWS may cost
NOISE_S = 1.0


@contextmanager
def endpoint(answer: bytes = b""):
    """Accept every connection; send the answer to each request, or nothing at all.

    A list is sent slowly, part by part: no read ever takes long, and all of them never end.
    """
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve(connection):
            with connection, suppress(OSError):  # the client may reset what it cannot read
                while not over.is_set() and connection.recv(65536):
                    for part in [answer] if isinstance(answer, bytes) else answer:
                        connection.sendall(part)
                        over.wait(0 if isinstance(answer, bytes) else 0.3)

        def accept():
            while not over.is_set():
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        over.set()
        server.shutdown(socket.SHUT_RDWR)


def http(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


ODD = {
    "hangs": b"",
    "drips": [b"H"] * 100,
    "html": http(b"200 OK", b"<html>"),
    "empty": http(b"200 OK", b""),
    "no json": http(b"200 OK", b"{"),
    "a list": http(b"200 OK", b"[]"),
    "denied": http(b"400 Bad Request", b'{"__type": "AccessDeniedException", "Message": "no"}'),
    "odd error": http(b"500 Internal Server Error", b"\xff\xfe"),
    "no http": b"garbage\r\n\r\n",
}


@pytest.fixture(params=ODD)
def odd(request, monkeypatch, provider, provider_url, cloud):
    """Make AWS answer oddly, once moto has made the bundle's resources."""

    @contextmanager
    def make(*services):
        with endpoint(ODD[request.param]) as url:
            for service in services:
                name = service.upper().replace("SECRETSMANAGER", "SECRETS_MANAGER")
                monkeypatch.setenv(f"AWS_ENDPOINT_URL_{name}", url)
            aws._clients.clear()
            yield

    return make


def call():
    event = {
        "routeKey": "DELETE /messages/{messageId}",
        "rawPath": "/messages/300",
        "pathParameters": {"messageId": "300"},
        "requestContext": {"http": {"method": "DELETE"}},
    }
    return json.loads(api.handler(event, Context())["body"])


def test_without_secrets_manager_there_is_no_key(odd, provider):
    with odd("secretsmanager"):
        begun_at = time.monotonic()
        assert call()["outcome"] == "key_unavailable"
        assert time.monotonic() - begun_at < CALL_S + NOISE_S
    assert provider.calls.total() == 0


def test_without_secrets_manager_the_last_key_stays_in_force(odd, provider, cloud, written):
    for message_id in range(301, 310):
        provider.schedule(message_id, 3600)
    cancellation._api_key.current()
    cancellation._api_key._read_at -= 300  # five minutes ago
    event = cloud.queue_event(*(f'{{"messageId": {each}}}' for each in range(300, 310)))
    with odd("secretsmanager"):
        begun_at = time.monotonic()
        assert worker.handler(event, Context()) == {"batchItemFailures": []}
        assert time.monotonic() - begun_at < CALL_S + NOISE_S
    assert written.logged("secret not read")[0]["stale_key"] is True
    assert written.values("StaleKeyUsed") == [1]


def test_a_rejected_key_that_cannot_be_refetched_stays_rejected(odd, provider):
    key = ApiKey()
    key.current()
    with odd("secretsmanager"):
        assert key.replacement(KEY) is None
        assert key.current() == KEY


def test_an_alert_that_cannot_be_published_changes_no_outcome(odd, provider, written):
    provider.configure(api_key="another")
    with odd("sns"):
        begun_at = time.monotonic()
        assert call()["outcome"] == "api_key_rejected"
        assert time.monotonic() - begun_at < CALL_S + NOISE_S
    assert written.logged("alert not published")
    assert written.values("AlertPublishFailed") == [1]


def test_without_sqs_a_campaign_is_not_accepted_and_its_caller_is_told_in_time(odd, cloud):
    event = {
        "routeKey": "POST /cancellations",
        "headers": {"content-type": "application/json"},
        "body": json.dumps({"messageIds": list(range(300, 400))}),
    }
    context = Context(api.RESERVE_S + 1)
    with odd("sqs"):
        answer = api.handler(event, context)
    assert answer["statusCode"] == 503
    assert context.get_remaining_time_in_millis() > (api.RESERVE_S - CALL_S - NOISE_S) * 1000
    assert cloud.queued() == []


def test_without_sqs_every_item_is_tried_again_in_time(odd, provider, cloud):
    event = cloud.queue_event('{"messageId": 999}', '{"messageId": "x"}')
    context = Context()
    with odd("sqs"):
        answer = worker.handler(event, context)
    assert len(answer["batchItemFailures"]) == 2
    assert context.get_remaining_time_in_millis() > 0


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_service_that_hangs_costs_no_more_than_is_reserved_for_it(scheme, monkeypatch, cloud):
    """With TLS it hangs in the handshake, which botocore's time-out counts apart."""
    with endpoint() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", url.replace("http", scheme))
        aws._clients.clear()
        aws.client("sqs")  # to make it is no part of the call
        begun_at = time.monotonic()
        with pytest.raises((TimeoutError, BotoCoreError)):
            aws.call("sqs", "get_queue_attributes", QueueUrl=cloud.queue_url)
        assert time.monotonic() - begun_at < CALL_S + NOISE_S


def test_names_that_do_not_resolve_for_long_do_not_hold_up_the_start(monkeypatch, cloud, written):
    over = threading.Event()

    def hang(*_, **__):
        over.wait(30)
        raise OSError

    monkeypatch.setattr(cancellation, "PREPARE_S", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://localhost:9")
    aws._clients.clear()
    begun_at = time.monotonic()
    cancellation.prepare()
    assert time.monotonic() - begun_at < 0.2 + NOISE_S
    over.set()
    while not written.logged("secret not read"):  # its line must not be written into another test
        assert time.monotonic() - begun_at < 30
        time.sleep(0.01)
