"""The forecast of `recall`, and what it says if the forecast is not known."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path

import pytest

import bulk_door
from infra.operate import capacity, forecast
from infra.operate import recall as command
from infra.operate.lookout import Lookout
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
    assert forecast.predict([100, 110, inf], 0, 0.1, start_s=5) == (35, 85, 0, 2 / 105)


def test_what_waits_already_is_asked_first():
    assert forecast.predict([100, 100], 0, 0.1, ahead=8) == (100, 0, 0, 0.1)
    assert forecast.predict([99, 99], 0, 0.1, ahead=8).late == 1


def test_what_a_rate_does_not_reach_is_late_and_what_is_past_is_not_counted():
    outlook = forecast.predict([10, 10, 10, 20, -1], 0, 0.2)
    assert (outlook.last_s, outlook.late) == (25, 1)
    assert forecast.predict([10, 10, 10, 20, -1], 0, outlook.needed).late == 0
    assert forecast.predict([10, 10, 10, 20, -1], 0, outlook.needed * 0.99).late == 1


def test_it_is_made_of_the_concurrency_and_the_latency_of_the_last_hour(dry_run, door):
    said, _ = dry_run(ids(1000))
    assert "about 254 per second (MaximumConcurrency 5, SMS Partner answers in 0.10 s)" in said
    assert "the last is tried in 4 s\n" in said
    door.concurrency, door.latencies_ms, door.waiting = 10, [50, 276], 2000
    said, _ = dry_run(ids(1000))
    assert "about 268 per second (MaximumConcurrency 10, SMS Partner answers in 0.28 s)" in said
    assert "after 2,000 that are already waiting: the last is tried in 12 s\n" in said


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
        ("GetMetricStatistics", "to GetMetricStatistics: not you; 0.3 s is assumed for SMS Partn"),
        ("GetQueueAttributes", "to GetQueueAttributes: not you; the queue is assumed to be empt"),
    ],
)
def test_a_right_that_lacks_is_said_and_holds_up_nothing(dry_run, door, name, said):
    door.denied = {name}
    told, _ = dry_run(ids(3))
    assert f"forecast: AWS answered AccessDenied {said}" in told
    assert "Dry run: nothing was sent." in told
    assert name in door.asked


def test_an_hour_without_a_call_is_said(dry_run, door):
    door.latencies_ms = []
    assert "SMS Partner was not called in the last hour; 0.3 s" in dry_run(ids(3))[0]


def test_an_answer_that_makes_no_sense_holds_up_nothing(dry_run, door):
    door.concurrency = {}
    assert "AWS's answer was not understood; MaximumConcurrency 5" in dry_run(ids(3))[0]


def test_a_worker_without_a_maximum_is_taken_for_what_lambda_begins_with(dry_run, door):
    door.concurrency = None
    said, _ = dry_run(ids(1000))
    assert "about 254 per second (no MaximumConcurrency, 5 assumed, SMS Partner answers in" in said
    assert "not understood" not in said


def test_a_worker_without_a_maximum_is_not_given_one(dry_run, door):
    door.concurrency, door.latencies_ms = None, [60_000]
    said, _ = dry_run(leaving(1000, 6), "--send-at-column", "when")
    assert " will be too late. Now raise the concurrency: infra/runbook.md, Raise the c" in said
    assert "update-event-source-mapping" not in said


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
    assert [pace.look(at_s, 0) for at_s in (0, 5)] == [0, 0]
    assert pace.look(6, 1000) == 0  # how long that took is not known
    assert pace.look(15, 1900) == 0
    assert pace.look(16, 2000) == 100
    assert [pace.look(at_s, 2000) for at_s in (36, 46, 47)] == [1000 / 30, 0, 0]
    assert pace.idle_s == 31


class Watched:
    """Twenty ids, of which each is due in a minute, as the command watches them at any time."""

    def __init__(self, monkeypatch):
        self.stack = Stack(bulk_door.STACK)
        self.begun_at = self.stack.now()
        leave = self.begun_at + timedelta(minutes=6)
        plan = Plan({str(number): leave for number in range(20)}, self.begun_at.timestamp())
        self.known = Outcomes(plan.ids, "recall", self.stack.begun_at)
        self.lookout = Lookout(self.stack, plan, self.known, forecast.ask(self.stack))
        self.monkeypatch = monkeypatch

    def settle(self, *message_ids):
        for message_id in message_ids:
            self.known.undecided.pop(str(message_id))

    def fail(self, outcome, *message_ids):
        self.known.undecided.update(dict.fromkeys(map(str, message_ids), outcome))

    def look(self, after_s):
        at = self.begun_at + timedelta(seconds=after_s)
        self.monkeypatch.setattr(self.stack, "now", lambda: at)
        return self.lookout.look()


@pytest.fixture
def watched(door, monkeypatch):
    return Watched(monkeypatch)


def test_until_a_rate_is_seen_the_forecast_made_before_holds(watched, capsys):
    """A cold start is no trouble."""
    assert watched.look(2).startswith(
        "about 254 per second, the last is tried in 1 s, the tightest"
    )
    watched.settle(0)
    assert watched.look(4).startswith("about 254 per second, the last is tried in 1 s")
    assert capsys.readouterr().err == ""


def test_while_it_runs_the_rate_is_what_was_tried(watched, capsys):
    watched.settle(0)
    watched.look(1)
    watched.settle(*range(1, 10))
    watched.fail("timed_out", 10)
    told = watched.look(11)
    assert told.startswith("1 per second, the last is tried in 9 s, the tightest 4")
    assert told.endswith("; 1 failed and will be retried (1 timed_out), the next cut-off in 49 s")
    said = capsys.readouterr().err
    assert "forecast: 1 per second, the last is tried in 9 s" in said
    assert "raise" not in said


def test_while_it_runs_it_says_how_many_will_be_late_and_what_to_do(watched, capsys):
    watched.settle(0)
    watched.look(1)
    watched.settle(1)
    assert "18 TOO LATE" not in watched.look(5)
    assert "TOO LATE" in watched.look(20)
    said = capsys.readouterr().err
    assert " will be too late. Now, in another window, raise MaximumConcurrency from 5 to" in said
    assert "If the worker has reserved concurrency, raise that first (infra/runbook.md" in said
    watched.look(25)
    assert capsys.readouterr().err == ""  # once is enough
    watched.settle(*range(2, 20))
    assert watched.look(26) == ""


def test_what_becomes_worse_is_said_at_once_and_what_becomes_better_later(watched, capsys):
    watched.settle(0)
    watched.look(1)
    watched.settle(*range(1, 10))
    assert "TOO LATE" not in watched.look(11)
    assert "TOO LATE" in watched.look(39)
    assert "TOO LATE" in capsys.readouterr().err
    watched.settle(*range(10, 19))
    assert "TOO LATE" not in watched.look(40)
    assert capsys.readouterr().err == ""


def test_what_has_become_too_late_stays_so(watched, capsys):
    watched.settle(0, 1)
    watched.look(1)
    watched.settle(2)
    assert "TOO LATE" in watched.look(15)
    capsys.readouterr()
    watched.settle(3)
    told = watched.look(61)
    assert "; 16 are now past their cut-off" in told
    assert f"forecast: {told}\n" in capsys.readouterr().err


def test_what_was_past_before_is_not_missed(door, monkeypatch):
    watched = Watched(monkeypatch)
    watched.lookout._plan.now_s += 3600
    assert "past" not in watched.look(61)


def test_while_nothing_is_tried_it_says_so(watched, capsys):
    assert "NOTHING" not in watched.look(1)
    told = watched.look(32)
    assert told.startswith("NOTHING WAS TRIED for 31 s, the next cut-off in 28 s: see infra/runb")
    assert f"forecast: {told}\n" in capsys.readouterr().err
    watched.settle(0)
    assert "NOTHING" not in watched.look(33)


def tried_others(door, at):
    """Have the worker's log say that it tried a message of somebody else."""
    line = {"message": "cancel settled", "message_id": "7", "outcome": "cancelled"}
    door.log.append((json.dumps(line), int(at.timestamp() * 1000)))


def test_while_the_worker_is_busy_with_others_it_says_how_many_come_first(door, monkeypatch):
    door.waiting = 2000
    watched = Watched(monkeypatch)
    watched.look(1)
    door.waiting = 1020  # with the twenty
    tried_others(door, watched.begun_at + timedelta(seconds=30))
    told = watched.look(32)
    assert told.startswith(
        "none of these was tried for 31 s, the next cut-off in 28 s: about 1,000 others on the "
        "queue come first; about 254 per second, the last is tried in 5 s, the tightest 2"
    )
    door.waiting = 30_000
    told = watched.look(34)
    assert "about 29,980 others on the queue come first; about 254 per second" in told
    assert "20 TOO LATE" in told


def test_while_the_worker_is_busy_with_others_the_rate_is_theirs(door, monkeypatch, capsys):
    door.waiting = 2000
    watched = Watched(monkeypatch)
    watched.look(1)
    for after_s, others in ((32, 1000), (37, 900), (42, 800)):
        door.waiting = others + 20
        tried_others(door, watched.begun_at + timedelta(seconds=after_s))
        told = watched.look(after_s)
    assert "about 800 others on the queue come first; about 20 per second, the last is" in told
    assert "tried in 42 s, 20 TOO LATE" in told
    said = capsys.readouterr().err
    assert f"forecast: {told}\n20 will be too late. Now, in another window, raise " in said


def test_what_comes_first_is_not_counted_where_nothing_waited_before(watched, door, capsys):
    watched.look(1)
    tried_others(door, watched.begun_at + timedelta(seconds=30))
    told = watched.look(32)
    assert told.startswith(
        "none of these was tried for 31 s, the next cut-off in 28 s: others on the queue come first"
    )
    assert f"forecast: {told}\n" in capsys.readouterr().err
    assert door.asked.count("GetQueueAttributes") == 1


def test_once_the_others_are_not_tried_either_it_says_that_nothing_is(watched, door, capsys):
    watched.look(1)
    tried_others(door, watched.begun_at + timedelta(seconds=10))
    assert "others on the queue come first" in watched.look(32)
    capsys.readouterr()
    told = watched.look(63)
    assert told.startswith("NOTHING WAS TRIED for 1 min 2 s: see infra/runbook.md, Que")
    assert f"forecast: {told}\n" in capsys.readouterr().err


def test_where_every_try_failed_it_is_not_said_to_be_in_time(watched, capsys):
    watched.look(0)
    watched.fail("unavailable", *range(17))
    watched.fail("throttled", *range(17, 20))
    told = "20 failed and will be retried (17 unavailable, 3 throttled), the next cut-off in 55 s"
    assert watched.look(5) == told
    assert f"forecast: {told}\n" in capsys.readouterr().err


def test_while_sms_partner_throttles_it_does_not_advise_to_raise_the_concurrency(watched, capsys):
    watched.fail("throttled", 0)
    watched.look(1)
    watched.fail("throttled", 1)
    assert "TOO LATE" in watched.look(20)
    said = capsys.readouterr().err
    assert "SMS Partner is throttling: do not raise the concurrency (infra/runbook.md)" in said
    assert "update-event-source-mapping" not in said


@pytest.mark.parametrize("concurrency", [5, None])
@pytest.mark.parametrize("state", ["Disabled", "Disabling"])
def test_a_worker_that_is_stopped_is_said_and_there_is_no_forecast(
    dry_run, door, monkeypatch, state, concurrency
):
    door.state, door.concurrency = state, concurrency
    said, [row] = dry_run(leaving(1, 60), "--send-at-column", "when", "--json")
    assert "the worker is STOPPED (infra/runbook.md, Stop everything): start it again" in said
    assert "tried in" not in said
    assert (row["asked_at"], row["in_time"]) == (None, None)
    watched = Watched(monkeypatch)
    assert watched.look(2) == ""
    assert watched.look(40).startswith("NOTHING WAS TRIED for 38 s")


def test_what_is_tried_again_waits_too(dry_run, door):
    door.waiting, door.not_visible, door.delayed = 1000, 900, 100
    assert "after 2,000 that are already waiting" in dry_run(ids(3))[0]


@pytest.mark.parametrize("concurrency", [0, -1, 100_000, "many"])
def test_an_odd_concurrency_is_not_believed(dry_run, door, concurrency):
    door.concurrency = concurrency
    assert "AWS's answer was not understood; MaximumConcurrency 5 is" in dry_run(ids(3))[0]


@pytest.mark.parametrize("latency_ms", [-224, float("nan"), float("inf")])
def test_an_odd_latency_is_not_believed(dry_run, door, latency_ms):
    door.latencies_ms = [latency_ms]
    assert "was not understood; 0.3 s is assumed for SMS Partner" in dry_run(ids(3))[0]


def test_a_queue_of_less_than_nothing_is_not_believed(dry_run, door):
    door.waiting = -5
    assert "was not understood; the queue is assumed to be empty" in dry_run(ids(3))[0]


def test_aws_is_asked_for_all_of_a_forecast_at_once(dry_run, door, monkeypatch):
    meet = threading.Barrier(3, timeout=60)
    look = door.look
    monkeypatch.setattr(door, "look", lambda name: (meet.wait(), look(name))[1])
    monkeypatch.setattr(capacity, "TIMEOUT_S", 60)
    assert "assumed" not in dry_run(ids(3))[0]
    assert not meet.broken


def test_no_concurrency_tries_more_than_are_accepted(dry_run, door):
    door.concurrency = 1000
    assert "about 900 per second (MaximumConcurrency 1000" in dry_run(ids(3))[0]
    door.concurrency = 50
    said, _ = dry_run(leaving(40_000, 5), "--send-at-column", "when")
    assert "about 900 per second (MaximumConcurrency 50" in said
    assert " (even that is not enough for all):\n" in said


def test_where_the_concurrency_is_not_known_no_number_is_advised(dry_run, door):
    door.denied, door.latencies_ms = {"ListEventSourceMappings"}, [60_000]
    said, _ = dry_run(leaving(1000, 6), "--send-at-column", "when")
    assert " will be too late. Now raise the concurrency: infra/runbook.md, Raise the c" in said
    assert "update-event-source-mapping" not in said


def test_the_local_stack_is_not_advised_to_change_an_account(door):
    stack = Stack(bulk_door.STACK)
    stack.is_local = True
    outlook = forecast.predict([10, 10, 10], 0, 0.2)
    told = forecast.advice(stack, capacity.look_up(stack), outlook, 0.2)
    assert told == "1 will be too late: the local stack cannot go any faster"


def test_a_failed_look_does_not_ask_for_another_run(dry_run, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:1")
    said, _ = dry_run(ids(3))
    assert ": check the network; MaximumConcurrency 5 is assumed\n" in said


@pytest.mark.parametrize("passes", ["time", "monotonic"])
def test_while_a_machine_sleeps_the_time_goes_on(door, monkeypatch, passes):
    """One of its clocks may stop meanwhile."""
    stack = Stack(bulk_door.STACK)
    clock = getattr(time, passes)
    monkeypatch.setattr(time, passes, lambda: clock() + 3600)
    assert stack.now() - stack.begun_at >= timedelta(hours=1)
