"""A simulated SMS Partner account: what `POST /send` and `GET /message-cancel` answer, from state.

The real provider has no sandbox for cancel. Nothing here touches a network, and the clock is an
argument: `provider_server` puts HTTP around it. Codes, texts and bodies are those of the French
pages "Envoyer un SMS" and "Annuler l'envoi d'un SMS différé" of docpartner.dev; what they leave
open, and what is decided here:

- An account without credits refuses everything (11) right after the key and account checks, even
  the cancel of a message that took its last credit. A cancel refunds nothing.
- Exactly five minutes before the send time a cancel still succeeds.
- Wall-clock times are Europe/Paris. One that the spring change skips moves one hour on; of one
  that the autumn change repeats, the first is meant.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

try:
    PARIS = ZoneInfo("Europe/Paris")
except ZoneInfoNotFoundError as error:
    raise ImportError(
        "this machine has no time zone data for Europe/Paris: "
        "install tzdata (`pip install tzdata`, or the system package tzdata)"
    ) from error

CANCEL_MARGIN_S = 300
MAX_RECIPIENTS = 500
SENDER_MAX_LENGTH = 11
PRICE_EUR = 0.038  # per recipient, the price in the published sample

# The page's tables are set with typographic apostrophes, its sample bodies with straight ones;
# bodies are what a client reads. 20, 30, 40 and 96 are published in English only.
TEXTS = {
    1: "La Clé API est requise",
    2: "Le numéro de téléphone est requis",
    3: "L'ID du message est requis",
    4: "Message introuvable",
    5: "L'envoi du SMS a déjà été annulé",
    6: "Vous ne pouvez pas annuler l'envoi d'un SMS moins de 5 minutes avant son envoi",
    7: "Vous ne pouvez pas annuler un SMS déjà envoyé",
    10: "Clé API incorrecte",
    11: "Manque de crédits",
    20: "Compte désactivé",
    30: "Compte bloqué",
    40: "Accès à l'API refusé",
    96: "Adresse IP non autorisée",
    200: "L'envoi du SMS a été annulé.",
}

ACCOUNT_STATUSES = {
    "active": None,
    "deactivated": 20,
    "blocked": 30,
    "denied": 40,
    "ip_refused": 96,
}

# As published, two declarations and all: no XML parser accepts it as it stands.
CANCELLED_XML = """\
<?xml version='1.0' encoding='UTF-8'?>
<?xml version="1.0" encoding="UTF-8"?>
<result>
    <entry>true</entry>
    <entry>200</entry>
    <entry>
        <![CDATA[L'envoi du SMS a été annulé.]]>
    </entry>
</result>"""

Answer = dict[str, Any]  # in the provider's order, which is all that its XML keeps


@dataclass(frozen=True)
class Account:
    """What the provider knows of its customer. `refusal_status`: the HTTP status of refusals."""

    api_key: str = field(repr=False)
    credits: int = 1000
    status: str = "active"
    refusal_status: int = 200

    def __post_init__(self) -> None:
        if not isinstance(self.api_key, str) or not self.api_key:
            raise ValueError("the API key must be text, and not empty")
        if type(self.credits) is not int:
            raise ValueError("credits must be an integer")
        if self.status not in ACCOUNT_STATUSES:
            raise ValueError(f"status must be one of {', '.join(ACCOUNT_STATUSES)}")
        if type(self.refusal_status) is not int or not 200 <= self.refusal_status <= 599:
            raise ValueError("the refusal status must be an HTTP status from 200 to 599")


@dataclass
class Message:
    """One send, to up to 500 recipients: it is cancelled as a whole. `send_at`: Unix seconds."""

    id: int
    send_at: float
    recipients: Sequence[str]
    cancelled: bool = False

    def state(self, now: float) -> Literal["scheduled", "cancelled", "sent"]:
        if self.cancelled:
            return "cancelled"
        return "scheduled" if now < self.send_at else "sent"


@dataclass
class Fault:
    """Something that goes wrong with the next `times` cancel calls (None: with all of them).

    `script` belongs to the HTTP shell. `message_id` None: whichever message. `moment`: "before"
    or "after" the cancel is executed.
    """

    name: str
    script: Callable[..., Iterator[Any]]
    times: int | None = 1
    message_id: int | None = None
    moment: Literal["before", "after"] = "before"


class Provider:
    """SMS Partner as one customer sees it. Safe for threads; `clock` gives Unix seconds."""

    def __init__(
        self,
        api_key: str,
        *,
        credits: int = 1000,  # noqa: A002 (the word of the provider)
        status: str = "active",
        refusal_status: int = 200,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._initial = Account(api_key, credits, status, refusal_status)
        self._clock = clock
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Go back to how it was constructed: no messages, faults, calls, or time moved."""
        with self._lock:
            self.account = self._initial
            self.calls: Counter[int | None] = Counter()  # None: no readable message id
            self.faults: list[Fault] = []
            self._messages: dict[int, Message] = {}
            self._next_id = 307  # the id in the published sample
            self._offset_s = 0.0

    def configure(self, **changes: Any) -> Account:
        """Change fields of the account."""
        with self._lock:
            self.account = replace(self.account, **changes)
            return self.account

    def now(self) -> float:
        return self._clock() + self._offset_s

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._offset_s += seconds

    def messages(self) -> list[Message]:
        with self._lock:
            return list(self._messages.values())

    def state(self, message_id: int) -> str:
        """Tell whether a message is scheduled, cancelled or sent; KeyError where there is none."""
        with self._lock:
            return self._messages[message_id].state(self.now())

    def schedule(
        self, message_id: int, due_in_s: float, recipients: Sequence[str] = ("+33600000000",)
    ) -> Message:
        """Put a message there, free of charge, in the place of any with the same id."""
        with self._lock:
            message = Message(message_id, self.now() + due_in_s, recipients)
            self._messages[message_id] = message
            return message

    def send(self, fields: Mapping[str, Any]) -> Answer:
        """Answer `POST /send`; without `scheduledDeliveryDate` the message is sent at once."""
        with self._lock:
            if code := self._refuse_account(fields.get("apiKey")):
                return _answer(code)
            recipients = [n.strip() for n in _text(fields.get("phoneNumbers")).split(",")]
            if recipients == [""]:
                return _answer(2)
            send_at, schedule_errors = _read_schedule(fields, self.now())
            if errors := [*_find_errors(fields, recipients), *schedule_errors]:
                return {"success": False, "code": 9, "errors": errors}
            if len(recipients) > self.account.credits:
                return _answer(11)
            self.configure(credits=self.account.credits - len(recipients))
            message_id = self._take_id()
            self._messages[message_id] = Message(message_id, send_at, recipients)
            return {
                "success": True,
                "code": 200,
                "message_id": message_id,
                "nb_sms": len(recipients),
                "cost": round(PRICE_EUR * len(recipients), 3),
                "currency": "EUR",
            }

    def cancel(self, api_key: str | None, message_id: str | None) -> Answer:
        """Answer `GET /message-cancel`, whose parameters are text or absent."""
        with self._lock:
            return _answer(self._refuse_account(api_key) or self._cancel(message_id))

    def _cancel(self, message_id: str | None) -> int:
        if not message_id:
            return 3
        message = self._messages.get(read_id(message_id) or 0)
        if message is None:
            return 4
        if message.cancelled:
            return 5
        left_s = message.send_at - self.now()
        if left_s <= 0:
            return 7
        if left_s < CANCEL_MARGIN_S:
            return 6
        message.cancelled = True
        return 200

    def _refuse_account(self, api_key: object) -> int | None:
        if not api_key:
            return 1
        if api_key != self.account.api_key:
            return 10
        if code := ACCOUNT_STATUSES[self.account.status]:
            return code
        return 11 if self.account.credits <= 0 else None

    def _take_id(self) -> int:
        while self._next_id in self._messages:
            self._next_id += 1
        return self._next_id

    def plan(self, fault: Fault) -> None:
        """Let something go wrong with the next cancel calls; faults wait in line."""
        with self._lock:
            self.faults.append(replace(fault))  # it counts down here; the caller's may serve again

    def arrive(self, message_id: int | None) -> Fault | None:
        """Count a cancel call, and take the fault that is due for it."""
        with self._lock:
            self.calls[message_id] += 1
            for fault in self.faults:
                if fault.message_id in (None, message_id):
                    if fault.times is not None:
                        fault.times -= 1
                    if fault.times == 0:
                        self.faults.remove(fault)
                    return fault
            return None


def read_id(text: str) -> int | None:
    """Read a message id: 1 to 20 ASCII digits, the first of them no zero."""
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,19}", text) else None


def render_json(answer: Answer) -> bytes:
    return json.dumps(answer, ensure_ascii=False).encode(errors="replace")


def render_xml(answer: Answer) -> bytes:
    """Render an answer as the provider does: nested, positional, nameless entries."""
    if answer == _answer(200):
        return CANCELLED_XML.encode()
    return f"<result>{_entries(answer)}</result>".encode(errors="replace")


def _entries(value: Any) -> str:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return "".join(f"<entry>{_entries(item)}</entry>" for item in value)
    return str(value).lower() if isinstance(value, bool) else escape(str(value))


def _answer(code: int) -> Answer:
    return {"success": code == 200, "code": code, "message": TEXTS[code]}


def _error(element: str, message: str) -> dict[str, str]:
    return {"elementId": f"children[{element}].data", "message": message}


def _find_errors(fields: Mapping[str, Any], recipients: list[str]) -> Iterator[dict[str, str]]:
    if not fields.get("message"):
        yield _error("message", "Le message est requis")
    if len(recipients) > MAX_RECIPIENTS:
        yield _error("phoneNumbers", f"Pas plus de {MAX_RECIPIENTS} numéros par requête")
    for number in recipients:
        if not re.fullmatch(r"0[1-9][0-9]{8}|\+[1-9][0-9]{7,14}", number):
            yield _error("phoneNumbers", f"Ce numéro de téléphone n'est pas valide ({number})")
            break
    if len(_text(fields.get("sender"))) > SENDER_MAX_LENGTH:
        text = f"L'émetteur ne peut pas être plus long que {SENDER_MAX_LENGTH} caractères"
        yield _error("sender", text)


def _read_schedule(fields: Mapping[str, Any], now: float) -> tuple[float, list[dict[str, str]]]:
    """Read the send time (Unix seconds; `now` where none is asked for), and what is wrong with it.

    "dd/MM/yyyy", hour 0 to 24 (24: the end of that day), minute 0 to 55 in steps of five.
    """
    date = _text(fields.get("scheduledDeliveryDate"))
    if not date:
        return now, []
    hour, minute = _read_number(fields.get("time")), _read_number(fields.get("minute"))
    errors = []
    if minute not in range(0, 60, 5):
        errors.append(_error("minute", "La minute est requise"))
    if hour not in range(25):
        errors.append(_error("time", "L'heure est requise"))
    if errors or hour is None or minute is None:
        return now, errors
    try:
        day = datetime.strptime(date, "%d/%m/%Y").replace(tzinfo=PARIS)
        # Such a sum moves the wall clock, whatever summer time does in between.
        send_at = (day + timedelta(hours=hour, minutes=minute)).timestamp()
    except (ValueError, OverflowError):
        return now, [_error("scheduledDeliveryDate", "La date n'est pas valide")]
    if send_at <= now:
        text = f"La date ({date} à {hour}:{minute:02}) est antérieure à la date actuelle."
        return now, [_error("scheduledDeliveryDate", text)]
    return send_at, []


def _read_number(value: object) -> int | None:
    """Read an hour or a minute, sent as 9 or "9"."""
    return int(_text(value)) if re.fullmatch(r"[0-9]{1,2}", _text(value)) else None


def _text(value: object) -> str:
    """Read a JSON scalar as text, and anything else as empty."""
    return str(value) if isinstance(value, str | int | float) else ""
