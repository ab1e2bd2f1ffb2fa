"""The HTTP door as the documentation of AWS and of Powertools teaches it."""

import json
import os
from typing import Annotated

import boto3
import requests
from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.event_handler.openapi.params import Path
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

logger = Logger()
tracer = Tracer()
metrics = Metrics()
app = APIGatewayHttpResolver(enable_validation=True)
secrets = boto3.client("secretsmanager")
sns = boto3.client("sns")


@app.delete("/messages/<message_id>")
@tracer.capture_method
def cancel(message_id: Annotated[str, Path(pattern=r"^\d{1,20}$")]) -> dict[str, object]:
    secret = secrets.get_secret_value(SecretId=os.environ["API_KEY_SECRET_ARN"])
    response = requests.get(
        f"{os.environ['SMSPARTNER_URL']}/message-cancel",
        params={"apiKey": secret["SecretString"], "messageId": message_id},
        timeout=10,
    )
    answer = response.json()
    logger.info("cancelled", message_id=message_id, code=answer["code"])
    metrics.add_metric(name="Cancellations", unit=MetricUnit.Count, value=1)
    if answer["code"] in (10, 11):
        sns.publish(TopicArn=os.environ["ALERT_TOPIC_ARN"], Message=json.dumps(answer))
    return {"messageId": message_id, "code": answer["code"]}


@logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_HTTP)
@tracer.capture_lambda_handler
@metrics.log_metrics(capture_cold_start_metric=True)
def handler(event: dict[str, object], context: LambdaContext) -> dict[str, object]:
    return app.resolve(event, context)
