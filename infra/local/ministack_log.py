"""Runs ministack so that no log line of a function is late.

By itself, it takes an invocation's log for complete once no line has come for 5 ms. On a busy
machine, later lines then wait for the next invocation of that worker, which may never come.
"""

import queue
import runpy
from typing import Any

from ministack.core import lambda_runtime

END = "that was all the invocation logged"

# Added to the script in which ministack runs a function of Python.
MARK_THE_END = f"""
def mark_the_end(handler, *arguments):
    try:
        return handler(*arguments)
    finally:
        print({END!r}, file=sys.stderr, flush=True)
"""
CALL, MARKED_CALL = "handler_fn(event, context)", "mark_the_end(handler_fn, event, context)"


def read_log(worker: Any) -> str:
    """Return all that an invocation logged, up to the mark, or to the end of its process."""
    lines: list[str] = []
    while not lines or lines[-1] != END:
        try:
            lines.append(worker._stderr_queue.get(timeout=0.1))  # noqa: SLF001
        except queue.Empty:
            if not worker._stderr_thread.is_alive():  # noqa: SLF001
                return "\n".join(lines)
    return "\n".join(lines[:-1])


def patch() -> None:
    """Have ministack mark the end of each invocation's log, and read up to it."""
    script = lambda_runtime._PYTHON_WORKER_SCRIPT  # noqa: SLF001
    if script.count(CALL) != 1:
        raise NotImplementedError(f"this version of ministack does not call {CALL} once")
    marked = MARK_THE_END + script.replace(CALL, MARKED_CALL)
    lambda_runtime._PYTHON_WORKER_SCRIPT = marked  # noqa: SLF001
    lambda_runtime.Worker._drain_stderr_bounded = read_log  # noqa: SLF001


if __name__ == "__main__":
    patch()
    runpy.run_module("ministack", run_name="__main__")
