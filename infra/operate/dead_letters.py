"""The dead-letter queue, as both commands look into it."""

from datetime import datetime
from typing import Any

AT_ONCE = 10  # the most that SQS gives or takes in one call
HIDDEN_S = 600  # a run meets each message once; what a killed one held is visible again after it

Message = dict[str, Any]


def receive(sqs: Any, queue_url: str) -> list[Message]:
    """Return up to ten messages, and hide them from others for ten minutes."""
    answer = sqs.receive_message(
        QueueUrl=queue_url,
        MaxNumberOfMessages=AT_ONCE,
        MessageAttributeNames=["outcome", "code", "originalMessageId"],
        MessageSystemAttributeNames=["SentTimestamp"],
        VisibilityTimeout=HIDDEN_S,
        WaitTimeSeconds=2,  # any wait makes SQS look everywhere before it says that there is none
    )
    messages: list[Message] = answer.get("Messages", [])
    return messages


def show(sqs: Any, queue_url: str, messages: list[Message]) -> None:
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


def attribute(message: Message, name: str) -> str | None:
    value: str | None = message.get("MessageAttributes", {}).get(name, {}).get("StringValue")
    return value


def sent_ms(message: Message) -> int:
    return int(message["Attributes"]["SentTimestamp"])


def unix_ms(time: datetime) -> int:
    return int(time.timestamp() * 1000)
