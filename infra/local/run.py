"""``make run``: the bundle on this machine. It shows what it does, then stays up to be tried.

ONCE=1                  end after the demonstration: exit 0, or 1 if a step did not show it
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
PATIENCE_S = 120
LOOKS = 9  # the pause after a look at the log, in times of what the look took
ANNOUNCEMENT = stack.BUILD / f"local-stack-{os.getpid()}.json"  # one for each `make run` that is up


class Step(Exception):
    """A step of the demonstration did not show what it should."""


def demonstrate(bundle: Bundle, provider: Provider, api_key: str) -> None:
    """Show each thing that the bundle does; raise Step where one does not happen."""
    ids = range(300, 304)
    for message_id in ids:
        provider.schedule(message_id, DAY_S)
    say("Scheduled", f"SMS {', '.join(map(str, ids))}, to leave in a day")

    status, answer = bundle.delete(ids[0])
    expect((status, answer["outcome"]) == (200, "cancelled"), answer)
    expect(provider.state(ids[0]) == "cancelled", answer)
    say("Cancelled over HTTP", f"DELETE /messages/{ids[0]} answers {status} {json.dumps(answer)}")

    message = json.dumps({"messageId": ids[1]})
    bundle.send(message)
    wait_for(lambda: provider.state(ids[1]) == "cancelled")
    say("Cancelled by the queue", f"{message} was sent, and SMS Partner has it cancelled")

    provider.schedule(ids[2], 240)
    status, answer = bundle.delete(ids[2])
    expect((status, answer["outcome"]) == (409, "too_late"), answer)
    say("Too late", f"SMS {ids[2]} now leaves in four minutes: DELETE answers {status}")
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
        "The account watch, which asks every five minutes, alerts before a cancel fails:",
    )
    say("", f"code {alert['code']}, {alert['action']}")
    status, answer = bundle.delete(ids[3])
    provider.configure(api_key=api_key)
    expect((status, answer["outcome"]) == (502, "api_key_rejected"), answer)
    say("", f"Until then DELETE /messages/{ids[3]} answers {status}, {answer['outcome']}")

    status, answer = bundle.delete(ids[3])
    expect((status, answer["outcome"]) == (200, "cancelled"), answer)
    say("Key valid again", f"DELETE /messages/{ids[3]} answers {status}, {answer['outcome']}")


def receive(bundle: Bundle, queue_url: str) -> dict[str, str]:
    message = bundle.receive(queue_url, PATIENCE_S)
    if message is None:
        raise Step(f"nothing arrived in {queue_url} within {PATIENCE_S} s")
    return message


def say(title: str, text: str) -> None:
    print(f"{title:>22}  {text}", flush=True)


def expect(shown: bool, answer: object) -> None:
    if not shown:
        raise Step(f"instead: {answer}")


def wait_for(happened: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not happened():
        if time.monotonic() > give_up_at:
            raise Step(f"it did not happen within {PATIENCE_S} s")
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

  # recall a campaign: the ids of a file, or of standard input
  echo 312 | {recall} - --local --yes --wait --results {results}

  # a message that names no SMS
  {curl}:sqs \\
    {queue_url} -d Action=SendMessage -d MessageBody=poison

{dead_letters}

  # schedule another SMS, number 313, to leave in a day
  curl -w '\\n' -X PUT '{simulator}/messages/313?dueInS=86400'

  # what the simulated SMS Partner has
  curl -w '\\n' {simulator}/messages
"""
REAL_BY_HAND = """
It stays up until Ctrl-C, with curl 7.75 or newer for the commands.

  # cancel over HTTP: put the id of a real SMS in the place of MESSAGE_ID
  {curl}:execute-api \\
    -X DELETE '{api_url}/messages/MESSAGE_ID'

{dead_letters}
"""
DEAD_LETTERS = """\
  # what could not be cancelled, and why
  {curl}:sqs \\
    {dead_letter_queue_url} -d Action=ReceiveMessage -d MessageAttributeName.1=All"""


def explain(bundle: Bundle, provider_url: str) -> None:
    """Print what to try by hand; for the real SMS Partner nothing that cancels as it stands."""
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
    """Write down where the local stack is, for ``recall --local``, for as long as it is there."""
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
    """Remove the files of runs that were killed: their certificate authority is gone."""
    for file in folder.glob("local-stack-*.json"):
        with suppress(OSError, ValueError):  # another run is writing or removing its own
            if not Path(json.loads(file.read_text())["ca_file"]).exists():
                file.unlink()


def follow(bundle: Bundle, seen: set[str]) -> None:
    """Print what becomes of each further cancel, until interrupted.

    Each look reads the last half minute anew: in a recall, pauses as short as for a single cancel
    would leave the local stack no time for the recall itself.
    """
    while True:
        begun_at = time.monotonic()
        lines = list(bundle.settled(seen))
        bundle.put_latencies(lines)
        for line in lines:
            say("cancel settled", told(json.loads(line)))
        time.sleep(max(0.5, LOOKS * (time.monotonic() - begun_at)))


def told(line: dict[str, object]) -> str:
    """Return what a log line tells of a cancel, without what every line holds."""
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
        say("Building", "what ships: about 10 s the first time")
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
            bundle.put_latencies(bundle.settled(seen))  # those of the demonstration
            if not real_key:  # `recall --local` must never reach a real SMS
                exits.enter_context(announced(bundle, ANNOUNCEMENT))
            explain(bundle, url)
            follow(bundle, seen)
    return 0


def interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell may have it ignore the first
        signal.signal(number, interrupt)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print()
    except Step as error:
        sys.exit(f"The demonstration failed: {error}")
    except stack.LocalStackError as error:
        sys.exit(f"The local stack failed: {error}")
