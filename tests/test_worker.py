"""The queue door beyond the outcome table: the failed set is exactly what is to be tried again."""

import json
import threading

import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import KEY, Context
from infra.local.provider_server import fault
from sms_cancel import aws, cancellation, smspartner, worker
from sms_cancel.environment import ConfigurationError
from sms_cancel.outcome import Outcome


@pytest.fixture(autouse=True)
def _in_place(cloud, provider, provider_url):
    pass


@pytest.fixture
def work(written):
    def work(event, context=None):
        answer = written.keep(worker.handler(event, context or Context()))
        assert list(answer) == ["batchItemFailures"]
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    return work


def breaks(service, operation):
    def fail(**_):
        raise EndpointConnectionError(endpoint_url="https://aws")

    aws.client(service).meta.events.register(f"before-call.{service}.{operation}", fail)


@pytest.mark.parametrize(
    "body", ['{"messageId": 300}', '{"messageId": "300"}', ' {"messageId":300, "why": [1]} ']
)
def test_an_id_may_be_a_number_or_digits_and_other_fields_are_ignored(body, cloud, work, provider):
    assert work(cloud.queue_event(body)) == []
    assert provider.state(300) == "cancelled"


@pytest.mark.parametrize(
    "body",
    [
        "300",
        '"300"',
        "[300]",
        "null",
        "not json",
        "{",
        "{}",
        '{"messageid": 300}',
        '{"messageId": null}',
        '{"messageId": true}',
        '{"messageId": 300.0}',
        '{"messageId": -300}',
        '{"messageId": 123456789012345678901}',
        '{"messageId": "30 0"}',
        '{"messageId": ""}',
        '{"messageId": ["300"]}',
        '{"messageId": "٣٠٠"}',
        '{"messageId": ' + "9" * 5000 + "}",
        '{"messageId": "\\ud800"}',
        "[" * 100_000,
        "x" * 200_000,
    ],
)
def test_what_names_no_message_is_dead_lettered_without_a_provider_call(
    body, cloud, work, provider
):
    event = cloud.queue_event(body)
    assert work(event) == []
    [(copy, attributes)] = cloud.dead_letters()
    assert copy == body
    assert attributes["outcome"] == "invalid_request"
    assert attributes["originalMessageId"] == event["Records"][0]["messageId"]
    assert "code" not in attributes
    assert provider.calls.total() == 0


def test_each_item_of_a_mixed_batch_has_its_own_end(cloud, work, provider):
    for message_id in (301, 302, 303, 304):
        provider.schedule(message_id, 3600)
    provider.plan(fault("status", status=503, message_id=302, times=None))
    provider.plan(fault("status", status=200, body="<html>", message_id=303))
    provider.schedule(304, 60)
    bodies = [json.dumps({"messageId": each}) for each in (300, 301, 302, 303, 304, 999, "x")]
    event = cloud.queue_event(*bodies)
    by_body = {record["body"]: record["messageId"] for record in event["Records"]}
    failed = work(event)
    assert set(failed) == {by_body['{"messageId": 302}'], by_body['{"messageId": 303}']}
    assert {(body, attributes["outcome"]) for body, attributes in cloud.dead_letters()} == {
        ('{"messageId": 304}', "too_late"),
        ('{"messageId": 999}', "not_found"),
        ('{"messageId": "x"}', "invalid_request"),
    }
    assert provider.state(300) == provider.state(301) == "cancelled"


CASES = {  # message id: (what the provider answers, whether the item is to be tried again)
    1: ('{"success": true, "code": 200}', False),
    2: ('{"success": false, "code": 5}', False),
    3: ('{"success": false, "code": 4}', False),
    4: ('{"success": false, "code": 6}', False),
    5: ('{"success": false, "code": 10}', True),
    6: ('{"success": false, "code": 11}', True),
    7: ('{"success": false, "code": 429}', True),
    8: ("<html>", True),
}


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from([*CASES, "x"]), min_size=1, max_size=10))
def test_the_failed_set_is_exactly_the_set_to_be_tried_again(cloud, work, provider, cases):
    provider.reset()
    for case, (body, _) in CASES.items():
        provider.plan(fault("status", status=200, body=body, message_id=case, times=None))
    event = cloud.queue_event(*(json.dumps({"messageId": case}) for case in cases))
    expected = [
        record["messageId"]
        for record in event["Records"]
        if CASES.get(json.loads(record["body"])["messageId"], (None, False))[1]
    ]
    assert sorted(work(event)) == sorted(expected)


def test_the_items_of_a_batch_are_under_way_at_the_same_time(cloud, work, monkeypatch):
    all_there = threading.Barrier(10, timeout=10)

    def cancel(_api_key, _message_id, _deadline_s):
        all_there.wait()  # broken, and so a bug in each item, unless the ten meet here
        return smspartner.Answer(Outcome.CANCELLED, 200, 200)

    monkeypatch.setattr(smspartner, "cancel", cancel)
    assert work(cloud.queue_event(*(f'{{"messageId": {each}}}' for each in range(10)))) == []


@pytest.mark.parametrize("event", [{}, {"Records": []}, {"Records": None}, {"records": [{}]}])
def test_an_event_without_records_is_never_a_success(event):
    with pytest.raises(ValueError, match="not an SQS event"):
        worker.handler(event, Context())


@pytest.mark.parametrize("receive_count", [1, 2, 3, 4, 5, 6, 69])
@pytest.mark.parametrize(
    ("code", "longest_s"),
    [(429, [5, 10, 20, 40, 80, 120, 120]), (11, [30, 60, 120, 120, 120, 120, 120])],
)
def test_a_retry_waits_longer_each_time(cloud, work, provider, receive_count, code, longest_s):
    body = f'{{"success": false, "code": {code}}}'
    provider.plan(fault("status", status=200, body=body))
    work(cloud.queue_event('{"messageId": 300}', receive_count=receive_count))
    [visible_in_s] = cloud.visible_in_s().values()
    longest = dict(zip([1, 2, 3, 4, 5, 6, 69], longest_s, strict=True))[receive_count]
    assert 0.8 * longest - 2 < visible_in_s <= longest


@pytest.mark.parametrize("receive_count", [70, 71])
def test_the_last_receive_dead_letters_with_the_outcome(cloud, work, provider, receive_count):
    provider.plan(fault("status", status=200, body='{"success": false, "code": 11}'))
    assert work(cloud.queue_event('{"messageId": 300}', receive_count=receive_count)) == []
    [(_, attributes)] = cloud.dead_letters()
    assert (attributes["outcome"], attributes["code"]) == ("credits_exhausted", "11")
    assert len(cloud.alerts()) == 1


def test_a_dead_letter_that_cannot_be_sent_is_tried_again(cloud, work, provider, written):
    breaks("sqs", "SendMessage")
    event = cloud.queue_event('{"messageId": 999}')
    assert work(event) == [event["Records"][0]["messageId"]]
    assert max(cloud.visible_in_s().values()) <= 5
    assert written.logged("not dead-lettered")[0]["level"] == "ERROR"


def test_a_visibility_that_cannot_be_set_leaves_the_item_to_the_queue(
    cloud, work, provider, written
):
    breaks("sqs", "ChangeMessageVisibility")
    provider.plan(fault("status", status=503, times=3))
    event = cloud.queue_event('{"messageId": 300}')
    assert work(event) == [event["Records"][0]["messageId"]]
    assert written.logged("visibility not set")[0]["reason"] == "EndpointConnectionError"


def test_what_has_not_begun_when_time_runs_out_is_tried_again(cloud, work, provider):
    event = cloud.queue_event('{"messageId": 300}', '{"messageId": "x"}')
    failed = work(event, Context(remaining_s=worker.RESERVE_S))
    assert sorted(failed) == sorted(record["messageId"] for record in event["Records"])
    assert provider.calls.total() == 0
    assert cloud.dead_letters() == []


def test_a_silent_provider_does_not_outlast_the_function(cloud, work, provider):
    provider.plan(fault("silence", times=None))
    context = Context(remaining_s=worker.RESERVE_S + 0.5)
    assert len(work(cloud.queue_event('{"messageId": 300}'), context)) == 1
    assert context.get_remaining_time_in_millis() > (worker.RESERVE_S - 1) * 1000


def test_a_bug_in_one_item_fails_that_item_alone(cloud, work, provider, monkeypatch, written):
    genuine = smspartner.cancel

    def fail(api_key, message_id, deadline_s):
        if message_id == "301":
            raise RuntimeError(f"apiKey={api_key}")
        return genuine(api_key, message_id, deadline_s)

    monkeypatch.setattr(smspartner, "cancel", fail)
    event = cloud.queue_event('{"messageId": 300}', '{"messageId": 301}')
    by_body = {record["body"]: record["messageId"] for record in event["Records"]}
    assert work(event) == [by_body['{"messageId": 301}']]
    assert written.logged("bug")[0]["error"] == "RuntimeError"
    assert cloud.visible_in_s()['{"messageId": 301}'] <= 5


@pytest.mark.parametrize("missing", ["body", "attributes"])
def test_a_message_of_another_form_fails_alone(missing, cloud, work, provider):
    provider.schedule(301, 3600)
    event = cloud.queue_event('{"messageId": 300}', '{"messageId": 301}')
    bad, _ = event["Records"]
    del bad[missing]
    assert work(event) == [bad["messageId"]]
    assert "cancelled" in (provider.state(300), provider.state(301))


def test_the_age_and_the_count_of_a_message_are_written_down(cloud, work, written):
    work(cloud.queue_event('{"messageId": 300}', receive_count=3))
    [line] = written.logged("cancel settled")
    assert line["receive_count"] == 3
    assert 1500 <= line["queue_age_ms"] < 60_000
    assert written.metrics()[-1][1]["QueueAge"] == [line["queue_age_ms"]]


def test_a_batch_of_one_failure_has_one_alert_with_all_its_ids(cloud, work, provider):
    provider.configure(api_key="another")
    event = cloud.queue_event(*(json.dumps({"messageId": each}) for each in range(300, 310)))
    assert len(work(event)) == 10
    [alert] = cloud.alerts()
    assert alert["message"]["count"] == 10
    assert sorted(alert["message"]["messageIds"]) == [str(each) for each in range(300, 310)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QUEUE_URL", ""),
        ("DEAD_LETTER_QUEUE_URL", ""),
        ("MAX_RECEIVE_COUNT", ""),
        ("MAX_RECEIVE_COUNT", "many"),
        ("MAX_RECEIVE_COUNT", "0"),
        ("MAX_RECEIVE_COUNT", "-1"),
        ("API_KEY_SECRET_ARN", ""),
        ("ALERT_TOPIC_ARN", ""),
        ("SMSPARTNER_URL", "http://example.com"),
    ],
)
def test_a_wrong_environment_fails_the_batch_by_the_name_of_its_variable(
    name, value, cloud, monkeypatch, provider
):
    event = cloud.queue_event('{"messageId": 300}')
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=f"variable {name} "):
        worker.handler(event, Context())
    assert provider.calls.total() == 0


def test_an_answer_lost_at_the_first_receive_is_done_at_the_second(cloud, work, provider):
    provider.plan(fault("close", moment="after", times=3))
    event = cloud.queue_event('{"messageId": 300}')
    assert len(work(event)) == 1
    assert work(event) == []
    assert provider.state(300) == "cancelled"


def test_a_bug_in_reporting_changes_no_outcome(cloud, work, provider, monkeypatch, written):
    def fail(*_):
        raise RuntimeError(f"apiKey={KEY}")

    monkeypatch.setattr(cancellation.telemetry, "emit_metrics", fail)
    assert work(cloud.queue_event('{"messageId": 300}')) == []
    assert written.logged("bug")[0]["error"] == "RuntimeError"
