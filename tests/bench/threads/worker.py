"""Our own queue door, with another number of threads."""

import os

from sms_cancel import worker

worker.MAX_THREADS = int(os.environ["THREADS"])
handler = worker.handler
