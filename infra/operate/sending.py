"""Puts ids on the queue through the HTTP API: many per request, several requests at once."""

import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import Any, NamedTuple

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionError as NoConnection
from botocore.exceptions import HTTPClientError

from .ending import Ending, ExitCode, console
from .plan import Plan, Request
from .stack import Stack, explained, json_object

PATH = "/cancellations"
PAUSES_S = (1, 2, 4, 8, 15, 15, 15)  # a minute in all
LONGEST_PAUSE_S = 30  # whatever Retry-After says, because the campaign will not wait

ADVICE = {
    401: ". The API takes JWTs (JwtIssuer), but recall can only sign with AWS credentials",
    403: ". Log in again, or ask for permission for execute-api:Invoke on POST /cancellations",
    404: ". Deploy this version of the bundle first",
}


class Trouble(NamedTuple):
    """Why ids are not on the queue yet; the next try must wait ``pause_s`` or longer."""

    why: str
    pause_s: float = 0


@dataclass
class Sender:
    """Puts ids on the queue; calls ``keep`` with those accepted, ``tell`` with any trouble."""

    stack: Stack
    recall_id: str
    keep: Callable[[list[str]], None]
    tell: Callable[[str], None]
    _stopped: Event = field(default_factory=Event)
    _in_flight: list[Request] = field(default_factory=list)

    def send(self, plan: Plan) -> None:
        """Send all ids in order; raise Ending if some could not be sent.

        If send times differ, a request starts only after the one ``plan.at_once`` before it has
        ended. Ctrl-C waits for the requests in flight; a second Ctrl-C does not.
        """
        sent: list[Future[None]] = []
        with ThreadPoolExecutor(plan.at_once) as pool:
            try:
                for request in plan.requests():
                    if plan.is_ordered and len(sent) >= plan.at_once:
                        sent[-plan.at_once].result()
                    sent.append(pool.submit(self._send_request, request))
                for each in sent:
                    each.result()
            except KeyboardInterrupt:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                count = len(self._in_flight)
                some = f"{count} request{'s' * (count != 1)}"
                console.print(f"stopping, waiting for {some} (run it again to continue)")
                # The pool does not wait for a thread that it was starting when the interrupt came.
                while self._in_flight:
                    time.sleep(0.05)
                raise
            finally:
                self._stopped.set()
                pool.shutdown(cancel_futures=True)

    def _send_request(self, request: Request) -> None:
        self._in_flight.append(request)  # before it asks whether to stop
        try:
            with explained(ExitCode.UNFINISHED):
                self._insist(request)
        except BaseException:
            self._stopped.set()  # the others would only fail in the same way
            raise
        finally:
            self._in_flight.remove(request)

    def _insist(self, request: Request) -> None:
        for pause_s in (*PAUSES_S, None):
            if self._stopped.is_set():
                return
            ids, trouble = self._offer(request)
            if not ids:
                return
            if pause_s is None:
                text = f"{trouble.why.rstrip('.')}, even after {len(PAUSES_S) + 1} attempts"
                raise Ending(text, ExitCode.UNFINISHED)
            request = request._replace(ids=ids)
            self.tell(trouble.why)
            self._stopped.wait(max(pause_s, trouble.pause_s))

    def _offer(self, request: Request) -> tuple[list[str], Trouble]:
        """Send a request once; return the ids that the queue did not take, and why."""
        ids, send_at = request
        body = {"messageIds": ids, "recallId": self.recall_id}
        if send_at and send_at > self.stack.now():  # the API refuses a time in the past
            body["sendAt"] = send_at.isoformat()
        try:
            answer = self.stack.post(PATH, body)
        except (HTTPClientError, NoConnection) as error:
            return ids, Trouble(f"no answer from the API ({type(error).__name__})")
        status, document = answer.status_code, json_object(answer.content)
        if status == 202:
            left = _left(ids, document)
            self.keep([each for each in ids if each not in left])
            return list(left), Trouble(next(iter(left.values()), ""))
        why = f"the API answered {status}: {document.get('detail') or document.get('message')}"
        if status == 429 or status >= 500:
            return ids, Trouble(why, _retry_after_s(answer))
        raise Ending(f"{why}{ADVICE.get(status, '')}", ExitCode.UNFINISHED)


def _left(ids: list[str], document: dict[str, Any]) -> dict[str, str]:
    """Return the ids that the queue did not take, with the API's reasons.

    If the answer is inconsistent, these are all ids, because sending twice is harmless.
    """
    try:
        left = {str(each["messageId"]): str(each["detail"]) for each in document["rejected"]}
        if left.keys() <= set(ids) and document["accepted"] == len(ids) - len(left):
            return left
    except (KeyError, TypeError):
        pass
    return dict.fromkeys(ids, "the API's answer is inconsistent")


def _retry_after_s(answer: AWSResponse) -> float:
    value = str(answer.headers.get("Retry-After", ""))
    return min(int(value), LONGEST_PAUSE_S) if value.isascii() and value.isdigit() else 0
