"""SMS Partner's ``message-cancel`` and ``me``: one GET, whose response ``answer`` interprets."""

import os
import re
import zlib
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException, IncompleteRead, RemoteDisconnected

import requests
from requests.exceptions import InvalidHeader

from sms_cancel.answer import MAX_BODY_BYTES, Answer, interpret, interpret_account
from sms_cancel.deadline import Adapter, call
from sms_cancel.outcome import Outcome
from sms_cancel.telemetry import ConfigurationError

Read = Callable[[int, bytes], Answer]

# No user, query or fragment, because the API key goes into the query.
_SAFE_URL = re.compile(
    r"(?ai)(https://([a-z0-9][a-z0-9.-]*|\[[0-9a-f:]+\])|http://(localhost|127\.0\.0\.1|\[::1\]))"
    r"(:[0-9]{1,5})?(/[^\s?#@]*)?"
)
_HEADERS = {"User-Agent": "sms-cancel", "Accept-Encoding": "identity"}
_adapter = Adapter(pool_maxsize=20)


def cancel(api_key: str, message_id: str, deadline_s: float) -> Answer:
    """Ask the provider once to cancel a message, in at most ``deadline_s`` seconds.

    Returns an Answer whatever happens on the wire, because an HTTP library's exceptions hold the
    URL, and with it the key. Raises only ConfigurationError.
    """
    query = {"apiKey": api_key, "messageId": message_id}
    if os.environ.get("SMSPARTNER_FORMAT") == "xml":
        query["_format"] = "xml"
    return _get("message-cancel", query, deadline_s, interpret)


def account(api_key: str, deadline_s: float) -> Answer:
    """Ask the provider once for the account's state; deadline and errors as for ``cancel``."""
    return _get("me", {"apiKey": api_key}, deadline_s, interpret_account)


def _get(path: str, query: dict[str, str], deadline_s: float, read: Read) -> Answer:
    request = requests.Request("GET", f"{endpoint()}/{path}", _HEADERS, params=query)
    status = None
    call.begin(deadline_s)
    try:
        # No requests.Session: it would follow redirects, keep cookies, and take proxies,
        # .netrc and CA bundles from the environment.
        with _adapter.send(request.prepare(), stream=True) as response:
            status = response.status_code
            body = _body(response)
    except Exception as error:  # noqa: BLE001  requests lets ValueError and others through
        answer = Answer(_failure(error) if call.sent else Outcome.UNAVAILABLE, None, status)
    else:
        answer = read(status, body)
    call.end(keep=answer.code is not None and answer.outcome is not Outcome.UNREADABLE)
    return answer


def connect(deadline_s: float) -> None:
    """Open a connection in advance, so that the first call need not."""
    call.begin(deadline_s)
    with suppress(Exception):  # the first call will fail the same way, and report it
        _adapter.connect(requests.Request("GET", endpoint()).prepare())


def endpoint() -> str:
    """Return the API's base URL; raise ConfigurationError if it is not safe."""
    url = os.environ.get("SMSPARTNER_URL") or "https://api.smspartner.fr/v1"
    if not _SAFE_URL.fullmatch(url):
        text = "must be an https URL without query or user, as the API key travels in it"
        raise ConfigurationError(f"environment variable SMSPARTNER_URL {text}")
    return url.rstrip("/")


def _body(response: requests.Response) -> bytes:
    """Return the body, or a little more than ``MAX_BODY_BYTES`` of a longer one."""
    body = b""
    # Read to the end, because a truncated body shows only there. urllib3 decompresses by chunks.
    for chunk in response.raw.stream(4096, decode_content=True):
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            break
    return body


def _failure(error: BaseException | None) -> Outcome:
    """Tell a broken connection from an answer that is not HTTP, because requests does not."""
    while error is not None:
        if isinstance(error, RemoteDisconnected | IncompleteRead):
            return Outcome.TIMED_OUT
        if isinstance(error, HTTPException | InvalidHeader | UnicodeError | zlib.error):
            return Outcome.UNREADABLE
        error = error.__cause__ or error.__context__
    return Outcome.TIMED_OUT
