"""A version exactly when a function's code or configuration changes: Lambda publishes no other."""

import json
import re
from copy import deepcopy
from functools import cache, partial
from pathlib import Path

import boto3
import pytest
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from cloudformation import ACCOUNT, Stack
from infra import deploy, version
from infra.local.stack import ROOT

WRITTEN = ROOT.joinpath("template.yaml").read_text()
FUNCTIONS = ("ApiFunction", "WorkerFunction", "WatchFunction")
DOORS = FUNCTIONS[:2]
# What belongs to a function and to none of its versions: Lambda's documentation of versions.
OF_NO_VERSION = {"Code", "ReservedConcurrentExecutions", "Tags"}


parsed = cache(yaml_parse)


def deploy_into(folder: Path, text: str = WRITTEN, code: str = "1", bucket: str = "one") -> dict:
    """Return what CloudFormation is given by a deployment: of a text, code and bucket."""
    template = folder / "template.yaml"
    built = deepcopy(parsed(text))  # as `sam build` leaves it
    for name in FUNCTIONS:
        built["Resources"][name]["Properties"]["CodeUri"] = name
        folder.joinpath(name, "sms_cancel").mkdir(parents=True, exist_ok=True)
        folder.joinpath(name, "sms_cancel", "api.py").write_text(code)
    template.write_text(json.dumps(built))
    version.mark(template)
    packaged = json.loads(template.read_text())  # as `sam deploy` packages it
    for name in FUNCTIONS:
        packaged["Resources"][name]["Properties"]["CodeUri"] = f"s3://{bucket}/{code}"
    session = boto3.Session(region_name="eu-west-3")
    return Translator({}, Parser(), boto_session=session).translate(packaged, {})


@pytest.fixture
def deployed(tmp_path):
    return partial(deploy_into, tmp_path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """What CloudFormation is given by a deployment of the template as it is."""
    return deploy_into(tmp_path_factory.mktemp("plain"))


def function(stack: Stack, template: dict, name: str) -> dict:
    """Return what Lambda is told of a function that a version would hold, but for its code."""
    properties = template["Resources"][name]["Properties"]
    return stack.value({key: properties[key] for key in properties.keys() - OF_NO_VERSION})


def versioned(stack: Stack, template: dict, name: str) -> tuple:
    """Return what makes CloudFormation publish a version when it changes: id and description."""
    [(logical_id, each)] = [
        (logical_id, each["Properties"])
        for logical_id, each in template["Resources"].items()
        if each["Type"] == "AWS::Lambda::Version"
        and each["Properties"]["FunctionName"] == {"Ref": name}
    ]
    assert each.keys() == {"Description", "FunctionName"}  # nothing else to be replaced for
    return logical_id, stack.value(each["Description"])


def changed(before: dict, after: dict) -> dict[str, tuple[bool, bool]]:
    """Return whether each function has changed, and whether it has got a version."""
    return {
        name: (
            function(Stack(before), before, name) != function(Stack(after), after, name),
            versioned(Stack(before), before, name) != versioned(Stack(after), after, name),
        )
        for name in FUNCTIONS
    }


NONE = dict.fromkeys(FUNCTIONS, (False, False))
ALL = dict.fromkeys(FUNCTIONS, (True, True))
# A change of the template's text: what is found there, and what takes its place.
NO_CHANGE_OF_A_FUNCTION = {
    "tags": ("    Tracing: Active\n", "    Tracing: Active\n    Tags: {team: sms}\n"),
    "reserved concurrency": (", !Ref ReservedConcurrency,", ", 7,"),
    "event source": ("BatchSize: 10", "BatchSize: 9"),
    "a role's rights": ("- logs:CreateLogStream\n", "- logs:CreateLogGroup\n"),
    "queue": ("VisibilityTimeout: 180", "VisibilityTimeout: 181"),
    "API": ("ThrottlingRateLimit: 40", "ThrottlingRateLimit: 41"),
}  # fmt: skip
CHANGE_OF_BOTH_DOORS = {
    "memory": ("MemorySize: 256", "MemorySize: 512"),
    "tracing": ("    Tracing: Active\n", "    Tracing: PassThrough\n"),
}
CHANGE_OF_ALL = {
    "runtime": ("Runtime: python3.13", "Runtime: python3.14"),
    "variable": ("POWERTOOLS_LOG_LEVEL: INFO", "POWERTOOLS_LOG_LEVEL: DEBUG"),
    "new variable": ("POWERTOOLS_LOG_LEVEL: INFO", "POWERTOOLS_LOG_LEVEL: INFO\n        NEW: 1"),
    "layers": ("    Tracing: Active\n", "    Tracing: Active\n    Layers: [layer]\n"),
}
CHANGE_OF_THE_WORKER = {
    "handler": ("sms_cancel.worker.handler", "sms_cancel.worker.other"),
    "role": ("Role: !GetAtt WorkerRole.Arn", "Role: !GetAtt ApiRole.Arn"),
    "log group": ("LogGroup: !Ref WorkerLogGroup", "LogGroup: !Ref ApiLogGroup"),
    "receives": ('MaxReceiveCount: "70"', 'MaxReceiveCount: "71"'),
}


def replaced(change: tuple[str, str]) -> str:
    found, instead = change
    assert found in WRITTEN
    return WRITTEN.replace(found, instead)


def test_the_same_again_makes_no_version(plain, deployed):
    assert changed(plain, deployed()) == NONE


def test_the_same_code_in_another_bucket_makes_no_version(deployed):
    before, after = deployed(bucket="one"), deployed(bucket="another")
    code = [each["Resources"]["ApiFunction"]["Properties"]["Code"] for each in (before, after)]
    assert [each["S3Bucket"] for each in code] == ["one", "another"]
    assert changed(before, after) == NONE


@pytest.mark.parametrize(
    "change", NO_CHANGE_OF_A_FUNCTION.values(), ids=NO_CHANGE_OF_A_FUNCTION.keys()
)
def test_what_no_version_holds_makes_none(plain, deployed, change):
    before, after = plain, deployed(replaced(change))
    assert before != after
    assert changed(before, after) == NONE


def test_changed_code_makes_a_version_and_is_a_change_for_lambda(deployed):
    assert changed(deployed(code="1"), deployed(code="2")) == ALL


@pytest.mark.parametrize("change", CHANGE_OF_ALL.values(), ids=CHANGE_OF_ALL.keys())
def test_a_changed_setting_of_all_makes_a_version_of_each(plain, deployed, change):
    assert changed(plain, deployed(replaced(change))) == ALL


@pytest.mark.parametrize("change", CHANGE_OF_BOTH_DOORS.values(), ids=CHANGE_OF_BOTH_DOORS.keys())
def test_a_setting_that_the_watch_has_of_its_own_makes_none_of_it(plain, deployed, change):
    both_doors = dict.fromkeys(DOORS, (True, True))
    assert changed(plain, deployed(replaced(change))) == NONE | both_doors


@pytest.mark.parametrize("change", CHANGE_OF_THE_WORKER.values(), ids=CHANGE_OF_THE_WORKER.keys())
def test_a_changed_setting_of_the_worker_makes_a_version_of_it_alone(plain, deployed, change):
    assert changed(plain, deployed(replaced(change))) == NONE | {"WorkerFunction": (True, True)}


SECRET = f"arn:aws:secretsmanager:eu-west-3:{ACCOUNT}:secret:"
# Each parameter is changed; those that a rule wants together, together.
PARAMETERS = [
    {"ApiKeySecretArn": SECRET + "another-1"},
    {"ApiKeySecretArn": SECRET.replace("eu-west-3", "eu-west-1") + "ApiKeySecret-1"},  # a replica
    {"ApiKeySecretArn": SECRET + "ApiKeySecret-1"},  # the stack's own, given by hand
    {"ApiKeySecretArn": SECRET + "another-1", "ApiKeySecretKmsKeyArn": "arn:aws:kms:::key/1"},
    {"SmsPartnerUrl": "https://sms.example"},
    {"SmsPartnerFormat": "xml"},
    {"JwtIssuer": "https://issuer.example", "JwtAudience": "sms-cancel"},
    {"SubnetIds": "subnet-1,subnet-2", "SecurityGroupIds": "sg-1"},
    {"OutcomeEvents": "true"},
    {"AccountWatch": "false"},
    {"CreditsLow": "500"},
    {"MaximumConcurrency": "50"},
    {"ReservedConcurrency": "50"},
    {"LogRetentionDays": "90"},
    {"PermissionsBoundaryArn": f"arn:aws:iam::{ACCOUNT}:policy/boundary"},
    {"AlarmEmail": "people@example.org"},
    {"RunbookUrl": "https://runbook.example"},
    {"GradualDeployment": "true"},
]


@pytest.mark.parametrize("parameters", PARAMETERS, ids=" ".join)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_parameter_makes_a_version_exactly_when_it_changes_the_function(plain, parameters, name):
    before, after = Stack(plain), Stack(plain, **parameters)
    function_changes = function(before, plain, name) != function(after, plain, name)
    gets_a_version = versioned(before, plain, name) != versioned(after, plain, name)
    assert gets_a_version == function_changes


def test_each_parameter_is_tried():
    tried = set().union(*PARAMETERS)
    assert tried == yaml_parse(WRITTEN)["Parameters"].keys()


@pytest.mark.parametrize(
    ("name", "alone"), [("ApiFunction", {"OutcomeEvents"}), ("WatchFunction", set())]
)
def test_some_parameters_change_the_functions(plain, name, alone):
    changing = {
        each
        for parameters in PARAMETERS
        for each in parameters
        if function(Stack(plain), plain, name) != function(Stack(plain, **parameters), plain, name)
    }
    assert changing == {
        "ApiKeySecretArn", "ApiKeySecretKmsKeyArn", "SmsPartnerUrl", "SmsPartnerFormat",
        "SubnetIds", "SecurityGroupIds", *alone,
    }  # fmt: skip


def test_no_description_is_longer_than_lambda_takes(plain):
    parameters = plain["Parameters"]
    [of_a_secret] = re.findall(r"{1,(\d+)}", parameters["ApiKeySecretArn"]["AllowedPattern"])
    longest = {
        name: "x" * parameters[name]["MaxLength"]
        for name in ("SmsPartnerUrl", "SubnetIds", "SecurityGroupIds")
    }
    stack = Stack(
        plain,
        **longest,
        ApiKeySecretArn=SECRET.replace("eu-west-3", "ap-southeast-1") + "x" * int(of_a_secret),
        OutcomeEvents="false",
    )
    for name in FUNCTIONS:
        _, description = versioned(stack, plain, name)
        assert len(description) <= 256 - len("1000") + len("70")  # SQS takes up to 1,000 receives
        assert len(function(stack, plain, name)["Description"]) <= 256


def test_the_deployment_marks_what_it_deploys(monkeypatch):
    done = []
    monkeypatch.setattr(deploy, "check", lambda _: None)
    monkeypatch.setattr(deploy, "_sam", lambda command, *_: done.append(command))
    monkeypatch.setattr(version, "mark", done.append)
    deploy.main()
    assert done == ["build", ROOT / ".aws-sam" / "build" / "template.yaml", "deploy"]
