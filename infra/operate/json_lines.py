"""Results for programs: one JSON object per line on standard output, and nothing else there."""

import json
import os
import sys
from collections.abc import Iterable
from typing import Any

from .ending import console

Rows = Iterable[dict[str, Any]]


def write(rows: Rows) -> None:
    """Print the rows. A reader that stops early, such as ``head``, is not an error."""
    try:
        for each in rows:
            print(json.dumps(each))
        print(end="", flush=True)
    except OSError as error:
        # Otherwise Python would report the same error again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OSError(f"standard output: {error.strerror}") from error
        console.print(
            "the reader of standard output has stopped: the remaining lines are not printed"
        )
