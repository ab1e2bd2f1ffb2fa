"""What `recall --wait` finds in the worker's log and in the dead-letter queue, and writes down."""

import csv
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from moto.sqs.models import sqs_backends

import bulk_door
from conftest import REGION
from infra.operate import dead_letters, follow, outcomes
from infra.operate import recall as command


@pytest.fixture
def door(cloud, monkeypatch):
    with bulk_door.serve() as served:
        served.outputs["DeadLetterQueueUrl"] = cloud.dead_letter_queue_url
        for service in ("CLOUDFORMATION", "CLOUDWATCH", "CLOUDWATCH_LOGS", "LAMBDA"):
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", served.url)
        yield served


@pytest.fixture(autouse=True)
def _hurry(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(follow, "POLL_S", 0.01)
    monkeypatch.setattr(follow, "QUIET_S", 0.05)
    monkeypatch.setattr(follow, "SILENCE_S", 1)
    monkeypatch.setattr(dead_letters, "WAIT_S", 0)


@pytest.fixture
def recall(door, capsys):
    """Run the command for these ids, and follow them; return its exit code and what it said."""

    def run(*ids):
        Path("ids.txt").write_text("\n".join(ids))
        ended = command.main(["ids.txt", "--stack", bulk_door.STACK, "--yes", "--wait"])
        return ended, capsys.readouterr().err

    return run


def line(door, message_id, outcome, disposition, code=None, **fields):
    """Return a line of the log as the worker writes it."""
    recall_id = door.requests[0]["recallId"]
    settled = {"message": "cancel settled", "message_id": message_id, "outcome": outcome}
    settled |= {"recall_id": recall_id, "disposition": disposition, **fields}
    return json.dumps(settled | ({} if code is None else {"code": code}))


def write(door, *lines, late_ms=0):
    """Return what writes lines to the log, each a millisecond after the one before."""

    def act():
        now_ms = int(time.time() * 1000) - late_ms
        door.log += [(line(door, *each), now_ms + i) for i, each in enumerate(lines)]

    return act


def results():
    with Path("results.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "outcome", "code", "time", "recall_id"]
    return {row[0]: tuple(row[1:3]) for row in rows}


def dead_letter(cloud, door, message_id, **attributes):
    body = {"messageId": message_id, "recallId": door.requests[0]["recallId"]}
    cloud.sqs.send_message(
        QueueUrl=cloud.dead_letter_queue_url,
        MessageBody=json.dumps(body),
        MessageAttributes={
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
        },
    )


def test_when_all_are_cancelled_it_ends_with_0(door, recall):
    door.looks.append(
        write(door, ("1", "cancelled", "done", 200), ("2", "already_cancelled", "done", 5))
    )
    ended, said = recall("1", "2")
    assert (ended, "2 of 2 are cancelled" in said) == (0, True)
    assert results() == {"1": ("cancelled", "200"), "2": ("already_cancelled", "5")}


def test_each_id_has_a_row_in_its_order_with_a_time(door, recall):
    settled = [(str(number), "cancelled", "done", 200) for number in (3, 9, 1)]
    door.looks.append(write(door, *settled))
    recall("9", "1", "3")
    rows = Path("results.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["id", "9", "1", "3"]
    for row in rows[1:]:
        at = time.strptime(row.split(",")[3].partition(".")[0], "%Y-%m-%dT%H:%M:%S")
        assert abs(time.mktime(at) - time.timezone - time.time()) < 10


def test_what_is_not_cancelled_is_counted_and_is_exit_code_1(door, recall):
    door.looks.append(
        write(
            door,
            ("1", "cancelled", "done", 200),
            ("2", "too_late", "dead_lettered", 6),
            ("3", "too_late", "dead_lettered", 6),
            ("4", "timed_out", "dead_lettered"),
        )
    )
    ended, said = recall("1", "2", "3", "4")
    assert (ended, "1 of 4 are cancelled" in said) == (1, True)
    assert [text.split() for text in said.splitlines() if "too_late" in text] == [["2", "too_late"]]
    assert results()["3"] == ("too_late", "6")
    assert results()["4"] == ("timed_out", "")


def test_what_to_do_depends_on_the_outcome(door, recall):
    outcomes = ["too_late", "already_sent", "already_sent", "not_found", "invalid_request"]
    outcomes += ["credits_exhausted", "cancelled"]
    lines = [(str(at), each, "dead_lettered") for at, each in enumerate(outcomes[:-1], 1)]
    door.looks.append(write(door, *lines, ("7", "cancelled", "done", 200)))
    ended, said = recall(*"1234567")
    assert ended == 1
    assert "\n3 can no longer be cancelled: warn their recipients\n" in said
    assert "\n2 have wrong ids: correct them\n" in said
    assert "\n1 can succeed once the cause is removed (infra/runbook.md): redrive or recall" in said


def test_of_what_is_lost_it_does_not_say_that_it_can_succeed(door, recall):
    door.looks.append(write(door, ("1", "too_late", "dead_lettered", 6)))
    ended, said = recall("1", "2")
    assert (ended, "1 can no longer be cancelled: warn their recipients\n" in said) == (3, True)
    assert "redrive" not in said


def test_a_try_that_is_repeated_decides_nothing(door, recall):
    door.looks.extend(
        [
            write(door, ("1", "timed_out", "retry")),
            write(door, ("1", "unavailable", "retry")),
            write(door, ("1", "cancelled", "done", 200)),
        ]
    )
    assert recall("1")[0] == 0
    assert results() == {"1": ("cancelled", "200")}


@pytest.mark.parametrize("dead_letter_first", [True, False])
def test_the_first_done_of_an_id_wins_over_anything(door, recall, dead_letter_first):
    lines = [("1", "too_late", "dead_lettered", 6), ("1", "cancelled", "done", 200)]
    lines = lines if dead_letter_first else lines[::-1]
    again = ("1", "already_cancelled", "done", 5)
    door.looks.append(write(door, *lines, again, ("2", "cancelled", "done", 200)))
    assert recall("1", "2")[0] == 0
    assert results()["1"] == ("cancelled", "200")


def test_of_two_dead_letters_of_an_id_the_later_counts(door, recall):
    first, second = ("1", "too_late", "dead_lettered", 6), ("1", "already_sent", "dead_lettered", 7)
    door.looks.append(write(door, first, second))
    recall("1")
    assert results() == {"1": ("already_sent", "7")}


def test_lines_of_others_are_not_its_own(door, recall):
    def others():
        own = line(door, "1", "cancelled", "done", 200)
        now_ms = int(time.time() * 1000)
        door.log += [
            (own.replace('"recall_id": "', '"recall_id": "another-'), now_ms),
            (own.replace("cancel settled", "cancels queued"), now_ms),
            (own.replace('"message_id": "1"', '"message_id": "7"'), now_ms),
            (own.replace('"message_id": "1"', '"message_id": null'), now_ms),
            (own + "}", now_ms),
            (f'["{door.requests[0]["recallId"]}"]', now_ms),
        ]

    door.looks.append(others)
    assert recall("1")[0] == 3
    assert results() == {"1": ("undecided", "")}


def test_a_line_that_comes_late_and_is_old_is_found(door, recall):
    door.looks.extend(
        [
            write(door, ("1", "cancelled", "done", 200)),
            write(door, ("2", "cancelled", "done", 200), late_ms=300_000),
        ]
    )
    assert recall("1", "2")[0] == 0


def test_what_lies_in_the_dead_letter_queue_is_found_and_stays(door, recall, cloud):
    def crash():
        dead_letter(cloud, door, "1", outcome="unreadable", code="99")
        dead_letter(cloud, door, 2)
        for number in range(30):
            body = json.dumps({"messageId": 3, "recallId": f"another-{number}"})
            cloud.sqs.send_message(QueueUrl=cloud.dead_letter_queue_url, MessageBody=body)
        cloud.sqs.send_message(QueueUrl=cloud.dead_letter_queue_url, MessageBody="poison")

    door.looks.extend([crash, write(door, ("3", "cancelled", "done", 200))])
    ended, _ = recall("1", "2", "3")
    assert ended == 1
    assert results() == {
        "1": ("unreadable", "99"),
        "2": ("dead_lettered", ""),
        "3": ("cancelled", "200"),
    }
    assert len(sqs_backends["123456789012"][REGION].queues["dead-letters"]._messages) == 33
    assert all_are_visible()


def fill(cloud, monkeypatch, act):
    """Put 200 dead letters of others into the queue; act after ten of them are received.

    Return the list of what is received: one number for each look.
    """
    for number in range(0, 200, 10):
        body = json.dumps({"messageId": number, "recallId": "another"})
        entries = [{"Id": str(each), "MessageBody": body} for each in range(10)]
        cloud.sqs.send_message_batch(QueueUrl=cloud.dead_letter_queue_url, Entries=entries)
    received, receive = [], dead_letters.receive

    def received_by_then(*arguments):
        found = receive(*arguments)
        received.append(len(found))
        if len(received) == 1:
            act()
        return found

    monkeypatch.setattr(dead_letters, "receive", received_by_then)
    return received


def all_are_visible():
    messages = sqs_backends["123456789012"][REGION].queues["dead-letters"]._messages
    return all(each.visible_at <= time.time() * 1000 for each in messages)


def test_between_looks_into_a_long_dead_letter_queue_the_log_is_read(
    door, recall, cloud, monkeypatch
):
    received = fill(cloud, monkeypatch, write(door, ("1", "cancelled", "done", 200)))
    assert recall("1")[0] == 0
    assert 10 <= sum(received) < 200
    assert all_are_visible()


def test_who_interrupts_a_look_into_it_is_told_what_is_waited_for(door, recall, cloud, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    def interrupt_the_pause():
        monkeypatch.setattr(follow.time, "sleep", lambda _: interrupt())

    assert fill(cloud, monkeypatch, interrupt_the_pause) == []
    ended, said = recall("1")
    assert ended == 130
    assert "stopping, and making the dead letters visible to others again" in said
    assert all_are_visible()


def test_a_try_that_is_read_again_does_not_undo_a_dead_letter():
    known = outcomes.Outcomes(["1"], "r1", datetime.fromtimestamp(0, UTC))
    ids = {"message_id": "1", "recall_id": "r1"}
    tried = {"message": "cancel settled", "disposition": "retry", "outcome": "unavailable"} | ids
    moved = {
        "Body": json.dumps({"messageId": 1, "recallId": "r1"}),
        "Attributes": {"SentTimestamp": "2000"},
    }
    known.read_line(json.dumps(tried), 1000)
    known.read_dead_letter(moved)
    known.read_line(json.dumps(tried), 1000)
    assert (known.counts(), known.undecided) == ({"dead_lettered": 1}, {})
    known.read_line(json.dumps(tried), 3000)  # redriven, and tried again
    assert known.counts() == {"undecided": 1}


def test_a_line_of_an_id_wins_over_its_dead_letter(door, recall, cloud):
    def both():
        dead_letter(cloud, door, "1", outcome="timed_out")
        write(door, ("1", "cancelled", "done", 200))()

    door.looks.append(both)
    assert recall("1")[0] == 0


def test_what_is_heard_of_no_more_is_undecided_and_never_done(door, recall):
    door.looks.append(write(door, ("1", "cancelled", "done", 200), ("2", "throttled", "retry")))
    ended, said = recall("1", "2", "3")
    assert ended == 3
    assert "2 are undecided" in said
    assert results() == {"1": ("cancelled", "200"), "2": ("undecided", ""), "3": ("undecided", "")}
    door.looks.append(write(door, ("2", "cancelled", "done", 200), ("3", "cancelled", "done", 200)))
    assert recall("1", "2", "3")[0] == 0


def test_while_an_outage_is_heard_of_it_goes_on(door, recall):
    """Longer than the silence after which it gives up."""
    begun_at = time.monotonic()

    def tried_again():
        write(door, ("1", "unavailable", "retry"))()
        if time.monotonic() - begun_at < 2:
            door.looks.append(tried_again)
        else:
            door.looks.append(write(door, ("1", "cancelled", "done", 200)))

    door.looks.append(tried_again)
    assert recall("1")[0] == 0
    assert time.monotonic() - begun_at >= 2


def test_what_ends_the_wait_leaves_what_is_known(door, recall, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(follow.time, "sleep", lambda _: interrupt())
    door.looks.append(write(door, ("1", "cancelled", "done", 200)))
    ended, said = recall("1", "2")
    assert (ended, "Run it again" in said) == (130, True)
    assert results() == {"1": ("cancelled", "200"), "2": ("undecided", "")}


def test_results_that_cannot_be_replaced_stay_whole(door, recall, monkeypatch):
    door.looks.append(write(door, ("1", "cancelled", "done", 200)))
    recall("1", "2")
    before = Path("results.csv").read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    door.looks.append(write(door, ("2", "cancelled", "done", 200)))
    ended, said = recall("1", "2")
    assert (ended, "No space left on device" in said) == (3, True)
    assert Path("results.csv").read_bytes() == before


def test_where_reading_the_log_is_denied_it_says_so(door, recall, cloud, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS")  # moto has no such log group
    ended, said = recall("1")
    assert ended == 3
    assert "ResourceNotFoundException to FilterLogEvents" in said
    assert results() == {"1": ("undecided", "")}


def test_a_second_run_follows_what_the_first_one_sent(door, recall, monkeypatch):
    """Its own messages may say the same later: the first that is done counts."""
    monkeypatch.setattr(follow, "QUIET_S", 60)  # at its first look already
    door.looks.append(write(door, ("1", "cancelled", "done", 200), late_ms=3600_000))
    door.looks.append(write(door, ("2", "cancelled", "done", 200)))
    assert recall("1", "2")[0] == 0
    assert results() == {"1": ("cancelled", "200"), "2": ("cancelled", "200")}


def test_what_failed_before_this_run_does_not_settle_what_it_sent(door, recall, cloud):
    def earlier():
        write(door, ("1", "credits_exhausted", "dead_lettered", 11), late_ms=60_000)()
        write(door, ("2", "timed_out", "retry"), late_ms=60_000)()
        dead_letter(cloud, door, "2", outcome="credits_exhausted", code="11")
        [message] = sqs_backends["123456789012"][REGION].queues["dead-letters"]._messages
        message.sent_timestamp = int(time.time() * 1000) - 60_000

    door.looks.append(earlier)
    assert recall("1", "2")[0] == 3
    assert results() == {"1": ("undecided", ""), "2": ("undecided", "")}
    found = ("2", "not_found", "dead_lettered", 4)
    door.looks.append(write(door, ("1", "cancelled", "done", 200), found))
    assert recall("1", "2")[0] == 1
    assert results() == {"1": ("cancelled", "200"), "2": ("not_found", "4")}


def test_a_run_that_hears_nothing_at_all_leaves_the_results(door, recall, monkeypatch):
    door.looks.append(write(door, ("1", "cancelled", "done", 200)))
    assert recall("1")[0] == 0
    before = results()
    monkeypatch.delenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS")  # moto has no such log group
    assert recall("1")[0] == 3
    assert results() == before


def test_what_is_redriven_from_the_dead_letter_queue_is_followed_again(door, recall):
    door.looks.append(
        write(
            door, ("1", "cancelled", "done", 200), ("2", "credits_exhausted", "dead_lettered", 11)
        )
    )
    ended, said = recall("1", "2")
    assert (ended, "redrive" in said) == (1, True)
    door.looks.append(write(door, ("2", "timed_out", "retry")))
    assert recall("1", "2")[0] == 3
    assert results()["2"] == ("undecided", "")  # no longer what it was
    door.looks.append(write(door, ("2", "cancelled", "done", 200)))
    assert recall("1", "2")[0] == 0
    assert results()["2"] == ("cancelled", "200")


def test_a_line_is_found_late_whatever_the_stack_is_called(door, recall):
    def late():
        now_ms = int(time.time() * 1000) - 60_000
        door.log.append((line(door, "1", "cancelled", "done", 200, service="sms-retry"), now_ms))

    door.looks.append(write(door, ("2", "cancelled", "done", 200)))
    door.looks.append(late)
    assert recall("1", "2")[0] == 0
