"""What Lambda passes on: a request of an HTTP API (payload 2.0), and a batch of SQS messages."""

import json
import time
from typing import Any

HTTP: dict[str, Any] = {
    "version": "2.0",
    "routeKey": "DELETE /messages/{messageId}",
    "rawPath": "/messages/300",
    "rawQueryString": "",
    "headers": {"host": "api.example.com", "user-agent": "curl"},
    "requestContext": {
        "accountId": "000000000000",
        "apiId": "api",
        "domainName": "api.example.com",
        "domainPrefix": "api",
        "http": {
            "method": "DELETE",
            "path": "/messages/300",
            "protocol": "HTTP/1.1",
            "sourceIp": "192.0.2.1",
            "userAgent": "curl",
        },
        "requestId": "request",
        "routeKey": "DELETE /messages/{messageId}",
        "stage": "$default",
        "time": "12/Mar/2026:19:03:58 +0000",
        "timeEpoch": 1773342238000,
    },
    "pathParameters": {"messageId": "300"},
    "isBase64Encoded": False,
}


def batch(size: int) -> dict[str, Any]:
    """Return an event of so many messages."""
    attributes = {
        "ApproximateReceiveCount": "1",
        "SentTimestamp": str(int(time.time() * 1000)),
        "SenderId": "000000000000",
        "ApproximateFirstReceiveTimestamp": str(int(time.time() * 1000)),
    }
    return {
        "Records": [
            {
                "messageId": f"message-{number}",
                "receiptHandle": "receipt",
                "body": json.dumps({"messageId": 300 + number}),
                "attributes": attributes,
                "messageAttributes": {},
                "md5OfBody": "",
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:eu-west-3:000000000000:queue",
                "awsRegion": "eu-west-3",
            }
            for number in range(size)
        ]
    }
