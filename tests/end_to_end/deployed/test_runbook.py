"""Every command of the runbook, run as it stands there against the deployed bundle."""

import json
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from conftest import KEY
from end_to_end.conftest import LOCAL_PYTHON, PATIENCE_S, eventually
from infra.local import stack
from sms_cancel.outcome import Outcome

RUNBOOK = stack.ROOT.joinpath("infra", "runbook.md").read_text()
SETUP, *BLOCKS = re.findall(r"^```sh\n(.+?)^```$", RUNBOOK, re.MULTILINE | re.DOTALL)
AWS_CLI = Path(__file__).with_name("aws_cli.py")
# Version 1 of the CLI, which pip installs, does not heed AWS_ENDPOINT_URL for SQS.
HERE = f'aws() {{ python -IS "{AWS_CLI}" --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }}\n'
# Each name is looked up once for all blocks: half of the CLI's calls are for names.
HERE_TOO = r"""
STACK=sms-cancel
for each in output resource; do
  eval "asked_$(declare -f "$each")"
  eval "$each() { known $each \"\$1\"; }"
done
known() {
  test -s "$KNOWN/$1-$2" || "asked_$1" "$2" > "$KNOWN/$1-$2"
  cat "$KNOWN/$1-$2"
}
"""
NOT_IN_MINISTACK = ("start-message-move-task", "aws deploy ")


@pytest.fixture(scope="session")
def known(tmp_path_factory):
    return tmp_path_factory.mktemp("known")


@pytest.fixture(scope="session")
def aws_cli(_bundle):
    """What the AWS CLI needs to know of the local stack, while its commands are served."""
    # Not in pytest's folder, because the path of a socket may have only a hundred characters.
    folder = tempfile.TemporaryDirectory()
    place = {
        "AWS_CLI_SOCKET": f"{folder.name}/socket",
        "AWS_ENDPOINT_URL": _bundle.endpoint,
        "AWS_CA_BUNDLE": stack.ca_file(_bundle.endpoint),
        "AWS_DEFAULT_REGION": stack.REGION,
        **{name.upper(): value for name, value in stack.CREDENTIALS.items()},
    }
    with subprocess.Popen([LOCAL_PYTHON, AWS_CLI], env=place, stdout=subprocess.PIPE) as served:
        assert served.stdout.readline() == b"ready\n"
        yield place
        served.kill()
    folder.cleanup()


@pytest.fixture
def shell(bundle, tmp_path, known, aws_cli):
    """Run lines of shell as an operator does, after the runbook's first block."""
    (tmp_path / "key.txt").write_text(KEY)

    def run(lines):
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", HERE + SETUP + HERE_TOO + lines],
            cwd=tmp_path,
            env={
                "PATH": f"{LOCAL_PYTHON.parent}:{os.environ['PATH']}",
                "HOME": str(tmp_path),
                "KNOWN": str(known),
                "PYTHONPATH": str(stack.ROOT),
                **aws_cli,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def block(containing):
    [found] = [each for each in BLOCKS if containing in each]
    return found


def lacks(lines):
    return any(each in lines for each in NOT_IN_MINISTACK)


def test_settled_is_always_asked_for_an_outcome():
    asked_for = re.findall(r"^settled (\w+)$", RUNBOOK, re.MULTILINE)
    assert len(asked_for) >= 4
    assert set(asked_for) <= set(Outcome)


OTHER_SETTLED = [each for each in dict.fromkeys(BLOCKS) if each.startswith("settled ")][1:]


@pytest.mark.parametrize(
    "lines",
    [each for each in dict.fromkeys(BLOCKS) if not lacks(each) and each not in OTHER_SETTLED],
    ids=lambda lines: lines.split("\n")[0],
)
def test_it_runs(shell, lines):
    ended = shell(lines)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout


@pytest.mark.parametrize("lines", [each for each in BLOCKS if lacks(each)])
def test_what_the_local_stack_cannot_run_is_refused_by_it(shell, lines):
    # The stack has no deployment group either, as it does not deploy gradually.
    ended = shell('resource() { echo "$1"; }\n' + lines)
    assert ended.returncode != 0
    assert re.search(r"calling the (StartMessageMoveTask|ListDeployments) operation", ended.stderr)


def test_check_says_that_key_and_account_are_in_order(shell, provider):
    answer = json.loads(shell("check >/dev/null; cat answer.json").stdout)
    assert json.loads(answer["body"])["outcome"] == "not_found"


def test_settled_names_the_messages(shell, bundle, provider):
    provider.configure(api_key="another")
    bundle.delete(777001)
    lines = shell("settled api_key_rejected").stdout.splitlines()
    assert "777001" in [json.loads(line)["message_id"] for line in lines]
    assert {json.loads(line)["outcome"] for line in lines} == {"api_key_rejected"}


def test_a_rotated_key_is_in_force(shell, bundle, provider):
    bundle.put_key("dead")
    provider.schedule(300, 3600)
    assert shell(block("put-secret-value")).returncode == 0
    assert bundle.delete(300)[1]["outcome"] == "cancelled"


def test_redriven_cancels_are_done(shell, bundle, provider):
    provider.schedule(300, 3600)
    for outcome in ("api_key_rejected", "not_found"):
        bundle.sqs.send_message(
            QueueUrl=bundle.outputs["DeadLetterQueueUrl"],
            MessageBody='{"messageId": 300}' if outcome == "api_key_rejected" else outcome,
            MessageAttributes={"outcome": {"DataType": "String", "StringValue": outcome}},
        )
    assert re.search(
        r"^not_found +1 +0$", shell(block('--stack "$STACK"\naws')).stdout, re.MULTILINE
    )
    printed = shell(block("throttled unavailable timed_out unreadable none")).stdout
    assert re.search(r"^api_key_rejected +1 +1$", printed, re.MULTILINE)
    assert eventually(lambda: provider.state(300) == "cancelled")
    assert bundle.receive(bundle.outputs["DeadLetterQueueUrl"], PATIENCE_S)["body"] == "not_found"


def concurrency(bundle):
    functions = stack.client(bundle.endpoint, "lambda")
    [name] = [
        each["FunctionName"]
        for each in functions.list_functions()["Functions"]
        if each["FunctionName"].startswith("sms-cancel-ApiFunction")
    ]
    answer = functions.get_function_concurrency(FunctionName=name)
    return answer.get("ReservedConcurrentExecutions")


def test_stopped_is_stopped_and_started_is_started(shell, bundle, provider):
    provider.schedule(300, 3600)
    try:
        assert shell(block("--no-enabled")).returncode == 0
        assert shell(block("--reserved-concurrent-executions 0")).returncode == 0
        assert concurrency(bundle) == 0  # ministack keeps the number, and does not act on it
        bundle.send('{"messageId": 300}')
        time.sleep(3)
        assert provider.calls.total() == 0
    finally:
        assert shell(block("delete-function-concurrency")).returncode == 0
    assert concurrency(bundle) is None
    assert eventually(lambda: provider.state(300) == "cancelled")
