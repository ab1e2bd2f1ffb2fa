"""What the local stack writes into a function's log, however busy the machine is."""

import json
import subprocess
import zipfile

import pytest

from infra.local import stack

from .conftest import LOCAL_PYTHON

SLOWLY = """
import json, sys, time
from pathlib import Path
from infra.local import ministack_log
from ministack.core.lambda_runtime import Worker

ministack_log.patch()

def read_slowly(worker):
    for line in worker._proc.stderr:
        time.sleep(0.02)  # longer than ministack waits for another line
        worker._stderr_queue.put(line.rstrip())

Worker._read_stderr = read_slowly
config = {
    "Runtime": "python3.13",
    "Handler": "function.handler",
    "FunctionArn": "arn:aws:lambda:eu-west-3:000000000000:function:function",
}
worker = Worker("function", config, Path(sys.argv[1]).read_bytes())
print(json.dumps([worker.invoke(event, "request") for event in ("one", "two", "")]))
worker.kill()
"""
FUNCTION = """
def handler(event, context):
    if not event:
        print("three lines", "before", "it fails", sep="\\n")
        raise ValueError
    print(event, "more", "and more", sep="\\n")
    return event
"""


@pytest.fixture
def code(tmp_path):
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
        archive.writestr("function.py", FUNCTION)
    return tmp_path / "code.zip"


def test_each_invocation_has_all_its_lines_and_no_others(code):
    ended = subprocess.run(
        [LOCAL_PYTHON, "-c", SLOWLY, code],
        cwd=stack.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    answers = json.loads(ended.stdout.splitlines()[-1])
    assert [each["log"] for each in answers] == [
        "one\nmore\nand more",
        "two\nmore\nand more",
        "three lines\nbefore\nit fails",
    ]
    assert [each["status"] for each in answers] == ["ok", "ok", "error"]
