"""``make deploy``: check what a deployment needs, then build and deploy with the SAM CLI."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from infra import version

ROOT = Path(__file__).parents[1]
SAM = str(Path(sys.executable).with_name("sam"))
NEXT = """
In a new stack, every cancel ends as key_unavailable until the secret holds SMS Partner's API key.
Write the key to a file, and the file to the secret (its ARN is the output ApiKeySecretArn):
  aws secretsmanager put-secret-value --secret-id <ApiKeySecretArn> --secret-string file://key.txt
  rm key.txt
"""


def check(environment: str) -> None:
    """Exit and say what to do if the environment, the region or the credentials are missing."""
    known = tomllib.loads((ROOT / "samconfig.toml").read_text())
    environments = [name for name, section in known.items() if isinstance(section, dict)]
    if environment not in environments:
        sys.exit(
            f"samconfig.toml has no environment named {environment}: "
            f"use one of {', '.join(environments)}, or add a section for it. If ENVIRONMENT is not "
            "set, it is default: the stack sms-cancel-development"
        )
    if region := os.environ.get("AWS_REGION"):  # which boto3 and the SAM CLI do not read
        os.environ.setdefault("AWS_DEFAULT_REGION", region)
    try:
        session = boto3.Session()
        if not session.region_name:
            sys.exit("No AWS region is set: set AWS_REGION, or run `aws configure`")
        account = session.client("sts").get_caller_identity()["Account"]
    except ClientError as error:
        sys.exit(f"AWS refuses your credentials ({error.response['Error']['Code']}): sign in again")
    except BotoCoreError as error:
        reason = str(error).rstrip(".")
        sys.exit(f"Your AWS account cannot be determined: {reason}. Sign in, or set AWS_PROFILE")
    print(f"Deploying {environment} to account {account}, region {session.region_name}", flush=True)


def main() -> None:
    """Deploy the ``ENVIRONMENT`` of samconfig.toml; if the SAM CLI fails, exit with its code."""
    environment = os.environ.get("ENVIRONMENT") or "default"
    check(environment)
    os.environ |= {"SAM_CLI_TELEMETRY": "0", "PYTHON": sys.executable}
    _sam("build")
    version.mark(ROOT / version.BUILT)
    _sam("deploy", "--config-env", environment, *os.environ.get("SAM_DEPLOY", "").split())
    print(NEXT)


def _sam(*command: str) -> None:
    if code := subprocess.run([SAM, *command], cwd=ROOT, check=False).returncode:  # noqa: S603
        sys.exit(code)


if __name__ == "__main__":
    main()
