"""What watches the bundle: no alarm that can never be raised, or that tells nobody what to do."""

import json
import re

import pytest
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.sqs.models import sqs_backends

from conftest import KEY, REGION, Context
from infra import template
from infra.local.stack import ROOT
from sms_cancel import api_key, cancellation, watch, worker
from sms_cancel.outcome import Outcome
from test_outcomes import TABLE

MAIN = template.load(ROOT / "template.yaml")
MONITORING = template.load(ROOT / "infra" / "monitoring.yaml")
RUNBOOK = (ROOT / "infra" / "runbook.md").read_text()
SERVICE = "sms-cancel"  # the stack's name, in the fast tests' environment as in the default stack


def resources(document, kind):
    return {
        name: each["Properties"]
        for name, each in document["Resources"].items()
        if each["Type"] == kind
    }


ROLL_BACK = resources(MAIN, "AWS::CloudWatch::Alarm")
ALARMS = ROLL_BACK | resources(MONITORING, "AWS::CloudWatch::Alarm")
each_alarm = pytest.mark.parametrize("alarm", ALARMS.values(), ids=ALARMS)

[DASHBOARD] = resources(MONITORING, "AWS::CloudWatch::Dashboard").values()
WIDGETS = json.loads(
    re.sub(
        r"\$\{(\w+|AWS::Region)\}",
        lambda name: SERVICE if name[1] == "Service" else name[1],
        DASHBOARD["DashboardBody"]["Fn::Sub"],
    )
)["widgets"]

# The dimensions with which AWS has its metrics: developer guides of SQS, Lambda, API Gateway (HTTP
# APIs) and CloudWatch Logs.
METRICS_OF_AWS = {
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): {"QueueName"},
    ("AWS/SQS", "ApproximateNumberOfMessagesNotVisible"): {"QueueName"},
    ("AWS/SQS", "ApproximateAgeOfOldestMessage"): {"QueueName"},
    ("AWS/Lambda", "Invocations"): {"FunctionName"},
    ("AWS/Lambda", "Duration"): {"FunctionName"},
    ("AWS/Lambda", "Errors"): {"FunctionName"},
    ("AWS/Lambda", "Throttles"): {"FunctionName"},
    ("AWS/ApiGateway", "Count"): {"ApiId"},
    ("AWS/ApiGateway", "4xx"): {"ApiId"},
    ("AWS/ApiGateway", "5xx"): {"ApiId"},
    ("AWS/Logs", "IncomingBytes"): {"LogGroupName"},
}


def watched():
    """Return (namespace, metric, dimensions) of all that alarms and widgets look at."""
    metrics = []
    for alarm in ALARMS.values():
        dimensions = {each["Name"]: value(each["Value"]) for each in alarm["Dimensions"]}
        metrics.append((alarm["Namespace"], alarm["MetricName"], dimensions))
    for widget in WIDGETS:
        for metric in widget["properties"].get("metrics", []):
            namespace, *names = [each for each in metric if isinstance(each, str)] or [None]
            if namespace:
                metrics.append(
                    (namespace, names[0], dict(zip(names[1::2], names[2::2], strict=True)))
                )
    return metrics


def value(written):
    """Return a dimension's value: ``SERVICE``, an outcome, or the name of what is referred to."""
    if not isinstance(written, dict):
        return written
    return SERVICE if written["Ref"] in {"Service", "AWS::StackName"} else written["Ref"]


def test_the_alarms_are_these():
    watches = {
        name: (alarm["MetricName"], *(value(each["Value"]) for each in alarm["Dimensions"]))
        for name, alarm in ALARMS.items()
    }
    assert watches == {
        "ApiKeyRejected": ("Cancellations", SERVICE, "api_key_rejected"),
        "CreditsExhausted": ("Cancellations", SERVICE, "credits_exhausted"),
        "AccountBlocked": ("Cancellations", SERVICE, "account_blocked"),
        "KeyUnavailable": ("Cancellations", SERVICE, "key_unavailable"),
        "CreditsLow": ("Credits", SERVICE),
        "AccountNotWatched": ("Errors", "WatchFunctionName"),
        "TooLate": ("Cancellations", SERVICE, "too_late"),
        "DeadLetters": ("ApproximateNumberOfMessagesVisible", "DeadLetterQueueName"),
        "QueueNotRead": ("ApproximateAgeOfOldestMessage", "QueueName"),
        "CancelsRetried": ("QueueAge", SERVICE),
        "CutOffMarginSmall": ("CutOffMargin", SERVICE),
        "ApiServerErrors": ("5xx", "ApiId"),
        "ApiFunctionThrottles": ("Throttles", "ApiFunctionName"),
        "WorkerFunctionThrottles": ("Throttles", "WorkerFunctionName"),
        "AlertPublishFailed": ("AlertPublishFailed", SERVICE),
        "ApiFunctionErrors": ("Errors", "ApiFunction"),
        "WorkerFunctionErrors": ("Errors", "WorkerFunction"),
        "Bugs": ("Bugs", SERVICE),
    }


def test_the_readme_names_each_alarm():
    readme = (ROOT / "infra" / "README.md").read_text()
    [section] = re.findall(r"^## Alerts and alarms$(.+?)^## ", readme, re.MULTILINE | re.DOTALL)
    first_cells = re.findall(r"^\|(.+?)\|", section, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(first_cells))) == set(ALARMS)


@each_alarm
def test_each_alarm_tells_somebody_when_it_is_raised_and_over(alarm):
    topic = {"Ref": "AlertTopic"}, {"Ref": "AlertTopicArn"}
    assert alarm["AlarmActions"] == alarm["OKActions"]
    assert [each in topic for each in alarm["AlarmActions"]] == [True]


def test_the_nested_alarms_tell_the_same_topic():
    [nested] = resources(MAIN, "AWS::CloudFormation::Stack").values()
    assert nested["Parameters"]["AlertTopicArn"] == {"Ref": "AlertTopic"}


@pytest.mark.parametrize("name", ALARMS)
def test_missing_data_is_no_alarm_but_of_a_watch_that_does_not_run(name):
    of_the_watch = {"CreditsLow": "ignore", "AccountNotWatched": "breaching"}
    assert ALARMS[name]["TreatMissingData"] == of_the_watch.get(name, "notBreaching")


@pytest.mark.parametrize("name", ALARMS)
def test_one_bad_minute_raises_an_alarm_or_five_or_three_runs_of_the_watch(name):
    alarm = ALARMS[name]
    longer = {"ApiServerErrors": 300, "CreditsLow": 300, "AccountNotWatched": 900}
    takes_s = alarm["Period"] * alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"])
    assert takes_s == longer.get(name, 60)


@pytest.mark.parametrize(
    "name",
    ["ApiKeyRejected", "CreditsExhausted", "AccountBlocked", "KeyUnavailable",
     "AlertPublishFailed", "Bugs"],
)  # fmt: skip
def test_what_the_watch_repeats_is_not_over_between_two_of_its_runs(name):
    alarm = ALARMS[name]
    # Five minutes apart; a run begins up to a minute late (Scheduler), ends within 27 s (Lambda),
    # and its metric comes up to two minutes later. A minute more, as CloudWatch cuts by the minute.
    assert alarm["Period"] * alarm["EvaluationPeriods"] >= (5 + 1 + 0.5 + 2 + 1) * 60
    assert alarm["DatapointsToAlarm"] == 1  # a cancel that fails raises it at once


@each_alarm
def test_each_description_says_what_to_do_and_leads_into_the_runbook(alarm):
    text = alarm["AlarmDescription"]["Fn::Sub"]
    assert " Now: " in text
    assert len(text.replace("${RunbookUrl}", "x" * 200)) <= 1024  # CloudWatch takes no more
    [anchor] = re.findall(r"Runbook: \$\{RunbookUrl\}#([a-z0-9-]+)$", text)
    headings = re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", ALARMS)
def test_each_alarm_is_named_in_the_section_that_its_description_leads_to(name):
    anchor = ALARMS[name]["AlarmDescription"]["Fn::Sub"].rsplit("#", 1)[1]
    sections = re.split(r"^## ", RUNBOOK, flags=re.MULTILINE)
    [section] = [s for s in sections if s.split("\n")[0].lower().replace(" ", "-") == anchor]
    assert f"`{name}`" in section


def test_each_link_within_the_runbook_leads_somewhere():
    headings = re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    links = set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK))
    assert links
    assert links <= anchors


def test_each_metric_of_aws_has_the_dimensions_that_aws_gives_it():
    for namespace, name, dimensions in watched():
        if namespace != "SmsCancel":
            assert set(dimensions) == METRICS_OF_AWS[namespace, name]


def emitted(provider, cloud, monkeypatch, written):
    """Let the worker meet each outcome, no topic and a bug, the watch none; return the metrics."""
    for message_id, provider_does, *_ in TABLE:
        with monkeypatch.context() as patch:
            provider.reset()
            provider.schedule(300, 3600)
            cloud.put_key(KEY)
            patch.setattr(cancellation, "_api_key", api_key.ApiKey())
            patch.setenv("ALERT_TOPIC_ARN", cloud.topic_arn + "-gone")
            provider_does(provider, cloud, patch)
            body = {"messageId": message_id, "sendAt": "2099-11-24T09:00:00Z"}
            worker.handler(cloud.queue_event(json.dumps(body)), Context())
            sqs_backends[ACCOUNT][REGION].queues["queue"]._messages.clear()
    provider.reset()
    cloud.put_key(KEY)
    watch.handler({}, Context())
    unforeseen = cloud.queue_event("{}")
    del unforeseen["Records"][0]["body"]
    worker.handler(unforeseen, Context())
    return [
        ("SmsCancel", name, dimensions)
        for dimensions, metrics in written.metrics()
        for name in metrics
    ]


def test_each_metric_of_ours_is_one_that_the_functions_emit(
    provider, provider_url, cloud, monkeypatch, written
):
    ours = [each for each in watched() if each[0] == "SmsCancel"]
    assert {"Credits", "ToSend"} <= {name for _, name, _ in ours}
    assert len(ours) > 20
    metrics = emitted(provider, cloud, monkeypatch, written)
    assert [each for each in ours if each not in metrics] == []


def test_the_query_for_cancels_that_failed_reads_fields_that_the_functions_write(
    provider, provider_url, cloud, written
):
    [query] = [each["properties"]["query"] for each in WIDGETS if each["type"] == "log"]
    [done] = re.findall(r'filter message = "cancel settled" and outcome not in (\[.+?\])', query)
    assert set(json.loads(done)) == {str(each) for each in Outcome if each.done}
    [fields] = re.findall(r"\| fields @timestamp, ([^|]+) \| sort @timestamp desc", query)
    provider.schedule(300, -1)
    worker.handler(cloud.queue_event('{"messageId": 300}'), Context())
    [line] = written.logged("cancel settled")
    assert set(fields.split(", ")) <= set(line)


def test_a_bug_is_logged_with_its_metric(cloud, monkeypatch, written):
    monkeypatch.setattr(worker.cancellation, "cancel", None)  # a bug: it is called
    worker.handler(cloud.queue_event("{}"), Context())
    assert written.logged("bug")
    assert written.metrics() == [({"service": SERVICE}, {"Bugs": [1]})]
    assert ("SmsCancel", "Bugs", {"service": SERVICE}) in watched()


def test_people_get_alarms_and_nothing_else():
    [mail] = resources(MAIN, "AWS::SNS::Subscription").values()
    assert (mail["Protocol"], mail["Endpoint"]) == ("email", {"Ref": "AlarmEmail"})
    assert mail["FilterPolicyScope"] == "MessageBody"
    assert mail["FilterPolicy"] == {
        "$or": [{"NewStateValue": ["ALARM"]}, {"OldStateValue": ["ALARM"]}]
    }


def test_a_release_is_rolled_back_by_each_alarm_that_stands_in_the_template():
    preference = MAIN["Globals"]["Function"]["DeploymentPreference"]
    assert {each["Ref"] for each in preference["Alarms"]} == set(ROLL_BACK)
    assert preference["Enabled"] == {"Ref": "GradualDeployment"}
    assert MAIN["Parameters"]["GradualDeployment"]["Default"] == "false"


def parameters_in(written):
    """Return the parameters that a piece of the template depends on, also by its conditions."""
    if isinstance(written, list):
        return set().union(*map(parameters_in, written))
    if isinstance(written, str):
        return set(re.findall(r"\$\{(\w+)\}", written)) & set(MAIN["Parameters"])
    if not isinstance(written, dict):
        return set()
    found = set().union(*map(parameters_in, written.values()))
    found |= {written.get("Ref")} & set(MAIN["Parameters"])
    if "Fn::If" in written:
        found |= parameters_in(MAIN["Conditions"][written["Fn::If"][0]])
    return found


@pytest.mark.parametrize("function", ["ApiFunction", "WorkerFunction", "WatchFunction"])
def test_each_parameter_of_a_function_makes_a_new_version(function):
    """CloudFormation replaces a version with its description: so each of them must stand in it."""
    properties = dict(MAIN["Resources"][function]["Properties"])
    described = parameters_in(properties.pop("VersionDescription"))
    configuration = MAIN["Globals"]["Function"] | properties
    # What is no part of a version.
    for elsewhere in ("Events", "DeploymentPreference", "ReservedConcurrentExecutions"):
        configuration.pop(elsewhere, None)
    configuration["Environment"] = [
        MAIN["Globals"]["Function"]["Environment"],
        properties.get("Environment"),
    ]
    assert parameters_in(configuration) == described
    assert len(described) >= 3


def test_no_widget_covers_another():
    cells = [
        (x, y)
        for each in WIDGETS
        for x in range(each["x"], each["x"] + each["width"])
        for y in range(each["y"], each["y"] + each["height"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24  # the grid's width
