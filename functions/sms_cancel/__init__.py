"""Stops scheduled SMS at SMS Partner, through an HTTP door (``api``) and a queue door (``worker``).

A third door, ``watch``, checks the account. Read ``outcome`` first, then ``request``,
``smspartner``, ``answer``, ``cancellation`` and the doors.
"""

import gc
import logging
import os

if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    # Nothing created during start-up is garbage. The doors turn collection back on.
    gc.disable()

# The API key travels in the query string, and these libraries log URLs and secrets: urllib3 in a
# WARNING about a malformed header, even of a good answer; all of them at DEBUG. A filter on the
# root logger does not see the records of other loggers, so each of these trees ends here.
for _name in ("urllib3", "requests", "boto3", "botocore"):
    _library = logging.getLogger(_name)
    _library.setLevel(logging.CRITICAL)
    _library.propagate = False
