"""The real template.yaml on a local stack, once for all tests in this folder."""

import pytest

from conftest import KEY, leaks
from end_to_end.conftest import LOCAL_PYTHON
from infra.local import stack
from infra.local.bundle import Bundle
from infra.local.provider import Provider
from infra.local.provider_server import serve


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
        stop_the_schedule(deployed)
        yield deployed
        logs = "\n".join(deployed.log_lines())
        assert "cancel settled" in logs
        assert leaks(logs) == []


def stop_the_schedule(bundle):
    """Keep the account watch out of the tests of cancels: its own tests run it."""
    names = ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target")
    written = {name: each for name, each in bundle.schedule().items() if name in names}
    bundle.scheduler.update_schedule(**written, State="DISABLED")


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
