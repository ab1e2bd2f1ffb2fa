"""A deployed bundle as `recall` meets it, on loopback: stack outputs, bulk door, worker's log."""

import json
import re
import threading
import time
from collections import deque
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STACK = "sms-cancel-test"
DESCRIBED = """
<DescribeStacksResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/">
<DescribeStacksResult><Stacks><member><StackName>{name}</StackName>
<CreationTime>2026-01-01T00:00:00Z</CreationTime><StackStatus>CREATE_COMPLETE</StackStatus>
<Outputs>{outputs}</Outputs></member></Stacks></DescribeStacksResult></DescribeStacksResponse>
"""
OUTPUT = "<member><OutputKey>{}</OutputKey><OutputValue>{}</OutputValue></member>"
REFUSED = "<ErrorResponse><Error><Code>{}</Code><Message>{}</Message></Error></ErrorResponse>"


class BulkDoor:
    """What it was sent and what it has taken; `script` holds what it does with the next requests.

    A script's step: (status, answer, headers), or "drop" before or "lose" after it takes the ids,
    or a function of the ids that returns the rejected ones.
    """

    def __init__(self):
        self.url = ""
        self.outputs = {}
        self.refusal = None  # of CloudFormation: code and message
        self.requests = []  # bodies
        self.headers = []
        self.taken = []  # ids, as often as they were taken
        self.script = deque()
        self.log = []  # (text, Unix milliseconds)
        self.looks = deque()  # functions, each called before the log is read once
        self.asked = []  # the other calls of AWS's API, by name
        self.denied = set()  # which of them are
        self.concurrency, self.state = 5, "Enabled"  # None: without MaximumConcurrency
        self.latencies_ms = [100]  # one for each period
        self.waiting = 0  # messages on the queue
        self.not_visible = self.delayed = 0  # and those that are not to be received yet
        self.ahead_s = 0  # of this machine's clock is AWS's
        self._lock = threading.Lock()

    def answer(self, path, headers, body):
        """Return status, answer and headers, or "drop"."""
        target = headers.get("X-Amz-Target", "").partition(".")[2]
        if path == "/cancellations":
            self.headers.append(headers)
            return self.take(json.loads(body))
        if target == "FilterLogEvents":
            return 200, self.read_log(json.loads(body)), {}
        if target:
            return *self.look(target), {}
        return 400 if self.refusal else 200, self.describe(), {}

    def take(self, body):
        with self._lock:
            self.requests.append(body)
            step = self.script.popleft() if self.script else None
        if isinstance(step, tuple) or step == "drop":
            return step
        rejected = step(body["messageIds"]) if callable(step) else []
        taken = [each for each in body["messageIds"] if each not in rejected]
        with self._lock:
            self.taken += taken
        if step == "lose":
            return "drop"
        details = [{"messageId": each, "detail": "The queue did not take it."} for each in rejected]
        return (202, {"accepted": len(taken), "rejected": details}, {})

    def read_log(self, request):
        """Answer FilterLogEvents with two lines a page, after an empty one, as AWS may."""
        position = int(request.get("nextToken", "0"))
        if position == 0:
            if self.looks:
                self.looks.popleft()()
            return {"events": [], "nextToken": "1"}
        pattern = request["filterPattern"]
        recall_id = re.search(r'"([^"]+)"', pattern)[1]
        without = '"retry"' if '$.disposition != "retry"' in pattern else None
        found = [
            {"message": text, "timestamp": at_ms}
            for text, at_ms in sorted(self.log, key=lambda line: line[1])
            if at_ms >= request["startTime"]
            and recall_id in text
            and not (without and without in text)
        ]
        more = {"nextToken": str(position + 2)} if len(found) > position + 1 else {}
        return {"events": found[position - 1 : position + 1]} | more

    def look(self, name):
        """Answer what is asked for a forecast; return status and answer."""
        self.asked.append(name)
        if name in self.denied:
            return 403, {"__type": "AccessDenied", "Code": "AccessDenied", "message": "not you"}
        mapping = {"UUID": "uuid-1", "BatchSize": 10, "State": self.state}
        if self.concurrency is not None:
            mapping["ScalingConfig"] = {"MaximumConcurrency": self.concurrency}
        points = [{"ExtendedStatistics": {"p90": each}} for each in self.latencies_ms]
        return 200, {
            "ListEventSourceMappings": {"EventSourceMappings": [mapping]},
            "GetMetricStatistics": {"Datapoints": points},
            "GetQueueAttributes": {
                "Attributes": {
                    "ApproximateNumberOfMessages": self.waiting,
                    "ApproximateNumberOfMessagesNotVisible": self.not_visible,
                    "ApproximateNumberOfMessagesDelayed": self.delayed,
                }
            },
        }[name]

    def describe(self):
        if self.refusal:
            return REFUSED.format(*self.refusal)
        outputs = "".join(OUTPUT.format(*each) for each in self.outputs.items())
        return DESCRIBED.format(name=STACK, outputs=outputs)


@contextmanager
def serve():
    door = BulkDoor()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def date_time_string(self, timestamp=None):
            return super().date_time_string(timestamp or time.time() + door.ahead_s)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            step = door.answer(self.path, self.headers, body)
            if step == "drop":
                self.close_connection = True
            else:
                self.reply(*step)

        def do_GET(self):
            self.reply(*door.look("ListEventSourceMappings"), {})

        def reply(self, status, answer, headers):
            text = answer if isinstance(answer, str) else json.dumps(answer)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(text.encode()))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # who was interrupted does not wait for the answer
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        door.url = f"http://127.0.0.1:{server.server_address[1]}"
        door.outputs = {
            "ApiUrl": door.url,
            "QueueUrl": "https://sqs.eu-west-3.amazonaws.com/123456789012/queue",
            "QueueArn": "arn:aws:sqs:eu-west-3:123456789012:queue",
            "DeadLetterQueueUrl": "https://sqs.eu-west-3.amazonaws.com/123456789012/dead-letters",
            "WorkerLogGroupName": "worker",
        }
        yield door
        server.shutdown()
