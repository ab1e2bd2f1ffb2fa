"""The bundle deployed on the local stack, and how it is used."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from infra.local import stack

ROOT_USER = {"access_key": "test", "secret_key": "test"}
VALUES = 150  # CloudWatch accepts no more in one datum
MOST_LINES = 10_000  # that ministack returns, without a token for the next page
LATE_S = 40  # log lines arrive when their invocation ends, which may take 30 s or more


class Bundle:
    """The deployed bundle, with what its callers and operators do."""

    def __init__(self, endpoint: str, outputs: dict[str, str]) -> None:
        self.endpoint = endpoint
        self.outputs = outputs
        self.api_url = f"{endpoint}/_aws/execute-api/{outputs['ApiId']}/$default"
        self._tls = stack.tls(endpoint)
        self.sqs = stack.client(endpoint, "sqs")
        self.sns = stack.client(endpoint, "sns")
        self.secretsmanager = stack.client(endpoint, "secretsmanager")
        self.logs = stack.client(endpoint, "logs")
        self.scheduler = stack.client(endpoint, "scheduler")
        self.functions = stack.client(endpoint, "lambda")
        self._cloudwatch = stack.client(endpoint, "cloudwatch")

    def put_key(self, api_key: str) -> None:
        self.secretsmanager.put_secret_value(
            SecretId=self.outputs["ApiKeySecretArn"], SecretString=api_key
        )

    def delete(self, message_id: object, **credentials: str) -> tuple[int, dict[str, Any]]:
        """Call the HTTP door, signed (AWS_IAM); return status and answer.

        ``credentials``: ``access_key`` and ``secret_key`` of the caller, the root user by default.
        """
        return self.call("DELETE", f"/messages/{message_id}", ROOT_USER | credentials)

    def post(self, document: object, **credentials: str) -> tuple[int, dict[str, Any]]:
        """Have the HTTP door queue many cancels, signed as above; return status and answer."""
        body = json.dumps(document).encode()
        headers = {"Content-Type": "application/json"}
        return self.call("POST", "/cancellations", ROOT_USER | credentials, body, **headers)

    def call(
        self,
        method: str,
        path: str,
        credentials: dict[str, str] | None,
        body: bytes | None = None,
        **headers: str,
    ) -> tuple[int, dict[str, Any]]:
        """Call the API, unsigned without credentials; return status and answer."""
        url = self.api_url + path
        if credentials is not None:
            signed = AWSRequest(method, url, data=body)
            SigV4Auth(Credentials(**credentials), "execute-api", stack.REGION).add_auth(signed)
            headers |= dict(signed.headers)
        request = urllib.request.Request(url, method=method, headers=headers, data=body)
        try:
            with urllib.request.urlopen(request, timeout=30, context=self._tls) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, json.load(refusal)

    def send(self, body: str) -> None:
        self.sqs.send_message(QueueUrl=self.outputs["QueueUrl"], MessageBody=body)

    def schedule(self) -> dict[str, Any]:
        """Return the schedule of the account watch, which only one local stack may have."""
        names = [each["Name"] for each in self.scheduler.list_schedules()["Schedules"]]
        [name] = [each for each in names if "-WatchSchedule-" in each]
        answer: dict[str, Any] = self.scheduler.get_schedule(Name=name)
        return answer

    def watch(self) -> bool:
        """Run the account watch, as its schedule does; return whether the run succeeded."""
        answer = self.functions.invoke(FunctionName=self.schedule()["Target"]["Arn"])
        return "FunctionError" not in answer

    def subscribe_queue(self, name: str = "alert-reader", **attributes: str) -> str:
        """Subscribe a new queue to the alert topic, as a machine would; return its URL.

        ``attributes``: those of the subscription, such as ``FilterPolicy``.
        """
        url: str = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        answer = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        queue_arn = answer["Attributes"]["QueueArn"]
        allow_the_topic = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": queue_arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": self.outputs["AlertTopicArn"]}},
        }
        policy = {"Version": "2012-10-17", "Statement": [allow_the_topic]}
        self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
        self.sns.subscribe(
            TopicArn=self.outputs["AlertTopicArn"],
            Protocol="sqs",
            Endpoint=queue_arn,
            Attributes={"RawMessageDelivery": "true", **attributes},
        )
        return url

    def receive(self, queue_url: str, timeout_s: float) -> dict[str, str] | None:
        """Take the next message off a queue: ``body``, and each attribute as plain text."""
        give_up_at = time.monotonic() + timeout_s
        while time.monotonic() < give_up_at:
            answer = self.sqs.receive_message(
                QueueUrl=queue_url, MessageAttributeNames=["All"], WaitTimeSeconds=1
            )
            for message in answer.get("Messages", []):
                self.sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
                attributes = message.get("MessageAttributes", {})
                texts = {name: value["StringValue"] for name, value in attributes.items()}
                return {"body": message["Body"], **texts}
        return None

    def log_lines(self, function: str = "", pattern: str = "", since: float = 0.0) -> Iterator[str]:
        """Yield what all functions, or those with this in their name, logged; in order of time.

        ``pattern`` is CloudWatch's filter pattern, ``since`` a time of ``time.time``.
        """
        until_ms = int(time.time() * 1000) + 1
        for group, created_ms in self._log_groups().items():
            if function in group:
                since_ms = max(created_ms, int(since * 1000))
                yield from self._lines(group, pattern, since_ms, until_ms)

    def _lines(self, group: str, pattern: str, since_ms: int, until_ms: int) -> Iterator[str]:
        times = {"startTime": since_ms, "endTime": until_ms - 1}
        found = self.logs.filter_log_events(logGroupName=group, filterPattern=pattern, **times)
        if len(found["events"]) < MOST_LINES:
            yield from (event["message"] for event in found["events"])
        else:
            middle_ms = (since_ms + until_ms) // 2
            yield from self._lines(group, pattern, since_ms, middle_ms)
            yield from self._lines(group, pattern, middle_ms, until_ms)

    def settled(self, seen: set[str], since: float) -> Iterator[str]:
        """Yield the log lines of cancels settled since then that are not yet in ``seen``.

        ``since`` (of ``time.time``) is when the log was last read: what was late then is read too.
        """
        lines = list(self.log_lines(pattern='"cancel settled"', since=since - LATE_S))
        yield from (each for each in lines if each not in seen)
        seen.update(lines)

    def put_latencies(self, lines: Iterable[str]) -> None:
        """Put the ProviderLatency of these log lines into CloudWatch.

        AWS does this by itself (embedded metric format); ministack does not.
        """
        found = [json.loads(line) for line in lines if '"ProviderLatency"' in line]
        values = [each for fields in found for each in fields["ProviderLatency"] or []]
        for start in range(0, len(values), VALUES):
            datum = {
                "MetricName": "ProviderLatency",
                "Dimensions": [{"Name": "service", "Value": found[0]["service"]}],
                "Values": values[start : start + VALUES],
                "Unit": "Milliseconds",
            }
            self._cloudwatch.put_metric_data(Namespace="SmsCancel", MetricData=[datum])

    def _log_groups(self) -> dict[str, int]:
        """Return the log groups, with when each was created (Unix milliseconds)."""
        groups = self.logs.describe_log_groups()["logGroups"]
        return {each["logGroupName"]: each["creationTime"] for each in groups}
