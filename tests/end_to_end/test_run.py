"""``make run``, as a newcomer types it."""

import os
import shutil
import signal
import subprocess

import pytest

from conftest import KEY, leaks
from infra.local import stack

from .conftest import LOCAL_PYTHON


@pytest.fixture
def environment():
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {name: value for name, value in kept.items() if name not in {"ONCE", "PYTHONPATH"}}


@pytest.fixture
def project(tmp_path):
    """A copy of what it takes: a person's own `make run` may be up in the original."""
    for folder in ("functions", "infra"):
        shutil.copytree(stack.ROOT / folder, tmp_path / folder)
    shutil.copy(stack.ROOT / "template.yaml", tmp_path)
    return tmp_path


def run(environment, project=stack.ROOT, **more):
    return subprocess.run(
        [LOCAL_PYTHON, "-m", "infra.local.run"],
        cwd=project,
        env=environment | more,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_demonstration_shows_each_step(environment):
    ended = run(environment, ONCE="1")
    assert (ended.returncode, ended.stderr) == (0, "")
    for shown in (
        "Deployed",
        "Scheduled",
        '"outcome": "cancelled"',
        "Cancelled by the queue",
        "Too late",
        "invalid_request",
        "Dead key",
        "code 10",
    ):
        assert shown in ended.stdout


def test_with_a_key_of_its_own_it_is_deployed_for_the_real_provider(environment):
    ended = run(environment, ONCE="1", SMSPARTNER_API_KEY=KEY)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Deployed" in ended.stdout
    assert "Scheduled" not in ended.stdout
    assert leaks(ended.stdout) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("template.yaml", "!GetAtt Queue.Arn", "!GetAtt Queue.No", "The local stack failed: "),
        ("template.yaml", "CodeUri: functions/", "CodeUri: other/", "The local stack failed: "),
        ("functions/requirements.txt", "requests==", "requests===0", "The local stack failed: "),
        ("functions/sms_cancel/smspartner.py", "6: Outcome.TOO_LATE", "6: Outcome.ALREADY_SENT",
         "The demonstration failed: "),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_said_and_is_exit_code_1(environment, project, file, old, new, message):
    changed = project / file
    assert old in changed.read_text()
    changed.write_text(changed.read_text().replace(old, new))
    ended = run(environment, project, ONCE="1")
    assert ended.returncode == 1
    assert ended.stderr.startswith(message)


def test_it_stays_up_until_it_is_interrupted_and_leaves_nothing(environment, project):
    """Meanwhile the command that it prints for a recall does one."""
    process = subprocess.Popen(
        [LOCAL_PYTHON, "-m", "infra.local.run"],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    commands = []
    for line in process.stdout:
        commands += [line] if "/recall " in line else []
        if "/_simulator/" in line:
            break
    [command] = commands
    here = environment | {"PYTHONPATH": str(project)}
    recalled = subprocess.run(
        command, shell=True, env=here, cwd=project, capture_output=True, timeout=60, check=False
    )
    assert (recalled.returncode, b"1 of 1 are cancelled" in recalled.stderr) == (0, True)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert list((project / "build").iterdir()) == []
