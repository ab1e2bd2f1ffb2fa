"""Events: each settled cancel is one, where they are wanted; and nothing depends on them."""

import json
import subprocess
import sys
import threading
from datetime import datetime

import pytest

from conftest import ENVIRONMENT, Context
from infra.local.provider_server import fault
from infra.local.stack import ROOT
from sms_cancel import api, aws, cancellation, outcome_events, worker
from sms_cancel.outcome import Cancellation, Outcome
from test_hanging_aws import CALL_S, NOISE_S, ODD, endpoint


@pytest.fixture(autouse=True)
def _in_place(cloud, provider, provider_url, monkeypatch):
    monkeypatch.setenv("OUTCOME_EVENTS", "true")


@pytest.fixture
def events(cloud):
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
    return [m["EventPutFailed"] for _, m in written.metrics() if "EventPutFailed" in m]


def test_a_cancel_over_http_is_an_event_once_it_is_done(events):
    delete()
    [event] = events
    detail = event["detail"]
    assert (event["source"], event["detail-type"]) == ("sms-cancel", "SMS cancel settled")
    assert datetime.fromisoformat(detail.pop("settledAt")).tzinfo
    assert detail == {
        "messageId": "300", "outcome": "cancelled", "code": 200, "door": "http",
        "marginSeconds": None, "recallId": None, "service": "sms-cancel",
    }  # fmt: skip


@pytest.mark.parametrize("message_id", ["999", "abc"])
def test_a_cancel_over_http_that_is_not_done_is_none(message_id, events):
    delete(message_id)
    assert events == []


def test_a_message_is_an_event_once_it_is_done_or_dead_lettered(events, cloud, provider):
    provider.plan(fault("status", status=429, message_id=301))
    more = {"sendAt": "2099-11-24T09:00:00+01:00", "recallId": "r-1"}
    work(cloud, {"messageId": 300, **more}, {"messageId": 301}, {"messageId": 999}, "poison")
    details = {each["detail"]["messageId"]: each["detail"] for each in events}
    assert {name: each["outcome"] for name, each in details.items()} == {
        "300": "cancelled", "999": "not_found", None: "invalid_request"
    }  # fmt: skip
    assert {each["door"] for each in details.values()} == {"queue"}
    assert (details["300"]["recallId"], details["300"]["code"]) == ("r-1", 200)
    assert details["300"]["marginSeconds"] > 1e9
    assert (details["999"]["recallId"], details["999"]["marginSeconds"]) == (None, None)
    assert details[None]["code"] is None


def test_after_the_cut_off_the_event_has_the_outcome_of_the_last_try(events, cloud, provider):
    provider.plan(fault("status", status=429))
    work(cloud, {"messageId": 300, "sendAt": "2020-11-24T09:00:00Z"})
    [event] = events
    assert event["detail"]["outcome"] == "throttled"
    assert event["detail"]["marginSeconds"] < 0


def test_settled_is_when_it_was_settled(cloud, events):
    settled = Cancellation("300", Outcome.CANCELLED, 200, settled_at=1795506900.25)
    assert outcome_events.put([settled], door="queue")
    [event] = events
    assert event["detail"]["settledAt"] == "2026-11-24T07:55:00.250+00:00"
    assert int(event["time"]) == 1795506900


def test_events_are_put_ten_at_a_time(cloud, events):
    puts = []
    bus = aws.client("events").meta.events
    bus.register(
        "provide-client-params.events.PutEvents",
        lambda params, **_: puts.append(len(params["Entries"])),
    )
    settled = [Cancellation(str(each), Outcome.CANCELLED, settled_at=1.0) for each in range(25)]
    waiting = Cancellation("99", Outcome.THROTTLED)
    cancellation.report([*settled, waiting], door="queue", request_id="1")
    assert sorted(puts) == [5, 10, 10]


def test_what_eventbridge_does_not_take_is_written_down_and_changes_nothing(
    cloud, events, written, provider
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
    assert failed(written) == [[1.0]]


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
    assert failed(written) == [[1.0]]


def test_alerts_and_events_share_their_three_seconds(cloud, provider, monkeypatch, written):
    hanging = threading.Event()
    monkeypatch.setattr(cancellation, "TELL_S", 0.2)
    monkeypatch.setattr(cancellation.alerts, "publish", lambda *_, **__: hanging.wait(10))
    monkeypatch.setattr(outcome_events, "put", lambda *_, **__: hanging.wait(10))
    context = Context()
    settled = [
        Cancellation("300", Outcome.CANCELLED, settled_at=1.0),
        Cancellation("301", Outcome.API_KEY_REJECTED),
    ]
    cancellation.report(settled, door="queue", request_id="1")
    hanging.set()
    assert context.get_remaining_time_in_millis() > 29_000
    assert written.logged("event not put")[0]["reason"] == "over 0.2 s"
    assert written.logged("alert not published")[0]["reason"] == "over 0.2 s"
    metrics = written.metrics()[-1][1]
    assert (metrics["EventPutFailed"], metrics["AlertPublishFailed"]) == ([1.0], [1.0])


@pytest.mark.parametrize("value", ["false", "", "True", "1", None])
def test_where_they_are_not_wanted_there_are_none(value, monkeypatch, written):
    monkeypatch.delenv("OUTCOME_EVENTS")
    if value is not None:
        monkeypatch.setenv("OUTCOME_EVENTS", value)
    assert delete()["outcome"] == "cancelled"
    assert {service for service, _ in aws._clients} == {"secretsmanager"}
    assert failed(written) == []


def test_where_they_are_not_wanted_not_even_their_module_is_loaded():
    code = (
        "import sys; sys.path.insert(0, 'functions'); "
        "from sms_cancel import api, cancellation, worker; "
        "from sms_cancel.outcome import Cancellation, Outcome; "
        "done = Cancellation('300', Outcome.CANCELLED, settled_at=1.0); "
        "cancellation.report([done], door='http', request_id='1'); "
        "assert 'sms_cancel.outcome_events' not in sys.modules"
    )
    environment = ENVIRONMENT | {"OUTCOME_EVENTS": "false"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
