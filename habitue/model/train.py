"""The training loop: one shop's corpus in, weights out; resumable to the exact batch."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from habitue.config import TrainConfig
from habitue.model.backbone import Model
from habitue.model.inputs import to_inputs
from habitue.model.objectives import losses
from habitue.sequences.batch import Batch, Corpus

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Where a training stands; handed to `watch` after every optimiser step."""

    step: int
    steps: int
    loss: float
    parts: dict[str, float]
    tokens: int                            # so far
    seconds: float                         # so far


@dataclass(slots=True)
class Training:
    """A training under way: weights, optimiser, and the place in the stream of batches."""

    model: Model
    optimiser: torch.optim.Optimizer
    step: int = 0
    tokens: int = 0


def begin(model: Model) -> Training:
    """A training at step zero."""
    config = model.config
    # items and text are looked up by few rows a step; decay would fade the rare ones
    free = [p for name, p in model.named_parameters() if p.ndim < 2 or _is_table(name)]
    decayed = [p for name, p in model.named_parameters() if p.ndim >= 2 and not _is_table(name)]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return Training(model, torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98)))


def train(
    training: Training,
    corpus: Corpus,
    *,
    watch: Callable[[Step], None] | None = None,
    save: Callable[[Training], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Model:
    """Run to the end of the last epoch from wherever `training` stands.

    Batches, their order and dropout depend on (seed, epoch, step) alone, so a training resumed
    from a checkpoint repeats the one that was never interrupted. `save` is called every
    `checkpoint_every` steps.
    """
    model, config = training.model, training.model.config
    sizes = [_plan(corpus, config, epoch) for epoch in range(config.epochs)]
    steps, begun, done = sum(sizes), clock(), 0
    model.train()
    for epoch, size in enumerate(sizes):
        if done + size <= training.step:
            done += size
            continue
        batches = corpus.epoch(
            queries=config.queries, batch_tokens=config.batch_tokens, seed=_seed(config, epoch)
        )
        for batch in batches:
            done += 1
            if done <= training.step:
                continue
            torch.manual_seed(_seed(config, epoch) * 100_003 + done)
            found = _descend(training, batch, done / steps)
            training.step = done
            training.tokens += batch.tokens
            if save and done % config.checkpoint_every == 0:
                save(training)
            if watch:
                loss, parts = found
                seconds, tokens = clock() - begun, training.tokens
                watch(
                    Step(
                        step=done,
                        steps=steps,
                        loss=loss,
                        parts=parts,
                        tokens=tokens,
                        seconds=seconds,
                    )
                )
    model.eval()
    return model


def _descend(training: Training, batch: Batch, progress: float) -> tuple[float, dict[str, float]]:
    found = losses(training.model, to_inputs(batch))
    training.optimiser.zero_grad()
    found.total.backward()
    torch.nn.utils.clip_grad_norm_(training.model.parameters(), 1.0)
    for group in training.optimiser.param_groups:
        group["lr"] = training.model.config.learning_rate * schedule(progress)
    training.optimiser.step()
    return float(found.total.detach()), found.parts


def schedule(progress: float) -> float:
    """Share of the peak learning rate at a share of the run: up over 5%, then down a cosine.

    >>> [round(schedule(p), 3) for p in (0.025, 0.05, 0.525, 1.0)]
    [0.5, 1.0, 0.525, 0.05]
    """
    if progress < 0.05:
        return progress / 0.05
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (progress - 0.05) / 0.95))


def _plan(corpus: Corpus, config: TrainConfig, epoch: int) -> int:
    return corpus.plan(
        queries=config.queries, batch_tokens=config.batch_tokens, seed=_seed(config, epoch)
    )


def _seed(config: TrainConfig, epoch: int) -> int:
    return config.seed * 1_000_003 + epoch


def _is_table(name: str) -> bool:
    return "residual" in name or "content" in name
