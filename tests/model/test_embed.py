from dataclasses import fields

import numpy as np
import pytest
import torch

from habitue.model.backbone import Model
from habitue.model.checkpoint import over
from habitue.model.embed import embed, item_scores, read
from habitue.model.readings import Readings
from habitue.sequences.build import DAY, Sequences, sequences_from_events
from habitue.simulation import catalogue
from tests.model.small import corpus_of, stirred, trained
from tests.sequences.small import CONFIG, another_future, past_of
from tests.shops import end_of, events_of

END = end_of(CONFIG)
EVENTS = events_of(CONFIG, seed=11)


def shop_of(events: object) -> Sequences:
    """With a catalogue, so that every item is known whatever was ordered."""
    return sequences_from_events(
        events, catalogue(CONFIG, seed=11), shop=CONFIG.shop, cutoff=END
    )


@pytest.fixture(scope="module")
def shop() -> Sequences:
    return shop_of(EVENTS)


@pytest.fixture(scope="module")
def model(shop: Sequences) -> Model:
    return stirred(trained(shop))


def readings_at(model: Model, shop: Sequences, names: list[str], at: int) -> Readings:
    rows = np.searchsorted(shop.customers.astype(str), names)
    times = np.full(len(rows), at)
    return read(model, corpus_of(shop, model), rows, times, horizons_days=(30.0, 90.0))


@pytest.mark.parametrize("seed", range(4))
def test_a_reading_does_not_change_with_what_follows_it(
    model: Model, shop: Sequences, seed: int
) -> None:
    at = END - int(np.random.default_rng(seed).integers(10, 200 * DAY))
    names = shop.customers[shop.time[shop.offsets[:-1]] <= at].tolist()
    before = readings_at(model, shop, names, at)
    for other in (past_of(EVENTS, at), another_future(EVENTS, at)):
        changed = shop_of(other)
        assert changed.items.tolist() == shop.items.tolist()
        after = readings_at(over(model, shop.items, changed), changed, names, at)
        for field in fields(Readings):
            mine, theirs = getattr(before, field.name), getattr(after, field.name)
            assert np.array_equal(mine, theirs), field.name


def test_the_company_of_others_does_not_change_a_reading(model: Model, shop: Sequences) -> None:
    rng = np.random.default_rng(0)
    customer = rng.integers(0, len(shop.customers), 40)
    time = rng.integers(shop.time.min(), END, 40)
    corpus = corpus_of(shop, model)
    together = read(model, corpus, customer, time, horizons_days=(30.0,))
    for q in range(40):
        alone = read(model, corpus, customer[[q]], time[[q]], horizons_days=(30.0,))
        for name in ("log_rate", "log_orders", "spend_location"):
            assert getattr(alone, name)[0] == pytest.approx(getattr(together, name)[q], abs=1e-5)


def test_questions_of_later_instants_do_not_change_a_reading(
    model: Model, shop: Sequences
) -> None:
    busiest = int(np.diff(shop.offsets).argmax())
    own = shop.time[slice(*shop.offsets[busiest : busiest + 2])]
    time = own[:24] - 3_600_000_000        # an hour before each event
    customer = np.full(len(time), busiest)
    corpus = corpus_of(shop, model)
    together = embed(model, corpus, customer, time)
    for q in range(len(time)):
        alone = embed(model, corpus, customer[[q]], time[[q]])
        assert alone[0] == pytest.approx(together[q], abs=1e-5)


def test_customers_have_embeddings_of_their_own(model: Model, shop: Sequences) -> None:
    everyone = np.arange(len(shop.customers))
    state = embed(model, corpus_of(shop, model), everyone, np.full(len(everyone), END))
    assert np.linalg.norm(state - state[0], axis=1)[1:].min() > 0


def test_item_scores_are_log_probabilities_over_the_catalogue(
    model: Model, shop: Sequences
) -> None:
    state = embed(model, corpus_of(shop, model), np.arange(5), np.full(5, END))
    scores = item_scores(model, state)
    assert scores.shape == (5, len(shop.items))
    assert np.exp(scores).sum(axis=1) == pytest.approx(np.ones(5), rel=1e-5)
    assert np.ptp(scores, axis=0).max() > 1e-3


def test_reading_leaves_the_weights_and_the_gradients_alone(model: Model, shop: Sequences) -> None:
    before = [p.clone() for p in model.parameters()]
    read(model.train(), corpus_of(shop, model), np.arange(3), np.full(3, END), horizons_days=(7.0,))
    assert not model.training
    for was, p in zip(before, model.parameters(), strict=True):
        assert torch.equal(was, p)
        assert p.requires_grad


def test_whoever_watches_a_reading_is_told_of_every_query(model: Model, shop: Sequences) -> None:
    told: list[tuple[int, int]] = []
    everyone = np.arange(len(shop.customers))
    read(
        model,
        corpus_of(shop, model),
        everyone,
        np.full(len(everyone), END),
        horizons_days=(30.0,),
        watch=lambda done, total: told.append((done, total)),
    )
    assert told[-1] == (len(everyone), len(everyone))


def test_the_states_that_a_reading_keeps_are_those_that_are_embedded(
    model: Model, shop: Sequences
) -> None:
    corpus, rows = corpus_of(shop, model), np.arange(len(shop.customers))
    times = np.full(len(rows), END)
    readings = read(model, corpus, rows, times, horizons_days=(30.0,), keeps_states=True)
    assert np.array_equal(readings.states, embed(model, corpus, rows, times))
    assert readings_at(model, shop, shop.customers[:2].tolist(), END).states is None
