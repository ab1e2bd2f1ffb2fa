"""Calls to AWS services: one client of each, and no call lasts longer than ``CALL_S``."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3.session
from botocore.config import Config

SERVICES = ("events", "secretsmanager", "sns", "sqs")  # the build removes the data of all others

CALL_S = 2  # two tries and the pause between them; a service that answers needs a tenth of it

# Each bounds one step: connecting to one address, the TLS handshake, one read. Together they may
# take 7 s, and a service that drips its answer never ends: hence CALL_S.
_RETRIES = {"mode": "standard", "total_max_attempts": 2}
_CONFIG = Config(connect_timeout=1, read_timeout=1, retries=_RETRIES, max_pool_connections=20)
_session = boto3.session.Session()
_clients: dict[str, Any] = {}
_lock = threading.Lock()  # two threads must not create clients from one session
_threads = ThreadPoolExecutor(max_workers=64)  # many, because a call that hangs keeps its thread


def client(service: str) -> Any:
    """Return the client of one of the SERVICES, made at its first use."""
    if service not in SERVICES:
        raise ValueError(f"add {service!r} to SERVICES in {__name__}: its data does not ship")
    with _lock:
        if service not in _clients:
            # The secret may be in another region; None is the function's own.
            arn = os.environ.get("API_KEY_SECRET_ARN", "") if service == "secretsmanager" else ""
            region = arn.split(":")[3] if arn.startswith("arn:") else None
            _clients[service] = _session.client(service, region, config=_CONFIG)
        return _clients[service]


def call(service: str, operation: str, **parameters: Any) -> Any:
    """Call a service (``"sqs", "send_message"``); raises TimeoutError after ``CALL_S``."""
    running = _threads.submit(getattr(client(service), operation), **parameters)
    try:
        return running.result(CALL_S)
    finally:
        running.cancel()  # a call that still waits for a thread must not start later


def send_batch(service: str, operation: str, **parameters: Any) -> tuple[set[str], str]:
    """Call a batch operation; return the ids that it confirms, and the reasons for the others."""
    try:
        answer = call(service, operation, **parameters)
        confirmed = {each["Id"] for each in answer.get("Successful", [])}
        reasons = {str(each["Code"]) for each in answer.get("Failed", [])}
        entries = answer.get("Entries", [])  # EventBridge has one list of both
        confirmed |= {each["EventId"] for each in entries if "EventId" in each}
        reasons |= {str(each["ErrorCode"]) for each in entries if "ErrorCode" in each}
    except Exception as error:  # noqa: BLE001  botocore may raise anything on a malformed answer
        confirmed, reasons = set(), {reason(error)}
    return confirmed, ", ".join(sorted(reasons))


def reason(error: Exception) -> str:
    """Return why a call failed, by name: the texts of these exceptions are not ours to log."""
    response = getattr(error, "response", None) or {}  # some of botocore's exceptions have None
    return str(response.get("Error", {}).get("Code") or type(error).__name__)


def attributes(**values: str | int | None) -> dict[str, dict[str, str]]:
    """Return message attributes as SNS and SQS take them; they refuse empty ones, such as None."""
    types = {str: "String", int: "Number"}
    given = {name: value for name, value in values.items() if value is not None}
    return {n: {"DataType": types[type(v)], "StringValue": str(v)} for n, v in given.items()}
