"""The HTTP door beyond the outcome table."""

import json

import pytest

from conftest import KEY, Context
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


@pytest.mark.parametrize(
    ("route", "path", "status", "allow"),
    [
        ("$default", "/", 404, None),
        ("$default", "/messages", 404, None),
        ("$default", "/messages/", 404, None),
        ("$default", "/messages/1/2", 404, None),
        ("GET /messages/{messageId}", "/messages/300", 405, "DELETE"),
        ("$default", "/prod/messages/300", 405, "DELETE"),
        ("GET /cancellations", "/cancellations", 405, "POST"),
        ("$default", "/prod/cancellations", 405, "POST"),
        ("$default", "/cancellations/300", 404, None),
    ],
)
def test_an_unknown_route_or_method_is_a_problem_too(call, cloud, route, path, status, allow):
    answer, body = call(route=route, path=path)
    assert answer["statusCode"] == body["status"] == status
    assert answer["headers"]["Content-Type"] == "application/problem+json"
    assert answer["headers"].get("Allow") == allow
    assert body["type"] == "about:blank"
    assert body["instance"] == Context.aws_request_id
    assert body["detail"].endswith(".")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEY_SECRET_ARN", None),
        ("API_KEY_SECRET_ARN", ""),
        ("ALERT_TOPIC_ARN", None),
        ("SMSPARTNER_URL", "http://example.com/v1"),
        ("SMSPARTNER_FORMAT", "yaml"),
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
    assert line["frames"][-1].endswith(" fail")


@pytest.mark.parametrize("no_event", [{}, None, [], "DELETE", {"routeKey": None}])
def test_what_is_no_http_event_is_a_problem_too(no_event, cloud, written):
    answer = written.keep(api.handler(no_event, Context()))
    assert answer["statusCode"] in (404, 500)
    assert answer["headers"]["Content-Type"] == "application/problem+json"


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
    failed = [metrics["AlertPublishFailed"] for _, metrics in written.metrics()
              if "AlertPublishFailed" in metrics]  # fmt: skip
    assert failed == [[1.0]]
