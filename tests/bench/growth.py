"""Time and money against the number of messages, through the deployed template's own queue."""

import json
import re
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from infra.local import stack
from infra.local.bundle import ROOT_USER, Bundle
from infra.local.provider import Provider
from infra.local.provider_server import fault, serve
from infra.operate.sending import Sender
from infra.operate.stack import Stack
from tests.bench.loopback import API_KEY

LOCAL_PYTHON = stack.ROOT / ".venv-local" / "bin" / "python"
COUNTS = (10, 100, 1000, 10_000)
CAMPAIGN = 20_000
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


def measure(latency_ms: int) -> dict[str, Any]:
    """Return how long the queue took to drain, and what AWS would ask for it; and a recall's rates.

    ``growth``: by the number of messages; ``recall``: through the API, as the command sends them.
    """
    with ExitStack() as exits:
        artifacts = Path(exits.enter_context(tempfile.TemporaryDirectory()))
        stack.build(artifacts)
        provider = Provider(API_KEY)
        url = exits.enter_context(serve(provider))
        endpoint = exits.enter_context(stack.ministack(str(LOCAL_PYTHON)))
        bundle = Bundle(endpoint, stack.deploy(endpoint, artifacts, SmsPartnerUrl=url))
        bundle.put_key(API_KEY)
        _drain(bundle, provider, 100, latency_ms)  # so that all environments are warm
        return {
            "growth": [_drain(bundle, provider, count, latency_ms) for count in COUNTS],
            "recall": _recall(bundle, provider, latency_ms),
        }


def _recall(bundle: Bundle, provider: Provider, latency_ms: int) -> dict[str, float]:
    ids = _schedule(provider, CAMPAIGN, latency_ms)
    place = {
        "endpoint": bundle.endpoint,
        "api_url": bundle.api_url,
        "ca_file": stack.ca_file(bundle.endpoint),
        "region": stack.REGION,
        **ROOT_USER,
    }
    sender = Sender(
        Stack("sms-cancel", place), {"recallId": "benchmark"}, lambda _: None, lambda _: None
    )
    begun_at = time.monotonic()
    sender.send([str(each) for each in ids])
    accepted_s = time.monotonic() - begun_at
    _wait_until_settled(provider, begun_at)
    return {
        "ids": CAMPAIGN,
        "accepted_s": accepted_s,
        "settled_s": time.monotonic() - begun_at,
        "settled_a_second_at_most": _calls_at_once(bundle) * 1000 / latency_ms,
    }


def _calls_at_once(bundle: Bundle) -> int:
    [mapping] = stack.client(bundle.endpoint, "lambda").list_event_source_mappings()[
        "EventSourceMappings"
    ]
    return int(mapping["ScalingConfig"]["MaximumConcurrency"] * mapping["BatchSize"])


def _schedule(provider: Provider, count: int, latency_ms: int) -> range:
    provider.reset()
    provider.plan(fault("delay", seconds=latency_ms / 1000, times=None))
    ids = range(1000, 1000 + count)
    for message_id in ids:
        provider.schedule(message_id, 24 * 3600)
    return ids


def _wait_until_settled(provider: Provider, begun_at: float) -> None:
    for message in provider.messages():
        while not message.cancelled:
            if time.monotonic() > begun_at + PATIENCE_S:
                raise RuntimeError(f"not all messages were settled within {PATIENCE_S} s")
            time.sleep(0.02)


def _drain(bundle: Bundle, provider: Provider, count: int, latency_ms: int) -> dict[str, float]:
    functions = stack.client(bundle.endpoint, "lambda")
    [mapping] = functions.list_event_source_mappings()["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    ids = _schedule(provider, count, latency_ms)
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
    _wait_until_settled(provider, begun_at)
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


if __name__ == "__main__":
    print(json.dumps(measure(100), indent=1))
