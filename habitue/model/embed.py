"""The trained model's readings at queries: curves, embeddings and item scores, as numpy arrays."""

# Q queries · H hazard bins · G horizons · N horizons of orders · M spend components · D width
# V items
from collections.abc import Callable, Iterator

import numpy as np
import torch

from habitue.model.backbone import SPEND_COMPONENTS, Model
from habitue.model.inputs import Inputs, to_inputs
from habitue.model.objectives import prior_log_spend
from habitue.model.readings import Readings
from habitue.sequences.batch import Batch, Corpus, log_expected_orders
from habitue.sequences.tokens import BIN_EDGES, Queries


@torch.no_grad()
def read(  # noqa: PLR0913 - what is asked of whom, and how far ahead, are all of one question
    model: Model,
    corpus: Corpus,
    customer: np.ndarray,
    time: np.ndarray,
    *,
    horizons_days: tuple[float, ...],
    order_horizons_days: tuple[float, ...] = (),
    keeps_states: bool = False,
    watch: Callable[[int, int], None] | None = None,
) -> Readings:
    """The model's readings of each customer (Q,) at each instant (Q,) µs; one horizon or more.

    Of `order_horizons_days` only the expected orders are read. `keeps_states` for whoever asks for
    what `embed` gives, too. Customers are read in blocks, so that what is held beside the readings
    does not grow with them.
    """
    all_days = tuple(sorted({*order_horizons_days, *horizons_days}))
    parts = _blank(model, len(customer), len(horizons_days), len(all_days))
    if keeps_states:
        parts["states"] = np.zeros((len(customer), model.config.width), np.float32)
    done = 0
    for block in corpus.blocks(customer):
        asked, batches = corpus.ask(customer[block], time[block])
        for inputs, states, rows in _states(model, batches):
            heads = _heads(model, inputs, states, asked, (horizons_days, all_days))
            heads |= {"states": states} if keeps_states else {}
            for name, values in heads.items():
                parts[name][block[rows]] = values[inputs.asked].numpy()
            done += len(rows)
            if watch:
                watch(done, len(customer))
        parts["spend_location"][block] += np.log(asked.value_scale)[:, None, None]
    return Readings(
        horizons_days=np.array(horizons_days), order_horizons_days=np.array(all_days), **parts
    )


@torch.no_grad()
def embed(model: Model, corpus: Corpus, customer: np.ndarray, time: np.ndarray) -> np.ndarray:
    """(Q, D) float32 query states of each customer (Q,) at each instant (Q,) µs."""
    embedding = np.zeros((len(customer), model.config.width), np.float32)
    for block in corpus.blocks(customer):
        batches = corpus.ask(customer[block], time[block])[1]
        for inputs, states, rows in _states(model, batches):
            embedding[block[rows]] = states[inputs.asked].numpy()
    return embedding


def _states(
    model: Model, batches: Iterator[Batch]
) -> Iterator[tuple[Inputs, torch.Tensor, np.ndarray]]:
    """Each batch as tensors, its query states (B, K, D), and the rows of the queries asked."""
    _at_rest(model)
    vectors = model.items.vectors()
    for batch in batches:
        inputs = to_inputs(batch)
        yield inputs, model(inputs, vectors)[1], inputs.query_row[inputs.asked].numpy()


@torch.no_grad()
def item_scores(model: Model, state: np.ndarray) -> np.ndarray:
    """(Q, V) float32 log-probabilities of the items that follow, from query states (Q, D)."""
    _at_rest(model)
    scores = model.item_scores(torch.from_numpy(state), model.items.vectors(), query=True)
    return torch.log_softmax(scores, dim=-1).numpy()


@torch.no_grad()
def item_vectors(model: Model) -> np.ndarray:
    """(V, D) float32 the vectors of the items."""
    _at_rest(model)
    return model.items.vectors()[1:].numpy()


@torch.no_grad()
def item_preference(model: Model, state: np.ndarray, offered: np.ndarray) -> np.ndarray:
    """(Q, D) float32: the mean of the vectors of `offered` items (V,), by how likely each comes.

    From query states (Q, D); nothing where nothing is offered.
    """
    _at_rest(model)
    preference = np.zeros((len(state), model.config.width), np.float32)
    if not offered.any():
        return preference
    vectors = model.items.vectors()
    for rows in np.array_split(np.arange(len(state)), max(len(state) // 512, 1)):
        scores = model.item_scores(torch.from_numpy(state[rows]), vectors, query=True)
        chance = torch.softmax(scores[:, torch.from_numpy(offered)], dim=-1)
        preference[rows] = (chance @ vectors[1:][torch.from_numpy(offered)]).numpy()
    return preference


def _at_rest(model: Model) -> None:
    """As it answers: nothing is dropped. To say so to every part costs who asks often."""
    if model.training:
        model.eval()


def _blank(model: Model, queries: int, horizons: int, order_horizons: int) -> (
    dict[str, np.ndarray]
):
    """Room for the readings of so many queries."""
    spend = (horizons, SPEND_COMPONENTS)
    shapes: dict[str, tuple[int, ...]] = {
        "log_rate": (len(BIN_EDGES),),
        "log_orders": (order_horizons,),
        "log_dispersion": (horizons,),
        "spend_log_weight": spend,
        "spend_location": spend,
        "spend_scale": spend,
    }
    return {name: np.zeros((queries, *shape), np.float32) for name, shape in shapes.items()}


def _heads(
    model: Model,
    inputs: Inputs,
    states: torch.Tensor,
    asked: Queries,
    days: tuple[tuple[float, ...], tuple[float, ...]],   # of spend, of expected orders
) -> dict[str, torch.Tensor]:
    edges = torch.as_tensor(BIN_EDGES, dtype=torch.float32)
    log_rate = model.log_rates(states, inputs.log_prior_rate)
    found: dict[str, list[torch.Tensor]] = {
        "log_orders": [], "log_dispersion": [], "spend_log_weight": [], "spend_location": [],
        "spend_scale": [],
    }  # fmt: skip
    rows = inputs.query_row.clamp_min(0).numpy()
    horizons_days, order_horizons_days = days
    counted = {}
    for one in order_horizons_days:
        horizon = torch.full_like(inputs.mean_value, one)
        expected = log_expected_orders(asked.expected[rows], np.full(rows.shape, one))
        counted[one] = model.order_counts(states, torch.from_numpy(expected), horizon)
        found["log_orders"].append(counted[one][0])
    for one in horizons_days:
        horizon = torch.full_like(inputs.mean_value, one)
        mean, dispersion = counted[one]
        prior = prior_log_spend(inputs.mean_value, mean, log_rate, horizon, edges)
        spend = model.spend_given_order(states, prior, horizon)
        for name, value in zip(list(found)[1:], (dispersion, *spend), strict=True):
            found[name].append(value)
    return {"log_rate": log_rate} | {
        name: torch.stack(values, dim=2) for name, values in found.items()
    }
