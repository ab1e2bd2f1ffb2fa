"""Many cancels at once: what is not rejected is on the queue, whatever SQS does."""

import base64
import json
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
from botocore.exceptions import EndpointConnectionError

from conftest import Context
from infra.local.stack import ROOT
from sms_cancel import api, aws, bulk

SEND_AT = "2099-11-24T09:00:00+01:00"
INVALID_ID = "messageId must be 1 to 20 digits"


def event(body, content_type="application/json", **more):
    return {
        "version": "2.0",
        "routeKey": "POST /cancellations",
        "rawPath": "/cancellations",
        "headers": {"content-type": content_type, "content-length": "1"},
        "body": body if isinstance(body, str) else json.dumps(body),
        "isBase64Encoded": False,
    } | more


@pytest.fixture
def post(written, cloud):
    def post(body, *, context=None, **kwargs):
        answer = written.keep(api.handler(event(body, **kwargs), context or Context()))
        return answer["statusCode"], json.loads(answer["body"]), answer["headers"]

    return post


def ids_of(messages):
    return sorted(int(each["messageId"]) for each in messages)


@pytest.fixture
def refuses(cloud):
    """Have SQS refuse ids, each as often as is said; return the batches that it was sent."""

    def refuse(times, code="InternalError"):
        sent = []

        def keep_back(params, context, **_):
            batch = [each["Id"] for each in params["Entries"]]
            sent.append(batch)
            refused = context["refused"] = [each for each in batch if times.get(each, 0) > 0]
            for each in refused:
                times[each] -= 1
            params["Entries"] = [each for each in params["Entries"] if each["Id"] not in refused]

        def say_so(parsed, context, **_):
            parsed["Failed"] = [
                {"Id": each, "Code": code, "SenderFault": False} for each in context["refused"]
            ]

        events = aws.client("sqs").meta.events
        events.register("provide-client-params.sqs.SendMessageBatch", keep_back)
        events.register("after-call.sqs.SendMessageBatch", say_so)
        return sent

    return refuse


def test_each_id_is_a_message_on_the_queue(post, cloud):
    status, answer, headers = post({"messageIds": [300, "301", "0302", "9" * 20]})
    assert (status, answer) == (202, {"accepted": 4, "rejected": []})
    assert headers["Content-Type"] == "application/json"
    assert sorted(each["messageId"] for each in cloud.queued()) == ["0302", "300", "301", "9" * 20]
    assert {tuple(each) for each in cloud.queued()} == {("messageId",)}


def test_the_send_time_and_the_recalls_id_travel_with_each_message(post, cloud):
    body = {"messageIds": [300, 301], "sendAt": SEND_AT, "recallId": "Summer_sale-2"}
    assert post(body)[0] == 202
    assert cloud.queued() == [
        {"messageId": each, "sendAt": SEND_AT, "recallId": "Summer_sale-2"}
        for each in ("300", "301")
    ]


@pytest.mark.parametrize(
    ("more", "group"), [({"recallId": "Summer_sale-2"}, "Summer_sale-2"), ({}, None)]
)
def test_what_is_sent_together_is_one_message_group_of_the_fair_queue(more, group, post, cloud):
    post({"messageIds": list(range(300, 320))} | more)
    assert cloud.groups() == {group or Context.aws_request_id}


def test_a_byte_order_mark_is_white_space(post, cloud):
    assert post('\ufeff{"messageIds": [300]}')[0] == 202


def test_an_id_that_is_named_twice_is_one_message(post, cloud):
    status, answer, _ = post({"messageIds": [300, "300", 301, 300, "301"]})
    assert (status, answer) == (202, {"accepted": 2, "rejected": []})
    assert ids_of(cloud.queued()) == [300, 301]


@pytest.mark.parametrize(
    ("given", "echo"),
    [
        ("abc", "abc"),
        ("", ""),
        ("9" * 21, "9" * 21),
        ("٣٠٠", "٣٠٠"),
        ("300\n", "300\n"),
        ("\ud800", "\ud800"),
        ("x" * 1000, "x" * 64),
        (-1, -1),
        (3.0, 3.0),
        (int("9" * 21), int("9" * 21)),
        (int("9" * 64), int("9" * 64)),
        (int("9" * 65), "9" * 64),
        (int("9" * 3000), "9" * 64),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (True, "true"),
        (None, "null"),
        (["300"], '["300"]'),
        ({"messageId": 300}, '{"messageId": 300}'),
        (["x" * 100], '["' + "x" * 62),
    ],
    ids=lambda value: str(value)[:8].encode("ascii", "replace").decode(),
)
def test_what_is_no_id_is_rejected_and_the_rest_is_queued(given, echo, post, cloud):
    status, answer, _ = post({"messageIds": [300, given, 301]})
    assert (status, answer["accepted"]) == (202, 2)
    [rejected] = answer["rejected"]
    assert (rejected["messageId"], type(rejected["messageId"])) == (echo, type(echo))
    assert INVALID_ID in rejected["detail"]
    assert ids_of(cloud.queued()) == [300, 301]


def test_an_answer_is_json_whatever_was_given(post, cloud):
    _, answer, _ = post('{"messageIds": [NaN, -Infinity, 1e999, 300]}')
    assert [each["messageId"] for each in answer["rejected"]] == ["NaN", "-Infinity", "Infinity"]


def test_ids_none_of_which_is_valid_are_all_rejected(post, cloud):
    status, answer, _ = post({"messageIds": ["a", "b"]})
    assert (status, answer["accepted"], len(answer["rejected"])) == (202, 0, 2)
    assert cloud.queued() == []


@pytest.mark.parametrize(
    "body",
    [
        "",
        "x",
        "{",
        "null",
        "300",
        "[300]",
        '"messageIds"',
        "{}",
        '{"messageids": [300]}',
        '{"messageIds": []}',
        '{"messageIds": null}',
        '{"messageIds": 300}',
        '{"messageIds": "300"}',
        '{"messageIds": {"300": 300}}',
        '{"messageIds": [300]',
        '{"messageIds": [300]} x',
        '{"messageIds": [300], "messageIds": [301]}',
        '{"messageIds": [300], "recallId": "a", "recallId": "b"}',
        '{"messageIds": [{"x": 1, "x": 2}]}',
        "[" * 60_000,
        '{"messageIds": [' + "[" * 20_000 + "]" * 20_000 + "]}",
        '{"messageIds": [' + "9" * 5000 + "]}",
        '{"messageIds": [300], "x": "\ud800"',
        '{"messageIds": [300], "sendat": "2099-11-24T09:00:00+01:00"}',
        "\x00\x01",
    ],
    ids=lambda body: body[:30].encode("ascii", "replace").decode(),
)
def test_another_body_is_a_problem_that_says_what_to_send(body, post, cloud):
    status, problem, headers = post(body)
    assert (status, problem["status"], problem["type"]) == (400, 400, "about:blank")
    assert headers["Content-Type"] == "application/problem+json"
    assert problem["instance"] == Context.aws_request_id
    assert '"messageIds"' in problem["detail"]
    assert cloud.queued() == []


@pytest.mark.parametrize("body", [{}, {"body": None}, {"body": ""}])
def test_a_request_without_a_body_is_a_problem(body, written, cloud):
    without = event("")
    del without["body"], without["isBase64Encoded"]
    without |= body
    assert written.keep(api.handler(without, Context()))["statusCode"] == 400


@pytest.mark.parametrize("depth", [*range(950, 1000), *range(9970, 10_000)])
def test_however_deep_a_body_is_nested_it_is_judged(depth, cloud):
    body = '{"messageIds": [300, ' + "[" * depth + "]" * depth + "]}"
    with suppress(bulk.Refused):
        assert [each.message_id for _, each in bulk.read(body.encode())] == ["300", None]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("sendAt", value)
            for value in (
                "2099-11-24T09:00:00",
                "2099-11-24",
                "09:00:00+01:00",
                "tomorrow",
                "",
                "2099-11-24T09:00:00+01:00 ",
                "2099-13-24T09:00:00+01:00",
                "2099-11-24T09:00:00+25:00",
                "0001-01-01T00:00:00+00:00",
                "1970-01-01T00:00:00Z",
                "2026-11-24T09:00:00+01:00",
                "10000-01-01T00:00:00Z",
                "9" * 5000,
                1795506900,
                1795506900.5,
                True,
                None,
                [SEND_AT],
                {"at": SEND_AT},
            )
        ),
        *(
            ("recallId", value)
            for value in ("", "x" * 65, "a b", "é", "a\n", "٣", "\ud800", 1, None, ["a"], True)
        ),
    ],
)
def test_a_wrong_optional_field_is_a_problem_that_names_it(name, value, post, cloud):
    status, problem, _ = post({"messageIds": [300], name: value})
    assert (status, problem["type"]) == (400, "about:blank")
    assert problem["detail"].startswith(f"{name} must be ")
    assert cloud.queued() == []


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("2099-11-24T08:00:00Z", "2099-11-24T08:00:00+00:00"),
        ("2099-11-24 09:00+01:00", SEND_AT),
        ("20991124T090000.5-0330", "2099-11-24T09:00:00.500000-03:30"),
        ("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59-23:59"),
    ],
)
def test_every_time_of_iso_8601_with_an_offset_is_taken_however_far_away(given, sent, post, cloud):
    assert post({"messageIds": [300], "sendAt": given})[0] == 202
    assert [each["sendAt"] for each in cloud.queued()] == [sent]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 202),
        ("application/json; charset=utf-8", 202),
        ("Application/JSON;charset=UTF-8", 202),
        ("", 415),
        ("text/plain", 415),
        ("application/jsonp", 415),
        ("application/problem+json", 415),
        ("application/x-www-form-urlencoded", 415),
    ],
)
def test_only_json_is_read(content_type, status, post, cloud):
    answered, answer, _ = post({"messageIds": [300]}, content_type=content_type)
    assert answered == status
    assert len(cloud.queued()) == (status == 202)
    assert ("application/json" in answer.get("detail", "")) == (status == 415)


def test_a_request_without_a_content_type_is_not_read(post, cloud):
    assert post({"messageIds": [300]}, headers={})[0] == 415


def test_a_body_in_base64_is_read_too(post, cloud):
    body = base64.b64encode(b'{"messageIds": [300]}').decode()
    assert post(body, isBase64Encoded=True)[0] == 202
    assert ids_of(cloud.queued()) == [300]


@pytest.mark.parametrize(("count", "status"), [(1000, 202), (1001, 413)])
def test_a_thousand_ids_are_taken_and_no_more(count, status, post, cloud):
    answered, answer, _ = post({"messageIds": list(range(count))})
    assert answered == status
    if status == 202:
        assert answer == {"accepted": 1000, "rejected": []}
        assert ids_of(cloud.queued()) == list(range(1000))
    else:
        assert answer["detail"] == "Send at most 1,000 ids at a time."
        assert cloud.queued() == []


@pytest.mark.parametrize(("size", "status"), [(65_536, 202), (65_537, 413)])
@pytest.mark.parametrize("in_base64", [False, True])
def test_a_body_has_at_most_64_kib(size, status, in_base64, post, cloud):
    text = '{"messageIds": ["é", 300'
    body = text + " " * (size - len(text.encode()) - 2) + "]}"
    assert len(body.encode()) == size
    sent = base64.b64encode(body.encode()).decode() if in_base64 else body
    answered, answer, _ = post(sent, isBase64Encoded=in_base64)
    assert answered == status
    assert ("64 KiB" in answer.get("detail", "")) == (status == 413)
    assert len(cloud.queued()) == (status == 202)


def test_what_sqs_leaves_of_a_batch_is_sent_again(post, cloud, refuses, written):
    sent = refuses({"303": 1, "305": 2})
    status, answer, _ = post({"messageIds": list(range(300, 310))})
    assert (status, answer) == (202, {"accepted": 10, "rejected": []})
    assert ids_of(cloud.queued()) == list(range(300, 310))
    assert sent == [[str(each) for each in range(300, 310)], ["303", "305"], ["305"]]
    assert [each["reason"] for each in written.logged("not queued")] == ["InternalError"] * 2


def test_what_sqs_takes_at_once_is_sent_once(post, cloud, refuses, written):
    sent = refuses({})
    assert post({"messageIds": [300, 301]})[1] == {"accepted": 2, "rejected": []}
    assert sent == [["300", "301"]]
    assert written.logged("not queued") == []


def test_the_pauses_before_sending_again_grow_and_vary(post, cloud, refuses, monkeypatch):
    pauses = []
    monkeypatch.setattr("time.sleep", pauses.append)
    refuses({str(each): 9 for each in range(300, 400)})
    assert post({"messageIds": list(range(300, 400))})[0] == 503
    later = [each for each in pauses if each > 0]
    assert len(set(later)) == 20  # two for each of ten batches
    assert all(0.2 <= each <= 0.8 for each in later)
    assert len([each for each in later if each <= 0.4]) == 10


def test_what_sqs_never_takes_is_rejected_as_it_was_given(post, cloud, refuses):
    refuses({"303": 3, "305": 9})
    status, answer, _ = post({"messageIds": [*range(300, 305), "305", "x"]})
    assert (status, answer["accepted"]) == (202, 4)
    rejected = {each["messageId"]: each["detail"] for each in answer["rejected"]}
    assert set(rejected) == {303, "305", "x"}
    assert rejected[303] == rejected["305"] == bulk.NOT_QUEUED
    assert ids_of(cloud.queued()) == [300, 301, 302, 304]


def test_a_batch_that_fails_takes_no_other_with_it(post, cloud, monkeypatch):
    def fail(params, **_):
        if any(each["Id"] == "315" for each in params["Entries"]):
            raise EndpointConnectionError(endpoint_url="https://aws")

    events = aws.client("sqs").meta.events
    events.register("provide-client-params.sqs.SendMessageBatch", fail)
    _, answer, _ = post({"messageIds": list(range(300, 330))})
    assert [each["messageId"] for each in answer["rejected"]] == list(range(310, 320))
    assert answer["accepted"] == 20
    assert ids_of(cloud.queued()) == [*range(300, 310), *range(320, 330)]


class Answered:
    status_code = 200


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"Successful": []},
        {"Successful": None},
        {"Successful": [{}]},
        {"Successful": [{"Id": "999"}]},
        {"Successful": [{"Id": ["300"]}]},
        {"Failed": [{"Id": "300"}], "Successful": [{"Id": "300"}]},
    ],
)
def test_only_what_sqs_names_as_taken_is_accepted(answer, post, cloud):
    events = aws.client("sqs").meta.events
    events.register("before-call.sqs.SendMessageBatch", lambda **_: (Answered, answer))
    status, problem, headers = post({"messageIds": [300]})
    assert (status, problem["type"], headers["Retry-After"]) == (503, "about:blank", "10")


def test_without_a_queue_nothing_is_accepted(post, cloud, monkeypatch, written):
    monkeypatch.setenv("QUEUE_URL", cloud.queue_url + "-gone")
    status, problem, headers = post({"messageIds": [300, "x"]})
    assert (status, problem["status"], headers["Retry-After"]) == (503, 503, "10")
    assert "send all of it again" in problem["detail"]
    assert len(written.logged("not queued")) == 3
    assert written.logged("cancels queued")[0]["accepted"] == 0
    assert written.metrics() == []


@pytest.mark.parametrize("remaining_s", [0, api.RESERVE_S])
def test_without_time_nothing_is_sent(remaining_s, post, cloud):
    assert post({"messageIds": [300]}, context=Context(remaining_s))[0] == 503
    assert cloud.queued() == []


def test_what_time_runs_out_for_is_rejected(post, cloud, monkeypatch):
    monkeypatch.setattr(bulk, "MAX_THREADS", 1)
    context = Context(api.RESERVE_S + 0.5)
    events = aws.client("sqs").meta.events
    events.register("after-call.sqs.SendMessageBatch", lambda **_: time.sleep(0.6))
    status, answer, _ = post({"messageIds": list(range(300, 330))}, context=context)
    assert (status, answer["accepted"]) == (202, 10)
    assert [each["messageId"] for each in answer["rejected"]] == list(range(310, 330))
    assert ids_of(cloud.queued()) == list(range(300, 310))


def test_ten_batches_are_under_way_at_the_same_time(post, cloud):
    all_there = threading.Barrier(10, timeout=10)

    def meet(**_):
        all_there.wait()  # broken, and so a failed batch, unless the ten meet here

    aws.client("sqs").meta.events.register("before-call.sqs.SendMessageBatch", meet)
    assert post({"messageIds": list(range(100))})[1] == {"accepted": 100, "rejected": []}


def test_one_line_and_one_metric_say_how_many_were_queued(post, cloud, written):
    post({"messageIds": [300, 301, "x"], "sendAt": SEND_AT, "recallId": "r1"})
    [line] = written.logged("cancels queued")
    assert line["level"] == "INFO"
    assert (line["accepted"], line["rejected"]) == (2, 1)
    assert (line["recall_id"], line["send_at"]) == ("r1", SEND_AT)
    assert line["duration_ms"] >= 0
    assert line["function_request_id"] == Context.aws_request_id
    assert written.metrics() == [({"service": "sms-cancel"}, {"CancelsQueued": [2]})]


def test_how_long_it_took_to_queue_is_told_in_milliseconds(post, cloud, written):
    events = aws.client("sqs").meta.events
    events.register("before-call.sqs.SendMessageBatch", lambda **_: time.sleep(0.1))
    post({"messageIds": [300]})
    assert 100 <= written.logged("cancels queued")[0]["duration_ms"] < 10_000


def test_without_the_queues_name_the_function_says_so(post, cloud, monkeypatch, written):
    monkeypatch.setenv("QUEUE_URL", "")
    assert post({"messageIds": [300]})[0] == 500
    assert "environment variable QUEUE_URL " in written.logged("bug")[0]["error"]


def test_who_cancels_one_message_does_not_wait_for_what_queues_many():
    code = (
        "import sys; sys.path.insert(0, 'functions'); from sms_cancel import api, aws; "
        "assert 'sms_cancel.bulk' not in sys.modules; assert aws._clients == {}"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
