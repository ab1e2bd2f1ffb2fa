"""``recall``: cancel the SMS of a whole campaign, and know what became of each.

``ids`` reads them, ``api`` puts them on the queue, ``journal`` remembers which it took,
``outcomes`` follows them to their end, ``stack`` knows where all that is; ``command`` is the entry.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a recall ended."""

    DONE = 0
    NOT_ALL_CANCELLED = 1
    NOTHING_SENT = 2  # as argparse ends for a wrong option
    UNFINISHED = 3
    INTERRUPTED = 130  # as a shell has it for Ctrl-C


class Ending(Exception):
    """A recall that cannot go on; the text says why and what to do."""

    def __init__(self, text: str, code: ExitCode) -> None:
        super().__init__(text)
        self.code = code
