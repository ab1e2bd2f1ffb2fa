"""SMS Partner's ``message-cancel``: one GET, and a pure reading of its answer.

Sources: "Cancel Scheduled SMS" (the older page lacks code 11, the newer 7) and the list of codes.
"""

import os
import re
import zlib
from contextlib import suppress
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from typing import NamedTuple

import requests

from sms_cancel.deadline import Adapter, call
from sms_cancel.outcome import Outcome
from sms_cancel.request import Unreadable, load, strip
from sms_cancel.telemetry import ConfigurationError

DEFAULT_URL = "https://api.smspartner.fr/v1"
MAX_BODY_BYTES = 16 * 1024  # a hundred times the longest published answer
MAX_CODE = 999_999_999  # a longer number is no code; SQS and SNS would refuse it as an attribute

REFUSALS = {
    **dict.fromkeys((1, 10), Outcome.API_KEY_REJECTED),
    4: Outcome.NOT_FOUND,
    5: Outcome.ALREADY_CANCELLED,
    6: Outcome.TOO_LATE,
    7: Outcome.ALREADY_SENT,
    11: Outcome.CREDITS_EXHAUSTED,
    **dict.fromkeys((20, 30, 40, 96), Outcome.ACCOUNT_BLOCKED),
    429: Outcome.THROTTLED,
}
# No user, query or fragment: the API key travels in the query, to nobody else.
_SAFE_URL = re.compile(
    r"(?i)(https://([a-z0-9][a-z0-9.-]*|\[[0-9a-f:]+\])|http://(localhost|127\.0\.0\.1|\[::1\]))"
    r"(:[0-9]{1,5})?(/[^\s?#@]*)?"
)
# The published success has two XML declarations, which no parser accepts. ``*+`` never backtracks.
_XML = re.compile(
    r"(?s)(?:<\?xml[^>]*+>\s*+)*+<result>\s*+<entry>\s*+(true|false)\s*+</entry>\s*+"
    r"<entry>\s*+([0-9]{1,9})\s*+</entry>\s*+(?:<entry>)?(?:(?!<entry|</?result).)*+</result>"
)
_HEADERS = {"User-Agent": "sms-cancel", "Accept-Encoding": "identity"}
_adapter = Adapter(pool_maxsize=20)


class Answer(NamedTuple):
    """What one call came to: the outcome, and the provider's code and HTTP status if it had any."""

    outcome: Outcome
    code: int | None = None
    http_status: int | None = None


def cancel(api_key: str, message_id: str, deadline_s: float) -> Answer:
    """Ask the provider once to cancel a message, in at most ``deadline_s`` seconds.

    Returns an Answer whatever happens on the wire, because the text of an HTTP library's
    exception holds the URL and so the key. Raises ConfigurationError only.
    """
    url, answer_format = endpoint()
    query = {"apiKey": api_key, "messageId": message_id}
    if answer_format == "xml":
        query["_format"] = "xml"
    request = requests.Request("GET", f"{url}/message-cancel", _HEADERS, params=query)
    status = None
    call.begin(deadline_s)
    try:
        # No requests.Session: it would follow redirects, keep cookies, and take proxies,
        # .netrc and CA bundles from the environment.
        with _adapter.send(request.prepare(), stream=True) as response:
            status = response.status_code
            answer = interpret(status, _read(response))
    except Exception as error:  # noqa: BLE001  requests lets ValueError, RecursionError and others out
        outcome = _failure(error) if call.sent else Outcome.UNAVAILABLE
        answer = Answer(outcome, None, status)
    call.end(keep=answer.code is not None and answer.outcome is not Outcome.UNREADABLE)
    return answer


def connect(deadline_s: float) -> None:
    """Open a connection for the first call, which would otherwise open its own."""
    call.begin(deadline_s)
    with suppress(Exception):  # whatever happens here, the first call meets again
        _adapter.connect(requests.Request("GET", endpoint()[0]).prepare())


def endpoint() -> tuple[str, str]:
    """Return the API's base URL and the answer format; raise ConfigurationError if one is wrong."""
    url = os.environ.get("SMSPARTNER_URL") or DEFAULT_URL
    answer_format = os.environ.get("SMSPARTNER_FORMAT") or "json"
    if not _SAFE_URL.fullmatch(url):
        text = "must be an https URL without query or user, as the API key travels in it"
        raise ConfigurationError(f"environment variable SMSPARTNER_URL {text}")
    if answer_format not in ("json", "xml"):
        raise ConfigurationError("environment variable SMSPARTNER_FORMAT must be json or xml")
    return url.rstrip("/"), answer_format


def _read(response: requests.Response) -> bytes:
    """Return the body, or its beginning where it is longer than any answer can be."""
    body = b""
    # To the end, which is where a cut one shows; urllib3 decompresses no more than it is asked for.
    for chunk in response.raw.stream(4096, decode_content=True):
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            break
    return body


def _failure(error: BaseException | None) -> Outcome:
    """Tell a broken connection from an answer that is not HTTP: requests raises one for both."""
    while error is not None:
        if isinstance(error, RemoteDisconnected | IncompleteRead):
            return Outcome.TIMED_OUT
        if isinstance(error, HTTPException | UnicodeError | zlib.error):
            return Outcome.UNREADABLE
        error = error.__cause__ or error.__context__
    return Outcome.TIMED_OUT


def interpret(status: int, body: bytes) -> Answer:
    """Read an answer: any status, any bytes, exactly one outcome, never an exception.

    Only ``success`` and ``code`` decide: the message is translated, and alone may hold more than
    ASCII; a refusal's HTTP status is not documented (seen: 200, 400). In doubt, not cancelled.
    """
    text = strip(body.decode(errors="replace")) if len(body) <= MAX_BODY_BYTES else "too long"
    is_own, success, code = _parse(text)
    if 300 <= status < 400:
        outcome = Outcome.UNREADABLE
    elif status == 429:
        outcome = Outcome.THROTTLED
    elif success is False and code is not None:
        outcome = REFUSALS.get(code, Outcome.UNREADABLE)
    elif success and code == 200 and 200 <= status < 300:
        outcome = Outcome.CANCELLED
    elif status >= 500:
        outcome = Outcome.UNAVAILABLE
    elif status in (401, 403) and code is None and (is_own or not text):
        outcome = Outcome.API_KEY_REJECTED
    elif status == 403 and code is None:
        outcome = Outcome.ACCOUNT_BLOCKED  # by a firewall on the way, whose page this is
    else:
        outcome = Outcome.UNREADABLE
    return Answer(outcome, code, status)


def _parse(text: str) -> tuple[bool, bool | None, int | None]:
    """Return whether an answer is SMS Partner's own, and its ``success`` and ``code`` or None."""
    if found := _XML.fullmatch(text):
        return True, found[1] == "true", int(found[2])
    try:
        answer = load(text)
        success, code = answer.get("success"), answer.get("code")
    except (Unreadable, AttributeError):
        return False, None, None
    if success is False and re.fullmatch("[0-9]{1,9}", str(code)):
        code = int(code)  # a refusal was seen with its code as text
    if type(success) is not bool or type(code) is not int or abs(code) > MAX_CODE:
        return ("success" in answer or "code" in answer), None, None
    if success and (answer.get("error") or answer.get("errors")):
        success = None  # it contradicts itself
    return True, success, code
