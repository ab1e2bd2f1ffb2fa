"""`recall` against the deployed template: what it says of each id is what SMS Partner has."""

import csv
import json
import random
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from end_to_end.conftest import eventually
from infra.local import stack as local
from infra.local.provider_server import fault
from infra.local.run import announced
from infra.operate import follow, outcomes, plan, stack
from infra.operate import recall as command

DONE = {"cancelled", "already_cancelled"}
STATES = {  # what SMS Partner may have of an id with this outcome
    "cancelled": {"cancelled"},
    "already_cancelled": {"cancelled"},
    "not_found": {None},
    "too_late": {"scheduled"},
    "already_sent": {"sent"},
}


@pytest.fixture
def place(bundle, tmp_path, monkeypatch):
    """Have ``--local`` mean the bundle; return the file that says so."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "build" / "local-stack.json"
    monkeypatch.setattr(stack, "LOCAL", file)
    monkeypatch.setattr(follow, "POLL_S", 0.5)
    monkeypatch.setattr(follow, "QUIET_S", 1)
    with announced(bundle, file):
        yield file


def recall(ids, *options):
    Path("ids.csv").write_text("\n".join(["messageId", *map(str, ids)]))
    return command.main(["ids.csv", "--local", "--yes", *options])


def results():
    with Path("results.csv").open(newline="") as file:
        return {int(row["id"]): row["outcome"] for row in csv.DictReader(file)}


def state(provider, message_id):
    try:
        return provider.state(message_id)
    except KeyError:
        return None


def test_each_id_has_its_outcome(place, provider):
    provider.schedule(300, 3600)
    provider.schedule(301, 3600).cancelled = True
    provider.schedule(302, 299)
    provider.schedule(303, -1)
    assert recall(range(300, 305), "--wait") == 1
    assert results() == {
        300: "cancelled",
        301: "already_cancelled",
        302: "too_late",
        303: "already_sent",
        304: "not_found",
    }


def recall_by_time(minutes, *options):
    """Recall these ids, each with its own time: so many minutes from now."""
    now = datetime.now(UTC)
    rows = [f"{each};{now + timedelta(minutes=at)}" for each, at in minutes.items()]
    Path("times.csv").write_text("\n".join(["messageId;Send at", *rows]))
    place = ["--local", "--yes", "--send-at-column", "send at"]
    return command.main(["times.csv", *place, *options])


def test_each_sms_has_its_own_time_and_a_program_reads_what_became_of_it(place, provider, capsys):
    minutes = {300: 90, 301: -1, 302: 4, 303: 30}
    for message_id, at in minutes.items():
        provider.schedule(message_id, at * 60)
    assert recall_by_time(minutes, "--wait", "--json") == 1
    captured = capsys.readouterr()
    assert "2 of 4 are PAST THEIR CUT-OFF" in captured.err
    rows = [json.loads(line) for line in captured.out.splitlines()]
    assert [(row["id"], row["outcome"], row["code"]) for row in rows] == [
        ("303", "cancelled", 200),
        ("300", "cancelled", 200),
        ("301", "already_sent", 7),
        ("302", "too_late", 6),
    ]
    assert results() == {int(row["id"]): row["outcome"] for row in rows}


def test_no_id_is_asked_out_of_the_order_of_the_cut_offs_by_more_than_is_in_flight(
    place, bundle, provider, monkeypatch
):
    """On a queue that keeps its order, which SQS does nearly always and does not promise."""
    monkeypatch.setattr(plan, "ORDERED_CHUNK", 25)
    ids = range(40_000, 40_600)
    for message_id in ids:
        provider.schedule(message_id, 24 * 3600)
    minutes = {message_id: 60 + message_id - ids[0] for message_id in ids}
    shuffled = dict(random.sample(list(minutes.items()), len(minutes)))
    assert recall_by_time(shuffled, "--wait") == 0
    asked = list(provider.calls)  # in the order in which each was first asked
    assert sorted(asked) == list(ids)
    # For each, how many that leave before it were not asked yet.
    early = [sum(other < each for other in asked[at:]) for at, each in enumerate(asked)]
    functions = local.client(bundle.endpoint, "lambda")
    queue_arn = bundle.outputs["QueueArn"]
    [mapping] = functions.list_event_source_mappings(EventSourceArn=queue_arn)[
        "EventSourceMappings"
    ]
    at_the_worker = mapping["ScalingConfig"]["MaximumConcurrency"] * mapping["BatchSize"]
    assert max(early) <= plan.ORDERED_CHUNK * plan.ORDERED_AT_ONCE + at_the_worker


def test_the_dead_letter_queue_says_what_the_log_does_not(place, bundle, provider, monkeypatch):
    monkeypatch.setattr(outcomes.Outcomes, "read_line", lambda *_: None)
    assert recall([304], "--wait") == 1
    assert results() == {304: "not_found"}
    assert bundle.receive(bundle.outputs["DeadLetterQueueUrl"], 5)["outcome"] == "not_found"


def become(bundle, place, **rights):
    """Let the command be run by a new user who may do this, and nothing else."""
    iam = local.client(bundle.endpoint, "iam")
    name = f"recaller-{time.monotonic_ns()}"
    iam.create_user(UserName=name)
    statements = [
        {"Effect": "Allow", "Action": f"{service}:{action}", "Resource": resource}
        for service, actions in rights.items()
        for action, resource in actions.items()
    ]
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=document)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    user = {"access_key": key["AccessKeyId"], "secret_key": key["SecretAccessKey"]}
    place.write_text(json.dumps(json.loads(place.read_text()) | user))


def rights(bundle):
    """What infra/README.md asks for."""
    api = f"arn:aws:execute-api:*:*:{bundle.outputs['ApiId']}/$default/POST/cancellations"
    dead_letters = f"arn:aws:sqs:*:*:{bundle.outputs['DeadLetterQueueUrl'].rpartition('/')[2]}"
    log_group = f"arn:aws:logs:*:*:log-group:{bundle.outputs['WorkerLogGroupName']}*"
    return {
        "cloudformation": {"DescribeStacks": "arn:aws:cloudformation:*:*:stack/sms-cancel/*"},
        "cloudwatch": {"GetMetricStatistics": "*"},
        "lambda": {"ListEventSourceMappings": "*"},
        "execute-api": {"Invoke": api},
        "logs": {"FilterLogEvents": log_group},
        "sqs": {
            "GetQueueAttributes": bundle.outputs["QueueArn"],
            "ReceiveMessage": dead_letters,
            "ChangeMessageVisibility": dead_letters,
            "ChangeMessageVisibilityBatch": dead_letters,  # for ministack; to AWS it is the same
        },
        "kms": {"Decrypt": bundle.outputs["EncryptionKeyArn"]},
    }


def test_who_recalls_needs_no_more_than_the_readme_says(
    place, bundle, provider, monkeypatch, capsys
):
    become(bundle, place, **rights(bundle))
    provider.schedule(300, 3600)
    assert recall([300], "--wait") == 0
    bundle.put_latencies(bundle.log_lines("Worker"))
    assert recall([300], "--dry-run") == 0
    said = capsys.readouterr().err.partition("Dry run")[0]
    assert "per second (MaximumConcurrency 5, SMS Partner answers in 0." in said
    assert "assumed" not in said.rpartition("SMS to cancel")[2]
    monkeypatch.setattr(outcomes.Outcomes, "read_line", lambda *_: None)
    assert recall([304], "--wait", "--results", "2.csv") == 1


@pytest.mark.parametrize(
    ("service", "ended", "said"),
    [
        ("cloudformation", 2, "to DescribeStacks: "),
        ("execute-api", 3, "the API answered 403"),
        ("logs", 3, "to FilterLogEvents: "),
    ],
)
def test_a_right_that_lacks_is_named(place, bundle, provider, capsys, service, ended, said):
    rest = {name: actions for name, actions in rights(bundle).items() if name != service}
    become(bundle, place, **rest)
    assert recall([304], "--wait") == ended
    assert said in capsys.readouterr().err


def test_without_the_rights_of_a_forecast_it_recalls_all_the_same(place, bundle, provider, capsys):
    become(bundle, place, **(rights(bundle) | {"lambda": {}, "cloudwatch": {}}))
    provider.schedule(300, 3600)
    assert recall([300], "--wait") == 0
    said = capsys.readouterr().err
    assert "to ListEventSourceMappings: " in said
    assert "MaximumConcurrency 5 is assumed" in said
    assert "to GetMetricStatistics: " in said


NOT_THERE, CANCELLED = range(5_000, 5_100), range(5_100, 5_200)
TOO_LATE, SENT = range(5_200, 5_260), range(5_260, 5_300)
BROKEN = [  # which ids, what SMS Partner does when it is asked, how often
    (range(7_000, 7_100), fault("status", times=1)),
    (range(7_100, 7_150), fault("reset", times=1)),
    (range(7_150, 7_160), fault("garbage_body", times=1)),
    (range(7_160, 7_180), fault("close", moment="after", times=1)),
    (range(7_180, 7_184), fault("status", times=4)),  # more often than one receive asks
    (range(7_184, 7_185), fault("html", times=2)),
]


def schedule_campaign(provider):
    """Schedule 5,000 SMS with all that can be wrong with them; return their ids."""
    ids = range(5_000, 10_000)
    for message_id in set(ids) - set(NOT_THERE):
        provider.schedule(message_id, 3600)
    for message_id in CANCELLED:
        provider.schedule(message_id, 3600).cancelled = True
    for message_id in TOO_LATE:
        provider.schedule(message_id, 299)  # and not sent before a slow machine is done
    for message_id in SENT:
        provider.schedule(message_id, -1)
    for broken, planned in BROKEN:
        for message_id in broken:
            provider.plan(replace(planned, message_id=message_id))
    return ids


def recall_id(bundle):
    """Return the id that the last recall gave to what it sent."""
    queued = [json.loads(each) for each in bundle.log_lines(pattern='"cancels queued"')]
    recalled = [each for each in queued if "recall_id" in each]
    return max(recalled, key=lambda each: each["timestamp"])["recall_id"]


def test_of_five_thousand_each_has_the_outcome_that_the_provider_has(
    place, bundle, provider, monkeypatch
):
    """Broken answers, poison on the queue, some too late; and all of it asked for twice."""
    monkeypatch.setattr(follow, "POLL_S", 2)  # each look reads thousands of lines
    ids = schedule_campaign(provider)
    send_at = (datetime.now(UTC) + timedelta(minutes=55)).isoformat()
    assert recall(ids, "--send-at", send_at) == 0
    bundle.send(json.dumps({"messageId": "three hundred", "recallId": recall_id(bundle)}))
    assert recall(ids, "--send-at", send_at, "--wait") == 1
    found = results()
    assert found.keys() == set(ids)
    had = {message_id: state(provider, message_id) for message_id in ids}
    assert {id_: (found[id_], had[id_]) for id_ in ids if had[id_] not in STATES[found[id_]]} == {}
    assert {id_ for id_ in ids if found[id_] in DONE} == {
        id_ for id_ in ids if had[id_] == "cancelled"
    }
    counts = Counter(found.values())
    done = counts.pop("cancelled") + counts.pop("already_cancelled")
    assert (done, counts) == (4_800, {"not_found": 100, "too_late": 60, "already_sent": 40})


def test_a_second_run_follows_what_the_first_sent(place, provider):
    provider.schedule(300, 3600)
    assert recall([300]) == 0
    assert eventually(lambda: provider.state(300) == "cancelled")
    assert recall([300], "--wait") == 0
    assert results() == {300: "cancelled"}
