"""What is asked for: one SMS to cancel, read from untrusted JSON."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sms_cancel.outcome import Outcome

CUT_OFF = timedelta(minutes=5)  # before the send time; SMS Partner cancels nothing later

EXAMPLE = 'send {"messageId": "300"}.'


class InvalidJson(Exception):
    """A text is not acceptable JSON; the exception's text says why and echoes none of it."""


class Request(NamedTuple):
    """One SMS to cancel.

    If ``message_id`` is None, ``problem`` says why in one sentence. ``doubt`` says what is wrong
    with ``sendAt``; the SMS is cancelled anyway.
    """

    message_id: str | None
    send_at: datetime | None = None
    recall_id: str | None = None
    problem: str | None = None
    doubt: str | None = None

    def margin_s(self, at: float) -> int | None:
        """Return the seconds from ``at``, of ``time.time``, to the cut-off; negative after it."""
        if self.send_at is None:
            return None
        return math.floor((self.send_at - CUT_OFF).timestamp() - at)

    def body(self) -> str:
        """Return the body of the queue message for this request."""
        send_at = self.send_at and self.send_at.isoformat()
        fields = {"messageId": self.message_id, "sendAt": send_at, "recallId": self.recall_id}
        return json.dumps({name: value for name, value in fields.items() if value is not None})


def read(body: str) -> Request:
    """Read a queue message; optional fields that are not readable are ignored."""
    try:
        document = load(body)
    except InvalidJson as error:
        return Request(None, problem=f"The message {error}: {EXAMPLE}")
    fields = document if isinstance(document, dict) else {}
    message_id = read_message_id(fields.get("messageId"))
    problem = None if message_id else _problem(document)
    send_at, doubt = read_send_at(fields)
    return Request(message_id, send_at, read_recall_id(fields.get("recallId")), problem, doubt)


def _problem(document: Any) -> str:
    """Return why a message names no valid id, judging by where it seems to come from.

    ``message_id`` is deliberately not read: a forwarded STOP webhook of SMS Partner has one.
    """
    match document:
        case {"messageId": float()}:
            return "messageId is a decimal or in scientific notation: write it as digits."
        case {"messageId": _}:
            return Outcome.INVALID_REQUEST.detail
        case {"Type": "Notification", "TopicArn": _}:
            return "The message is an SNS envelope: turn on raw message delivery."
        case {"detail-type": _, "detail": _}:
            return "The message is an EventBridge event: give its rule's target an input path."
        case [str() as name, _] if name.endswith("PayloadS3Pointer"):
            return "The message is a pointer into S3: send the message itself."
        case dict():
            return f'The message has no "messageId": {EXAMPLE}'
    return f"The message is JSON but not an object: {EXAMPLE}"


def load(text: str | bytes) -> Any:
    """Parse JSON, taking a byte-order mark for white space. Raises only InvalidJson."""
    try:
        text = text if isinstance(text, str) else text.decode()
        return json.loads(trim(text), object_pairs_hook=_object)
    except (ValueError, RecursionError):
        raise InvalidJson("is not JSON") from None


def trim(text: str) -> str:
    """Return a text without the white space and byte-order mark around it."""
    return text.strip().strip("\ufeff").strip()


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object; raise InvalidJson for a duplicate name, because it is ambiguous."""
    document = dict(pairs)
    if len(document) < len(pairs):
        raise InvalidJson("has a name twice in one object")
    return document


def read_message_id(value: object) -> str | None:
    """Return a JSON number or string as a message id, or None if it is not a valid one."""
    return _match("[0-9]{1,20}", str(value) if type(value) is int else value)  # not a bool


def read_recall_id(value: object) -> str | None:
    """Return a recall's id, 1 to 64 ASCII letters, digits, hyphens and underscores, or None."""
    return _match("[A-Za-z0-9_-]{1,64}", value)


def _match(pattern: str, value: object) -> str | None:
    return value if isinstance(value, str) and re.fullmatch(pattern, value) else None


def read_send_at(document: Mapping[str, Any]) -> tuple[datetime | None, str | None]:
    """Return ``sendAt``, ISO 8601 with an offset, as a time, and what is wrong with it.

    A send time in the past most often has a wrong offset.
    """
    if "sendAt" not in document:
        return None, None
    try:
        send_at = datetime.fromisoformat(document["sendAt"])
        is_past = send_at - CUT_OFF < datetime.now(UTC) - CUT_OFF  # TypeError: it has no offset
    except (TypeError, ValueError, OverflowError):  # OverflowError: the cut-off is before year 1
        return None, "sendAt not readable"
    return send_at, "sendAt in the past" if is_past else None
