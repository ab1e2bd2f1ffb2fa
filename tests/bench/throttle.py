"""The share of a processor that Lambda gives a function, through Linux's own scheduler (cgroups).

Source: "Configure Lambda function memory" in AWS's developer guide: CPU grows with memory, one
whole vCPU at 1,769 MB. During initialization Lambda does not throttle.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PERIOD_US = 20_000  # in each of which the function gets its share
MB_OF_A_CPU = 1769

_ROOT = Path("/sys/fs/cgroup")


class ThrottleError(Exception):
    """This machine does not let us throttle; the text says what is needed."""


class Throttle:
    """A group of processes with a share of a processor."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def limit(self, megabytes: int) -> None:
        """Give the group what a function of this memory gets."""
        quota_us = PERIOD_US * megabytes // MB_OF_A_CPU
        if self._folder.joinpath("cpu.max").exists():  # cgroup v2
            self._folder.joinpath("cpu.max").write_text(f"{quota_us} {PERIOD_US}")
        else:
            self._folder.joinpath("cpu.cfs_period_us").write_text(str(PERIOD_US))
            self._folder.joinpath("cpu.cfs_quota_us").write_text(str(quota_us))

    def add(self, pid: int) -> None:
        self._folder.joinpath("cgroup.procs").write_text(str(pid))


@contextmanager
def throttle() -> Iterator[Throttle]:
    """Make a group, and remove it when its processes have ended."""
    parent = _ROOT / "cpu" if (_ROOT / "cpu").is_dir() else _ROOT
    folder = parent / f"sms-cancel-{os.getpid()}"
    try:
        folder.mkdir()
        if parent is _ROOT:
            _ROOT.joinpath("cgroup.subtree_control").write_text("+cpu")
    except OSError as error:
        raise ThrottleError(
            f"the processor cannot be throttled here ({error}): this needs Linux, and root for "
            "its control groups (sudo make bench)"
        ) from None
    try:
        yield Throttle(folder)
    finally:
        folder.rmdir()
