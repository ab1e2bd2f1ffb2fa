"""What the API has taken of a recall, on disk: whatever ends the command, the next run goes on."""

import hashlib
import json
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from infra.recall import Ending, ExitCode


class Journal:
    """A file beside the results: a line that says which recall, then a line per accepted request.

    ``recall_id``; ``begun_at`` (Unix seconds) of its first run; ``accepted``, the ids.
    """

    def __init__(self, results: Path, ids: list[str], api_url: str, send_at: str | None) -> None:
        """Read what an earlier run wrote; raise Ending where that was another recall's."""
        if not results.name or results.is_dir():
            raise _taken(results, "is a folder")
        self.path = results.with_name(f"{results.name}.journal")
        self._lock = Lock()
        digest = hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()
        recall = {"api": api_url, "sendAt": send_at, "ids": digest}
        lines = self._lines()
        if lines and recall != {name: lines[0].get(name) for name in recall}:
            raise _taken(results, "belongs to a recall of other ids, another time or another stack")
        if not lines and results.exists():
            raise _taken(results, "is there already, and of no recall")
        new: dict[str, Any] = {**recall, "recallId": uuid.uuid4().hex, "begunAt": time.time()}
        self._head = lines[0] if lines else new
        self.is_new = not lines
        self.recall_id: str = self._head["recallId"]
        self.begun_at: float = self._head["begunAt"]
        self.accepted: set[str] = {each for line in lines[1:] for each in line.get("accepted", ())}

    def begin(self) -> None:
        """Write down which recall this is, before anything is sent."""
        if self.is_new:
            if self._lines():
                raise _taken(self.path, "was begun by another run meanwhile: run it again, or")
            self._write(self._head)
            sync_folder(self.path)

    def keep(self, ids: list[str]) -> None:
        """Write down which ids were accepted; they count once they are on the disk."""
        if ids:
            with self._lock:
                self._write({"accepted": ids})
                self.accepted.update(ids)

    def _lines(self) -> list[dict[str, Any]]:
        """Return the whole lines: where a run was killed while it wrote, half a one is there."""
        lines = []
        if self.path.exists():
            for line in self.path.read_text(errors="replace").splitlines():
                with suppress(ValueError):
                    lines.append(json.loads(line))
        if not all(isinstance(line, dict) for line in lines):
            raise _taken(self.path, "is no journal of a recall")
        return lines

    def _write(self, line: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(f"\n{json.dumps(line)}")  # the end of half a line comes first
            file.flush()
            os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Have a file that is new in its folder outlast a power cut."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _taken(results: Path, why: str) -> Ending:
    text = f"{results} {why}: choose another file with --results"
    return Ending(text, ExitCode.NOTHING_SENT)
