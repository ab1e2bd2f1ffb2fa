"""Time and money against the number of messages, through the deployed template's own queue."""

import json
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from infra.local import stack
from infra.local.bundle import Bundle
from infra.local.provider import Provider
from infra.local.provider_server import fault, serve
from tests.bench.loopback import API_KEY

LOCAL_PYTHON = stack.ROOT / ".venv-local" / "bin" / "python"
COUNTS = (10, 100, 1000, 10_000)
PATIENCE_S = 600
REPORT = re.compile(r"REPORT .*Billed Duration: ([\d.]+) ms\s+Memory Size: (\d+) MB")
# List prices of us-east-1, arm64, in dollars.
GB_SECOND = 0.0000133334  # https://aws.amazon.com/lambda/pricing/
INVOCATION = 0.20 / 1e6
SQS_REQUEST = 0.40 / 1e6  # https://aws.amazon.com/sqs/pricing/
LOG_BYTE = 0.50 / 1e9  # https://aws.amazon.com/cloudwatch/pricing/


def lambda_cost(ms: float, megabytes: int, cancels: int = 1) -> float:
    """Return what Lambda asks for a million cancels, in dollars; so many share an invocation."""
    return (INVOCATION + ms / 1000 * megabytes / 1024 * GB_SECOND) * 1e6 / cancels


class Deployed(NamedTuple):
    """The deployed template and the provider that it calls."""

    bundle: Bundle
    provider: Provider


@contextmanager
def deployed(latency_ms: int) -> Iterator[Deployed]:
    """Deploy the template on a local stack, with all its environments warm."""
    with ExitStack() as exits:
        artifacts = Path(exits.enter_context(tempfile.TemporaryDirectory()))
        stack.build(artifacts)
        provider = Provider(API_KEY)
        url = exits.enter_context(serve(provider))
        endpoint = exits.enter_context(stack.ministack(str(LOCAL_PYTHON)))
        only_cancels = {"SmsPartnerUrl": url, "AccountWatch": "false"}
        bundle = Bundle(endpoint, stack.deploy(endpoint, artifacts, **only_cancels))
        bundle.put_key(API_KEY)
        drain(Deployed(bundle, provider), 100, latency_ms)
        yield Deployed(bundle, provider)


def schedule(provider: Provider, count: int, latency_ms: int) -> range:
    provider.reset()
    provider.plan(fault("delay", seconds=latency_ms / 1000, times=None))
    ids = range(1000, 1000 + count)
    for message_id in ids:
        provider.schedule(message_id, 24 * 3600)
    return ids


def wait_until_settled(provider: Provider, begun_at: float) -> None:
    for message in provider.messages():
        while not message.cancelled:
            if time.monotonic() > begun_at + PATIENCE_S:
                raise RuntimeError(f"not all messages were settled within {PATIENCE_S} s")
            time.sleep(0.02)


def drain(deployed: Deployed, count: int, latency_ms: int) -> dict[str, float]:
    """Return how long the queue took to drain, and what AWS would ask for it."""
    bundle, provider = deployed
    functions = stack.client(bundle.endpoint, "lambda")
    [mapping] = functions.list_event_source_mappings()["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    ids = schedule(provider, count, latency_ms)
    for start in range(0, count, 10):
        entries = [
            {"Id": str(each), "MessageBody": json.dumps({"messageId": each})}
            for each in ids[start : start + 10]
        ]
        sent = bundle.sqs.send_message_batch(QueueUrl=bundle.outputs["QueueUrl"], Entries=entries)
        if sent.get("Failed"):
            raise RuntimeError(f"not sent: {sent['Failed'][0]['Code']}")
    before = _usage(bundle)
    begun_at = time.monotonic()
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)
    wait_until_settled(provider, begun_at)
    seconds = time.monotonic() - begun_at
    time.sleep(1)  # for the last log lines
    used = {name: value - before[name] for name, value in _usage(bundle).items()}
    requests = count + 2 * used["invocations"]  # each message sent; each batch received, deleted
    return {
        "messages": count,
        "seconds": seconds,
        "invocations": used["invocations"],
        "lambda": used["invocations"] * INVOCATION + used["gb_seconds"] * GB_SECOND,
        "sqs": requests * SQS_REQUEST,
        "logs": used["log_bytes"] * LOG_BYTE,
    }


def _usage(bundle: Bundle) -> dict[str, float]:
    """Return what the worker has used up to now, by its log."""
    usage = {"invocations": 0.0, "gb_seconds": 0.0, "log_bytes": 0.0}
    for line in bundle.log_lines("Worker"):
        usage["log_bytes"] += len(line.encode())
        if report := REPORT.search(line):
            usage["invocations"] += 1
            usage["gb_seconds"] += float(report[1]) / 1000 * int(report[2]) / 1024
    return usage
