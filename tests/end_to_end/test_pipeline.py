"""Releasing: infra/pipeline.yaml on the local stack, and ``make deploy`` with the role it makes.

The local stack does not know the condition cloudformation:RoleArn: the pipeline is deployed without
it, and with a provider that is said to exist. What CloudFormation does for a stack, it does there
with all rights: what it may do is held here to what AWS says that it needs.
"""

import base64
import functools
import json
import os
import re
import shutil
import subprocess
from fnmatch import fnmatchcase

import pytest
from botocore.exceptions import ClientError
from samtranslator.yaml_helper import yaml_parse

from conftest import KEY
from infra import template
from infra.local import stack
from infra.local.bundle import Bundle
from infra.local.provider import Provider
from infra.local.provider_server import serve

from .conftest import LOCAL_PYTHON, PATIENCE_S, eventually
from .test_release import of_type, transformed

SAM = stack.ROOT / ".venv-sam" / "bin" / "sam"
SAM_PYTHON = SAM.with_name("python")
CHECKOV_PYTHON = stack.ROOT / ".venv-checkov" / "bin" / "python"
PIPELINE = stack.ROOT / "infra" / "pipeline.yaml"
MONITORING = stack.ROOT / "infra" / "monitoring.yaml"
ISSUER = "token.actions.githubusercontent.com"
RELEASES = "repo:octo@1/sms@2:environment:production"
UNKNOWN_HERE = r" +Condition:\n +StringEquals:\n +cloudformation:RoleArn: [^\n]*\n"


@pytest.fixture(scope="module")
def endpoint():
    assert LOCAL_PYTHON.exists(), "the local stack is not installed: run make test"
    with stack.ministack(str(LOCAL_PYTHON)) as url:
        yield url


@pytest.fixture
def provider_at():
    """A simulated SMS Partner of its own, and its URL."""
    provider = Provider(KEY)
    with serve(provider) as url:
        yield provider, url


@pytest.fixture(scope="module")
def pipeline(endpoint):
    """The outputs of the deployed pipeline."""
    body, count = re.subn(UNKNOWN_HERE, "", PIPELINE.read_text())
    assert count == 1
    provider = f"arn:aws:iam::000000000000:oidc-provider/{ISSUER}"
    parameters = {"GitHubRepository": "octo@1/sms@2", "GitHubProviderArn": provider}
    cloudformation = stack.client(endpoint, "cloudformation")
    cloudformation.create_stack(
        StackName="sms-cancel-pipeline",
        TemplateBody=body,
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
    )
    return outputs(endpoint, "sms-cancel-pipeline")


def outputs(endpoint, name):
    cloudformation = stack.client(endpoint, "cloudformation")
    described = eventually(
        lambda: [
            each
            for each in cloudformation.describe_stacks(StackName=name)["Stacks"]
            if each["StackStatus"] in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}
        ]
    )
    assert described
    return {each["OutputKey"]: each["OutputValue"] for each in described[0]["Outputs"]}


def take_role(endpoint, role_arn, subject, audience="sts.amazonaws.com"):
    """Take a role as a job of GitHub does: with a token that says who it is."""
    claims = {"iss": f"https://{ISSUER}", "aud": audience, "sub": subject}
    parts = [{"alg": "RS256"}, claims, {}]
    token = ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode() for p in parts)
    answer = stack.client(endpoint, "sts").assume_role_with_web_identity(
        RoleArn=role_arn, RoleSessionName="release", WebIdentityToken=token
    )
    return answer["Credentials"]


@pytest.mark.parametrize(
    ("subject", "audience"),
    [
        ("repo:octo@1/sms@2:environment:staging", "sts.amazonaws.com"),
        ("repo:octo@1/sms@2:ref:refs/heads/main", "sts.amazonaws.com"),
        ("repo:octo@1/sms@2:pull_request", "sts.amazonaws.com"),
        ("repo:octo@3/sms@4:environment:production", "sts.amazonaws.com"),
        ("repo:octo/sms:environment:production", "sts.amazonaws.com"),
        (RELEASES + "-too", "sts.amazonaws.com"),
        (RELEASES, "https://github.com/octo"),
    ],
)
def test_no_other_job_can_take_the_role(endpoint, pipeline, subject, audience):
    with pytest.raises(ClientError) as refused:
        take_role(endpoint, pipeline["DeployRoleArn"], subject, audience)
    assert refused.value.response["Error"]["Code"] == "AccessDenied"


def run_as(credentials, endpoint, *command):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "MAKE"))}
    return subprocess.run(
        command,
        cwd=stack.ROOT,
        env=environment
        | {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_CA_BUNDLE": stack.ca_file(endpoint),
            "AWS_DEFAULT_REGION": stack.REGION,
            "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
            "AWS_SESSION_TOKEN": credentials["SessionToken"],
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def set_boundary(endpoint, arn):
    """Give the functions their boundary, which the local stack's CloudFormation leaves out."""
    resources = stack.client(endpoint, "cloudformation").list_stack_resources(
        StackName="sms-cancel-production"
    )["StackResourceSummaries"]
    roles = {
        resource["PhysicalResourceId"]
        for resource in resources
        if resource["LogicalResourceId"] in {"ApiRole", "WorkerRole", "WatchRole"}
    }
    assert len(roles) == 3
    for role in roles:
        stack.client(endpoint, "iam").put_role_permissions_boundary(
            RoleName=role, PermissionsBoundary=arn
        )


@pytest.fixture
def _no_build_is_left():
    """Remove the build of `make deploy`, 53 MB, where there was none before."""
    place = stack.ROOT / ".aws-sam"
    was_there = place.exists()
    yield
    if not was_there:
        shutil.rmtree(place)


@pytest.mark.usefixtures("_no_build_is_left")
def test_the_role_releases_the_production_stack_and_no_other(endpoint, pipeline, provider_at):
    provider, provider_url = provider_at
    credentials = take_role(endpoint, pipeline["DeployRoleArn"], RELEASES)
    options = (
        f"--no-confirm-changeset --no-resolve-s3 --s3-bucket {pipeline['ArtifactsBucket']} "
        f"--role-arn {pipeline['CloudFormationRoleArn']} --parameter-overrides "
        f"PermissionsBoundaryArn={pipeline['PermissionsBoundaryArn']} SmsPartnerUrl={provider_url}"
    )
    released = run_as(
        credentials, endpoint, "make", "deploy", "ENVIRONMENT=production", f"SAM_DEPLOY={options}"
    )
    assert released.returncode == 0, released.stdout + released.stderr
    assert "put-secret-value" in released.stdout

    sam_deploy = (SAM, "deploy", "--config-env", "production", "--stack-name", "other")
    other = run_as(credentials, endpoint, *sam_deploy, *options.split())
    assert other.returncode != 0
    assert "AccessDenied" in other.stderr

    # Within their boundary, the functions do what they are for.
    set_boundary(endpoint, pipeline["PermissionsBoundaryArn"])
    bundle = Bundle(endpoint, outputs(endpoint, "sms-cancel-production"))
    stack._repair_concurrency(stack.client(endpoint, "lambda"))
    bundle.put_key(KEY)
    provider.schedule(300, 3600)
    provider.schedule(301, 3600)
    status, answer = bundle.delete(300)
    assert (status, answer["outcome"]) == (200, "cancelled")
    bundle.send('{"messageId": 301}')
    assert eventually(lambda: provider.state(301) == "cancelled")
    bundle.send("poison")
    assert bundle.receive(bundle.outputs["DeadLetterQueueUrl"], PATIENCE_S)


# What a resource type asks for, and the stack never uses. An asterisk stands for anything.
NOT_NEEDED = {
    "elasticfilesystem:*", "s3files:*", "firehose:*", "s3:REST.PUT.OBJECT",
    "apigateway:*agResource",  # no actions of IAM: tags are apigateway:POST on /tags
    "codedeploy:RegisterOnPremisesInstance",
    "lambda:AssociateRuntimeAlias", "lambda:PassCapacityProvider",
    "lambda:PutFunctionCodeSigningConfig", "lambda:PutFunctionScalingConfig",
    "lambda:PutProvisionedConcurrencyConfig",
    "kms:CreateGrant", "kms:Encrypt",  # a function's environment under a key of its own
    "iam:*Group*", "iam:*User*", "iam:DeleteRolePermissionsBoundary",
    "logs:PutBearerTokenAuthentication", "logs:PutIndexPolicy", "logs:DeleteIndexPolicy",
    "secretsmanager:GetRandomPassword", "secretsmanager:GetSecretValue",
    "secretsmanager:RemoveRegionsFromReplication", "secretsmanager:ReplicateSecretToRegions",
}  # fmt: skip
ASKED_FOR = """
import json, sys
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER as schemas
asked = []
for name in sys.argv[1:]:
    handlers = schemas.get_resource_schema("us-east-1", name).schema["handlers"]
    asked += [(name, does, each) for does in handlers for each in handlers[does]["permissions"]]
print(json.dumps(asked))
"""


def listed(value):
    return value if isinstance(value, list) else [value]


def matches(action, known):
    return any(fnmatchcase(action.lower(), each.lower()) for each in known)


# Whatever a policy of the pipeline refers to, as long as it can get.
ROLE = "arn:aws-us-gov:iam::000000000000:role/"
POLICY = "arn:aws-us-gov:iam::000000000000:policy/"
LONGEST = {
    "AWS::Partition": "aws-us-gov",
    "AWS::Region": "ap-southeast-99",
    "AWS::AccountId": "0" * 12,
    "AWS::URLSuffix": "amazonaws.com.cn",
    "AWS::StackName": "p" * 128,
    "StackName": "s" * 35,
    "ApiKeySecretArn": f"arn:aws:secretsmanager:ap-southeast-99:000000000000:secret:{'s' * 512}",
    "ApiKeySecretKmsKeyArn": f"arn:aws:kms:ap-southeast-99:000000000000:key/mrk-{'k' * 32}",
    "ArtifactsBucket.Arn": f"arn:aws-us-gov:s3:::{'b' * 63}",
    **{f"{name}.Arn": ROLE + name.ljust(64, "r") for name in ("CloudFormationRole", "DeployRole")},
    **dict.fromkeys(("DoorsPolicy", "WatchingPolicy", "PermissionsBoundary"), POLICY + "p" * 128),
}


def filled_in(value):
    """Return a part of the pipeline's template with the longest names in it."""
    match value:
        case {"Ref": name}:
            return LONGEST[name]
        case {"Fn::GetAtt": path}:
            return LONGEST[".".join(path)]
        case {"Fn::Sub": [text, given]}:
            names = LONGEST | filled_in(given)
            return re.sub(r"\$\{(.+?)\}", lambda found: names[found[1]], text)
        case {"Fn::Sub": text}:
            return filled_in({"Fn::Sub": [text, {}]})
        case {"Fn::Select": [index, {"Fn::Split": [separator, text]}]}:
            return filled_in(text).split(separator)[index]
        case {"Fn::If": [_, chosen, _]}:
            return filled_in(chosen)
        case dict():
            return {key: filled_in(each) for key, each in value.items()}
        case list():
            return [filled_in(each) for each in value]
    return value


@functools.cache
def policies():
    """Return each policy of the pipeline, by its name: managed ones, and what is in a role."""
    resources = template.load(PIPELINE)["Resources"]
    managed = of_type(resources, "AWS::IAM::ManagedPolicy")
    found = {name: each["Properties"]["PolicyDocument"] for name, each in managed.items()}
    [release] = resources["DeployRole"]["Properties"]["Policies"]
    return filled_in(found | {"Release": release["PolicyDocument"]})


# ARNs of the stack's own resources, by type: what its handlers act on.
REGIONAL = f"{LONGEST['AWS::Region']}:{LONGEST['AWS::AccountId']}"
FUNCTION = f"lambda:{REGIONAL}:function:{{}}-Function-1"
LOG_GROUP = f"logs:{REGIONAL}:log-group:{{}}-LogGroup-1"
API = f"apigateway:{LONGEST['AWS::Region']}::/apis/1"
OWN_ARNS = {
    "AWS::ApiGatewayV2::Api": [API, f"apigateway:{LONGEST['AWS::Region']}::/apis"],
    "AWS::ApiGatewayV2::Authorizer": [f"{API}/authorizers"],
    "AWS::ApiGatewayV2::Integration": [f"{API}/integrations"],
    "AWS::ApiGatewayV2::Route": [f"{API}/routes"],
    "AWS::ApiGatewayV2::Stage": [f"{API}/stages"],
    "AWS::CloudFormation::Stack": [f"cloudformation:{REGIONAL}:stack/{{}}-Monitoring-1/2"],
    "AWS::CloudWatch::Alarm": [f"cloudwatch:{REGIONAL}:alarm:{{}}-Bugs-1"],
    "AWS::CloudWatch::Dashboard": ["cloudwatch::" + "0" * 12 + ":dashboard/Dashboard-1"],
    "AWS::CodeDeploy::Application": [f"codedeploy:{REGIONAL}:application:{{}}-Application-1"],
    "AWS::CodeDeploy::DeploymentGroup": [
        f"codedeploy:{REGIONAL}:deploymentgroup:{{}}-Application-1/{{}}-Group-1",
        f"codedeploy:{REGIONAL}:deploymentconfig:1",
    ],
    "AWS::IAM::ManagedPolicy": [
        f"iam::{'0' * 12}:policy/{{}}-P-1",
        f"iam::{'0' * 12}:role/{{}}-R-1",
    ],
    "AWS::IAM::Role": [f"iam::{'0' * 12}:role/{{}}-R-1"],
    "AWS::KMS::Key": [f"kms:{REGIONAL}:key/1"],
    "AWS::Lambda::Alias": [f"{FUNCTION}:live", FUNCTION],
    "AWS::Lambda::EventInvokeConfig": [FUNCTION],
    "AWS::Lambda::EventSourceMapping": [f"lambda:{REGIONAL}:event-source-mapping:1"],
    "AWS::Lambda::Function": [FUNCTION],
    "AWS::Lambda::Permission": [FUNCTION],
    "AWS::Lambda::Version": [FUNCTION, f"{FUNCTION}:1"],
    "AWS::Logs::LogGroup": [
        LOG_GROUP,
        f"logs:{REGIONAL}:log-group:/aws/vendedlogs/{{}}-AccessLogs",
    ],
    "AWS::Logs::MetricFilter": [LOG_GROUP],
    "AWS::Scheduler::Schedule": [f"scheduler:{REGIONAL}:schedule/default/{{}}-WatchSchedule-1"],
    "AWS::SNS::Subscription": [f"sns:{REGIONAL}:{{}}-AlertTopic-1"],
    "AWS::SNS::Topic": [f"sns:{REGIONAL}:{{}}-AlertTopic-1"],
    "AWS::SNS::TopicPolicy": [f"sns:{REGIONAL}:{{}}-AlertTopic-1"],
    "AWS::SQS::Queue": [f"sqs:{REGIONAL}:{{}}-Queue-1"],
    "AWS::SQS::QueuePolicy": [f"sqs:{REGIONAL}:{{}}-Queue-1"],
    "AWS::SecretsManager::Secret": [f"secretsmanager:{REGIONAL}:secret:ApiKeySecret-1"],
}


def allowed(action, arn=None):
    """Tell whether CloudFormationRole may do this to a resource, or to any; conditions aside."""
    documents = [policies()[name] for name in ("DoorsPolicy", "WatchingPolicy", "RolesPolicy")]
    return any(
        matches(action, listed(statement["Action"]))
        and (arn is None or any(fnmatchcase(arn, each) for each in listed(statement["Resource"])))
        for document in documents
        for statement in document["Statement"]
        if statement["Effect"] == "Allow"
    )


@functools.cache
def asked_for():
    """Return what each resource type of both templates asks for: type, handler, permission."""
    # No parameter adds a resource, but for this one: SAM judges it, all others CloudFormation.
    made = [transformed(GradualDeployment="true"), template.load(MONITORING)["Resources"]]
    types = {each["Type"] for resources in made for each in resources.values()}
    asked = subprocess.run(
        [SAM_PYTHON, "-c", ASKED_FOR, *types], capture_output=True, text=True, check=True
    )
    return [tuple(each) for each in json.loads(asked.stdout)]


@pytest.mark.parametrize("handler", ["create", "read", "update", "delete"])
def test_cloudformation_may_do_what_each_resource_type_asks_for(handler):
    asked = [(kind, each) for kind, does, each in asked_for() if does == handler]
    assert len({kind for kind, _ in asked}) > 15
    refused = set()
    for kind, action in asked:
        # What a type asks of its own service, on its own resources; the rest on any.
        own = [
            f"arn:{LONGEST['AWS::Partition']}:{each.replace('{}', LONGEST['StackName'])}"
            for each in OWN_ARNS[kind]
            if each.split(":")[0] == action.split(":")[0]
        ]
        if not any(allowed(action, arn) for arn in own or [None]):
            refused.add((kind, action))
    assert {each for each in refused if not matches(each[1], NOT_NEEDED)} == set()


def test_the_resource_types_of_both_templates_are_all_judged():
    kinds = {kind for kind, _, _ in asked_for()}
    assert {"AWS::CodeDeploy::DeploymentGroup", "AWS::CloudWatch::Dashboard"} <= kinds
    assert kinds <= OWN_ARNS.keys()


@pytest.mark.parametrize("action", ["CancelUpdateStack", "ContinueUpdateRollback", "RollbackStack"])
def test_cloudformation_may_roll_the_nested_stack_back(action):
    """AWS's page of the resource asks for it, its schema does not."""
    nested = f"arn:{LONGEST['AWS::Partition']}:cloudformation:{REGIONAL}:stack"
    assert allowed(f"cloudformation:{action}", f"{nested}/{LONGEST['StackName']}-Monitoring-1/2")
    assert not allowed(f"cloudformation:{action}", f"{nested}/another/2")


def test_each_condition_compares_strings():
    """An unquoted boolean is one of JSON, which not every reader of policies takes."""
    whole = yaml_parse(PIPELINE.read_text()), transformed(GradualDeployment="true")
    found = [value for document in whole for value in compared(document)]
    assert {"true", "false", "sms-cancel"} <= {each for each in found if isinstance(each, str)}
    assert [each for each in found if isinstance(each, bool | int)] == []


def compared(document):
    """Yield what conditions of policies compare with."""
    if isinstance(document, list):
        for each in document:
            yield from compared(each)
    elif isinstance(document, dict):
        if "Effect" in document:
            for operands in document.get("Condition", {}).values():
                for operand in operands.values():
                    yield from listed(operand)
        for each in document.values():
            yield from compared(each)


def test_the_bucket_forgets_what_was_overwritten_and_keeps_what_a_rollback_may_fetch():
    bucket = template.load(PIPELINE)["Resources"]["ArtifactsBucket"]["Properties"]
    rules = bucket["LifecycleConfiguration"]["Rules"]
    assert {each["Status"] for each in rules} == {"Enabled"}
    ends = set().union(*rules) - {"Id", "Status"}
    assert ends == {
        "NoncurrentVersionExpiration",
        "ExpiredObjectDeleteMarker",
        "AbortIncompleteMultipartUpload",
    }


def test_a_parameter_is_emptied_as_samconfig_says():
    advice = re.search(
        r"parameter_overrides = '(.+?)'", stack.ROOT.joinpath("samconfig.toml").read_text()
    )
    code = (
        "import json, sys; from samcli.cli.types import CfnParameterOverridesType as T; "
        "print(json.dumps(T().convert(sys.argv[1], None, None)))"
    )
    read = subprocess.run(
        [SAM_PYTHON, "-c", code, advice[1]], capture_output=True, text=True, check=True
    )
    assert json.loads(read.stdout) == {"LogRetentionDays": "7", "AlarmEmail": ""}


@pytest.mark.parametrize("name", policies())
def test_each_policy_is_within_the_size_that_iam_takes(name):
    most = 10_240 if name == "Release" else 6_144  # in a role, or managed; without white space
    assert 0 < len(json.dumps(policies()[name], separators=(",", ":"))) <= most


KNOWN = """
import json, sys
from policy_sentry.querying.actions import get_action_data
known = {}
for action in sys.argv[1:]:
    service, name = action.split(":")
    found = get_action_data(service, name)
    known[action] = [each["resource_arn_format"] for each in found[service]] if found else []
print(json.dumps(known))
"""
# What AWS's list, as checkov ships it, does not have: new ones, and the transform of SAM.
NOT_LISTED = {
    ("cloudformation:CreateChangeSet", "transform"),
    ("cloudwatch:ListTagsForResource", "dashboard"),
    ("cloudwatch:TagResource", "dashboard"),
    ("cloudwatch:UntagResource", "dashboard"),
    ("logs:PutLogGroupDeletionProtection", "log-group"),
}


def is_of(resource, arn_format):
    """Tell whether an ARN is of the type that the format in AWS's list stands for."""
    if "*" in (resource, arn_format):
        return resource == arn_format
    kind = arn_format.split(":", 5)[5].split("${")[0]
    return resource.split(":")[2] == arn_format.split(":")[2] and (
        resource.split(":", 5)[5].startswith(kind)
    )


def test_each_right_is_on_a_resource_that_aws_knows_for_it():
    given = [
        (action, listed(statement["Resource"]))
        for document in policies().values()
        for statement in document["Statement"]
        if statement["Effect"] == "Allow"
        for action in listed(statement["Action"])
        if "*" not in action
    ]
    known = subprocess.run(
        [CHECKOV_PYTHON, "-c", KNOWN, *{action for action, _ in given}],
        capture_output=True,
        text=True,
        check=True,
    )
    formats = json.loads(known.stdout)
    useless = {
        (action, re.match(r"[\w-]*", resources[0].split(":", 5)[-1])[0])
        for action, resources in given
        if not any(is_of(resource, each) for resource in resources for each in formats[action])
    }
    assert useless == NOT_LISTED


def test_the_boundary_has_what_the_roles_of_the_stack_are_given_and_no_more():
    made = transformed(GradualDeployment="true")
    roles = [each["Properties"] for each in of_type(made, "AWS::IAM::Role").values()]
    documents = [policy["PolicyDocument"] for role in roles for policy in role["Policies"]]
    managed = of_type(made, "AWS::IAM::ManagedPolicy").values()
    documents += [each["Properties"]["PolicyDocument"] for each in managed]
    given, bounded = (
        {
            action
            for document in judged
            for statement in document["Statement"]
            if statement["Effect"] == "Allow"
            for action in listed(statement["Action"])
        }
        for judged in (documents, [policies()["PermissionsBoundary"]])
    )
    assert {"lambda:UpdateAlias", "lambda:InvokeFunction", "kms:Decrypt"} <= given
    assert "ec2:CreateNetworkInterface" in given
    assert bounded == given
    assert all("PermissionsBoundary" in role for role in roles)


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("lambda:UpdateAlias", "lambda:eu-west-3:000000000000:function:{}-WorkerFunction-1:live"),
        ("lambda:InvokeFunction", "lambda:eu-west-3:000000000000:function:{}-WatchFunction-1:live"),
        ("secretsmanager:GetSecretValue", "secretsmanager:eu-west-3:000000000000:secret:{}-1"),
        ("sqs:SendMessage", "sqs:eu-west-3:000000000000:{}-DeadLetterQueue-1"),
    ],
)
def test_the_boundary_holds_a_role_to_its_stack(endpoint, pipeline, action, resource):
    iam = stack.client(endpoint, "iam")
    version = iam.get_policy_version(PolicyArn=pipeline["PermissionsBoundaryArn"], VersionId="v1")
    decisions = [
        iam.simulate_custom_policy(
            PolicyInputList=[json.dumps(version["PolicyVersion"]["Document"])],
            ActionNames=[action],
            ResourceArns=[f"arn:aws:{resource.format(name)}"],
        )["EvaluationResults"][0]["EvalDecision"]
        for name in ("sms-cancel-production", "another")
    ]
    assert decisions == ["allowed", "implicitDeny"]


OWN = "sms-cancel-production"


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("sqs:DeleteQueue", f"sqs:eu-west-3:000000000000:{OWN}-Queue-1"),
        ("sns:Subscribe", f"sns:eu-west-3:000000000000:{OWN}-AlertTopic-1"),
        ("kms:PutKeyPolicy", "kms:eu-west-3:000000000000:key/1"),
        ("lambda:PublishVersion", f"lambda:eu-west-3:000000000000:function:{OWN}-ApiFunction-1"),
        ("lambda:UpdateAlias", f"lambda:eu-west-3:000000000000:function:{OWN}-ApiFunction-1:live"),
        ("logs:PutMetricFilter", f"logs:eu-west-3:000000000000:log-group:{OWN}-ApiLogGroup-1:*"),
        ("logs:CreateLogDelivery", "logs:eu-west-3:000000000000:any"),
        ("apigateway:POST", "apigateway:eu-west-3::/apis/1/authorizers"),
        ("cloudformation:CreateStack",
         f"cloudformation:eu-west-3:000000000000:stack/{OWN}-Monitoring-1/2"),
        ("cloudwatch:PutMetricAlarm",
         f"cloudwatch:eu-west-3:000000000000:alarm:{OWN}-Monitoring-1-TooLate-2"),
        ("cloudwatch:PutDashboard", "cloudwatch::000000000000:dashboard/Dashboard-1"),
        ("codedeploy:CreateDeployment",
         f"codedeploy:eu-west-3:000000000000:deploymentgroup:{OWN}-Application-1/{OWN}-Group-1"),
        ("codedeploy:GetDeploymentConfig", "codedeploy:eu-west-3:000000000000:deploymentconfig:1"),
        ("scheduler:CreateSchedule",
         f"scheduler:eu-west-3:000000000000:schedule/default/{OWN}-WatchSchedule-1"),
        ("iam:DeleteRole", f"iam::000000000000:role/{OWN}-ReleaseRole-1"),
        ("iam:CreatePolicy", f"iam::000000000000:policy/{OWN}-VpcPolicy-1"),
    ],
)  # fmt: skip
def test_cloudformation_may(endpoint, pipeline, action, resource):
    assert decision(endpoint, pipeline, action, resource) == "allowed"


def test_a_role_of_the_stack_is_handed_to_the_services_that_take_one_and_to_no_other():
    roles = of_type(transformed(GradualDeployment="true"), "AWS::IAM::Role").values()
    taken_by = {
        statement["Principal"]["Service"]
        for role in roles
        for statement in role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    }
    [handed] = [
        statement["Condition"]
        for statement in policies()["RolesPolicy"]["Statement"]
        if statement.get("Action") == "iam:PassRole"
    ]
    assert {name: set(each) for name, each in handed["StringEquals"].items()} == {
        "iam:PassedToService": taken_by
    }
    assert "scheduler.amazonaws.com" in taken_by


def test_the_role_of_cloudformation_is_handed_to_cloudformation_alone():
    own_role = LONGEST["CloudFormationRole.Arn"]
    handed = {
        name: statement["Condition"]
        for name, document in policies().items()
        for statement in document["Statement"]
        if statement.get("Action") == "iam:PassRole" and statement["Resource"] == own_role
    }
    to_cloudformation = {"StringEquals": {"iam:PassedToService": "cloudformation.amazonaws.com"}}
    # By a release, and by CloudFormation for the nested stack.
    assert handed == {"Release": to_cloudformation, "WatchingPolicy": to_cloudformation}
    statements = policies()["RolesPolicy"]["Statement"]
    [denied] = [each for each in statements if each["Effect"] == "Deny"]
    assert own_role in denied["Resource"]
    assert denied["NotAction"] == "iam:PassRole"


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("iam:CreateRole", "iam::000000000000:role/sms-cancel-production-Any"),  # no boundary
        ("iam:PutRolePolicy", "iam::000000000000:role/sms-cancel-production-Any"),
        ("iam:DeleteRolePermissionsBoundary", "iam::000000000000:role/sms-cancel-production-Any"),
        ("iam:UpdateAssumeRolePolicy", "iam::000000000000:role/another"),
        ("iam:UpdateAssumeRolePolicy", "iam::000000000000:role/sms-cancel-pipeline-DeployRole-1"),
        ("iam:CreatePolicyVersion", "iam::000000000000:policy/sms-cancel-pipeline-Boundary-1"),
        ("iam:PassRole", "iam::000000000000:role/sms-cancel-production-Any"),  # to no service
        ("lambda:UpdateFunctionCode", "lambda:eu-west-3:000000000000:function:another"),
        ("sqs:ReceiveMessage", "sqs:eu-west-3:000000000000:sms-cancel-production-Queue-1"),
        ("sqs:DeleteQueue", "sqs:eu-west-3:000000000000:another"),
        ("lambda:CreateFunctionUrlConfig", f"lambda:eu-west-3:000000000000:function:{OWN}-Any"),
        ("cloudwatch:PutMetricAlarm", "cloudwatch:eu-west-3:000000000000:alarm:another"),
        ("cloudwatch:PutDashboard", "cloudwatch::000000000000:dashboard/another"),
        ("cloudformation:UpdateStack", "cloudformation:eu-west-3:000000000000:stack/another/1"),
        ("codedeploy:CreateDeployment", "codedeploy:eu-west-3:000000000000:deploymentgroup:a/b"),
        ("secretsmanager:GetSecretValue", "secretsmanager:eu-west-3:000000000000:secret:Any"),
    ],
)
def test_cloudformation_may_not(endpoint, pipeline, action, resource):
    assert decision(endpoint, pipeline, action, resource).endswith("Deny")


def decision(endpoint, pipeline, action, resource):
    [simulated] = stack.client(endpoint, "iam").simulate_principal_policy(
        PolicySourceArn=pipeline["CloudFormationRoleArn"],
        ActionNames=[action],
        ResourceArns=[f"arn:aws:{resource}"],
    )["EvaluationResults"]
    return simulated["EvalDecision"]


def test_the_bill_of_materials_lists_all_that_ships():
    made = subprocess.run(
        ["make", "sbom"], cwd=stack.ROOT, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    bill = json.loads(stack.ROOT.joinpath("build", "sms-cancel.cdx.json").read_text())
    listed = {component["purl"].removeprefix("pkg:pypi/") for component in bill["components"]}
    manifest = stack.ROOT.joinpath("functions", "requirements.txt").read_text()
    pinned = set(re.findall(r"^([a-z0-9.-]+==[\w.]+)", manifest, re.MULTILINE))
    assert listed == {pin.replace("==", "@") for pin in pinned}
    assert bill["metadata"]["component"]["name"] == "sms-cancel"
