"""Every outcome of a cancel: the README's table, and ``account_ready`` for the account watch."""

from enum import Enum, StrEnum
from http import HTTPStatus
from typing import Self


class Kind(Enum):
    """What each door does with an outcome."""

    DONE = "done"  # the SMS will not be sent
    FINAL = "final"  # no retry can change it: dead-letter now
    BLOCKED = "blocked"  # every cancel fails until an operator acts: alert, and retry slowly
    PASSING = "passing"  # ask again
    READY = "ready"  # nothing to do; of the account watch only


class Outcome(StrEnum):
    """One word for what became of a cancel, with its kind, HTTP status and ``detail``.

    ``detail`` is our own sentence, which says what the caller can do. SMS Partner's text is
    translated and may echo input, so it is never relayed.
    """

    kind: Kind
    status: HTTPStatus
    detail: str

    def __new__(cls, word: str, kind: Kind, status: int, detail: str) -> Self:
        member = str.__new__(cls, word)
        member._value_, member.kind, member.detail = word, kind, detail
        member.status = HTTPStatus(status)
        return member

    # fmt: off
    CANCELLED = "cancelled", Kind.DONE, 200, "The SMS is cancelled and will not be sent."
    ALREADY_CANCELLED = "already_cancelled", Kind.DONE, 200, "The SMS was already cancelled and will not be sent."
    NOT_FOUND = "not_found", Kind.FINAL, 404, "SMS Partner knows no message with this id: check the id, and that it belongs to this account."
    TOO_LATE = "too_late", Kind.FINAL, 409, "The SMS goes out in less than five minutes, so SMS Partner no longer cancels it: warn its recipients."
    ALREADY_SENT = "already_sent", Kind.FINAL, 409, "The SMS has been sent and cannot be cancelled: warn its recipients."
    INVALID_REQUEST = "invalid_request", Kind.FINAL, 400, "messageId must be 1 to 20 digits, as SMS Partner returned it when the SMS was scheduled."
    API_KEY_REJECTED = "api_key_rejected", Kind.BLOCKED, 502, "SMS Partner rejects the API key: ask again once the operator has replaced it."
    CREDITS_EXHAUSTED = "credits_exhausted", Kind.BLOCKED, 502, "The SMS Partner account has no credits: ask again once the operator has topped it up."
    ACCOUNT_BLOCKED = "account_blocked", Kind.BLOCKED, 502, "SMS Partner refuses this account or address: ask again once the operator has resolved it."
    THROTTLED = "throttled", Kind.PASSING, 503, "SMS Partner received too many requests within a minute: ask again in a minute."
    UNAVAILABLE = "unavailable", Kind.PASSING, 503, "SMS Partner could not be reached or failed, so the SMS counts as not cancelled: it is safe to ask again."
    TIMED_OUT = "timed_out", Kind.PASSING, 504, "SMS Partner gave no complete answer, so the SMS may or may not be cancelled: it is safe to ask again."
    UNREADABLE = "unreadable", Kind.PASSING, 502, "SMS Partner's answer could not be understood, so the SMS counts as not cancelled: it is safe to ask again."
    KEY_UNAVAILABLE = "key_unavailable", Kind.PASSING, 503, "No usable API key could be read from the secret, so SMS Partner was not asked: ask again shortly."
    ACCOUNT_READY = "account_ready", Kind.READY, 200, "SMS Partner accepts the API key, and the account has credits."
    # fmt: on

    @property
    def done(self) -> bool:
        """True only if the SMS will certainly not be sent."""
        return self.kind is Kind.DONE
