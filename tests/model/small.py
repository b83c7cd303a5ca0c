"""Small models: trained in a second, or with weights that are random but not zero."""

from dataclasses import replace

import numpy as np
import torch

from habitue.config import TrainConfig
from habitue.model.backbone import Model
from habitue.model.checkpoint import fresh
from habitue.model.inputs import Inputs, Vocabulary, make_vocabulary, query_quantiles
from habitue.model.train import Training, begin, train
from habitue.sequences.batch import Corpus
from habitue.sequences.build import Sequences
from habitue.sequences.snapshots import SHOP_COLUMNS, take_snapshots
from habitue.sequences.tokens import BIN_EDGES, EVENT_COLUMNS, LINE_COLUMNS, QUERY_COLUMNS

TINY = replace(
    TrainConfig(), width=32, layers=1, epochs=1, batch_tokens=256, queries=3, text_buckets=256
)
KINDS = ("order_placed", "item_viewed")


def corpus_of(sequences: Sequences, model: Model | None = None) -> Corpus:
    """A corpus of chunks of 32 events, as a model reads it."""
    kinds = None if model is None else model.kinds
    return Corpus(sequences, take_snapshots(sequences), max_events=32, kinds=kinds)


def vocabulary_of(sequences: Sequences, config: TrainConfig = TINY) -> Vocabulary:
    edges = query_quantiles(sequences, take_snapshots(sequences), seed=config.seed)
    return make_vocabulary(sequences, text_buckets=config.text_buckets, query_edges=edges)


def training_of(sequences: Sequences, config: TrainConfig = TINY) -> Training:
    return begin(fresh(config, vocabulary_of(sequences, config)))


def trained(sequences: Sequences, config: TrainConfig = TINY) -> Model:
    return train(training_of(sequences, config), corpus_of(sequences))


@torch.no_grad()
def stirred(model: Model, seed: int = 0) -> Model:
    """The model with noise on every weight, so that no part of it is silent."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def toy(*, items: int = 6, layers: int = 2, evidence: float = 20.0) -> Model:
    """A stirred model of a shop that is nowhere else."""
    edges = torch.linspace(-2, 2, 13).expand(len(QUERY_COLUMNS), 13).contiguous()
    vocabulary = Vocabulary(
        kinds=KINDS,
        items=items,
        ngram=torch.arange(2 * items),
        ngram_offset=torch.tensor([0, *range(0, 2 * items, 2)]),
        evidence=torch.tensor([0.0, *[evidence] * items]),
        query_edges=edges,
    )
    return stirred(fresh(replace(TINY, layers=layers), vocabulary))


def made(events: list[tuple[float, int]], queries: list[tuple[float, int]]) -> Inputs:
    """One row of (day, number) events and queries; what they carry follows from the number."""
    drawn = [np.random.default_rng(number) for _, number in events]
    asked = [np.random.default_rng(1_000 + number) for _, number in queries]
    count = len(events)

    def floats(*arrays: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.stack(arrays)).float()

    return Inputs(
        kind=torch.tensor([[1 + number % 2 for _, number in events]]),
        columns=floats(*(rng.normal(size=len(EVENT_COLUMNS)) for rng in drawn))[None],
        event_days=torch.tensor([[19_000 + day for day, _ in events]], dtype=torch.float64),
        line_item=torch.tensor([1 + n % 6 for _, number in events for n in (number, number + 1)]),
        line_columns=floats(*(rng.normal(size=len(LINE_COLUMNS)) for rng in drawn for _ in "ab")),
        line_event=torch.arange(count).repeat_interleave(2),
        query_days=torch.tensor([[19_000 + day for day, _ in queries]], dtype=torch.float64),
        query_columns=floats(*(rng.normal(size=len(QUERY_COLUMNS)) for rng in asked))[None],
        shop_columns=floats(*(rng.normal(size=len(SHOP_COLUMNS)) for rng in asked))[None],
        asked=torch.ones(1, len(queries), dtype=torch.bool),
        log_prior_rate=torch.full((1, len(queries), len(BIN_EDGES)), -4.0),
        query_row=torch.arange(len(queries))[None],
        log_expected=torch.zeros(1, len(queries)),
        mean_value=torch.ones(1, len(queries)),
    )
