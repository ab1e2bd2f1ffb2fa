"""Alarms, mail and dashboard of the deployed bundle.

ministack evaluates an alarm when a metric is put, regardless of dimensions, and makes no metrics of
logs or queues itself. So CloudWatch's part is played here: what the functions wrote to the log
is put as the metrics it describes. That the dimensions match is held by the fast tests.
"""

import json
import re
import time

import pytest
from samtranslator.yaml_helper import yaml_parse

from end_to_end.conftest import PATIENCE_S, eventually
from infra.local import stack

STACK = "sms-cancel-"  # how each name of the bundle's stack begins; there may be another stack


@pytest.fixture
def cloudwatch(bundle):
    return stack.client(bundle.endpoint, "cloudwatch")


def alarms(cloudwatch):
    return cloudwatch.describe_alarms(AlarmNamePrefix=STACK)["MetricAlarms"]


def alarm(cloudwatch, name):
    [found] = [each for each in alarms(cloudwatch) if each["AlarmName"].split("-")[-2] == name]
    return found


def mail_subscription(bundle):
    topic = bundle.outputs["AlertTopicArn"]
    subscriptions = bundle.sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    [mail] = [each for each in subscriptions if each["Protocol"] == "email"]
    return mail


@pytest.fixture
def mailbox(bundle):
    """A queue with the very filter of the mail subscription: what it gets, people get."""
    arn = mail_subscription(bundle)["SubscriptionArn"]
    attributes = bundle.sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]
    names = ("FilterPolicy", "FilterPolicyScope")
    url = bundle.subscribe_queue("mailbox", **{name: attributes[name] for name in names})
    bundle.sqs.purge_queue(QueueUrl=url)
    return url


def state_changes(bundle, mailbox, patience_s=PATIENCE_S):
    received = bundle.receive(mailbox, patience_s)
    if received is None:
        return None
    change = json.loads(received["body"])
    return change["AlarmName"].split("-")[-2], change["OldStateValue"], change["NewStateValue"]


def test_the_mail_goes_where_the_parameter_says(bundle):
    assert mail_subscription(bundle)["Endpoint"] == "people@example.org"


def test_people_hear_of_an_alarm_once_when_it_is_raised_and_once_when_it_is_over(
    bundle, cloudwatch, mailbox
):
    name = alarm(cloudwatch, "DeadLetters")["AlarmName"]
    for state in ("OK", "ALARM", "OK"):
        cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="a test")
    assert state_changes(bundle, mailbox) == ("DeadLetters", "OK", "ALARM")
    assert state_changes(bundle, mailbox) == ("DeadLetters", "ALARM", "OK")
    assert state_changes(bundle, mailbox, 2) is None


def test_people_do_not_hear_of_a_single_failure_but_machines_do(bundle, provider, mailbox):
    machine = bundle.subscribe_queue("machine")
    provider.configure(api_key="another")
    assert bundle.delete(300)[0] == 502
    assert json.loads(bundle.receive(machine, PATIENCE_S)["body"])["outcome"] == "api_key_rejected"
    assert bundle.receive(mailbox, 2) is None


def test_machines_tell_alerts_from_alarms_by_the_filter_in_the_outputs_description(
    bundle, provider, cloudwatch
):
    template = yaml_parse(stack.ROOT.joinpath("template.yaml").read_text())
    description = template["Outputs"]["AlertTopicArn"]["Description"]
    [policy] = re.findall(r"filter policy (\{.+\}) on message attributes", description)
    machine = bundle.subscribe_queue("only-alerts", FilterPolicy=policy)
    everything = bundle.subscribe_queue("everything")
    name = alarm(cloudwatch, "DeadLetters")["AlarmName"]
    for state in ("OK", "ALARM"):
        cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="a test")
    change = json.loads(bundle.receive(everything, PATIENCE_S)["body"])
    assert change["AlarmName"] == name  # the topic carries the alarms too
    provider.configure(api_key="another")
    assert bundle.delete(300)[0] == 502
    received = bundle.receive(machine, PATIENCE_S)
    assert received["outcome"] == "api_key_rejected"
    assert bundle.receive(machine, 2) is None


def put_as_cloudwatch_does(cloudwatch, logs, group, since_ms):
    """Put the metrics of all blobs in CloudWatch's embedded metric format of a log group."""
    events = logs.filter_log_events(logGroupName=group, startTime=since_ms)["events"]
    lines = [each["message"] for each in events if '"_aws"' in each["message"]]
    for blob in map(json.loads, lines):
        for directive in blob["_aws"]["CloudWatchMetrics"]:
            names = directive["Dimensions"][0]
            dimensions = [{"Name": name, "Value": blob[name]} for name in names]
            for metric in directive["Metrics"]:
                name, values = metric["Name"], blob[metric["Name"]]
                datum = {"MetricName": name, "Dimensions": dimensions, "Unit": metric["Unit"]}
                datum["Values"] = values if isinstance(values, list) else [values]
                cloudwatch.put_metric_data(Namespace=directive["Namespace"], MetricData=[datum])
    return len(lines)


def log_group(bundle, door):
    cloudformation = stack.client(bundle.endpoint, "cloudformation")
    found = cloudformation.describe_stack_resource(StackName="sms-cancel", LogicalResourceId=door)
    return found["StackResourceDetail"]["PhysicalResourceId"]


def test_a_dead_key_is_a_mail(bundle, provider, cloudwatch, mailbox):
    logs = stack.client(bundle.endpoint, "logs")
    since_ms = int(time.time() * 1000)
    provider.configure(api_key="another")
    bundle.delete(300)
    group = log_group(bundle, "ApiLogGroup")
    assert eventually(lambda: put_as_cloudwatch_does(cloudwatch, logs, group, since_ms))
    assert alarm(cloudwatch, "ApiKeyRejected")["StateValue"] == "ALARM"
    names = [state_changes(bundle, mailbox) for _ in range(5)]  # all alarms on the same metric
    assert ("ApiKeyRejected", "ALARM") in [(name, new) for name, _, new in names]


def test_each_alarm_watches_what_was_deployed(bundle, cloudwatch):
    functions = stack.client(bundle.endpoint, "lambda").list_functions()["Functions"]
    queues = {
        bundle.outputs[output].rsplit("/", 1)[1] for output in ("QueueUrl", "DeadLetterQueueUrl")
    }
    names = {each["FunctionName"] for each in functions if each["FunctionName"].startswith(STACK)}
    there = names | queues | {bundle.outputs["ApiId"]}
    watched = {
        dimension["Value"]
        for each in alarms(cloudwatch)
        for dimension in each["Dimensions"]
        if dimension["Name"] not in {"service", "outcome"}
    }
    assert watched == there


def test_the_dashboards_query_searches_the_logs_of_both_functions(bundle, cloudwatch):
    """ministack runs no query over JSON fields: the fast tests hold the fields to the log lines."""
    dashboards = cloudwatch.list_dashboards(DashboardNamePrefix=STACK)["DashboardEntries"]
    [name] = [each["DashboardName"] for each in dashboards]
    body = json.loads(cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"])
    [query] = [each["properties"]["query"] for each in body["widgets"] if each["type"] == "log"]
    groups = [log_group(bundle, door) for door in ("ApiLogGroup", "WorkerLogGroup")]
    assert re.findall(r"SOURCE '([^']+)'", query) == groups
