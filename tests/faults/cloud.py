"""What the functions need around them: built as they ship, AWS resources, events, trust in TLS."""

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import trustme

from authority import trust
from conftest import KEY
from infra.local import stack

LOCAL_PYTHON = stack.ROOT / ".venv-local" / "bin" / "python"
SIGNATURE = "AWS4-HMAC-SHA256 Credential=AKIA/x, Signature=d3adbeefd3adbeefd3adbeef"
TIMEOUT_S = {"http": 27, "queue": 30}  # as in template.yaml
LOUD = {"POWERTOOLS_LOG_LEVEL": "DEBUG", "POWERTOOLS_LOGGER_LOG_EVENT": "true"}


class Place(NamedTuple):
    """Where functions run: a folder with what ships, servers that it trusts, a local AWS."""

    artifacts: Path
    tls: ssl.SSLContext
    endpoint: str


@contextmanager
def place() -> Iterator[Place]:
    """Build what ships and start a local AWS."""
    with TemporaryDirectory() as folder, stack.ministack(str(LOCAL_PYTHON)) as endpoint:
        artifacts = Path(folder, "artifacts")
        stack.build(artifacts)
        yield Place(artifacts, trusted_by(artifacts), endpoint)


def trusted_by(artifacts: Path) -> ssl.SSLContext:
    """Return what makes a server one that the built functions trust."""
    authority = trustme.CA()
    trust(artifacts, authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


class Cloud:
    """The bundle's AWS resources, without the event source: events are passed on by hand."""

    def __init__(self, endpoint: str) -> None:
        self.sqs = stack.client(endpoint, "sqs")
        self._topics = stack.client(endpoint, "sns")
        secrets = stack.client(endpoint, "secretsmanager")
        secret = secrets.create_secret(Name=f"key-{time.time_ns()}", SecretString=KEY)
        self._common = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_CA_BUNDLE": stack.ca_file(endpoint),
            "AWS_DEFAULT_REGION": stack.REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "API_KEY_SECRET_ARN": secret["ARN"],
            "MAX_RECEIVE_COUNT": "70",
            "OUTCOME_EVENTS": "false",
            "POWERTOOLS_SERVICE_NAME": "sms-cancel",
            "POWERTOOLS_METRICS_NAMESPACE": "SmsCancel",
            "TEST_KEY": KEY,
        }

    def resources(self, name: str) -> dict[str, str]:
        """Make queues and a topic of their own for one environment; return its variables."""
        return self._common | {
            "ALERT_TOPIC_ARN": self._topics.create_topic(Name=f"{name}-alerts")["TopicArn"],
            "QUEUE_URL": self.sqs.create_queue(QueueName=f"{name}-queue")["QueueUrl"],
            "DEAD_LETTER_QUEUE_URL": self.sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"],
        }

    def event(self, door: str, message_id: int, queue_url: str = "") -> dict[str, Any]:
        """Return the event that asks for a cancel, a message of the queue received."""
        if door == "http":
            return {
                "version": "2.0",
                "routeKey": "DELETE /messages/{messageId}",
                "rawPath": f"/messages/{message_id}",
                "pathParameters": {"messageId": str(message_id)},
                "headers": {"authorization": SIGNATURE},
                "requestContext": {"http": {"method": "DELETE"}},
            }
        body = f'{{"messageId": {message_id}}}'
        self.sqs.send_message(QueueUrl=queue_url, MessageBody=body)
        while True:  # what an earlier event left there may come first
            received = self.sqs.receive_message(QueueUrl=queue_url, WaitTimeSeconds=2)
            for message in received.get("Messages", []):
                if message["Body"] == body:
                    return {"Records": [_record(message)]}


def _record(message: dict[str, Any]) -> dict[str, Any]:
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": str(int(time.time() * 1000)),
        },
        "messageAttributes": {},
        "eventSource": "aws:sqs",
    }
