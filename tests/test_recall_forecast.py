"""What `recall` foresees, and what it says where that is not known."""

import json
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path

import pytest

import bulk_door
from infra.operate import forecast, progress
from infra.operate import recall as command
from infra.operate.outcomes import Outcomes
from infra.operate.plan import Plan
from infra.operate.stack import Stack


@pytest.fixture
def door(monkeypatch):
    with bulk_door.serve() as served:
        monkeypatch.setenv("AWS_ENDPOINT_URL", served.url)
        yield served


@pytest.fixture
def dry_run(door, tmp_path, monkeypatch, capsys):
    """Run the command without sending; return what it said, and the objects that it printed."""
    monkeypatch.chdir(tmp_path)

    def run(rows, *options):
        Path("ids.csv").write_text("\n".join(["messageId;when", *rows]))
        place = ["--stack", bulk_door.STACK, "--dry-run"]
        assert command.main(["ids.csv", *place, *options]) == 0
        assert door.requests == []
        captured = capsys.readouterr()
        return captured.err, [json.loads(line) for line in captured.out.splitlines()]

    return run


def ids(count):
    return [f"{number};" for number in range(100, 100 + count)]


def leaving(count, minutes):
    at = datetime.now(UTC) + timedelta(minutes=minutes, seconds=30)
    return [f"{number};{at.isoformat()}" for number in range(100, 100 + count)]


def test_a_rate_says_when_the_last_is_asked_and_how_near_its_cut_off_the_tightest_is():
    assert forecast.foresee([100, 110, inf], 0, 0.1, start_s=5) == (35, 85, 0, 2 / 105)


def test_what_waits_already_is_asked_first():
    assert forecast.foresee([100, 100], 0, 0.1, ahead=8) == (100, 0, 0, 0.1)
    assert forecast.foresee([99, 99], 0, 0.1, ahead=8).late == 1


def test_what_a_rate_does_not_reach_is_late_and_what_is_past_is_not_counted():
    outlook = forecast.foresee([10, 10, 10, 20, -1], 0, 0.2)
    assert (outlook.last_s, outlook.late) == (25, 1)
    assert forecast.foresee([10, 10, 10, 20, -1], 0, outlook.needed).late == 0
    assert forecast.foresee([10, 10, 10, 20, -1], 0, outlook.needed * 0.99).late == 1


def test_it_is_made_of_the_concurrency_and_the_latency_of_the_last_hour(dry_run, door):
    said, _ = dry_run(ids(1000))
    assert "about 154 a second (MaximumConcurrency 5, SMS Partner answers in 0.10 s)" in said
    assert "the last is asked in 7 s\n" in said
    door.concurrency, door.latencies_ms, door.waiting = 10, [50, 276], 2000
    said, _ = dry_run(ids(1000))
    assert "about 200 a second (MaximumConcurrency 10, SMS Partner answers in 0.28 s)" in said
    assert "after 2,000 that wait already: the last is asked in 16 s\n" in said


def test_where_all_are_in_time_it_says_by_how_much(dry_run):
    said, _ = dry_run(leaving(1000, 10), "--send-at-column", "WHEN")
    assert ", the tightest 5 min 2" in said
    assert "TOO LATE" not in said


def test_where_some_will_be_too_late_it_says_how_many_and_what_to_do(dry_run, door):
    door.concurrency, door.latencies_ms = 1, [60_000]  # one in six seconds
    said, _ = dry_run(leaving(1000, 35), "--send-at-column", "when")  # half an hour is left
    late = int(said.partition(" TOO LATE")[0].rpartition(" ")[2])
    assert 690 < late < 710
    assert f"\n{late} will be too late. Now, in another window, raise MaximumConcur" in said
    assert "from 1 to 4:\n" in said
    assert (
        "  aws lambda update-event-source-mapping --region eu-west-3 --uuid uuid-1 "
        "--scaling-config MaximumConcurrency=4\n"
    ) in said


def test_where_no_concurrency_is_enough_it_says_so(dry_run, door):
    door.concurrency = 900
    door.latencies_ms = [60_000]
    said, _ = dry_run(leaving(10_000, 5), "--send-at-column", "when")
    assert "from 900 to 1000 (even that is not enough for all):\n" in said
    door.concurrency = 1000
    said, _ = dry_run(leaving(10_000, 5), "--send-at-column", "when")
    assert "from 1000 to 1000 (even that is not enough for all):\n" in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ListEventSourceMappings", "to ListEventSourceMappings: not you; MaximumConcurrency 5 is"),
        ("GetMetricStatistics", "to GetMetricStatistics: not you; 0.3 s of SMS Partner are assu"),
        ("GetQueueAttributes", "to GetQueueAttributes: not you; the queue is taken to be empty"),
    ],
)
def test_a_right_that_lacks_is_said_and_holds_up_nothing(dry_run, door, name, said):
    door.denied = {name}
    told, _ = dry_run(ids(3))
    assert f"forecast: AWS answers AccessDenied {said}" in told
    assert "Dry run: nothing was sent." in told
    assert name in door.asked


def test_an_hour_without_a_call_is_said(dry_run, door):
    door.latencies_ms = []
    assert "SMS Partner was not asked in the last hour; 0.3 s" in dry_run(ids(3))[0]


def test_an_answer_that_makes_no_sense_holds_up_nothing(dry_run, door):
    door.concurrency = None
    assert "AWS's answer is not understood; MaximumConcurrency 5" in dry_run(ids(3))[0]


def test_as_json_a_dry_run_tells_of_each_id(dry_run):
    past = "2026-01-15T09:00:00+01:00"
    rows = [f"99;{past}", *leaving(1, 60)]
    _, (first, last) = dry_run(rows, "--send-at-column", "when", "--json")
    assert (first["id"], first["in_time"]) == ("100", True)
    assert last == {
        "id": "99",
        "send_at": past,
        "cut_off": "2026-01-15T08:55:00+01:00",
        "asked_at": last["asked_at"],
        "in_time": False,
    }
    asked_at = datetime.fromisoformat(last["asked_at"])
    assert timedelta(0) <= asked_at - datetime.now(UTC) + timedelta(seconds=10)
    _, [only] = dry_run(ids(1), "--json")
    assert (only["send_at"], only["cut_off"], only["in_time"]) == (None, None, None)


def test_a_pace_is_that_of_the_last_half_minute():
    pace = forecast.Pace()
    assert pace.look(0, 1000) == 0  # how long that took is not known
    assert pace.look(10, 2000) == 100
    assert [pace.look(at_s, 2000) for at_s in (30, 40, 41)] == [1000 / 30, 0, 0]


@pytest.fixture
def watch(door):
    """Return what watches twenty ids, of which each is due in a minute, and its outcomes."""
    stack = Stack(bulk_door.STACK)
    leave = stack.now() + timedelta(minutes=6)
    plan = Plan({str(number): leave for number in range(20)}, stack.now().timestamp())
    known = Outcomes(plan.ids, "recall", stack.begun_at)
    return progress.Watch(stack, plan, known), known, stack


def settle(known, *message_ids):
    for message_id in message_ids:
        known.undecided.pop(str(message_id))


def test_while_it_runs_the_rate_is_what_was_asked(watch, monkeypatch, capsys):
    watch, known, stack = watch
    assert watch.look() == ""
    begun_at = stack.now()
    settle(known, *range(10))
    known.undecided["10"] = "throttled"  # asked, and not decided
    monkeypatch.setattr(stack, "now", lambda: begun_at + timedelta(seconds=11))
    told = watch.look()
    assert told.startswith("1 a second, the last is asked in 9 s, the tightest 4")
    assert told.endswith("; tried again: 1 throttled")
    said = capsys.readouterr().err
    assert "forecast: 1 a second are asked: the last is asked in 9 s" in said
    assert "raise" not in said


def test_while_it_runs_it_says_how_many_will_be_late_and_what_to_do(watch, monkeypatch, capsys):
    watch, known, stack = watch
    watch.look()
    begun_at = stack.now()
    settle(known, 0, 1)
    monkeypatch.setattr(stack, "now", lambda: begun_at + timedelta(seconds=50))
    assert "18 TOO LATE" in watch.look()
    said = capsys.readouterr().err
    assert "18 will be too late. Now, in another window, raise MaximumConcurrency from 5 to" in said
    watch.look()
    assert capsys.readouterr().err == ""  # once is enough
    settle(known, *range(2, 20))
    assert watch.look() == ""
