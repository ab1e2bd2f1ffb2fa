"""Draws dashboard.png: the dashboard of monitoring.yaml as it is defined, with sample data.

``make picture``, or ``python -m infra.dashboard.draw`` where matplotlib is installed.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from infra import template
from infra.dashboard import samples

HERE = Path(__file__).parent
PICTURE = HERE / "dashboard.png"
UNIT_IN = (0.75, 0.44)  # a unit of the dashboard's grid: 24 of them are its width
BEGIN_MINUTE = 14 * 60
GRID = {"color": "#e9ebed", "linewidth": 0.8}
TEXT, CARD, PAGE = "#16191f", "#ffffff", "#f2f3f3"


def definition() -> str:
    """Return the dashboard's body, the names of resources left as parameters."""
    monitoring = template.load(HERE.parent / "monitoring.yaml")
    body: str = monitoring["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    return body


def fingerprint(body: str) -> str:
    """Return what the picture carries to say which definition it was drawn from."""
    return hashlib.sha256(body.encode()).hexdigest()


class Line(NamedTuple):
    """What a widget shows of a metric, one value per period."""

    label: str
    colour: str | None
    values: list[float]


def lines(widget: dict[str, Any]) -> list[Line]:
    """Return the samples of each metric and expression that a widget shows."""
    shown: list[Line] = []
    by_id: dict[str, list[float]] = {}
    for metric in widget["metrics"]:
        names = [each for each in metric if isinstance(each, str)]
        options = metric[-1] if isinstance(metric[-1], dict) else {}
        if "expression" in options:
            metric_id, divisor = options["expression"].split(" / ")
            series = [value / int(divisor) for value in by_id[metric_id]]
        else:
            statistic = options.get("stat", widget["stat"])
            each_minute = samples.sample(names[1], " ".join([*names[2:], statistic]))
            series = _per_period(each_minute, widget["period"] // 60, statistic)
            by_id[options.get("id", "")] = series
        if options.get("visible", True):
            label = options.get("label") or names[-1]
            shown.append(Line(label, options.get("color"), series))
    return shown


def _per_period(each_minute: list[float], minutes: int, statistic: str) -> list[float]:
    periods = [each_minute[at : at + minutes] for at in range(0, len(each_minute), minutes)]
    return [sum(period) if statistic == "Sum" else max(period) for period in periods]


def _draw_metrics(axes: Any, widget: dict[str, Any]) -> None:
    shown = lines(widget)
    minutes = [BEGIN_MINUTE + at * widget["period"] / 60 for at in range(len(shown[0].values))]
    if widget.get("stacked"):
        axes.stackplot(
            minutes,
            [each.values for each in shown],
            labels=[each.label for each in shown],
            colors=[each.colour for each in shown],
            step="mid",
        )
    else:
        for each in shown:
            axes.plot(minutes, each.values, label=each.label, color=each.colour, linewidth=1.6)
    for line in widget.get("annotations", {}).get("horizontal", []):
        axes.axhline(line["value"], color="#d13212", linewidth=1, linestyle=(0, (5, 4)))
        axes.annotate(line["label"], (minutes[2], line["value"]), (0, 3), fontsize=8,
                      textcoords="offset points", color="#d13212")  # fmt: skip
    lowest = min(0.0, axes.dataLim.y0) * 1.05
    axes.set_ylim(lowest, max(1.0, axes.dataLim.y1, axes.get_ylim()[1]) * 1.05)
    axes.set_xlim(minutes[0], minutes[-1])
    hours = range(BEGIN_MINUTE, BEGIN_MINUTE + samples.MINUTES + 1, 30)
    axes.set_xticks(list(hours), [f"{at // 60}:{at % 60:02}" for at in hours])
    axes.set_title(widget["yAxis"]["left"]["label"], loc="left", fontsize=8, color="#545b64")
    axes.yaxis.set_major_formatter(
        lambda value, _: f"{value / 1000:,.10g}k" if value >= 10_000 else f"{value:,.10g}"
    )
    axes.grid(axis="y", **GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(
        loc="upper left", bbox_to_anchor=(-0.01, -0.13), ncols=7 if len(shown) > 6 else 3,
        frameon=False, fontsize=8, handlelength=1, columnspacing=1.1, borderaxespad=0,
    )  # fmt: skip


def _draw_log(axes: Any, widget: dict[str, Any]) -> None:
    [fields] = re.findall(r"\| fields ([^|]+?) \|", widget["query"])
    columns = fields.split(", ")
    axes.axis("off")
    for column, name in enumerate(columns):
        axes.text(column, 0, name, weight="bold")
        for row, cells in enumerate(samples.FAILED, 1):
            axes.text(column, row, cells[column])
    for row in range(len(samples.FAILED)):
        axes.axhline(row + 0.4, xmin=0, **GRID)
    axes.set_xlim(0, len(columns))
    axes.set_ylim(len(samples.FAILED) + 0.6, -0.6)


def draw(body: str, target: Path) -> None:
    """Draw each widget where its definition puts it."""
    from matplotlib import pyplot as plt  # noqa: PLC0415  the tests read this module without it

    widgets = json.loads(body)["widgets"]
    rows = max(each["y"] + each["height"] for each in widgets)
    width, height = 24 * UNIT_IN[0], rows * UNIT_IN[1]
    plt.rcParams |= {
        "font.size": 9, "text.color": TEXT, "axes.edgecolor": "#aab7b8",
        "xtick.color": "#545b64", "ytick.color": "#545b64", "ytick.left": False,
    }  # fmt: skip
    figure = plt.figure(figsize=(width, height), facecolor=PAGE)
    for each in widgets:
        left, top = each["x"] / 24, 1 - each["y"] / rows
        wide, high = each["width"] / 24, each["height"] / rows
        gap_x, gap_y = 0.08 / width, 0.06 / height
        card = plt.Rectangle(
            (left + gap_x, top - high + gap_y), wide - 2 * gap_x, high - 2 * gap_y,
            facecolor=CARD, edgecolor="#d5dbdb", zorder=-1,
        )  # fmt: skip
        figure.add_artist(card)
        widget = each["properties"]
        figure.text(left + 0.2 / width, top - 0.33 / height, widget["title"], weight="bold",
                    fontsize=11)  # fmt: skip
        is_log = each["type"] == "log"
        margin_left, margin_below = (0.2, 0.1) if is_log else (0.6, 0.66)
        axes = figure.add_axes(
            (left + margin_left / width, top - high + margin_below / height,
             wide - (margin_left + 0.3) / width, high - (margin_below + 0.62) / height),
            facecolor=CARD,
        )  # fmt: skip
        (_draw_log if is_log else _draw_metrics)(axes, widget)
    figure.savefig(target, dpi=80, metadata={"Definition": fingerprint(body), "Software": None})


if __name__ == "__main__":
    draw(definition(), PICTURE)
