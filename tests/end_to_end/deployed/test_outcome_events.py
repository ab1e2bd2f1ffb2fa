"""A stack that puts what became of a cancel on EventBridge, and a rule that passes it on.

ministack does not know the condition events:source, and so refuses what the template allows: the
tests of what arrives give both doors the same policy without it.
"""

import json

import pytest

from conftest import KEY, leaks
from end_to_end.conftest import PATIENCE_S, eventually
from infra.local import stack
from infra.local.bundle import Bundle

NAME = "events"


@pytest.fixture(scope="module")
def _deployed(_bundle, _provider, artifacts):
    outputs = stack.deploy(
        _bundle.endpoint,
        artifacts,
        NAME,
        SmsPartnerUrl=_provider[1],
        OutcomeEvents="true",
        AccountWatch="false",
    )
    deployed = Bundle(_bundle.endpoint, outputs)
    deployed.put_key(KEY)
    return deployed


@pytest.fixture
def deployed(_deployed, provider, written):
    return _deployed


def resource(bundle, logical_id):
    found = stack.client(bundle.endpoint, "cloudformation").describe_stack_resource(
        StackName=NAME, LogicalResourceId=logical_id
    )
    return found["StackResourceDetail"]["PhysicalResourceId"]


@pytest.fixture
def allowed(deployed):
    """The stack with a policy that ministack understands, for one test."""
    iam = stack.client(deployed.endpoint, "iam")
    arn = resource(deployed, "EventsPolicy")
    document = iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]["Document"]
    [statement] = document["Statement"]
    assert "events:source" in str(statement.pop("Condition"))
    own = {"PolicyName": "WithoutCondition"}
    roles = [resource(deployed, door) for door in ("ApiRole", "WorkerRole")]
    for role in roles:
        iam.put_role_policy(RoleName=role, PolicyDocument=json.dumps(document), **own)
    yield deployed
    for role in roles:
        iam.delete_role_policy(RoleName=role, **own)


@pytest.fixture
def reader(deployed):
    """The URL of a queue that is the target of a rule for our events."""
    url = deployed.sqs.create_queue(QueueName="event-reader")["QueueUrl"]
    answer = deployed.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    arn = answer["Attributes"]["QueueArn"]
    events = stack.client(deployed.endpoint, "events")
    pattern = {"source": ["sms-cancel"], "detail-type": ["SMS cancel settled"]}
    rule = events.put_rule(Name="settled", EventPattern=json.dumps(pattern))["RuleArn"]
    allow = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    deployed.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    events.put_targets(Rule="settled", Targets=[{"Id": "1", "Arn": arn}])
    deployed.sqs.purge_queue(QueueUrl=url)
    return url


def next_event(bundle, reader, patience_s=PATIENCE_S):
    received = bundle.receive(reader, patience_s)
    assert leaks(json.dumps(received)) == []
    return received and json.loads(received["body"])


def test_a_cancel_over_http_arrives_as_an_event(allowed, provider, reader):
    provider.schedule(300, 3600)
    assert allowed.delete(300)[0] == 200
    event = next_event(allowed, reader)
    assert (event["source"], event["detail-type"]) == ("sms-cancel", "SMS cancel settled")
    assert event["detail"].pop("settledAt")
    assert event["detail"] == {
        "messageId": "300", "outcome": "cancelled", "code": 200, "door": "http",
        "marginSeconds": None, "recallId": None, "service": NAME,
    }  # fmt: skip


def test_each_cancel_of_a_campaign_arrives_once_it_is_settled(allowed, provider, reader):
    ids = range(30_000, 30_025)
    for message_id in ids[:20]:
        provider.schedule(message_id, 3600)
    body = {"messageIds": list(ids), "sendAt": "2099-11-24T09:00:00Z", "recallId": "summer-2"}
    assert allowed.post(body)[1] == {"accepted": 25, "rejected": []}
    details = [next_event(allowed, reader)["detail"] for _ in ids]
    assert {int(each["messageId"]): each["outcome"] for each in details} == {
        each: "cancelled" if each < 30_020 else "not_found" for each in ids
    }
    assert {(each["door"], each["recallId"]) for each in details} == {("queue", "summer-2")}
    assert min(each["marginSeconds"] for each in details) > 1e9
    assert next_event(allowed, reader, 1) is None


def test_an_event_that_may_not_be_put_changes_no_outcome(deployed, provider, reader):
    provider.schedule(300, 3600)
    provider.schedule(301, 3600)
    assert deployed.delete(300)[0] == 200
    deployed.send('{"messageId": 301}')
    assert eventually(lambda: provider.state(301) == "cancelled")
    assert next_event(deployed, reader, 1) is None
    for door in ("ApiLogGroup", "WorkerLogGroup"):
        assert eventually(lambda door=door: "AccessDeniedException" in reasons(deployed, door))


def reasons(bundle, log_group):
    """Return why events were not put, as it was logged, once the metric was written too."""
    lines = bundle.log_lines(resource(bundle, log_group))
    documents = [json.loads(line) for line in lines if line.startswith("{")]
    if not any("EventPutFailed" in each for each in documents):
        return []
    return [each["reason"] for each in documents if each.get("message") == "event not put"]
