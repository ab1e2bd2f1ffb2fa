"""Every fault of the wire (over TLS) and every bug, at both doors, under the real runtime client.

Claims: the key and the caller's signature are in nothing that is written or answered, with all
logging at DEBUG; nothing is called done that is not; after a fault, the next two ids on the same
connection get outcomes of their own; no exception gets out; no provider call outlasts its deadline
by more than 0.1 s; the function ends before its time.
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

from conftest import KEY, leaks
from infra.local import runtime, stack
from infra.local.provider import Fault, Provider
from infra.local.provider_server import FAULTS, fault, serve
from tests.faults import cloud, interim
from tests.faults.cloud import LOUD, SIGNATURE, TIMEOUT_S, Cloud, Place

CALL_DEADLINE_S = 6.0
TOLERANCE_S = 0.1
DONE = ("cancelled", "already_cancelled")
FAULTY = 300  # the id that meets the fault
# The ids asked for after it on the same connection. A leftover of 300's would cancel the first,
# which the provider does not know; the second then gets the first's answer.
NEXT = {999: "not_found", 301: "cancelled"}

# Where a fault has a parameter, one that makes it as bad as it gets.
PARAMETERS: dict[str, dict[str, Any]] = {
    "delay": {"seconds": 30.0},
    "endless_body": {"interval": 0.5},
    "drip_header": {"interval": 0.3},
    "drip_body": {"interval": 0.3},
}
# What goes wrong before a request can be sent, besides the simulated provider's own faults.
UNREACHABLE = ("nobody_there", "silent_handshake")
# A bug in each module that a cancel passes through, its text full of secrets.
BUGS = (
    "sms_cancel.api:_cancel",
    "sms_cancel.api:_answer",
    "sms_cancel.worker:_dispose",
    "sms_cancel.request:read",
    "sms_cancel.cancellation:cancel",
    "sms_cancel.cancellation:_try",
    "sms_cancel.cancellation:_conclude",
    "sms_cancel.report:log",
    "sms_cancel.alerts:publish",
    "sms_cancel.api_key:ApiKey.current",
    "sms_cancel.api_key:parse",
    "sms_cancel.smspartner:cancel",
    "sms_cancel.smspartner:interpret",
    "sms_cancel.smspartner:_body",
    "sms_cancel.deadline:Call.left_s",
)


@dataclass(frozen=True)
class Case:
    door: str
    fault: str = ""
    moment: str = "before"
    bug: str = ""
    plain: bool = False  # http, which is allowed on loopback

    def __str__(self) -> str:
        after = " after the cancel" * (self.moment == "after")
        return f"{self.door:<6}{self.fault or 'bug in ' + self.bug}{after}{' (http)' * self.plain}"

    @property
    def ids(self) -> list[int]:
        """Return the ids to ask for: where none can be cancelled, only the first."""
        return [FAULTY] if self.bug or self.fault in UNREACHABLE else [FAULTY, *NEXT]

    @property
    def outcomes(self) -> dict[int, str]:
        """Return the outcomes that are certain, by id."""
        first = {FAULTY: interim.OUTCOMES[self.fault]} if self.fault in interim.INTERIM else {}
        return first | {each: NEXT[each] for each in self.ids[1:]}

    def plan(self) -> Fault:
        if self.fault in interim.INTERIM:
            return Fault(self.fault, interim.INTERIM[self.fault], None, FAULTY, "before")
        parameters = PARAMETERS.get(self.fault, {})
        return fault(
            self.fault,
            times=None,
            message_id=FAULTY,
            moment=self.moment,
            **parameters,  # type: ignore[arg-type]
        )


@dataclass(frozen=True)
class Verdict:
    case: Case
    outcome: str
    longest_call_s: float
    seconds: float
    wrong: list[str]

    def __str__(self) -> str:
        line = f"{self.case!s:<62} {self.outcome:<18} {self.seconds:5.2f} s"
        return "  WRONG: ".join([line, *self.wrong])


def cases(names: list[str], bugs: tuple[str, ...] = BUGS) -> list[Case]:
    """Return each fault, before and after the cancel, and each bug, for both doors."""
    faults = [
        Case(door, name, moment)
        for name in names
        if name not in interim.INTERIM
        for door in TIMEOUT_S
        for moment in ("before", "after")[: 1 if name in UNREACHABLE else 2]
    ]
    interims = [
        Case(door, name, plain=plain)
        for name in names
        if name in interim.INTERIM
        for door in TIMEOUT_S
        for plain in (False, True)
    ]
    return faults + interims + [Case(door, bug=bug) for bug in bugs for door in _doors(bug)]


def _doors(bug: str) -> list[str]:
    """Return the doors whose cancels pass through a function: a door's own pass no other."""
    own = {"sms_cancel.api": "http", "sms_cancel.worker": "queue", "sms_cancel.request": "queue"}
    return [own[module]] if (module := bug.partition(":")[0]) in own else list(TIMEOUT_S)


class Bench:
    """One execution environment of one door, with a simulated provider of its own."""

    def __init__(self, resources: Cloud, place: Place, folder: Path, name: str) -> None:
        self._cloud = resources
        self._place = place
        self._output = folder / f"{name}.log"
        self._resources = resources.resources(name) | LOUD

    def try_case(self, case: Case) -> Verdict:
        self._output.write_bytes(b"")
        provider = Provider(KEY)
        for message_id in (FAULTY, 301):
            provider.schedule(message_id, 3600)
        if case.fault and case.fault not in UNREACHABLE:
            provider.plan(case.plan())
        elif "alert" in case.bug:
            provider.configure(api_key="another")  # so that there is something to publish
        # All made before the first is passed on: they are to follow each other at once.
        queue_url = self._resources["QUEUE_URL"]
        events = {each: self._cloud.event(case.door, each, queue_url) for each in case.ids}
        with ExitStack() as exits:
            url = exits.enter_context(
                _reach(provider, None if case.plain else self._place.tls, case.fault)
            )
            variables = self._resources | {"SMSPARTNER_URL": url, "INJECT": case.bug}
            environment = exits.enter_context(
                runtime.environment(
                    f"tests.faults.loud.{case.door}",
                    [self._place.artifacts, stack.ROOT],
                    variables,
                    self._output,
                )
            )
            environment.wait_until_initialized()  # which Lambda does not count
            try:
                ended = {
                    each: environment.invoke(event, TIMEOUT_S[case.door])
                    for each, event in events.items()
                }
            except TimeoutError:
                return Verdict(case, "", 0, TIMEOUT_S[case.door], ["the function timed out"])
        return self._judge(case, ended, provider)

    def _judge(self, case: Case, ended: dict[int, runtime.Ended], provider: Provider) -> Verdict:
        written = self._output.read_text(errors="replace")
        documents = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
        settled = [each for each in documents if each.get("message") == "cancel settled"]
        outcomes = {int(each["message_id"]): each["outcome"] for each in settled}
        dead = {
            int(each["message_id"])
            for each in settled
            if each.get("disposition") == "dead_lettered"
        }
        wrong = self._leaks(written, ended)
        if any(each.kind == "error" for each in ended.values()):
            wrong.append("an exception got out")
        for message_id, each in ended.items():
            done = _said_done(case.door, each) and message_id not in dead
            done = done or outcomes.get(message_id) in DONE
            if done and not _cancelled(provider, message_id):
                wrong.append(f"{message_id} was called done, and is not")
        for message_id, expected in case.outcomes.items():
            if outcomes.get(message_id) != expected:
                wrong.append(f"{message_id} was {outcomes.get(message_id)}, not {expected}")
        longest_s = max(_calls_s(documents), default=0.0)
        if longest_s > CALL_DEADLINE_S + TOLERANCE_S:
            wrong.append(f"a call took {longest_s:.2f} s")
        outcome = outcomes.get(FAULTY, "no outcome")
        return Verdict(case, outcome, longest_s, ended[FAULTY].seconds, wrong)

    def _leaks(self, written: str, ended: dict[int, runtime.Ended]) -> list[str]:
        answers = json.dumps([(each.payload, each.headers) for each in ended.values()])
        everything = written + answers + self._dead_letters()
        wrong = [f"leaked: {each[:4]}…" for each in leaks(everything)]
        wrong += ["the caller's signature leaked"] * (SIGNATURE[-24:] in everything)
        return wrong if written else ["nothing was written, so nothing was searched"]

    def _dead_letters(self) -> str:
        """Take all that lies in the dead-letter queue, with its attributes."""
        place = {"QueueUrl": self._resources["DEAD_LETTER_QUEUE_URL"]}
        received = self._cloud.sqs.receive_message(
            **place, MessageAttributeNames=["All"], MaxNumberOfMessages=10
        )
        messages = received.get("Messages", [])
        for each in messages:
            self._cloud.sqs.delete_message(**place, ReceiptHandle=each["ReceiptHandle"])
        return json.dumps(messages)


@contextmanager
def _reach(provider: Provider, tls: ssl.SSLContext | None, how: str) -> Iterator[str]:
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


def _said_done(door: str, ended: runtime.Ended) -> bool:
    if ended.kind == "error":
        return False
    if door == "queue":  # a message may leave it
        return ended.payload == {"batchItemFailures": []}
    return bool(ended.payload["statusCode"] == 200)


def _cancelled(provider: Provider, message_id: int) -> bool:
    return any(each.id == message_id and each.cancelled for each in provider.messages())


def _calls_s(documents: list[dict[str, Any]]) -> Iterator[float]:
    for each in documents:
        latencies_ms = each.get("ProviderLatency", [])
        for ms in latencies_ms if isinstance(latencies_ms, list) else [latencies_ms]:
            yield ms / 1000


def judge(chosen: list[Case], parallel: int, place: Place) -> Iterator[Verdict]:
    """Try cases, a few at a time, in execution environments of their own."""
    resources = Cloud(place.endpoint)
    free: queue.Queue[Bench] = queue.Queue()

    def run(case: Case) -> Verdict:
        bench = free.get()
        try:
            return bench.try_case(case)
        finally:
            free.put(bench)

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(parallel) as pool:
        for number in range(parallel):
            name = f"wire-{time.time_ns()}-{number}"
            free.put(Bench(resources, place, Path(folder), name))
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
    known = [*FAULTS, *UNREACHABLE, *interim.INTERIM]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parallel", type=int, default=8, help="environments at a time")
    parser.add_argument("faults", nargs="*", default=known, help=f"default: {' '.join(known)}")
    options = parser.parse_args()
    planted = Case("http", bug="leak")
    chosen = cases(options.faults)
    wrong = []
    longest_s = 0.0
    with cloud.place() as place, Noise() as noise:
        for verdict in judge([planted, *chosen], options.parallel, place):
            if verdict.case == planted:
                wrong += ["a key printed on purpose was not found"] * (not verdict.wrong)
                continue
            print(verdict, flush=True)
            wrong += [f"{verdict.case}: {each}" for each in verdict.wrong]
            longest_s = max(longest_s, verdict.longest_call_s)
    print(
        f"\n{len(chosen)} cases at two doors ({len(options.faults)} faults, most of them before "
        f"and after the cancel, {len(BUGS)} bugs): {len(wrong)} wrong; longest provider call "
        f"{longest_s:.3f} s of {CALL_DEADLINE_S:.0f} s; this machine woke sleepers up to "
        f"{noise.worst_s:.3f} s late"
    )
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
