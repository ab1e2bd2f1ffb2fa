"""What is written down: log lines, which may carry metrics of their own, and nothing secret."""

import logging
import os
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from aws_lambda_powertools import Logger

# The level is fixed, because a higher one would drop lines with the metrics that they carry. No
# location, because most lines would name this file.
logger = Logger(level="INFO", location=None)

UNITS = {"ProviderLatency": "Milliseconds", "QueueAge": "Milliseconds", "CutOffMargin": "Seconds"}

# Powertools adds these to each line, but the log group already says which function it is.
LEFT_OUT = dict.fromkeys(("function_arn", "function_memory_size", "function_name"))

Metrics = Mapping[str, float | Sequence[float] | None]


class ConfigurationError(Exception):
    """An environment variable is missing or wrong.

    The text names the variable and what it must be, never its value, so it is safe to log.
    """


def write(level: int, message: str, *, metrics: Metrics, **fields: Any) -> None:
    """Log a line that is also its metrics, in CloudWatch's embedded metric format (EMF).

    ``Cancellations`` has the dimensions ``service`` and ``outcome`` (pass ``outcome`` as a field),
    all others only ``service``. A metric without a value is left out. One event is one line, so
    there is nothing to collect or flush.
    """
    metrics = {name: value for name, value in metrics.items() if value not in (None, ())}
    directives = []
    if "Cancellations" in metrics:
        directives.append(_directive(["service", "outcome"], ["Cancellations"]))
    if others := [name for name in metrics if name != "Cancellations"]:
        directives.append(_directive(["service"], others))
    emf = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": directives}
    logger.log(  # type: ignore[attr-defined]
        level, message, extra={**LEFT_OUT, **fields, **metrics, "_aws": emf if metrics else None}
    )


def _directive(dimensions: list[str], names: list[str]) -> dict[str, Any]:
    metrics = [{"Name": name, "Unit": UNITS.get(name, "Count")} for name in names]
    namespace = os.environ.get("POWERTOOLS_METRICS_NAMESPACE")
    return {"Namespace": namespace, "Dimensions": [dimensions], "Metrics": metrics}


def bug(error: BaseException) -> None:
    """Log where an unexpected exception arose, but not its text, because it may hold a URL."""
    reason = str(error) if isinstance(error, ConfigurationError) else type(error).__name__
    places = traceback.extract_tb(error.__traceback__)
    frames = [f"{place.filename}:{place.lineno} {place.name}" for place in places]
    write(logging.ERROR, "bug", metrics={"Bugs": 1}, error=reason, frames=frames)
