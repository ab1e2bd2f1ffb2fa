"""``redrive``: move cancels that can succeed now from the dead-letter queue back to the queue.

    redrive --stack NAME                         only count the dead letters by outcome
    redrive --stack NAME api_key_rejected none   redrive these; "none": those without an outcome

Each message is sent to the queue before it is deleted from the dead-letter queue. If this is
killed, no message is lost; at worst one is handled twice, which is harmless. SQS's own redrive
(StartMessageMoveTask) cannot select by outcome, so it also moves messages that can only fail again.
"""

import argparse
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from . import dead_letters
from .dead_letters import AT_ONCE, Message
from .ending import ExitCode, console, run
from .stack import explained, find

AGAIN = "Run it again: the messages it had received are visible again within ten minutes."
LATE_AT_MOST = 5  # batches in a row without an older message; after these, only new ones come


@dataclass
class Redrive:
    """One run over a dead-letter queue, with what it ``found`` and has ``redriven``, by outcome.

    ``later`` counts the messages that came after ``began_ms`` or had been redriven by this run.
    They are left alone; otherwise a message could circle between the two queues for ever.
    """

    sqs: Any
    dead_letter_queue_url: str
    queue_url: str
    outcomes: set[str]
    began_ms: int
    found: Counter[str] = field(default_factory=Counter)
    redriven: Counter[str] = field(default_factory=Counter)
    later: int = 0
    _sent: set[str] = field(default_factory=set)  # MessageIds of what this run has sent

    def run(self) -> None:
        """Redrive the chosen messages; the others are visible again at the end.

        After more than ten minutes a message may come a second time: this run then ends, and the
        next one goes on.
        """
        met: set[str] = set()
        left: list[Message] = []
        late = 0
        with ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                while late < LATE_AT_MOST:
                    received = dead_letters.receive(self.sqs, self.dead_letter_queue_url)
                    new = [each for each in received if each["MessageId"] not in met]
                    if not new:
                        break
                    met.update(each["MessageId"] for each in new)
                    due = [each for each in new if not self._is_later(each)]
                    chosen = [each for each in due if _outcome(each) in self.outcomes]
                    left += [each for each in new if each not in chosen]
                    late = 0 if due else late + 1
                    self.later += len(new) - len(due)
                    self.found.update(map(_outcome, due))
                    list(pool.map(self._move, chosen))
                    self.redriven.update(map(_outcome, chosen))
            except KeyboardInterrupt:
                console.print(f"stopping, waiting for up to {AT_ONCE} messages")
                raise
            finally:
                dead_letters.show(self.sqs, self.dead_letter_queue_url, left)

    def _is_later(self, message: Message) -> bool:
        # SQS keeps a message's id and time when it moves it; the worker's copies name its id.
        ids = {message["MessageId"], dead_letters.attribute(message, "originalMessageId")}
        return bool(ids & self._sent) or dead_letters.sent_ms(message) >= self.began_ms

    def _move(self, message: Message) -> None:
        sent = self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=message["Body"])
        self._sent.add(sent["MessageId"])
        self.sqs.delete_message(
            QueueUrl=self.dead_letter_queue_url, ReceiptHandle=message["ReceiptHandle"]
        )


def _outcome(message: Message) -> str:
    return dead_letters.attribute(message, "outcome") or "none"


def main(arguments: list[str] | None = None) -> ExitCode:
    """Redrive the stack's dead-letter queue; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="redrive", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "outcomes", nargs="*", metavar="outcome", help="redrive the messages with this outcome"
    )
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--stack", metavar="NAME", help="the name of the deployed stack")
    place.add_argument("--local", action="store_true", help="the stack of a running `make run`")
    options = parser.parse_args(arguments)
    return run("redrive", AGAIN, lambda: _redrive(options.stack, options.outcomes))


def _redrive(name: str | None, outcomes: list[str]) -> ExitCode:
    stack = find(name)
    # AWS's clock has no fractions of a second.
    began_ms = dead_letters.unix_ms(stack.begun_at + timedelta(seconds=1))
    urls = stack.dead_letter_queue_url, stack.queue_url
    redrive = Redrive(stack.client("sqs"), *urls, set(outcomes), began_ms)
    try:
        with explained(ExitCode.UNFINISHED):
            redrive.run()
    finally:
        _print(redrive, outcomes)
    return ExitCode.DONE


def _print(redrive: Redrive, outcomes: list[str]) -> None:
    print(f"{'outcome':<20}{'found':>8}{'redriven':>12}")
    for outcome in sorted({*redrive.found, *outcomes}):
        print(f"{outcome:<20}{redrive.found[outcome]:>8}{redrive.redriven[outcome]:>12}")
    if redrive.later:
        console.print(f"{redrive.later:,} more arrived or came back while this ran: run it again")
