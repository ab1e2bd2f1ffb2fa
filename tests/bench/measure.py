"""One contender in one execution environment: how long it takes and what it uses.

Times are in milliseconds, CPU is that of the whole process with all its threads, memory the
most that was resident, in megabytes.
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from infra.local import runtime
from tests.bench.throttle import Throttle

LATENCY_MS = 100  # of the provider
TIMEOUT_S = 900  # the longest that Lambda allows


@dataclass(frozen=True)
class Contender:
    handler: str
    paths: tuple[Path, ...]
    variables: dict[str, str]
    python: str  # that has what Lambda's runtime brings, and nothing else


class Cold(NamedTuple):
    ms: float  # from the process' start to its first answer
    cpu_ms: float
    peak_mb: float


class Warm(NamedTuple):
    ms: list[float]
    cpu_ms: float  # for each invocation


class Batch(NamedTuple):
    ms: float
    cpu_ms: float
    peak_mb: float


def cold(contender: Contender, event: Any, megabytes: int, throttle: Throttle) -> Cold:
    """Start an environment and have it answer once; only then throttled, as in Lambda."""
    with _environment(contender) as environment:
        pid = environment.process.pid
        _throttle_once_initialized(environment, megabytes, throttle)
        _invoke(environment, event)
        ms = (time.monotonic() - environment.started_at) * 1000
        return Cold(ms, _cpu_ms(pid), _peak_mb(pid))


def warm(contender: Contender, event: Any, megabytes: int, throttle: Throttle, calls: int) -> Warm:
    """Have an environment answer again and again, after the first five."""
    with _environment(contender) as environment:
        _throttle_once_initialized(environment, megabytes, throttle)
        for _ in range(5):
            _invoke(environment, event)
        cpu_before_ms = _cpu_ms(environment.process.pid)
        ms = [_invoke(environment, event) for _ in range(calls)]
        return Warm(ms, (_cpu_ms(environment.process.pid) - cpu_before_ms) / calls)


def batch(contender: Contender, event: Any, megabytes: int, throttle: Throttle) -> Batch:
    """Have a warm environment handle one batch of messages."""
    with _environment(contender) as environment:
        pid = environment.process.pid
        _throttle_once_initialized(environment, megabytes, throttle)
        _invoke(environment, {"Records": event["Records"][:10]})
        cpu_before_ms = _cpu_ms(pid)
        ms = _invoke(environment, event)
        return Batch(ms, _cpu_ms(pid) - cpu_before_ms, _peak_mb(pid))


def _environment(contender: Contender) -> Any:
    return runtime.environment(
        contender.handler,
        list(contender.paths),
        contender.variables,
        Path(os.devnull),
        contender.python,
    )


def _throttle_once_initialized(
    environment: runtime.Environment, megabytes: int, throttle: Throttle
) -> None:
    environment.wait_until_initialized()
    throttle.limit(megabytes)
    throttle.add(environment.process.pid)


def _invoke(environment: runtime.Environment, event: Any) -> float:
    ended = environment.invoke(event, TIMEOUT_S)
    answer = ended.payload
    done = (
        answer.get("statusCode") == 200
        if "Records" not in event
        else answer == {"batchItemFailures": []}
    )
    if ended.kind != "response" or not done:
        raise RuntimeError(f"not done: {json.dumps(answer)[:500]}")
    return ended.seconds * 1000


def _cpu_ms(pid: int) -> float:
    # A process' own clock, by clock_getcpuclockid(3): exact, and with the threads that have ended.
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e6


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
