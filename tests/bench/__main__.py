"""``make bench``: the bundle against the tutorial's way and against the floor of its libraries.

Everything is measured in one run, interleaved: the real runtime client, SMS Partner and AWS over
TLS on loopback, the CPU throttled to the function's memory once it has initialized. Prints
tables, writes results.json, and exits with 1 where a bar is missed.
"""

import argparse
import json
import platform
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import trustme

from tests.bench import contenders, events, growth, measure
from tests.bench.measure import Batch, Cold, Contender, Warm
from tests.bench.throttle import MB_OF_A_CPU, PERIOD_US, Throttle, ThrottleError, throttle

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("results.json")
LATENCY_MS = 100
FAR_MS = 50  # the round trip to a provider that is not around the corner
MB = 512
MEMORIES = (128, 192, 256, 384, 512, 1024, 1769)


class Figure(NamedTuple):
    """The median of several runs, and the middle half of them."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        digits = 0 if self.median >= 20 else 1 if self.median >= 1 else 2
        return f"{self.median:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def figure(values: Sequence[float]) -> Figure:
    if len(values) == 1:
        return Figure(values[0], values[0], values[0])
    low, _, high = quantiles(values, n=4, method="inclusive")
    return Figure(median(values), low, high)


@dataclass(frozen=True)
class Bench:
    """One run: who is measured, under which throttle, and how often."""

    who: dict[str, Contender]
    throttle: Throttle
    rounds: int
    calls: int

    def cold(self, names: Sequence[str], megabytes: int = MB) -> dict[str, dict[str, Figure]]:
        runs: dict[str, list[Cold]] = {name: [] for name in names}
        for name in self._turns("cold starts", names, self.rounds):
            event = events.HTTP if "queue" not in name else events.batch(1)
            runs[name].append(measure.cold(self.who[name], event, megabytes, self.throttle))
        return {
            name: {
                "own_ms": figure([run.ms - LATENCY_MS for run in each]),
                "cpu_ms": figure([run.cpu_ms for run in each]),
                "peak_mb": figure([run.peak_mb for run in each]),
            }
            for name, each in runs.items()
        }

    def warm(self, names: Sequence[str], megabytes: int = MB) -> dict[str, dict[str, Figure]]:
        runs: dict[str, list[Warm]] = {name: [] for name in names}
        for name in self._turns("warm calls", names, 3):
            runs[name].append(
                measure.warm(self.who[name], events.HTTP, megabytes, self.throttle, self.calls)
            )
        return {
            name: {
                "p50_ms": figure([median(run.ms) - LATENCY_MS for run in each]),
                "p99_ms": figure([quantiles(run.ms, n=100)[98] - LATENCY_MS for run in each]),
                "cpu_ms": figure([run.cpu_ms for run in each]),
                "dollars": figure([growth.lambda_cost(median(run.ms), megabytes) for run in each]),
            }
            for name, each in runs.items()
        }

    def batch(
        self, names: Sequence[str], size: int, megabytes: int = MB, rounds: int = 3
    ) -> dict[str, dict[str, Figure]]:
        runs: dict[str, list[Batch]] = {name: [] for name in names}
        event = events.batch(size)
        for name in self._turns(f"batches of {size}", names, rounds):
            runs[name].append(measure.batch(self.who[name], event, megabytes, self.throttle))
        return {
            name: {
                "ms": figure([run.ms for run in each]),
                "cpu_ms": figure([run.cpu_ms for run in each]),
                "peak_mb": figure([run.peak_mb for run in each]),
                "dollars": figure([growth.lambda_cost(run.ms, megabytes, size) for run in each]),
            }
            for name, each in runs.items()
        }

    def _turns(self, what: str, names: Sequence[str], rounds: int) -> Iterator[str]:
        """Yield each name once a round, in another order each time: no place is always best."""
        for number in range(rounds):
            print(f"\r{what} of {len(names)}: {number + 1:<9}", end="", file=sys.stderr, flush=True)
            yield from random.sample(names, len(names))
        print("\r" + " " * 60 + "\r", end="", file=sys.stderr, flush=True)


@contextmanager
def loopback(certificate: Path, round_trip_ms: int = 0) -> Iterator[tuple[int, int]]:
    """Run SMS Partner and AWS; yield their ports."""
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.bench.loopback", str(certificate)),
            *("--latency", str(LATENCY_MS), "--round-trip", str(round_trip_ms)),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            assert process.stdout
            provider_port, aws_port = process.stdout.readline().split()
            yield int(provider_port), int(aws_port)
        finally:
            process.kill()


def run(rounds: int, calls: int, largest: int) -> dict[str, Any]:
    """Measure everything; return it as it goes into results.json."""
    with tempfile.TemporaryDirectory() as name, throttle() as throttled:
        folder, certificate = Path(name, "built"), Path(name, "certificate.pem")
        contenders.build(folder)
        zipped = contenders.sizes(folder)
        authority = trustme.CA()
        contenders.trust(folder, authority)
        issued = authority.issue_cert("127.0.0.1")
        certificate.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
        with loopback(certificate) as ports:
            bench = Bench(contenders.contenders(folder, *ports), throttled, rounds, calls)
            results = measure_all(bench, largest)
        with loopback(certificate, FAR_MS) as ports:
            far = Bench(contenders.contenders(folder, *ports), throttled, rounds, calls)
            results["cold, provider far"] = far.cold(
                ("ours", "tutorial", "tutorial with bytecode", "floor")
            )
    results |= growth.measure(LATENCY_MS)
    return {
        "machine": {
            "date": datetime.now(UTC).date().isoformat(),
            "python": platform.python_version(),
            "processor": platform.machine(),
            "throttled": f"cgroup: {MB / MB_OF_A_CPU:.0%} of a CPU in each {PERIOD_US // 1000} ms",
        },
        "zipped MB": zipped,
        **results,
    }


def measure_all(bench: Bench, largest: int) -> dict[str, Any]:
    calling = ("ours", "tutorial", "tutorial with bytecode", "floor")
    steps = ("ours as pip leaves it", "ours pruned", "ours with hashed roots")
    queues = ("our queue", "BatchProcessor's queue")
    threads = [name for name in bench.who if name.endswith("threads")]
    sizes = {size: 3 if size < 1000 else 1 for size in (10, 100, 1000) if size <= largest}
    return {
        "cold": bench.cold((*calling, *steps, *queues)),
        "warm": bench.warm(calling),
        "batch": {str(size): bench.batch(queues, size, rounds=n) for size, n in sizes.items()},
        "threads": {str(size): bench.batch(threads, size) for size in (10, 100)},
        "memory": {str(mb): memory(bench, mb) for mb in MEMORIES},
    }


def memory(bench: Bench, megabytes: int) -> dict[str, Any]:
    """Return what both doors take and cost with so much memory."""
    few = Bench(bench.who, bench.throttle, 5, bench.calls)
    warm = few.warm(("ours",), megabytes)["ours"]
    ten = few.batch(("our queue",), 10, megabytes)["our queue"]
    return {
        "cold_ms": few.cold(("ours",), megabytes)["ours"]["own_ms"].median + LATENCY_MS,
        "warm_ms": warm["p50_ms"].median + LATENCY_MS,
        "ten_ms": ten["ms"].median,
        "peak_mb": ten["peak_mb"].median,
        "api_cost": warm["dollars"].median,
        "queue_cost": ten["dollars"].median,
    }


class Bar(NamedTuple):
    what: str
    value: float
    limit: float
    at_least: bool = True

    @property
    def holds(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def bars(results: dict[str, Any]) -> list[Bar]:
    """Return what must hold: ratios of medians, all of one run."""

    def ratio(part: dict[str, Any], one: str, other: str, column: str) -> float:
        return float(part[one][column].median / part[other][column].median)

    cold, warm, batches = results["cold"], results["warm"], results["batch"]
    ten, hundred = (batches[size] for size in ("10", "100"))
    ours, theirs = "our queue", "BatchProcessor's queue"
    bytecode = "tutorial with bytecode"
    return [
        Bar("cold, own time: tutorial / ours", ratio(cold, "tutorial", "ours", "own_ms"), 4.0),
        Bar("  the same with bytecode / ours", ratio(cold, bytecode, "ours", "own_ms"), 1.9),
        Bar("cold, CPU: tutorial / ours", ratio(cold, "tutorial", "ours", "cpu_ms"), 4.2),
        Bar("  the same with bytecode / ours", ratio(cold, bytecode, "ours", "cpu_ms"), 1.7),
        Bar("cold, CPU: ours / floor", ratio(cold, "ours", "floor", "cpu_ms"), 2.0, at_least=False),
        Bar("warm, CPU: tutorial / ours", ratio(warm, "tutorial", "ours", "cpu_ms"), 8),
        Bar("warm, overhead p50: tutorial / ours", ratio(warm, "tutorial", "ours", "p50_ms"), 18),
        Bar("batch of 10 / latency", ten[ours]["ms"].median / LATENCY_MS, 1.6, at_least=False),
        Bar("batch of 100: BatchProcessor / ours", ratio(hundred, theirs, ours, "ms"), 10),
        Bar("batch of 100: peak MB", hundred[ours]["peak_mb"].median, 64, at_least=False),
        Bar("zipped MB", results["zipped MB"]["compile"], 6, at_least=False),
    ]


def table(title: str, rows: dict[str, dict[str, Figure]], reference: str = "") -> None:
    """Print medians, the middle half of the runs, and how many times the reference's each is."""
    columns = list(next(iter(rows.values())))
    print(f"\n{title:<34}" + "".join(f"{column:>28}" for column in columns))
    for name, row in rows.items():
        cells = []
        for column in columns:
            times = row[column].median / rows[reference][column].median if reference else 0
            cells.append(f"{row[column]!s}" + (f" ({times:.1f}x)" if times else ""))
        print(f"{name:<34}" + "".join(f"{cell:>28}" for cell in cells))


def show(results: dict[str, Any]) -> None:
    print("Medians [middle half of the runs] (times ours). Dollars: Lambda's, per million cancels.")
    print("Zipped, MB:", ", ".join(f"{k} {v:.1f}" for k, v in results["zipped MB"].items()))
    table("Cold start to first answer", results["cold"], "ours")
    table(f"The same, provider {FAR_MS} ms away", results["cold, provider far"], "ours")
    table("Warm, over the provider's latency", results["warm"], "ours")
    for size, rows in results["batch"].items():
        table(f"Batch of {size}", rows, "our queue")
    for size, rows in results["threads"].items():
        table(f"Batch of {size}, by threads", rows)
    print(
        f"\n{'Memory, MB':<12}{'cold ms':>10}{'warm ms':>10}{'ten ms':>10}{'peak MB':>10}", end=""
    )
    print(f"{'$ per million, API':>22}{'queue':>8}   (Lambda alone)")
    for megabytes, row in results["memory"].items():
        times = "".join(f"{row[key]:>10.0f}" for key in ("cold_ms", "warm_ms", "ten_ms", "peak_mb"))
        print(f"{megabytes:<12}{times}{row['api_cost']:>22.2f}{row['queue_cost']:>8.2f}")
    print(f"\n{'Messages':<12}{'seconds':>10}{'a second':>10}{'invocations':>13}{'cents':>10}")
    for row in results["growth"]:
        cents = 100 * (row["lambda"] + row["sqs"] + row["logs"])
        rate = row["messages"] / row["seconds"]
        print(f"{row['messages']:<12}{row['seconds']:>10.1f}{rate:>10.0f}", end="")
        print(f"{row['invocations']:>13.0f}{cents:>10.4f}")
    recall = results["recall"]
    accepted, settled = (recall["ids"] / recall[f"{each}_s"] for each in ("accepted", "settled"))
    print(f"\nA recall of {recall['ids']:,} ids: accepted in {recall['accepted_s']:.1f} s ", end="")
    print(f"({accepted:.0f} a second), settled in {recall['settled_s']:.1f} s ", end="")
    print(
        f"({settled:.0f} a second, {settled / recall['settled_a_second_at_most']:.0%} of what ",
        end="",
    )
    print("the provider's latency and MaximumConcurrency allow)")
    print()
    for bar in bars(results):
        sign = ">=" if bar.at_least else "<="
        verdict = "" if bar.holds else "   MISSED"
        print(f"{bar.what:<38}{bar.value:>7.2f}  {sign} {bar.limit}{verdict}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="cold starts of each")
    parser.add_argument("--calls", type=int, default=60, help="warm calls in each of three rounds")
    parser.add_argument("--largest", type=int, default=1000, help="batch")
    options = parser.parse_args()
    if sys.version_info[:2] != (3, 13):
        sys.exit("Lambda's Python 3.13 is needed: bytecode is made for it alone")
    try:
        results = run(options.rounds, options.calls, options.largest)
    except ThrottleError as error:
        sys.exit(str(error))
    show(results)
    RESULTS.write_text(json.dumps(results, indent=1, default=str) + "\n")
    return 0 if all(bar.holds for bar in bars(results)) else 1


if __name__ == "__main__":
    sys.exit(main())
