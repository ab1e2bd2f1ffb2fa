"""``make run``: the bundle on this machine, a demonstration of it, and then for trying by hand.

ONCE=1                  end after the demonstration: exit 0, or 1 if a step did not show it
SMSPARTNER_API_KEY=...  talk to the real SMS Partner with this key; no demonstration
"""

import json
import os
import secrets
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType
from zoneinfo import ZoneInfo

from infra.local import stack
from infra.local.bundle import ROOT_USER, Bundle
from infra.local.provider import Provider
from infra.local.provider_server import serve
from infra.recall.stack import LOCAL

PARIS = ZoneInfo("Europe/Paris")  # SMS Partner's clock
PATIENCE_S = 20


class Step(Exception):
    """A step of the demonstration did not show what it should."""


def schedule(url: str, api_key: str, at: datetime) -> int:
    """Schedule an SMS as SMS Partner documents it; return its message id."""
    order = {
        "apiKey": api_key,
        "phoneNumbers": "+33600000000",
        "message": "Your appointment is tomorrow at nine.",
        "scheduledDeliveryDate": at.strftime("%d/%m/%Y"),
        "time": at.hour,
        "minute": at.minute,
    }
    request = urllib.request.Request(
        f"{url}/send",
        data=json.dumps(order).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        message_id: int = json.load(answer)["message_id"]
        return message_id


def demonstrate(bundle: Bundle, provider: Provider, url: str, api_key: str) -> None:
    """Show each thing that the bundle does; raise Step where one does not happen."""
    tomorrow = (datetime.now(PARIS) + timedelta(days=1)).replace(hour=9, minute=0)
    ids = [schedule(url, api_key, tomorrow) for _ in range(4)]
    say("Scheduled", f"SMS {', '.join(map(str, ids))} for tomorrow at 09:00")

    status, answer = bundle.delete(ids[0])
    expect((status, answer["outcome"]) == (200, "cancelled"), answer)
    expect(provider.state(ids[0]) == "cancelled", answer)
    say("Cancelled over HTTP", f"DELETE /messages/{ids[0]} answers {status} {json.dumps(answer)}")

    bundle.send(json.dumps({"messageId": ids[1]}))
    wait_for(lambda: provider.state(ids[1]) == "cancelled")
    say(
        "Cancelled by the queue", f'message {{"messageId": {ids[1]}}}: SMS Partner has it cancelled'
    )

    provider.schedule(ids[2], 240)  # as if tomorrow had come: it leaves in four minutes
    status, answer = bundle.delete(ids[2])
    expect((status, answer["outcome"]) == (409, "too_late"), answer)
    say("Too late", f"SMS {ids[2]} now leaves in four minutes: DELETE answers {status}")
    say("", answer["detail"])

    bundle.send('{"messageId": "three hundred"}')
    letter = receive(bundle, bundle.outputs["DeadLetterQueueUrl"])
    expect(letter["outcome"] == "invalid_request", letter)
    say("Poison", f"{letter['body']} lies in the dead-letter queue: {letter['outcome']}")
    say("", letter["detail"])

    alert_queue_url = bundle.subscribe_queue()
    provider.configure(api_key=secrets.token_hex(20))
    status, answer = bundle.delete(ids[3])
    provider.configure(api_key=api_key)
    expect((status, answer["outcome"]) == (502, "api_key_rejected"), answer)
    alert = json.loads(receive(bundle, alert_queue_url)["body"])
    expect((alert["outcome"], alert["messageIds"]) == ("api_key_rejected", [str(ids[3])]), alert)
    say("Dead key", f"DELETE /messages/{ids[3]} answers {status}, and the topic has an alert:")
    say("", f"code {alert['code']}, {alert['action']}")

    status, answer = bundle.delete(ids[3])
    expect((status, answer["outcome"]) == (200, "cancelled"), answer)
    say("Key in order again", f"DELETE /messages/{ids[3]} answers {status}, {answer['outcome']}")


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


BY_HAND = """
It stays up until Ctrl-C. Try it by hand, with curl 7.75 or newer:

  # it speaks TLS only, as AWS does, with a certificate of its own
  export CURL_CA_BUNDLE={ca_file}

  # cancel over HTTP
  curl -X DELETE --aws-sigv4 aws:amz:{region}:execute-api --user test:test \\
    '{api_url}/messages/300'

  # cancel by the queue
  curl --aws-sigv4 aws:amz:{region}:sqs --user test:test {queue_url} \\
    -d Action=SendMessage --data-urlencode 'MessageBody={{"messageId": 301}}'

  # recall a campaign: the ids of a file, or of standard input
  echo 302 | {recall} - --local --yes --wait --results {results}

  # a message that names no SMS
  curl --aws-sigv4 aws:amz:{region}:sqs --user test:test {queue_url} \\
    -d Action=SendMessage -d MessageBody=poison

  # what could not be cancelled, and why
  curl --aws-sigv4 aws:amz:{region}:sqs --user test:test {dead_letter_queue_url} \\
    -d Action=ReceiveMessage -d MessageAttributeName.1=All
"""
SIMULATED = """
  # what the simulated SMS Partner has; it takes faults too: see infra/local/provider_server.py
  curl {simulator}/messages
"""


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
    file.write_text(json.dumps(place))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def stay_up(bundle: Bundle, provider: Provider | None, provider_url: str) -> None:
    if provider is not None:
        for message_id in (300, 301, 302):
            provider.schedule(message_id, 24 * 3600)
    print(
        BY_HAND.format(
            ca_file=stack.ca_file(bundle.endpoint),
            region=stack.REGION,
            recall=Path(sys.executable).with_name("recall"),
            results=Path(stack.ca_file(bundle.endpoint)).with_name("results.csv"),
            api_url=bundle.api_url,
            queue_url=bundle.outputs["QueueUrl"],
            dead_letter_queue_url=bundle.outputs["DeadLetterQueueUrl"],
        )
    )
    if provider is not None:
        print(SIMULATED.format(simulator=provider_url.replace("/v1", "/_simulator")))
    sys.stdout.flush()
    signal.pause()


def main() -> int:
    """Run the bundle; return the exit code."""
    real_key = os.environ.get("SMSPARTNER_API_KEY", "").strip()
    api_key = real_key or secrets.token_hex(20)
    begun_at = time.monotonic()
    with ExitStack() as exits:
        artifacts = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="sms-cancel-")))
        provider, parameters, url = None, {}, ""
        if not real_key:
            provider = Provider(api_key)
            url = exits.enter_context(serve(provider))
            parameters = {"SmsPartnerUrl": url}
        stack.build(artifacts)
        endpoint = exits.enter_context(stack.ministack())
        bundle = Bundle(endpoint, stack.deploy(endpoint, artifacts, **parameters))
        bundle.put_key(api_key)
        say("Deployed", f"template.yaml, in {time.monotonic() - begun_at:.1f} s")
        if provider is not None:
            demonstrate(bundle, provider, url, api_key)
        if not os.environ.get("ONCE"):
            with announced(bundle, LOCAL):
                stay_up(bundle, provider, url)
    return 0


def interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, interrupt)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print()
    except Step as error:
        sys.exit(f"The demonstration failed: {error}")
    except stack.LocalStackError as error:
        sys.exit(f"The local stack failed: {error}")
