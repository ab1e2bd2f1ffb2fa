"""The HTTP door beyond the outcome table."""

import json

import pytest

from conftest import KEY, Context, LongContext
from infra.local.provider_server import fault
from sms_cancel import api, cancellation, smspartner


def event(message_id="300", route="DELETE /messages/{messageId}", path=None):
    return {
        "version": "2.0",
        "routeKey": route,
        "rawPath": path or f"/messages/{message_id}",
        "pathParameters": {"messageId": message_id},
        "headers": {"authorization": f"AWS4-HMAC-SHA256 Signature={KEY}"},
        "requestContext": {"http": {"method": route.split()[0]}, "stage": "$default"},
    }


@pytest.fixture
def call(written):
    def call(*args, context=None, **kwargs):
        answer = written.keep(api.handler(event(*args, **kwargs), context or Context()))
        return answer, json.loads(answer["body"])

    return call


@pytest.mark.parametrize("message_id", ["0", "300", "0300", "9" * 20])
def test_one_to_twenty_digits_are_asked_for(message_id, call, cloud, provider, provider_url):
    _, body = call(message_id)
    assert body["messageId"] == message_id
    assert provider.calls.total() == 1


@pytest.mark.parametrize(
    "message_id",
    [
        "",
        "9" * 21,
        "-1",
        "+1",
        "1.0",
        "1e3",
        " 300",
        "300\n",
        "٣٠٠",
        "³",
        "0x1",
        "300;",
        "a",
        "null",
    ],
)
def test_anything_else_is_refused_without_a_provider_call(
    message_id, call, cloud, provider, provider_url
):
    answer, body = call(message_id)
    assert (answer["statusCode"], body["outcome"], body["messageId"]) == (
        400, "invalid_request", None,
    )  # fmt: skip
    assert provider.calls.total() == 0


def test_the_second_cancel_finds_it_done(call, cloud, provider, provider_url):
    assert call()[1] == {"messageId": "300", "outcome": "cancelled", "code": 200}
    assert call()[1] == {"messageId": "300", "outcome": "already_cancelled", "code": 5}


NOT_OURS = {
    "function URL": {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/messages/300",
        "requestContext": {"http": {"method": "DELETE", "path": "/messages/300"}},
    },
    "another route": {"version": "2.0", "routeKey": "GET /", "rawPath": "/"},
    "REST API": {
        "resource": "/messages/{messageId}",
        "path": "/messages/300",
        "httpMethod": "DELETE",
        "pathParameters": {"messageId": "300"},
    },
    "HTTP API, payload 1.0": {
        "version": "1.0",
        "resource": "/messages/{messageId}",
        "path": "/messages/300",
        "httpMethod": "DELETE",
        "pathParameters": {"messageId": "300"},
    },
    "load balancer": {
        "requestContext": {"elb": {"targetGroupArn": "arn"}},
        "httpMethod": "DELETE",
        "path": "/messages/300",
    },
    "warmer": {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}},
    "ping": {"ping": True},
    "empty": {},
    "nothing": None,
    "list": [],
    "text": "DELETE",
    "no route": {"routeKey": None},
}


@pytest.mark.parametrize("name", NOT_OURS)
def test_what_is_no_event_of_the_http_api_gets_an_answer_that_says_so(
    name, cloud, written, provider, provider_url
):
    answer = written.keep(api.handler(NOT_OURS[name], Context()))
    body = json.loads(answer["body"])
    assert (answer["statusCode"], body["status"], body["type"]) == (404, 404, "about:blank")
    assert answer["headers"]["Content-Type"] == "application/problem+json"
    assert "API Gateway HTTP API (payload 2.0)" in body["detail"]
    [line] = written.logged("not an event of the HTTP API")
    assert line["level"] == "WARNING"
    assert written.logged("bug") == []
    assert written.values("Bugs") == []
    assert provider.calls.total() == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEY_SECRET_ARN", None),
        ("API_KEY_SECRET_ARN", ""),
        ("ALERT_TOPIC_ARN", None),
        ("SMSPARTNER_URL", "http://example.com/v1"),
    ],
)
def test_a_wrong_environment_is_logged_by_the_name_of_its_variable(
    name, value, call, cloud, monkeypatch, written
):
    monkeypatch.delenv(name, raising=False)
    if value is not None:
        monkeypatch.setenv(name, value)
    answer, body = call()
    assert answer["statusCode"] == body["status"] == 500
    assert answer["headers"]["Content-Type"] == "application/problem+json"
    [line] = written.logged("bug")
    assert line["level"] == "ERROR"
    assert f"environment variable {name} " in line["error"]


def test_a_bug_is_a_problem_without_its_text_and_a_log_line_with_its_place(
    call, cloud, monkeypatch, written
):
    def fail(*_):
        raise RuntimeError(f"https://api.smspartner.fr/v1/message-cancel?apiKey={KEY}")

    monkeypatch.setattr(smspartner, "cancel", fail)
    answer, body = call()
    assert (answer["statusCode"], body["title"]) == (500, "Internal Server Error")
    assert "Traceback" not in answer["body"]
    [line] = written.logged("bug")
    assert line["error"] == "RuntimeError"
    assert written.metrics() == [({"service": "sms-cancel"}, {"Bugs": [1]})]
    assert line["frames"][-1].endswith(" fail")


def test_the_answer_comes_before_the_function_times_out(
    call, cloud, provider, provider_url, monkeypatch
):
    monkeypatch.setattr(cancellation, "CALL_DEADLINE_S", 6)
    provider.plan(fault("silence", times=3))
    context = Context(remaining_s=api.RESERVE_S + 0.5)
    _, body = call(context=context)
    assert body["outcome"] == "timed_out"
    assert context.get_remaining_time_in_millis() > (api.RESERVE_S - 1) * 1000


def test_without_any_time_left_nothing_is_sent(call, cloud, provider, provider_url):
    _, body = call(context=Context(remaining_s=1))
    assert body["outcome"] == "unavailable"
    assert provider.calls.total() == 0


def test_an_alert_that_cannot_be_published_changes_nothing(
    call, cloud, provider, provider_url, monkeypatch, written
):
    monkeypatch.setenv("ALERT_TOPIC_ARN", cloud.topic_arn + "-gone")
    provider.configure(api_key="another")
    answer, body = call()
    assert (answer["statusCode"], body["outcome"]) == (502, "api_key_rejected")
    [line] = written.logged("alert not published")
    assert line["level"] == "ERROR"
    assert written.values("AlertPublishFailed") == [1]


def test_a_cancel_is_one_line_that_carries_its_metrics(
    call, cloud, provider, provider_url, written
):
    call()
    [(by_outcome, count), (by_service, rest)] = written.metrics()
    assert by_outcome == {"service": "sms-cancel", "outcome": "cancelled"}
    assert by_service == {"service": "sms-cancel"}
    assert count == {"Cancellations": [1]}
    assert set(rest) == {"Attempts", "ProviderLatency"}
    assert rest["Attempts"] == [1]


def test_what_is_written_for_a_cancel_is_short(
    call, cloud, provider, provider_url, written, monkeypatch
):
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1")
    provider.plan(fault("status", status=503, times=3, message_id=int("9" * 20)))
    api.handler(event("9" * 20), LongContext())
    assert written.logged("cancel settled")[0]["attempts"] == 3
    lines = [each for each in written.text.splitlines() if each.startswith("{")]
    assert sum(len(each.encode()) for each in lines) < 1500
