"""The short form of ``make faults``: real messages under faults, the real runtime client."""

import pkgutil
import shutil

import pytest

from infra.local.provider_server import fault
from tests.faults import queue_torture, soak, wire
from tests.faults.cloud import Place, trusted_by


@pytest.fixture(scope="module")
def place(artifacts, tmp_path_factory, _bundle):
    """The shared local AWS, and what ships once more, which trusts servers of ours."""
    trusting = tmp_path_factory.mktemp("trusting") / "artifacts"
    shutil.copytree(artifacts, trusting)
    return Place(trusting, trusted_by(trusting), _bundle.endpoint)


def test_no_fault_of_the_wire_lies_or_leaks(place):
    faults = ("malformed_header", "close", "nobody_there", "interim_103")
    planted, *cases = [
        wire.Case("http", bug="leak"),
        *wire.cases(faults, bugs=("sms_cancel.smspartner:cancel",)),
    ]
    verdicts = {each.case: each for each in wire.judge([planted, *cases], 2, place)}
    assert verdicts[planted].wrong, "a key printed on purpose was not found"
    assert [str(verdicts[each]) for each in cases if verdicts[each].wrong] == []


@pytest.mark.parametrize("bug", wire.BUGS)
def test_each_bug_is_put_into_what_exists(bug):
    assert callable(pkgutil.resolve_name(bug))


def test_the_queue_loses_nothing_while_nearly_everything_goes_wrong(bundle, provider):
    assert queue_torture.run(bundle, provider, messages=100, kills=0, away_s=1, times=1) == []


def test_each_of_many_cancels_gets_an_outcome_of_its_own(place):
    assert soak.run(300, place) == []


def test_a_provider_that_refuses_everything_does_not_go_unnoticed(place):
    with soak.prepared(place) as (soaked, _):
        soaked.provider.plan(fault("status", times=None))
        soaked.ask(3)
    assert len(soaked.wrong()) == 1
