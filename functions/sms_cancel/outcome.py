"""The closed vocabulary of what can become of one request to cancel an SMS."""

from enum import StrEnum
from typing import NamedTuple, Self


class Outcome(StrEnum):
    """One word for what became of a cancel, and ``detail``, one sentence for who asked.

    The sentence is ours: the provider's own text is translated and may echo input, so it is never
    relayed. What a word means for a caller, a queue or an operator stands with its owner:
    HTTP answers in ``api``, queue dispositions in ``worker``, alerts in ``cancellation``,
    provider codes in ``smspartner``.
    """

    detail: str

    def __new__(cls, word: str, detail: str) -> Self:
        member = str.__new__(cls, word)
        member._value_ = word
        member.detail = detail
        return member

    CANCELLED = (
        "cancelled",
        "The SMS is cancelled and will not be sent.",
    )
    ALREADY_CANCELLED = (
        "already_cancelled",
        "The SMS was cancelled before and will not be sent.",
    )
    NOT_FOUND = (
        "not_found",
        "SMS Partner knows no message with this id: check the id and the account it belongs to.",
    )
    TOO_LATE = (
        "too_late",
        "The SMS leaves in less than five minutes, SMS Partner no longer cancels it: "
        "warn its recipients if it matters.",
    )
    ALREADY_SENT = (
        "already_sent",
        "The SMS has been sent and cannot be cancelled: warn its recipients if it matters.",
    )
    INVALID_REQUEST = (
        "invalid_request",
        "The request names no valid message: messageId must be 1 to 20 digits, "
        "as SMS Partner returned it when the SMS was scheduled.",
    )
    API_KEY_REJECTED = (
        "api_key_rejected",
        "SMS Partner rejects the API key, so nothing can be cancelled: "
        "ask again once the operator has put a valid key into the secret.",
    )
    CREDITS_EXHAUSTED = (
        "credits_exhausted",
        "The SMS Partner account has no credits, so it refuses to cancel: "
        "ask again once the operator has topped it up.",
    )
    ACCOUNT_BLOCKED = (
        "account_blocked",
        "SMS Partner refuses this account or this address, so nothing can be cancelled: "
        "ask again once the operator has settled it with SMS Partner.",
    )
    THROTTLED = (
        "throttled",
        "SMS Partner received too many requests in a minute: ask again after it.",
    )
    UNAVAILABLE = (
        "unavailable",
        "SMS Partner could not be reached or failed, so the SMS counts as not cancelled: "
        "ask again, it is safe.",
    )
    TIMED_OUT = (
        "timed_out",
        "SMS Partner was asked but gave no whole answer, the SMS may or may not be cancelled: "
        "ask again, it is safe.",
    )
    UNREADABLE = (
        "unreadable",
        "SMS Partner gave an answer that means nothing known, so the SMS counts as not cancelled: "
        "ask again, it is safe.",
    )
    KEY_UNAVAILABLE = (
        "key_unavailable",
        "No usable API key could be read from the secret, SMS Partner was not asked: "
        "ask again once the operator has seen to it.",
    )

    @property
    def done(self) -> bool:
        """True only where the SMS is certain not to be sent."""
        return self in (Outcome.CANCELLED, Outcome.ALREADY_CANCELLED)


class Cancellation(NamedTuple):
    """What became of one request to cancel; ``latencies_ms`` has one entry per provider call."""

    message_id: str | None  # None where the request named no valid one
    outcome: Outcome
    code: int | None = None
    http_status: int | None = None
    latencies_ms: tuple[float, ...] = ()
    duration_ms: float = 0.0
    recall_id: str | None = None
    margin_s: int | None = None  # until the cut-off, negative after it; None where none is known
    settled_at: float | None = None  # of time.time; None where it is to be tried again
