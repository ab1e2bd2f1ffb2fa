"""Every answer of the deployed API is one that infra/openapi.yaml describes."""

import pytest
import requests
import schemathesis
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings, strategies
from openapi_spec_validator import validate
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

from infra.local import stack
from infra.local.bundle import ROOT_USER
from infra.local.provider_server import fault
from sms_cancel.outcome import Outcome

SCHEMA = schemathesis.openapi.from_path(stack.ROOT / "infra" / "openapi.yaml")
AS_DESCRIBED = (
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
)


def test_it_describes_each_outcome():
    schemas = SCHEMA.raw_schema["components"]["schemas"]
    described = schemas["OutcomeProblem"]["properties"]["outcome"]["enum"]
    of_no_cancel = {Outcome.ACCOUNT_READY}
    assert described == [each for each in Outcome if not each.done and each not in of_no_cancel]


class Signed(requests.auth.AuthBase):
    """Signs as an AWS caller does."""

    def __call__(self, request):
        signed = AWSRequest(request.method, request.url, data=request.body)
        SigV4Auth(Credentials(**ROOT_USER), "execute-api", stack.REGION).add_auth(signed)
        request.headers.update(signed.headers)
        return request


SIGNED = Signed()


@pytest.fixture
def ask(bundle):
    """Send a case, signed, and hold the answer to the description."""

    def ask(case, *more, auth=SIGNED):
        trusted = stack.ca_file(bundle.endpoint)
        answer = case.call(bundle.api_url, auth=auth, verify=trusted, timeout=30)
        case.validate_response(answer, checks=[*AS_DESCRIBED, *more])
        return answer

    return ask


def test_the_description_is_valid():
    validate(SCHEMA.raw_schema)


def test_it_describes_each_route_of_the_template():
    template = stack.ROOT.joinpath("template.yaml").read_text()
    described = {
        f"{operation.ok().method.upper()} {operation.ok().path}"
        for operation in SCHEMA.get_all_operations()
    }
    assert described == {
        line.split(": ")[1] for line in template.splitlines() if "RouteKey: " in line
    }


CANCEL = SCHEMA["/messages/{messageId}"]["DELETE"]
CANCEL_MANY = SCHEMA["/cancellations"]["POST"]


# Not SCHEMA.parametrize(): its items share one node id, of which pytest-xdist runs one.
@pytest.mark.parametrize("operation", [CANCEL, CANCEL_MANY], ids=["one", "many"])
@settings(max_examples=50, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=strategies.data())
def test_each_answer_is_as_described(operation, ask, data):
    mode = data.draw(strategies.sampled_from(GenerationMode))
    case = data.draw(operation.as_strategy(generation_mode=mode))
    if mode is GenerationMode.POSITIVE and isinstance(case.body, dict) and "sendAt" in case.body:
        case.body["sendAt"] = "2099-01-31T09:00:00+01:00"  # no schema can ask for a future time
    ask(case, checks.positive_data_acceptance)


def cancel(message_id="300"):
    return CANCEL.Case(path_parameters={"messageId": message_id})


def cancel_many(body, media_type="application/json"):
    return CANCEL_MANY.Case(body=body, media_type=media_type)


@pytest.mark.parametrize("case", [cancel(), cancel_many({"messageIds": [300]})])
def test_who_does_not_sign_is_refused_as_described(case, ask, provider):
    provider.schedule(300, 3600)
    assert ask(case, auth=None).status_code == 403
    assert provider.state(300) == "scheduled"


OWN_ID = 987_654_321  # so that what the queue still holds of another test meets no planned fault
SETTLED = {
    "cancelled": (200, lambda provider: None),
    "already_sent": (409, lambda provider: provider.schedule(OWN_ID, -1)),
    "too_late": (409, lambda provider: provider.schedule(OWN_ID, 60)),
    "not_found": (404, lambda provider: provider.reset()),
    "api_key_rejected": (502, lambda provider: provider.configure(api_key="another")),
    "credits_exhausted": (502, lambda provider: provider.configure(credits=0)),
    "account_blocked": (502, lambda provider: provider.configure(status="blocked")),
    "throttled": (
        503,
        lambda provider: provider.plan(fault("status", message_id=OWN_ID, status=429)),
    ),
    "unavailable": (
        503,
        lambda provider: provider.plan(fault("status", message_id=OWN_ID, times=3)),
    ),
    "timed_out": (504, lambda provider: provider.plan(fault("close", message_id=OWN_ID, times=3))),
    "unreadable": (502, lambda provider: provider.plan(fault("html", message_id=OWN_ID))),
}


@pytest.mark.parametrize("outcome", SETTLED)
def test_what_becomes_of_a_cancel_is_described(outcome, ask, provider):
    status, arrange = SETTLED[outcome]
    provider.schedule(OWN_ID, 3600)
    arrange(provider)
    answer = ask(cancel(str(OWN_ID)))
    assert (answer.status_code, answer.json()["outcome"]) == (status, outcome)


OTHERS = {
    "an id that is none": (400, cancel("three")),
    "ids of all sorts": (202, cancel_many({"messageIds": [300, "300", "x", True, None, [], 0.5]})),
    "no ids": (400, cancel_many({"messageIds": []})),
    "no time": (400, cancel_many({"messageIds": [300], "sendAt": "tomorrow"})),
    "no object": (400, cancel_many([300])),
    "too many": (413, cancel_many({"messageIds": list(range(1001))})),
    "a form": (415, cancel_many(b"messageIds=300", "application/x-www-form-urlencoded")),
}


@pytest.mark.parametrize(("status", "case"), OTHERS.values(), ids=OTHERS)
def test_what_is_asked_in_another_way_is_answered_as_described(case, status, ask):
    assert ask(case).status_code == status


def test_what_api_gateway_answers_itself_is_described_for_each_route():
    """HTTP APIs answer with these of their own accord, each as {"message": …}."""
    shared = SCHEMA.raw_schema["components"]["responses"]
    for operation in (CANCEL, CANCEL_MANY):
        responses = SCHEMA.raw_schema["paths"][operation.path][operation.method]["responses"]
        for status in ("400", "401", "403", "404", "413", "429", "500", "503"):
            described = responses[status]
            described = shared.get(described.get("$ref", "").rpartition("/")[2], described)
            assert "application/json" in described["content"], (operation.path, status)
