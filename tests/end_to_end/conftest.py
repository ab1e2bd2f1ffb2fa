"""What the end-to-end tests share: the built function, and patience."""

import time
from pathlib import Path

import pytest

from infra.local import stack

LOCAL_PYTHON = stack.ROOT / ".venv-local" / "bin" / "python"
PATIENCE_S = 120  # what a busy machine may take; a quiet one takes seconds


@pytest.fixture(scope="session")
def artifacts() -> Path:
    return stack.built()


@pytest.fixture(autouse=True, scope="session")
def _sam_asks_often():
    """Have the SAM CLI not wait five seconds before it looks how a deployment goes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAM_CLI_POLL_DELAY", "1")
        yield


def eventually(condition):
    """Wait until the condition holds, and return what it gave."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not (result := condition()) and time.monotonic() < give_up_at:
        time.sleep(0.05)
    return result
