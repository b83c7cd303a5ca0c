"""The parts of docs/benchmarks.md about audiences kept live: what that costs, how late it is."""

import re
from collections.abc import Mapping, Sequence

from benchmarks.rows import RESULTS, Row, read_rows
from habitue.demo.svg import Frame, Scale, box, drawing, line, text

FIGURE = "audiences_live_cost.svg"
CAUSES = {
    "event_alone": "an event", "event": "an event, also while one is saved", "time": "silence",
    "definition": "saving one",
}  # fmt: skip
_FULL = re.compile(r"(\d+) audiences, at full speed")
_PACE = re.compile(r"(\d+) audiences, ([\d,]+) events/s")
Cells = Mapping[tuple[str, str], Mapping[str, float]]   # (data, method) -> metrics


def cost() -> str:
    """A table of what an event costs, by customers and audiences, and its plot."""
    lines = [
        "| customers | audiences | processor µs per event | events per second of one core"
        " | applied to everybody, processor µs per customer | memory, MB"
        " | file, bytes per customer |",
        "|" + "---|" * 7,
    ]
    for (data, method), told in _full(_cells()):
        micros = told["processor_microseconds_per_event"]
        customers = _customers(data)
        applied = told["backfill_processor_seconds"] / customers * 1e6
        lines.append(
            f"| {customers:,} | {_FULL.findall(method)[0]} | {micros:,.0f} | {1e6 / micros:,.0f}"
            f" | {applied:,.0f} | {told['memory_mb_of_audiences']:,.0f}"
            f" | {told['bytes_per_customer']:,.0f} |"
        )
    return "\n".join([*lines, "", f"![What an event costs](figures/{FIGURE})", "", ""])


def pace() -> str:
    """A table of how late changes were, by pace and cause."""
    lines = [
        "| customers | events per second |"
        + "|".join(f" by {name}, p50 and p99 (changes) " for name in CAUSES.values())
        + "| of a core | load average |",
        "|" + "---|" * (4 + len(CAUSES)),
    ]
    for (data, method), told in _cells().items():
        if not (found := _PACE.findall(method)):
            continue
        cells = [
            f"{_milliseconds(told[f'{cause}_p50_ms'])}, {_milliseconds(told[f'{cause}_p99_ms'])}"
            f" ({told[f'{cause}_changes']:,.0f})"
            if told.get(f"{cause}_changes")
            else "none"
            for cause in CAUSES
        ]
        lines.append(
            f"| {_customers(data):,} | {found[0][1]} | {' | '.join(cells)}"
            f" | {told['share_of_a_core']:.2f} | {told['load_average']:.1f} |"
        )
    return "\n".join([*lines, "", ""])


def scores() -> str:
    """A table of what a score costs, by the audiences that compare predictions."""
    found: dict[str, dict[str, float]] = {}
    for row in read_rows(RESULTS / "audiences_scores.csv"):
        found.setdefault(row.method, {})[row.metric] = row.value or 0.0
    lines = [
        "| audiences | a score taken over, processor µs | changes by it"
        " | applied to everybody, processor µs per customer |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {method.split()[0]} | {told['processor_us_per_score']:,.0f}"
        f" | {told['changes_by_score']:,.0f} | {told['applied_processor_us_per_customer']:,.0f} |"
        for method, told in found.items()
    ]
    return "\n".join([*lines, "", ""])


def moved() -> str:
    """A table of how soon a score moves an audience, beside how soon it can be read."""
    found: dict[str, dict[str, float]] = {}
    load: dict[str, str] = {}
    for row in read_rows(RESULTS / "audiences_moved.csv"):
        found.setdefault(row.method, {})[row.metric] = row.value or 0.0
        load[row.method] = row.protocol.rpartition(" ")[2]
    lines = [
        "| orders a second, wanted and sent | the score can be read, p50 and p99"
        " | the change is written, p50 and p99 (changes) | load average |",
        "|---|---|---|---|",
    ]
    for method, told in found.items():
        if not method.startswith("moved"):
            continue
        fresh = found[method.replace("moved", "fresh")]
        lines.append(
            f"| {method.split()[2]}, {told['sent_per_second']:,.0f} | {_shares(fresh)}"
            f" | {_shares(told)} ({told['changes']:,.0f}) | {load[method]} |"
        )
    return "\n".join([*lines, "", ""])


def _shares(told: Mapping[str, float]) -> str:
    return ", ".join(_milliseconds(told[f"p{share}_ms"]) for share in (50, 99))


def figures(style: str) -> dict[str, str]:
    """One bar a cell: processor time per event."""
    cells = _full(_cells())
    if not cells:
        return {}
    values = [told["processor_microseconds_per_event"] for _, told in cells]
    frame = Frame(width=720, height=46 + 26 * len(cells), left=250, right=70)
    x = Scale(0.0, max(values), frame.left, frame.x_end)
    labels = [
        f"{_customers(data):,} customers, {_FULL.findall(method)[0]} audiences"
        for (data, method), _ in cells
    ]
    parts = [text((8, 16), "processor µs per event")]
    for place, (label, value) in enumerate(zip(labels, values, strict=True)):
        top = 30 + 26 * place
        parts += [
            text((frame.left - 8, top + 13), label, anchor="end"),
            box((frame.left, top), x(value) - frame.left, 18, "ours"),
            text((x(value) + 6, top + 13), f"{value:,.0f}"),
        ]
    parts.append(line((frame.left, 26), (frame.left, frame.height - 8), "axis"))
    told = "; ".join(f"{label} {value:,.0f}" for label, value in zip(labels, values, strict=True))
    title = "what an event costs where audiences are kept live"
    svg = str(drawing("audiences-live", title, told, (frame.width, frame.height), parts))
    start = svg.index(">") + 1
    opened = svg[:start].replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ')
    return {FIGURE: opened + style + svg[start:] + "\n"}


def _full(cells: Cells) -> Sequence[tuple[tuple[str, str], Mapping[str, float]]]:
    full = [(key, told) for key, told in cells.items() if _FULL.findall(key[1])]
    return sorted(
        full, key=lambda one: (_customers(one[0][0]), int(_FULL.findall(one[0][1])[0]))
    )


def _cells() -> Cells:
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in read_rows(RESULTS / "audiences_live.csv"):
        found.setdefault(_cell(row), {})[row.metric] = row.value or 0.0
    return found


def _cell(row: Row) -> tuple[str, str]:
    return row.data, row.method


def _customers(data: str) -> int:
    return int(data.split()[0].replace(",", ""))


def _milliseconds(value: float) -> str:
    return f"{value:,.0f} ms" if value < 2_000 else f"{value / 1_000:,.1f} s"
