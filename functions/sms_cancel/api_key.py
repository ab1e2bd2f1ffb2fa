"""The SMS Partner API key, kept in Secrets Manager and cached in the execution environment."""

import json
import re
import threading
import time
from collections import Counter

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
        self._is_stale = False
        self._events: Counter[str] = Counter()
        self._lock = threading.Lock()

    def current(self) -> str | None:
        """Return the key, None if there is no usable one.

        While Secrets Manager cannot be reached, the last key it gave stays in force.
        """
        with self._lock:
            if time.monotonic() >= self._fetch_after:
                self._fetch()
            self._events["StaleKeyUsed"] += self._is_stale and self._value is not None
            return self._value

    def prefetch(self) -> None:
        """Fetch the key before anybody asks; where that fails, the first who does tries again."""
        if self.current() is None:
            self._fetch_after = 0.0

    def replacement(self, rejected: str) -> str | None:
        """Return the key that has replaced the rejected one, None if none has.

        Asks Secrets Manager past the cache, but not again within 30 s.
        """
        with self._lock:
            if self._value == rejected and time.monotonic() >= self._refetch_after:
                self._refetch_after = time.monotonic() + REFETCH_COOLDOWN_S
                self._events["KeyRefetched"] += 1
                self._fetch()
            return None if self._value == rejected else self._value

    def take_events(self) -> dict[str, int]:
        """Return how often the secret was refetched and a stale key used since the last call."""
        with self._lock:
            events = {name: self._events[name] for name in ("KeyRefetched", "StaleKeyUsed")}
            self._events.clear()
            return events

    def _fetch(self) -> None:
        secret_arn = required("API_KEY_SECRET_ARN")
        try:
            region = secret_arn.split(":")[3]  # not necessarily the functions'
            answer = aws.client("secretsmanager", region).get_secret_value(SecretId=secret_arn)
            secret = answer["SecretString"] if "SecretBinary" not in answer else ""
        except Exception as error:  # noqa: BLE001  an odd answer makes botocore raise what it likes
            logger.warning(
                "secret not read",
                extra={"reason": aws.reason(error), "stale_key": self._value is not None},
            )
            self._is_stale = True
            self._fetch_after = time.monotonic() + RETRY_S
            return
        self._value = parse(secret)
        self._is_stale = False
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
