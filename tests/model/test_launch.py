import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from habitue import errors
from habitue.config import Launch
from habitue.errors import BadSetting, NotInstalled, WorkersLost
from habitue.events import bucket_of
from habitue.lake.schema import DEFAULT_BUCKETS
from habitue.model import launch
from habitue.model.backbone import Model
from habitue.model.launch import Job, over, run, shares_of
from habitue.model.train import Step, Training, _add_gradients
from habitue.model.train import _drawn as drawn
from habitue.sequences.build import Sequences
from tests.model.small import TINY, corpus_of, trained, vocabulary_of
from tests.sequences.small import CONFIG, tangled
from tests.shops import sequences_of

HALVES = replace(TINY, epochs=3, batch_tokens=128, checkpoint_every=5, shares=2)
# sums in another order differ by rounding; two numbers have one sum, so two workers do not differ
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def shop() -> Sequences:
    return sequences_of(replace(CONFIG, customers=40), seed=6)


def job_of(shop: Sequences, checkpoint: Path | None = None) -> Job:
    return Job(
        config=HALVES,
        vocabulary=vocabulary_of(shop, HALVES),
        corpora=shares_of(corpus_of(shop), HALVES.shares),
        checkpoint=checkpoint,
    )


def apart(one: Model, other: Model) -> float:
    """The largest difference between two models' weights."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((mine - theirs).abs().max()) for mine, theirs in pairs)


def told(job: Job, where: Launch, at: Callable[[Step], None] = lambda step: None) -> (
    tuple[Training, list[Step]]
):
    """A training at its end, and every step that was told of."""
    steps: list[Step] = []

    def watch(step: Step) -> None:
        steps.append(step)
        at(step)

    return run(job, where, watch), steps


@pytest.fixture(scope="module")
def alone(shop: Sequences) -> tuple[Training, list[Step]]:
    """Both shares trained by one process."""
    return told(job_of(shop), Launch())


def test_every_customer_is_in_one_share_which_is_whole_buckets_of_the_lake(shop: Sequences) -> None:
    shares = shares_of(corpus_of(shop), 4)
    names = [corpus.sequences.customers.tolist() for corpus in shares.values()]
    assert sorted(name for share in names for name in share) == shop.customers.tolist()
    buckets = [
        {bucket_of(shop.shop, name, b"", DEFAULT_BUCKETS) % 4 for name in share} for share in names
    ]
    assert buckets == [{0}, {1}, {2}, {3}]


def test_one_share_is_the_shop_as_it_was(shop: Sequences) -> None:
    corpus = corpus_of(shop)
    assert shares_of(corpus, 1) == {0: corpus}
    config = replace(HALVES, shares=1)
    job = Job(config=config, vocabulary=vocabulary_of(shop, config), corpora={0: corpus})
    assert apart(run(job, Launch()).model, trained(shop, config)) == 0.0


def test_every_batch_of_every_share_is_taken_once_an_epoch(
    shop: Sequences, alone: tuple[Training, list[Step]]
) -> None:
    """As many steps as the share with most batches has; the tokens of all of them."""
    epochs = [
        [batch.tokens for batch in corpus.epoch(**drawn(HALVES, epoch, share))]
        for epoch in range(HALVES.epochs)
        for share, corpus in shares_of(corpus_of(shop), 2).items()
    ]
    _, steps = alone
    pairs = zip(epochs[::2], epochs[1::2], strict=True)
    assert steps[-1].step == steps[-1].steps == sum(max(len(a), len(b)) for a, b in pairs)
    assert steps[-1].tokens == sum(map(sum, epochs))


def test_a_share_without_customers_holds_nobody_up() -> None:
    single = tangled(3, customers=1)
    shares = shares_of(corpus_of(single), 2)
    assert sorted(len(corpus.sequences.customers) for corpus in shares.values()) == [0, 1]
    job = Job(config=HALVES, vocabulary=vocabulary_of(single, HALVES), corpora=shares)
    ended, steps = told(job, Launch())
    assert ended.step == steps[-1].steps > 0
    assert all(torch.isfinite(p).all() for p in ended.model.parameters())


def test_two_processes_take_the_steps_of_one(
    shop: Sequences, alone: tuple[Training, list[Step]]
) -> None:
    ended, steps = told(job_of(shop), Launch(place="processes", workers=2))
    compare((ended, steps), alone)


def compare(
    shared: tuple[Training, list[Step]], alone: tuple[Training, list[Step]]
) -> None:
    """The same steps, losses and weights, up to the rounding of sums."""
    (one, mine), (other, theirs) = shared, alone
    assert [step.step for step in mine] == [step.step for step in theirs]
    assert [step.tokens for step in mine] == [step.tokens for step in theirs]
    np.testing.assert_allclose(
        [step.loss for step in mine], [step.loss for step in theirs], rtol=TOLERANCE
    )
    assert mine[-1].parts == pytest.approx(theirs[-1].parts, rel=1e-4)
    assert apart(one.model, other.model) < TOLERANCE
    assert one.step == other.step == mine[-1].steps


def training() -> list[multiprocessing.process.BaseProcess]:
    """Processes of ours that train, by number."""
    children = multiprocessing.active_children()
    ours = [one for one in children if one.name.startswith(launch.WORKER)]
    return sorted(ours, key=lambda process: process.name)


@pytest.mark.slow
def test_a_process_killed_in_mid_run_resumes_and_ends_equal(
    shop: Sequences, alone: tuple[Training, list[Step]], tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill(step: Step) -> None:
        if step.step == 8 and not killed:
            victim = training()[1]
            assert victim.pid is not None
            killed.append(victim.pid)
            os.kill(victim.pid, signal.SIGKILL)

    where = Launch(place="processes", workers=2)
    ended, steps = told(job_of(shop, tmp_path / "training.pt"), where, kill)
    assert killed
    assert apart(ended.model, alone[0].model) < TOLERANCE
    taken = [step.step for step in steps]
    again = taken.index(6, taken.index(8))             # the checkpoint was made after step 5
    assert taken[again:] == list(range(6, steps[0].steps + 1))


@pytest.mark.slow
def test_workers_that_die_again_and_again_are_given_up(
    shop: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "RESTARTS", 0)

    def kill(step: Step) -> None:
        for child in training():
            child.kill()

    with pytest.raises(WorkersLost, match="exit code -9"):
        told(job_of(shop), Launch(place="processes", workers=2), kill)
    assert not training()


def test_more_workers_than_shares_are_refused(shop: Sequences) -> None:
    with pytest.raises(BadSetting, match="3 workers for 2 shares"):
        run(job_of(shop), Launch(place="processes", workers=3))


def test_without_ray_it_says_how_to_get_it(
    shop: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    with pytest.raises(NotInstalled, match=r"pip install 'habitue\[ray\]'"):
        run(job_of(shop), Launch(place="ray", workers=2))


def squared(number: int) -> int:
    return number * number


def test_parts_come_back_in_their_order_wherever_they_were_worked_on() -> None:
    numbers = list(range(7))
    expected = [number * number for number in numbers]
    assert list(over(squared, numbers, Launch())) == expected
    assert list(over(squared, numbers, Launch(place="processes", workers=2))) == expected


def killed_by(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.slow
def test_a_process_that_dies_over_its_part_is_told_of_and_others_take_its_place() -> None:
    where = Launch(place="processes", workers=2)
    with pytest.raises(WorkersLost, match="died over its part"):
        list(over(killed_by, [1, 2, 3], where))
    assert list(over(squared, [2], where)) == [4]


def test_a_few_parts_are_begun_before_the_first_is_read_and_not_all() -> None:
    begun: list[int] = []
    results = launch._ahead(begun.append, lambda _: None, range(100), workers=2)
    next(results)
    assert begun == [0, 1, 2, 3]


def test_sixteen_bits_learn_much_the_same_and_keep_float32_weights(shop: Sequences) -> None:
    config = replace(TINY, epochs=2)
    whole, half = trained(shop, config), trained(shop, replace(config, bfloat16=True))
    assert all(p.dtype == torch.float32 for p in half.parameters())
    assert 0 < apart(whole, half) < 0.1


@pytest.mark.gpu
def test_an_accelerator_takes_nearly_the_steps_of_the_processor(
    shop: Sequences, alone: tuple[Training, list[Step]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own dropout differs, so nothing is dropped; only sums are rounded elsewhere."""
    still = replace(job_of(shop), config=replace(HALVES, dropout=0.0, item_dropout=0.0))
    _, theirs = told(still, Launch())
    monkeypatch.setattr(launch, "_device", lambda worker: "cpu")
    _, mine = told(still, Launch())
    np.testing.assert_allclose([s.loss for s in mine], [s.loss for s in theirs], rtol=1e-2)


def test_what_no_batch_asked_for_is_left_without_a_gradient(shop: Sequences) -> None:
    """A zero instead would let the optimiser move it by its momentum."""
    model = trained(shop)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    model.items.bias.grad = None
    _add_gradients(model, lambda total: total.mul_(2.0))
    assert model.items.bias.grad is None
    others = [p.grad for p in model.parameters() if p is not model.items.bias]
    assert all(grad is not None and (grad == 2.0).all() for grad in others)
