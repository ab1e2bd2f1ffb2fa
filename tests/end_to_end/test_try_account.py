"""``make try-account`` on the local stack: what a person with an account runs."""

import os
import subprocess
import threading

import pytest

from conftest import KEY, leaks
from infra.local import stack
from infra.local.provider import Provider
from infra.local.provider_server import serve

from .conftest import LOCAL_PYTHON

SAM_PYTHON = stack.ROOT / ".venv-sam" / "bin" / "python"
CLAIMS = 16


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


def try_account(endpoint, *arguments, **more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "MAKE"))}
    return subprocess.run(
        [SAM_PYTHON, "-m", "infra.try_account", *arguments],
        cwd=stack.ROOT,
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


def test_everything_holds_and_nothing_is_left(endpoint, provider_url):
    ended = try_account(endpoint, f"SmsPartnerUrl={provider_url}", SMSPARTNER_API_KEY=KEY)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.endswith("everything held\n")
    assert ended.stdout.count("held  ") == CLAIMS
    assert "ends as not_found" in ended.stdout
    assert leaks(ended.stdout + ended.stderr) == []
    assert "QueueUrls" not in stack.client(endpoint, "sqs").list_queues()
    assert stack.client(endpoint, "lambda").list_functions()["Functions"] == []
