"""On a Ray cluster of two workers, made on this machine; it takes half a minute to start."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.scale import training_workers
from habitue.config import Launch
from habitue.model import launch
from habitue.model.launch import over, run
from habitue.model.train import Step
from habitue.sequences.build import Sequences
from tests.model.test_launch import HALVES, apart, compare, job_of, squared, told
from tests.sequences.small import CONFIG
from tests.shops import sequences_of

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
ON_RAY = Launch(place="ray", workers=2)


@pytest.fixture(scope="module")
def shop() -> Sequences:
    return sequences_of(replace(CONFIG, customers=40), seed=6)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    launch._connected(ON_RAY)
    yield
    ray.shutdown()


def test_two_workers_of_ray_take_the_steps_of_one_process(shop: Sequences) -> None:
    compare(told(job_of(shop), ON_RAY), told(job_of(shop), Launch()))


def test_a_worker_of_ray_killed_in_mid_run_resumes_and_ends_equal(
    shop: Sequences, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill(step: Step) -> None:
        if step.step >= 12 and not killed:
            killed.extend(training_workers()[:1])
            os.kill(killed[0], signal.SIGKILL)

    job = job_of(shop, tmp_path / "training.pt")
    job = replace(job, config=replace(HALVES, epochs=20))
    ended, steps = told(job, ON_RAY, kill)
    assert killed
    taken = [step.step for step in steps]
    back = [after for before, after in pairwise(taken) if after <= before]
    assert len(back) == 1, "they went back once"
    assert back[0] % HALVES.checkpoint_every == 1, "to where the last checkpoint was"
    assert back[0] > 1
    assert taken[-1] == steps[-1].steps == ended.step
    alone = run(replace(job, checkpoint=None), Launch())
    assert apart(ended.model, alone.model) < 1e-5


def test_parts_that_ray_worked_on_come_back_in_their_order() -> None:
    assert list(over(squared, range(7), ON_RAY)) == [number * number for number in range(7)]
