"""The SMS Partner API key, kept in Secrets Manager and cached in the execution environment."""

import json
import re
import threading
import time

from botocore.exceptions import BotoCoreError, ClientError

from sms_cancel import aws
from sms_cancel.environment import required
from sms_cancel.telemetry import logger

CACHE_S = 300
RETRY_S = 10  # after a failure: soon enough to recover, seldom enough not to slow each cancel down
REFETCH_COOLDOWN_S = 30

_USABLE = re.compile(r"[!-~]+")  # visible ASCII: white space inside is a paste gone wrong


class ApiKey:
    """The key in force, safe to use from many threads: whoever comes second waits for the first.

    The secret (its ARN in ``API_KEY_SECRET_ARN``) is the plain key, or JSON ``{"apiKey": "KEY"}``.
    """

    def __init__(self) -> None:
        self._value: str | None = None
        self._fetch_after = 0.0
        self._refetch_after = 0.0
        self._lock = threading.Lock()

    def current(self) -> str | None:
        """Return the key, None if there is no usable one.

        While Secrets Manager cannot be reached, the last key it gave stays in force.
        """
        with self._lock:
            if time.monotonic() >= self._fetch_after:
                self._fetch()
            return self._value

    def replacement(self, rejected: str) -> str | None:
        """Return the key that has replaced the rejected one, None if none has.

        Asks Secrets Manager past the cache, but not again within 30 s.
        """
        with self._lock:
            if self._value == rejected and time.monotonic() >= self._refetch_after:
                self._refetch_after = time.monotonic() + REFETCH_COOLDOWN_S
                self._fetch()
            return None if self._value == rejected else self._value

    def _fetch(self) -> None:
        try:
            answer = aws.client("secretsmanager").get_secret_value(
                SecretId=required("API_KEY_SECRET_ARN")
            )
        except (BotoCoreError, ClientError) as error:
            # The reason by name only: the texts of these exceptions are not ours.
            reason = getattr(error, "response", {}).get("Error", {}).get("Code")
            logger.warning(
                "secret not read",
                extra={"reason": reason or type(error).__name__, "stale_key": bool(self._value)},
            )
            self._fetch_after = time.monotonic() + RETRY_S
            return
        self._value = parse(answer.get("SecretString", ""))
        if self._value is None:
            logger.error('secret not usable: it must be the plain key, or {"apiKey": "KEY"}')
        self._fetch_after = time.monotonic() + (CACHE_S if self._value else RETRY_S)


def parse(secret: str) -> str | None:
    """Return the key that a secret's text holds, None if it is empty or of another form."""
    key: object = secret.strip()
    if secret.lstrip()[:1] in ("{", "["):
        try:
            document = json.loads(secret)
        except (ValueError, RecursionError):
            return None
        key = document.get("apiKey") if isinstance(document, dict) else None
        key = key.strip() if isinstance(key, str) else None
    return key if isinstance(key, str) and _USABLE.fullmatch(key) else None
