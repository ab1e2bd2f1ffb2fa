"""The queue door with Powertools' batch processor, the secret read once, and one session."""

import os

import boto3
import requests
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    process_partial_response,
)
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

logger = Logger()
metrics = Metrics()
processor = BatchProcessor(event_type=EventType.SQS)
session = requests.Session()
secret = boto3.client("secretsmanager").get_secret_value(SecretId=os.environ["API_KEY_SECRET_ARN"])


def cancel(record: SQSRecord) -> None:
    response = session.get(
        f"{os.environ['SMSPARTNER_URL']}/message-cancel",
        params={"apiKey": secret["SecretString"], "messageId": record.json_body["messageId"]},
        timeout=10,
    )
    answer = response.json()
    logger.info("cancelled", message_id=record.json_body["messageId"], code=answer["code"])
    metrics.add_metric(name="Cancellations", unit=MetricUnit.Count, value=1)
    if not answer["success"]:
        raise RuntimeError(answer["code"])


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, object], context: LambdaContext) -> object:
    return process_partial_response(
        event=event, record_handler=cancel, processor=processor, context=context
    )
