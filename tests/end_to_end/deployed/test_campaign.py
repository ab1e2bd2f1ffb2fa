"""Many cancels at once through the deployed template: handed in over HTTP, done by the queue."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from end_to_end.conftest import eventually
from infra.local import stack
from infra.local.bundle import ROOT_USER
from infra.local.provider_server import fault

from .test_doors import dead_letter, new_user


def test_a_campaign_is_called_off_with_one_request(bundle, provider):
    ids = list(range(20_000, 20_250))
    for message_id in ids:
        provider.schedule(message_id, 3600)
    status, answer = bundle.post({"messageIds": [*ids, str(ids[0]), "three hundred"]})
    assert (status, answer["accepted"]) == (202, 250)
    assert [each["messageId"] for each in answer["rejected"]] == ["three hundred"]
    assert eventually(lambda: all(provider.state(each) == "cancelled" for each in ids))
    assert all(provider.calls[each] >= 1 for each in ids)


def test_what_cannot_be_cancelled_lies_in_the_dead_letter_queue_as_it_was_handed_in(
    bundle, provider
):
    asked_for = {"sendAt": "2099-11-24T09:00:00+01:00", "recallId": "campaign-1"}
    assert bundle.post({"messageIds": [20_300], **asked_for})[0] == 202
    letter = dead_letter(bundle)
    assert letter["outcome"] == "not_found"
    assert json.loads(letter["body"]) == {"messageId": "20300", **asked_for}


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"x", "application/json", 400),
        (b'{"messageIds": []}', "application/json; charset=utf-8", 400),
        (b'{"messageIds": [1], "sendAt": "tomorrow"}', "application/json", 400),
        (b'{"messageIds": [1]}', "text/plain", 415),
        (b'{"messageIds": [1]}', "application/x-www-form-urlencoded", 415),
        (json.dumps({"messageIds": list(range(1001))}).encode(), "application/json", 413),
        (b'{"messageIds": [1]}' + b" " * 65_536, "application/json", 413),
    ],
)
def test_what_is_no_campaign_is_a_problem(bundle, provider, body, content_type, status):
    headers = {"Content-Type": content_type}
    answered, problem = bundle.call("POST", "/cancellations", ROOT_USER, body, **headers)
    assert (answered, problem["status"], problem["type"]) == (status, status, "about:blank")
    assert provider.calls.total() == 0


def test_who_may_cancel_one_may_not_cancel_many_and_the_other_way_round(bundle, provider):
    provider.schedule(300, 3600)
    api = f"arn:aws:execute-api:*:*:{bundle.outputs['ApiId']}/$default"
    one = new_user(bundle, "execute-api:Invoke", f"{api}/DELETE/messages/*")
    many = new_user(bundle, "execute-api:Invoke", f"{api}/POST/cancellations")
    assert bundle.post({"messageIds": [300]}, **one)[0] == 403
    assert bundle.delete(300, **many)[0] == 403
    assert provider.state(300) == "scheduled"
    assert bundle.post({"messageIds": [300]}, **many)[0] == 202
    assert eventually(lambda: provider.state(300) == "cancelled")


def test_an_unsigned_campaign_is_refused(bundle, provider):
    headers = {"Content-Type": "application/json"}
    status, answer = bundle.call(
        "POST", "/cancellations", None, b'{"messageIds": [300]}', **headers
    )
    assert (status, "message" in answer) == (403, True)
    assert provider.calls.total() == 0


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_another_method_is_not_found(bundle, method):
    assert bundle.call(method, "/cancellations", ROOT_USER)[0] == 404


def send_at(margin_s):
    """Return a time whose cut-off, five minutes before it, is so many seconds ahead."""
    return (datetime.now(UTC) + timedelta(seconds=margin_s + 300)).isoformat()


def test_a_retry_comes_before_the_cut_off(bundle, provider):
    provider.schedule(300, 320)
    exhausted = '{"success": false, "code": 11}'
    provider.plan(fault("status", status=200, body=exhausted))
    begun_at = time.monotonic()
    bundle.post({"messageIds": [300], "sendAt": send_at(20)})
    assert eventually(lambda: provider.state(300) == "cancelled")
    assert 5 < time.monotonic() - begun_at < 20  # without a sendAt 30 s later, and too late


def test_after_the_cut_off_it_is_tried_until_sms_partner_refuses_it(bundle, provider):
    provider.schedule(300, 240)
    provider.plan(fault("status", status=503, times=3))  # all attempts of the first receive
    body = {"messageIds": [300], "sendAt": send_at(-60), "recallId": "summer-1"}
    assert bundle.post(body)[1]["accepted"] == 1
    assert dead_letter(bundle)["outcome"] == "too_late"
    assert eventually(lambda: len(lines_of(bundle, "summer-1")) == 2)
    first, last = sorted(lines_of(bundle, "summer-1"), key=lambda line: line["receive_count"])
    assert (first["disposition"], first["outcome"]) == ("retry", "unavailable")
    assert (last["disposition"], last["outcome"]) == ("dead_lettered", "too_late")
    assert max(first["margin_s"], last["margin_s"]) <= -60


def lines_of(bundle, recall_id):
    """Return what the log group that the stack names has of a campaign."""
    found = stack.client(bundle.endpoint, "logs").filter_log_events(
        logGroupName=bundle.outputs["WorkerLogGroupName"],
        filterPattern=f'"cancel settled" "{recall_id}"',
    )
    return [json.loads(event["message"]) for event in found["events"]]


def test_the_lines_of_a_campaign_are_found_in_the_log_group_that_the_stack_names(bundle, provider):
    provider.schedule(300, 3600)
    bundle.post({"messageIds": [300], "recallId": "winter-1"})
    [line] = eventually(lambda: lines_of(bundle, "winter-1"))
    assert (line["message_id"], line["recall_id"]) == ("300", "winter-1")
    assert (line["outcome"], line["disposition"]) == ("cancelled", "done")
