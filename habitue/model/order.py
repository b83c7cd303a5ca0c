"""The model on sequences that know order alone: which item comes next, learnt and asked.

The same tokens, items, transformer and loss as for a shop; only what such data does not know is
left out. Items begin at their spectral vectors, so that a few passes are enough.
"""

# N rows · V items · D width
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from habitue.config import TrainConfig, nano
from habitue.model.backbone import Model
from habitue.model.checkpoint import fresh
from habitue.model.inputs import Vocabulary, to_inputs
from habitue.model.train import Step, begin, train
from habitue.sequences.items_only import ItemCorpus
from habitue.sequences.ragged import Ragged
from habitue.sequences.spectral import spectral_vectors
from habitue.sequences.text import hash_texts
from habitue.sequences.tokens import QUERY_COLUMNS

SPREAD = 0.3                               # standard deviation of the items' first vectors
FIRST_CONTENT = 0.1                        # of the content's usual size, where items have a start


def order_recipe(rows: Ragged) -> TrainConfig:
    """What is trained on sequences of order: one recipe, of which only the reach follows the data.

    `max_events` is the 95th percentile of the rows' lengths, between 50 and 200.
    """
    reach = float(np.quantile(np.diff(rows.offsets), 0.95)) if len(rows.offsets) > 1 else 0.0
    return replace(
        nano(),
        width=128,
        epochs=8,
        dropout=0.4,
        item_dropout=0.0,
        item_trust=2.0,
        item_temperature=0.07,
        item_rows=1 << 30,
        max_events=int(np.clip(np.ceil(reach), 50, 200)),
    )


def learn_order(
    rows: Ragged,
    texts: Sequence[str],                  # (V,) what is written of each item; empty: nothing
    categories: Sequence[str],             # (V,)
    config: TrainConfig,
    *,
    watch: Callable[[Step], None] | None = None,
) -> Model:
    """A model of which of the items 0 … V - 1 follows which."""
    items = len(texts)
    vocabulary = _vocabulary(rows, texts, categories, config)
    model = fresh(config, vocabulary)
    begin_at(model, spectral_vectors(rows, items, config.width, seed=config.seed))
    return train(begin(model), ItemCorpus(rows, max_events=config.max_events), watch=watch)


@torch.no_grad()
def begin_at(model: Model, vectors: np.ndarray) -> None:
    """Let items begin at vectors (V, D), which tokens and scores at first take as they are."""
    of_items = model.items
    own = torch.from_numpy(vectors * SPREAD).float() / of_items.gate[1:].clamp_min(0.05)
    of_items.residual.weight[1:] = own
    of_items.adapter[-1].weight.mul_(FIRST_CONTENT)
    model.line_out.weight.copy_(torch.eye(model.config.width))
    model.next_item.weight.copy_(torch.eye(model.config.width))


@torch.no_grad()
def next_scores(model: Model, rows: Ragged) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows (B,) and log-probabilities (B, V) float32 of what comes after each, all but empty."""
    model.eval()
    vectors = model.items.vectors()
    for row, batch in ItemCorpus(rows, max_events=model.config.max_events).ask():
        inputs = to_inputs(batch)
        states, _ = model(inputs, vectors)
        last = (inputs.kind > 0).sum(dim=1) - 1
        state = states[torch.arange(len(states)), last]                    # (B, D)
        for begin_ in range(0, len(row), 256):
            part = slice(begin_, begin_ + 256)
            scores = model.item_scores(state[part], vectors, query=False)
            yield row[part], torch.log_softmax(scores, dim=-1).numpy()


def _vocabulary(
    rows: Ragged, texts: Sequence[str], categories: Sequence[str], config: TrainConfig
) -> Vocabulary:
    grams = hash_texts(texts, categories, buckets=config.text_buckets)
    evidence = np.bincount(rows.values, minlength=len(texts))
    return Vocabulary(
        kinds=("item",),
        items=len(texts),
        ngram=torch.from_numpy(grams.values),
        ngram_offset=torch.from_numpy(np.concatenate([[0], grams.offsets[:-1]])),
        evidence=torch.from_numpy(np.concatenate([[0], evidence])).float(),
        query_edges=torch.zeros(len(QUERY_COLUMNS), 2),
    )
