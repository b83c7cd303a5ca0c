"""What a model reads of a shop: embeddings at anchors, and the blocks that tables are made of."""

# Q queries · D width
from dataclasses import dataclass

import numpy as np

from habitue.model.backbone import Model
from habitue.model.embed import embed, item_preference, item_vectors
from habitue.predictions.probes.blocks import Known, item_aggregates, sold_by
from habitue.predictions.probes.lessons import PERSONAL, Embed
from habitue.predictions.score import anchors
from habitue.sequences.batch import Corpus
from habitue.sequences.build import DAY, Sequences
from habitue.sequences.snapshots import Snapshots
from habitue.sequences.tokens import make_queries

BASIS_DAYS = (0, 91, 182, 273)             # before the cutoff: what a basis is fitted on
BASIS_CUSTOMERS = 5_000                    # at each of them


@dataclass(frozen=True, slots=True)
class Reading:
    """A shop as of a cutoff, as models read it."""

    sequences: Sequences
    snapshots: Snapshots

    def corpus(self, model: Model) -> Corpus:
        """The shop as one model reads it."""
        return Corpus(
            self.sequences,
            self.snapshots,
            max_events=model.config.max_events,
            kinds=model.kinds,
        )

    def embed(self, model: Model) -> Embed:
        """The embeddings of a model over this shop: query states at anchors."""
        corpus = self.corpus(model)

        def states(customer: np.ndarray, at: np.ndarray) -> np.ndarray:
            return embed(model, corpus, customer, anchors(corpus, customer, at))

        return states

    def known(
        self, model: Model, customer: np.ndarray, at: np.ndarray, cutoff: int
    ) -> Known:
        """What is known of customers (Q,) at anchors (Q,), of the items sold before a cutoff."""
        state = embed(model, self.corpus(model), customer, at)
        preference = item_preference(model, state, sold_by(self.sequences, cutoff))
        asked = make_queries(self.sequences, self.snapshots, customer, at)
        return Known((state, preference), asked.columns[:, :PERSONAL])

    def sample(self, model: Model) -> Known:
        """What was known of some customers at a few instants up to the cutoff."""
        rng = np.random.default_rng(0)
        first = self.sequences.time[self.sequences.offsets[:-1]]
        parts = []
        for days in BASIS_DAYS:
            then = self.sequences.cutoff - days * DAY
            whom = np.flatnonzero(first <= then)
            if len(whom) > BASIS_CUSTOMERS:
                whom = np.sort(rng.choice(whom, BASIS_CUSTOMERS, replace=False))
            if len(whom):
                at = anchors(self.corpus(model), whom, then)
                parts.append(self.known(model, whom, at, then))
        return Known(
            tuple(np.concatenate(one) for one in zip(*(part.dense for part in parts), strict=True)),
            np.concatenate([part.aggregates for part in parts]),
        )


def known_items(model: Model, sequences: Sequences) -> Known:
    """What is known of every item."""
    return Known((item_vectors(model),), item_aggregates(sequences))
