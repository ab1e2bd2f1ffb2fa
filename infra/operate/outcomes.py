"""The outcomes of a recall's ids, and the file that lists them."""

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
DEAD_LETTERED = "dead_lettered"  # by SQS itself, after crashes, so without an outcome
UNDECIDED = "undecided"
COLUMNS = ["id", "outcome", "code", "time", "recall_id"]


class Settled(NamedTuple):
    """The outcome of one id. ``time``: ISO 8601, of the log line or of the dead letter."""

    outcome: str
    code: int | None
    time: str


class Outcomes:
    """What is known about the ids of one recall.

    ``undecided``: the ids without a final outcome, each with that of its latest attempt, or "".
    ``begun_at``: when this run started. It sends all ids again, so that an earlier failure settles
    none of them; but an id that was done earlier stays done.
    """

    def __init__(self, ids: list[str], recall_id: str, begun_at: datetime) -> None:
        self.recall_id = recall_id
        self.undecided = dict.fromkeys(ids, "")
        self._settled: dict[str, Settled | None] = dict.fromkeys(ids)
        self._begun_ms = dead_letters.unix_ms(begun_at)
        self._heard_ms = dict.fromkeys(ids, self._begun_ms - 1)

    def read_line(self, line: str, at_ms: int) -> None:
        """Take a log line; the first that says that an id is done wins over all others.

        A dead-lettered id that is tried again is undecided again, because somebody redrove it.
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
        """Take a message of the dead-letter queue, for an id that no log line has settled."""
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
        """Yield a row for each id, with COLUMNS as its keys."""
        for message_id, settled in self._settled.items():
            row = (message_id, *(settled or (UNDECIDED, None, None)), self.recall_id)
            yield dict(zip(COLUMNS, row, strict=True))

    def write(self, path: Path) -> None:
        """Write the results as a CSV file, atomically."""
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        with part.open("w", newline="") as file:
            table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            table.writeheader()
            table.writerows(self.rows())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)


def check(path: Path, recall_id: str) -> None:
    """Raise Ending if the results cannot be written here, or would replace another file."""
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
        raise _taken(path, "has the results of another recall, with other ids, times or stack")


def _taken(path: Path, why: str) -> Ending:
    return Ending(f"{path} {why}: choose another file with --results")


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
