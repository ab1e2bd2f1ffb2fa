"""Both doors of the deployed template: signed HTTP, real queue messages, real alerts."""

import json
import time

import pytest
from botocore.exceptions import ClientError

from conftest import leaks
from end_to_end.conftest import PATIENCE_S, eventually
from infra.local import stack
from infra.local.provider_server import fault


def dead_letter(bundle):
    letter = bundle.receive(bundle.outputs["DeadLetterQueueUrl"], PATIENCE_S)
    assert leaks(json.dumps(letter)) == []
    return letter


def test_a_signed_delete_cancels(bundle, provider):
    provider.schedule(300, 3600)
    expected = {"messageId": "300", "outcome": "cancelled", "code": 200}
    assert bundle.delete(300) == (200, expected)
    assert provider.state(300) == "cancelled"
    assert bundle.delete(300)[1]["outcome"] == "already_cancelled"


@pytest.mark.parametrize(
    ("message_id", "status", "outcome"),
    [("301", 404, "not_found"), ("302", 409, "too_late"), ("303", 409, "already_sent")],
)
def test_what_cannot_be_cancelled_is_a_problem(bundle, provider, message_id, status, outcome):
    provider.schedule(302, 299)
    provider.schedule(303, -1)
    answer_status, problem = bundle.delete(message_id)
    assert (answer_status, problem["status"], problem["outcome"]) == (status, status, outcome)


@pytest.mark.parametrize("message_id", ["abc", "1" * 21, "-1", "%20", "3%0A", "%D9%A3"])
def test_an_invalid_id_reaches_no_provider(bundle, provider, message_id):
    status, problem = bundle.delete(message_id)
    assert (status, problem["outcome"]) == (400, "invalid_request")
    assert provider.calls.total() == 0


def test_an_unsigned_call_is_refused(bundle, provider):
    provider.schedule(300, 3600)
    status, answer = bundle.call("DELETE", "/messages/300", None)
    assert (status, "message" in answer) == (403, True)
    assert provider.state(300) == "scheduled"


def new_user(bundle, action, resource):
    """Return the key of a new user that may do this, and nothing else."""
    iam = stack.client(bundle.endpoint, "iam")
    name = f"user-{time.monotonic_ns()}"
    iam.create_user(UserName=name)
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    document = {"Version": "2012-10-17", "Statement": [statement]}
    iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=json.dumps(document))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {"access_key": key["AccessKeyId"], "secret_key": key["SecretAccessKey"]}


@pytest.fixture
def caller(bundle):
    """A user that may cancel by the HTTP door."""
    invoke = f"arn:aws:execute-api:*:*:{bundle.outputs['ApiId']}/$default/DELETE/messages/*"
    return new_user(bundle, "execute-api:Invoke", invoke)


def test_a_caller_needs_no_more_than_the_right_to_invoke(bundle, provider, caller):
    provider.schedule(300, 3600)
    assert bundle.delete(300, **caller)[0] == 200


def test_a_wrongly_signed_call_is_refused(bundle, provider, caller):
    provider.schedule(300, 3600)
    assert bundle.delete(300, **caller | {"secret_key": "wrong"})[0] == 403
    assert provider.state(300) == "scheduled"


def test_a_caller_without_the_right_is_refused(bundle, provider, caller):
    stranger = new_user(bundle, "execute-api:Invoke", "arn:aws:execute-api:*:*:another/*")
    assert bundle.delete(300, **stranger)[0] == 403
    assert provider.calls.total() == 0


@pytest.mark.parametrize("path", ["/", "/messages", "/messages/300/x"])
def test_another_path_is_not_found(bundle, provider, path):
    assert bundle.call("DELETE", path, {"access_key": "test", "secret_key": "test"})[0] == 404


@pytest.mark.parametrize(
    ("service", "operation", "arguments"),
    [
        # The delay keeps it from the worker, and the next test's purge takes it away.
        ("sqs", "send_message", {"QueueUrl": "QueueUrl", "MessageBody": "x", "DelaySeconds": 900}),
        ("sqs", "receive_message", {"QueueUrl": "DeadLetterQueueUrl"}),
        ("sns", "publish", {"TopicArn": "AlertTopicArn", "Message": "{}"}),
    ],
)
def test_what_came_by_plain_http_is_refused(bundle, service, operation, arguments):
    key = new_user(bundle, f"{service}:*", "*")
    client = stack.client(
        bundle.endpoint,
        service,
        aws_access_key_id=key["access_key"],
        aws_secret_access_key=key["secret_key"],
    )
    arguments = {name: bundle.outputs.get(value, value) for name, value in arguments.items()}
    assert getattr(client, operation)(**arguments)
    # As a proxy in front of the local stack would say that it took the request without TLS.
    client.meta.events.register(
        "before-sign", lambda request, **_: request.headers.add_header("X-Forwarded-Proto", "http")
    )
    with pytest.raises(ClientError, match=r"AccessDenied|AuthorizationError"):
        getattr(client, operation)(**arguments)


def test_a_message_on_the_queue_cancels(bundle, provider):
    provider.schedule(300, 3600)
    bundle.send('{"messageId": 300}')
    assert eventually(lambda: provider.state(300) == "cancelled")


def test_a_poison_message_lies_in_the_dead_letter_queue_with_its_reason(bundle, provider):
    bundle.send("poison")
    letter = dead_letter(bundle)
    assert letter.pop("originalMessageId")
    assert letter.pop("detail")
    assert letter == {"body": "poison", "outcome": "invalid_request"}


def test_each_of_a_hundred_messages_has_its_end(bundle, provider):
    for message_id in range(1000, 1100):
        provider.schedule(message_id, 3600)
    for message_id in range(1000, 1100, 10):
        provider.schedule(message_id, 60)
    for start in range(1000, 1100, 10):
        bundle.sqs.send_message_batch(
            QueueUrl=bundle.outputs["QueueUrl"],
            Entries=[
                {"Id": str(each), "MessageBody": json.dumps({"messageId": each})}
                for each in range(start, start + 10)
            ],
        )
    letters = [dead_letter(bundle) for _ in range(10)]
    assert {json.loads(letter["body"])["messageId"] for letter in letters} == set(
        range(1000, 1100, 10)
    )
    assert {(letter["outcome"], letter["code"]) for letter in letters} == {("too_late", "6")}
    cancelled = {each for each in range(1000, 1100) if each % 10}
    assert eventually(lambda: all(provider.state(each) == "cancelled" for each in cancelled))


def test_a_message_waits_for_a_provider_that_is_away(bundle, provider):
    provider.schedule(300, 3600)
    provider.plan(fault("status", status=503, times=3))
    begun_at = time.monotonic()
    bundle.send('{"messageId": 300}')
    assert eventually(lambda: provider.state(300) == "cancelled")
    assert provider.calls[300] == 4
    assert time.monotonic() - begun_at > 3  # the first retry comes after about five seconds


def test_a_dead_key_is_an_alert_in_a_queue_that_is_subscribed_to_the_topic(bundle, provider):
    alert_queue_url = bundle.subscribe_queue()
    provider.schedule(300, 3600)
    provider.configure(api_key="another")
    assert bundle.delete(300)[0] == 502
    received = bundle.receive(alert_queue_url, PATIENCE_S)
    alert = json.loads(received["body"])
    assert leaks(json.dumps(alert)) == []
    assert (alert["outcome"], alert["code"], alert["door"]) == ("api_key_rejected", 10, "http")
    assert alert["messageIds"] == ["300"]
    assert (received["outcome"], received["code"]) == ("api_key_rejected", "10")


def test_each_cancel_is_one_line_in_the_log(bundle, provider):
    provider.schedule(424242, 3600)
    bundle.delete(424242)
    lines = bundle.log_lines(pattern='"424242"')
    [line] = [json.loads(line) for line in lines if line.startswith("{")]
    assert (line["message"], line["level"]) == ("cancel settled", "INFO")
    assert (line["service"], line["outcome"], line["code"]) == ("sms-cancel", "cancelled", 200)
    assert line["xray_trace_id"]


@pytest.mark.parametrize(
    ("door", "most_bytes"), [("ApiLogGroup", 1_500), ("WorkerLogGroup", 1_000)]
)
def test_a_cancel_logs_no_more_than_the_readme_says_it_costs(bundle, provider, door, most_bytes):
    client = stack.client(bundle.endpoint, "logs")
    cloudformation = stack.client(bundle.endpoint, "cloudformation")
    found = cloudformation.describe_stack_resource(StackName="sms-cancel", LogicalResourceId=door)
    group = found["StackResourceDetail"]["PhysicalResourceId"]
    since_ms = int(time.time() * 1000)
    ids = range(5000, 5010)
    for message_id in ids:
        provider.schedule(message_id, 3600)
    if door == "ApiLogGroup":
        for message_id in ids:
            bundle.delete(message_id)
    else:
        entries = [{"Id": str(each), "MessageBody": f'{{"messageId": {each}}}'} for each in ids]
        bundle.sqs.send_message_batch(QueueUrl=bundle.outputs["QueueUrl"], Entries=entries)
        assert eventually(lambda: all(provider.state(each) == "cancelled" for each in ids))
        time.sleep(1)  # the worker writes its metrics after the last cancel
    pages = client.get_paginator("filter_log_events").paginate(
        logGroupName=group, startTime=since_ms
    )
    written = [event["message"] for page in pages for event in page["events"]]
    assert sum("cancel settled" in line for line in written) == len(ids)
    assert sum(len(line.encode()) for line in written) <= most_bytes * len(ids)
