"""Every fault of the wire (over TLS) and every bug, at both doors, under the real runtime client.

Claims: the key and the caller's signature are in nothing that is written or answered, with all
logging at DEBUG; nothing is called done that is not; no exception gets out; no provider call
outlasts its deadline by more than 0.1 s; the function ends before its time.
"""

import argparse
import json
import queue
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import trustme

from authority import trust
from conftest import KEY, leaks
from infra.local import runtime, stack
from infra.local.provider import Provider
from infra.local.provider_server import FAULTS, fault, serve

LOCAL_PYTHON = stack.ROOT / ".venv-local" / "bin" / "python"
SIGNATURE = "AWS4-HMAC-SHA256 Credential=AKIA/x, Signature=d3adbeefd3adbeefd3adbeef"
TIMEOUT_S = {"http": 25, "queue": 30}  # as in template.yaml
CALL_DEADLINE_S = 6.0
TOLERANCE_S = 0.1
DONE = ("cancelled", "already_cancelled")

# Where a fault has a parameter, one that makes it as bad as it gets.
PARAMETERS: dict[str, dict[str, Any]] = {
    "delay": {"seconds": 30.0},
    "endless_body": {"interval": 0.5},
    "drip_header": {"interval": 0.3},
    "drip_body": {"interval": 0.3},
}
# A bug in each module that a cancel passes through, its text full of secrets.
BUGS = (
    "sms_cancel.api:_respond",
    "sms_cancel.worker:_cancel",
    "sms_cancel.worker:_dispose",
    "sms_cancel.cancellation:cancel",
    "sms_cancel.cancellation:_ask",
    "sms_cancel.cancellation:alerts.publish",
    "sms_cancel.cancellation:telemetry.emit_metrics",
    "sms_cancel.telemetry:log_settled",
    "sms_cancel.api_key:ApiKey.current",
    "sms_cancel.api_key:parse",
    "sms_cancel.smspartner:cancel",
    "sms_cancel.smspartner:interpret",
    "sms_cancel.smspartner:_read",
    "sms_cancel.deadline:Deadline.watch",
)


@dataclass(frozen=True)
class Case:
    door: str
    fault: str = ""
    moment: str = "before"
    bug: str = ""

    def __str__(self) -> str:
        return f"{self.door:<6}{self.fault or 'bug in ' + self.bug}" + (
            " after the cancel" if self.moment == "after" else ""
        )


@dataclass(frozen=True)
class Verdict:
    case: Case
    outcome: str
    longest_call_s: float
    seconds: float
    wrong: list[str]


# What goes wrong before a request can be sent, besides the simulated provider's own faults.
UNREACHABLE = ("nobody_there", "silent_handshake")


def cases(names: list[str]) -> list[Case]:
    """Return each fault, before and after the cancel, and each bug, for both doors."""
    faults = [
        Case(door, name, moment)
        for name in names
        for door in TIMEOUT_S
        for moment in ("before", "after")[: 1 if name in UNREACHABLE else 2]
    ]
    return faults + [Case(door, bug=bug) for bug in BUGS for door in TIMEOUT_S]


class Cloud:
    """The bundle's AWS resources, without the event source: events are passed on by hand."""

    def __init__(self, endpoint: str) -> None:
        self.sqs = stack.client(endpoint, "sqs")
        self._secrets = stack.client(endpoint, "secretsmanager")
        self._topics = stack.client(endpoint, "sns")
        secret = self._secrets.create_secret(Name="key", SecretString=KEY)
        self.common = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_CA_BUNDLE": stack.ca_file(endpoint),
            "AWS_DEFAULT_REGION": stack.REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "API_KEY_SECRET_ARN": secret["ARN"],
            "MAX_RECEIVE_COUNT": "70",
            "POWERTOOLS_SERVICE_NAME": "sms-cancel",
            "POWERTOOLS_METRICS_NAMESPACE": "SmsCancel",
            "POWERTOOLS_LOG_LEVEL": "DEBUG",
            "POWERTOOLS_LOGGER_LOG_EVENT": "true",
            "TEST_KEY": KEY,
        }

    def resources(self, name: str) -> dict[str, str]:
        """Make queues and a topic of their own for one environment; return its variables."""
        return self.common | {
            "ALERT_TOPIC_ARN": self._topics.create_topic(Name=f"{name}-alerts")["TopicArn"],
            "QUEUE_URL": self.sqs.create_queue(QueueName=f"{name}-queue")["QueueUrl"],
            "DEAD_LETTER_QUEUE_URL": self.sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"],
        }

    def event(self, door: str, queue_url: str) -> dict[str, Any]:
        if door == "http":
            return {
                "routeKey": "DELETE /messages/{messageId}",
                "rawPath": "/messages/300",
                "pathParameters": {"messageId": "300"},
                "headers": {"authorization": SIGNATURE},
                "requestContext": {"http": {"method": "DELETE"}},
            }
        self.sqs.send_message(QueueUrl=queue_url, MessageBody='{"messageId": 300}')
        [message] = self.sqs.receive_message(QueueUrl=queue_url, WaitTimeSeconds=2)["Messages"]
        attributes = {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": str(int(time.time() * 1000)),
        }
        record = {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": attributes,
            "eventSource": "aws:sqs",
        }
        return {"Records": [record]}


class Bench:
    """One execution environment of one door, with a simulated provider of its own."""

    def __init__(
        self, cloud: Cloud, tls: ssl.SSLContext, artifacts: Path, folder: Path, name: str
    ) -> None:
        self.cloud = cloud
        self._tls = tls
        self.name = name
        self._artifacts = artifacts
        self._output = folder / f"{name}.log"
        self._resources = cloud.resources(name)

    def try_case(self, case: Case) -> Verdict:
        self._output.write_bytes(b"")
        provider = Provider(KEY)
        provider.schedule(300, 3600)
        if case.fault and case.fault not in UNREACHABLE:
            parameters = PARAMETERS.get(case.fault, {})
            provider.plan(
                fault(case.fault, times=None, moment=case.moment, **parameters)  # type: ignore[arg-type]
            )
        elif case.bug == "sms_cancel.cancellation:alerts.publish":
            provider.configure(api_key="another")  # so that there is something to publish
        with ExitStack() as exits:
            url = exits.enter_context(_reach(provider, self._tls, case.fault))
            variables = self._resources | {"SMSPARTNER_URL": url, "INJECT": case.bug}
            environment = exits.enter_context(
                runtime.environment(
                    f"tests.faults.loud.{case.door}",
                    [self._artifacts, stack.ROOT],
                    variables,
                    self._output,
                )
            )
            event = self.cloud.event(case.door, variables["QUEUE_URL"])
            try:
                ended = environment.invoke(event, TIMEOUT_S[case.door])
            except TimeoutError:
                return Verdict(case, "", 0, TIMEOUT_S[case.door], ["the function timed out"])
        return self._judge(case, ended, provider)

    def _judge(self, case: Case, ended: runtime.Ended, provider: Provider) -> Verdict:
        written = self._output.read_text(errors="replace")
        documents = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
        calls_s = [ms / 1000 for each in documents for ms in each.get("ProviderLatency", [])]
        settled = [each for each in documents if each.get("message") == "cancel settled"]
        everything = written + json.dumps(ended.payload) + json.dumps(ended.headers)
        everything += self._queued()
        wrong = [f"leaked: {each[:4]}…" for each in leaks(everything)]
        wrong += ["the caller's signature leaked"] * (SIGNATURE[-24:] in everything)
        if ended.kind == "error":
            wrong.append("an exception got out")
        if not written:
            wrong.append("nothing was written, so nothing was searched")
        if _said_done(case, ended) and provider.state(300) != "cancelled":
            wrong.append("called done, and is not")
        longest_s = max(calls_s, default=0.0)
        if longest_s > CALL_DEADLINE_S + TOLERANCE_S:
            wrong.append(f"a call took {longest_s:.2f} s")
        outcome = settled[0]["outcome"] if settled else "no outcome"
        return Verdict(case, outcome, longest_s, ended.seconds, wrong)

    def _queued(self) -> str:
        """Take all that lies in the dead-letter queue, with its attributes."""
        received = self.cloud.sqs.receive_message(
            QueueUrl=self._resources["DEAD_LETTER_QUEUE_URL"], MessageAttributeNames=["All"]
        )
        return json.dumps(received.get("Messages", []))


@contextmanager
def _reach(provider: Provider, tls: ssl.SSLContext, how: str) -> Iterator[str]:
    """Yield the URL of the provider, or of something that cannot be spoken to."""
    if how not in UNREACHABLE:
        with serve(provider, ssl_context=tls) as url:
            yield url
        return
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if how == "silent_handshake":
            listener.listen()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/v1"


def _said_done(case: Case, ended: runtime.Ended) -> bool:
    if ended.kind == "error":
        return False
    if case.door == "queue":
        return ended.payload == {"batchItemFailures": []}
    return bool(ended.payload["statusCode"] == 200)


@contextmanager
def benches(count: int) -> Iterator["queue.Queue[Bench]"]:
    """Yield places to try cases in at the same time, on one local AWS."""
    with ExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory()))
        artifacts = folder / "artifacts"
        stack.build(artifacts)
        tls = _trusted_by(artifacts)
        endpoint = exits.enter_context(stack.ministack(str(LOCAL_PYTHON)))
        cloud = Cloud(endpoint)
        free: queue.Queue[Bench] = queue.Queue()
        for number in range(count):
            free.put(Bench(cloud, tls, artifacts, folder, f"bench{number}"))
        yield free


def _trusted_by(artifacts: Path) -> ssl.SSLContext:
    """Return what makes a server one that the built functions trust."""
    authority = trustme.CA()
    trust(artifacts, authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def judge(chosen: list[Case], parallel: int) -> Iterator[Verdict]:
    with benches(parallel) as free, ThreadPoolExecutor(parallel) as pool:

        def run(case: Case) -> Verdict:
            bench = free.get()
            try:
                return bench.try_case(case)
            finally:
                free.put(bench)

        yield from pool.map(run, chosen)


class Noise:
    """How late this machine wakes a sleeper, at worst: no figure here is finer than that."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._over = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._measure, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _measure(self) -> None:
        while not self._over.is_set():
            begun_at = time.monotonic()
            time.sleep(0.05)
            self.worst_s = max(self.worst_s, time.monotonic() - begun_at - 0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parallel", type=int, default=8, help="environments at a time")
    parser.add_argument("faults", nargs="*", default=[*FAULTS, *UNREACHABLE])
    options = parser.parse_args()
    chosen = cases(options.faults)
    [planted] = judge([Case("http", bug="leak")], 1)
    wrong = [] if planted.wrong else ["a key that was printed on purpose was not found"]
    longest_s = 0.0
    with Noise() as noise:
        for verdict in judge(chosen, options.parallel):
            print(
                f"{verdict.case!s:<62} {verdict.outcome:<18} {verdict.seconds:5.2f} s",
                *verdict.wrong,
            )
            wrong += [f"{verdict.case}: {each}" for each in verdict.wrong]
            longest_s = max(longest_s, verdict.longest_call_s)
    print(
        f"\n{len(chosen)} cases at two doors ({len(options.faults)} faults before and after the "
        f"cancel, {len(BUGS)} bugs): {len(wrong)} wrong; longest provider call {longest_s:.3f} s "
        f"of {CALL_DEADLINE_S:.0f} s; this machine woke sleepers up to {noise.worst_s:.3f} s late"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
