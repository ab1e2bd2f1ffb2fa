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
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from conftest import KEY
from infra.local import stack
from infra.local.bundle import Bundle
from infra.local.provider import Provider
from infra.local.provider_server import fault, serve

LOCAL_PYTHON = stack.ROOT / ".venv-local" / "bin" / "python"
PATIENCE_S = 900
# One of these befalls every fourth id, once or twice.
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
    def __init__(self, bundle: Bundle, provider: Provider, count: int) -> None:
        self.bundle = bundle
        self.provider = provider
        self.expected: dict[int, str] = {}  # id: how it must end
        self.dead: dict[int, list[str]] = {}  # id: outcomes in the dead-letter queue
        self.moved_by_sqs = 0
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
            times = self._chance.choice((1, 2))
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
        give_up_at = time.monotonic() + PATIENCE_S
        while len(self.ended()) < len(self.expected) and time.monotonic() < give_up_at:
            self.drain()
            time.sleep(0.2)
        self.drain()

    def falsely_done(self) -> set[int]:
        """Return the ids that a log line calls done and the provider does not."""
        done = set()
        for line in self.bundle.log_lines("Worker"):
            if '"cancel settled"' in line:
                settled = json.loads(line)
                if settled["outcome"] in ("cancelled", "already_cancelled"):
                    done.add(int(settled["message_id"]))
        assert done, "no log line was found, so none was checked"
        states = {each.id: each.cancelled for each in self.provider.messages()}
        return {each for each in done if not states.get(each)}


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
    over.wait(2)
    provider.plan(fault("delay", seconds=0.5, times=None))  # so that every worker is in a batch
    while kills and not over.wait(2):
        kills -= kill_a_worker(torture.bundle.endpoint)
    _end_what_lasts(provider)
    provider.plan(fault("status", status=503, times=None))
    over.wait(away_s)
    _end_what_lasts(provider)


def _end_what_lasts(provider: Provider) -> None:
    provider.faults[:] = [each for each in provider.faults if each.times is not None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--kills", type=int, default=3, help="workers to kill")
    parser.add_argument("--away", type=float, default=10, help="seconds the provider is away")
    options = parser.parse_args()
    with ExitStack() as exits:
        artifacts = Path(exits.enter_context(tempfile.TemporaryDirectory()))
        stack.build(artifacts)
        provider = Provider(KEY)
        url = exits.enter_context(serve(provider))
        endpoint = exits.enter_context(stack.ministack(str(LOCAL_PYTHON)))
        outputs = stack.deploy(endpoint, artifacts, SmsPartnerUrl=url)
        bundle = Bundle(endpoint, outputs)
        bundle.put_key(KEY)
        torture = Torture(bundle, provider, options.messages)
        over = threading.Event()
        exits.callback(over.set)
        begun_at = time.monotonic()
        threading.Thread(
            target=harass, args=(torture, options.away, options.kills, over), daemon=True
        ).start()
        torture.send()
        torture.wait()
        took_s = time.monotonic() - begun_at
        ended = torture.ended()
        falsely_done = torture.falsely_done()
    lost = set(torture.expected) - set(ended)
    otherwise = {
        each: (expected, ended[each])
        for each, expected in torture.expected.items()
        if each in ended and ended[each] != expected
    }
    print(
        f"{options.messages} messages, the provider away for {options.away:g} s, "
        f"{options.kills} workers killed: {dict(Counter(ended.values()))} in {took_s:.0f} s; "
        f"{len(lost)} lost, {len(falsely_done)} falsely called done, "
        f"{len(otherwise)} ended otherwise than planned {list(otherwise.items())[:5]}, "
        f"{torture.moved_by_sqs} moved by SQS itself, "
        f"{torture.provider.calls.total()} calls at the provider"
    )
    return 1 if lost or falsely_done or otherwise else 0


if __name__ == "__main__":
    sys.exit(main())
