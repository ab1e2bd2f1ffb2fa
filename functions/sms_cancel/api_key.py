"""The SMS Partner API key: kept in Secrets Manager, cached in the execution environment."""

import logging
import os
import re
import threading
import time

from sms_cancel import aws
from sms_cancel.request import InvalidJson, load, trim
from sms_cancel.telemetry import logger, write

CACHE_S = 300
RETRY_S = 10  # after a failed read: soon enough to recover, seldom enough not to slow each cancel
REFETCH_COOLDOWN_S = 30


class Unusable(Exception):
    """The secret holds no key; the text says why and holds nothing of the secret."""


class ApiKey:
    """The key in force, safe to use from many threads: while one fetches, the others wait.

    All times are of the wall clock: a monotonic one may stop while Lambda freezes the process.
    """

    def __init__(self) -> None:
        self._value: str | None = None
        self._read_at = self._refetched_at = float("-inf")
        self._lasts_s = 0
        self._lock = threading.Lock()

    def current(self) -> str | None:
        """Return the key, or None if there is no usable one.

        While Secrets Manager cannot be reached, the last key it gave stays in force.
        """
        with self._lock:
            if _has_expired(self._read_at, self._lasts_s):
                self._fetch()
            return self._value

    def prefetch(self) -> None:
        """Fetch the key before the first cancel, which tries again at once if this fails."""
        if self.current() is None:
            self._lasts_s = 0

    def replacement(self, rejected: str) -> str | None:
        """Return the key that has replaced the rejected one, or None.

        Bypasses the cache, but at most once in 30 s.
        """
        with self._lock:
            if self._value == rejected and _has_expired(self._refetched_at, REFETCH_COOLDOWN_S):
                self._refetched_at = time.time()
                write(logging.INFO, "key refetched", metrics={"KeyRefetched": 1})
                self._fetch()
            return None if self._value == rejected else self._value

    def _fetch(self) -> None:
        secret_arn = os.environ["API_KEY_SECRET_ARN"]
        self._read_at, self._lasts_s = time.time(), RETRY_S
        try:
            answer = aws.call("secretsmanager", "get_secret_value", SecretId=secret_arn)
            self._value = parse(answer["SecretString"] if "SecretBinary" not in answer else None)
            self._lasts_s = CACHE_S
        except Unusable as cause:
            self._value = None
            logger.error("secret not usable", extra={"cause": str(cause)})
        except Exception as error:  # noqa: BLE001  botocore may raise anything on a malformed answer
            stale, why = self._value is not None, aws.reason(error)
            metrics = {"StaleKeyUsed": 1 if stale else None}
            write(logging.WARNING, "secret not read", metrics=metrics, reason=why, stale_key=stale)


def _has_expired(since: float, lasts_s: float) -> bool:
    return not 0 <= time.time() - since < lasts_s  # negative: the clock was set back


def parse(secret: str | None) -> str:
    """Return the key in a secret: the plain key, or JSON ``{"apiKey": "KEY"}`` or ``"KEY"``.

    Raises Unusable. None stands for a binary secret.
    """
    if secret is None:
        raise Unusable("binary: store the key as text")
    key = trim(secret)
    if key.startswith(("{", "[", '"')):
        key = _from_json(key)
    if not key:
        raise Unusable("empty")
    if not re.fullmatch("[!-~]+", key):  # anything but visible ASCII is a paste error
        raise Unusable("white space or other characters inside the key")
    return key


def _from_json(text: str) -> str:
    try:
        document = load(text)
        return trim(document["apiKey"] if isinstance(document, dict) else document)
    except (InvalidJson, KeyError, AttributeError):  # AttributeError: it is not text
        raise Unusable('JSON without a text "apiKey"') from None
