"""Releasing: infra/pipeline.yaml on the local stack, and ``make deploy`` with the role it makes.

The local stack knows neither OIDC providers nor the condition cloudformation:RoleArn, and without
TLS every request to the bucket would be denied: the pipeline is deployed without these three.
What CloudFormation does for a stack, it does there with all rights: see the last test but one.
"""

import base64
import json
import os
import re
import subprocess
from fnmatch import fnmatchcase

import pytest
from botocore.exceptions import ClientError

from conftest import KEY
from infra.local import stack
from infra.local.bundle import Bundle
from infra.local.provider import Provider
from infra.local.provider_server import serve

from .conftest import LOCAL_PYTHON, PATIENCE_S, eventually

SAM = stack.ROOT / ".venv-sam" / "bin" / "sam"
SAM_PYTHON = SAM.with_name("python")
ISSUER = "token.actions.githubusercontent.com"
RELEASES = "repo:octo@1/sms@2:environment:production"
UNKNOWN_HERE = (
    r"  ArtifactsBucketPolicy:\n.*?\n\n",
    r" +Condition:\n +StringEquals:\n +cloudformation:RoleArn: [^\n]*\n",
)


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
    template = stack.ROOT.joinpath("infra", "pipeline.yaml").read_text()
    for unknown in UNKNOWN_HERE:
        template, count = re.subn(unknown, "", template, flags=re.DOTALL)
        assert count == 1
    provider = f"arn:aws:iam::000000000000:oidc-provider/{ISSUER}"
    parameters = {"GitHubRepository": "octo@1/sms@2", "GitHubProviderArn": provider}
    cloudformation = stack.client(endpoint, "cloudformation")
    cloudformation.create_stack(
        StackName="sms-cancel-pipeline",
        TemplateBody=template,
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
        if resource["LogicalResourceId"] in {"ApiRole", "WorkerRole"}
    }
    assert len(roles) == 2
    for role in roles:
        stack.client(endpoint, "iam").put_role_permissions_boundary(
            RoleName=role, PermissionsBoundary=arn
        )


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
    "lambda:AssociateRuntimeAlias", "lambda:PassCapacityProvider",
    "kms:CreateGrant", "kms:Encrypt",  # a function's environment under a key of its own
    "iam:*Group*", "iam:*User*", "iam:DeleteRolePermissionsBoundary",
    "logs:PutBearerTokenAuthentication",
    "secretsmanager:GetRandomPassword", "secretsmanager:GetSecretValue",
    "secretsmanager:RemoveRegionsFromReplication", "secretsmanager:ReplicateSecretToRegions",
}  # fmt: skip
FROM_SAM = {
    "AWS::Lambda::Function", "AWS::Lambda::Version", "AWS::Lambda::Alias",
    "AWS::Lambda::EventSourceMapping", "AWS::CodeDeploy::Application",
    "AWS::CodeDeploy::DeploymentGroup",
}  # fmt: skip
ASKED_FOR = """
import json, sys
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER as schemas
asked = {}
for name in sys.argv[1:]:
    handlers = schemas.get_resource_schema("us-east-1", name).schema["handlers"]
    asked[name] = [p for do in ("create", "update", "delete") if do in handlers
                   for p in handlers[do]["permissions"]]
print(json.dumps(asked))
"""


def test_cloudformation_may_do_what_each_resource_type_asks_for(endpoint, pipeline):
    iam = stack.client(endpoint, "iam")
    role = pipeline["CloudFormationRoleArn"].split("/")[-1]
    allowed = set()
    for policy in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        version = iam.get_policy_version(PolicyArn=policy["PolicyArn"], VersionId="v1")
        document = version["PolicyVersion"]["Document"]
        for statement in document["Statement"]:
            if statement["Effect"] == "Allow":
                actions = statement["Action"]
                allowed |= {actions} if isinstance(actions, str) else set(actions)
    files = [stack.ROOT / "template.yaml", *stack.ROOT.glob("infra/*.yaml")]
    text = "".join(path.read_text() for path in files if path.name != "pipeline.yaml")
    types = FROM_SAM | set(re.findall(r"Type: (AWS::(?!Serverless|SSM::Parameter)\w+::\w+)", text))
    asked = subprocess.run(
        [SAM_PYTHON, "-c", ASKED_FOR, *types], capture_output=True, text=True, check=True
    )
    missing = {
        (name, action)
        for name, actions in json.loads(asked.stdout).items()
        for action in actions
        if not any(fnmatchcase(action.lower(), known.lower()) for known in allowed | NOT_NEEDED)
    }
    assert len(types) > len(FROM_SAM)
    assert missing == set()


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
        ("secretsmanager:GetSecretValue", "secretsmanager:eu-west-3:000000000000:secret:Any"),
    ],
)
def test_cloudformation_may_not(endpoint, pipeline, action, resource):
    assert decision(endpoint, pipeline, action, resource).endswith("Deny")
    own_queue = "sqs:eu-west-3:000000000000:sms-cancel-production-Queue-1"
    assert decision(endpoint, pipeline, "sqs:DeleteQueue", own_queue) == "allowed"


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
