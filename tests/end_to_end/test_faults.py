"""The short form of ``make faults``: real messages under faults, the real runtime client."""

import subprocess
import sys

import pytest

from infra.local.stack import ROOT


@pytest.mark.parametrize(
    "arguments",
    [
        ["wire", "--parallel", "2", "malformed_header", "close", "nobody_there"],
        ["queue_torture", "--messages", "100", "--kills", "0", "--away", "2"],
        ["soak", "--calls", "300"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_it_holds(arguments):
    name, *options = arguments
    ended = subprocess.run(
        [sys.executable, "-m", f"tests.faults.{name}", *options],
        cwd=ROOT,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": "functions:tests:."},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
