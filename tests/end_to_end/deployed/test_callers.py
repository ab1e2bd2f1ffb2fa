"""A second stack in the same account, with what is optional: callers with a JWT, and a VPC."""

import json
import time

import jwt
import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from conftest import KEY
from infra.local import stack
from infra.local.bundle import Bundle

AUDIENCE = "sms-cancel"
KEY_ID = "1"
PRIVATE_KEY = rsa.generate_private_key(65537, 2048)
STRANGERS_KEY = rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def issuer(_bundle) -> str:
    """An issuer of tokens: a public bucket with its OpenID configuration and its public key."""
    url = f"{_bundle.endpoint}/issuer"
    public_key = RSAAlgorithm.to_jwk(PRIVATE_KEY.public_key(), as_dict=True)
    documents = {
        ".well-known/openid-configuration": {"issuer": url, "jwks_uri": f"{url}/keys"},
        "keys": {"keys": [public_key | {"kid": KEY_ID, "alg": "RS256", "use": "sig"}]},
    }
    s3 = stack.client(_bundle.endpoint, "s3")
    s3.create_bucket(
        Bucket="issuer", CreateBucketConfiguration={"LocationConstraint": stack.REGION}
    )
    public = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::issuer/*",
    }
    policy = {"Version": "2012-10-17", "Statement": [public]}
    s3.delete_public_access_block(Bucket="issuer")
    s3.put_bucket_policy(Bucket="issuer", Policy=json.dumps(policy))
    for name, document in documents.items():
        s3.put_object(Bucket="issuer", Key=name, Body=json.dumps(document))
    return url


@pytest.fixture(scope="module")
def _second(_bundle, _provider, artifacts, issuer):
    outputs = stack.deploy(
        _bundle.endpoint,
        artifacts,
        "second",
        SmsPartnerUrl=_provider[1],
        JwtIssuer=issuer,
        JwtAudience=f"another,{AUDIENCE}",
        SubnetIds="subnet-1,subnet-2",
        SecurityGroupIds="sg-1,sg-2",
        AccountWatch="false",
    )
    deployed = Bundle(_bundle.endpoint, outputs)
    deployed.put_key(KEY)
    return deployed


@pytest.fixture
def second(_second, provider, written):
    return _second


def token(issuer, key=PRIVATE_KEY, **claims):
    claims = {"iss": issuer, "aud": AUDIENCE, "exp": int(time.time()) + 60} | claims
    return jwt.encode(claims, key, "RS256", headers={"kid": KEY_ID})


def delete(bundle, **headers):
    return bundle.call("DELETE", "/messages/300", None, **headers)


def test_a_valid_token_cancels(second, provider, issuer):
    provider.schedule(300, 3600)
    status, answer = delete(second, Authorization=f"Bearer {token(issuer)}")
    assert (status, answer["outcome"]) == (200, "cancelled")
    assert provider.state(300) == "cancelled"


REFUSED = {
    "wrong signature": {"key": STRANGERS_KEY},
    "expired": {"exp": int(time.time()) - 60},
    "wrong audience": {"aud": "a third"},
    "wrong issuer": {"iss": "https://issuer.invalid"},
    "not yet valid": {"nbf": int(time.time()) + 600},
}


@pytest.mark.parametrize("claims", REFUSED.values(), ids=REFUSED)
def test_another_token_is_refused(second, provider, issuer, claims):
    provider.schedule(300, 3600)
    status, answer = delete(second, Authorization=f"Bearer {token(issuer, **claims)}")
    assert (status, "message" in answer) == (401, True)
    assert provider.state(300) == "scheduled"


def test_no_token_is_refused(second, provider):
    provider.schedule(300, 3600)
    assert delete(second)[0] == 401
    assert provider.state(300) == "scheduled"


def test_a_signature_does_for_no_token(second, provider):
    provider.schedule(300, 3600)
    assert second.delete(300)[0] == 401
    assert provider.state(300) == "scheduled"


def test_in_a_vpc_both_roles_carry_its_policy_and_else_none(second):
    iam = stack.client(second.endpoint, "iam")
    carriers = set()
    for role in iam.list_roles()["Roles"]:
        attached = iam.list_attached_role_policies(RoleName=role["RoleName"])["AttachedPolicies"]
        if any("VpcPolicy" in policy["PolicyName"] for policy in attached):
            carriers.add(tuple(role["RoleName"].split("-")[:2]))
    assert carriers == {("second", "ApiRole"), ("second", "WorkerRole")}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"JwtIssuer": "https://issuer.invalid"}, "JwtIssuer and JwtAudience"),
        ({"JwtAudience": "sms-cancel"}, "JwtIssuer and JwtAudience"),
        ({"SubnetIds": "subnet-1,subnet-2"}, "SubnetIds and SecurityGroupIds"),
        ({"SecurityGroupIds": "sg-1"}, "SubnetIds and SecurityGroupIds"),
        (
            {"JwtIssuer": "http://issuer.invalid", "JwtAudience": "x"},
            "must be empty or an https URL",
        ),
        ({"SubnetIds": "subnet-1, subnet-2"}, "without spaces"),
        (
            {"ApiKeySecretKmsKeyArn": "arn:aws:kms:eu-west-3:000000000000:key/1"},
            "ApiKeySecretKmsKeyArn is the key of ApiKeySecretArn",
        ),
    ],
)
def test_a_wrong_or_half_a_setting_is_refused(bundle, parameters, message):
    cloudformation = stack.client(bundle.endpoint, "cloudformation")
    template = stack.ROOT.joinpath("template.yaml").read_text()
    with pytest.raises(ClientError, match=message):
        cloudformation.create_stack(
            StackName="half",
            TemplateBody=template.replace(" functions/\n", " s3://sms-cancel/function.zip\n"),
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
            Parameters=[
                {"ParameterKey": name, "ParameterValue": value}
                for name, value in parameters.items()
            ],
        )
