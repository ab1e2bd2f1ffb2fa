"""The account watch of the deployed template, run as its schedule runs it."""

import json
import time
from datetime import UTC, datetime

import pytest

from conftest import KEY, leaks
from end_to_end.conftest import PATIENCE_S, eventually
from infra.local.provider_server import fault

NEW_KEY = f"{KEY}-new"


def runs(bundle):
    """Return the line of each run."""
    lines = [json.loads(each) for each in bundle.log_lines("WatchLogGroup") if each.startswith("{")]
    return [each for each in lines if each["message"] == "account watched"]


def next_run(bundle, begin):
    """Let a run begin; return its line."""
    before = runs(bundle)
    begin()
    [line] = eventually(lambda: [each for each in runs(bundle) if each not in before])
    return line


def watch(bundle):
    return next_run(bundle, bundle.watch)


def metrics(line):
    """Return (dimensions, values by metric) as CloudWatch reads them from a line."""
    return [
        (
            {name: line[name] for [names] in [each["Dimensions"]] for name in names},
            {metric["Name"]: line[metric["Name"]] for metric in each["Metrics"]},
        )
        for each in line["_aws"]["CloudWatchMetrics"]
    ]


@pytest.fixture
def alerts(bundle):
    """The URL of a queue that is subscribed to the topic as a machine is."""
    only_alerts = json.dumps({"outcome": [{"exists": True}]})
    url = bundle.subscribe_queue("alerts-of-the-watch", FilterPolicy=only_alerts)
    bundle.sqs.purge_queue(QueueUrl=url)
    return url


def test_credits_and_waiting_sms_are_those_of_the_account(bundle, provider, alerts):
    provider.configure(credits=4711)
    for message_id in (300, 301, 302):
        provider.schedule(message_id, 3600)
    assert bundle.delete(302)[0] == 200
    line = watch(bundle)
    assert (line["level"], line["outcome"], line["door"]) == ("INFO", "account_ready", "watch")
    assert (line["code"], line["http_status"], line["attempts"]) == (200, 200, 1)
    assert (line["Credits"], line["ToSend"]) == (4711, 2)
    assert {json.dumps(each) for each, _ in metrics(line)} == {'{"service": "sms-cancel"}'}
    assert {"Credits", "ToSend"} <= {name for _, values in metrics(line) for name in values}
    assert provider.account_calls == 1
    assert bundle.receive(alerts, 1) is None


@pytest.mark.parametrize(
    ("account", "outcome", "code"),
    [
        ({"api_key": "another"}, "api_key_rejected", 10),
        ({"credits": 0}, "credits_exhausted", 11),
        ({"status": "blocked"}, "account_blocked", 30),
    ],
)
def test_what_stops_every_cancel_is_an_alert_and_an_alarm_before_one_fails(
    bundle, provider, alerts, account, outcome, code
):
    provider.configure(**account)
    line = watch(bundle)
    assert (line["level"], line["outcome"], line["code"]) == ("ERROR", outcome, code)
    of_the_alarm = {"service": "sms-cancel", "outcome": outcome}, {"Cancellations": 1}
    assert of_the_alarm in metrics(line)
    assert not {"Credits", "ToSend"} & line.keys()
    received = bundle.receive(alerts, PATIENCE_S)
    alert = json.loads(received["body"])
    assert leaks(json.dumps(alert)) == []
    assert (alert["outcome"], alert["code"], alert["door"]) == (outcome, code, "watch")
    assert (alert["messageIds"], alert["service"]) == ([], "sms-cancel")
    assert received["outcome"] == outcome
    assert provider.calls.total() == 0


def test_a_rotated_key_is_found_without_an_alert(bundle, provider, alerts):
    assert watch(bundle)["outcome"] == "account_ready"
    try:
        provider.configure(api_key=NEW_KEY)
        bundle.put_key(NEW_KEY)
        assert watch(bundle)["outcome"] == "account_ready"
        assert bundle.receive(alerts, 1) is None
    finally:
        bundle.put_key(KEY)


def test_an_answer_that_makes_no_sense_is_a_run_that_failed_and_no_alert(bundle, provider, alerts):
    provider.plan(fault("html", call="me", times=2))
    line = watch(bundle)
    assert (line["level"], line["outcome"]) == ("WARNING", "unreadable")
    assert not {"Credits", "ToSend"} & line.keys()
    assert bundle.watch() is False
    assert bundle.watch() is True
    assert bundle.receive(alerts, 1) is None


def test_the_target_of_the_schedule_is_the_watch(bundle, provider):
    """Let ministack's scheduler fire once, at one of its sweeps, which are ten seconds apart."""
    schedule = bundle.schedule()
    assert schedule["ScheduleExpression"] == "rate(5 minutes)"
    once = {
        "Name": f"once-{time.monotonic_ns()}",
        "ScheduleExpression": f"at({datetime.now(UTC):%Y-%m-%dT%H:%M:%S})",
        "ActionAfterCompletion": "DELETE",
        **{name: schedule[name] for name in ("FlexibleTimeWindow", "Target")},
    }
    line = next_run(bundle, lambda: bundle.scheduler.create_schedule(**once))
    assert line["outcome"] == "account_ready"


def test_a_run_logs_no_more_than_the_readme_says_it_costs(bundle, provider):
    since_ms = int(time.time() * 1000)
    watch(bundle)
    group = [each for each in bundle._log_groups() if "WatchLogGroup" in each]
    pages = bundle.logs.get_paginator("filter_log_events").paginate(
        logGroupName=group[0], startTime=since_ms
    )
    lines = [event["message"] for page in pages for event in page["events"]]
    assert sum("account watched" in line for line in lines) == 1
    assert sum(len(line.encode()) for line in lines) <= 1_500
