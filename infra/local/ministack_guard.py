"""Runs ministack until standard input closes, then cleans up; `stack.ministack` starts it.

Standard input closes when the process that holds its other end exits, even if it is killed.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

MINISTACK = Path(__file__).with_name("ministack_log.py")


def guard(folder: str) -> None:
    """Run ministack in its folder; at the end, kill it with its functions and remove the folder."""
    process = subprocess.Popen(
        [sys.executable, str(MINISTACK)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # a process group of its own, which includes its functions
    )
    threading.Thread(target=_wait_for_the_end, args=(process.pid,), daemon=True).start()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)  # `stack.ministack` may be removing it too


def _wait_for_the_end(group: int) -> None:
    sys.stdin.read()
    os.killpg(group, signal.SIGKILL)  # on SIGTERM, ministack would wait for open connections


if __name__ == "__main__":
    guard(sys.argv[1])
