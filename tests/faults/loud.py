"""The handlers at their most talkative, and with a bug put in where ``INJECT`` names one.

Runs inside the execution environment: everything that can be logged is, at DEBUG.
"""

import logging
import os
import pkgutil

LEAK = "leak"  # what shows that the search would find one

logging.getLogger().setLevel(logging.DEBUG)

from sms_cancel import api, worker  # noqa: E402  logging is turned up before anything is imported


def _inject(target: str) -> None:
    """Make one function fail with the key and the caller's signature in its exception's text."""
    owner, _, name = target.replace(":", ".").rpartition(".")

    def fail(*_: object, **__: object) -> None:
        key = os.environ["TEST_KEY"]
        raise RuntimeError(f"https://api.smspartner.fr/v1/message-cancel?apiKey={key} {key!r}")

    setattr(pkgutil.resolve_name(owner), name, fail)


if os.environ.get("INJECT") == LEAK:
    print(os.environ["TEST_KEY"])
elif os.environ.get("INJECT"):
    _inject(os.environ["INJECT"])

http = api.handler
queue = worker.handler
