from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from habitue.model.backbone import Model
from habitue.model.checkpoint import resume, save_training
from habitue.model.embed import embed, read
from habitue.model.train import Step, Training, begin, train
from habitue.sequences.build import DAY, Sequences, microseconds
from tests.model.small import TINY, corpus_of, trained, training_of, vocabulary_of
from tests.sequences.small import CONFIG, another_future, past_of, sequences_at
from tests.shops import end_of, events_of, orders_of, sequences_of

MONDAY = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def shop() -> Sequences:
    return sequences_of(replace(CONFIG, customers=25), seed=6)


def equal(one: Model, other: Model) -> bool:
    """Equal to the last bit."""
    mine, theirs = one.state_dict(), other.state_dict()
    assert list(mine) == list(theirs)
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(shop: Sequences) -> None:
    one = trained(shop)
    torch.manual_seed(12345)               # what was drawn before does not matter
    assert equal(one, trained(shop))
    assert not equal(one, trained(shop, replace(TINY, seed=1)))


def test_a_resumed_training_ends_where_the_uninterrupted_one_does(
    shop: Sequences, tmp_path: Path
) -> None:
    path = tmp_path / "resume.pt"
    config = replace(TINY, epochs=3, batch_tokens=64, checkpoint_every=5)

    class Killed(Exception):
        """The machine went away."""

    def killed_after(step: Step) -> None:
        if step.step == 7:
            raise Killed

    whole = trained(shop, config)
    with pytest.raises(Killed):
        train(
            training_of(shop, config),
            corpus_of(shop),
            save=lambda training: save_training(training, path),
            watch=killed_after,
        )
    resumed = resume(config, vocabulary_of(shop, config), path)
    assert resumed.step == 5
    steps: list[Step] = []
    assert equal(train(resumed, corpus_of(shop), watch=steps.append), whole)
    assert steps[0].step == 6
    assert steps[-1].step == steps[-1].steps > 7


def test_a_finished_training_is_not_trained_again(shop: Sequences) -> None:
    training = training_of(shop)
    train(training, corpus_of(shop))
    before = {name: tensor.clone() for name, tensor in training.model.state_dict().items()}
    again = train(training, corpus_of(shop))
    assert all(torch.equal(before[name], t) for name, t in again.state_dict().items())


def test_the_loss_falls_on_a_simulated_shop() -> None:
    shop = sequences_of(replace(CONFIG, customers=60), seed=8)
    steps: list[Step] = []
    training = training_of(shop, replace(TINY, epochs=4))
    train(training, corpus_of(shop), watch=steps.append)
    losses = [step.loss for step in steps]
    quarter = len(losses) // 4
    # it falls by 0.8 nats with this seed
    assert np.mean(losses[-quarter:]) < np.mean(losses[:quarter]) - 0.3


def test_whoever_watches_is_told_every_step_by_the_clock_that_was_given(shop: Sequences) -> None:
    ticks = iter(range(1_000_000))
    steps: list[Step] = []
    training = training_of(shop)
    train(training, corpus_of(shop), watch=steps.append, clock=lambda: float(next(ticks)))
    assert [step.step for step in steps] == list(range(1, steps[0].steps + 1))
    assert [step.seconds for step in steps] == list(range(1, len(steps) + 1))
    assert steps[-1].tokens == training.tokens > 0
    assert np.all(np.diff([step.tokens for step in steps]) > 0)


def test_tables_that_few_rows_touch_do_not_fade(shop: Sequences) -> None:
    model = training_of(shop).model
    decay = {
        id(p): group["weight_decay"] for group in begin(model).optimiser.param_groups
        for p in group["params"]
    }  # fmt: skip
    assert decay[id(model.items.residual.weight)] == 0.0
    assert decay[id(model.items.content.weight)] == 0.0
    assert decay[id(model.blocks[0].qkv.weight)] > 0.0  # type: ignore[union-attr, index]
    assert len(decay) == len(list(model.parameters()))


def test_nothing_after_the_cutoff_changes_the_weights() -> None:
    events = events_of(CONFIG, seed=9)
    cutoff = end_of(CONFIG) - 100 * DAY
    whole, deleted, changed = (
        trained(sequences_at(table, cutoff))
        for table in (events, past_of(events, cutoff), another_future(events, cutoff))
    )
    assert equal(whole, deleted)
    assert equal(whole, changed)


def viewed(rows: list[tuple[str | None, float, list[str]]]) -> pa.Table:
    """Views, where `orders_of` makes orders."""
    events = orders_of(rows, start=MONDAY)
    count = len(events)
    names = pa.repeat("item_viewed", count)
    place = events.schema.get_field_index
    events = events.set_column(place("name"), events.schema.field("name"), names)
    for name in ("value_minor", "order", "lines"):
        field = events.schema.field(name)
        events = events.set_column(place(name), field, pa.nulls(count, field.type))
    return events


TINY_SHOPS = {
    "one customer": orders_of([("ada", 1.0, ["mug"]), ("ada", 30.0, ["jug"])], start=MONDAY),
    "one order": orders_of([("ada", 1.0, ["mug"])], start=MONDAY),
    "no lines": orders_of([("ada", 1.0, []), ("bob", 2.0, []), ("ada", 9.0, [])], start=MONDAY),
    "views only": viewed([("ada", 1.0, []), ("bob", 2.0, []), ("ada", 9.0, [])]),
    "one instant": orders_of([(name, 40.0, ["mug"]) for name in "aabc"], start=MONDAY),
}


@pytest.mark.parametrize("name", TINY_SHOPS)
def test_a_tiny_shop_trains_and_is_read_without_a_single_nan(name: str) -> None:
    cutoff = microseconds(MONDAY) + 40 * DAY
    shop = sequences_at(TINY_SHOPS[name], cutoff)
    steps: list[Step] = []
    training: Training = training_of(shop)
    corpus = corpus_of(shop)
    model = train(training, corpus, watch=steps.append)
    assert steps
    assert np.all(np.isfinite([step.loss for step in steps]))
    assert all(torch.isfinite(p).all() for p in model.parameters())
    everyone = np.arange(len(shop.customers))
    at = np.full(len(everyone), cutoff)
    readings = read(model, corpus, everyone, at, horizons_days=(30.0,))
    for found in ("log_rate", "log_orders", "spend_location", "spend_scale"):
        assert np.all(np.isfinite(getattr(readings, found))), found
    assert np.all(np.isfinite(embed(model, corpus, everyone, at)))
