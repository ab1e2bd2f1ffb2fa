"""What is made of many runs: a median with the middle half of them, tables, bars."""

from collections.abc import Sequence
from statistics import median, quantiles
from typing import Any, NamedTuple

from tests.bench.contenders import SHIPPED
from tests.bench.measure import LATENCY_MS


class Figure(NamedTuple):
    """The median of several runs, and the middle half of them."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        digits = 0 if self.median >= 20 else 1 if self.median >= 1 else 2
        return f"{self.median:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


Rows = dict[str, dict[str, Figure]]  # of each contender


def figure(values: Sequence[float]) -> Figure:
    if len(values) == 1:
        return Figure(values[0], values[0], values[0])
    low, _, high = quantiles(values, n=4, method="inclusive")
    return Figure(median(values), low, high)


def table(title: str, rows: Rows, reference: str = "") -> None:
    """Print medians, the middle half of the runs, and how many times the reference's each is."""
    columns = list(next(iter(rows.values())))
    print(f"\n{title:<34}" + "".join(f"{column:>28}" for column in columns))
    for name, row in rows.items():
        cells = []
        for column in columns:
            times = row[column].median / rows[reference][column].median if reference else 0
            cells.append(f"{row[column]!s}" + (f" ({times:.1f}x)" if times else ""))
        print(f"{name:<34}" + "".join(f"{cell:>28}" for cell in cells), flush=True)


class Bar(NamedTuple):
    """What must hold: a figure's limit."""

    what: str
    value: float
    limit: float
    at_least: bool = True

    @property
    def holds(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        missed = "" if self.holds else "   MISSED"
        return f"{self.what:<38}{self.value:>7.2f}  {sign} {self.limit}{missed}"


def bars(part: str, rows: Any) -> list[Bar]:
    """Return the bars of a part; they compare only what was measured in one run."""

    def ratio(one: str, other: str, column: str) -> float:
        return float(rows[one][column].median / rows[other][column].median)

    ours, theirs, bytecode = "our queue", "BatchProcessor's queue", "tutorial with bytecode"
    if part == "cold":
        return [
            Bar("cold, own time: tutorial / ours", ratio("tutorial", "ours", "own_ms"), 4.0),
            Bar("  the same with bytecode / ours", ratio(bytecode, "ours", "own_ms"), 1.9),
            Bar("cold, CPU: tutorial / ours", ratio("tutorial", "ours", "cpu_ms"), 4.2),
            Bar("  the same with bytecode / ours", ratio(bytecode, "ours", "cpu_ms"), 1.7),
            Bar("cold, CPU: ours / floor", ratio("ours", "floor", "cpu_ms"), 2.0, at_least=False),
        ]
    if part == "warm":
        return [
            Bar("warm, CPU: tutorial / ours", ratio("tutorial", "ours", "cpu_ms"), 8),
            Bar("warm, overhead p50: tutorial / ours", ratio("tutorial", "ours", "p50_ms"), 18),
        ]
    if part == "batches" and "100" in rows:
        at_ten, hundred = rows["10"][ours]["ms"].median / LATENCY_MS, rows["100"]
        times = hundred[theirs]["ms"].median / hundred[ours]["ms"].median
        peak_mb = hundred[ours]["peak_mb"].median
        return [
            Bar("batch of 10 / latency", at_ten, 1.6, at_least=False),
            Bar("batch of 100: BatchProcessor / ours", times, 10),
            Bar("batch of 100: peak MB", peak_mb, 64, at_least=False),
        ]
    if part == "recall":
        return [
            Bar(
                f"recall of {row['ids']:,}: forecast is wrong by",
                abs(row["foreseen_s"] / row["settled_s"] - 1),
                0.2,
                at_least=False,
            )
            for row in rows
        ]
    return [Bar("zipped MB", rows[SHIPPED], 6, at_least=False)] if part == "build" else []
