"""The outcome table in literals: what each word means at both doors, and who is told."""

import json
import socket

import pytest

from conftest import Context
from infra.local.provider_server import fault
from sms_cancel import api, cancellation, worker
from sms_cancel.outcome import Outcome


def answers(status, body, times=1):
    def arrange(provider, cloud, monkeypatch):
        provider.plan(fault("status", status=status, body=body, times=times))

    return arrange


def refuses(code, status=200):
    return answers(status, json.dumps({"success": False, "code": code, "message": "x"}))


def is_silent(provider, cloud, monkeypatch):
    monkeypatch.setattr(cancellation, "CALL_DEADLINE_S", 0.1)
    provider.plan(fault("silence", times=3))


def is_not_there(provider, cloud, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("SMSPARTNER_URL", f"http://127.0.0.1:{unused.getsockname()[1]}/v1")


def has_no_key(provider, cloud, monkeypatch):
    cloud.put_key(" ")


SUCCESS = '{"success": true, "code": 200, "message": "x"}'

# id, what the provider does, outcome, code | status, Retry-After | queue, alert
TABLE = [
    ("300", answers(200, SUCCESS), "cancelled", 200, 200, False, "done", False),
    ("300", refuses(5), "already_cancelled", 5, 200, False, "done", False),
    ("300", refuses(5, 400), "already_cancelled", 5, 200, False, "done", False),
    ("300", refuses(4), "not_found", 4, 404, False, "dead-letter", False),
    ("300", refuses(6), "too_late", 6, 409, False, "dead-letter", False),
    ("300", refuses(7), "already_sent", 7, 409, False, "dead-letter", False),
    ("abc", refuses(3), "invalid_request", None, 400, False, "dead-letter", False),
    ("300", refuses(10), "api_key_rejected", 10, 502, False, "retry slowly", True),
    ("300", refuses(1), "api_key_rejected", 1, 502, False, "retry slowly", True),
    ("300", answers(401, ""), "api_key_rejected", None, 502, False, "retry slowly", True),
    ("300", answers(403, ""), "api_key_rejected", None, 502, False, "retry slowly", True),
    ("300", answers(403, "no"), "account_blocked", None, 502, False, "retry slowly", True),
    ("300", refuses(11), "credits_exhausted", 11, 502, False, "retry slowly", True),
    ("300", refuses(20), "account_blocked", 20, 502, False, "retry slowly", True),
    ("300", refuses(30), "account_blocked", 30, 502, False, "retry slowly", True),
    ("300", refuses(40), "account_blocked", 40, 502, False, "retry slowly", True),
    ("300", refuses(96), "account_blocked", 96, 502, False, "retry slowly", True),
    ("300", answers(429, ""), "throttled", None, 503, True, "retry", False),
    ("300", refuses(429), "throttled", 429, 503, True, "retry", False),
    ("300", is_not_there, "unavailable", None, 503, True, "retry", False),
    ("300", answers(503, "", 3), "unavailable", None, 503, True, "retry", False),
    ("300", is_silent, "timed_out", None, 504, True, "retry", False),
    ("300", refuses(3), "unreadable", 3, 502, False, "retry", False),
    ("300", refuses(99), "unreadable", 99, 502, False, "retry", False),
    ("300", answers(302, ""), "unreadable", None, 502, False, "retry", False),
    ("300", answers(200, "<html>"), "unreadable", None, 502, False, "retry", False),
    ("300", has_no_key, "key_unavailable", None, 503, True, "retry", False),
]
parametrized = pytest.mark.parametrize(
    ("message_id", "provider_does", "outcome", "code", "status", "retry_after", "queue", "alert"),
    TABLE,
    ids=[f"{row[2]}-{row[3]}-{number}" for number, row in enumerate(TABLE)],
)


def test_the_watch_alone_has_a_word_for_an_account_that_can_be_used():
    ready = Outcome("account_ready")
    assert (ready.kind.value, ready.status, ready.done) == ("ready", 200, False)


def test_the_table_is_complete():
    assert {row[2] for row in TABLE} | {"account_ready"} == {str(outcome) for outcome in Outcome}


@parametrized
def test_the_http_door(
    message_id, provider_does, outcome, code, status, retry_after, queue, alert,
    provider, provider_url, cloud, monkeypatch, written,
):  # fmt: skip
    provider_does(provider, cloud, monkeypatch)
    event = {
        "routeKey": "DELETE /messages/{messageId}",
        "rawPath": f"/messages/{message_id}",
        "pathParameters": {"messageId": message_id},
        "requestContext": {"http": {"method": "DELETE"}},
    }
    answer = written.keep(api.handler(event, Context()))
    body = json.loads(answer["body"])
    assert answer["statusCode"] == status
    assert (body["outcome"], body["code"]) == (outcome, code)
    assert body["messageId"] == (None if status == 400 else "300")
    if status == 200:
        assert answer["headers"]["Content-Type"] == "application/json"
        assert set(body) == {"messageId", "outcome", "code"}
    else:
        assert answer["headers"]["Content-Type"] == "application/problem+json"
        assert body["type"] == "urn:problem-type:sms-cancel:" + outcome.replace("_", "-")
        assert body["status"] == status
        assert body["instance"] == Context.aws_request_id
        assert body["title"] == outcome[0].upper() + outcome[1:].replace("_", " ")
        assert body["detail"].endswith(".")
    assert ("Retry-After" in answer["headers"]) == retry_after
    assert 1 <= int(answer["headers"].get("Retry-After", 1)) <= 120
    check_alert(cloud.alerts(), outcome, code, "http", alert)
    check_log(written, outcome, code, "http")


@parametrized
def test_the_queue_door(
    message_id, provider_does, outcome, code, status, retry_after, queue, alert,
    provider, provider_url, cloud, monkeypatch, written,
):  # fmt: skip
    provider_does(provider, cloud, monkeypatch)
    body = json.dumps({"messageId": message_id})
    event = cloud.queue_event(body)
    [record] = event["Records"]
    answer = written.keep(worker.handler(event, Context()))
    failed = [{"itemIdentifier": record["messageId"]}] if queue.startswith("retry") else []
    assert answer == {"batchItemFailures": failed}
    visible_in_s = cloud.visible_in_s()[body]
    if queue == "retry":
        assert 3 < visible_in_s <= 5
    elif queue == "retry slowly":
        assert 23 < visible_in_s <= 30
    dead_letters = cloud.dead_letters()
    assert len(dead_letters) == (queue == "dead-letter")
    for copy, attributes in dead_letters:
        assert copy == body
        assert attributes.pop("detail").endswith(".")
        assert attributes == {
            "outcome": outcome,
            "originalMessageId": record["messageId"],
            **({"code": str(code)} if code else {}),
        }
    check_alert(cloud.alerts(), outcome, code, "queue", alert)
    check_log(written, outcome, code, "queue")
    [line] = written.logged("cancel settled")
    assert line["disposition"] == {"dead-letter": "dead_lettered"}.get(queue, queue.split()[0])


def check_alert(alerts, outcome, code, door, expected):
    assert len(alerts) == expected
    for alert in alerts:
        message = alert["message"]
        assert message.pop("detail").endswith(".")
        assert message.pop("action").endswith(".")
        assert message.pop("occurredAt").startswith("20")
        assert message == {
            "outcome": outcome,
            "code": code,
            "count": 1,
            "messageIds": ["300"],
            "service": "sms-cancel",
            "door": door,
            "requestId": Context.aws_request_id,
        }
        expected_attributes = {"outcome": outcome} | ({"code": str(code)} if code else {})
        assert alert["attributes"] == expected_attributes


ERRORS = ("api_key_rejected", "credits_exhausted", "account_blocked", "key_unavailable")


def check_log(written, outcome, code, door):
    [line] = written.logged("cancel settled")
    assert (line["outcome"], line.get("code"), line["door"]) == (outcome, code, door)
    assert line.get("message_id") == (None if outcome == "invalid_request" else "300")
    assert line["function_request_id"] == Context.aws_request_id
    assert line["duration_ms"] >= 0
    assert ("receive_count" in line, "queue_age_ms" in line) == (door == "queue", door == "queue")
    if outcome in ("cancelled", "already_cancelled"):
        assert line["level"] == "INFO"
    else:
        assert line["level"] == ("ERROR" if outcome in ERRORS else "WARNING")
