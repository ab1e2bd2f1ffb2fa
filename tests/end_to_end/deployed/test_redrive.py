"""`redrive` against the deployed template, with the real worker behind the queue."""

from collections import Counter

import pytest

from end_to_end.conftest import PATIENCE_S, eventually
from infra.local.run import announced
from infra.operate import redrive, stack

IDS = range(600, 612)


@pytest.fixture
def call(bundle, tmp_path, monkeypatch, capsys):
    """Run the command on the bundle; return its exit code and the rows that it printed."""
    file = tmp_path / "build" / "local-stack.json"
    monkeypatch.setattr(stack, "LOCAL", file)

    def run(*outcomes):
        ended = redrive.main(["--local", *outcomes])
        return ended, [line.split() for line in capsys.readouterr().out.splitlines()[1:]]

    with announced(bundle, file):
        yield run


def dead_letter(bundle, message_id, outcome):
    bundle.sqs.send_message(
        QueueUrl=bundle.outputs["DeadLetterQueueUrl"],
        MessageBody=f'{{"messageId": {message_id}}}',
        MessageAttributes={"outcome": {"DataType": "String", "StringValue": outcome}},
    )


def waiting(bundle):
    answer = bundle.sqs.get_queue_attributes(
        QueueUrl=bundle.outputs["DeadLetterQueueUrl"],
        AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
    )
    return tuple(int(each) for each in answer["Attributes"].values())


def test_what_fails_again_at_once_is_redriven_once(call, bundle, provider):
    for message_id in IDS:
        dead_letter(bundle, message_id, "not_found")
    assert call("not_found") == (0, [["not_found", "12", "12"]])
    assert eventually(lambda: waiting(bundle) == (12, 0))  # back, and visible
    assert provider.calls == Counter(IDS)
    letter = bundle.receive(bundle.outputs["DeadLetterQueueUrl"], PATIENCE_S)
    assert "originalMessageId" in letter  # the worker's own
    assert call("not_found") == (0, [["not_found", "11", "11"]])  # the next run takes them
    assert eventually(lambda: waiting(bundle) == (11, 0))


def test_what_can_succeed_now_is_cancelled(call, bundle, provider):
    provider.schedule(300, 3600)
    dead_letter(bundle, 300, "api_key_rejected")
    dead_letter(bundle, 301, "not_found")
    ended, rows = call("api_key_rejected")
    assert (ended, rows) == (0, [["api_key_rejected", "1", "1"], ["not_found", "1", "0"]])
    assert eventually(lambda: provider.state(300) == "cancelled")
    assert waiting(bundle) == (1, 0)
