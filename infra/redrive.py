"""Take those cancels back from the dead-letter queue that can succeed now.

    python -m infra.redrive --stack NAME                         count them by outcome, take none
    python -m infra.redrive --stack NAME api_key_rejected none   take back; none: has no outcome

Each message is first sent to the queue, then deleted from the dead-letter queue: none is lost
wherever this is killed, and at worst one is cancelled twice, which is harmless. SQS's own move task
(StartMessageMoveTask) cannot choose, and also brings back what can only fail again.
"""

import argparse
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3

HIDDEN_S = 600  # a run meets each message once; what a killed one held is visible again after it
AT_ONCE = 10  # the most that SQS gives or takes in one call


def redrive(
    sqs: Any, dead_letter_queue_url: str, queue_url: str, outcomes: set[str]
) -> tuple[Counter[str], Counter[str]]:
    """Take the messages with these outcomes back; return how many there were and were taken.

    What is left is visible again at the end. A run of more than ten minutes may meet it a second
    time: it ends there, and the next one goes on.
    """
    there: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    left: list[dict[str, Any]] = []
    met: set[str] = set()

    def take(message: dict[str, Any]) -> None:
        sqs.send_message(QueueUrl=queue_url, MessageBody=message["Body"])
        sqs.delete_message(QueueUrl=dead_letter_queue_url, ReceiptHandle=message["ReceiptHandle"])

    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            while new := [
                each for each in receive(sqs, dead_letter_queue_url) if each["MessageId"] not in met
            ]:
                met.update(each["MessageId"] for each in new)
                chosen = [each for each in new if _outcome(each) in outcomes]
                left += [each for each in new if _outcome(each) not in outcomes]
                there.update(_outcome(each) for each in new)
                list(pool.map(take, chosen))
                taken.update(_outcome(each) for each in chosen)
        finally:
            show(sqs, dead_letter_queue_url, left)
    return there, taken


def receive(sqs: Any, queue_url: str) -> list[dict[str, Any]]:
    """Return up to ten messages, and hide them from others for ten minutes."""
    answer = sqs.receive_message(
        QueueUrl=queue_url,
        MaxNumberOfMessages=AT_ONCE,
        MessageAttributeNames=["outcome", "code"],
        MessageSystemAttributeNames=["SentTimestamp"],
        VisibilityTimeout=HIDDEN_S,
        WaitTimeSeconds=2,  # any wait makes SQS look everywhere before it says that there is none
    )
    messages: list[dict[str, Any]] = answer.get("Messages", [])
    return messages


def _outcome(message: dict[str, Any]) -> str:
    attribute = message.get("MessageAttributes", {}).get("outcome", {})
    return str(attribute.get("StringValue", "none"))


def show(sqs: Any, queue_url: str, messages: list[dict[str, Any]]) -> None:
    """Let others see received messages again, at once."""
    for start in range(0, len(messages), AT_ONCE):
        entries = [
            {
                "Id": str(number),
                "ReceiptHandle": message["ReceiptHandle"],
                "VisibilityTimeout": 0,
            }
            for number, message in enumerate(messages[start : start + AT_ONCE])
        ]
        sqs.change_message_visibility_batch(QueueUrl=queue_url, Entries=entries)


def _outputs(stack: str) -> dict[str, str]:
    [described] = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    return {each["OutputKey"]: each["OutputValue"] for each in described["Outputs"]}


def main() -> None:
    """Redrive the stack's dead-letter queue, and print what was there and what was taken."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.redrive",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("outcomes", nargs="*", metavar="outcome", help="what to take back")
    parser.add_argument("--stack", required=True, help="the stack's name")
    arguments = parser.parse_args()
    urls = _outputs(arguments.stack)
    there, taken = redrive(
        boto3.client("sqs"),
        urls["DeadLetterQueueUrl"],
        urls["QueueUrl"],
        set(arguments.outcomes),
    )
    print(f"{'outcome':<20}{'there':>8}{'taken back':>12}")
    for outcome in sorted({*there, *arguments.outcomes}):
        print(f"{outcome:<20}{there[outcome]:>8}{taken[outcome]:>12}")


if __name__ == "__main__":
    main()
