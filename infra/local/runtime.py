"""One execution environment of Lambda: a handler under the real runtime client (awslambdaric).

As in Lambda, the client fetches its invocations from a Runtime API, here on loopback, and posts
their results. Source: "Using the Lambda runtime API" in AWS's developer guide.
"""

import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FUNCTION_ARN = "arn:aws:lambda:eu-west-3:000000000000:function:sms-cancel"
_POSTED = re.compile(r"/2018-06-01/runtime/(?:invocation/([^/]+)|init)/(response|error)")


@dataclass(frozen=True)
class Ended:
    """What the runtime client posted for one invocation."""

    kind: str  # "response" or "error"
    payload: Any
    headers: dict[str, str]
    seconds: float  # from the client's fetch to its post


class Environment:
    """A running execution environment: one invocation at a time, as in Lambda."""

    def __init__(
        self, port: int, process: subprocess.Popen[bytes], api: "_RuntimeApi", started_at: float
    ) -> None:
        self.port = port
        self.process = process
        self.started_at = started_at  # of time.monotonic
        self._api = api

    def wait_until_initialized(self, timeout_s: float = 30.0) -> None:
        """Wait until the client asks for an invocation; raise TimeoutError if it never does."""
        if not self._api.asked.wait(timeout_s):
            self.process.kill()
            raise TimeoutError(f"the function did not initialize within {timeout_s} s")

    def invoke(self, event: Any, timeout_s: float = 30.0) -> Ended:
        """Run one invocation; raise TimeoutError when Lambda would end the environment."""
        self._api.invocations.put((event, timeout_s))
        try:
            return self._api.ended.get(timeout=timeout_s)
        except queue.Empty:
            self.process.kill()
            raise TimeoutError(f"the function did not end within {timeout_s} s") from None


class _RuntimeApi(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.invocations: queue.Queue[tuple[Any, float] | None] = queue.Queue()
        self.ended: queue.Queue[Ended] = queue.Queue()
        self.asked = threading.Event()
        self.taken_at = 0.0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: the client is killed while it waits for its next invocation."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # so that an answer is one packet
    server: _RuntimeApi

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.set()
        invocation = self.server.invocations.get()
        if invocation is None:
            self.close_connection = True
            return
        event, timeout_s = invocation
        deadline_ms = int((time.time() + timeout_s) * 1000)
        self.server.taken_at = time.monotonic()
        self._answer(
            200,
            json.dumps(event).encode(),
            **{
                "Lambda-Runtime-Aws-Request-Id": str(uuid.uuid4()),
                "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
                "Lambda-Runtime-Invoked-Function-Arn": FUNCTION_ARN,
                "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=1",
            },
        )

    def do_POST(self) -> None:
        seconds = time.monotonic() - self.server.taken_at
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        posted = _POSTED.fullmatch(self.path)
        if posted:
            payload = json.loads(body or b"null")
            ended = Ended(posted[2], payload, dict(self.headers.items()), seconds)
            self.server.ended.put(ended)
        self._answer(202, b'{"status": "OK"}')

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def environment(
    handler: str,
    paths: list[Path],
    variables: dict[str, str],
    output: Path,
    python: str = sys.executable,
) -> Iterator[Environment]:
    """Run a handler (``"sms_cancel.api.handler"``) until the block ends.

    ``paths``: where it is imported from; ``variables``: its environment, on top of what Lambda
    sets; ``output``: the file that receives its output; ``python``: one that has awslambdaric.
    """
    with _RuntimeApi() as api:
        threading.Thread(target=api.serve_forever, args=(0.02,), daemon=True).start()
        port = api.server_address[1]
        with output.open("ab") as file:
            started_at = time.monotonic()
            process = subprocess.Popen(
                [python, "-m", "awslambdaric", handler],
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": os.pathsep.join(map(str, paths)),
                    "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
                    "AWS_LAMBDA_FUNCTION_NAME": "sms-cancel",
                    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
                    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                    "LAMBDA_TASK_ROOT": str(paths[0]),
                    **variables,
                },
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            yield Environment(port, process, api, started_at)
        finally:
            process.kill()
            process.wait()
            api.invocations.put(None)
            api.shutdown()
