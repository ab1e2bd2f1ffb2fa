"""Draws results.png: cold starts, batches, and growth with the messages."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
OURS, THEIRS, FLOOR = "#1f6feb", "#d4762c", "#8b949e"
COLD = {
    "tutorial": ("tutorial, as\nsam build leaves it", THEIRS),
    "tutorial with bytecode": ("tutorial,\nwith bytecode", THEIRS),
    "ours": ("sms-cancel", OURS),
    "floor": ("its libraries\nalone", FLOOR),
}


def cold_starts(axes: Any, results: dict[str, Any]) -> None:
    for place, (name, (_, colour)) in enumerate(COLD.items()):
        middle, low, high = results["cold"][name]["own_ms"]
        axes.barh(place, middle, color=colour, xerr=[[middle - low], [high - middle]])
        axes.text(high + 40, place, f"{middle:,.0f} ms", va="center")
    axes.set_yticks(range(len(COLD)), [label for label, _ in COLD.values()])
    axes.invert_yaxis()
    axes.margins(x=0.3)
    axes.set_title("Cold start, without the provider's 100 ms")


def batches(axes: Any, results: dict[str, Any]) -> None:
    for name, label, colour in (
        ("BatchProcessor's queue", "Powertools' BatchProcessor", THEIRS),
        ("our queue", "sms-cancel", OURS),
    ):
        sizes = [int(size) for size in results["batches"]]
        seconds = [results["batches"][str(size)][name]["ms"][0] / 1000 for size in sizes]
        axes.loglog(sizes, seconds, "o-", color=colour, label=label)
        for size, value in zip(sizes, seconds, strict=True):
            axes.annotate(
                f"{value:.3g} s", (size, value), (0, 7), textcoords="offset points", ha="center"
            )
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xlabel("messages in a batch")
    axes.yaxis.set_major_formatter("{x:g} s")
    axes.margins(0.12)
    axes.legend(loc="upper left")
    axes.set_title("One batch, 100 ms a call")


def growth(axes: Any, results: dict[str, Any]) -> None:
    rows = results["growth"]
    counts = [row["messages"] for row in rows]
    axes.loglog(counts, [row["seconds"] for row in rows], "o-", color=OURS)
    axes.set_ylabel("seconds to drain", color=OURS)
    axes.set_xlabel("messages on the queue")
    money = axes.twinx()
    cents = [100 * (row["lambda"] + row["sqs"] + row["logs"]) for row in rows]
    money.loglog(counts, cents, "s--", color=FLOOR)
    money.set_ylabel("US cents", color=FLOOR)
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    for side in (axes, money):
        side.yaxis.set_major_formatter("{x:g}")
    axes.set_title("Growth, five batches at a time")


def draw(results: dict[str, Any]) -> None:
    mpl.use("Agg")
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.titlesize": 10})
    figure, axes = plt.subplots(1, 3, figsize=(14, 3.6), width_ratios=[1.25, 1, 1])
    for show, each in zip((cold_starts, batches, growth), axes, strict=True):
        show(each, results)
    figure.tight_layout()
    figure.savefig(HERE / "results.png", dpi=110, metadata={"Software": None})
