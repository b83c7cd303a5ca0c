"""`Basis`: a shop as it was scored as a whole, on which customers are scored as they go on.

What is of the whole shop (snapshots, calibration, totals, what sells and with what) stands as it
was at the basis's cutoff, so that scoring one customer again costs what that customer's events
cost. What comes of it is what scoring the same customers on the same basis from the lake gives.
"""

# C customers · V items · k places of a list
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

import duckdb
import msgspec
import numpy as np
import pyarrow as pa

from habitue.errors import NotEnoughHistory
from habitue.lake.live.scored import ScoredCustomer, ScoredItem
from habitue.model.embed import item_scores
from habitue.predictions.score import score_on
from habitue.predictions.scores.answers import Scores
from habitue.predictions.scores.kept import Whole, rows_of, whole_of
from habitue.recommendations.candidates import ModelScores, bought_again, past_of, typical_of
from habitue.recommendations.recommend import FittedRecommender, lenders_of, name_of
from habitue.recommendations.rules import Rules, Shown
from habitue.recommendations.shelf.everybody import lists_of, popular_of, similar_to
from habitue.recommendations.shelf.listed import Listed
from habitue.sequences.build import Sequences, ShopRules, rules_of, sequences_among
from habitue.transfer.opening import AsOf, Held, Source, open_as_of

HORIZONS_DAYS = (7.0, 30.0, 60.0, 90.0, 180.0, 365.0)      # of counts and spend; chances: any


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """One shop, scored as a whole."""

    held: Held
    scores: Scores
    recommender: FittedRecommender
    rules: ShopRules
    connection: duckdb.DuckDBPyConnection  # for reading events; to open one costs more than to ask

    @property
    def cutoff(self) -> int:
        """The instant (µs) at which it was."""
        return self.held.sequences.cutoff

    def close(self) -> None:
        """Give the connection back."""
        self.connection.close()

    def whole(self) -> Whole:
        """What is of the whole shop."""
        standing = self.held.standing
        return whole_of(
            self.scores, version=self.held.version, status=standing.status,
            missing=standing.missing, cutoff=self.cutoff,
        )  # fmt: skip

    def everyone(self, now: int) -> Iterator[ScoredCustomer]:
        """All customers as they stood at the cutoff."""
        lists = _lists(self.recommender, self.held.sequences, self.scores.customer)
        return _told(self.scores, lists, now)

    def items(self) -> Iterator[ScoredItem]:
        """All items, and what is bought beside each."""
        past, shop = self.recommender.past, self.held.sequences
        again, lender = bought_again(past), lenders_of(past)
        for item, code in enumerate(shop.items):
            like = "" if lender[item] < 0 else name_of(shop, lender[item])
            yield ScoredItem(
                str(code), str(shop.titles[item]), str(shop.categories[item]),
                round(float(past.popularity[1][item]), 4), bool(again[item]), like,
                msgspec.json.encode(similar_to(past, shop, item)),
            )  # fmt: skip

    def popular(self) -> list[Listed]:
        """What to show to whom nothing is known of: what sold most lately, or ever."""
        return popular_of(self.recommender.past, self.held.sequences)

    def again(self, events: pa.Table, now: int) -> Iterator[ScoredCustomer]:
        """Some customers, of whom `events` are all that there are, as of `now` (µs).

        Who has no order that stands is left out.
        """
        some = sequences_among(
            events, self.held.sequences, self.rules, cutoff=now, connection=self.connection
        )
        if not len(some.time):
            return
        scores = self.score(some)
        if len(scores.names):
            lists = _lists(self._recommender(some, scores), some, scores.customer)
            yield from _told(scores, lists, now)

    def score(self, some: Sequences) -> Scores:
        """Customers told in the shop's own items, scored on the basis as of `some.cutoff`."""
        trained = self.held.learnt.trained
        return score_on(self.scores, trained.model, trained.corpus, some)

    def _recommender(self, some: Sequences, scores: Scores) -> FittedRecommender:
        """Ready to list for some customers, with what sells as it did at the cutoff."""
        past = past_of(some, some.cutoff, self.recommender.past)
        shown = Shown(
            rules=self.recommender.shown.rules, past=past, on_sale=self.recommender.shown.on_sale
        )
        return replace(
            self.recommender, past=past, model=self._model_scores(some, scores), shown=shown
        )

    def _model_scores(self, some: Sequences, scores: Scores) -> ModelScores:
        """What the model says of items to those who were scored, whom it need not read again."""
        model, states = self.held.learnt.trained.model, scores.readings.states
        assert states is not None, "they are kept of whoever is scored anew"
        place = np.zeros(len(some.customers), dtype=np.int64)
        place[scores.customer] = np.arange(len(scores.customer))
        return lambda customers: item_scores(model, states[place[customers]])


def open_basis(source: Source, cutoff: datetime) -> Basis:
    """Score a shop as a whole, with its champion or with weights that ship.

    Raises:
        NotEnoughHistory, NoSuchModel, SawTheFuture: nothing can answer for it.
    """
    held = open_as_of(source, AsOf(cutoff))
    if not held.sequences.is_order.any():
        raise NotEnoughHistory("no order worth anything yet\nhint: send one, or import the past")
    held.learnt.trained.model.items.freeze()
    recommender = held.recommender(Rules(skip_spent=True))
    past = replace(recommender.past, typical=typical_of(recommender.past))     # for all, once
    return Basis(
        held=held,
        scores=held.learnt.scores(HORIZONS_DAYS),
        recommender=replace(recommender, past=past),
        rules=rules_of(source.lake, source.shop),
        connection=duckdb.connect(config={"threads": 1}),
    )


def _lists(
    recommender: FittedRecommender, sequences: Sequences, customers: np.ndarray
) -> dict[str, list[Listed]]:
    """The list of each customer, by name."""
    batches = lists_of(recommender, sequences, customers)
    return {name: listed for one in batches for name, listed in one.items()}


def _told(
    scores: Scores, lists: dict[str, list[Listed]], now: int
) -> Iterator[ScoredCustomer]:
    for name, anchor, curve in zip(scores.names, scores.anchor, rows_of(scores), strict=True):
        listed = zlib.compress(msgspec.json.encode(lists.get(name, [])), 1)
        yield ScoredCustomer(str(name), int(anchor), now, curve, listed)
