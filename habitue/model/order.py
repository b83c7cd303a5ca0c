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
from habitue.model.backbone import Model, TextAdapter
from habitue.model.checkpoint import fresh
from habitue.model.inputs import Vocabulary, to_inputs
from habitue.model.train import Step, begin, train
from habitue.sequences.batch import Batch
from habitue.sequences.order.corpus import ItemCorpus
from habitue.sequences.order.spectral import spectral_vectors
from habitue.sequences.ragged import Ragged
from habitue.sequences.text import hash_texts
from habitue.sequences.tokens import QUERY_COLUMNS

SPREAD = 0.3                               # standard deviation of the items' first vectors
SCORED_ROWS = 256                          # against the catalogue at once
RIDGE = 0.1                                # of items that are no evidence for the first texts
FIRST_CONTENT = 0.1                        # of the content's usual size, where items have a start


def order_recipe(rows: Ragged, items: int) -> TrainConfig:
    """What is trained on sequences of order: one recipe, of which two settings follow the size.

    `max_events` is the 95th percentile of the rows' lengths, between 50 and 200. Dropout is .4
    where an item is met 12 times or less, and .15 less for each tenfold of that, at least .1.
    """
    reach = float(np.quantile(np.diff(rows.offsets), 0.95)) if len(rows.offsets) > 1 else 0.0
    met = max(len(rows.values) / max(items, 1), 1.0)
    return replace(
        nano(),
        width=128,
        epochs=8,
        dropout=float(np.clip(0.4 - 0.15 * np.log10(met / 12), 0.1, 0.4)),
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
    vectors: np.ndarray | None = None,     # (V, W) of texts, as a sentence encoder reads them
    watch: Callable[[Step], None] | None = None,
) -> Model:
    """A model of which of the items 0 … V - 1 follows which."""
    items = len(texts)
    vocabulary = _vocabulary(rows, texts, categories, config)
    if vectors is not None:
        unknown = np.zeros((1, vectors.shape[1]))
        text = torch.from_numpy(np.concatenate([unknown, vectors])).float()
        vocabulary = replace(vocabulary, text=text)
    model = fresh(config, vocabulary)
    begin_at(model, spectral_vectors(rows, items, config.width, seed=config.seed))
    return train(begin(model), ItemCorpus(rows, max_events=config.max_events), watch=watch)


@torch.no_grad()
def begin_at(model: Model, vectors: np.ndarray) -> None:
    """Let items begin at vectors (V, D), which tokens and scores at first take as they are."""
    of_items = model.items
    wanted = torch.from_numpy(vectors * SPREAD).float()                    # (V, D)
    if of_items.text is not None:
        _begin_text_at(of_items.text, wanted, of_items.gate[1:, 0] > 0)
        wanted = wanted - of_items.text()[1:]
    of_items.residual.weight[1:] = wanted / of_items.gate[1:].clamp_min(0.05)
    for parameter in of_items.adapter[-1].parameters():
        parameter.mul_(FIRST_CONTENT)
    model.line_out.weight.copy_(torch.eye(model.config.width))
    model.next_item.weight.copy_(torch.eye(model.config.width))


def _begin_text_at(text: TextAdapter, wanted: torch.Tensor, seen: torch.Tensor) -> None:
    """Let texts say of items where they begin, as well as a ridge regression can."""
    x = text.whitened()[1:][seen].double()                                 # (N, P)
    mean = wanted[seen].double().mean(dim=0)
    gram = x.T @ x + RIDGE * len(x) * torch.eye(x.shape[1])
    text.out.weight.copy_(torch.linalg.solve(gram, x.T @ (wanted[seen] - mean)).T)
    text.out.bias.copy_(mean)


def next_scores(model: Model, rows: Ragged) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows (B,) and log-probabilities (B, V) float32 of what comes after each, all but empty."""
    model.eval()
    with torch.no_grad():
        vectors = model.items.vectors()
    for row, batch in ItemCorpus(rows, max_events=model.config.max_events).ask():
        state = _last_states(model, batch, vectors)                        # (B, D)
        for begun in range(0, len(row), SCORED_ROWS):
            part = slice(begun, begun + SCORED_ROWS)
            yield row[part], _scored(model, state[part], vectors)


@torch.no_grad()
def _last_states(model: Model, batch: Batch, vectors: torch.Tensor) -> torch.Tensor:
    inputs = to_inputs(batch)
    states, _ = model(inputs, vectors)
    last = (inputs.kind > 0).sum(dim=1) - 1
    return states[torch.arange(len(states)), last]


@torch.no_grad()
def _scored(model: Model, state: torch.Tensor, vectors: torch.Tensor) -> np.ndarray:
    scores = model.item_scores(state, vectors, query=False)
    return torch.log_softmax(scores, dim=-1).numpy()


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
