"""The function's environment variables, read when they are used."""

import os


class ConfigurationError(Exception):
    """An environment variable is missing or wrong.

    The text names the variable and what it must be, never its value: it is safe to log.
    """


def required(name: str) -> str:
    """Return the variable's value; raise ConfigurationError if it is missing or empty."""
    value = os.environ.get(name, "")
    if not value:
        raise ConfigurationError(f"environment variable {name} is not set")
    return value
