"""Training over many shops: one set of weights, and items that never meet.

At every step one shop is drawn, with a chance that grows as the root of its customers, and one
batch of that shop alone is learnt from: its own item vectors, its own catalogue as negatives,
amounts over its own medians. What the shops share is everything but the rows of items, and those
rows are thrown away at the end: a shop that comes later knows its items by their content.
"""

# M shops · V items · A query columns · E quantile edges
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from habitue.config import TrainConfig
from habitue.model.backbone import Model
from habitue.model.checkpoint import ITEM_ROWS, fresh
from habitue.model.inputs import Vocabulary, make_vocabulary, query_quantiles, to_inputs
from habitue.model.objectives import losses
from habitue.model.train import Step, optimiser_of, schedule
from habitue.sequences.batch import Batch, Corpus
from habitue.sequences.build import Sequences


class Shops(nn.Module):
    """One model per shop; all weights but the rows of items are the same tensors in each."""

    def __init__(self, models: Sequence[Model]) -> None:
        super().__init__()
        self.shops = nn.ModuleList(models)

    def shop(self, number: int) -> Model:
        """The model of one shop."""
        model = self.shops[number]
        assert isinstance(model, Model), "only models are held"
        return model


def beside(model: Model, vocabulary: Vocabulary) -> Model:
    """A model of another shop: items of its own, and every other weight shared with `model`."""
    other = fresh(model.config, vocabulary)
    for name, child in model.named_children():
        if name != "items":
            setattr(other, name, child)
    for name, child in model.items.named_children():
        if f"items.{name}.weight" not in ITEM_ROWS:
            setattr(other.items, name, child)
    start_at_popularity(other, vocabulary)
    return other


@torch.no_grad()
def start_at_popularity(model: Model, vocabulary: Vocabulary) -> None:
    """Let every item's bias be the logarithm of how often it was ordered, one more than told."""
    orders = vocabulary.evidence + 1
    model.items.bias.copy_(torch.log(orders / orders.mean()))


def blank(model: Model) -> Model:
    """The shared weights of a model, over no items."""
    nothing = Vocabulary(
        kinds=model.kinds,
        items=0,
        ngram=torch.empty(0, dtype=torch.int64),
        ngram_offset=torch.zeros(1, dtype=torch.int64),
        evidence=torch.zeros(1),
        query_edges=model.query_encoding.edges,
    )
    return beside(model, nothing).eval()


def pretrain(
    corpora: Sequence[Corpus],
    config: TrainConfig,
    *,
    kinds: tuple[str, ...],
    steps: int,
    watch: Callable[[Step], None] | None = None,
) -> Model:
    """The weights that `steps` batches of many shops leave, over no items.

    Corpora are read with `kinds`, so that a kind of event has one number in all of them.
    """
    edges = shared_edges(corpora, seed=config.seed)
    vocabularies = [
        make_vocabulary(
            corpus.sequences, text_buckets=config.text_buckets, query_edges=edges, kinds=kinds
        )
        for corpus in corpora
    ]
    first = fresh(config, vocabularies[0])
    shops = Shops([beside(first, vocabulary) for vocabulary in vocabularies])
    optimiser = optimiser_of(shops, config)
    dispersion = [spend_dispersion(corpus.sequences) for corpus in corpora]
    begun, tokens = time.perf_counter(), 0
    shops.train()
    for step, (number, batch) in enumerate(draw(corpora, config, steps), start=1):
        torch.manual_seed(config.seed * 1_000_003 + step)
        found = losses(
            shops.shop(number), to_inputs(batch), spend_dispersion=dispersion[number]
        )
        optimiser.zero_grad()
        found.total.backward()
        nn.utils.clip_grad_norm_(shops.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * schedule(step / steps)
        optimiser.step()
        tokens += batch.tokens
        if watch:
            watch(
                Step(
                    step=step,
                    steps=steps,
                    loss=float(found.total.detach()),
                    parts=found.parts,
                    tokens=tokens,
                    seconds=time.perf_counter() - begun,
                )
            )
    return blank(shops.shop(0))


def draw(
    corpora: Sequence[Corpus], config: TrainConfig, steps: int
) -> Iterator[tuple[int, Batch]]:
    """So many batches, each with the number of the one shop that it is of."""
    rng = np.random.default_rng(config.seed)
    weight = np.sqrt([len(corpus.sequences.customers) for corpus in corpora])
    numbers = rng.choice(len(corpora), size=steps, p=weight / weight.sum())
    streams = [_endless(corpus, config, shop) for shop, corpus in enumerate(corpora)]
    for number in numbers:
        yield int(number), next(streams[number])


def spend_dispersion(sequences: Sequences) -> float:
    """What a customer spends in all, in median orders; at least one.

    The dispersion of a quasi-likelihood: a shop whose customers spend a hundred medians would
    otherwise weigh a hundred times as much, and drown what else is learnt.
    """
    values = sequences.value[sequences.is_order]
    values = values[values > 0]
    if not len(values):
        return 1.0
    return max(float(values.sum() / np.median(values) / len(sequences.customers)), 1.0)


def shared_edges(corpora: Sequence[Corpus], *, seed: int) -> Tensor:
    """(A, E) quantiles of each query column over shops, every shop counting as one."""
    each = [query_quantiles(corpus.sequences, corpus.snapshots, seed=seed) for corpus in corpora]
    pooled = torch.cat(each, dim=1)                                        # (A, M * E)
    shares = torch.linspace(0, 1, each[0].shape[1])
    return torch.quantile(pooled, shares, dim=1).T.contiguous()


def _endless(corpus: Corpus, config: TrainConfig, shop: int) -> Iterator[Batch]:
    """A shop's batches, pass after pass."""
    passes = 0
    while True:
        yield from corpus.epoch(
            queries=config.queries,
            batch_tokens=config.batch_tokens,
            seed=(config.seed * 1_009 + shop) * 1_000_003 + passes,
        )
        passes += 1
