"""What the code calls of AWS, the role of its function allows, and little else."""

import json
from contextlib import contextmanager

import pytest
from botocore.client import BaseClient
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.sqs.models import sqs_backends

from conftest import KEY, REGION, Context
from sms_cancel import api, api_key, cancellation, watch, worker
from test_outcomes import TABLE
from test_template import TEMPLATE, choices

# Operations of which IAM has no action of their own: it asks for that of the single call.
BATCHES = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "sns:PublishBatch": "sns:Publish",
}
# What is called in the role's name by others than the code: Lambda's runtime, event source and
# network, X-Ray, and the services that decrypt.
NOT_BY_THE_CODE = {
    "logs:CreateLogStream", "logs:PutLogEvents",
    "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes",
    "xray:PutTraceSegments", "xray:PutTelemetryRecords",
    "kms:Decrypt", "kms:GenerateDataKey",
    "ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:UnassignPrivateIpAddresses",
}  # fmt: skip


@contextmanager
def recorded(actions):
    """Add to the set what is called of AWS meanwhile, as IAM names it."""
    make = BaseClient._make_api_call

    def record(client, operation, parameters):
        action = f"{client.meta.service_model.endpoint_prefix}:{operation}"
        actions.add(BATCHES.get(action, action))
        return make(client, operation, parameters)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", record)
        yield


def each_outcome(provider, cloud, monkeypatch):
    """Yield an id for each row of the table of outcomes, with the provider set to it."""
    for message_id, provider_does, *_ in TABLE:
        with monkeypatch.context() as patch:
            provider.reset()
            cloud.put_key(KEY)
            patch.setattr(cancellation, "_api_key", api_key.ApiKey())
            provider_does(provider, cloud, patch)
            yield message_id


def allowed_to(role):
    """Return the actions that a role is allowed, by its own and its shared policies."""
    properties = TEMPLATE["Resources"][role]["Properties"]
    documents = [policy["PolicyDocument"] for policy in properties["Policies"]]
    managed = [each["Ref"] for each in choices(properties["ManagedPolicyArns"])]
    documents += [TEMPLATE["Resources"][name]["Properties"]["PolicyDocument"] for name in managed]
    return {
        action
        for document in documents
        for statement in document["Statement"]
        if statement["Effect"] == "Allow"
        for action in choices(statement["Action"])
    }


def test_the_http_door_calls_what_its_role_allows_and_all_of_it(
    provider, provider_url, cloud, monkeypatch, written
):
    monkeypatch.setenv("OUTCOME_EVENTS", "true")
    actions = set()
    for message_id in each_outcome(provider, cloud, monkeypatch):
        event = {
            "routeKey": "DELETE /messages/{messageId}",
            "rawPath": f"/messages/{message_id}",
            "pathParameters": {"messageId": message_id},
        }
        with recorded(actions):
            api.handler(event, Context())
    many = {
        "version": "2.0",
        "routeKey": "POST /cancellations",
        "rawPath": "/cancellations",
        "headers": {"content-type": "application/json"},
        "body": '{"messageIds": [300]}',
        "isBase64Encoded": False,
    }
    with recorded(actions):
        assert api.handler(many, Context())["statusCode"] == 202
    assert actions == allowed_to("ApiRole") - NOT_BY_THE_CODE


def test_the_watch_calls_what_its_role_allows_and_all_of_it(provider, provider_url, cloud, written):
    actions = set()
    for credits_left in (1, 0):
        provider.configure(credits=credits_left)
        with recorded(actions):
            watch.handler({}, Context())
    assert [each["outcome"] for each in written.logged("account watched")] == [
        "account_ready", "credits_exhausted",
    ]  # fmt: skip
    assert actions == allowed_to("WatchRole") - NOT_BY_THE_CODE


def test_the_worker_calls_what_its_role_allows_and_all_of_it(
    provider, provider_url, cloud, monkeypatch, written
):
    monkeypatch.setenv("OUTCOME_EVENTS", "true")
    actions = set()
    for message_id in each_outcome(provider, cloud, monkeypatch):
        event = cloud.queue_event(json.dumps({"messageId": message_id}))
        with recorded(actions):
            worker.handler(event, Context())
        sqs_backends[ACCOUNT][REGION].queues["queue"]._messages.clear()
    assert actions == allowed_to("WorkerRole") - NOT_BY_THE_CODE
