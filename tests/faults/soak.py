"""A hundred thousand cancels in one execution environment, over TLS, one in fifty under a fault.

Claims: each id gets the outcome that is its own, and nothing is called cancelled that is not, by
the state of the provider itself; open files and threads stay as they are; the growth of memory is
stated.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from conftest import KEY
from infra.local import runtime
from infra.local.provider import Provider
from infra.local.provider_server import fault, serve
from tests.faults.cloud import TIMEOUT_S, Cloud, Place, place

EVERY = 50  # ids between two faults
# What a cancel comes to under a fault. The bundle asks again, and where the first answer was lost
# after the cancel, the second says so; an answer that cannot be read is not asked for again.
FAULTS = (
    ("close", "before", "cancelled"),
    ("close", "after", "already_cancelled"),
    ("reset", "after", "already_cancelled"),
    ("html", "before", "unreadable"),
    ("status", "before", "cancelled"),
    ("truncated", "before", "already_cancelled"),
    ("oversized", "after", "unreadable"),
    ("many_headers", "before", "unreadable"),
)
DONE = ("cancelled", "already_cancelled")
UNDECIDED = ("unreadable",)  # the SMS may be cancelled or not, and nobody has said which
MOST_GROWTH_MB = 5.0
FIRST_ID = 1_000_000
SHOWN = 5


class Usage(NamedTuple):
    """What a process has open and in memory."""

    files: int
    threads: int
    megabytes: float

    def __str__(self) -> str:
        return f"{self.files} files, {self.threads} threads, {self.megabytes:.1f} MB"


def usage(pid: int) -> Usage:
    """Look at a process; Linux only."""
    folder = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in folder.joinpath("status").read_text().splitlines())
    files = len(os.listdir(folder / "fd"))  # noqa: PTH208  pathlib would open one more
    return Usage(files, int(status["Threads"]), int(status["VmRSS"].split()[0]) / 1024)


class Soak:
    """An environment of the HTTP door, its provider, and what it said of each id."""

    def __init__(self, cloud: Cloud, provider: Provider, environment: runtime.Environment) -> None:
        self._cloud = cloud
        self.provider = provider
        self._environment = environment
        self._said: dict[int, str] = {}
        self._expected: dict[int, str] = {}

    def ask(self, number: int) -> None:
        """Cancel one id that nobody has asked for, and remember what became of it."""
        message_id = FIRST_ID + number
        self._expected[message_id] = self._prepare(message_id, number)
        event = self._cloud.event("http", message_id)
        ended = self._environment.invoke(event, TIMEOUT_S["http"])
        self._said[message_id] = _outcome(ended, message_id)

    def _prepare(self, message_id: int, number: int) -> str:
        """Give the provider what it is to know of an id; return the outcome that must follow."""
        if number % EVERY == 0:
            name, moment, outcome = FAULTS[number // EVERY % len(FAULTS)]
            self.provider.plan(fault(name, message_id=message_id, moment=moment))  # type: ignore[arg-type]
            self.provider.schedule(message_id, 7 * 24 * 3600)
            return outcome
        if number % 10 == 1:
            return "not_found"
        if number % 10 == 2:
            self.provider.schedule(message_id, 200)
            return "too_late"
        self.provider.schedule(message_id, 7 * 24 * 3600)
        return "cancelled"

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(self._said.values())

    def wrong(self) -> list[str]:
        """Hold what was said of each id against what had to be, and against the provider."""
        cancelled = {each.id for each in self.provider.messages() if each.cancelled}
        unlike = [each for each, outcome in self._said.items() if outcome != self._expected[each]]
        untrue = [
            each
            for each, outcome in self._said.items()
            if (outcome in DONE) != (each in cancelled) and outcome not in UNDECIDED
        ]
        return [
            f"{len(each)} {what}: {[(i, self._said[i], self._expected[i]) for i in each[:SHOWN]]}"
            for what, each in (
                ("outcomes (second) are not what had to come (third)", unlike),
                ("outcomes are not true at the provider", untrue),
            )
            if each
        ]


def _outcome(ended: runtime.Ended, message_id: int) -> str:
    """Return what the answer says of this id."""
    if ended.kind == "error":
        return "an exception"
    answer = json.loads(ended.payload["body"])
    if answer.get("messageId") != str(message_id):
        return f"of {answer.get('messageId')}, not of {message_id}"
    status, outcome = ended.payload["statusCode"], str(answer.get("outcome"))
    return outcome if (status == 200) == (outcome in DONE) else f"{outcome} with {status}"


@contextmanager
def prepared(place: Place) -> Iterator[tuple[Soak, runtime.Environment]]:
    """Start an environment and its provider."""
    cloud, provider = Cloud(place.endpoint), Provider(KEY)
    with serve(provider, ssl_context=place.tls) as url:
        variables = cloud.resources(f"soak-{time.time_ns()}") | {"SMSPARTNER_URL": url}
        with runtime.environment(
            "sms_cancel.api.handler", [place.artifacts], variables, Path(os.devnull)
        ) as environment:
            yield Soak(cloud, provider, environment), environment


def run(calls: int, place: Place) -> list[str]:
    """Make so many calls, print how it goes, and return what is wrong."""
    with prepared(place) as (soak, environment):
        begun_at = time.monotonic()
        for number in range(calls):
            soak.ask(number)
            if number == calls // 10:  # warm: all has been imported and connected
                warm = usage(environment.process.pid)
            if number % max(1, calls // 20) == 0:
                now = usage(environment.process.pid)
                print(f"{number:>7} calls, {time.monotonic() - begun_at:.0f} s: {now}", flush=True)
        now = usage(environment.process.pid)
    print(
        f"{calls} calls in {time.monotonic() - begun_at:.0f} s: {dict(soak.outcomes)}; from a "
        f"tenth of them to the end: {warm}, then {now}"
    )
    wrong = soak.wrong()
    if now.files > warm.files + 1 or now.threads > warm.threads + 1:
        wrong.append(f"open files or threads grew: {warm}, then {now}")
    if now.megabytes > warm.megabytes + MOST_GROWTH_MB:
        wrong.append(f"memory grew: {warm}, then {now}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    options = parser.parse_args()
    with place() as built:
        wrong = run(options.calls, built)
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
