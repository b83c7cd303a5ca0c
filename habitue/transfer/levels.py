"""Weights of many shops over one: as they are, or trained on for a little while.

Level 0 is the starter as it is; level 1 calibrates it on a closed window, which `adapt` does for
every way alike; level 2 trains all of its weights on, at a low rate and for few passes, with rows
for this shop's items.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from habitue.config import HERE, Launch, TrainConfig
from habitue.errors import BadSetting, SawTheFuture
from habitue.model.inputs import make_vocabulary
from habitue.model.launch import Job, run, shares_of
from habitue.model.starter import Starter, open_starter, refuse_seen
from habitue.model.train import Step
from habitue.predictions.learn import Progress, Trained, corpus_of
from habitue.sequences.build import Sequences
from habitue.transfer.shelf import SHELF, names

PASSES = 4                                 # over the shop's customers
RATE = 1e-3                                # peak; a training from nothing has twice as much


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How a training is run, whatever it begins from."""

    config: TrainConfig
    progress: Progress | None = None
    checkpoints: Path | None = None        # where it leaves where it stands
    launch: Launch = HERE


def choose_starter(sequences: Sequences, at: int, shelf: Path = SHELF) -> Starter:
    """The first starter of a shelf that saw nothing of this shop after `at` (µs).

    Raises:
        SawTheFuture: all of them did.
        BadSetting: the shelf is empty.
    """
    refusal: SawTheFuture | None = None
    for name in names(shelf):
        starter = open_starter(name, shelf)
        try:
            refuse_seen(starter, sequences, at)
        except SawTheFuture as error:
            refusal = error
        else:
            return starter
    raise refusal or BadSetting(f"no starter weights in {shelf}\nhint: install habitue again")


def as_it_is(starter: Starter, sequences: Sequences) -> Trained:
    """Level 0: nothing of the shop but what it is asked with."""
    model = starter.over(sequences)
    return Trained(model=model, corpus=corpus_of(sequences, model), cutoff=sequences.cutoff)


def trained_on(
    starter: Starter, sequences: Sequences, training: Training, label: str
) -> Trained:
    """Level 2: all weights trained on with this shop alone."""
    config = replace(
        starter.config,
        epochs=PASSES,
        learning_rate=RATE,
        item_dropout=training.config.item_dropout,
        seed=training.config.seed,
        shares=training.config.shares,
        bfloat16=training.config.bfloat16,
    )
    start = starter.over(sequences)
    corpus = corpus_of(sequences, start)
    job = Job(
        config=config,
        vocabulary=make_vocabulary(
            sequences,
            text_buckets=config.text_buckets,
            kinds=starter.kinds,
            query_edges=starter.tensors["query_encoding.edges"],
        ),
        corpora=shares_of(corpus, config.shares),
        checkpoint=None if training.checkpoints is None else training.checkpoints / f"{label}.pt",
        start=start,
    )
    found = run(job, training.launch, _watch(training.progress, label))
    return Trained(model=found.model, corpus=corpus, cutoff=sequences.cutoff)


def _watch(progress: Progress | None, label: str) -> Callable[[Step], None] | None:
    return None if progress is None else partial(progress, label)
