"""What transfer.csv says: the learning curves of shops that were left out, as tables and plots."""

import math
from collections.abc import Mapping, Sequence

from benchmarks.rows import RESULTS, Row, read_rows
from habitue.demo.svg import Frame, Scale, circle, drawing, line, path, text, value_grid

METHODS = {
    "zero_shot": "**level 0**: weights that never saw it",
    "calibrated": "**level 1**: calibrated",
    "trained_on": "**level 2**: trained on",
    "chosen": "what `habitue train` publishes",
    "from_nothing": "trained from nothing",
    "bg_nbd": "BG/NBD",
    "mbg_nbd": "MBG/NBD",
    "weights_alone": "the weights without purchase models",
    "popular_90d": "popular in 90 days",
    "top_frequency": "what she bought most often",
}
COLUMNS = {
    "order.auc": "P(order) AUC", "order.log_loss": "log loss", "order.brier": "Brier",
    "orders.mae": "orders MAE", "orders.bias": "orders bias", "revenue.mae": "revenue MAE",
    "revenue.ngini": "revenue nGini", "items.ndcg@10": "N@10",
    "items.ndcg_alone@10": "N@10, model alone", "seconds": "fit, s",
}  # fmt: skip
TITLES = {
    "cdnow": "CDNOW", "grocery": "Grocery", "online_retail_ii": "Online Retail II",
    "complete_journey": "Complete Journey",
}  # fmt: skip
LINES = {                                  # drawn, with their class
    "zero_shot": "zero", "trained_on": "two", "from_nothing": "scratch", "bg_nbd": "classic",
}  # fmt: skip
STYLE = (
    "<style>text{font:13px sans-serif;fill:#333}.grid{stroke:#ddd}.axis{stroke:#999}"
    "path{fill:none;stroke-width:2}.zero{stroke:#2a6f97;fill:#2a6f97}.two{stroke:#1b998b;"
    "fill:#1b998b}.scratch{stroke:#c0392b;fill:#c0392b}.classic{stroke:#888;fill:#888}"
    "path.zero,path.two,path.scratch,path.classic{fill:none}</style>"
)
Cells = Mapping[int, Mapping[tuple[str, str], Row]]        # size -> (method, metric) -> row


def transfer() -> str:
    """A table for every shop and size, and a plot for every shop."""
    rows = read_rows(RESULTS / "transfer.csv")
    return "".join(_section(shop, rows) for shop in _shops(rows))


def transfer_targets() -> str:
    """What was aimed at, shop by shop at its largest size."""
    rows = read_rows(RESULTS / "transfer.csv")
    head = ["shop", "customers", "AUC lift", "value lift", "log loss", "level 2", "N@10"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for shop in _shops(rows):
        for size, held in _cells(rows, shop).items():
            value = {key: row.value for key, row in held.items() if row.value is not None}
            lines.append(f"| {_title(shop)} | {size:,} | {' | '.join(_aims(value))} |")
    return "\n".join(lines) + "\n"


def transfer_levels() -> str:
    """How far totals were off over quarters of left-out shops."""
    rows = read_rows(RESULTS / "transfer_levels.csv")
    head = ["weights", "quarters", "buyers, rms", "orders, rms", "orders, largest"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for method in ("zero_shot", "calibrated"):
        held = {
            metric: [
                row.value or 0.0
                for row in rows
                if (row.method, row.metric) == (method, metric)
            ]
            for metric in ("buyers", "orders")
        }
        largest = max(held["orders"], key=abs)
        spread = (f"{_root_mean_square(held[metric]):.3f}" for metric in ("buyers", "orders"))
        told = f"{len(held['orders'])} | {' | '.join(spread)} | {largest:+.3f}"
        lines.append(f"| {METHODS[method]} | {told} |")
    return "\n".join(lines) + "\n"


def _root_mean_square(values: Sequence[float]) -> float:
    return math.sqrt(sum(value**2 for value in values) / len(values))


def transfer_figures() -> dict[str, str]:
    """The log loss over the size of the shop, a plot for each shop."""
    rows = read_rows(RESULTS / "transfer.csv")
    return {_file(shop): _curves(shop, _cells(rows, shop)) for shop in _shops(rows)}


def _section(shop: str, rows: Sequence[Row]) -> str:
    cells = _cells(rows, shop)
    parts = [f"### {_title(shop)}\n\n![{_title(shop)}](figures/{_file(shop)})\n"]
    for size, held in cells.items():
        (protocol,) = {row.protocol for row in held.values()}
        known = [metric for metric in COLUMNS if any(key[1] == metric for key in held)]
        head = [f"{size:,} customers", *(COLUMNS[metric] for metric in known)]
        lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        for method in (name for name in METHODS if any(key[0] == name for key in held)):
            told = [_told(held.get((method, metric)), metric) for metric in known]
            lines.append(f"| {METHODS[method]} | {' | '.join(told)} |")
        parts.append(f"{protocol}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts) + "\n"


def _aims(value: Mapping[tuple[str, str], float]) -> list[str]:
    """Each target: the figure, and whether it was met."""
    zero, scratch = (
        {metric: value.get((method, metric)) for metric in COLUMNS}
        for method in ("zero_shot", "from_nothing")
    )

    def share(metric: str, least: float, floor: float = 0.0) -> str:
        ours, theirs = zero[metric], scratch[metric]
        if ours is None or theirs is None:
            return "–"
        lift = (ours - floor) / (theirs - floor)
        return f"{100 * lift:.0f}%, {'met' if lift >= least else 'missed'}"

    def below(method: str, rival: str) -> str:
        loss = value[rival, "order.log_loss"] - value[method, "order.log_loss"]
        return f"{-loss:+.4f}, {'met' if loss >= 0 else 'missed'}"

    return [
        share("order.auc", 0.95, 0.5),
        share("revenue.ngini", 0.95),
        below("zero_shot", "bg_nbd"),
        below("trained_on", "from_nothing"),
        share("items.ndcg@10", 0.7),
    ]


def _curves(shop: str, cells: Cells) -> str:
    """One line a method; customers on a log scale."""
    frame, by_size = Frame(width=640, height=260, left=60, right=150, top=30), cells.items()
    found = {
        method: [(size, held[method, "order.log_loss"].value or 0.0) for size, held in by_size]
        for method in LINES
    }
    values = [value for points in found.values() for _, value in points]
    low, high = min(values), max(values)
    room = max((high - low) * 0.1, 1e-3)
    x = Scale(math.log(min(cells)), math.log(max(cells)), frame.left + 10, frame.x_end - 10)
    y = Scale(low - room, high + room, frame.y_end, frame.top)
    marks = [low + (high - low) * share for share in (0.0, 0.5, 1.0)]
    parts = [*value_grid(frame, y, marks, lambda value: f"{value:.3f}")]
    parts += [text((8, 18), f"{_title(shop)}: log loss of P(order), 90 days, by customers")]
    parts += [text((x(math.log(n)), frame.y_end + 18), f"{n:,}", anchor="middle") for n in cells]
    for place, (method, points) in enumerate(found.items()):
        at = [(x(math.log(size)), y(value)) for size, value in points]
        parts += [path(at, LINES[method]), *(circle(point, 3, LINES[method]) for point in at)]
        label = METHODS[method].replace("*", "").split(":")[0]
        top = frame.top + 20 + 22 * place
        parts.append(line((frame.x_end + 8, top - 4), (frame.x_end + 28, top - 4), LINES[method]))
        parts.append(text((frame.x_end + 34, top), label))
    told = "; ".join(
        f"{METHODS[method].replace('*', '')} {points[0][1]:.4f} to {points[-1][1]:.4f}"
        for method, points in found.items()
    )
    title = f"{_title(shop)}, learning curve"
    name = _file(shop).removesuffix(".svg").replace("_", "-")
    svg = str(drawing(name, title, told, (frame.width, frame.height), parts))
    start = svg.index(">") + 1
    opened = svg[:start].replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ')
    return opened + STYLE + svg[start:] + "\n"


def _shops(rows: Sequence[Row]) -> list[str]:
    held = dict.fromkeys(row.data.rsplit(", ", 1)[0] for row in rows)
    return sorted(held, key=lambda shop: (shop not in TITLES, shop))


def _cells(rows: Sequence[Row], shop: str) -> dict[int, dict[tuple[str, str], Row]]:
    """A shop's rows by size, the smallest first."""
    found: dict[int, dict[tuple[str, str], Row]] = {}
    for row in rows:
        name, size = row.data.rsplit(", ", 1)
        if name == shop:
            found.setdefault(int(size.split()[0]), {})[row.method, row.metric] = row
    return dict(sorted(found.items()))


def _told(row: Row | None, metric: str) -> str:
    if row is None or row.value is None:
        return ""
    if metric == "orders.bias":
        return f"{100 * row.value:+.0f}%"
    digits = {"seconds": 1, "revenue.mae": 1}.get(metric, 4)
    return f"{row.value:.{digits}f}"


def _title(shop: str) -> str:
    return TITLES.get(shop, shop.capitalize())


def _file(shop: str) -> str:
    return f"transfer_{shop.replace(' ', '_')}.svg"
