"""The use case: when it asks again, when the key is replaced, what is measured and alerted."""

import gc
import importlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from botocore.exceptions import EndpointConnectionError

import sms_cancel
from infra.local.provider_server import fault
from infra.local.stack import ROOT
from sms_cancel import api, aws, cancellation, report, smspartner, worker
from sms_cancel.outcome import Kind, Outcome
from sms_cancel.request import Request, read_message_id, read_recall_id, read_send_at
from sms_cancel.smspartner import Answer
from sms_cancel.telemetry import ConfigurationError

PAUSE_S = cancellation.PAUSE_S  # before it is made short for the tests


@pytest.fixture(autouse=True)
def _in_place(cloud, provider, provider_url):
    pass


def cancel(message_id="300", seconds=20.0):
    return cancellation.cancel(Request(message_id), time.monotonic() + seconds)


def tell(*tried):
    report.notify(tried, [], door="http", request_id="1")


def status(code, body="", **more):
    return fault("status", status=code, body=body, **more)


def test_an_answer_lost_once_is_asked_for_again(provider):
    provider.plan(fault("close", moment="after"))
    settled = cancel()
    assert (settled.outcome, settled.code) == ("already_cancelled", 5)
    assert len(settled.latencies_ms) == 2


@pytest.mark.parametrize("times", [1, 2])
def test_an_unavailable_provider_is_asked_again(provider, times):
    provider.plan(status(503, times=times))
    settled = cancel()
    assert settled.outcome == "cancelled"
    assert provider.calls[300] == len(settled.latencies_ms) == times + 1


def test_three_attempts_are_all(provider):
    provider.plan(status(503, times=None))
    settled = cancel()
    assert settled.outcome == "unavailable"
    assert provider.calls[300] == 3


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (status(200, '{"success": false, "code": 4}', times=2), "not_found"),
        (status(200, '{"success": false, "code": 6}', times=2), "too_late"),
        (status(200, '{"success": false, "code": 7}', times=2), "already_sent"),
        (status(200, '{"success": false, "code": 11}', times=2), "credits_exhausted"),
        (status(200, '{"success": false, "code": 96}', times=2), "account_blocked"),
        (status(429, times=2), "throttled"),
        (status(200, "<html>", times=2), "unreadable"),
    ],
)
def test_any_other_answer_is_asked_for_once(provider, answer, outcome):
    provider.plan(answer)
    assert cancel().outcome == outcome
    assert provider.calls[300] == 1


@pytest.mark.parametrize(
    "then", [status(400, '{"success": false, "code": 4}'), status(503, times=2)]
)
def test_after_a_lost_answer_not_found_and_unavailable_settle_nothing(provider, then):
    provider.plan(fault("close", moment="after"))
    provider.plan(then)
    settled = cancel()
    assert (settled.outcome, settled.code) == ("timed_out", None)


@pytest.mark.parametrize(("code", "outcome"), [(6, "too_late"), (7, "already_sent")])
def test_after_a_lost_answer_a_final_refusal_is_believed(provider, code, outcome):
    provider.plan(fault("close"))
    provider.plan(status(200, f'{{"success": false, "code": {code}}}'))
    assert cancel().outcome == outcome


def test_no_attempt_begins_without_time_for_it(provider):
    provider.plan(status(503, times=None))
    assert cancel(seconds=0.0).outcome == "unavailable"
    assert provider.calls.total() == 0


def test_the_pauses_grow_and_vary(provider, monkeypatch):
    pauses = []
    monkeypatch.setattr(cancellation, "PAUSE_S", PAUSE_S)
    monkeypatch.setattr(cancellation.time, "sleep", pauses.append)
    provider.plan(status(503, times=None))
    for _ in range(10):
        cancel()
    assert len(set(pauses)) == 20
    assert all(0.2 <= pause <= 0.4 for pause in pauses[::2])
    assert all(0.4 <= pause <= 0.8 for pause in pauses[1::2])


@pytest.mark.parametrize("door", [api, worker])
def test_what_the_first_cancel_needs_is_there_once_lambda_has_started_it(door, cloud, monkeypatch):
    def slowly(deadline_s, connect=smspartner.connect):
        time.sleep(0.3)
        connect(deadline_s)

    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "function")
    monkeypatch.setattr(smspartner, "connect", slowly)
    importlib.reload(sms_cancel)
    assert not gc.isenabled()
    importlib.reload(door)
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("a new connection"))
    monkeypatch.setenv("API_KEY_SECRET_ARN", "another")  # would fail
    assert cancel().outcome == "cancelled"


def test_outside_of_lambda_the_collector_stays_as_it_is():
    importlib.reload(sms_cancel)
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("API_KEY_SECRET_ARN", ""),
        ("API_KEY_SECRET_ARN", "arn:aws:secretsmanager:eu-west-3:123456789012:secret:none"),
        ("SMSPARTNER_URL", "http://example.com"),
        ("SMSPARTNER_URL", "http://127.0.0.1:9"),
    ],
)
def test_what_fails_at_the_start_is_left_to_the_first_cancel(variable, value, monkeypatch):
    with monkeypatch.context() as wrong:
        wrong.setenv(variable, value)
        cancellation.prepare()
    assert cancel().outcome == "cancelled"


def test_a_provider_that_hangs_at_the_start_delays_it_for_four_seconds_at_most(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("SMSPARTNER_URL", f"https://127.0.0.1:{silent.getsockname()[1]}/v1")
        begun_at = time.monotonic()
        cancellation.prepare()
        assert time.monotonic() - begun_at < cancellation.PREPARE_S + 1


def test_a_rotated_key_is_fetched_and_raises_no_alarm(provider, cloud):
    cancellation._api_key.current()
    provider.configure(api_key="rotated")
    cloud.put_key("rotated")
    settled = cancel()
    assert settled.outcome == "cancelled"
    assert len(settled.latencies_ms) == 2
    tell(settled)
    assert cloud.alerts() == []


def test_a_key_that_did_not_change_is_not_tried_twice(provider):
    provider.configure(api_key="another")
    assert cancel().outcome == "api_key_rejected"
    assert provider.calls[300] == 1


def test_a_new_key_that_is_rejected_too_is_tried_once(provider, cloud):
    cancellation._api_key.current()
    provider.configure(api_key="another")
    cloud.put_key("wrong")
    settled = cancel()
    assert settled.outcome == "api_key_rejected"
    assert provider.calls[300] == 2


@pytest.mark.parametrize(("code", "outcome"), [(4, "timed_out"), (6, "too_late")])
def test_an_answer_lost_with_the_old_key_is_not_forgotten_with_the_new(
    provider, cloud, code, outcome
):
    cancellation._api_key.current()
    provider.configure(api_key="rotated")
    cloud.put_key("rotated")
    provider.plan(fault("close", moment="after"))
    provider.plan(status(200, '{"success": false, "code": 10}'))
    provider.plan(status(200, f'{{"success": false, "code": {code}}}'))
    assert cancel().outcome == outcome
    assert provider.calls[300] == 3


def test_after_an_answer_of_5xx_not_found_settles_nothing(provider):
    provider.plan(status(502, moment="after"))
    provider.plan(status(200, '{"success": false, "code": 4}'))
    settled = cancel()
    assert (settled.outcome, settled.http_status) == ("unavailable", 502)


def test_of_several_answers_of_5xx_the_last_is_told(provider):
    provider.plan(status(500))
    provider.plan(status(503))
    settled = cancel("999")
    assert (settled.outcome, settled.http_status) == ("unavailable", 503)


def test_of_several_lost_answers_the_last_is_told(provider):
    provider.plan(fault("truncated"))
    provider.plan(fault("close"))
    settled = cancel("999")
    assert (settled.outcome, settled.http_status) == ("timed_out", None)


def test_after_a_connection_that_failed_not_found_is_believed(provider, provider_url, monkeypatch):
    answers = iter([Answer(Outcome.UNAVAILABLE), Answer(Outcome.NOT_FOUND, 4, 200)])
    monkeypatch.setattr(smspartner, "cancel", lambda *_: next(answers))
    assert cancel().outcome == "not_found"


def test_a_key_is_not_looked_for_when_time_is_over(provider, cloud, monkeypatch, written):
    cancellation._api_key.current()
    cloud.put_key("rotated")

    def reject(*_):
        time.sleep(0.2)
        return Answer(Outcome.API_KEY_REJECTED, 10, 200)

    monkeypatch.setattr(smspartner, "cancel", reject)
    assert cancel(seconds=0.1).outcome == "api_key_rejected"
    assert written.values("KeyRefetched") == []


def test_with_the_new_key_a_lost_answer_is_not_asked_for_again(provider, cloud):
    cancellation._api_key.current()
    provider.configure(api_key="rotated")
    cloud.put_key("rotated")
    provider.plan(status(200, '{"success": false, "code": 10}'))
    provider.plan(fault("close", moment="after"))
    assert cancel().outcome == "timed_out"
    assert provider.calls[300] == 2


def test_without_a_key_the_provider_is_not_asked(provider, cloud):
    cloud.put_key("{}")
    settled = cancel()
    assert (settled.outcome, settled.latencies_ms) == ("key_unavailable", ())
    assert provider.calls.total() == 0


def test_alerts_are_one_for_each_outcome_of_an_invocation(provider, cloud):
    for message_id in ("300", "301", "302"):
        provider.schedule(int(message_id), 3600)
    provider.plan(status(401, message_id=300))
    provider.plan(status(200, '{"success": false, "code": 10}', message_id=301))
    provider.plan(status(200, '{"success": false, "code": 11}', message_id=302))
    settled = [cancel(each) for each in ("300", "301", "302")] + [cancel("999")]
    tell(*settled)
    alerts = {each["message"]["outcome"]: each["message"] for each in cloud.alerts()}
    assert set(alerts) == {"api_key_rejected", "credits_exhausted"}
    rejected = alerts["api_key_rejected"]
    assert (rejected["count"], rejected["messageIds"], rejected["code"]) == (2, ["300", "301"], 10)
    assert alerts["credits_exhausted"]["messageIds"] == ["302"]


@pytest.mark.parametrize(
    ("status", "code", "told"), [("ip_refused", 96, True), ("blocked", 30, False)]
)
def test_only_the_alert_of_a_refused_address_tells_how_to_have_a_fixed_one(
    status, code, told, provider, cloud
):
    provider.configure(status=status)
    tell(cancel())
    [alert] = cloud.alerts()
    assert (alert["message"]["outcome"], alert["message"]["code"]) == ("account_blocked", code)
    for needed in ("SubnetIds", "SecurityGroupIds", "NAT gateway", "authorise"):
        assert (needed in alert["message"]["action"]) == told


def test_the_alert_of_a_firewall_names_it_and_not_the_key(provider, cloud):
    provider.plan(status(403, "<html>Access denied</html>"))
    tell(cancel())
    [alert] = cloud.alerts()
    assert (alert["message"]["outcome"], alert["message"]["code"]) == ("account_blocked", None)
    assert "firewall" in alert["message"]["action"]
    assert "secret" not in alert["message"]["action"]
    assert set(alert["attributes"]) == {"outcome"}


@pytest.mark.parametrize("outcome", [each for each in Outcome if each.kind is Kind.BLOCKED])
def test_a_blocked_cancel_after_a_lost_answer_is_not_said_to_have_done_nothing(
    outcome, provider, cloud
):
    assert not re.search(r"nothing|not cancelled|no SMS", outcome.detail)


def test_the_alerts_of_an_invocation_are_published_in_one_call(provider, cloud):
    calls = []
    events = aws.client("sns").meta.events
    events.register("before-call.sns.PublishBatch", lambda **_: calls.append(1))
    answers = [(Outcome.API_KEY_REJECTED, 10), (Outcome.ACCOUNT_BLOCKED, 96)]
    tell(*(cancellation.Cancellation(Request("300"), *each) for each in answers))
    assert (len(calls), len(cloud.alerts())) == (1, 2)


def test_each_alert_that_sns_does_not_take_is_counted(cloud, written):
    def refuse_one(parsed, **_):
        refused = parsed["Successful"].pop()
        parsed["Failed"] = [{"Id": refused["Id"], "Code": "Throttled", "SenderFault": False}]

    aws.client("sns").meta.events.register("after-call.sns.PublishBatch", refuse_one)
    answers = [(Outcome.API_KEY_REJECTED, 10), (Outcome.ACCOUNT_BLOCKED, 96)]
    tell(*(cancellation.Cancellation(Request("300"), *each) for each in answers))
    [line] = written.logged("alert not published")
    assert (line["level"], line["reason"]) == ("ERROR", "Throttled")
    assert written.values("AlertPublishFailed") == [1]


def test_the_metrics_of_each_cancel_are_in_its_own_line(provider, written):
    provider.schedule(301, 3600)
    provider.plan(status(503, message_id=301))
    for each in ("300", "301", "999"):
        report.log(cancel(each), door="queue", queue_age_ms=int(each))
    outcomes = [each for each in written.metrics() if "outcome" in each[0]]
    assert [(each["outcome"], values) for each, values in outcomes] == [
        ("cancelled", {"Cancellations": [1]}),
        ("cancelled", {"Cancellations": [1]}),
        ("not_found", {"Cancellations": [1]}),
    ]
    rest = [each for each in written.metrics() if "outcome" not in each[0]]
    assert {tuple(dimensions) for dimensions, _ in rest} == {("service",)}
    assert {tuple(sorted(values)) for _, values in rest} == {
        ("Attempts", "ProviderLatency", "QueueAge")
    }
    assert written.values("Attempts") == [1, 2, 1]
    assert len(written.values("ProviderLatency")) == 4
    assert written.values("QueueAge") == [300, 301, 999]


def test_times_are_written_as_precisely_as_they_are_worth(written):
    asked = Request("300", datetime.fromisoformat("2030-01-15T09:00:00+00:00"))
    times = {"latencies_ms": (12.345, 6.78), "duration_ms": 19.6, "ended_at": 1894697699.5}
    report.log(cancellation.Cancellation(asked, Outcome.CANCELLED, 200, 200, **times), door="http")
    [line] = written.logged("cancel settled")
    assert (line["duration_ms"], line["margin_s"], line["attempts"]) == (20, 0, 2)
    assert written.values("ProviderLatency") == [12.3, 6.8]
    assert written.values("CutOffMargin") == [0]


def test_no_log_level_of_the_environment_loses_metrics():
    code = (
        "import logging, sys; sys.path.insert(0, 'functions'); from sms_cancel import telemetry; "
        "telemetry.write(logging.INFO, 'x', metrics={'Attempts': 1})"
    )
    environment = os.environ | {"POWERTOOLS_LOG_LEVEL": "CRITICAL"}
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, env=environment)
    assert json.loads(printed)["Attempts"] == 1


def test_refetches_are_counted_and_not_the_cancels_that_they_serve(provider, written):
    provider.configure(api_key="another")
    cancel(), cancel()
    assert written.values("KeyRefetched") == [1]
    cancel()
    assert written.values("KeyRefetched") == [1]


@pytest.mark.parametrize("warm", [True, False])
def test_a_key_rotated_under_load_costs_one_fetch_and_one_refetch(provider, cloud, warm):
    fetches = []
    events = aws.client("secretsmanager").meta.events
    events.register("before-call.secrets-manager.GetSecretValue", lambda **_: fetches.append(1))
    ids = [str(each) for each in range(1000, 1020)]
    for message_id in ids:
        provider.schedule(int(message_id), 3600)
    if warm:
        cancellation._api_key.current()
        cloud.put_key("rotated")
    provider.configure(api_key="rotated")
    if not warm:  # the secret changes right after the first fetch has read the old key
        events.register_last(
            "after-call.secrets-manager.GetSecretValue",
            lambda **_: None if len(fetches) > 1 else cloud.put_key("rotated"),
        )
    with ThreadPoolExecutor(20) as pool:
        settled = list(pool.map(cancel, ids))
    assert {each.outcome for each in settled} == {"cancelled"}
    assert len(fetches) == 2
    tell(*settled)
    assert cloud.alerts() == []


@pytest.fixture
def clock(monkeypatch):
    """A clock that only sleeping and asking move; ``asked`` has the seconds of each call."""

    class Clock:
        def __init__(self):
            self.now = 1000.0
            self.asked = []
            self.call_s = 2.0
            self.answer = Answer(Outcome.UNAVAILABLE)

        def monotonic(self):
            return self.now

        time = monotonic

        def sleep(self, seconds):
            assert seconds >= 0
            self.now += seconds

        def ask(self, _key, _message_id, deadline_s):
            self.asked.append(deadline_s)
            self.now += min(self.call_s, deadline_s)
            return self.answer

    clock = Clock()
    monkeypatch.setattr(cancellation, "time", clock)
    monkeypatch.setattr(smspartner, "cancel", clock.ask)
    return clock


def test_a_cancel_and_its_calls_are_measured_in_milliseconds(clock):
    clock.answer = Answer(Outcome.CANCELLED, 200, 200)
    settled = cancellation.cancel(Request("300"), clock.now + 20)
    assert (settled.latencies_ms, settled.duration_ms) == ((2000.0,), 2000.0)


@pytest.mark.parametrize(("seconds", "asked_s"), [(20, 6.0), (6, 6.0), (2.5, 2.5), (0.5, 0.5)])
def test_a_call_has_six_seconds_or_what_is_left(seconds, asked_s, clock):
    clock.answer = Answer(Outcome.CANCELLED, 200, 200)
    cancellation.cancel(Request("300"), clock.now + seconds)
    assert clock.asked == [asked_s]


def test_a_call_that_takes_all_the_time_is_the_last(clock):
    clock.call_s = 60.0
    ends_at = clock.now + 2
    assert cancellation.cancel(Request("300"), ends_at).outcome == "unavailable"
    assert (clock.asked, clock.now) == ([2.0], ends_at)


def test_a_pause_ends_with_the_time(clock, monkeypatch):
    monkeypatch.setattr(cancellation, "PAUSE_S", 60.0)
    ends_at = clock.now + 5
    assert cancellation.cancel(Request("300"), ends_at).outcome == "unavailable"
    assert (clock.asked, clock.now) == ([5.0], ends_at)


def test_a_rejection_at_the_very_end_has_no_new_key_looked_for(clock, written):
    clock.call_s = 60.0
    clock.answer = Answer(Outcome.API_KEY_REJECTED, 10, 200)
    assert cancellation.cancel(Request("300"), clock.now + 2).outcome == "api_key_rejected"
    assert written.values("KeyRefetched") == []


def test_after_the_end_nothing_is_asked(clock):
    assert cancellation.cancel(Request("300"), clock.now - 1).outcome == "unavailable"
    assert clock.asked == []


def test_a_bug_in_telling_changes_nothing(monkeypatch, written):
    def fail(*_, **__):
        raise ValueError

    monkeypatch.setattr(report.alerts, "publish", fail)
    tell(cancel())
    assert written.logged("bug")[0]["error"] == "ValueError"


@pytest.mark.parametrize(
    "name",
    [
        "API_KEY_SECRET_ARN",
        "ALERT_TOPIC_ARN",
        "SMSPARTNER_URL",
        "POWERTOOLS_SERVICE_NAME",
        "POWERTOOLS_METRICS_NAMESPACE",
    ],
)
def test_a_wrong_environment_is_found_before_any_work(name, monkeypatch):
    cancellation.check_configuration()
    monkeypatch.setenv(name, "x" if name == "SMSPARTNER_URL" else "")
    with pytest.raises(ConfigurationError, match=name):
        cancellation.check_configuration()


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-24T09:00:00+01:00",
        "2026-11-24T08:00:00Z",
        "2026-11-24 09:00+01:00",
        "20261124T090000+0100",
        "0001-01-01T00:05:00Z",
        "9999-12-31T23:59:59-23:59",
    ],
)
def test_a_send_time_has_a_date_a_time_and_an_offset(text):
    assert read_send_at({"sendAt": text})[0] == datetime.fromisoformat(text)


@pytest.mark.parametrize(
    "value",
    ["2026-11-24T09:00:00", "2026-11-24", "0001-01-01T00:04:59Z", "x", "", None, 1, True, ["x"]],
)
def test_anything_else_is_no_send_time(value):
    assert read_send_at({"sendAt": value}) == (None, "sendAt not readable")


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        ("a", True),
        ("-", True),
        ("Az_09-" * 10 + "abcd", True),
        ("Az_09-" * 10 + "abcde", False),
        ("", False),
        ("a.b", False),
        ("é", False),
        ("a\n", False),
        (1, False),
    ],
)
def test_a_recall_id_is_64_safe_characters_at_most(value, is_one):
    assert (read_recall_id(value) == value) is is_one


@pytest.mark.parametrize(
    ("value", "message_id"),
    [(300, "300"), ("0300", "0300"), (0, "0"), (10**20, None), (True, None), (3.0, None)],
)
def test_an_id_may_be_a_number_or_a_string(value, message_id):
    assert read_message_id(value) == message_id


def test_only_the_secret_may_be_of_another_region(monkeypatch):
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:key"
    monkeypatch.setenv("API_KEY_SECRET_ARN", arn)
    regions = {service: aws.client(service).meta.region_name for service in aws.SERVICES}
    assert regions == {"events": "eu-west-3", "secretsmanager": "eu-west-1", "sns": "eu-west-3",
                       "sqs": "eu-west-3"}  # fmt: skip


def test_a_call_to_aws_that_failed_is_tried_once_more():
    tries = []

    def fail_once(request, **_):
        tries.append(1)
        if len(tries) == 1:
            raise EndpointConnectionError(endpoint_url=request.url)

    aws.client("sns").meta.events.register_first("before-send.sns.ListTopics", fail_once)
    assert len(aws.call("sns", "list_topics")["Topics"]) == 1
    assert len(tries) == 2


def test_a_call_to_aws_that_waited_too_long_is_never_made(monkeypatch):
    monkeypatch.setattr(aws, "CALL_S", 0.1)
    made, over = [], threading.Event()
    with ThreadPoolExecutor(1) as only_thread:
        monkeypatch.setattr(aws, "_threads", only_thread)
        events = aws.client("sns").meta.events
        events.register("before-call.sns.ListTopics", lambda **_: over.wait(10))
        events.register("before-call.sns.ListSubscriptions", lambda **_: made.append(1))
        for operation in ("list_topics", "list_subscriptions"):
            with pytest.raises(TimeoutError):
                aws.call("sns", operation)
        over.set()
    assert made == []


def test_a_service_whose_data_do_not_ship_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"add 'dynamodb' to SERVICES in sms_cancel\.aws"):
        aws.client("dynamodb")
