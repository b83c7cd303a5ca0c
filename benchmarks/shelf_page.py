"""The parts of docs/benchmarks.md about lists: on a page, and over a large catalogue."""

from benchmarks.rows import RESULTS, read_rows

_READS = (
    "nothing", "list", "list of nobody, on a page", "list on a page, with a cart of 3",
    "similar items",
)  # fmt: skip


def on_a_page() -> str:
    """Recall of each way of listing, by what is on the page."""
    rows = {row.method: row for row in read_rows(RESULTS / "on_a_page.csv")}
    lines = ["| shown | one item on the page | three |", "|---|---|---|"]
    methods = dict.fromkeys(name.partition(", page of")[0] for name in rows if ", page of" in name)
    for method in methods:
        told = [rows[f"{method}, page of {count}"] for count in (1, 3)]
        cells = " | ".join(f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})" for one in told)
        lines.append(f"| {method} | {cells} |")
    every, left = (rows[name] for name in ("nothing left out", "what was bought for good left out"))
    lines += [
        "",
        f"Over the 28 days as a whole, recall@10, {every.protocol}: {every.value:.4f} with"
        f" nothing left out, {left.value:.4f} without what was bought for good.",
        "",
    ]
    return "\n".join(lines)


def large_catalogue() -> str:
    """What reads, ranking and nearest items take, by the number of items."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row in read_rows(RESULTS / "large_catalogue.csv"):
        cell = found.setdefault(row.method, {}).setdefault(row.data, {})
        cell[row.metric] = row.value or 0.0
    sizes = sorted(found["read: list"], key=lambda one: int(one.split()[0].replace(",", "")))
    lines = [f"| | {' | '.join(sizes)} |", f"|---|{'---|' * len(sizes)}"]

    def add(words: str, method: str, form: str) -> None:
        cells = [form.format(**found[method][size]) if size in found[method] else "not run"
                 for size in sizes]  # fmt: skip
        lines.append(f"| {words} | {' | '.join(cells)} |")

    for read in _READS:
        add(f"read, ms p50 / p99: {read}", f"read: {read}", "{p50_ms:.1f} / {p99_ms:.1f}")
    add("a list in the scorer, ms, all items scored", "list, all items scored", "{ms_each:.1f}")
    add(
        "… those worth it scored; recall of the 10 and 50 best", "list, those worth it scored",
        "{ms_each:.1f}; {recall_at_10:.3f}, {recall_at_50:.3f}",
    )  # fmt: skip
    add("what is bought with what, seconds", "what is bought with what", "{seconds:.2f}")
    for method, words in (
        ("nearest 100, exact product", "nearest 100 of 64 numbers, ms: exact product"),
        ("nearest 100, faiss inverted lists", "… faiss, inverted lists; recall; seconds to build"),
        ("nearest 100, faiss graph (HNSW)", "… faiss, graph; recall; seconds to build"),
    ):
        form = "{ms_each:.2f}"
        if "faiss" in method:
            form += "; {recall_at_100:.3f}; {build_seconds:.1f}"
        add(words, method, form)
    return "\n".join(lines) + "\n"
