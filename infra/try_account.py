"""``make try-account``: test in your own account what only a real account can show.

It deploys a separate stack, cancels through both doors, updates the stack, rolls back an update,
deletes the stack, and prints what held. It takes about 15 minutes, costs a few cents, and needs the
credentials of an administrator.

SMSPARTNER_API_KEY=...  with a valid key, the cancel of an unknown SMS must end as not_found;
                        without one, SMS Partner must reject a made-up key
"""

import argparse
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError

from infra import version

SAM = Path(sys.executable).with_name("sam")
FUNCTIONS = ("ApiFunction", "WorkerFunction", "WatchFunction")
RETAINED = ("Queue", "DeadLetterQueue", "ApiKeySecret", "EncryptionKey")
UNKNOWN_ID = "999999999999"
TIMEOUT_S = 120  # a log line takes seconds, an alarm up to two minutes
SCHEDULE_S = 420  # the account watch first runs within six minutes; its log line takes seconds
DELETION_S = 1800  # a VPC's network interfaces alone take up to 20 minutes to delete
LOCAL = os.environ.get("AWS_ENDPOINT_URL")  # the endpoint of the local stack, if the tests run this


class DeploymentError(Exception):
    """A deployment failed; SAM has printed the reason."""


class Trial:
    """A stack to try, and the claims that did not hold in it."""

    def __init__(self, name: str, parameters: list[str]) -> None:
        self.name = name
        self.failed: list[str] = []
        self._parameters = parameters
        self.watched = "AccountWatch=false" not in parameters
        self._names = FUNCTIONS if self.watched else FUNCTIONS[:2]
        key = os.environ.get("SMSPARTNER_API_KEY")
        self._key = key or "made-up-by-try-account"
        self.expected = "not_found" if key else "api_key_rejected"
        self.cloudformation = boto3.client("cloudformation")
        self.functions = boto3.client("lambda")

    def holds(self, claim: str, seen: Any) -> None:
        """Print whether a claim holds; keep it in ``failed`` if not."""
        print(f"{'held' if seen else 'DID NOT HOLD':12}  {claim}", flush=True)
        if not seen:
            self.failed.append(claim)

    def deploy(self, *overrides: str, prefix: str = "try-account") -> None:
        """Deploy the built template; parameters keep their values in later deployments."""
        command = [SAM, "deploy", "--stack-name", self.name, "--resolve-s3", "--s3-prefix", prefix]
        command += ["--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
        command += ["--no-confirm-changeset", "--no-fail-on-empty-changeset"]
        parameters = [*self._parameters, *overrides]
        if parameters:
            command += ["--parameter-overrides", *parameters]
        _run(command)

    def put_key(self) -> None:
        secret = self.output("ApiKeySecretArn")
        boto3.client("secretsmanager").put_secret_value(SecretId=secret, SecretString=self._key)

    def described(self) -> dict[str, Any]:
        """Return CloudFormation's description of the stack, {} if there is none."""
        try:
            [stack] = self.cloudformation.describe_stacks(StackName=self.name)["Stacks"]
        except ClientError:
            return {}
        return dict(stack) if stack["StackStatus"] != "DELETE_COMPLETE" else {}

    def output(self, name: str) -> str:
        outputs = self.described()["Outputs"]
        return str({each["OutputKey"]: each["OutputValue"] for each in outputs}[name])

    def resource(self, logical_id: str) -> str:
        answer = self.cloudformation.describe_stack_resource(
            StackName=self.name, LogicalResourceId=logical_id
        )
        return str(answer["StackResourceDetail"]["PhysicalResourceId"])

    def versions(self) -> dict[str, list[int]]:
        """Return the published versions of each function, oldest first."""
        found = {}
        for name in self._names:
            pages = self.functions.get_paginator("list_versions_by_function").paginate(
                FunctionName=self.resource(name)
            )
            each = [version["Version"] for page in pages for version in page["Versions"]]
            found[name] = sorted(int(version) for version in each if version != "$LATEST")
        return found

    def live(self) -> dict[str, int]:
        """Return the version that each alias points to."""
        return {
            name: int(
                self.functions.get_alias(FunctionName=self.resource(name), Name="live")[
                    "FunctionVersion"
                ]
            )
            for name in self._names
        }

    def cancel(self, *, signed: bool = True) -> tuple[int, dict[str, Any]]:
        """Cancel an unknown SMS over HTTP; return status and answer."""
        url = f"{LOCAL}/_aws/execute-api/{self.output('ApiId')}/$default" if LOCAL else None
        request = AWSRequest("DELETE", f"{url or self.output('ApiUrl')}/messages/{UNKNOWN_ID}")
        if signed:
            session = boto3.Session()
            credentials = session.get_credentials()
            SigV4Auth(credentials, "execute-api", session.region_name).add_auth(request)
        headers = dict(request.headers)
        sent = urllib.request.Request(request.url, method="DELETE", headers=headers)  # noqa: S310
        tls = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE"))
        try:
            with urllib.request.urlopen(sent, timeout=35, context=tls) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, json.load(refusal)

    def settled_on_the_queue(self) -> bool:
        """Return whether the worker has logged the expected outcome."""
        lines = boto3.client("logs").filter_log_events(
            logGroupName=self.output("WorkerLogGroupName"), filterPattern='"cancel settled"'
        )["events"]
        settled = [json.loads(line["message"]) for line in lines]
        return self.expected in [each["outcome"] for each in settled]

    def account_watched(self) -> bool:
        """Return whether the account watch has run."""
        lines = boto3.client("logs").filter_log_events(
            logGroupName=self.resource("WatchLogGroup"), filterPattern='"account watched"'
        )
        return bool(lines["events"])


def try_doors(trial: Trial) -> None:
    """Cancel through both doors."""
    trial.holds("a signed cancel over HTTP ends as " + trial.expected, _outcome(trial))
    trial.holds("a cancel without a signature is refused", trial.cancel(signed=False)[0] == 403)
    sqs, queue_url = boto3.client("sqs"), trial.output("QueueUrl")
    sqs.send_message(QueueUrl=queue_url, MessageBody=json.dumps({"messageId": UNKNOWN_ID}))
    trial.holds(
        "a cancel on the queue ends as " + trial.expected, _eventually(trial.settled_on_the_queue)
    )
    try:
        sqs.send_message(QueueUrl=queue_url, MessageBody="x" * 16_385)
    except ClientError:
        trial.holds("the queue refuses a message of more than 16 KiB", seen=True)
    else:
        trial.holds("the queue refuses a message of more than 16 KiB", seen=False)
    if not LOCAL and trial.expected == "api_key_rejected":
        trial.holds("the alarm for a dead key is raised", _eventually(lambda: _raised(trial)))
    if not LOCAL and trial.watched:  # the local stack would first run it in five minutes
        ran = _eventually(trial.account_watched, SCHEDULE_S)
        trial.holds("the account watch runs on schedule", ran)


def try_updates(trial: Trial) -> None:
    """Update the stack in ways that once failed, and roll back to the first version."""
    first = trial.versions()
    trial.deploy(prefix="try-account-again")
    trial.holds("the same code uploaded elsewhere publishes no version", trial.versions() == first)
    trial.deploy("LogRetentionDays=3")
    trial.holds("a parameter that no function uses publishes no version", trial.versions() == first)
    trial.deploy("LogRetentionDays=3", "SmsPartnerFormat=xml")
    second = trial.versions()
    one_more = {name: len(numbers) + 1 for name, numbers in first.items()}
    newest = {name: numbers[-1] for name, numbers in second.items()}
    counts = {name: len(numbers) for name, numbers in second.items()}
    trial.holds(
        "a parameter that all functions use publishes a version of each", counts == one_more
    )
    trial.holds("the aliases point to the new versions", trial.live() == newest)
    trial.holds("the updated stack cancels", _outcome(trial))
    for name in first:
        trial.functions.update_alias(
            FunctionName=trial.resource(name), Name="live", FunctionVersion=str(first[name][-1])
        )
    trial.holds("the stack cancels after a rollback of the aliases", _outcome(trial))


def delete(trial: Trial) -> None:
    """Delete the stack and the resources that it retains."""
    if "Outputs" not in trial.described():  # it was never created, so nothing is retained
        trial.cloudformation.delete_stack(StackName=trial.name)
        return
    kept = {logical_id: trial.resource(logical_id) for logical_id in RETAINED}
    secret_arn = trial.output("ApiKeySecretArn")
    trial.cloudformation.delete_stack(StackName=trial.name)
    gone = _eventually(lambda: not trial.described(), DELETION_S)
    trial.holds("the stack can be deleted", gone)
    sqs = boto3.client("sqs")
    for name in ("Queue", "DeadLetterQueue"):
        found = sqs.get_queue_attributes(QueueUrl=kept[name], AttributeNames=["QueueArn"])
        trial.holds(f"{name} is retained", found)
        sqs.delete_queue(QueueUrl=kept[name])
    secrets, kms = boto3.client("secretsmanager"), boto3.client("kms")
    value = secrets.get_secret_value(SecretId=secret_arn)["SecretString"]
    trial.holds("the secret is retained, and can still be decrypted", value)
    secrets.delete_secret(SecretId=secret_arn, ForceDeleteWithoutRecovery=True)
    kms.schedule_key_deletion(KeyId=kept["EncryptionKey"], PendingWindowInDays=7)


def _outcome(trial: Trial) -> bool:
    """Return whether a cancel over HTTP ends as expected; it is retried after 503 and 504."""
    answers = []

    def settled() -> bool:
        answers.append(trial.cancel())
        return answers[-1][0] not in (503, 504)

    _eventually(settled)
    return bool(answers[-1][1].get("outcome") == trial.expected)


def _raised(trial: Trial) -> bool:
    prefix = f"{trial.name}-Monitoring-"
    alarms = boto3.client("cloudwatch").describe_alarms(AlarmNamePrefix=prefix, StateValue="ALARM")
    return any("ApiKeyRejected" in each["AlarmName"] for each in alarms["MetricAlarms"])


def _eventually(condition: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> bool:
    give_up_at = time.monotonic() + timeout_s
    while not (held := condition()) and time.monotonic() < give_up_at:
        time.sleep(1 if LOCAL else 5)
    return held


def _run(command: list[Any]) -> None:
    environment = os.environ | {"SAM_CLI_TELEMETRY": "0", "PYTHON": sys.executable}
    environment.pop("SMSPARTNER_API_KEY", None)
    ended = subprocess.run(  # noqa: S603
        command, env=environment, check=False, stdout=subprocess.PIPE, text=True
    )
    if ended.returncode:
        print(ended.stdout)  # SAM's table of what failed in CloudFormation
        raise DeploymentError


def main() -> int:
    """Try everything in one stack; return 0 if all of it held."""
    parser = argparse.ArgumentParser(prog="make try-account", description=__doc__)
    parser.add_argument("--stack", default="sms-cancel-try", help="the name of the stack to create")
    parser.add_argument("--keep", action="store_true", help="do not delete the stack at the end")
    parser.add_argument("parameters", nargs="*", help="parameters of the stack, as NAME=VALUE")
    given = parser.parse_args()
    trial = Trial(given.stack, given.parameters)
    if trial.described():
        parser.error(f"the stack {trial.name} already exists: choose another name with --stack")
    _run([SAM, "build"])
    version.mark(version.BUILT)
    try:
        trial.deploy()
        trial.holds("the stack can be deployed", seen=True)
        trial.put_key()
        try_doors(trial)
        try_updates(trial)
    except DeploymentError:
        trial.holds("each deployment succeeds", seen=False)
    finally:
        if not given.keep:
            delete(trial)
    print(f"{len(trial.failed)} did not hold" if trial.failed else "everything held")
    return 1 if trial.failed else 0


if __name__ == "__main__":
    sys.exit(main())
