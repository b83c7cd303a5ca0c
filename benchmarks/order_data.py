"""Public data of what followed what, recognised by its columns: rows to learn from, aims to hit."""

# N rows · V items
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from habitue.sequences.order.corpus import without_last
from habitue.sequences.ragged import Ragged, offsets_of

PREFIX_MOST = 40_000                       # asked of a file's test sessions; the first ones
CHOICE_MOST = 4_000                        # asked of its validation sessions, evenly spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Rows, and the item that followed each."""

    rows: Ragged
    aims: np.ndarray                       # (N,)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderData:
    """One data set, split; nothing of `test` may be looked at before the end."""

    name: str
    protocol: str
    train: Ragged
    validation: Asked
    test: Asked
    texts: list[str]                       # (V,)
    categories: list[str]                  # (V,)
    places: int                            # k of the metrics
    goes_on: bool                          # the rows that are asked go on those learnt from

    @property
    def items(self) -> int:
        """The whole catalogue."""
        return len(self.texts)


def order_data(path: Path) -> OrderData:
    """A file of (user, item, pos), or of sessions with a split of their own.

    Titles are read from the file beside it, where there is one.
    """
    table = pd.read_parquet(path)
    if "split" in table:
        return _sessions(path, table)
    if "sas_user_id" in table:
        table = table.assign(user_id=table["sas_user_id"], item_id=table["sas_item_id"])
    rows, count = _rows(table, "user_id"), int(table["item_id"].max())
    texts, categories = _written(path, table, count)
    last = rows.offsets[1:] - 1
    assert (np.diff(rows.offsets) >= 3).all(), "every user has an item for each part"
    return OrderData(
        name=path.stem,
        protocol=f"leave one out: last item test, one before it validation; full ranking of"
        f" {count} items; ties by item number; time unknown",
        train=without_last(rows, 2),
        validation=Asked(rows=without_last(rows, 2), aims=rows.values[last - 1]),
        test=Asked(rows=without_last(rows, 1), aims=rows.values[last]),
        texts=texts,
        categories=categories,
        places=10,
        goes_on=True,
    )


def _sessions(path: Path, table: pd.DataFrame) -> OrderData:
    """Every place of every test session but the first is asked; validation: the last of train."""
    count = int(table["item_id"].max())
    training = table[table["split"] == "train"]
    sessions = np.sort(training["session_id"].unique())
    late = sessions[-len(sessions) // 20 :]
    is_late = training["session_id"].isin(late)
    test = table[table["split"] == "test"]
    return OrderData(
        name=path.stem,
        protocol=f"sessions split in time by the file; every place of a test session but the"
        f" first is asked ({PREFIX_MOST:,} of them at most); full ranking of {count} items; ties"
        " by item number; time unknown",
        train=_rows(training[~is_late], "session_id"),
        validation=_spread(_prefixes(_rows(training[is_late], "session_id")), CHOICE_MOST),
        test=_prefixes(_rows(test, "session_id")),
        texts=[""] * count,
        categories=[""] * count,
        places=20,
        goes_on=False,
    )


def _rows(table: pd.DataFrame, owner: str) -> Ragged:
    ordered = table.sort_values([owner, "pos"], kind="stable")
    sizes = ordered.groupby(owner, sort=True).size().to_numpy()
    return Ragged(ordered["item_id"].to_numpy(np.int64) - 1, offsets_of(sizes))


def _prefixes(rows: Ragged) -> Asked:
    """Every beginning of every row, and the item after it."""
    sizes = np.diff(rows.offsets)
    place = np.arange(len(rows.values)) - np.repeat(rows.offsets[:-1], sizes)
    aim = np.flatnonzero(place > 0)[:PREFIX_MOST]
    start = aim - place[aim]
    offsets = offsets_of(place[aim])
    at = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - start, place[aim])
    return Asked(rows=Ragged(rows.values[at], offsets), aims=rows.values[aim])


def _spread(asked: Asked, most: int) -> Asked:
    """At most so many of what is asked, evenly spread over it."""
    row = np.linspace(0, len(asked.aims) - 1, min(most, len(asked.aims))).astype(int)
    return Asked(rows=asked.rows.take(row), aims=asked.aims[row])


def _written(path: Path, table: pd.DataFrame, count: int) -> tuple[list[str], list[str]]:
    """What is written of each item in the file beside the sequences."""
    if "movie_id" in table:
        films = pd.read_parquet(path.with_name("ml1m_movies.parquet")).set_index("movie_id")
        film = table.drop_duplicates("item_id").set_index("item_id")["movie_id"]
        known = films.reindex(film.reindex(range(1, count + 1)))
        texts = known["title"].fillna("") + " " + known["genres"].fillna("").str.replace("|", " ")
        return texts.tolist(), [""] * count
    beside = path.with_name(path.name.replace("_sequences", "_items"))
    if beside == path or not beside.exists():
        return [""] * count, [""] * count
    known = pd.read_parquet(beside).set_index("item_id").reindex(range(1, count + 1))
    marks = [
        "" if isinstance(ids, float) else " ".join(f"a{number}" for number in ids)
        for ids in known["attribute_ids"]
    ]
    titles = known["text_id"].fillna("")
    texts = [f"{title} {mark}" for title, mark in zip(titles, marks, strict=True)]
    return texts, [""] * count
