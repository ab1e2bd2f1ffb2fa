"""What became of the ids of a recall, and the file that says so."""

import csv
import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from . import dead_letters
from .ending import Ending
from .stack import json_object

DONE = ("cancelled", "already_cancelled")
DEAD_LETTERED = "dead_lettered"  # by SQS itself, after crashes: with no outcome
UNDECIDED = "undecided"
COLUMNS = ["id", "outcome", "code", "time", "recall_id"]


class Settled(NamedTuple):
    """What became of one id. ``time``: ISO 8601, of the log line or of the dead letter."""

    outcome: str
    code: int | None
    time: str


class Outcomes:
    """What is known of the ids of one recall; ``undecided`` has each latest try's outcome or "".

    ``begun_at`` is the start of this run. What it sent anew is not settled by what failed before
    it, but what was done before stays done.
    """

    def __init__(self, ids: list[str], recall_id: str, begun_at: datetime) -> None:
        self.recall_id = recall_id
        self.undecided = dict.fromkeys(ids, "")
        self._settled: dict[str, Settled | None] = dict.fromkeys(ids)
        self._begun_ms = dead_letters.unix_ms(begun_at)
        self._heard_ms = dict.fromkeys(ids, self._begun_ms - 1)

    def read_line(self, line: str, at_ms: int) -> None:
        """Take a line of the log; the first that says done of an id wins over all others.

        What was dead-lettered is undecided again when it is tried again: somebody took it back.
        """
        fields = json_object(line)
        message_id = str(fields.get("message_id"))
        is_ours = fields.get("recall_id") == self.recall_id and message_id in self._settled
        if not is_ours or fields.get("message") != "cancel settled":
            return
        if fields.get("disposition") != "done" and at_ms <= self._heard_ms[message_id]:
            return  # from before this run, or older than what is known
        self._heard_ms[message_id] = max(at_ms, self._heard_ms[message_id])
        if fields.get("disposition") in ("done", "dead_lettered"):
            self._settle(message_id, Settled(fields["outcome"], fields.get("code"), _iso(at_ms)))
        elif not self._is_done(message_id):
            self._settled[message_id] = None
            self.undecided[message_id] = fields["outcome"]

    def read_dead_letter(self, message: dead_letters.Message) -> None:
        """Take a message of the dead-letter queue, for an id of which no line is known."""
        body, at_ms = json_object(message["Body"]), dead_letters.sent_ms(message)
        message_id = str(body.get("messageId"))
        is_ours = body.get("recallId") == self.recall_id and message_id in self.undecided
        if is_ours and at_ms >= self._begun_ms:
            outcome = dead_letters.attribute(message, "outcome") or DEAD_LETTERED
            code = dead_letters.attribute(message, "code")
            number = int(code) if code and code.isdigit() else None
            self._settle(message_id, Settled(outcome, number, _iso(at_ms)))

    def _is_done(self, message_id: str) -> bool:
        known = self._settled[message_id]
        return known is not None and known.outcome in DONE

    def _settle(self, message_id: str, settled: Settled) -> None:
        if not self._is_done(message_id):
            self._settled[message_id] = settled
            self.undecided.pop(message_id, None)

    def counts(self) -> Counter[str]:
        return Counter(each.outcome if each else UNDECIDED for each in self._settled.values())

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield what became of each id, with the names of COLUMNS."""
        for message_id, settled in self._settled.items():
            row = (message_id, *(settled or (UNDECIDED, None, None)), self.recall_id)
            yield dict(zip(COLUMNS, row, strict=True))

    def write(self, path: Path) -> None:
        """Write the results as a CSV. It is there whole or not at all."""
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        with part.open("w", newline="") as file:
            table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            table.writeheader()
            table.writerows(self.rows())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)


def check(path: Path, recall_id: str) -> None:
    """Raise Ending if the results cannot be written here without losing another file."""
    if not path.name or path.is_dir():
        raise _taken(path, "is a folder")
    if not os.access(path.parent, os.W_OK):
        raise _taken(path, "cannot be written")
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        header, row = file.readline(10_000), file.readline(10_000)
    if header != ",".join(COLUMNS) + "\n":
        raise _taken(path, "already exists and was not written by recall")
    if row.rstrip("\n").rpartition(",")[2] != recall_id:
        raise _taken(path, "holds the results of a recall of other ids, time or stack")


def _taken(path: Path, why: str) -> Ending:
    return Ending(f"{path} {why}: choose another file with --results")


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
