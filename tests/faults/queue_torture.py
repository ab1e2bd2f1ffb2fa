"""Thousands of real messages on the deployed template, while nearly everything goes wrong.

Faults are mixed in, the provider is away for a while, and workers are killed in the middle of a
batch. Claim: nothing is lost, nothing is called done that is not. Every id ends cancelled at the
provider, or in the dead-letter queue with its outcome; copies that SQS itself moved there after
crashes are counted apart.
"""

import argparse
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from conftest import KEY
from infra.local import stack
from infra.local.bundle import Bundle
from infra.local.provider import Provider
from infra.local.provider_server import fault, serve
from tests.faults.cloud import place

PATIENCE_S = 900
PROGRESS_S = 30
# One of these befalls every fourth id.
FAULTS = (
    ("close", "before"),
    ("close", "after"),
    ("reset", "after"),
    ("status", "before"),
    ("status", "after"),
    ("html", "before"),
    ("garbage_body", "after"),
    ("truncated", "before"),
    ("wrong_types", "before"),
)


class Torture:
    """So many ids, and what must become of each; a fault befalls one up to ``times`` times."""

    def __init__(self, bundle: Bundle, provider: Provider, count: int, times: int) -> None:
        self.bundle = bundle
        self.provider = provider
        self.expected: dict[int, str] = {}  # id: how it must end
        self.dead: dict[int, list[str]] = {}  # id: outcomes in the dead-letter queue
        self.moved_by_sqs = 0
        self._times = times
        self._chance = random.Random(300)
        for message_id in range(1_000_000, 1_000_000 + count):
            self.expected[message_id] = self._prepare(message_id)

    def _prepare(self, message_id: int) -> str:
        kind = self._chance.random()
        if kind < 0.02:
            return "not_found"
        if kind < 0.04:
            self.provider.schedule(message_id, 299)  # not sent before a killed batch is back
            return "too_late"
        self.provider.schedule(message_id, 24 * 3600)
        if kind < 0.25:
            name, moment = self._chance.choice(FAULTS)
            times = self._chance.randint(1, self._times)
            self.provider.plan(fault(name, message_id=message_id, times=times, moment=moment))  # type: ignore[arg-type]
        return "cancelled"

    def send(self) -> None:
        ids = list(self.expected)
        for start in range(0, len(ids), 10):
            entries = [
                {"Id": str(each), "MessageBody": json.dumps({"messageId": each})}
                for each in ids[start : start + 10]
            ]
            sent = self.bundle.sqs.send_message_batch(
                QueueUrl=self.bundle.outputs["QueueUrl"], Entries=entries
            )
            assert not sent.get("Failed")

    def ended(self) -> dict[int, str]:
        """Return how each id that has ended did: at the provider, else in the dead-letter queue."""
        states = {each.id: each.cancelled for each in self.provider.messages()}
        return {
            message_id: "cancelled" if states.get(message_id) else self.dead[message_id][0]
            for message_id in self.expected
            if states.get(message_id) or message_id in self.dead
        }

    def drain(self) -> None:
        """Take what lies in the dead-letter queue."""
        url = self.bundle.outputs["DeadLetterQueueUrl"]
        while messages := self.bundle.sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            for message in messages:
                attributes = message.get("MessageAttributes", {})
                outcome = attributes.get("outcome", {}).get("StringValue")
                self.moved_by_sqs += outcome is None
                message_id = json.loads(message["Body"])["messageId"]
                self.dead.setdefault(message_id, []).append(outcome or "moved by SQS")
                self.bundle.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def wait(self) -> None:
        begun_at = told_at = time.monotonic()
        while (ended := len(self.ended())) < len(self.expected):
            now = time.monotonic()
            if now > begun_at + PATIENCE_S:
                break
            if now > told_at + PROGRESS_S:
                told_at = now
                print(f"{now - begun_at:4.0f} s: {ended} of {len(self.expected)}", flush=True)
            self.drain()
            time.sleep(0.2)
        self.drain()

    def wrong(self) -> list[str]:
        """Say what ended otherwise than it must; print how all ended."""
        ended = self.ended()
        lost = sorted(set(self.expected) - set(ended))
        otherwise = {
            each: f"{outcome}, not {self.expected[each]}"
            for each, outcome in ended.items()
            if outcome != self.expected[each]
        }
        falsely_done = sorted(self.falsely_done())
        print(
            f"{dict(Counter(ended.values()))}; {len(lost)} lost, {len(falsely_done)} falsely "
            f"called done, {len(otherwise)} ended otherwise than planned, {self.moved_by_sqs} "
            f"moved by SQS itself, {self.provider.calls.total()} calls at the provider"
        )
        wrong = {"lost": lost, "falsely called done": falsely_done, "ended": otherwise}
        return [f"{what}: {each}" for what, each in wrong.items() if each]

    def falsely_done(self) -> set[int]:
        """Return the ids that a log line calls done and the provider does not."""
        done = set()
        for line in self.bundle.log_lines("Worker", '"cancel settled"'):
            settled = json.loads(line)
            if settled["outcome"] in ("cancelled", "already_cancelled"):
                done.add(int(settled["message_id"]))
        assert done, "no log line was found, so none was checked"
        states = {each.id: each.cancelled for each in self.provider.messages()}
        # The log of a bundle that serves others too has ids that are none of ours.
        return {each for each in done & set(self.expected) if not states.get(each)}


def kill_a_worker(endpoint: str) -> bool:
    """Kill a process of the worker, as a crash in the middle of a batch; Linux only."""
    workers = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = folder.joinpath("environ").read_bytes().split(b"\0")
        except OSError:
            continue
        mine = f"AWS_ENDPOINT_URL={endpoint}".encode() in environment
        if mine and any(b"FUNCTION_NAME=" in each and b"Worker" in each for each in environment):
            workers.append(int(folder.name))
    if workers:
        os.kill(random.choice(workers), signal.SIGKILL)
    return bool(workers)


def harass(torture: Torture, away_s: float, kills: int, over: threading.Event) -> None:
    """Kill workers in the middle of a batch, then send the provider away for a while."""
    provider = torture.provider
    if kills:
        provider.plan(fault("delay", seconds=0.5, times=None))  # so that every worker is in a batch
        over.wait(2)
    while kills and not over.wait(2):
        kills -= kill_a_worker(torture.bundle.endpoint)
    _end_what_lasts(provider)
    provider.plan(fault("status", status=503, times=None))
    over.wait(away_s)
    _end_what_lasts(provider)


def _end_what_lasts(provider: Provider) -> None:
    provider.faults[:] = [each for each in provider.faults if each.times is not None]


def run(
    bundle: Bundle, provider: Provider, messages: int, kills: int, away_s: float, times: int = 2
) -> list[str]:
    """Torture a deployed bundle, print how it went, and return what is wrong."""
    torture = Torture(bundle, provider, messages, times)
    over = threading.Event()
    begun_at = time.monotonic()
    harassing = threading.Thread(target=harass, args=(torture, away_s, kills, over), daemon=True)
    harassing.start()
    try:
        torture.send()
        torture.wait()
    finally:
        over.set()
        harassing.join()
    print(
        f"{messages} messages, the provider away for {away_s:g} s, {kills} workers killed, "
        f"{time.monotonic() - begun_at:.0f} s: ",
        end="",
    )
    return torture.wrong()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--kills", type=int, default=3, help="workers to kill")
    parser.add_argument("--away", type=float, default=10, help="seconds the provider is away")
    options = parser.parse_args()
    provider = Provider(KEY)
    with place() as built, serve(provider) as url:
        only_cancels = {"SmsPartnerUrl": url, "AccountWatch": "false"}
        outputs = stack.deploy(built.endpoint, built.artifacts, **only_cancels)
        bundle = Bundle(built.endpoint, outputs)
        bundle.put_key(KEY)
        wrong = run(bundle, provider, options.messages, options.kills, options.away)
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
