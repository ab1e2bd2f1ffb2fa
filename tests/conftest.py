"""What the fast tests stand on: AWS faked at the wire by moto, a real HTTP server as provider."""

import base64
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from functools import cache
from urllib.parse import quote, quote_plus, urlsplit

import boto3
import botocore.loaders
import botocore.session
import pytest
from moto import mock_aws
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.core import models
from moto.secretsmanager.models import secretsmanager_backends
from moto.sns.models import sns_backends
from moto.sqs.models import Queue, sqs_backends

from infra.local.provider import Provider
from infra.local.provider_server import serve
from sms_cancel import api_key, aws, cancellation, smspartner, telemetry

pytest_plugins = ["suite"]

REGION = "eu-west-3"
KEY = 'Zq7Lk9Wd/+=&"k3y%w9~test'  # different in each way of writing it: URL, JSON, base64
KEY_VARIANTS = (
    KEY,
    quote(KEY),
    quote(KEY, safe=""),
    quote_plus(KEY),
    json.dumps(KEY)[1:-1],
    base64.b64encode(KEY.encode()).decode().rstrip("="),
    KEY[:8],
)
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_SESSION_TOKEN": "testing",
    "AWS_DEFAULT_REGION": REGION,
    "POWERTOOLS_SERVICE_NAME": "sms-cancel",
    "POWERTOOLS_METRICS_NAMESPACE": "SmsCancel",
}


def leaks(text: str) -> list[str]:
    return [variant for variant in KEY_VARIANTS if variant in text]


@pytest.fixture(autouse=True, scope="session")
def _service_models():
    """Have all of botocore's sessions share what they read from its files, which nobody changes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", cache(botocore.loaders.create_loader))
        yield


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("AWS_", "SMSPARTNER_", "POWERTOOLS_")):
            monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def _fresh_execution_environment(monkeypatch):
    """Forget what an execution environment keeps from one invocation to the next."""
    monkeypatch.setattr(aws, "_clients", {})
    monkeypatch.setattr(cancellation, "_api_key", api_key.ApiKey())
    monkeypatch.setattr(cancellation, "PAUSE_S", 0.001)
    service = ENVIRONMENT["POWERTOOLS_SERVICE_NAME"]  # which the logger read when it was imported
    monkeypatch.setitem(telemetry.logger._default_log_keys, "service", service)
    telemetry.logger.append_keys(service=service)
    smspartner._adapter.close()


class Written:
    """Everything that the functions wrote or answered in one test."""

    def __init__(self, capsys):
        self._capsys = capsys
        self._text = ""

    def keep(self, answer):
        self._text += json.dumps(answer, ensure_ascii=False) + "\n"
        return answer

    @property
    def text(self) -> str:
        captured = self._capsys.readouterr()
        self._text += captured.out + captured.err
        return self._text

    def forget(self) -> None:
        self._capsys.readouterr()
        self._text = ""

    def _documents(self) -> list[dict]:
        lines = (line for line in self.text.splitlines() if line.startswith("{"))
        return [json.loads(line) for line in lines]

    def logged(self, message: str) -> list[dict]:
        return [each for each in self._documents() if each.get("message") == message]

    def metrics(self) -> list[tuple[dict, dict]]:
        """Return (dimensions, values by metric) as CloudWatch reads them from each line (EMF)."""
        found = []
        for line in self._documents():
            for directive in line.get("_aws", {}).get("CloudWatchMetrics", []):
                assert directive["Namespace"] == "SmsCancel"
                assert abs(line["_aws"]["Timestamp"] / 1000 - time.time()) < 3600  # milliseconds
                [names] = directive["Dimensions"]
                dimensions = {name: line[name] for name in names}
                values = {m["Name"]: line[m["Name"]] for m in directive["Metrics"]}
                lists = {k: v if isinstance(v, list) else [v] for k, v in values.items()}
                found.append((dimensions, lists))
        return found

    def values(self, metric: str) -> list[float]:
        return [v for _, metrics in self.metrics() for v in metrics.get(metric, [])]


class CurrentStdout:
    """What sys.stdout is when it is written to: pytest exchanges it while a test runs."""

    def write(self, text: str) -> int:
        return sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


@pytest.fixture(autouse=True)
def written(capsys) -> Iterator[Written]:
    """Collect all output with root logging at DEBUG, and search it for the key at the end."""
    handler = logging.StreamHandler(CurrentStdout())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    logging.getLogger("responses").propagate = False  # moto's, it logs the URLs it lets through
    telemetry.logger.registered_handler.stream = CurrentStdout()
    collected = Written(capsys)
    yield collected
    root.removeHandler(handler)
    root.setLevel(level)
    assert leaks(collected.text) == []


@pytest.fixture
def provider() -> Provider:
    """A simulated SMS Partner with message 300 due in an hour."""
    simulated = Provider(KEY)
    simulated.schedule(300, 3600)
    return simulated


@pytest.fixture
def provider_url(provider, monkeypatch) -> Iterator[str]:
    with serve(provider) as url:
        monkeypatch.setenv("SMSPARTNER_URL", url)
        yield url


class Cloud:
    """The bundle's AWS resources, as moto has them; created directly, because its API is slower."""

    def __init__(self, monkeypatch, clients):
        self.secrets, self.sqs, self.sns = clients
        self.secret_arn = secretsmanager_backends[ACCOUNT][REGION]._add_secret("key", KEY)[0].arn
        self.queue_url = self._create_queue("queue")
        self.dead_letter_queue_url = self._create_queue("dead-letters")
        self.alert_queue_url = self._create_queue("alert-reader")
        topics = sns_backends[ACCOUNT][REGION]
        self.topic_arn = topics.create_topic("alerts").arn
        reader = topics.subscribe(self.topic_arn, self._arn(self.alert_queue_url), "sqs")
        topics.set_subscription_attributes(reader.arn, "RawMessageDelivery", "true")
        monkeypatch.setenv("API_KEY_SECRET_ARN", self.secret_arn)
        monkeypatch.setenv("ALERT_TOPIC_ARN", self.topic_arn)
        monkeypatch.setenv("QUEUE_URL", self.queue_url)
        monkeypatch.setenv("DEAD_LETTER_QUEUE_URL", self.dead_letter_queue_url)
        monkeypatch.setenv("MAX_RECEIVE_COUNT", "70")

    @staticmethod
    def _create_queue(name: str) -> str:
        queue = sqs_backends[ACCOUNT][REGION].create_queue(name)
        return queue.url(urlsplit(f"https://sqs.{REGION}.amazonaws.com"))

    @staticmethod
    def _arn(queue_url: str) -> str:
        return f"arn:aws:sqs:{REGION}:" + ":".join(queue_url.split("/")[-2:])

    def put_key(self, secret: str) -> None:
        self.secrets.put_secret_value(SecretId=self.secret_arn, SecretString=secret)

    def _drain(self, queue_url: str) -> list[dict]:
        received = self.sqs.receive_message(
            QueueUrl=queue_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages", [])
        for message in received:
            assert leaks(json.dumps(message)) == []
            self.sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
        return received

    def alerts(self) -> list[dict]:
        return [
            {"message": json.loads(each["Body"]), "attributes": _values(each)}
            for each in self._drain(self.alert_queue_url)
        ]

    def dead_letters(self) -> list[tuple[str, dict]]:
        return [(each["Body"], _values(each)) for each in self._drain(self.dead_letter_queue_url)]

    def queue_event(self, *bodies: str, receive_count: int = 1) -> dict:
        """Send messages, receive them, and make of them the event that Lambda would pass on."""
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=body)
        records = []
        while len(records) < len(bodies):
            for each in self.sqs.receive_message(
                QueueUrl=self.queue_url, MaxNumberOfMessages=10, VisibilityTimeout=180
            )["Messages"]:
                attributes = {
                    "ApproximateReceiveCount": str(receive_count),
                    "SentTimestamp": str(int(time.time() * 1000) - 1500),
                }
                record = {
                    "messageId": each["MessageId"],
                    "receiptHandle": each["ReceiptHandle"],
                    "body": each["Body"],
                    "attributes": attributes,
                    "messageAttributes": {},
                    "eventSource": "aws:sqs",
                    "eventSourceARN": self._arn(self.queue_url),
                    "awsRegion": REGION,
                }
                records.append(record)
        return {"Records": records}

    def queued(self) -> list[dict]:
        """Return what the messages of the queue say, and leave them there."""
        queue = sqs_backends[ACCOUNT][REGION].queues["queue"]
        return [json.loads(message.body) for message in queue._messages]

    def groups(self) -> set[str]:
        """Return the message groups of what is on the queue."""
        queue = sqs_backends[ACCOUNT][REGION].queues["queue"]
        return {message.group_id for message in queue._messages}

    def visible_in_s(self) -> dict[str, float]:
        """Return for each message of the queue, by its body, when SQS shows it again."""
        queue = sqs_backends[ACCOUNT][REGION].queues["queue"]
        return {m.body: m.visible_at / 1000 - time.time() for m in queue._messages}


def _values(message: dict) -> dict[str, str]:
    attributes = message.get("MessageAttributes", {})
    return {name: attribute["StringValue"] for name, attribute in attributes.items()}


@pytest.fixture(scope="session")
def _clients():
    """The tests' own clients, which moto keeps off AWS: to make them takes longer than a test."""
    session = boto3.Session("testing", "testing", "testing", region_name=REGION)
    return [session.client(each) for each in ("secretsmanager", "sqs", "sns")]


@pytest.fixture
def cloud(monkeypatch, _clients) -> Iterator[Cloud]:
    for count in ("messages", "messages_delayed", "messages_not_visible"):
        # moto counts all messages anew for each one that is sent.
        monkeypatch.setattr(Queue, f"approximate_number_of_{count}", 0)
    # Its handlers for calls to AWS without botocore, a thousand for each test: nobody makes any.
    monkeypatch.setattr(models, "RESPONSES_METHODS", ())
    with mock_aws():
        yield Cloud(monkeypatch, _clients)


class Context:
    """The part of Lambda's context that the handlers use."""

    aws_request_id = "7a1c51b6-0000-4000-8000-5f1d2e3c4b5a"
    function_name = "function"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:eu-west-3:123456789012:function:function"

    def __init__(self, remaining_s: float = 30.0):
        self._ends_at = time.monotonic() + remaining_s

    def get_remaining_time_in_millis(self) -> int:
        return int((self._ends_at - time.monotonic()) * 1000)


class LongContext(Context):
    """One with names as long as CloudFormation makes them."""

    function_name = "sms-cancel-production-WorkerFunction-1A2B3C4D5E6F"
    invoked_function_arn = (
        "arn:aws:lambda:ap-southeast-2:123456789012:function:"
        "sms-cancel-production-WorkerFunction-1A2B3C4D5E6F:live"
    )
