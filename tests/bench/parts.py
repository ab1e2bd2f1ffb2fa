"""What is measured, part by part: each prints its rows, and yields them whenever there are more."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.bench import contenders, growth, recall
from tests.bench.figures import table
from tests.bench.measure import LATENCY_MS
from tests.bench.run import Run

FAR_MS = 50  # the round trip to a provider that is not around the corner
MEMORIES = (128, 192, 256, 384, 512, 1024, 1769)
CALLING = ("ours", "tutorial", "tutorial with bytecode", "floor")
STEPS = ("ours as pip leaves it", "ours pruned", "ours with hashed roots")
QUEUES = ("our queue", "BatchProcessor's queue")

Part = Callable[[Run], Iterator[Any]]


def build(run: Run) -> Iterator[Any]:
    print("\nZipped, MB")
    rows = {}
    for name in (*contenders.BUILT, *(["before"] if run.against else [])):
        folder = run.build(name)
        archive = shutil.make_archive(str(folder), "zip", folder)
        rows[name] = Path(archive).stat().st_size / 1e6
        print(f"{name:<34}{rows[name]:>6.1f}", flush=True)
        yield rows


def cold(run: Run) -> Iterator[Any]:
    rows = run.cold(run.with_before(*CALLING, *STEPS, *QUEUES))
    table("Cold start to first answer", rows, "ours")
    yield rows


def far(run: Run) -> Iterator[Any]:
    rows = run.cold(run.with_before(*CALLING), round_trip_ms=FAR_MS)
    table(f"The same, provider {FAR_MS} ms away", rows, "ours")
    yield rows


def warm(run: Run) -> Iterator[Any]:
    rows = run.warm(run.with_before(*CALLING))
    table("Warm, over the provider's latency", rows, "ours")
    yield rows


def batches(run: Run) -> Iterator[Any]:
    rows = {}
    for size in (each for each in (10, 100, 1000) if each <= run.largest):
        rows[str(size)] = run.batch(run.with_before(*QUEUES), size, rounds=3 if size < 1000 else 1)
        table(f"Batch of {size}", rows[str(size)], "our queue")
        yield rows


def threads(run: Run) -> Iterator[Any]:
    rows = {}
    for size in (10, 100):
        rows[str(size)] = run.batch(contenders.THREADS, size)
        table(f"Batch of {size}, by threads", rows[str(size)])
        yield rows


def memory(run: Run) -> Iterator[Any]:
    columns = {
        "cold_ms": 0,
        "warm_ms": 0,
        "ten_ms": 0,
        "peak_mb": 0,
        "api_cost": 2,
        "queue_cost": 2,
    }
    print("\nMemory, MB, and Lambda's price per million cancels, in dollars")
    print(f"{'':<20}" + "".join(f"{column:>12}" for column in columns))
    rows = {}
    for megabytes in MEMORIES:
        for name, row in _with(run, megabytes).items():
            rows[name] = row
            cells = (f"{row[column]:>12.{digits}f}" for column, digits in columns.items())
            print(f"{name:<20}" + "".join(cells), flush=True)
        yield rows


def _with(run: Run, megabytes: int) -> dict[str, dict[str, float]]:
    """Return what both doors take and cost with so much memory."""
    api, queue = run.with_before("ours"), run.with_before("our queue")
    cold, warm = run.cold(api, megabytes, rounds=5), run.warm(api, megabytes)
    ten = run.batch(queue, 10, megabytes)
    return {
        f"{megabytes}{', before' if one == 'before' else ''}": {
            "cold_ms": cold[one]["own_ms"].median + LATENCY_MS,
            "warm_ms": warm[one]["p50_ms"].median + LATENCY_MS,
            "ten_ms": ten[many]["ms"].median,
            "peak_mb": ten[many]["peak_mb"].median,
            "api_cost": warm[one]["dollars"].median,
            "queue_cost": ten[many]["dollars"].median,
        }
        for one, many in zip(api, queue, strict=True)
    }


def growing(run: Run) -> Iterator[Any]:
    print(f"\n{'Messages':<12}{'seconds':>10}{'a second':>10}{'invocations':>13}{'cents':>10}")
    rows = []
    for count in growth.COUNTS:
        rows.append(row := growth.drain(run.deployed, count, LATENCY_MS))
        cents = 100 * (row["lambda"] + row["sqs"] + row["logs"])
        print(
            f"{count:<12}{row['seconds']:>10.1f}{count / row['seconds']:>10.0f}"
            f"{row['invocations']:>13.0f}{cents:>10.4f}",
            flush=True,
        )
        yield rows


def recalling(run: Run) -> Iterator[Any]:
    print(f"\n{'A recall of':<12}{'accepted':>10}{'settled':>10}{'foreseen':>10}{'a second':>10}")
    rows = []
    for count in recall.CAMPAIGNS:
        rows.append(row := recall.measure(run.deployed, count, LATENCY_MS))
        a_second = count / row["settled_s"]
        seconds = (f"{row[each]:>8.1f} s" for each in ("accepted_s", "settled_s", "foreseen_s"))
        print(
            f"{count:<12,}{''.join(seconds)}{a_second:>10.0f}, "
            f"{a_second / row['settled_a_second_at_most']:.0%} of what the provider's latency and "
            "MaximumConcurrency allow",
            flush=True,
        )
        yield rows


PARTS: dict[str, Part] = {
    "cold": cold,
    "far": far,
    "warm": warm,
    "batches": batches,
    "threads": threads,
    "memory": memory,
    "build": build,
    "growth": growing,
    "recall": recalling,
}
DEPLOYED = ("growth", "recall")  # measured on the local stack, where there is no contender
