"""The real template.yaml on the local stack, once for all end-to-end tests."""

import time
from pathlib import Path

import pytest

from conftest import KEY, leaks
from infra.local import stack
from infra.local.bundle import Bundle
from infra.local.provider import Provider
from infra.local.provider_server import serve

LOCAL_PYTHON = stack.ROOT / ".venv-local" / "bin" / "python"
PATIENCE_S = 120  # what a busy machine may take; a quiet one takes seconds


@pytest.fixture(scope="session")
def artifacts() -> Path:
    return stack.built()


@pytest.fixture(scope="session")
def _provider():
    simulated = Provider(KEY)
    with serve(simulated) as url:
        yield simulated, url


@pytest.fixture(scope="session")
def _bundle(artifacts, _provider):
    assert LOCAL_PYTHON.exists(), "the local stack is not installed: run make test"
    with stack.ministack(str(LOCAL_PYTHON)) as endpoint:
        outputs = stack.deploy(
            endpoint, artifacts, SmsPartnerUrl=_provider[1], AlarmEmail="people@example.org"
        )
        deployed = Bundle(endpoint, outputs)
        deployed.put_key(KEY)
        yield deployed
        logs = "\n".join(deployed.log_lines())
        assert "cancel settled" in logs
        assert leaks(logs) == []


@pytest.fixture
def provider(_provider):
    _provider[0].reset()
    return _provider[0]


@pytest.fixture
def bundle(_bundle, provider, written):
    """The deployed bundle, with its queues empty and all provider state gone."""
    for queue in ("QueueUrl", "DeadLetterQueueUrl"):
        _bundle.sqs.purge_queue(QueueUrl=_bundle.outputs[queue])
    return _bundle


def eventually(condition):
    """Wait until the condition holds, and return what it gave."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not (result := condition()) and time.monotonic() < give_up_at:
        time.sleep(0.05)
    return result
