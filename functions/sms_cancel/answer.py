"""What an answer of SMS Partner means: a pure reading of its HTTP status and body.

Sources: "Cancel Scheduled SMS" (the older page lacks code 11, the newer one code 7), "Credits",
and the list of codes.
"""

import re
from typing import Any, NamedTuple

from sms_cancel.outcome import Kind, Outcome
from sms_cancel.request import InvalidJson, load, trim

MAX_BODY_BYTES = 16 * 1024  # a hundred times the longest published answer
MAX_CODE = 999_999_999  # a longer number is not a code

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

# The published success has two XML declarations, which no parser accepts. ``*+`` never backtracks.
# The last group has none, because Python 3.11.2 fails to match one there.
_XML = re.compile(
    r"(?s)(?:<\?xml[^>]*+>\s*+)*+<result>\s*+<entry>\s*+(true|false)\s*+</entry>\s*+"
    r"<entry>\s*+([0-9]{1,9})\s*+</entry>\s*+(?:<entry>)?(?:(?!<entry|</?result).)*</result>"
)


class Answer(NamedTuple):
    """The result of one call: the outcome, and the provider's code and HTTP status if it had any.

    For ``me``, ``credits`` is how many SMS the account can pay for, ``to_send`` how many are
    scheduled.
    """

    outcome: Outcome
    code: int | None = None
    http_status: int | None = None
    credits: int | None = None
    to_send: int | None = None


def interpret(status: int, body: bytes) -> Answer:
    """Read an answer of ``message-cancel``: any status, any bytes, exactly one outcome.

    Never raises. Decides by ``success`` and ``code`` alone, because the message is translated, and
    the HTTP status of a refusal is not documented (seen: 200, 400). When in doubt, not cancelled.
    """
    return _judge(status, body, Outcome.CANCELLED)[0]


def interpret_account(status: int, body: bytes) -> Answer:
    """Read an answer of ``me`` likewise, with its credits; ``to_send`` is None if it is no number.

    An account without credits is ``credits_exhausted`` although ``me`` succeeds. Codes 4 to 7,
    which are about a message, are ``unreadable``.
    """
    answer, document = _judge(status, body, Outcome.ACCOUNT_READY)
    if answer.outcome.kind in (Kind.BLOCKED, Kind.PASSING):
        return answer
    credit, to_send = _number(document, "creditSms"), _number(document, "toSend")
    if answer.outcome.kind is not Kind.READY or credit is None:
        return answer._replace(outcome=Outcome.UNREADABLE)
    if credit <= 0:
        answer = Answer(Outcome.CREDITS_EXHAUSTED, None, status)
    return answer._replace(credits=credit, to_send=to_send)


def _judge(status: int, body: bytes, success_is: Outcome) -> tuple[Answer, Any]:
    """Return the answer and SMS Partner's JSON: {} for XML, None if somebody else answered."""
    text = trim(body.decode(errors="replace")) if len(body) <= MAX_BODY_BYTES else "too long"
    document, success, code = _parse(text)
    if 300 <= status < 400:
        outcome = Outcome.UNREADABLE
    elif status == 429:
        outcome = Outcome.THROTTLED
    elif success is False and code is not None:
        outcome = REFUSALS.get(code, Outcome.UNREADABLE)
    elif success and code == 200 and 200 <= status < 300:
        outcome = success_is
    elif status >= 500:
        outcome = Outcome.UNAVAILABLE
    elif status in (401, 403) and code is None and (document is not None or not text):
        outcome = Outcome.API_KEY_REJECTED
    elif status == 403 and code is None:
        outcome = Outcome.ACCOUNT_BLOCKED  # a firewall's page, not SMS Partner's
    else:
        outcome = Outcome.UNREADABLE
    return Answer(outcome, code, status), document


def _parse(text: str) -> tuple[Any, bool | None, int | None]:
    """Return SMS Partner's own document, if it is one, and its ``success`` and ``code`` or None."""
    if found := _XML.fullmatch(text):
        return {}, found[1] == "true", int(found[2])
    try:
        answer = load(text)
        success, code = answer.get("success"), answer.get("code")
    except (InvalidJson, AttributeError):
        return None, None, None
    if success is False and re.fullmatch("[0-9]{1,9}", str(code)):
        code = int(code)  # one live refusal had its code as text
    if type(success) is not bool or type(code) is not int or abs(code) > MAX_CODE:
        return (answer if answer.keys() & {"success", "code"} else None), None, None
    if success and (answer.get("error") or answer.get("errors")):
        success = None  # it contradicts itself
    return answer, success, code


def _number(document: Any, name: str) -> int | None:
    credits_ = document.get("credits")
    text = str(credits_.get(name)) if isinstance(credits_, dict) else ""
    return int(text) if re.fullmatch("-?[0-9]{1,12}", text) else None
