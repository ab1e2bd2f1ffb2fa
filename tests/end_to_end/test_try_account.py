"""``make try-account`` on the local stack: what a person with an account runs."""

import os
import shutil
import subprocess
import threading
from functools import partial

import pytest

from conftest import KEY, leaks
from infra.local import stack
from infra.local.provider import Provider
from infra.local.provider_server import serve

from .conftest import LOCAL_PYTHON

SAM_PYTHON = stack.ROOT / ".venv-sam" / "bin" / "python"
CLAIMS = """\
the stack can be deployed
a signed cancel over HTTP ends as not_found
a cancel without a signature is refused
a cancel on the queue ends as not_found
the queue refuses a message of more than 16 KiB
the same code uploaded elsewhere publishes no version
a parameter that no function uses publishes no version
a parameter that all functions use publishes a version of each
the aliases point to the new versions
the updated stack cancels
the stack cancels after a rollback of the aliases
the stack can be deleted
Queue is retained
DeadLetterQueue is retained
the secret is retained, and can still be decrypted
"""


# What `sam build` runs here: test_build.py holds to it that the real one makes what is copied.
RECIPE = """
build-ApiFunction build-WorkerFunction build-WatchFunction:
	"$(PYTHON)" -m pip --version
	cp -R "{}/." "$(ARTIFACTS_DIR)"
"""


@pytest.fixture
def project(tmp_path, artifacts):
    """A copy of what it takes, whose build meets that of no other test and takes no time."""
    for folder in ("functions", "infra"):
        shutil.copytree(stack.ROOT / folder, tmp_path / folder)
    (tmp_path / "functions" / "Makefile").write_text(RECIPE.format(artifacts))
    for file in ("template.yaml", "samconfig.toml"):
        shutil.copy(stack.ROOT / file, tmp_path)
    return tmp_path


@pytest.fixture
def endpoint():
    with stack.ministack(str(LOCAL_PYTHON)) as url:
        yield url


@pytest.fixture
def provider_url():
    with serve(Provider(KEY)) as url:
        yield url


@pytest.fixture(autouse=True)
def _repaired(endpoint):
    """Let ministack poll: see infra/local/stack.py. It forgets with each update."""
    functions, ended = stack.client(endpoint, "lambda"), threading.Event()

    def repair():
        while not ended.wait(1):
            stack._repair_concurrency(functions)

    thread = threading.Thread(target=repair)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.fixture
def try_account(endpoint, project):
    return partial(run, endpoint, project)


def run(endpoint, project, *arguments, **more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "MAKE"))}
    return subprocess.run(
        [SAM_PYTHON, "-m", "infra.try_account", *arguments],
        cwd=project,
        env=kept
        | {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_CA_BUNDLE": stack.ca_file(endpoint),
            "AWS_DEFAULT_REGION": stack.REGION,
            **{name.upper(): value for name, value in stack.CREDENTIALS.items()},
        }
        | more,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_everything_holds_and_nothing_is_left(try_account, endpoint, provider_url):
    ended = try_account(f"SmsPartnerUrl={provider_url}", SMSPARTNER_API_KEY=KEY)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    *claims, verdict = ended.stdout.splitlines()
    assert claims == [f"held          {claim}" for claim in CLAIMS.splitlines()]
    assert verdict == "everything held"
    assert leaks(ended.stdout + ended.stderr) == []
    assert stack.client(endpoint, "sqs").list_queues().get("QueueUrls", []) == []
    assert stack.client(endpoint, "lambda").list_functions()["Functions"] == []


def test_a_deployment_that_fails_is_said_and_cleared_away(try_account, endpoint):
    ended = try_account("ReservedConcurrency=-1")
    assert ended.returncode == 1
    assert "DID NOT HOLD  each deployment succeeds" in ended.stdout
    assert "ReservedConcurrency" in ended.stderr
    stacks = stack.client(endpoint, "cloudformation").list_stacks()["StackSummaries"]
    left = [each["StackName"] for each in stacks if each["StackStatus"] != "DELETE_COMPLETE"]
    assert "sms-cancel-try" not in left
