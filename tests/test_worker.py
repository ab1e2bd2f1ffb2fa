"""The queue door beyond the outcome table: the failed set is exactly what is to be tried again."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import KEY, Context, LongContext
from infra.local.provider_server import fault
from sms_cancel import (
    api,
    aws,
    cancellation,
    report,
    smspartner,
    watch,
    worker,
)
from sms_cancel import request as requests
from sms_cancel.outcome import Outcome
from sms_cancel.telemetry import ConfigurationError
from test_template import resources

PAUSE_S = cancellation.PAUSE_S  # before it is made short for the tests


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
        '{"message_id": 300}',
        '{"messageId": 2.264102e+06}',
        '"{\\"messageId\\": 300}"',
        '{"messageId": 300, "messageId": 301}',
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


SNS = {"Type": "Notification", "MessageId": "1", "TopicArn": "arn", "Message": '{"messageId": 300}'}
EVENT = {"version": "0", "detail-type": "x", "source": "y", "detail": {"messageId": 300}}
POINTER = ["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": "x"}]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("not json", "is not JSON"),
        ("", "is not JSON"),
        ("[" * 10_000, "is not JSON"),
        ('{"messageId": 300, "messageId": 301}', "has a name twice"),
        ('{"messageId": 300, "x": {"a": 1, "a": 2}}', "has a name twice"),
        ("300", "JSON but not an object"),
        ('"{\\"messageId\\": 300}"', "JSON but not an object"),
        ("[300, 301]", "JSON but not an object"),
        (json.dumps(SNS), "raw message delivery"),
        (json.dumps(EVENT), "input path"),
        (json.dumps(POINTER), "pointer into S3"),
        ("{}", 'no "messageId"'),
        ('{"message_id": 300}', 'no "messageId"'),
        ('{"messageId": "abc"}', "1 to 20 digits"),
        ('{"messageId": null}', "1 to 20 digits"),
        ('{"messageId": 2.264102e+06}', "write it as digits"),
        ('{"messageId": 300.0}', "write it as digits"),
    ],
    ids=lambda value: value[:30],
)
def test_a_dead_letter_says_why_by_its_cause(body, said):
    asked = requests.read(body)
    assert asked.message_id is None
    assert said in asked.problem
    assert asked.problem.endswith(".")


def test_the_detail_of_a_dead_letter_is_its_cause(cloud, work):
    work(cloud.queue_event(json.dumps(SNS)))
    [(_, attributes)] = cloud.dead_letters()
    assert attributes["detail"] == "The message is an SNS envelope: turn on raw message delivery."


def test_a_byte_order_mark_is_white_space(cloud, work, provider):
    assert work(cloud.queue_event('\ufeff{"messageId": 300}')) == []
    assert provider.state(300) == "cancelled"


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


def waits(monkeypatch):
    """Return a list that gets how long each message is to wait, without jitter."""
    waits_s = []
    monkeypatch.setattr("random.uniform", lambda _, longest: longest)
    aws.client("sqs").meta.events.register(
        "provide-client-params.sqs.ChangeMessageVisibility",
        lambda params, **_: waits_s.append(params["VisibilityTimeout"]),
    )
    return waits_s


@pytest.mark.parametrize(("code", "longest_s"), [(429, [5, 10, 120]), (11, [30, 60, 120])])
def test_no_retry_waits_longer_than_designed(cloud, work, provider, monkeypatch, code, longest_s):
    waits_s = waits(monkeypatch)
    for receive_count in (1, 2, 69):
        provider.plan(fault("status", body=f'{{"success": false, "code": {code}}}'))
        work(cloud.queue_event('{"messageId": 300}', receive_count=receive_count))
    assert waits_s == longest_s


DOORS = {"ApiFunction": api, "WorkerFunction": worker, "WatchFunction": watch}
# AWS calls that may each take all their time, before and after the provider's. In the worker, a key
# that hangs shortens the third call, because the message is tried again anyway.
BEFORE = {"ApiFunction": ["key"], "WorkerFunction": [], "WatchFunction": ["key"]}
AFTER = {
    "ApiFunction": ["refetched key", "alert or event"],
    "WorkerFunction": ["refetched key", "dead letter", "visibility", "alert", "event"],
    "WatchFunction": ["refetched key", "alert"],
}
CODE_S = 0.5  # what our own code may take in all


@pytest.mark.parametrize("function", DOORS)
def test_three_calls_have_their_time_and_what_comes_after_them_too(function):
    timeout_s = resources("Lambda::Function")[function]["Timeout"]
    attempts_s = cancellation.MAX_ATTEMPTS * cancellation.CALL_DEADLINE_S
    pauses_s = sum(PAUSE_S * 2**attempt for attempt in range(1, cancellation.MAX_ATTEMPTS))
    before_s, after_s = (len(each[function]) * aws.CALL_S for each in (BEFORE, AFTER))
    assert after_s + CODE_S == DOORS[function].RESERVE_S
    assert timeout_s - DOORS[function].RESERVE_S >= before_s + attempts_s + pauses_s


def test_a_line_names_the_invocation_that_wrote_it(cloud, work, written):
    context = Context()
    context.aws_request_id = "another"
    work(cloud.queue_event('{"messageId": 300}'), context)
    assert [line["function_request_id"] for line in written.logged("cancel settled")] == ["another"]


def test_a_message_without_a_send_at_is_nothing_to_warn_of(cloud, work, written):
    work(cloud.queue_event('{"messageId": 300}'))
    assert written.logged("sendAt not readable") == []


def test_one_receive_may_be_all(cloud, work, provider, monkeypatch):
    monkeypatch.setenv("MAX_RECEIVE_COUNT", "1")
    provider.plan(fault("html"))
    assert work(cloud.queue_event('{"messageId": 300}')) == []
    [(_, attributes)] = cloud.dead_letters()
    assert attributes["outcome"] == "unreadable"


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


def test_what_has_not_begun_when_time_runs_out_is_tried_again(cloud, work, provider, written):
    event = cloud.queue_event('{"messageId": 300}', '{"messageId": "x"}')
    failed = work(event, Context(remaining_s=worker.RESERVE_S))
    assert sorted(failed) == sorted(record["messageId"] for record in event["Records"])
    lines = written.logged("no time left to begin")
    assert sorted(line["sqs_message_id"] for line in lines) == sorted(failed)
    assert {line["level"] for line in lines} == {"WARNING"}
    assert provider.calls.total() == 0
    assert cloud.dead_letters() == []


def test_a_silent_provider_does_not_outlast_the_function(cloud, work, provider):
    provider.plan(fault("silence", times=None))
    context = Context(remaining_s=worker.RESERVE_S + 0.5)
    assert len(work(cloud.queue_event('{"messageId": 300}'), context)) == 1
    assert context.get_remaining_time_in_millis() > (worker.RESERVE_S - 1) * 1000


def test_without_time_or_after_a_bug_the_next_try_comes_before_the_cut_off_too(
    cloud, work, monkeypatch
):
    waits_s = waits(monkeypatch)
    body = message(30)
    work(cloud.queue_event(body, receive_count=7), Context(0))
    monkeypatch.setattr(cancellation, "cancel", lambda *_: 1 / 0)
    work(cloud.queue_event(body, receive_count=7))
    assert len(waits_s) == 2
    assert all(10 <= each <= 20 for each in waits_s)


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
    assert written.values("QueueAge") == [line["queue_age_ms"]]


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


def message(margin_s, **more):
    """Return a message whose cut-off, five minutes before its sendAt, is so many seconds ahead."""
    send_at = datetime.now(UTC) + timedelta(seconds=margin_s + 300)
    return json.dumps({"messageId": 300, "sendAt": send_at.isoformat(), **more})


REFUSED = '{"success": false, "code": %d}'


@pytest.mark.parametrize(
    ("margin_s", "code", "receive_count", "longest_s"),
    [
        (3600, 429, 1, 5),
        (3600, 429, 5, 80),
        (3600, 429, 69, 120),
        (130, 429, 6, 120),
        (60, 429, 5, 50),
        (60, 429, 69, 50),
        (60, 429, 3, 20),
        (25, 11, 1, 15),
        (14, 11, 3, 5),
        (10, 429, 6, 5),
    ],
)
def test_no_retry_waits_past_the_cut_off(
    margin_s, code, receive_count, longest_s, cloud, work, provider
):
    provider.plan(fault("status", status=200, body=REFUSED % code))
    body = message(margin_s)
    assert len(work(cloud.queue_event(body, receive_count=receive_count))) == 1
    assert 0.8 * (longest_s - 2) - 2 < cloud.visible_in_s()[body] <= longest_s
    assert cloud.dead_letters() == []


@pytest.mark.parametrize("margin_s", [10, 14])
def test_a_cut_off_that_is_near_leaves_five_seconds(margin_s, cloud, work, provider, monkeypatch):
    waits_s = waits(monkeypatch)
    provider.plan(fault("status", status=200, body=REFUSED % 429))
    work(cloud.queue_event(message(margin_s), receive_count=5))
    assert waits_s == [5]


@pytest.mark.parametrize("code", [11, 429, 99])
@pytest.mark.parametrize(("receive_count", "margin_s"), [(1, -1), (3, -7200), (69, -300)])
def test_the_cut_off_ends_no_tries(code, receive_count, margin_s, cloud, work, provider, written):
    provider.plan(fault("status", status=200, body=REFUSED % code))
    body = message(margin_s)
    assert len(work(cloud.queue_event(body, receive_count=receive_count))) == 1
    assert cloud.dead_letters() == []
    [line] = written.logged("cancel settled")
    assert (line["disposition"], line["margin_s"] < 0) == ("retry", True)
    longest_s = min(120, (30 if code == 11 else 5) * 2 ** (receive_count - 1))
    assert 0.8 * longest_s - 2 < cloud.visible_in_s()[body] <= longest_s


def test_the_last_receive_after_the_cut_off_dead_letters_as_ever(cloud, work, provider):
    provider.plan(fault("status", status=200, body=REFUSED % 11))
    assert work(cloud.queue_event(message(-1), receive_count=70)) == []
    [(_, attributes)] = cloud.dead_letters()
    assert attributes["detail"] == Outcome.CREDITS_EXHAUSTED.detail


@pytest.mark.parametrize(("margin_s", "said"), [(-301, True), (-290, False), (3600, False)])
def test_a_send_time_in_the_past_is_warned_of(margin_s, said, cloud, work, provider, written):
    assert work(cloud.queue_event(message(margin_s))) == []
    assert provider.state(300) == "cancelled"
    lines = written.logged("sendAt in the past")
    assert [(line["level"], line["message_id"]) for line in lines] == [("WARNING", "300")] * said


@pytest.mark.parametrize("send_at", ["2020-01-01T00:00:00Z", "tomorrow"])
@pytest.mark.parametrize(("receive_count", "times"), [(1, 1), (2, 0), (69, 0)])
def test_a_doubtful_send_time_is_warned_of_at_the_first_receive_only(
    send_at, receive_count, times, cloud, work, written
):
    body = json.dumps({"messageId": 300, "sendAt": send_at})
    assert work(cloud.queue_event(body, receive_count=receive_count)) == []
    warned = written.logged("sendAt in the past") + written.logged("sendAt not readable")
    assert len(warned) == times


def test_after_the_cut_off_an_sms_may_still_be_cancelled(cloud, work, provider, written):
    assert work(cloud.queue_event(message(-3600))) == []
    assert provider.state(300) == "cancelled"
    assert cloud.dead_letters() == []
    assert written.logged("cancel settled")[0]["disposition"] == "done"


def test_a_try_that_ends_after_the_cut_off_is_followed_by_another(cloud, work, monkeypatch):
    def cancel(*_):
        time.sleep(2.2)
        return smspartner.Answer(Outcome.THROTTLED, 429, 429)

    monkeypatch.setattr(smspartner, "cancel", cancel)
    body = message(2)
    assert len(work(cloud.queue_event(body, receive_count=1))) == 1
    assert cloud.dead_letters() == []
    assert 2 < cloud.visible_in_s()[body] <= 5


@pytest.mark.parametrize(("code", "longest_s"), [(429, 20), (11, 120), (4, 20)])
def test_after_the_cut_off_a_dead_letter_that_cannot_be_sent_is_tried_again_as_ever(
    code, longest_s, cloud, work, provider, written
):
    breaks("sqs", "SendMessage")
    provider.plan(fault("status", status=200, body=REFUSED % code))
    body = message(-1)
    assert len(work(cloud.queue_event(body, receive_count=3))) == 1
    assert 0.8 * longest_s - 2 < cloud.visible_in_s()[body] <= longest_s
    [line] = written.logged("cancel settled")
    assert line["disposition"] == "retry"
    assert written.values("CutOffMargin") == []


def test_what_is_written_for_a_cancel_is_short(cloud, work, provider, written, monkeypatch):
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1")
    provider.plan(fault("status", status=503, times=3))
    body = message(3600, messageId="9" * 20, recallId="r" * 40)
    worker.handler(cloud.queue_event(body), LongContext())
    assert len(written.logged("cancel settled")) == 1
    lines = [each for each in written.text.splitlines() if each.startswith("{")]
    assert sum(len(each.encode()) for each in lines) < 1000


MARKER = "marker-7261"


@pytest.mark.parametrize(
    "send_at",
    [
        MARKER,
        [MARKER],
        {"at": MARKER},
        MARKER * 20_000,
        "",
        None,
        True,
        1795506900,
        1e300,
        "2026-11-24",
        "2026-11-24T09:00:00",
        "0001-01-01T00:00:00Z",
        "\ud800",
        "9" * 5000,
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_an_unreadable_send_time_is_written_down_and_the_sms_is_cancelled_all_the_same(
    send_at, cloud, work, provider, written
):
    assert work(cloud.queue_event(json.dumps({"messageId": 300, "sendAt": send_at}))) == []
    assert provider.state(300) == "cancelled"
    [line] = written.logged("sendAt not readable")
    assert (line["level"], line["message_id"]) == ("WARNING", "300")
    assert MARKER not in written.text
    [settled] = written.logged("cancel settled")
    assert not {"send_at", "margin_s"} & set(settled)


@pytest.mark.parametrize(
    "recall_id", ["", "x" * 65, "a b", "é", "a\n", 1, None, ["a"], {}, "\ud800"], ids=ascii
)
def test_an_unreadable_recall_id_is_left_out_and_the_sms_is_cancelled_all_the_same(
    recall_id, cloud, work, provider, written
):
    assert work(cloud.queue_event(json.dumps({"messageId": 300, "recallId": recall_id}))) == []
    assert provider.state(300) == "cancelled"
    assert "recall_id" not in written.logged("cancel settled")[0]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)
times = st.datetimes(timezones=st.timezones()).map(datetime.isoformat)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(json_values, json_values | times)
def test_no_optional_field_loses_an_id(recall_id, send_at):
    body = json.dumps({"messageId": 300, "recallId": recall_id, "sendAt": send_at})
    request = requests.read(body)
    assert request.message_id == "300"
    assert request.margin_s(0) is None or isinstance(request.margin_s(0), int)


def test_what_a_message_says_of_its_campaign_is_written_down(cloud, work, written):
    work(cloud.queue_event(message(3600, recallId="r-1")))
    [line] = written.logged("cancel settled")
    assert (line["recall_id"], line["disposition"]) == ("r-1", "done")
    assert 3590 <= line["margin_s"] < 3600
    assert line["send_at"].endswith("+00:00")
    assert written.values("CutOffMargin") == [line["margin_s"]]
    assert '{"Name":"CutOffMargin","Unit":"Seconds"}' in written.text.replace(" ", "")


def test_a_message_of_no_campaign_says_nothing_of_one(cloud, work, written):
    work(cloud.queue_event('{"messageId": 300}'))
    [line] = written.logged("cancel settled")
    assert not {"recall_id", "margin_s", "send_at"} & set(line)
    assert written.values("CutOffMargin") == []


def test_the_margins_are_of_what_is_settled(cloud, work, provider, written):
    provider.schedule(301, 3600)
    provider.plan(fault("status", status=200, body=REFUSED % 429, message_id=302))
    bodies = [
        message(margin_s, messageId=each)
        for margin_s, each in ((1000, 300), (2000, 301), (3000, 302), (-4000, 303))
    ]
    assert len(work(cloud.queue_event(*bodies))) == 1
    margins = sorted(written.values("CutOffMargin"))
    assert [round(margin, -3) for margin in margins] == [-4000, 1000, 2000]


@pytest.mark.parametrize(
    ("message_id", "operation"), [(999, "SendMessage"), (300, "ChangeMessageVisibility")]
)
def test_a_cancel_is_written_down_once_its_message_has_been_disposed_of(
    message_id, operation, cloud, work, provider, written
):
    before = []

    def look(**_):
        before.append(written.logged("cancel settled"))

    aws.client("sqs").meta.events.register(f"after-call.sqs.{operation}", look)
    provider.plan(fault("status", status=200, body=REFUSED % 429, message_id=300))
    work(cloud.queue_event(json.dumps({"messageId": message_id})))
    assert before == [[]]
    assert len(written.logged("cancel settled")) == 1


def test_an_answer_lost_at_the_first_receive_is_done_at_the_second(cloud, work, provider):
    provider.plan(fault("close", moment="after", times=3))
    event = cloud.queue_event('{"messageId": 300}')
    assert len(work(event)) == 1
    assert work(event) == []
    assert provider.state(300) == "cancelled"


def test_a_bug_in_reporting_changes_no_outcome(cloud, work, provider, monkeypatch, written):
    def fail(*_, **__):
        raise RuntimeError(f"apiKey={KEY}")

    monkeypatch.setattr(report.alerts, "publish", fail)
    assert work(cloud.queue_event('{"messageId": 300}')) == []
    assert written.logged("bug")[0]["error"] == "RuntimeError"


@pytest.mark.parametrize("message_id", [300, 999])
def test_a_record_without_its_time_is_cancelled_and_not_dead_lettered_with_each_try(
    message_id, cloud, work, provider, written
):
    event = cloud.queue_event(json.dumps({"messageId": message_id}))
    del event["Records"][0]["attributes"]["SentTimestamp"]
    assert len(work(event)) == 1
    assert provider.calls.total() == 1
    assert provider.state(300) == ("cancelled" if message_id == 300 else "scheduled")
    assert cloud.dead_letters() == []
    assert written.logged("bug")[0]["error"] == "KeyError"
