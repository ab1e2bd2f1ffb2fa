"""How a command ends: an exit code, and one sentence that says what to do next."""

import traceback
from collections.abc import Callable
from enum import IntEnum

from rich.console import Console

console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)


class ExitCode(IntEnum):
    """What a shell script can rely on."""

    DONE = 0
    NOT_ALL_CANCELLED = 1
    NOTHING_SENT = 2  # argparse's own exit code for a wrong option
    UNFINISHED = 3
    BUG = 70  # EX_SOFTWARE. Python's own 1 would mean "some were not cancelled"
    INTERRUPTED = 130  # what a shell reports for Ctrl-C


class Ending(Exception):
    """The command cannot go on; the text says why and what to do, its notes what was done."""

    def __init__(self, text: str, code: ExitCode = ExitCode.NOTHING_SENT) -> None:
        super().__init__(text)
        self.code = code


def run(name: str, again: str, command: Callable[[], ExitCode]) -> ExitCode:
    """Run a command, say how it ended (first, what to do next) and return its exit code.

    ``again``: what happens if a command that stopped half-way is run again.
    """
    try:
        return command()
    except Ending as ending:
        is_begun = ending.code is ExitCode.UNFINISHED
        _end(name, f"{ending}. {again}" if is_begun else str(ending), ending, ending.code)
        if ending.code is ExitCode.BUG:
            traceback.print_exc()
        return ending.code
    except KeyboardInterrupt as interrupt:
        return _end(name, f"interrupted. {again}", interrupt, ExitCode.INTERRUPTED)
    except Exception as error:  # noqa: BLE001  whatever it is, it must not end with exit code 1
        text = f"this is a bug in {name}: report it with the lines below. {again}"
        code = _end(name, text, error, ExitCode.BUG)
        traceback.print_exc()
        return code


def _end(name: str, text: str, error: BaseException, code: ExitCode) -> ExitCode:
    console.print(f"{name}: {text.replace('.. ', '. ')}")
    for note in getattr(error, "__notes__", []):
        console.print(note)
    return code
