"""``make run``: runs the bundle on this machine, demonstrates it, and stays up for you to try.

ONCE=1                  end after the demonstration; the exit code is 0, or 1 if a step failed
SMSPARTNER_API_KEY=...  talk to the REAL SMS Partner with this key; no demonstration
"""

import json
import os
import secrets
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

from infra.local import stack
from infra.local.bundle import ROOT_USER, Bundle
from infra.local.provider import Provider
from infra.local.provider_server import serve

DAY_S = 24 * 3600
TIMEOUT_S = 120
POLL_PAUSE_S = 0.5  # the shortest pause after reading the log
POLL_PAUSE_FACTOR = 9  # the pause is at least nine times as long as reading the log took
ANNOUNCEMENT = stack.BUILD / f"local-stack-{os.getpid()}.json"  # one for each `make run` that is up


class StepFailed(Exception):
    """A step of the demonstration did not show what it should."""


def demonstrate(bundle: Bundle, provider: Provider, api_key: str) -> None:
    """Show what the bundle does, step by step; raise StepFailed if a step fails."""
    ids = range(300, 304)
    for message_id in ids:
        provider.schedule(message_id, DAY_S)
    say("Scheduled", f"SMS {', '.join(map(str, ids))}, to be sent in a day")

    status, answer = bundle.delete(ids[0])
    expect((status, answer["outcome"]) == (200, "cancelled"), answer)
    expect(provider.state(ids[0]) == "cancelled", answer)
    say("Cancelled over HTTP", f"DELETE /messages/{ids[0]} answers {status} {json.dumps(answer)}")

    message = json.dumps({"messageId": ids[1]})
    bundle.send(message)
    wait_for(lambda: provider.state(ids[1]) == "cancelled", f"SMS {ids[1]} was not cancelled")
    say("Cancelled by the queue", f"{message} was queued, and SMS Partner has cancelled the SMS")

    provider.schedule(ids[2], 240)
    status, answer = bundle.delete(ids[2])
    expect((status, answer["outcome"]) == (409, "too_late"), answer)
    say("Too late", f"SMS {ids[2]} now goes out in four minutes: DELETE answers {status}")
    say("", answer["detail"])

    bundle.send('{"messageId": "three hundred"}')
    letter = receive(bundle, bundle.outputs["DeadLetterQueueUrl"])
    expect(letter["outcome"] == "invalid_request", letter)
    say("Poison", f"{letter['body']} is in the dead-letter queue: {letter['outcome']}")
    say("", letter["detail"])

    alert_queue_url = bundle.subscribe_queue()
    provider.configure(api_key=secrets.token_hex(20))
    bundle.watch()
    alert = json.loads(receive(bundle, alert_queue_url)["body"])
    expect((alert["outcome"], alert["door"]) == ("api_key_rejected", "watch"), alert)
    say(
        "Dead key",
        "The account watch runs every five minutes, and alerts before a cancel fails:",
    )
    say("", f"code {alert['code']}, {alert['action']}")
    status, answer = bundle.delete(ids[3])
    provider.configure(api_key=api_key)
    expect((status, answer["outcome"]) == (502, "api_key_rejected"), answer)
    say("", f"Meanwhile, DELETE /messages/{ids[3]} answers {status}, {answer['outcome']}")

    status, answer = bundle.delete(ids[3])
    expect((status, answer["outcome"]) == (200, "cancelled"), answer)
    say("Key valid again", f"DELETE /messages/{ids[3]} answers {status}, {answer['outcome']}")


def receive(bundle: Bundle, queue_url: str) -> dict[str, str]:
    message = bundle.receive(queue_url, TIMEOUT_S)
    if message is None:
        raise StepFailed(f"nothing arrived in {queue_url} within {TIMEOUT_S} s")
    return message


def say(title: str, text: str) -> None:
    print(f"{title:>22}  {text}", flush=True)


def expect(shown: bool, answer: object) -> None:
    if not shown:
        raise StepFailed(f"unexpected: {answer}")


def wait_for(happened: Callable[[], bool], otherwise: str) -> None:
    give_up_at = time.monotonic() + TIMEOUT_S
    while not happened():
        if time.monotonic() > give_up_at:
            raise StepFailed(f"{otherwise} within {TIMEOUT_S} s")
        time.sleep(0.05)


REAL = """
  **************************************************************************
  **  SMSPARTNER_API_KEY is set: this talks to the REAL SMS Partner.      **
  **  A cancel stops a real SMS and cannot be undone. Every five minutes  **
  **  the account watch asks it for the account's state, nothing else.    **
  **************************************************************************
"""
BY_HAND = """
It stays up until Ctrl-C. Try it by hand, with curl 7.75 or newer:

  # cancel over HTTP
  {curl}:execute-api \\
    -X DELETE '{api_url}/messages/310'

  # cancel by the queue
  {curl}:sqs \\
    {queue_url} -d Action=SendMessage --data-urlencode 'MessageBody={{"messageId": 311}}'

  # recall a campaign, with ids from a file or from standard input
  echo 312 | {recall} - --local --yes --wait --results {results}

  # a message without a valid id
  {curl}:sqs \\
    {queue_url} -d Action=SendMessage -d MessageBody=poison

{dead_letters}

  # schedule another SMS, number 313, to be sent in a day
  curl -w '\\n' -X PUT '{simulator}/messages/313?dueInS=86400'

  # what the simulated SMS Partner has
  curl -w '\\n' {simulator}/messages
"""
REAL_BY_HAND = """
It stays up until Ctrl-C. The commands need curl 7.75 or newer.

  # cancel over HTTP: replace MESSAGE_ID with the id of a real SMS
  {curl}:execute-api \\
    -X DELETE '{api_url}/messages/MESSAGE_ID'

{dead_letters}
"""
DEAD_LETTERS = """\
  # what could not be cancelled, and why
  {curl}:sqs \\
    {dead_letter_queue_url} -d Action=ReceiveMessage -d MessageAttributeName.1=All"""


def explain(bundle: Bundle, provider_url: str) -> None:
    """Print commands to try; for the real SMS Partner, none that cancels without an edit."""
    ca_file = stack.ca_file(bundle.endpoint)
    curl = (
        f"curl -w '\\n' --cacert {shlex.quote(ca_file)} \\\n"
        f"    --user test:test --aws-sigv4 aws:amz:{stack.REGION}"
    )
    dead_letters = DEAD_LETTERS.format(
        curl=curl, dead_letter_queue_url=bundle.outputs["DeadLetterQueueUrl"]
    )
    text = (BY_HAND if provider_url else REAL + REAL_BY_HAND).format(
        curl=curl,
        api_url=bundle.api_url,
        queue_url=bundle.outputs["QueueUrl"],
        dead_letters=dead_letters,
        recall=shlex.quote(str(Path(sys.executable).with_name("recall"))),
        results=shlex.quote(str(Path(ca_file).with_name("results.csv"))),
        simulator=provider_url.removesuffix("/v1"),
    )
    print(text, flush=True)


@contextmanager
def announced(bundle: Bundle, file: Path) -> Iterator[None]:
    """While the local stack is up, keep a file with its address for ``recall --local``."""
    place = {
        "stack": "sms-cancel",
        "endpoint": bundle.endpoint,
        "api_url": bundle.api_url,
        "ca_file": stack.ca_file(bundle.endpoint),
        "region": stack.REGION,
        "access_key": ROOT_USER["access_key"],
        "secret_key": ROOT_USER["secret_key"],
    }
    file.parent.mkdir(exist_ok=True)
    remove_stale_announcements(file.parent)
    file.write_text(json.dumps(place))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def remove_stale_announcements(folder: Path) -> None:
    """Remove the files of killed runs, whose certificate authority no longer exists."""
    for file in folder.glob("local-stack-*.json"):
        with suppress(OSError, ValueError):  # another run may be writing or removing its own
            if not Path(json.loads(file.read_text())["ca_file"]).exists():
                file.unlink()


def follow(bundle: Bundle, seen: set[str]) -> None:
    """Print the outcome of each further cancel, until interrupted.

    Reading the log takes long during a recall, so the pauses grow with it; otherwise the local
    stack would have no time for the recall itself.
    """
    read_at = time.time()
    while True:
        looked_at, begun_at = time.time(), time.monotonic()
        lines = list(bundle.settled(seen, read_at))
        bundle.put_latencies(lines)
        for line in lines:
            say("cancel settled", told(json.loads(line)))
        read_at = looked_at
        time.sleep(max(POLL_PAUSE_S, POLL_PAUSE_FACTOR * (time.monotonic() - begun_at)))


def told(line: dict[str, object]) -> str:
    """Return what a log line says about a cancel, without the fields that every line has."""
    names = ("message_id", "outcome", "code", "door", "disposition", "attempts", "duration_ms")
    return "  ".join(f"{name}={line[name]}" for name in names if name in line)


def main() -> int:
    """Run the bundle; return the exit code."""
    real_key = os.environ.get("SMSPARTNER_API_KEY", "").strip()
    api_key = real_key or secrets.token_hex(20)
    if real_key:
        print(REAL)
    with ExitStack() as exits:
        provider, url = Provider(api_key), ""
        if not real_key:
            url = exits.enter_context(serve(provider))
        say("Building", "the functions: about 10 s the first time")
        artifacts = stack.built()
        say("Deploying", "template.yaml to a local AWS (ministack): about 4 s")
        begun_at = time.monotonic()
        endpoint = exits.enter_context(stack.ministack())
        parameters = {"SmsPartnerUrl": url} if url else {}
        bundle = Bundle(endpoint, stack.deploy(endpoint, artifacts, **parameters))
        bundle.put_key(api_key)
        say("Deployed", f"in {time.monotonic() - begun_at:.1f} s")
        if not real_key:
            demonstrate(bundle, provider, api_key)
        if not os.environ.get("ONCE"):
            for message_id in (310, 311, 312):
                provider.schedule(message_id, DAY_S)
            seen: set[str] = set()
            bundle.put_latencies(bundle.settled(seen, time.time()))  # those of the demonstration
            if not real_key:  # `recall --local` must never reach a real SMS
                exits.enter_context(announced(bundle, ANNOUNCEMENT))
            explain(bundle, url)
            follow(bundle, seen)
    return 0


def interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell may have made us ignore SIGINT
        signal.signal(number, interrupt)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print()
    except StepFailed as error:
        sys.exit(f"The demonstration failed: {error}")
    except stack.LocalStackError as error:
        sys.exit(f"The local stack failed: {error}")
