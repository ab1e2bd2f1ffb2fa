"""SMS Partner's ``message-cancel``: one GET, and a pure reading of its answer.

Source: the provider's pages "Cancel Scheduled SMS" (two versions are in use: the older lists
code 7 and not 11, the newer 11 and not 7) and its list of error codes.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests

from sms_cancel.deadline import Deadline, DeadlineAdapter
from sms_cancel.environment import ConfigurationError
from sms_cancel.outcome import Outcome

DEFAULT_URL = "https://api.smspartner.fr/v1"
MAX_BODY_BYTES = 16 * 1024  # a hundred times the longest published answer
MAX_CODE = 999_999_999  # a longer number is no code; SQS and SNS would refuse it as an attribute
MAX_ADDRESSES = 3  # of the host: so many may be dead, each has its share of the deadline

REFUSALS = {
    1: Outcome.API_KEY_REJECTED,
    4: Outcome.NOT_FOUND,
    5: Outcome.ALREADY_CANCELLED,
    6: Outcome.TOO_LATE,
    7: Outcome.ALREADY_SENT,
    10: Outcome.API_KEY_REJECTED,
    11: Outcome.CREDITS_EXHAUSTED,
    20: Outcome.ACCOUNT_BLOCKED,
    30: Outcome.ACCOUNT_BLOCKED,
    40: Outcome.ACCOUNT_BLOCKED,
    96: Outcome.ACCOUNT_BLOCKED,
    429: Outcome.THROTTLED,
}

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_XML_DECLARATIONS = re.compile(r"\s*(<\?xml[^>]*\?>\s*)*")
_HEADERS = {"User-Agent": "sms-cancel", "Accept-Encoding": "identity"}
# The build makes a folder of the root certificates in which OpenSSL looks up the one that it needs;
# certifi's one file would be read whole for each new connection, 15 ms of CPU.
_CA_FOLDER = Path(__file__).parents[1] / "ca-certificates"
_VERIFY = str(_CA_FOLDER) if _CA_FOLDER.is_dir() else True
_adapter = DeadlineAdapter(pool_maxsize=20)


class Answer(NamedTuple):
    """What one call came to: the outcome, and the provider's code and HTTP status if it had any."""

    outcome: Outcome
    code: int | None = None
    http_status: int | None = None


def cancel(api_key: str, message_id: str, deadline_s: float) -> Answer:
    """Ask the provider once to cancel a message, in at most ``deadline_s`` seconds.

    Returns an Answer whatever happens on the wire, since the text of an HTTP library's
    exception holds the URL and so the key. Raises ConfigurationError only.
    """
    url, answer_format = endpoint()
    query = {"apiKey": api_key, "messageId": message_id}
    if answer_format != "json":
        query["_format"] = answer_format
    request = requests.Request("GET", f"{url}/message-cancel", params=query, headers=_HEADERS)
    timeout = (deadline_s / MAX_ADDRESSES, None)  # what comes after connecting, the deadline ends
    with Deadline(deadline_s) as deadline:
        try:
            # No requests.Session: it would follow redirects, keep cookies, and take proxies,
            # .netrc and CA bundles from the environment.
            with _adapter.send(
                request.prepare(), stream=True, timeout=timeout, verify=_VERIFY
            ) as response:
                body = _read(response)
        except Exception as error:  # noqa: BLE001  requests lets ValueError, RecursionError and others out
            return Answer(_failure(error, deadline))
    if deadline.expired:  # the body may be cut where the socket was shut down
        return Answer(Outcome.TIMED_OUT, None, response.status_code)
    return interpret(response.status_code, body)


def connect(deadline_s: float) -> None:
    """Open a connection for the first call, in at most ``deadline_s`` seconds.

    Without one the call opens its own, so what happens on the wire is of no interest here.
    Raises ConfigurationError only.
    """
    request = requests.Request("GET", endpoint()[0]).prepare()
    with Deadline(deadline_s), suppress(Exception):
        _adapter.connect(request, _VERIFY, deadline_s / MAX_ADDRESSES)


def _read(response: requests.Response) -> bytes:
    """Return the body, or its beginning where it is longer than any answer can be."""
    body = b""
    # Raw, because decompression knows no bound; to the end, which is where a cut one shows.
    for chunk in response.raw.stream(4096, decode_content=False):
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            break
    return body


def endpoint() -> tuple[str, str]:
    """Return the API's base URL and the answer format; raise ConfigurationError if one is wrong."""
    url = os.environ.get("SMSPARTNER_URL") or DEFAULT_URL
    answer_format = os.environ.get("SMSPARTNER_FORMAT") or "json"
    if not _is_safe(url):
        raise ConfigurationError(
            "environment variable SMSPARTNER_URL must be an https URL without query or user "
            "(plain http only to this machine), because the API key travels in it"
        )
    if answer_format not in ("json", "xml"):
        raise ConfigurationError("environment variable SMSPARTNER_FORMAT must be json or xml")
    return url.rstrip("/"), answer_format


@lru_cache(maxsize=1)
def _is_safe(url: str) -> bool:
    try:
        requests.Request("GET", url).prepare()  # knows what requests itself would choke on
        parts = urlsplit(url)
    except ValueError:
        return False
    if not parts.hostname or "@" in parts.netloc or "?" in url or "#" in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def _failure(error: BaseException, deadline: Deadline) -> Outcome:
    if not deadline.connected:
        return Outcome.UNAVAILABLE
    if deadline.expired:
        return Outcome.TIMED_OUT
    # requests raises one and the same exception for a connection that broke and for an answer
    # that is not HTTP; only what lies beneath tells them apart.
    for cause in _causes(error):
        if isinstance(cause, RemoteDisconnected | IncompleteRead):
            return Outcome.TIMED_OUT
        if isinstance(cause, HTTPException | UnicodeError):
            return Outcome.UNREADABLE
    return Outcome.TIMED_OUT


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def interpret(status: int, body: bytes) -> Answer:
    """Read an answer: any status, any bytes, exactly one outcome, never an exception.

    Only ``success`` and ``code`` decide: the message text is translated, and the HTTP status of
    a refusal is not documented (seen: 200 and 400). In doubt the SMS is not cancelled.
    """
    success, code = _verdict(body)
    return Answer(_outcome(status, success, code), code, status)


def _outcome(status: int, success: bool | None, code: int | None) -> Outcome:
    if 300 <= status < 400:
        return Outcome.UNREADABLE
    if status == 429:
        return Outcome.THROTTLED
    if success is False and code is not None:
        return REFUSALS.get(code, Outcome.UNREADABLE)
    if success and code == 200 and 200 <= status < 300:
        return Outcome.CANCELLED
    if status >= 500:
        return Outcome.UNAVAILABLE
    if status in (401, 403) and code is None:
        return Outcome.API_KEY_REJECTED
    return Outcome.UNREADABLE


def _verdict(body: bytes) -> tuple[bool | None, int | None]:
    """Return ``success`` and ``code`` of an answer, None where they are not there or ill-typed."""
    if len(body) > MAX_BODY_BYTES:
        return None, None
    try:
        # Only the message can hold more than ASCII, and it decides nothing.
        text = body.decode("utf-8-sig", errors="replace")
        success, code = _xml(text) if text.lstrip().startswith("<") else _json(text)
    except Exception:  # noqa: BLE001  the parsers raise what they like (RecursionError, LookupError)
        return None, None
    if type(success) is not bool or type(code) is not int or abs(code) > MAX_CODE:
        return None, None
    return success, code


def _json(text: str) -> tuple[Any, Any]:
    answer = json.loads(text)
    return answer["success"], answer["code"]


def _xml(text: str) -> tuple[Any, Any]:
    from defusedxml.ElementTree import fromstring  # noqa: PLC0415  only XML pays for it

    # The published success has two XML declarations, which no parser accepts.
    root = fromstring(_XML_DECLARATIONS.sub("", text, count=1), forbid_dtd=True)
    if root.tag != "result" or any(entry.tag != "entry" or len(entry) for entry in root[:2]):
        return None, None
    success, code = ((entry.text or "").strip() for entry in root[:2])
    if not (code.isascii() and code.isdigit()):
        return None, None
    return {"true": True, "false": False}.get(success), int(code)
