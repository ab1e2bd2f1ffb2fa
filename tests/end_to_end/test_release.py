"""How a release reaches the calls: by an alias, and gradually if wanted."""

import json
import subprocess

import pytest

from conftest import KEY
from infra.local import stack
from infra.local.bundle import Bundle
from infra.local.provider import Provider
from infra.local.provider_server import serve

from .conftest import LOCAL_PYTHON, eventually

TRANSFORM = """
import json, sys
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

class NoManagedPolicies:
    def load(self):
        return {}

template = yaml_parse(sys.stdin.read().replace("CodeUri: functions/", "CodeUri: s3://bucket/key"))
print(json.dumps(transform(template, json.loads(sys.argv[1]), NoManagedPolicies())["Resources"]))
"""


def transformed(**parameters):
    """Return the resources that SAM makes of the template with these parameters."""
    ended = subprocess.run(
        [LOCAL_PYTHON, "-c", TRANSFORM, json.dumps(parameters)],
        input=stack.ROOT.joinpath("template.yaml").read_text(),
        env={"AWS_DEFAULT_REGION": stack.REGION},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(ended.stdout)


def of_type(resources, kind):
    return {name: each for name, each in resources.items() if each["Type"] == kind}


@pytest.mark.parametrize("parameters", [{}, {"GradualDeployment": "false"}])
def test_a_release_takes_all_calls_at_once_unless_told_otherwise(parameters):
    resources = transformed(**parameters)
    assert [each["Type"] for each in resources.values() if "CodeDeploy" in each["Type"]] == []
    aliases = of_type(resources, "AWS::Lambda::Alias")
    assert [each.get("UpdatePolicy") for each in aliases.values()] == [None, None, None]


def test_a_gradual_release_is_rolled_back_on_the_alarms_by_a_role_of_ours():
    resources = transformed(GradualDeployment="true")
    groups = of_type(resources, "AWS::CodeDeploy::DeploymentGroup")
    assert len(groups) == 2  # of the doors; the watch runs too seldom
    alarms = {"Enabled": True, "Alarms": [
        {"Name": {"Ref": name}} for name in ("ApiFunctionErrors", "WorkerFunctionErrors", "Bugs")
    ]}  # fmt: skip
    for group in (each["Properties"] for each in groups.values()):
        assert group["AlarmConfiguration"] == alarms
        assert group["AutoRollbackConfiguration"]["Enabled"]
        assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
        assert "Canary10Percent5Minutes" in json.dumps(group["DeploymentConfigName"])
        assert "ReleaseRole" in json.dumps(group["ServiceRoleArn"])
    assert "CodeDeployServiceRole" not in resources  # SAM's own choice may touch every function
    updated_by = [
        each["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]["DeploymentGroupName"]["Ref"]
        for name, each in of_type(resources, "AWS::Lambda::Alias").items()
        if name != "WatchFunctionAliaslive"
    ]
    assert "UpdatePolicy" not in resources["WatchFunctionAliaslive"]
    assert sorted(updated_by) == sorted(groups)


def test_whatever_calls_a_function_calls_its_alias():
    resources = transformed()
    [integration] = of_type(resources, "AWS::ApiGatewayV2::Integration").values()
    permissions = of_type(resources, "AWS::Lambda::Permission").values()
    [mapping] = of_type(resources, "AWS::Lambda::EventSourceMapping").values()
    [schedule] = of_type(resources, "AWS::Scheduler::Schedule").values()
    assert integration["Properties"]["IntegrationUri"] == {"Ref": "ApiFunctionAliaslive"}
    names = [each["Properties"]["FunctionName"] for each in permissions]
    assert names == [{"Ref": "ApiFunctionAliaslive"}] * 2
    assert mapping["Properties"]["FunctionName"] == {"Ref": "WorkerFunctionAliaslive"}
    assert schedule["Properties"]["Target"]["Arn"] == {"Ref": "WatchFunctionAliaslive"}


def test_every_version_stays_to_go_back_to():
    for version in of_type(transformed(), "AWS::Lambda::Version").values():
        assert (version["DeletionPolicy"], version["UpdateReplacePolicy"]) == ("Retain", "Retain")


def test_a_parameter_that_alone_is_changed_reaches_the_calls(artifacts):
    before, after = Provider(KEY), Provider(KEY)
    with (
        serve(before) as url,
        serve(after) as new_url,
        stack.ministack(str(LOCAL_PYTHON)) as endpoint,
    ):
        bundle = Bundle(endpoint, stack.deploy(endpoint, artifacts, SmsPartnerUrl=url))
        bundle.put_key(KEY)
        bundle.delete(300)
        assert (before.calls.total(), after.calls.total()) == (1, 0)
        cloudformation = stack.client(endpoint, "cloudformation")
        cloudformation.update_stack(
            StackName="sms-cancel",
            UsePreviousTemplate=True,
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
            Parameters=[{"ParameterKey": "SmsPartnerUrl", "ParameterValue": new_url}],
        )

        def status():
            [described] = cloudformation.describe_stacks(StackName="sms-cancel")["Stacks"]
            return described["StackStatus"]

        assert eventually(lambda: status() == "UPDATE_COMPLETE")
        bundle.delete(300)
        assert (before.calls.total(), after.calls.total()) == (1, 1)
