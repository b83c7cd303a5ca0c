"""The parts of docs/benchmarks.md that are made from committed rows, and their plots.

    python -m benchmarks.page

A part stands between `<!-- rows: NAME -->` and `<!-- /rows -->`; a test fails where one is not what
the rows say.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks import audiences_page, live_page, serving_page, shelf_page
from benchmarks.lifetime_page import lifetime_hindsight, lifetime_targets, lifetime_value
from benchmarks.next_item_anchors import ANCHORS
from benchmarks.probes_page import probes
from benchmarks.rows import RESULTS, Row, read_rows
from benchmarks.transfer_page import (
    transfer,
    transfer_figures,
    transfer_levels,
    transfer_targets,
)
from habitue.demo.svg import Frame, Scale, box, drawing, line, text

DOCS = Path(__file__).parent.parent / "docs"
PAGE, FIGURES = DOCS / "benchmarks.md", DOCS / "figures"
ALL = "lists: all"
NAMES = {
    "habitue": "**ours**, mixed",
    "habitue: habitue_model": "ours, the model alone",
    "habitue: habitue_near": "ours, the neighbours alone",
    "habitue: habitue_recounted": "the same, counted again with the validation items",
    "habitue: habitue_ridge": "ours, the regression alone",
    "habitue_content": "ours, reading what is written of items",
    "habitue_content: habitue_model_content": "its model alone",
    "habitue_content: habitue_content": "ours, reading what is written of items",
    "rectools_sasrec": "RecTools SASRec",
    "implicit_item_knn": "implicit item-kNN",
    "implicit_als": "implicit ALS",
    "popular": "popular",
}
BASKET_NAMES = {
    "habitue": "**ours**: habits, people alike, what goes with it",
    "tifu_knn": "TIFU-kNN, from the paper",
    "top_frequency": "what she bought most often",
    "popular": "popular",
}
COLD_NAMES = {
    "sentences": "ours, n-grams and a sentence encoder",
    "sentences: not raised": "… and a sentence encoder, new items not raised",
    "sentences: model": "… and a sentence encoder, the model alone, raised",
    "ngrams": "ours, hashed n-grams",
    "ngrams: not raised": "… new items not raised",
    "ngrams: model": "… the model alone, raised",
    "ids": "ours, items mere numbers",
    "tfidf": "nearest by TF-IDF to the latest items",
    "sentences_alone": "nearest by the sentence encoder to the latest items",
    "popular": "popular",
}
EIGHT = ("float32", "int8")
HIDDEN = ("habitue_content: habitue_near_content",)
TITLES = {
    "beauty_sequences": "Beauty",
    "sports_and_outdoors_sequences": "Sports and Outdoors",
    "ml1m_sasrec_sequences": "ML-1M",
    "diginetica_sessions": "Diginetica, sessions",
    "retailrocket_sessions": "Retailrocket, sessions",
}
STYLE = (
    "<style>text{font:13px sans-serif;fill:#333}.ours{fill:#2a6f97}.other{fill:#b9c6cf}"
    ".mark{stroke:#c0392b;stroke-width:2}.axis{stroke:#999}</style>"
)


def main() -> None:
    """Write every part and plot again."""
    FIGURES.mkdir(exist_ok=True)
    PAGE.write_text(with_parts(PAGE.read_text()))
    for name, content in figures().items():
        (FIGURES / name).write_text(content)


def with_parts(page: str) -> str:
    """The page with every part as the rows have it now."""
    for name, part in PARTS.items():
        pattern = re.compile(rf"(<!-- rows: {name} -->\n).*?(<!-- /rows -->)", re.DOTALL)
        before, *after = pattern.split(page, maxsplit=1)
        page = before + after[0] + part() + after[1] + after[2] if after else page
    return page


def figures() -> dict[str, str]:
    """Every plot by its file's name."""
    rows = read_rows(RESULTS / "next_item.csv")
    next_items = {f"next_item_{data}.svg": bars(data, table(rows, data)) for data in _known(rows)}
    return next_items | transfer_figures() | live_page.figures(STYLE)


def next_item() -> str:
    """A table and a plot for each data set of next_item.py."""
    rows = read_rows(RESULTS / "next_item.csv")
    return "".join(_section(rows, data) for data in _known(rows))


def next_basket() -> str:
    """A table for each data set of next_basket.py."""
    rows = read_rows(RESULTS / "next_basket.csv")
    lines = []
    for data in dict.fromkeys(row.data for row in rows):
        held = [row for row in rows if row.data == data]
        metrics = list(dict.fromkeys(row.metric for row in held))
        lines += [f"| {data} | {' | '.join(metrics)} |", "|" + "---|" * (len(metrics) + 1)]
        for method in dict.fromkeys(row.method for row in held):
            mine = {row.metric: row for row in held if row.method == method}
            told = " | ".join(_with_interval(mine[metric]) for metric in metrics)
            lines.append(f"| {BASKET_NAMES[method]} | {told} |")
        lines += ["", *sorted({f"- {BASKET_NAMES[r.method]}: {r.protocol}" for r in held})]
    return "\n".join(lines) + "\n"


def cold_items() -> str:
    """A table for each data set of cold_items.py: new items, and what they cost the others."""
    rows = read_rows(RESULTS / "cold_items.csv")
    metrics = ("cold recall@10", "cold ndcg@10", "among cold recall@10", "warm recall@10",
               "warm ndcg@10")  # fmt: skip
    lines = []
    for data in [name for name in TITLES if any(row.data == name for row in rows)]:
        held = [row for row in rows if row.data == data]
        size = held[0].protocol.split("; ties")[0]
        lines += [f"### {TITLES[data]}\n\n{size} (seed {held[0].seed}).\n"]
        lines += [f"| method | seeds | {' | '.join(metrics)} |", "|" + "---|" * (len(metrics) + 2)]
        for method in [name for name in COLD_NAMES if any(row.method == name for row in held)]:
            mine = [row for row in held if row.method == method]
            values = [
                _told([row.value for row in mine if row.metric == metric and row.value is not None])
                for metric in metrics
            ]
            seeds = len({row.seed for row in mine})
            lines.append(f"| {COLD_NAMES[method]} | {seeds} | {' | '.join(values)} |")
        notes = {
            COLD_NAMES[row.method]: row.protocol.split("by item number; ")[-1] for row in held
        }
        lines += ["", *(f"- {name}: {note}" for name, note in notes.items() if note), ""]
    return "\n".join(lines) + "\n"


def inference() -> str:
    """A table of inference.py: a size and a precision to a row."""
    rows = read_rows(RESULTS / "inference.csv")
    found = {(row.method, row.metric): row.value or 0.0 for row in rows}
    lines = [
        "| preset | weights | training, processor s | AUC | Brier | ECE | customers/s, all at once"
        " | one: p50 / p99, ms | with ten items: p50 / p99, ms |",
        "|" + "---|" * 9,
    ]
    for preset, precision in [(p, e) for p in dict.fromkeys(r.method for r in rows) for e in EIGHT]:
        told = {
            metric.removeprefix(f"{precision}."): value
            for (method, metric), value in found.items()
            if method == preset and metric.startswith(f"{precision}.")
        }
        times = [
            f"{told[f'{what}_ms_p50']:.0f} / {told[f'{what}_ms_p99']:.0f}"
            for what in ("one", "ten_items")
        ]
        lines.append(
            f"| `{preset}`, {precision} | {found[preset, 'parameters'] / 1e6:.1f} million"
            f" | {found[preset, 'train_cpu_seconds']:.0f} | {told['auc']:.4f}"
            f" | {told['brier']:.4f} | {told['ece']:.4f}"
            f" | {told['batch_customers_per_second']:,.0f} | {' | '.join(times)} |"
        )
    return "\n".join(lines) + "\n"


PARTS: Mapping[str, Callable[[], str]] = {
    "next_item": next_item, "next_basket": next_basket, "cold_items": cold_items,
    "inference": inference, "lifetime_value": lifetime_value,
    "lifetime_targets": lifetime_targets, "lifetime_hindsight": lifetime_hindsight,
    "transfer": transfer, "probes": probes,
    "transfer_targets": transfer_targets, "transfer_levels": transfer_levels,
    "audiences_batch": audiences_page.batch, "lookalike": audiences_page.lookalike,
    "audiences_live_cost": live_page.cost, "audiences_live_pace": live_page.pace,
    "audiences_scores": live_page.scores, "audiences_moved": live_page.moved,
    "serving": serving_page.answers, "serving_peers": serving_page.peers,
    "several": serving_page.several, "mixed_load": serving_page.mixed,
    "on_a_page": shelf_page.on_a_page, "large_catalogue": shelf_page.large_catalogue,
    "audiences_equality": audiences_page.equality, "abandoned_carts": audiences_page.abandoned,
}  # fmt: skip
Table = Mapping[tuple[str, bool], Mapping[str, Sequence[float]]]   # (method, seen out) -> metrics


def table(rows: Sequence[Row], data: str) -> Table:
    """Every seed's value of each metric, by method and by whether what a row holds is left out."""
    found: dict[tuple[str, bool], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.data == data and row.value is not None and row.method not in HIDDEN:
            found[row.method, ALL not in row.protocol][row.metric].append(row.value)
    return found


def _section(rows: Sequence[Row], data: str) -> str:
    found = table(rows, data)
    places = 20 if data.endswith("sessions") else 10
    cells = [row for row in rows if row.data == data]
    lines = [f"### {TITLES[data]}\n\n{cells[0].protocol.split('; lists:')[0]}.\n"]
    names = (f"recall@{places}", f"ndcg@{places}", f"mrr@{places}")
    head = ["method", "seeds", *(f"{name}, seen out" for name in names)]
    head += [*(f"{name}, all" for name in names), "debiased", "coverage", "fit, processor s"]
    lines += [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for method in [name for name in NAMES if (name, True) in found]:
        seen_out, everything = found[method, True], found[method, False]
        values = [*(_told(seen_out[name]) for name in names)]
        values += [*(_told(everything[name]) for name in names)]
        values += [
            _told(seen_out[f"debiased_recall@{places}"]),
            f"{np.mean(seen_out[f'coverage@{places}']):.2f}",
            f"{np.mean(seen_out['fit_cpu_seconds']):.0f}",
        ]
        seeds = len(seen_out[names[0]])
        lines.append(f"| {NAMES[method]} | {seeds} | {' | '.join(values)} |")
    notes = {
        row.method: row.protocol.split("; lists: seen out; ")[-1]
        for row in cells
        if "; lists: seen out; " in row.protocol
    }
    lines += ["", *(f"- {NAMES[name]}: {notes[name]}" for name in NAMES if name in notes)]
    lines += [f"- published, or aimed at: {anchor}" for anchor in ANCHORS.get(data, ())]
    lines.append(f"\n![{TITLES[data]}](figures/next_item_{data}.svg)\n")
    return "\n".join(lines) + "\n"


def bars(data: str, found: Table) -> str:
    """One bar a method: NDCG with what a row holds left out (sessions: MRR of all)."""
    sessions = data.endswith("sessions")
    metric, seen_out = ("mrr@20", False) if sessions else ("ndcg@10", True)
    methods = [name for name in NAMES if (name, True) in found]
    values = [float(np.mean(found[name, seen_out][metric])) for name in methods]
    frame = Frame(width=720, height=46 + 26 * len(methods), left=250, right=70)
    x = Scale(0.0, max([*values, 1e-9]), frame.left, frame.x_end)
    parts = []
    for place, (name, value) in enumerate(zip(methods, values, strict=True)):
        top = 30 + 26 * place
        style = "ours" if name.startswith("habitue") else "other"
        label = NAMES[name].replace("*", "")
        parts += [
            text((frame.left - 8, top + 13), label, anchor="end"),
            box((frame.left, top), x(value) - frame.left, 18, style),
            text((x(value) + 6, top + 13), f"{value:.4f}"),
        ]
    parts.append(line((frame.left, 26), (frame.left, frame.height - 8), "axis"))
    title = f"{TITLES[data]}: {metric}, {'seen out' if seen_out else 'all'}"
    parts.append(text((8, 16), title))
    told = "; ".join(f"{NAMES[n]} {v:.4f}" for n, v in zip(methods, values, strict=True))
    svg = str(drawing(f"next-item-{data}", title, told, (frame.width, frame.height), parts))
    start = svg.index(">") + 1
    return svg[:start].replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ') + STYLE + (
        svg[start:] + "\n"
    )


def _known(rows: Sequence[Row]) -> list[str]:
    held = {row.data for row in rows}
    return [data for data in TITLES if data in held]


def _with_interval(row: Row) -> str:
    """The value, and its 5th to 95th percentile where there is one."""
    assert row.value is not None, "judged rows have values"
    value = f"{row.value:.4f}".removeprefix("0")
    if row.low is None or row.high is None:
        return value
    low, high = (f"{bound:.4f}".removeprefix("0") for bound in (row.low, row.high))
    return f"{value} ({low} to {high})"


def _told(values: Sequence[float]) -> str:
    """The mean over seeds, and how far seeds lie apart where there are several."""
    mean = f"{np.mean(values):.4f}".removeprefix("0")
    return mean if len(values) < 2 else f"{mean} ±{np.std(values, ddof=1):.4f}".replace("±0", "±")


if __name__ == "__main__":
    main()
