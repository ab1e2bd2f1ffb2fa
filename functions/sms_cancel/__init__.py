"""Stops scheduled SMS at SMS Partner: an HTTP door (``api``) and a queue door (``worker``).

Read ``outcome`` first, then ``smspartner``, ``cancellation`` and the two doors.
"""

import gc
import logging
import os

if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    gc.disable()  # all that is made while Lambda starts this stays; until ``cancellation.prepare``

# The API key travels in the query string, and these libraries write URLs and secrets: urllib3 in
# a WARNING about an odd header even of a good answer, all of them at DEBUG. Nothing they log may
# reach a handler; a filter on the root logger would not see it, so their trees end here.
for _name in ("urllib3", "requests", "botocore"):
    _library = logging.getLogger(_name)
    _library.addHandler(logging.NullHandler())
    _library.setLevel(logging.CRITICAL)
    _library.propagate = False
