"""Events: each settled cancel is one, where they are wanted; and nothing depends on them."""

import json
import subprocess
import sys
from datetime import datetime

import pytest

from conftest import ENVIRONMENT, Context
from infra.local.provider_server import fault
from infra.local.stack import ROOT
from sms_cancel import api, aws, events, worker
from sms_cancel.cancellation import Cancellation
from sms_cancel.outcome import Outcome
from sms_cancel.request import Request
from test_hanging_aws import CALL_S, NOISE_S, ODD, endpoint


@pytest.fixture(autouse=True)
def _in_place(cloud, provider, provider_url, monkeypatch):
    monkeypatch.setenv("OUTCOME_EVENTS", "true")


@pytest.fixture(name="put")
def put_events(cloud):
    """All events that EventBridge was sent, as a rule's target gets them."""
    sent = []

    def keep(request, **_):
        for entry in json.loads(request.body)["Entries"]:
            assert "EventBusName" not in entry  # which is the default bus
            event = {"source": entry["Source"], "detail-type": entry["DetailType"]}
            sent.append(event | {"detail": json.loads(entry["Detail"]), "time": entry["Time"]})

    aws.client("events").meta.events.register_first("before-send.events.PutEvents", keep)
    return sent


def delete(message_id="300"):
    event = {
        "routeKey": "DELETE /messages/{messageId}",
        "rawPath": f"/messages/{message_id}",
        "pathParameters": {"messageId": message_id},
    }
    return json.loads(api.handler(event, Context())["body"])


def work(cloud, *bodies):
    event = cloud.queue_event(*map(json.dumps, bodies))
    return worker.handler(event, Context())["batchItemFailures"]


def failed(written):
    """Return how many calls failed, by the metric."""
    return written.values("EventPutFailed")


def test_a_cancel_over_http_is_an_event_once_it_is_done(put):
    delete()
    [event] = put
    detail = event["detail"]
    assert (event["source"], event["detail-type"]) == ("sms-cancel", "SMS cancel settled")
    assert datetime.fromisoformat(detail.pop("settledAt")).tzinfo
    assert detail == {
        "messageId": "300", "outcome": "cancelled", "code": 200, "door": "http",
        "marginSeconds": None, "recallId": None, "service": "sms-cancel",
    }  # fmt: skip


@pytest.mark.parametrize("message_id", ["999", "abc"])
def test_a_cancel_over_http_that_is_not_done_is_none(message_id, put):
    delete(message_id)
    assert put == []


def test_a_message_is_an_event_once_it_is_done_or_dead_lettered(put, cloud, provider):
    provider.plan(fault("status", status=429, message_id=301))
    more = {"sendAt": "2099-11-24T09:00:00+01:00", "recallId": "r-1"}
    work(cloud, {"messageId": 300, **more}, {"messageId": 301}, {"messageId": 999}, "poison")
    details = {each["detail"]["messageId"]: each["detail"] for each in put}
    assert {name: each["outcome"] for name, each in details.items()} == {
        "300": "cancelled", "999": "not_found", None: "invalid_request"
    }  # fmt: skip
    assert {each["door"] for each in details.values()} == {"queue"}
    assert (details["300"]["recallId"], details["300"]["code"]) == ("r-1", 200)
    assert details["300"]["marginSeconds"] > 1e9
    assert (details["999"]["recallId"], details["999"]["marginSeconds"]) == (None, None)
    assert details[None]["code"] is None


def test_after_the_cut_off_a_failed_try_is_no_event_yet(put, cloud, provider):
    provider.plan(fault("status", status=429))
    assert len(work(cloud, {"messageId": 300, "sendAt": "2020-11-24T09:00:00Z"})) == 1
    assert put == []
    assert work(cloud, {"messageId": 300, "sendAt": "2020-11-24T09:00:00Z"}) == []
    assert put[0]["detail"]["outcome"] == "cancelled"
    assert put[0]["detail"]["marginSeconds"] < 0


def test_settled_is_when_it_was_settled(cloud, put):
    request = Request("300", datetime.fromisoformat("2026-11-24T08:05:00Z"))
    events.put(
        [Cancellation(request, Outcome.CANCELLED, 200, ended_at=1795506900.25)], door="queue"
    )
    [event] = put
    assert event["detail"]["settledAt"] == "2026-11-24T07:55:00.250+00:00"
    assert event["detail"]["marginSeconds"] == 299
    assert int(event["time"]) == 1795506900


def test_the_events_of_a_batch_are_put_in_one_call(cloud, put):
    calls = []
    bus = aws.client("events").meta.events
    bus.register("before-call.events.PutEvents", lambda **_: calls.append(1))
    work(cloud, *({"messageId": each} for each in range(300, 310)))
    assert (len(calls), len(put)) == (1, 10)


def test_what_eventbridge_does_not_take_is_written_down_and_changes_nothing(
    cloud, put, written, provider
):
    def refuse_one(parsed, **_):
        parsed["FailedEntryCount"] = 1
        parsed["Entries"][0] = {"ErrorCode": "ThrottlingException", "ErrorMessage": "no"}

    aws.client("events").meta.events.register("after-call.events.PutEvents", refuse_one)
    assert work(cloud, {"messageId": 300}, {"messageId": 999}) == []
    assert provider.state(300) == "cancelled"
    assert len(cloud.dead_letters()) == 1
    [line] = written.logged("event not put")
    assert (line["level"], line["reason"], line["count"]) == ("ERROR", "ThrottlingException", 1)
    assert failed(written) == [1]


@pytest.mark.parametrize("answer", [*ODD, "null count"])
def test_without_eventbridge_nothing_changes(answer, cloud, provider, monkeypatch, written):
    null = b'{"FailedEntryCount": null, "Entries": []}'
    odd = ODD.get(answer, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(null), null))
    event = cloud.queue_event('{"messageId": 300}', '{"messageId": 999}')
    context = Context()
    with endpoint(odd) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", url)
        aws._clients.clear()
        assert worker.handler(event, context) == {"batchItemFailures": []}
    assert context.get_remaining_time_in_millis() > (30 - CALL_S - NOISE_S) * 1000
    assert provider.state(300) == "cancelled"
    assert len(cloud.dead_letters()) == 1
    assert written.logged("event not put")[0]["level"] == "ERROR"
    assert failed(written) == [1]


@pytest.mark.parametrize("value", ["false", "", "True", "1", None])
def test_where_they_are_not_wanted_there_are_none(value, monkeypatch, written):
    monkeypatch.delenv("OUTCOME_EVENTS")
    if value is not None:
        monkeypatch.setenv("OUTCOME_EVENTS", value)
    assert delete()["outcome"] == "cancelled"
    assert set(aws._clients) == {"secretsmanager"}
    assert failed(written) == []


def test_where_they_are_not_wanted_not_even_their_module_is_loaded():
    code = (
        "import sys; sys.path.insert(0, 'functions'); "
        "from sms_cancel import api, report, worker; "
        "from sms_cancel.cancellation import Cancellation, Request; "
        "from sms_cancel.outcome import Outcome; "
        "done = Cancellation(Request('300'), Outcome.CANCELLED); "
        "report.notify([done], [done], door='http', request_id='1'); "
        "assert 'sms_cancel.events' not in sys.modules"
    )
    environment = ENVIRONMENT | {"OUTCOME_EVENTS": "false"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
