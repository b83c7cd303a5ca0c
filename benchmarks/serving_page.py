"""The part of docs/benchmarks.md about answers over HTTP."""

from benchmarks.rows import RESULTS, read_rows


def answers() -> str:
    """What reads take and how fresh they are, by what was asked and how hard."""
    rows = read_rows(RESULTS / "serving.csv")
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        found.setdefault(row.method, {})[row.metric] = row.value or 0.0
    lines = ["| asked | answers or events a second | p50, ms | p99, ms |", "|---|---|---|---|"]
    for name, told in found.items():
        rate = told.get("answers_per_second", told.get("sent_per_second"))
        if rate is not None:
            lines.append(
                f"| {name} | {rate:,.0f} | {told['p50_ms']:,.1f} | {told['p99_ms']:,.1f} |"
            )
    idle, memory, alone = (found[name] for name in ("idle", "memory", "the model alone"))
    idles = ", ".join(
        f"{name} {idle[f'{name}_percent_of_a_core']:.1f}%" for name in ("server", "follow", "score")
    )
    holds = ", ".join(f"{name} {memory[f'{name}_mb']:,.0f} MB" for name in ("server", "follow",
                                                                           "score"))  # fmt: skip
    scores = "; ".join(
        f"{alone[f'score_ms_each_of_{count}']:.1f} ms each of {count}, of which the model's call"
        f" {alone[f'model_call_ms_each_of_{count}']:.1f}"
        for count in (1, 16, 256)
    )
    lines += [
        "",
        f"Of a core while nothing happens: {idles}. Memory of their own: {holds}; on disk"
        f" {memory['scores_mb_per_100k_customers']:,.0f} MB of answers for 100,000 customers. The"
        f" shop as a whole is scored in {found['scored as a whole']['seconds']:.0f} s. One"
        f" customer's score, in processor time: {scores}.",
        "",
    ]
    return "\n".join(lines)


def peers() -> str:
    """What reads take beside servers that are made for such reads."""
    found: dict[str, dict[str, float]] = {}
    for row in read_rows(RESULTS / "serving_peers.csv"):
        found.setdefault(row.method, {})[row.metric] = row.value or 0.0
    lines = ["| asked | answers a second | p50, ms | p99, ms |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {told['answers_per_second']:,.0f} | {told['p50_ms']:,.1f} |"
        f" {told['p99_ms']:,.1f} |"
        for name, told in found.items()
    ]  # fmt: skip
    return "\n".join([*lines, ""])


def several() -> str:
    """What several processes answer together, and what the death of one costs."""
    rows = read_rows(RESULTS / "several.csv")
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        found.setdefault(row.method, {})[row.metric] = row.value or 0.0
    lines = ["| asked | answers a second | p50, ms | p99, ms |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {told['answers_per_second']:,.0f} | {told['p50_ms']:,.1f} |"
        f" {told['p99_ms']:,.1f} |"
        for name, told in found.items() if "p50_ms" in told
    ]  # fmt: skip
    lines += ["", "| | kills | answers | asked again | failed after that | back after, s |"]
    lines += ["|---|---|---|---|---|---|"]
    lines += [
        f"| {name} | {told['kills']:.0f} | {told['answers']:,.0f} | {told['asked_again']:.0f} |"
        f" {told['failed_after_that']:.0f} | {told['seconds_until_back']:.1f} |"
        for name, told in found.items() if "kills" in told
    ]  # fmt: skip
    return "\n".join([*lines, ""])


def mixed() -> str:
    """What ten minutes of everything at once left behind."""
    rows = read_rows(RESULTS / "mixed_load.csv")
    told = rows[0]
    lines = [f"{told.protocol.capitalize()}; {told.method} of what went.", ""]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {row.metric} | {_shown(row.value or 0.0)} |" for row in rows]
    return "\n".join([*lines, ""])


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"
