"""How fast a recall is accepted and settled, sent as the command sends it, and what it foresees."""

import time

from infra.local import stack
from infra.local.bundle import ROOT_USER
from infra.operate import forecast
from infra.operate.plan import Plan
from infra.operate.sending import Sender
from infra.operate.stack import Stack
from tests.bench.growth import Deployed, schedule, wait_until_settled

CAMPAIGNS = (1_000, 20_000)


def place(deployed: Deployed) -> Stack:
    """Return the stack as the command finds it, CloudWatch knowing what the log says so far."""
    bundle = deployed.bundle
    bundle.put_latencies(bundle.log_lines("Worker"))
    local = {
        "endpoint": bundle.endpoint,
        "api_url": bundle.api_url,
        "ca_file": stack.ca_file(bundle.endpoint),
        "region": stack.REGION,
        **ROOT_USER,
    }
    return Stack("sms-cancel", local)


def measure(deployed: Deployed, count: int, latency_ms: int) -> dict[str, float]:
    found = place(deployed)
    ids = schedule(deployed.provider, count, latency_ms)
    plan = Plan(dict.fromkeys(map(str, ids)), found.now().timestamp())
    foreseen = forecast.ask(found)
    sender = Sender(found, f"benchmark-{count}", lambda _: None, lambda _: None)
    begun_at = time.monotonic()
    sender.send(plan)
    accepted_s = time.monotonic() - begun_at
    wait_until_settled(deployed.provider, begun_at)
    capacity = foreseen.capacity
    return {
        "ids": count,
        "accepted_s": accepted_s,
        "settled_s": time.monotonic() - begun_at,
        "foreseen_s": foreseen.outlook(plan.cut_offs.values(), plan.now_s).last_s,
        "settled_a_second_at_most": capacity.concurrency * capacity.batch * 1000 / latency_ms,
    }
