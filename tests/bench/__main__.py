"""``make bench``: the bundle against the tutorial's way and against the floor of its libraries.

Contenders are measured in turn, in one run: the real runtime client, SMS Partner and AWS over TLS
on loopback, the CPU throttled to the function's memory once it has initialized. Each table is
printed as soon as it is measured and kept in results.json; the status is 1 where a bar is missed.

    python -m tests.bench cold warm                              these parts alone
    python -m tests.bench --against ../old/functions cold warm   with another checkout's "before"
"""

import argparse
import json
import platform
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import plot
from tests.bench.figures import bars
from tests.bench.parts import DEPLOYED, PARTS
from tests.bench.run import MB, ROOT, Run
from tests.bench.throttle import MB_OF_A_CPU, PERIOD_US, ThrottleError

RESULTS = Path(__file__).with_name("results.json")
COMPARED = ROOT / "build" / "against.json"  # what --against measures is not for publication
DRAWN = ("cold", "batches", "growth")


class Results:
    """The file of results, of which each part is replaced as it is measured."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.parts: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    def keep(self, part: str, rows: Any) -> None:
        measured = self.parts.get("measured", {}) | {part: _machine()}
        kept = {name: self.parts[name] for name in PARTS if name in self.parts}
        self.parts = {"measured": measured, **kept, part: rows}
        self.file.parent.mkdir(exist_ok=True)
        self.file.write_text(json.dumps(self.parts, indent=1) + "\n")


def _machine() -> dict[str, str]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "processor": platform.machine(),
        "throttled": f"cgroup: {MB / MB_OF_A_CPU:.0%} of a CPU in each {PERIOD_US // 1000} ms",
    }


def measure(parts: list[str], run: Run, results: Results) -> bool:
    """Measure these parts, print and keep their rows; return True if all their bars hold."""
    held = True
    for part in parts:
        for rows in PARTS[part](run):
            results.keep(part, rows)
        for bar in bars(part, rows):
            print(bar, flush=True)
            held = held and bar.holds
    return held


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="cold starts of each")
    parser.add_argument("--calls", type=int, default=60, help="warm calls in each of three rounds")
    parser.add_argument("--largest", type=int, default=1000, help="batch")
    parser.add_argument("--against", type=Path, help="another functions/ folder, as a contender")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)} (default: all)")
    options = parser.parse_args()
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"no part is called {', '.join(sorted(unknown))}; they are {', '.join(PARTS)}")
    if options.against and not options.against.joinpath("Makefile").exists():
        parser.error(f"{options.against} is not a functions/ folder")
    if sys.version_info[:2] != (3, 13):
        sys.exit("Lambda's Python 3.13 is needed: bytecode is made for it alone")
    parts = options.parts or [each for each in PARTS if not options.against or each not in DEPLOYED]
    results = Results(COMPARED if options.against else RESULTS)
    print("Medians [middle half of the runs] (times ours). Dollars: Lambda's, per million cancels.")
    try:
        with ExitStack() as exits:
            run = Run(exits, options.rounds, options.calls, options.largest, options.against)
            held = measure(parts, run, results)
    except ThrottleError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(f"broken off; {results.file.name} has what was measured")
    if not options.against and set(DRAWN) <= results.parts.keys():
        plot.draw(results.parts)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
