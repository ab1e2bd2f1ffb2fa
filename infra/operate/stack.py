"""Finds the deployed bundle by the outputs of its stack, and calls it."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from threading import Lock
from typing import Any

import boto3
import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
)
from botocore.exceptions import ConnectionError as NoConnection
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

from .ending import Ending, ExitCode
from .plan import AT_ONCE

LOCAL = Path(__file__).parents[2] / "build" / "local-stack.json"  # and local-stack-*.json
API_TIMEOUT_S = (5, 35)  # to connect and to read; API Gateway answers within 30 s

LOGGED_OUT = re.compile(
    "ExpiredToken|InvalidClientTokenId|RequestExpired|SignatureDoesNotMatch|UnrecognizedClient"
)


class Stack:
    """A deployed bundle. ``begun_at``: when the command found it, by AWS's clock.

    ``local``: how to reach a local stack, as ``make run`` writes it.
    """

    def __init__(self, name: str, local: dict[str, str] | None = None) -> None:
        self.name = name
        self.is_local = local is not None
        self._lock = Lock()
        core = botocore.session.Session()
        self._client_options: dict[str, Any] = {}
        if local:
            core.set_credentials(local["access_key"], local["secret_key"])
            core.set_config_variable("region", local["region"])
            core.set_config_variable("ca_bundle", local["ca_file"])
            self._client_options["endpoint_url"] = local["endpoint"]
        self._session = boto3.Session(botocore_session=core)
        self.region = self._session.region_name
        outputs = self._describe()
        self.api_url = local["api_url"] if local else outputs["ApiUrl"]
        self.queue_url = outputs["QueueUrl"]
        self.queue_arn = outputs["QueueArn"]
        self.dead_letter_queue_url = outputs["DeadLetterQueueUrl"]
        self.log_group_name = outputs["WorkerLogGroupName"]
        self._credentials = self._session.get_credentials()
        self._http = URLLib3Session(
            verify=core.get_config_variable("ca_bundle") or True,
            proxies=get_environ_proxies(self.api_url),
            timeout=API_TIMEOUT_S,
            max_pool_connections=AT_ONCE,
        )

    def now(self) -> datetime:
        """Return the time by AWS's clock, because this machine's may be wrong by minutes."""
        # Monotonic clocks may stop while a laptop sleeps, and the wall clock may be set back.
        passed_s = max(time.monotonic() - self._begun_at_s, time.time() - self._begun_at_unix_s)
        return self.begun_at + timedelta(seconds=passed_s)

    def client(self, service: str, tries: int = 3, timeout_s: float = 30) -> Any:
        retries = {"mode": "standard", "total_max_attempts": tries}
        connect_s = min(timeout_s / 2, 5)
        config = Config(connect_timeout=connect_s, read_timeout=timeout_s, retries=retries)
        with self._lock:  # sessions are not thread-safe
            return self._session.client(service, config=config, **self._client_options)

    def post(self, path: str, body: dict[str, Any]) -> AWSResponse:
        """Call the API, signed; raise BotoCoreError if there is no answer."""
        request = AWSRequest(
            "POST",
            self.api_url + path,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        credentials = self._credentials.get_frozen_credentials()  # refreshed if they can be
        SigV4Auth(credentials, "execute-api", self.region).add_auth(request)
        return self._http.send(request.prepare())

    def _describe(self) -> dict[str, str]:
        answer = self.client("cloudformation").describe_stacks(StackName=self.name)
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        self._begun_at_s, self._begun_at_unix_s = time.monotonic(), time.time()
        self.begun_at = parsedate_to_datetime(date) if date else datetime.now(UTC)
        [described] = answer["Stacks"]
        return {each["OutputKey"]: each["OutputValue"] for each in described.get("Outputs", [])}


def find(name: str | None) -> Stack:
    """Return the stack with this name, or the local one for None; raise Ending if not found."""
    if name is not None and not name.strip():  # to AWS, an empty name means all stacks
        raise Ending("--stack needs the name of a stack")
    try:
        with explained(ExitCode.NOTHING_SENT):
            return _find_local() if name is None else Stack(name.strip())
    except KeyError as missing:
        text = f"the stack has no output {missing}: it is not sms-cancel, or another version of it"
        raise Ending(text) from missing


def _find_local() -> Stack:
    """Return the newest local stack that answers; a killed one leaves its file behind."""
    files = LOCAL.parent.glob(f"{LOCAL.stem}*.json")
    for file in sorted(files, key=lambda each: each.stat().st_mtime, reverse=True):
        with suppress(OSError, ValueError, NoConnection):
            local = json.loads(file.read_text())
            return Stack(local["stack"], local)
    raise Ending("no local stack is running: start one with `make run`, and leave it running")


def json_object(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object; anything else counts as an empty one."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


@contextmanager
def explained(code: ExitCode) -> Iterator[None]:
    """Turn errors of AWS, boto3 and files into an Ending that says what to do."""
    try:
        yield
    except (BotoCoreError, ClientError, OSError) as error:
        raise Ending(_explain(error), code) from error


def _explain(error: Exception) -> str:
    if isinstance(error, NoCredentialsError):
        return "no AWS credentials: log in (aws sso login), or set AWS_PROFILE, and run it again"
    if isinstance(error, NoRegionError):
        return "no AWS region: set AWS_DEFAULT_REGION to the stack's region, and run it again"
    if isinstance(error, NoConnection | HTTPClientError):
        return f"{error}: check the network, and run it again"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if not isinstance(error, ClientError):
        return str(error)
    refusal = error.response["Error"]
    if LOGGED_OUT.match(refusal["Code"]):
        return "the AWS credentials are wrong or have expired: log in, and run it again"
    text = f"AWS answered {refusal['Code']} to {error.operation_name}: {refusal['Message']}"
    is_first = error.operation_name == "DescribeStacks"
    return f"{text.rstrip('.')}: check --stack, the account and the region" if is_first else text
