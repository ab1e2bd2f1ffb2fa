"""A hundred thousand calls in one execution environment, one in fifty of them over a broken wire.

Claim: open files and threads stay as they are; the growth of memory is stated.
"""

import argparse
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from conftest import KEY
from infra.local import runtime, stack
from infra.local.provider import Provider
from infra.local.provider_server import fault, serve
from tests.faults.wire import LOCAL_PYTHON, TIMEOUT_S, Cloud

FAULTS = ("close", "reset", "html", "status", "truncated", "oversized", "many_headers")
EVERY = 50
MOST_GROWTH_MB = 5.0


def measure(pid: int) -> tuple[int, int, float]:
    """Return open files, threads and resident megabytes of a process; Linux only."""
    folder = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in folder.joinpath("status").read_text().splitlines())
    files = len(os.listdir(folder / "fd"))  # noqa: PTH208  pathlib would open one more
    return files, int(status["Threads"]), int(status["VmRSS"].split()[0]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    options = parser.parse_args()
    with ExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory()))
        stack.build(folder / "artifacts")
        cloud = Cloud(exits.enter_context(stack.ministack(str(LOCAL_PYTHON))))
        provider = Provider(KEY)
        provider.schedule(300, 7 * 24 * 3600)
        url = exits.enter_context(serve(provider))
        variables = cloud.resources("soak") | {
            "SMSPARTNER_URL": url,
            "POWERTOOLS_LOG_LEVEL": "INFO",
            "POWERTOOLS_LOGGER_LOG_EVENT": "false",
        }
        environment = exits.enter_context(
            runtime.environment(
                "sms_cancel.api.handler", [folder / "artifacts"], variables, Path(os.devnull)
            )
        )
        event = cloud.event("http", variables["QUEUE_URL"])
        settled = errors = 0
        begun_at = time.monotonic()
        for number in range(options.calls):
            if number % EVERY == 0:
                provider.plan(fault(FAULTS[number // EVERY % len(FAULTS)]))
            ended = environment.invoke(event, TIMEOUT_S["http"])
            settled += ended.kind == "response" and ended.payload["statusCode"] == 200
            errors += ended.kind == "error" or ended.payload["statusCode"] == 500
            if number == options.calls // 10:  # warm: all has been imported and connected
                files, threads, megabytes = measure(environment.process.pid)
        took_s = time.monotonic() - begun_at
        files_now, threads_now, megabytes_now = measure(environment.process.pid)
    growth_mb = megabytes_now - megabytes
    print(
        f"{options.calls} calls in {took_s:.0f} s, {settled} done, {errors} failed; from a tenth "
        f"of them to the end: open files {files} to {files_now}, threads {threads} to "
        f"{threads_now}, memory {megabytes:.1f} to {megabytes_now:.1f} MB"
    )
    holds = not errors and files_now <= files + 1 and threads_now <= threads + 1
    return 0 if holds and growth_mb <= MOST_GROWTH_MB else 1


if __name__ == "__main__":
    sys.exit(main())
