"""Clients of AWS services: one of each, on one session, with short timeouts."""

import threading
from typing import Any

import botocore.session
from botocore.config import Config

# The build leaves out botocore's data of all others.
SERVICES = ("events", "secretsmanager", "sns", "sqs")

# Two tries of one second each and a pause of at most one: a service that hangs costs 3 s (more
# only where it has several addresses and none answers). botocore's own defaults (60 s, five tries)
# would outlast the function.
_CONFIG = Config(
    connect_timeout=1,
    read_timeout=1,
    retries={"mode": "standard", "total_max_attempts": 2},
    max_pool_connections=20,
)

_clients: dict[tuple[str, str], Any] = {}
# Not by boto3: what it adds, S3 transfers and resources, costs time at each start for nothing.
_session = botocore.session.Session()
_lock = threading.Lock()  # a session is not safe to create clients from two threads


def reason(error: Exception) -> str:
    """Return why a call failed, by name: the texts of these exceptions are not ours to log."""
    # Some of botocore's exceptions have a ``response`` that is None.
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code") or type(error).__name__)


def client(service: str, region: str | None = None) -> Any:
    """Return the botocore client of one of the SERVICES, made at its first use.

    ``region``: the one to call, by default the functions' own.
    """
    if service not in SERVICES:
        raise ValueError(f"add {service!r} to SERVICES in {__name__}: its data does not ship")
    with _lock:
        key = service, region or str(_session.get_config_variable("region"))
        if key not in _clients:
            _clients[key] = _session.create_client(*key, config=_CONFIG)
        return _clients[key]
