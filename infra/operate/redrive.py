"""``redrive``: take those cancels back from the dead-letter queue that can succeed now.

    redrive --stack NAME                         count them by outcome, take none
    redrive --stack NAME api_key_rejected none   take these back; "none" has no outcome

Each message is first sent to the queue, then deleted from the dead-letter queue: none is lost
wherever this is killed, and at worst one is cancelled twice, which is harmless. SQS's own move task
(StartMessageMoveTask) cannot choose, and also brings back what can only fail again.
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

AGAIN = "Run it again: what it held is visible within ten minutes."
LATE_AT_MOST = 5  # batches in a row with nothing older than this run: what is left keeps coming


@dataclass
class Redrive:
    """One run over a dead-letter queue: what was ``there``, was ``taken``, or came ``later``.

    What this run sent, and what came after ``began_ms``, is left: taken again, it could circle
    between both queues for ever.
    """

    sqs: Any
    dead_letter_queue_url: str
    queue_url: str
    outcomes: set[str]
    began_ms: int
    there: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    later: int = 0
    _sent: set[str] = field(default_factory=set)  # the MessageIds that SQS gave

    def run(self) -> None:
        """Take back what is chosen; what is left is visible again at the end.

        A run of more than ten minutes may meet a message a second time: it ends there, and the
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
                    self.there.update(map(_outcome, due))
                    list(pool.map(self._take, chosen))
                    self.taken.update(map(_outcome, chosen))
            except KeyboardInterrupt:
                console.print(f"stopping, waiting for {AT_ONCE} messages at most")
                raise
            finally:
                dead_letters.show(self.sqs, self.dead_letter_queue_url, left)

    def _is_later(self, message: Message) -> bool:
        # SQS moves a message with its id and its time; the worker's copies name its id.
        ids = {message["MessageId"], dead_letters.attribute(message, "originalMessageId")}
        return bool(ids & self._sent) or dead_letters.sent_ms(message) >= self.began_ms

    def _take(self, message: Message) -> None:
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
    parser.add_argument("outcomes", nargs="*", metavar="outcome", help="what to take back")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--stack", metavar="NAME", help="the stack that the bundle is deployed as")
    place.add_argument("--local", action="store_true", help="the stack of a running `make run`")
    options = parser.parse_args(arguments)
    return run("redrive", AGAIN, lambda: _redrive(options.stack, options.outcomes))


def _redrive(name: str | None, outcomes: list[str]) -> ExitCode:
    stack = find(name)
    # AWS's clock comes in whole seconds.
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
    print(f"{'outcome':<20}{'there':>8}{'taken back':>12}")
    for outcome in sorted({*redrive.there, *outcomes}):
        print(f"{outcome:<20}{redrive.there[outcome]:>8}{redrive.taken[outcome]:>12}")
    if redrive.later:
        console.print(f"{redrive.later:,} more came while this ran, or came back: run it again")
