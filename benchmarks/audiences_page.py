"""The parts of docs/benchmarks.md about audiences, in batch and live, and about lookalikes."""

import re
from collections import defaultdict
from collections.abc import Sequence

from benchmarks.rows import RESULTS, Row, read_rows

GROUPS = {
    "seed": "the seed itself",
    "lookalike": "**nearest by embedding**",
    "rfm_neighbours": "nearest by ranks of recency, frequency and value",
    "random": "at random among the others",
}
_RUNS = re.compile(r", median of (\d+)")
MOST_RATIO = 1.2                           # of TARGETS.md, section 8


def batch() -> str:
    """A table of conditions: seconds by hand and compiled, for each size of shop."""
    rows = read_rows(RESULTS / "audiences.csv")
    lines: list[str] = []
    for data in dict.fromkeys(row.data for row in rows):
        held = [row for row in rows if row.data == data]
        found = _by_method(held)
        ratios = [one["ratio"].value or 0.0 for one in found.values()]
        within = sum(one <= MOST_RATIO for one in ratios)
        lines += [
            f"{int(data.removeprefix('simulated_')):,} events;"
            f" {_RUNS.sub('', held[0].protocol)}. Within"
            f" {MOST_RATIO} times of the query by hand: {within} of {len(ratios)} conditions.\n",
            "| condition | members | runs | by hand, s | compiled, s | ratio |"
            " ratio of processor time | lake opened, s |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for said, one in found.items():
            ratio = one["ratio"].value or 0.0
            cells = [
                f"`{said}`",
                f"{one['members'].value:,.0f}",
                _RUNS.findall(one["ratio"].protocol)[0],
                *(f"{one[f'seconds_{name}'].value:.2f}" for name in ("by_hand", "compiled")),
                _marked(ratio),
                _marked(one["ratio_of_processor_time"].value or 0.0)
                if "ratio_of_processor_time" in one else "",
                f"{one['seconds_whole'].value:.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join([*lines, ""]) if lines else ""


def _marked(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio <= MOST_RATIO else f"**{ratio:.2f}**"


def lookalike() -> str:
    """A table of seeds and groups: what they did in the days after the cutoff."""
    rows = read_rows(RESULTS / "lookalike.csv")
    if not rows:
        return ""
    lines = [
        f"{rows[0].protocol}.\n",
        "| seed | who | customers | ordered | orders each | revenue each |",
        "|---|---|---|---|---|---|",
    ]
    for said in dict.fromkeys(row.data for row in rows):
        found = _by_method([row for row in rows if row.data == said])
        for name, title in GROUPS.items():
            one = found[name]
            lines.append(
                f"| {f'`{said}`' if name == 'seed' else ''} | {title} |"
                f" {one['customers'].value:,.0f} | {_told(one['ordered'], 2)} |"
                f" {_told(one['orders'], 2)} | {_told(one['revenue'], 0)} |"
            )
    return "\n".join([*lines, ""])


def equality() -> str:
    """What was compared of audiences kept live, over all seeds."""
    rows = read_rows(RESULTS / "audiences_equality.csv")
    if not rows:
        return ""
    total: dict[str, float] = defaultdict(float)
    for row in rows:
        total[row.metric] += row.value or 0.0
    seeds = len({row.seed for row in rows})
    compared = sum(total[name] for name in ("now", "folded", "earlier"))
    lines = [
        f"{seeds} seeds, each {rows[0].data}: {rows[0].protocol}. In all **{compared:,.0f}"
        f" memberships compared, {total['differences']:,.0f} differences.**\n",
        "| beside a recomputation by SQL | memberships |",
        "|---|---|",
        f"| live, at each of {total['instants']:,.0f} instants | {total['now']:,.0f} |",
        f"| the changes so far, added up, at the same instants | {total['folded']:,.0f} |",
        f"| the changes up to earlier instants, added up afterwards | {total['earlier']:,.0f} |",
        f"| of the first, members | {total['inside']:,.0f} |",
        "",
        f"{total['changes']:,.0f} changes were told, none of them another one later;"
        f" {total['restarts']:,.0f} restarts.",
    ]
    return "\n".join([*lines, "", ""])


def abandoned() -> str:
    """What was told of abandoned carts across kills, and how late it was."""
    rows = read_rows(RESULTS / "abandoned_carts.csv")
    if not rows:
        return ""
    lines = [f"{rows[0].protocol}.\n", "| | |", "|---|---|"]
    for row in rows:
        digits = 1 if row.metric.endswith(("ms", "%", "average")) else 0
        lines.append(f"| {row.metric} | {row.value:,.{digits}f} |")
    return "\n".join([*lines, "", ""])


def _by_method(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    found: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        found[row.method][row.metric] = row
    return dict(found)


def _told(row: Row, digits: int) -> str:
    return f"{row.value:,.{digits}f} ({row.low:,.{digits}f} to {row.high:,.{digits}f})"
