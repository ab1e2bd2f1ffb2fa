"""The redrive script takes what is chosen, leaves the rest, and loses nothing wherever it ends."""

import threading
from collections import Counter

import boto3
import pytest
from moto.sqs.models import sqs_backends

from conftest import REGION
from infra import redrive


class Killed(BaseException):
    pass


class OneAtATime:
    """A client of moto, whose queues are not safe to use from many threads."""

    def __init__(self, client):
        self._client = client
        self._lock = threading.Lock()

    def __getattr__(self, name):
        def call(**arguments):
            with self._lock:
                return getattr(self._client, name)(**arguments)

        return call


def fill(cloud, **outcomes):
    for outcome, count in outcomes.items():
        attributes = {"outcome": {"DataType": "String", "StringValue": outcome}}
        for number in range(count):
            cloud.sqs.send_message(
                QueueUrl=cloud.dead_letter_queue_url,
                MessageBody=f"{outcome} {number}",
                MessageAttributes={} if outcome == "none" else attributes,
            )


def run(cloud, *outcomes, sqs=None):
    return redrive.redrive(
        OneAtATime(sqs or cloud.sqs), cloud.dead_letter_queue_url, cloud.queue_url, set(outcomes)
    )


def bodies(queue):
    """Return the bodies of all messages of a queue, hidden or not."""
    messages = sqs_backends["123456789012"][REGION].queues[queue]._messages
    return {message.body for message in messages}


def test_it_takes_back_only_what_is_chosen(cloud):
    fill(cloud, api_key_rejected=12, not_found=13, none=2)
    there, taken = run(cloud, "api_key_rejected", "none")
    assert there == {"api_key_rejected": 12, "not_found": 13, "none": 2}
    assert taken == {"api_key_rejected": 12, "none": 2}
    rejected = {f"api_key_rejected {number}" for number in range(12)}
    assert bodies("queue") == rejected | {"none 0", "none 1"}
    assert bodies("dead-letters") == {f"not_found {number}" for number in range(13)}


def test_what_it_leaves_is_visible_at_once_and_whole(cloud):
    fill(cloud, too_late=3)
    run(cloud, "timed_out")
    left = cloud.dead_letters()
    assert sorted(left) == [(f"too_late {number}", {"outcome": "too_late"}) for number in range(3)]


def test_what_it_takes_back_carries_its_body_alone(cloud):
    fill(cloud, timed_out=1)
    run(cloud, "timed_out")
    received = cloud.sqs.receive_message(
        QueueUrl=cloud.queue_url, MessageAttributeNames=["All"], AttributeNames=["All"]
    )["Messages"]
    assert [(each["Body"], "MessageAttributes" in each) for each in received] == [
        ("timed_out 0", False)
    ]


def test_without_a_choice_it_only_counts(cloud):
    fill(cloud, timed_out=2, too_late=1)
    assert run(cloud) == (Counter(timed_out=2, too_late=1), Counter())
    assert bodies("queue") == set()
    assert len(cloud.dead_letters()) == 3


@pytest.mark.parametrize("moment", ["before-call", "after-call"])
@pytest.mark.parametrize("call", range(1, 13))
def test_wherever_it_is_killed_nothing_is_lost(cloud, moment, call, monkeypatch):
    """Ends with the n-th call to SQS, which has or has not come to pass: as a kill does."""
    monkeypatch.setattr(redrive, "AT_ONCE", 1)  # one thread: which call is the n-th is certain
    fill(cloud, timed_out=3, too_late=1)
    sent = bodies("dead-letters")
    calls = 0

    def count(**_):
        nonlocal calls
        calls += 1
        if calls >= call:  # no later call comes to pass either
            raise Killed

    mortal = boto3.client("sqs")
    mortal.meta.events.register(f"{moment}.sqs", count)
    with pytest.raises(Killed):
        run(cloud, "timed_out", sqs=mortal)
    assert bodies("dead-letters") | bodies("queue") == sent


def test_after_a_kill_the_next_run_finishes_what_it_sees(cloud):
    fill(cloud, timed_out=3)
    mortal = boto3.client("sqs")

    def fail(**_):
        raise Killed

    mortal.meta.events.register("before-call.sqs.DeleteMessage", fail)
    with pytest.raises(Killed):
        run(cloud, "timed_out", sqs=mortal)
    for message in sqs_backends["123456789012"][REGION].queues["dead-letters"]._messages:
        message.change_visibility(0)  # ten minutes later
    run(cloud, "timed_out")
    assert bodies("dead-letters") == set()
    assert bodies("queue") == {"timed_out 0", "timed_out 1", "timed_out 2"}
