"""One run: who is measured, in turn, and what the parts share, made when the first needs it."""

import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, cached_property
from pathlib import Path
from statistics import median, quantiles

import trustme

from authority import trust
from tests.bench import contenders, events, growth, measure
from tests.bench.figures import Rows, figure
from tests.bench.measure import LATENCY_MS, Batch, Cold, Contender, Warm
from tests.bench.throttle import Throttle, throttle

ROOT = Path(__file__).parents[2]
MB = 512


class Run:
    """How often what is measured; ``against``: another functions/ folder, as a contender."""

    def __init__(
        self, exits: ExitStack, rounds: int, calls: int, largest: int, against: Path | None
    ) -> None:
        self._exits = exits
        self.rounds = rounds
        self.calls = calls
        self.largest = largest
        self.against = against
        self._built: set[str] = set()
        self.loopback = cache(self._loopback)

    @cached_property
    def throttle(self) -> Throttle:
        return self._exits.enter_context(throttle())

    @cached_property
    def folder(self) -> Path:
        return Path(self._exits.enter_context(tempfile.TemporaryDirectory()))

    @cached_property
    def _authority(self) -> trustme.CA:
        return trustme.CA()

    def _loopback(self, round_trip_ms: int) -> tuple[int, int]:
        certificate = self.folder / "certificate.pem"
        issued = self._authority.issue_cert("127.0.0.1")
        certificate.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
        return self._exits.enter_context(loopback(certificate, round_trip_ms))

    @cached_property
    def deployed(self) -> growth.Deployed:
        return self._exits.enter_context(growth.deployed(LATENCY_MS))

    def contenders(self, names: Sequence[str], round_trip_ms: int = 0) -> dict[str, Contender]:
        """Build those who are not built yet; return them by name."""
        everybody = contenders.contenders(self.folder, *self.loopback(round_trip_ms))
        chosen = {name: everybody[name] for name in names}
        for each in dict.fromkeys(contender.paths[0].name for contender in chosen.values()):
            self.build(each)
        return chosen

    def build(self, name: str) -> Path:
        if name not in self._built:
            contenders.build(self.folder, name, self.against)
            trust(self.folder / name, self._authority)
            self._built.add(name)
        return self.folder / name

    def with_before(self, *names: str) -> tuple[str, ...]:
        """Return these names, with those of the other checkout if there is one."""
        before = {"ours": "before", "our queue": "before's queue"}
        return names + tuple(before[each] for each in names if self.against and each in before)

    def cold(
        self, names: Sequence[str], megabytes: int = MB, round_trip_ms: int = 0, rounds: int = 0
    ) -> Rows:
        who = self.contenders(names, round_trip_ms)
        runs: dict[str, list[Cold]] = {name: [] for name in names}
        for name in _turns("cold starts", names, rounds or self.rounds):
            event = events.HTTP if "queue" not in name else events.batch(1)
            runs[name].append(measure.cold(who[name], event, megabytes, self.throttle))
        return {
            name: {
                "own_ms": figure([run.ms - LATENCY_MS for run in each]),
                "cpu_ms": figure([run.cpu_ms for run in each]),
                "peak_mb": figure([run.peak_mb for run in each]),
            }
            for name, each in runs.items()
        }

    def warm(self, names: Sequence[str], megabytes: int = MB) -> Rows:
        who = self.contenders(names)
        runs: dict[str, list[Warm]] = {name: [] for name in names}
        for name in _turns("warm calls", names, 3):
            runs[name].append(
                measure.warm(who[name], events.HTTP, megabytes, self.throttle, self.calls)
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

    def batch(self, names: Sequence[str], size: int, megabytes: int = MB, rounds: int = 3) -> Rows:
        who = self.contenders(names)
        runs: dict[str, list[Batch]] = {name: [] for name in names}
        event = events.batch(size)
        for name in _turns(f"batches of {size}", names, rounds):
            runs[name].append(measure.batch(who[name], event, megabytes, self.throttle))
        return {
            name: {
                "ms": figure([run.ms for run in each]),
                "cpu_ms": figure([run.cpu_ms for run in each]),
                "peak_mb": figure([run.peak_mb for run in each]),
                "dollars": figure([growth.lambda_cost(run.ms, megabytes, size) for run in each]),
            }
            for name, each in runs.items()
        }


def _turns(what: str, names: Sequence[str], rounds: int) -> Iterator[str]:
    """Yield each name once a round, in another order each time: no place is always best."""
    for number in range(rounds):
        _show(f"{what} of {len(names)}: round {number + 1} of {rounds}")
        yield from random.sample(names, len(names))
    _show("")


def _show(text: str) -> None:
    """Show a line at a terminal until the next takes its place."""
    if sys.stderr.isatty():
        print(f"\r{text:<60}\r", end="", file=sys.stderr, flush=True)


@contextmanager
def loopback(certificate: Path, round_trip_ms: int) -> Iterator[tuple[int, int]]:
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
