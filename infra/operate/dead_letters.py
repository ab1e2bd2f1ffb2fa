"""Reads the dead-letter queue, for both commands."""

from datetime import datetime
from typing import Any

AT_ONCE = 10  # messages: SQS handles no more in one call
WAIT_S = 2  # long polling: SQS asks all its servers before it returns none
HIDDEN_S = 600  # so that a run sees each message once; after it, those of a killed run reappear

Message = dict[str, Any]


def receive(sqs: Any, queue_url: str) -> list[Message]:
    """Return up to ten messages, and hide them from others for ten minutes."""
    answer = sqs.receive_message(
        QueueUrl=queue_url,
        MaxNumberOfMessages=AT_ONCE,
        MessageAttributeNames=["outcome", "code", "originalMessageId"],
        MessageSystemAttributeNames=["SentTimestamp"],
        VisibilityTimeout=HIDDEN_S,
        WaitTimeSeconds=WAIT_S,
    )
    messages: list[Message] = answer.get("Messages", [])
    return messages


def show(sqs: Any, queue_url: str, messages: list[Message]) -> None:
    """Make received messages visible to others again, at once."""
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
