"""The command redrives what is chosen, leaves the rest, and loses nothing wherever it ends."""

import threading
import time
from collections import Counter

import boto3
import pytest
from moto.sqs.models import sqs_backends

import bulk_door
from conftest import REGION
from infra.operate import dead_letters, redrive, stack


class Killed(BaseException):
    pass


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(dead_letters, "WAIT_S", 0)


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


def run(cloud, *outcomes, sqs=None, began_ms=None):
    one = redrive.Redrive(
        OneAtATime(sqs or cloud.sqs),
        cloud.dead_letter_queue_url,
        cloud.queue_url,
        set(outcomes),
        int(time.time() * 1000) + 1 if began_ms is None else began_ms,
    )
    one.run()
    return one.found, one.redriven


def bodies(queue):
    """Return the bodies of all messages of a queue, hidden or not."""
    messages = sqs_backends["123456789012"][REGION].queues[queue]._messages
    return {message.body for message in messages}


def test_it_redrives_only_what_is_chosen(cloud):
    fill(cloud, api_key_rejected=12, not_found=13, none=2)
    found, redriven = run(cloud, "api_key_rejected", "none")
    assert found == {"api_key_rejected": 12, "not_found": 13, "none": 2}
    assert redriven == {"api_key_rejected": 12, "none": 2}
    rejected = {f"api_key_rejected {number}" for number in range(12)}
    assert bodies("queue") == rejected | {"none 0", "none 1"}
    assert bodies("dead-letters") == {f"not_found {number}" for number in range(13)}


def test_what_it_leaves_is_visible_at_once_and_whole(cloud):
    fill(cloud, too_late=3)
    run(cloud, "timed_out")
    left = cloud.dead_letters()
    assert sorted(left) == [(f"too_late {number}", {"outcome": "too_late"}) for number in range(3)]


def test_what_it_redrives_carries_its_body_alone(cloud):
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
    monkeypatch.setattr(redrive, "AT_ONCE", 1)
    monkeypatch.setattr(dead_letters, "AT_ONCE", 1)  # one thread: which call is the n-th is certain
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


def worker(cloud, client, **attributes):
    """Have each message that is sent to the queue dead-lettered again at once, as a worker does."""

    def dead_letter(parsed, model, **_):
        received = cloud.sqs.receive_message(QueueUrl=cloud.queue_url)
        for message in received["Messages"]:
            values = {"outcome": "not_found", "originalMessageId": message["MessageId"]}
            cloud.sqs.send_message(
                QueueUrl=cloud.dead_letter_queue_url,
                MessageBody=message["Body"],
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value}
                    for name, value in values.items()
                },
            )
            cloud.sqs.delete_message(
                QueueUrl=cloud.queue_url, ReceiptHandle=message["ReceiptHandle"]
            )

    client.meta.events.register("after-call.sqs.SendMessage", dead_letter)
    return client


def test_what_it_sent_itself_is_not_taken_again(cloud):
    """Even where no clock tells which is which."""
    fill(cloud, not_found=12)
    far = int(time.time() * 1000) + 3600_000
    found, redriven = run(cloud, "not_found", sqs=worker(cloud, boto3.client("sqs")), began_ms=far)
    assert (found, redriven) == ({"not_found": 12}, {"not_found": 12})
    assert bodies("queue") == set()
    assert len(cloud.dead_letters() + cloud.dead_letters()) == 12  # all of them visible again


def test_what_came_after_it_began_is_not_taken(cloud):
    fill(cloud, timed_out=3)
    found, redriven = run(cloud, "timed_out", began_ms=int(time.time() * 1000) - 3600_000)
    assert (found, redriven) == (Counter(), Counter())
    assert len(cloud.dead_letters()) == 3


def test_what_keeps_coming_does_not_keep_it_running(cloud):
    """Others dead-letter as fast as this run reads."""
    fill(cloud, timed_out=1)
    flooded = boto3.client("sqs")
    began_ms = int(time.time() * 1000) - 3600_000
    flooded.meta.events.register("before-call.sqs.ReceiveMessage", lambda **_: fill(cloud, x=1))
    found, redriven = run(cloud, "x", sqs=flooded, began_ms=began_ms)
    assert (found, redriven) == (Counter(), Counter())


@pytest.fixture
def command(cloud, monkeypatch, capsys):
    """Run the command against the queues of moto; return its exit code and what it said."""
    with bulk_door.serve() as door:
        door.outputs["QueueUrl"] = cloud.queue_url
        door.outputs["DeadLetterQueueUrl"] = cloud.dead_letter_queue_url
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", door.url)

        def call(*arguments):
            ended = redrive.main(["--stack", bulk_door.STACK, *arguments])
            return ended, capsys.readouterr()

        call.door = door
        yield call


def test_the_command_prints_what_was_there_and_what_was_taken(cloud, command):
    fill(cloud, timed_out=1, none=1)
    for message in sqs_backends["123456789012"][REGION].queues["dead-letters"]._messages:
        message.sent_timestamp -= 10_000
    ended, said = command("timed_out", "throttled")
    rows = [line.split() for line in said.out.splitlines()[1:]]
    assert (ended, rows) == (
        0,
        [["none", "1", "0"], ["throttled", "0", "0"], ["timed_out", "1", "1"]],
    )


def test_the_command_says_what_keeps_it_from_the_stack(cloud, command):
    command.door.refusal = ("AccessDenied", "User: a is not authorized to perform: b")
    ended, said = command("timed_out")
    assert (ended, said.err.startswith("redrive: AWS answered AccessDenied")) == (2, True)


def test_the_command_says_what_keeps_it_from_the_queue(cloud, command):
    command.door.outputs["DeadLetterQueueUrl"] += "-gone"
    ended, said = command("timed_out")
    assert ended == 3
    assert "to ReceiveMessage" in said.err


def test_ctrl_c_says_that_it_may_be_run_again(cloud, command, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(dead_letters, "receive", interrupt)
    ended, said = command("timed_out")
    assert (ended, "Run it again" in said.err) == (130, True)


def test_without_a_local_stack_it_says_how_to_start_one(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(stack, "LOCAL", tmp_path / "local-stack.json")
    assert redrive.main(["--local"]) == 2
    assert "start one with `make run`" in capsys.readouterr().err
