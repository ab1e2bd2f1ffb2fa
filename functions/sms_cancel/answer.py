"""What an answer of SMS Partner means: a pure reading of its HTTP status and body.

Sources: "Cancel Scheduled SMS" (the older page lacks code 11, the newer 7), "Credits", and the
list of codes.
"""

import re
from typing import Any, NamedTuple

from sms_cancel.outcome import Kind, Outcome
from sms_cancel.request import Unreadable, load, strip

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

# The published success has two XML declarations, which no parser accepts. ``*+`` never backtracks.
_XML = re.compile(
    r"(?s)(?:<\?xml[^>]*+>\s*+)*+<result>\s*+<entry>\s*+(true|false)\s*+</entry>\s*+"
    r"<entry>\s*+([0-9]{1,9})\s*+</entry>\s*+(?:<entry>)?(?:(?!<entry|</?result).)*+</result>"
)


class Answer(NamedTuple):
    """What one call came to: the outcome, and the provider's code and HTTP status if it had any."""

    outcome: Outcome
    code: int | None = None
    http_status: int | None = None


class Account(NamedTuple):
    """An answer that says how many SMS the account can pay for, and how many are scheduled."""

    outcome: Outcome
    code: int | None
    http_status: int
    credits: int
    to_send: int


def interpret(status: int, body: bytes) -> Answer:
    """Read an answer of ``message-cancel``: any status, any bytes, exactly one outcome.

    Never raises. Only ``success`` and ``code`` decide: the message is translated, and alone may
    hold more than ASCII; a refusal's HTTP status is not documented (seen: 200, 400). In doubt, not
    cancelled.
    """
    return _judge(status, body, Outcome.CANCELLED)[0]


def interpret_account(status: int, body: bytes) -> Answer | Account:
    """Read an answer of ``me`` in the same way, and of its credits only what is needed.

    No credits are ``credits_exhausted``: nobody should learn it from the first cancel. What can
    only be said of a message (codes 4 to 7) is ``unreadable``.
    """
    answer, document = _judge(status, body, Outcome.ACCOUNT_READY)
    if answer.outcome.kind in (Kind.BLOCKED, Kind.PASSING):
        return answer
    numbers = _numbers(document) if answer.outcome.kind is Kind.READY else None
    if numbers is None:
        return answer._replace(outcome=Outcome.UNREADABLE)
    outcome = answer.outcome if numbers[0] > 0 else Outcome.CREDITS_EXHAUSTED
    return Account(outcome, answer.code, status, *numbers)


def _judge(status: int, body: bytes, success_is: Outcome) -> tuple[Answer, Any]:
    """Return what an answer comes to, and the JSON document that it is, if it is one."""
    text = strip(body.decode(errors="replace")) if len(body) <= MAX_BODY_BYTES else "too long"
    document, success, code = _parse(text)
    is_own = document is not None
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
    elif status in (401, 403) and code is None and (is_own or not text):
        outcome = Outcome.API_KEY_REJECTED
    elif status == 403 and code is None:
        outcome = Outcome.ACCOUNT_BLOCKED  # by a firewall on the way, whose page this is
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
    except (Unreadable, AttributeError):
        return None, None, None
    if success is False and re.fullmatch("[0-9]{1,9}", str(code)):
        code = int(code)  # a refusal was seen with its code as text
    if type(success) is not bool or type(code) is not int or abs(code) > MAX_CODE:
        return answer if answer.keys() & {"success", "code"} else None, None, None
    if success and (answer.get("error") or answer.get("errors")):
        success = None  # it contradicts itself
    return answer, success, code


def _numbers(document: Any) -> tuple[int, int] | None:
    """Return how many SMS the account can pay for and how many are scheduled, if it says so."""
    try:
        credit, to_send = (str(document["credits"][name]) for name in ("creditSms", "toSend"))
    except (KeyError, TypeError):
        return None
    is_whole = all(re.fullmatch("-?[0-9]{1,12}", each) for each in (credit, to_send))
    return (int(credit), int(to_send)) if is_whole else None
