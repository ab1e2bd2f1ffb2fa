"""How fast a recall is accepted and settled, sent as the command for people sends it."""

import time

from infra.local import stack
from infra.local.bundle import ROOT_USER
from infra.operate.sending import Sender
from infra.operate.stack import Stack
from tests.bench.growth import Deployed, schedule, wait_until_settled

CAMPAIGN = 20_000


def measure(deployed: Deployed, latency_ms: int) -> dict[str, float]:
    bundle, provider = deployed
    ids = schedule(provider, CAMPAIGN, latency_ms)
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
    wait_until_settled(provider, begun_at)
    return {
        "ids": CAMPAIGN,
        "accepted_s": accepted_s,
        "settled_s": time.monotonic() - begun_at,
        "settled_a_second_at_most": _calls_at_once(deployed) * 1000 / latency_ms,
    }


def _calls_at_once(deployed: Deployed) -> int:
    functions = stack.client(deployed.bundle.endpoint, "lambda")
    [mapping] = functions.list_event_source_mappings()["EventSourceMappings"]
    return int(mapping["ScalingConfig"]["MaximumConcurrency"] * mapping["BatchSize"])
