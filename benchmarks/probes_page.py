"""The tables of docs/benchmarks.md on what embeddings know beyond aggregates."""

from benchmarks.probes import BASELINE, verdict
from benchmarks.rows import RESULTS, Row, read_rows

NAMES = {
    BASELINE: "aggregates",
    "linear_embedding_64": "embedding 64",
    "linear_both_64": "both, 64",
    "linear_embedding_256": "embedding 256",
    "linear_both_256": "both, 256",
    "linear_embedding_2048": "embedding 2,048",
    "linear_both_2048": "both, 2,048",
    "trees_aggregates": "trees on aggregates",
}
WORDS = {"win": "better", "tie": "tie", "loss": "worse", "": ""}


def probes() -> str:
    """A table for each cutoff: how well each way ranks, and beside aggregates whether better."""
    rows = read_rows(RESULTS / "probes.csv")
    asked = {row.data: row.value for row in rows if row.metric == "customers"}
    told = {(row.data, row.protocol, row.method, row.metric): row for row in rows}
    lines = []
    for data in sorted(asked):
        lines += [f"### {data.split(' at ')[1]}, {asked[data]:,.0f} customers", ""]
        names = {
            method: name
            for method, name in NAMES.items()
            if any((row.data, row.method) == (data, method) for row in rows)
        }
        lines += [f"| | {' | '.join(names.values())} |", "|" + "---|" * (len(names) + 1)]
        protocols = dict.fromkeys(
            row.protocol for row in rows if (row.data, row.method) == (data, BASELINE)
        )
        for protocol in protocols:
            metric = "auc" if protocol.startswith("did") else "ngini"
            cells = [
                _cell(
                    metric,
                    told.get((data, protocol, method, metric)),
                    told.get((data, protocol, method, f"{metric} - {BASELINE}")),
                )
                for method in names
            ]
            question = protocol.replace(" where ", ", ")
            lines.append(f"| {question} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(metric: str, row: Row | None, against: Row | None) -> str:
    if row is None or row.value is None:
        return "–"
    figure = f"{row.value:.3f}".removeprefix("0")
    return f"{figure} {WORDS[verdict(metric, against)]}".strip()
