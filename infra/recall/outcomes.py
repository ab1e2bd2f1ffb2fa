"""What becomes of the ids: read from the worker's log, and from the dead-letter queue."""

import csv
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from infra import redrive
from infra.recall.journal import sync_folder
from infra.recall.stack import Stack

DONE = ("cancelled", "already_cancelled")
DEAD_LETTERED = "dead_lettered"  # by SQS itself, after crashes: with no outcome
UNDECIDED = "undecided"

TRIES = 8  # of each look, half a minute or more: a connection may be away for so long
POLL_S = 2
OVERLAP_S = 10  # lines come late, and not in the order of their times
QUIET_S = 20  # nothing decided for so long: look for what came later still, and for dead letters
LONGEST_QUIET_S = 300
SILENCE_S = 900  # each id that is tried again has a line every two minutes: none is coming any more
CLOCKS_S = 900  # this machine's clock may be so much ahead


class Settled(NamedTuple):
    """What became of one id. ``time``: ISO 8601, of the log line or of the dead letter."""

    outcome: str
    code: int | str | None
    time: str


class Outcomes:
    """What is known of the ids of one recall; ``undecided`` has each latest try's outcome or ""."""

    def __init__(self, ids: list[str], recall_id: str) -> None:
        self.recall_id = recall_id
        self.undecided = dict.fromkeys(ids, "")
        self._settled: dict[str, Settled | None] = dict.fromkeys(ids)
        self._heard_ms = dict.fromkeys(ids, 0)

    def recollect(self, path: Path) -> None:
        """Take what an earlier run wrote: done is done, the rest stands until more is heard."""
        if path.exists():
            with path.open(newline="") as file:
                for row in csv.DictReader(file):
                    if row["id"] in self._settled and row["outcome"] != UNDECIDED:
                        settled = Settled(row["outcome"], row["code"] or None, row["time"])
                        self._settled[row["id"]] = settled
                        if settled.outcome in DONE:
                            self.undecided.pop(row["id"], None)

    def read_line(self, line: str, at_ms: int) -> None:
        """Take a line of the log; the first that says done of an id wins over all others.

        What was dead-lettered is undecided again when it is tried again: somebody took it back.
        """
        fields = _object(line)
        message_id = str(fields.get("message_id"))
        is_ours = fields.get("recall_id") == self.recall_id and message_id in self._settled
        if not is_ours or fields.get("message") != "cancel settled":
            return
        if fields.get("disposition") != "done" and at_ms <= self._heard_ms[message_id]:
            return  # read before, or overtaken by what was
        self._heard_ms[message_id] = at_ms
        if fields.get("disposition") in ("done", "dead_lettered"):
            settled = Settled(fields["outcome"], fields.get("code"), _iso(at_ms))
            self._settle(message_id, settled)
        elif not self._is_done(message_id):
            self._settled[message_id] = None
            self.undecided[message_id] = fields["outcome"]

    def read_dead_letter(self, message: dict[str, Any]) -> None:
        """Take a message of the dead-letter queue, for an id of which no line is known."""
        body, attributes = _object(message["Body"]), message.get("MessageAttributes", {})
        message_id = str(body.get("messageId"))
        if body.get("recallId") == self.recall_id and message_id in self.undecided:
            outcome = attributes.get("outcome", {}).get("StringValue", DEAD_LETTERED)
            code = attributes.get("code", {}).get("StringValue")
            at_ms = int(message["Attributes"]["SentTimestamp"])
            self._settle(message_id, Settled(outcome, code, _iso(at_ms)))

    def _is_done(self, message_id: str) -> bool:
        known = self._settled[message_id]
        return known is not None and known.outcome in DONE

    def _settle(self, message_id: str, settled: Settled) -> None:
        if not self._is_done(message_id):
            self._settled[message_id] = settled
            self.undecided.pop(message_id, None)

    def counts(self) -> Counter[str]:
        return Counter(each.outcome if each else UNDECIDED for each in self._settled.values())

    def write(self, path: Path) -> None:
        """Write the results as a CSV: id, outcome, code, time. It is there whole or not at all."""
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        with part.open("w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(("id", *Settled._fields))
            for message_id, settled in self._settled.items():
                rows.writerow((message_id, *(settled or (UNDECIDED, None, None))))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path)


class Follower:
    """Reads the worker's log and the dead-letter queue of a stack into the outcomes of a recall."""

    def __init__(self, stack: Stack, outcomes: Outcomes, begun_at: float) -> None:
        self._log = stack.client("logs", TRIES).get_paginator("filter_log_events")
        self._log_group_name = stack.log_group_name
        self._sqs = stack.client("sqs", TRIES)
        self._dead_letter_queue_url = stack.dead_letter_queue_url
        self._outcomes = outcomes
        self._begun_ms = self._newest_ms = int((begun_at - CLOCKS_S) * 1000)

    def follow(self) -> Iterator[None]:
        """Read until all is decided, or nothing is heard any more; yield after each look."""
        undecided, recall_id = self._outcomes.undecided, self._outcomes.recall_id
        heard_at = decided_at = time.monotonic()
        quiet_s = QUIET_S
        while undecided and time.monotonic() - heard_at < SILENCE_S:
            before = len(undecided), self._newest_ms
            self._read_log(f'"{recall_id}"', self._newest_ms - OVERLAP_S * 1000)
            if undecided and time.monotonic() - decided_at > quiet_s:
                # All but the tries that decide nothing.
                pattern = f'{{ $.recall_id = "{recall_id}" && $.disposition != "retry" }}'
                self._read_log(pattern, self._begun_ms)
                self._read_dead_letters()
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

    def _read_dead_letters(self) -> None:
        """Look at the messages until nothing is undecided, and let others see them again."""
        met: dict[str, dict[str, Any]] = {}
        try:
            while self._outcomes.undecided:
                received = redrive.receive(self._sqs, self._dead_letter_queue_url)
                new = [each for each in received if each["MessageId"] not in met]
                if not new:
                    break
                met |= {each["MessageId"]: each for each in new}
                for message in new:
                    self._outcomes.read_dead_letter(message)
        finally:
            redrive.show(self._sqs, self._dead_letter_queue_url, list(met.values()))


def _object(text: str) -> dict[str, Any]:
    """Read a JSON object; whatever else it is counts as an empty one."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
