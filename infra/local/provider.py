"""A simulated SMS Partner account, which answers `GET /message-cancel` and `GET /me`.

The real provider has no sandbox for cancels. Nothing here touches the network (`provider_server`
adds HTTP), and the clock is an argument. Codes, texts and bodies are those of the French pages
"Annuler l'envoi d'un SMS différé" and "Crédits" of docpartner.dev. Where these leave something
open, the simulation assumes:

- An account without credits refuses every call (11), right after the checks of key and account.
- A cancel exactly five minutes before the send time still succeeds.
"""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from xml.sax.saxutils import escape

from infra.local.provider_faults import Fault

CANCEL_MARGIN_S = 300

# The apostrophes are straight, as in the page's sample bodies, because bodies are what a client
# reads (its tables have typographic ones). 20, 30, 40 and 96 are published in English only.
TEXTS = {
    1: "La Clé API est requise",
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

# As published, with two declarations: no XML parser accepts it as it stands.
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

PRICES_EUR = {"creditSms": 0.038, "creditSmsECO": 0.023, "creditHlr": 0.005}  # as in the sample

Answer = dict[str, Any]  # in the provider's order, because its XML has only the values


@dataclass(frozen=True)
class Account:
    """What the provider knows about its customer. `refusal_status`: the HTTP status of refusals."""

    api_key: str = field(repr=False)
    credits: int = 1000
    status: str = "active"  # one of ACCOUNT_STATUSES
    refusal_status: int = 200


@dataclass
class Message:
    """One scheduled SMS. `send_at`: Unix seconds."""

    id: int
    send_at: float
    cancelled: bool = False

    def state(self, now: float) -> Literal["scheduled", "cancelled", "sent"]:
        if self.cancelled:
            return "cancelled"
        return "scheduled" if now < self.send_at else "sent"


class Provider:
    """SMS Partner as one customer sees it. Thread-safe; `clock` returns Unix seconds."""

    def __init__(self, api_key: str, *, clock: Callable[[], float] = time.time) -> None:
        self._initial = Account(api_key)
        self.now = clock
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Go back to the initial account, without messages, faults or calls."""
        with self._lock:
            self.account = self._initial
            self.calls: Counter[int | None] = Counter()  # of cancels, by id; None: no valid id
            self.account_calls = 0  # of `GET /me`
            self.faults: list[Fault] = []
            self._messages: dict[int, Message] = {}

    def configure(self, **changes: Any) -> None:
        """Change fields of the account."""
        with self._lock:
            self.account = replace(self.account, **changes)

    def messages(self) -> list[Message]:
        with self._lock:
            return list(self._messages.values())

    def state(self, message_id: int) -> str:
        """Return whether a message is scheduled, cancelled or sent; KeyError if there is none."""
        with self._lock:
            return self._messages[message_id].state(self.now())

    def schedule(self, message_id: int, due_in_s: float) -> Message:
        """Schedule a message, replacing any with the same id."""
        with self._lock:
            message = self._messages[message_id] = Message(message_id, self.now() + due_in_s)
            return message

    def cancel(self, api_key: str | None, message_id: str | None) -> Answer:
        """Answer `GET /message-cancel`; a parameter that is absent is None."""
        with self._lock:
            return _verdict(self._refuse_account(api_key) or self._cancel(message_id))

    def me(self, api_key: str | None) -> Answer:
        """Answer `GET /me`; a key that is absent is None."""
        with self._lock:
            if code := self._refuse_account(api_key):
                return _verdict(code)
            now = self.now()
            to_send = sum(each.state(now) == "scheduled" for each in self._messages.values())
            user = {"username": "simulated", "firstname": "Simulated", "lastname": "Account"}
            bought = _credits(self.account.credits, to_send)
            return {"success": True, "code": 200, "user": user, "credits": bought}

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

    def _refuse_account(self, api_key: str | None) -> int | None:
        if not api_key:
            return 1
        if api_key != self.account.api_key:
            return 10
        if code := ACCOUNT_STATUSES[self.account.status]:
            return code
        return 11 if self.account.credits <= 0 else None

    def plan(self, fault: Fault) -> None:
        """Add a fault for the next calls; faults are used in order."""
        with self._lock:
            self.faults.append(replace(fault))  # a copy, because it counts down

    def arrive(self, message_id: int | None) -> Fault | None:
        """Count a cancel call, and take the fault that is due for it."""
        with self._lock:
            self.calls[message_id] += 1
            return self._take_fault("cancel", message_id)

    def arrive_at_me(self) -> Fault | None:
        """Count a call of `GET /me`, and take the fault that is due for it."""
        with self._lock:
            self.account_calls += 1
            return self._take_fault("me", None)

    def _take_fault(self, call: str, message_id: int | None) -> Fault | None:
        for fault in self.faults:
            if fault.call == call and fault.message_id in (None, message_id):
                if fault.times is not None:
                    fault.times -= 1
                if fault.times == 0:
                    self.faults.remove(fault)
                return fault
        return None


def _verdict(code: int) -> Answer:
    return {"success": code == 200, "code": code, "message": TEXTS[code]}


def _credits(sms: int, to_send: int) -> Answer:
    """Return the balance that pays for this number of SMS, and what else it pays for."""
    balance = sms * PRICES_EUR["creditSms"]
    bought = {name: round(balance / price) for name, price in PRICES_EUR.items()}
    money = {"solde": f"{balance:.3f}", "currency": "EUR", "balance": f"{balance:.3f}"}
    return {**bought, "toSend": to_send, **money}


def read_id(text: str) -> int | None:
    """Read a message id: 1 to 20 ASCII digits without a leading zero."""
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,19}", text) else None


def render_json(answer: Answer) -> bytes:
    return json.dumps(answer, ensure_ascii=False).encode()


def render_xml(answer: Answer) -> bytes:
    """Render an answer as the provider does: as entries without names, in order."""
    if answer["success"]:
        return CANCELLED_XML.encode()
    entries = (
        str(each).lower() if each is False else escape(str(each)) for each in answer.values()
    )
    return f"<result>{''.join(f'<entry>{each}</entry>' for each in entries)}</result>".encode()
