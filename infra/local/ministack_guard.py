"""Runs ministack until standard input ends, then leaves nothing of it; `stack.ministack` starts it.

Standard input ends with the process that writes to it, even if that process is killed.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading


def guard(folder: str) -> None:
    """Run ministack in its folder; at the end kill its functions too, and remove the folder."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ministack"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # a group of processes of its own, with those of its functions
    )
    threading.Thread(target=_wait_for_the_end, args=(process.pid,), daemon=True).start()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)  # `stack.ministack` may be removing it too


def _wait_for_the_end(group: int) -> None:
    sys.stdin.read()
    os.killpg(group, signal.SIGKILL)  # asked politely, ministack waits for open connections


if __name__ == "__main__":
    guard(sys.argv[1])
