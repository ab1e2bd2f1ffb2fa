"""Reads the worker's log and the dead-letter queue until each id that was sent has an outcome."""

import time
from collections.abc import Iterator

from . import dead_letters
from .dead_letters import Message
from .ending import console
from .outcomes import Outcomes
from .stack import Stack

TRIES = 8  # of each call, half a minute or more in all: the network may be down for that long
POLL_S = 2
OVERLAP_S = 10  # log lines arrive late and out of order
QUIET_S = 20  # without a new outcome: look for late lines, and into the dead-letter queue
LONGEST_QUIET_S = 300
SILENCE_S = 900  # then give up: an id that is retried logs a line every two minutes
EARLIER_S = 3 * 3600  # an earlier run may have cancelled some: a cancel is retried for two hours


class Follower:
    """Collects the outcomes of one recall from its stack."""

    def __init__(self, stack: Stack, outcomes: Outcomes) -> None:
        self._log = stack.client("logs", TRIES).get_paginator("filter_log_events")
        self._log_group_name = stack.log_group_name
        self._sqs = stack.client("sqs", TRIES)
        self._dead_letter_queue_url = stack.dead_letter_queue_url
        self._outcomes = outcomes
        self._newest_ms = dead_letters.unix_ms(stack.begun_at)
        self._earliest_ms = self._newest_ms - EARLIER_S * 1000
        self._met: dict[str, Message] = {}  # dead letters that were read, hidden from others

    def follow(self) -> Iterator[None]:
        """Read until all is decided, or nothing new came for SILENCE_S; yield after each look."""
        try:
            yield from self._look()
        except (KeyboardInterrupt, GeneratorExit):
            if self._met:
                console.print("stopping, and making the dead letters visible to others again")
            raise
        finally:
            self._show_dead_letters()

    def _look(self) -> Iterator[None]:
        undecided, recall_id = self._outcomes.undecided, self._outcomes.recall_id
        heard_at = decided_at = time.monotonic()
        quiet_s, since_ms = QUIET_S, self._earliest_ms
        while undecided and time.monotonic() - heard_at < SILENCE_S:
            before = len(undecided), self._newest_ms
            self._read_log(f'"{recall_id}"', since_ms)
            since_ms = self._newest_ms - OVERLAP_S * 1000
            if undecided and time.monotonic() - decided_at > quiet_s:
                if not self._met:
                    # All attempts except those that will be retried.
                    pattern = f'{{ $.recall_id = "{recall_id}" && $.disposition != "retry" }}'
                    self._read_log(pattern, self._earliest_ms)
                if self._read_dead_letters():
                    decided_at, quiet_s = time.monotonic(), min(2 * quiet_s, LONGEST_QUIET_S)
            if len(undecided) < before[0]:
                decided_at, quiet_s = time.monotonic(), QUIET_S
            if (len(undecided), self._newest_ms) != before:
                heard_at = time.monotonic()
            yield
            if undecided:
                time.sleep(POLL_S)

    def _read_log(self, pattern: str, since_ms: int) -> None:
        for page in self._log.paginate(
            logGroupName=self._log_group_name,
            filterPattern=pattern,
            startTime=since_ms,
        ):
            for event in page["events"]:
                self._outcomes.read_line(event["message"], event["timestamp"])
                self._newest_ms = max(self._newest_ms, event["timestamp"])

    def _read_dead_letters(self) -> bool:
        """Read on for POLL_S; return whether the end of the queue was reached.

        If so, all are visible to others again. Thousands of messages take minutes, so the log must
        be read in between.
        """
        until = time.monotonic() + POLL_S
        while self._outcomes.undecided and time.monotonic() < until:
            received = dead_letters.receive(self._sqs, self._dead_letter_queue_url)
            new = [each for each in received if each["MessageId"] not in self._met]
            if not new:
                self._show_dead_letters()
                return True
            self._met |= {each["MessageId"]: each for each in new}
            for message in new:
                self._outcomes.read_dead_letter(message)
        return False

    def _show_dead_letters(self) -> None:
        dead_letters.show(self._sqs, self._dead_letter_queue_url, list(self._met.values()))
        self._met.clear()


def is_worker_busy(stack: Stack, since_s: float) -> bool:
    """Return whether the worker has tried any message, of any sender, since then (Unix seconds)."""
    log = stack.client("logs", TRIES).get_paginator("filter_log_events")
    pages = log.paginate(
        logGroupName=stack.log_group_name,
        filterPattern='"cancel settled"',
        startTime=int(since_s * 1000),
    )
    return any(page["events"] for page in pages)
