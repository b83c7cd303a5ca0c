"""The tables of docs/benchmarks.md on orders, churn and value, and how far the targets are."""

from collections.abc import Iterable, Sequence

import numpy as np

from benchmarks.lifetime_anchors import TARGETS
from benchmarks.rows import RESULTS, Row, read_rows

RIVALS = {
    "bg_nbd": "BG/NBD",
    "mbg_nbd": "MBG/NBD",
    "pareto_nbd": "Pareto/NBD",
    "lightgbm": "LightGBM",
}
OTHERS = {"starter": "ours, not trained on", "from_nothing": "ours, from nothing"}
METHODS = {"habitue": "ours"} | OTHERS | RIVALS
DATA = ("online_retail_ii", "cdnow_sample", "grocery_elog")
SHOWN = {                                  # metric: its name and how it is written
    "order.auc": ("P(order) AUC", "{:.3f}"),
    "order.brier": ("Brier", "{:.4f}"),
    "order.ece": ("ECE", "{:.3f}"),
    "order.ece_perfect_p95": ("ECE of a perfect forecast, 95th percentile", "{:.3f}"),
    "orders.mae": ("orders MAE", "{:.3f}"),
    "orders.rmse": ("orders RMSE", "{:.3f}"),
    "orders.bias": ("orders bias", "{:+.1%}"),
    "orders.ngini": ("orders nGini", "{:.3f}"),
    "revenue.rmse": ("revenue RMSE", "{:,.0f}"),
    "revenue.bias": ("revenue bias", "{:+.1%}"),
    "revenue.ngini": ("revenue nGini", "{:.3f}"),
    "next_order.c_index": ("next order C-index", "{:.3f}"),
    "next_order.mae_weeks": ("next order MAE, weeks", "{:.2f}"),
}  # fmt: skip
PAIRED = {"orders.bias": "orders.abs_bias", "revenue.bias": "revenue.abs_bias"}
HIGHER = ("auc", "ngini")
BIAS = 0.05                                # that an interval has to meet
NOT_BELOW = ("order.auc", "order.brier", "order.ece")    # of CDNOW at 30 days


def lifetime_value() -> str:
    """A table for each data set, cutoff and horizon."""
    rows = read_rows(RESULTS / "lifetime_value.csv")
    lines = []
    for data in DATA:
        for protocol in protocols(rows, data):
            held = [row for row in rows if (row.data, base(row)) == (data, protocol)]
            lines += [f"### {data}: {protocol}", "", *_table(held), ""]
    return "\n".join(lines)


def lifetime_targets() -> str:
    """Every target of TARGETS section 2: what is ours, and reached or missed by how much."""
    rows = read_rows(RESULTS / "lifetime_value.csv")
    lines = ["| data | target | ours | |", "|---|---|---|---|"]
    cdnow = [row for row in rows if row.data == "cdnow_sample"]
    for days, metric, sense, wanted in TARGETS:
        value = mean(at(cdnow, days), "habitue", metric)
        missed = value - wanted if sense == "<=" else wanted - value
        told = f"{SHOWN[metric][0]} {'≤' if sense == '<=' else '≥'} {wanted:g}"
        lines.append(_line(f"CDNOW, {days:g} days", told, metric, value, missed))
    lines += [_meets_bias(at(cdnow, 273.0), "CDNOW, 273 days", "orders.bias")]
    lines += [_inside_band(at(cdnow, 273.0), "CDNOW, 273 days")]
    for metric in NOT_BELOW:
        lines.append(_not_below(at(cdnow, 30.0), metric))
    retail = [row for row in rows if row.data == "online_retail_ii"]
    for protocol in protocols(rows, "online_retail_ii"):
        held = [row for row in retail if base(row) == protocol]
        name = f"Online Retail II, {protocol}"
        lines += [_inside_band(held, name), _meets_bias(held, name, "orders.bias")]
        lines += [_meets_bias(held, name, "revenue.bias"), _best_or_tied(held, name)]
    return "\n".join(lines) + "\n"


def lifetime_hindsight() -> str:
    """Each target on CDNOW beside ours, and beside the best of what learnt from the answers."""
    rows = read_rows(RESULTS / "lifetime_value.csv")
    ours = at([row for row in rows if row.data == "cdnow_sample"], TARGETS[0][0])
    hindsight = read_rows(RESULTS / "lifetime_hindsight.csv")
    lines = ["| target | ours | the best in hindsight | by |", "|---|---|---|---|"]
    for _, metric, sense, wanted in TARGETS:
        found = {
            row.method: row.value
            for row in hindsight
            if row.metric == metric and row.value is not None
        }
        method = (min if sense == "<=" else max)(found, key=lambda name: found[name])
        name, form = SHOWN[metric]
        reached = found[method] <= wanted if sense == "<=" else found[method] >= wanted
        lines.append(
            f"| {name} {'≤' if sense == '<=' else '≥'} {wanted:g} |"
            f" {form.format(mean(ours, 'habitue', metric))} |"
            f" {form.format(found[method])}{', **reached**' if reached else ''} | {method} |"
        )
    return "\n".join(lines) + "\n"


def base(row: Row) -> str:
    """The protocol without the note that a horizon was extrapolated."""
    return row.protocol.split(",")[0]


def protocols(rows: Iterable[Row], data: str) -> list[str]:
    """Those of a data set, by cutoff and then by horizon."""
    found = {base(row) for row in rows if row.data == data}
    return sorted(found, key=lambda one: (one.split(" + ")[0], float(one.split()[2])))


def at(rows: Iterable[Row], days: float) -> list[Row]:
    """Those of one horizon."""
    return [row for row in rows if float(base(row).split()[2]) == days]


def mean(rows: Iterable[Row], method: str, metric: str, column: str = "value") -> float:
    """Of a figure over seeds; NaN where there is none."""
    values = [
        value
        for row in rows
        if (row.method, row.metric) == (method, metric)
        and (value := getattr(row, column)) is not None
    ]
    return float(np.mean(values)) if values else float("nan")


def _table(rows: Sequence[Row]) -> list[str]:
    lines = [f"| | {' | '.join(METHODS.values())} | ours against each |"]
    lines.append("|" + "---|" * (len(METHODS) + 2))
    for metric, (name, form) in SHOWN.items():
        values = [mean(rows, method, metric) for method in METHODS]
        if np.isnan(values[0]):
            continue
        told = " | ".join("–" if np.isnan(value) else form.format(value) for value in values)
        beside = ", ".join(verdict(rows, rival, metric) for rival in RIVALS)
        lines.append(f"| {name} | {told} | {beside.strip(', ')} |")
    extrapolated = any("extrapolated" in row.protocol for row in rows if row.method == "habitue")
    note = ["", "Ours is `extrapolated`: no closed window was as long."]
    return lines + (note if extrapolated else [])


def verdict(rows: Sequence[Row], rival: str, metric: str) -> str:
    """Better, worse or tie, by the paired interval; nothing where none was made."""
    asked = PAIRED.get(metric, metric)
    for row in rows:
        if (row.method, row.metric) == (f"habitue - {rival}", asked):
            if row.low is None or row.high is None or row.low <= 0 <= row.high:
                return "tie"
            higher = row.low > 0
            return "better" if higher == metric.endswith(HIGHER) else "worse"
    return ""


def _line(data: str, target: str, metric: str, value: float, missed: float) -> str:
    form = SHOWN[metric][1].replace(":+", ":")
    told = "**reached**" if missed <= 0 else f"missed by {form.format(missed)}"
    return f"| {data} | {target} | {SHOWN[metric][1].format(value)} | {told} |"


def _inside_band(rows: Sequence[Row], name: str) -> str:
    value = mean(rows, "habitue", "order.ece")
    edge = mean(rows, "habitue", "order.ece_perfect_p95")
    return _line(name, f"ECE inside the perfect band, {edge:.3f}", "order.ece", value, value - edge)


def _meets_bias(rows: Sequence[Row], name: str, metric: str) -> str:
    """Whether the bootstrap interval of the bias meets ±5%."""
    value, low, high = (
        mean(rows, "habitue", metric, column) for column in ("value", "low", "high")
    )
    missed = max(low - BIAS, -BIAS - high)
    what = SHOWN[metric][0]
    told = _line(name, f"interval of the {what} meets ±5%", metric, value, missed)
    return told.replace(f"{value:+.1%}", f"{value:+.1%} ({low:+.1%} to {high:+.1%})")


def _not_below(rows: Sequence[Row], metric: str) -> str:
    value = mean(rows, "habitue", metric)
    verdicts = [verdict(rows, rival, metric) for rival in ("bg_nbd", "pareto_nbd")]
    told = "missed" if "worse" in verdicts else "**reached**"
    name, form = SHOWN[metric]
    told = f"{told}: {', '.join(verdicts)}"
    target = f"{name} not below BG/NBD and Pareto/NBD"
    return f"| CDNOW, 30 days | {target} | {form.format(value)} | {told} |"


def _best_or_tied(rows: Sequence[Row], name: str) -> str:
    """How many of the paired comparisons are lost."""
    asked = [
        (SHOWN[metric][0], label, found)
        for metric in SHOWN
        for rival, label in RIVALS.items()
        if (found := verdict(rows, rival, metric))
    ]
    lost = [f"{metric} ({label})" for metric, label, found in asked if found == "worse"]
    told = "**reached**" if not lost else f"missed: {', '.join(lost)}"
    won = sum(found == "better" for *_, found in asked)
    ours = f"{won} better, {len(asked) - won - len(lost)} ties, {len(lost)} worse"
    return f"| {name} | best or tied in every comparison | {ours} | {told} |"
