"""Results for a program: one JSON object per line on standard output, and nothing else there."""

import json
import os
import sys
from collections.abc import Iterable
from typing import Any

from .ending import console

Rows = Iterable[dict[str, Any]]


def write(rows: Rows) -> None:
    """Print the rows. A reader that wants no more of them is no failure."""
    try:
        for each in rows:
            print(json.dumps(each))
        print(end="", flush=True)
    except OSError as error:
        # Python would complain of it once more at its own end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OSError(f"standard output: {error.strerror}") from error
        console.print("nothing reads standard output any more: the rest of the lines is left out")
