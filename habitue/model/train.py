"""The training loop: one shop's corpus in, weights out; resumable to the exact batch.

Customers may be cut into shares, each a stream of batches of its own. A step takes one batch of
every share and descends along the mean of their gradients, each weighted by its tokens. Who holds
which share makes no difference: one process may hold them all, or each of several its own, which
then add up their gradients (see `launch`).
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from habitue.config import TrainConfig
from habitue.model.backbone import Model
from habitue.model.inputs import to_inputs
from habitue.model.objectives import WEIGHTS, losses
from habitue.sequences.batch import Batch, Batches

log = logging.getLogger(__name__)
Add = Callable[[Tensor], None]             # makes a tensor the sum over all workers, in place
_OF_SHARE = 1_000_000_000_039              # between the seeds of two shares


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Where a training stands; handed to `watch` after every optimiser step."""

    step: int
    steps: int
    loss: float                            # over all shares, as are the parts
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
    return Training(model, optimiser_of(model, model.config))


def optimiser_of(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """What descends all weights of a model, or of several that share some."""
    # items and text are looked up by few rows a step; decay would fade the rare ones
    free = [p for name, p in model.named_parameters() if p.ndim < 2 or _is_table(name)]
    decayed = [p for name, p in model.named_parameters() if p.ndim >= 2 and not _is_table(name)]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))


def alone(total: Tensor) -> None:
    """The sum over one worker: what it has."""


def train(
    training: Training,
    corpus: Batches | Mapping[int, Batches],
    *,
    watch: Callable[[Step], None] | None = None,
    save: Callable[[Training], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    add: Add = alone,
) -> Model:
    """Run to the end of the last epoch from wherever `training` stands.

    `corpus` is the whole shop, or the shares of it (by number, below `config.shares`) that this
    worker holds; the others hold the rest, and `add` sums over them all. Batches, their order and
    dropout depend on (seed, epoch, share, step) alone, so a training resumed from a checkpoint
    repeats the one that was never interrupted. `save` is called every `checkpoint_every` steps.
    """
    model, config = training.model, training.model.config
    held = corpus if isinstance(corpus, Mapping) else {0: corpus}
    sizes = [_steps(held, config, epoch, add) for epoch in range(config.epochs)]
    steps, begun, done = sum(sizes), clock(), 0
    model.train()
    for epoch, size in enumerate(sizes):
        if done + size <= training.step:
            done += size
            continue
        for batches in _side_by_side(held, config, epoch, size):
            done += 1
            if done <= training.step:
                continue
            found = _descend(training, batches, _seed(config, epoch) * 100_003 + done, add)
            for group in training.optimiser.param_groups:
                group["lr"] = config.learning_rate * schedule(done / steps)
            training.optimiser.step()
            training.step = done
            training.tokens += found.tokens
            if save and done % config.checkpoint_every == 0:
                save(training)
            if watch:
                seconds = clock() - begun
                watch(
                    Step(
                        step=done,
                        steps=steps,
                        loss=found.loss,
                        parts=found.parts,
                        tokens=training.tokens,
                        seconds=seconds,
                    )
                )
    model.eval()
    return model


@dataclass(frozen=True, slots=True)
class _Found:
    loss: float
    parts: dict[str, float]
    tokens: int


def _descend(training: Training, batches: dict[int, Batch], seed: int, add: Add) -> _Found:
    """Leave the gradient of one step in the weights, clipped: the mean over all workers' batches.

    Each batch weighs as its tokens do among all of the step.
    """
    model = training.model
    device = str(model.items.bias.device)
    tokens = torch.tensor([float(sum(batch.tokens for batch in batches.values()))])
    add(tokens)
    told = torch.zeros(1 + len(WEIGHTS), dtype=torch.float64)              # the loss, its parts
    training.optimiser.zero_grad()
    for share, batch in batches.items():
        torch.manual_seed(seed + _OF_SHARE * share)
        found = losses(model, to_inputs(batch, device))
        weight = batch.tokens / float(tokens)
        (found.total * weight).backward()
        parts = [found.parts.get(name, 0.0) for name in WEIGHTS]
        told += weight * torch.tensor([float(found.total.detach()), *parts], dtype=torch.float64)
    if add is not alone:
        add(told)
        _add_gradients(model, add)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    loss, *parts = told.tolist()
    return _Found(loss, dict(zip(WEIGHTS, parts, strict=True)), int(tokens))


def _add_gradients(model: Model, add: Add) -> None:
    """Sum the gradients over all workers, in one message.

    What no worker's batch asked for has no gradient, and not zero: the optimiser leaves it alone.
    """
    weights = list(model.parameters())
    asked = torch.tensor([float(p.grad is not None) for p in weights], device=weights[0].device)
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in weights]
    message = torch.cat([asked, *(grad.flatten() for grad in grads)])
    add(message)
    asked, *summed = message.split([len(weights), *(p.numel() for p in weights)])
    for parameter, grad, count in zip(weights, summed, asked.tolist(), strict=True):
        parameter.grad = grad.view_as(parameter) if count else None


def schedule(progress: float) -> float:
    """Share of the peak learning rate at a share of the run: up over 5%, then down a cosine.

    >>> [round(schedule(p), 3) for p in (0.025, 0.05, 0.525, 1.0)]
    [0.5, 1.0, 0.525, 0.05]
    """
    if progress < 0.05:
        return progress / 0.05
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (progress - 0.05) / 0.95))


def _steps(held: Mapping[int, Batches], config: TrainConfig, epoch: int, add: Add) -> int:
    """Steps of an epoch: the batches of the share that has most, whoever holds it."""
    batches = torch.zeros(config.shares, dtype=torch.float64)
    for share, corpus in held.items():
        batches[share] = corpus.plan(**_drawn(config, epoch, share))
    add(batches)
    return int(batches.max())


def _side_by_side(
    held: Mapping[int, Batches], config: TrainConfig, epoch: int, steps: int
) -> Iterator[dict[int, Batch]]:
    """The batches of each step by share; a share that has run out is missing."""
    streams = {
        share: corpus.epoch(**_drawn(config, epoch, share)) for share, corpus in held.items()
    }
    for _ in range(steps):
        following = {share: next(stream, None) for share, stream in streams.items()}
        yield {share: batch for share, batch in following.items() if batch is not None}


def _drawn(config: TrainConfig, epoch: int, share: int) -> dict[str, int]:
    """How an epoch of a share is cut; a step's tokens are those of all shares together."""
    return {
        "queries": config.queries,
        "batch_tokens": max(config.batch_tokens // config.shares, 1),
        "seed": _seed(config, epoch) + _OF_SHARE * share,
    }


def _seed(config: TrainConfig, epoch: int) -> int:
    return config.seed * 1_000_003 + epoch


def _is_table(name: str) -> bool:
    return "residual" in name or "content" in name
