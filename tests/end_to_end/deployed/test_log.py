"""How the tests and the demonstration read the local stack's log."""

import time

from infra.local.bundle import MOST_LINES


def test_more_lines_than_one_answer_holds_are_all_read_and_in_order(bundle):
    group, stream = "/many/lines", "one"
    bundle.logs.create_log_group(logGroupName=group)
    bundle.logs.create_log_stream(logGroupName=group, logStreamName=stream)
    begun_ms = int(time.time() * 1000)
    lines = [f"line {number}" for number in range(MOST_LINES + 2)]
    events = [{"timestamp": begun_ms + n // 1000, "message": line} for n, line in enumerate(lines)]
    for some in (events[:MOST_LINES], events[MOST_LINES:]):  # CloudWatch takes no more at once
        bundle.logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=some)
    try:
        assert list(bundle.log_lines(group)) == lines
        assert list(bundle.log_lines(group, '"line 10001"')) == lines[-1:]
        assert list(bundle.log_lines(group, since=begun_ms / 1000 + 0.01)) == lines[10_000:]
    finally:
        bundle.logs.delete_log_group(logGroupName=group)
