"""The least that requests and Powertools can do: one session, the key given, no AWS client."""

import os

import requests
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

logger = Logger()
metrics = Metrics()
session = requests.Session()


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, dict[str, str]], context: LambdaContext) -> dict[str, object]:
    message_id = event["pathParameters"]["messageId"]
    response = session.get(
        f"{os.environ['SMSPARTNER_URL']}/message-cancel",
        params={"apiKey": os.environ["API_KEY"], "messageId": message_id},
        timeout=10,
    )
    answer = response.json()
    logger.info("cancelled", message_id=message_id, code=answer["code"])
    metrics.add_metric(name="Cancellations", unit=MetricUnit.Count, value=1)
    return {"statusCode": 200, "body": response.text}
