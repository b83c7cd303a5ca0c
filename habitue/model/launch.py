"""From one machine to many: the same loop here, in processes of this machine, or on a Ray cluster.

A training is cut into shares of its customers. Workers hold shares; each runs `train` over its own,
and at every step they add up their gradients, so that all hold the same weights. How many workers
there are changes where the sums are made, not what is summed. One that dies takes the rest with it:
all begin again from the last checkpoint.

Work that needs no sums (building features, scoring) goes `over` parts, one call for each.
"""

import logging
import multiprocessing
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed

from habitue.config import Launch, TrainConfig, prepare_ray, ray_address
from habitue.errors import BadSetting, NotInstalled, WorkersLost
from habitue.events import bucket_of
from habitue.model.backbone import Model
from habitue.model.checkpoint import fresh, resume, save_training
from habitue.model.inputs import Vocabulary
from habitue.model.train import Step, Training, begin, train
from habitue.sequences.batch import Corpus
from habitue.sequences.build import Sequences

log = logging.getLogger(__name__)

RESTARTS = 3                               # of all workers, after one of them was lost
PATIENCE = timedelta(minutes=10)           # that workers wait for each other at a step
STANDING = "standing.pt"
WORKER = "habitue-worker-"                 # the name of a process that trains, and its number
T = TypeVar("T")
R = TypeVar("R")
Watch = Callable[[Step], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A training, ready to be launched."""

    config: TrainConfig
    vocabulary: Vocabulary
    corpora: dict[int, Corpus]             # by share
    checkpoint: Path | None = None         # where it stands, for whoever goes on from there
    start: Model | None = None             # weights to begin from; none: fresh ones

    def of(self, worker: int, workers: int) -> "Job":
        """What one of several workers holds of it."""
        held = {s: corpus for s, corpus in self.corpora.items() if s % workers == worker}
        return replace(self, corpora=held)


def shares_of(corpus: Corpus, count: int) -> dict[int, Corpus]:
    """The shop's customers in so many shares, by the hash that makes the lake's buckets.

    Where `count` divides the number of buckets, a share is whole buckets.
    """
    if count == 1:
        return {0: corpus}
    share = share_of(corpus.sequences, count)
    return {one: corpus.part(np.flatnonzero(share == one)) for one in range(count)}


def share_of(sequences: Sequences, count: int) -> np.ndarray:
    """(C,) int: the share of each customer."""
    shares = (bucket_of(sequences.shop, c, b"", count) for c in sequences.customers)
    return np.fromiter(shares, np.int64, len(sequences.customers))


def run(job: Job, launch: Launch, watch: Watch | None = None) -> Training:
    """The training at its end, on the CPU; from the beginning or from its checkpoint.

    Raises:
        BadSetting: there are more workers than shares.
        WorkersLost: workers died more than RESTARTS times.
        NotInstalled: it is to run on Ray, which is not there.
    """
    if launch.workers > len(job.corpora):
        raise BadSetting(
            f"{launch.workers} workers for {len(job.corpora)} shares of the customers\n"
            "hint: replace(config, shares=…) with as many shares as workers or more"
        )
    match launch.place:
        case "here":
            return _moved(_run_here(job, watch))
        case "processes":
            return _run_in_processes(job, launch.workers, watch)
        case "ray":
            return _run_on_ray(job, launch, watch)
        case _:
            raise AssertionError(launch.place)


def over(function: Callable[[T], R], parts: Iterable[T], launch: Launch) -> Iterator[R]:
    """What `function` makes of each part, in their order; a few parts ahead of who reads.

    Away from here function, parts and results travel, so they must pickle.

    Raises:
        WorkersLost: a process died over its part.
    """
    if launch.place == "here":
        yield from map(function, parts)
    elif launch.place == "processes":
        pool = _pool(launch.workers)
        try:
            yield from _ahead(_submitted(pool, function), Future.result, parts, launch.workers)
        except BrokenProcessPool as error:
            _pool.cache_clear()
            raise WorkersLost(
                "a process died over its part of the work\n"
                "hint: was there memory enough? fewer --workers need less at a time"
            ) from error
    else:
        ray = _connected(launch)
        held = ray.put(function)
        task = ray.remote(_called)
        yield from _ahead(lambda one: task.remote(held, one), ray.get, parts, launch.workers)


@lru_cache(maxsize=1)
def _pool(workers: int) -> Executor:
    """Processes for parts, kept until we end: to start them takes as long as a part or more."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def _submitted(pool: Executor, function: Callable[[T], R]) -> Callable[[T], Future[R]]:
    return lambda one: pool.submit(function, one)


def _called(function: Callable[[T], R], one: T) -> R:
    return function(one)


def _ahead(
    begin_one: Callable[[T], Any], wait_for: Callable[[Any], R], parts: Iterable[T], workers: int
) -> Iterator[R]:
    """Begin twice as many as there are workers, then one more for each that is done."""
    under_way: deque[Any] = deque()
    for one in parts:
        under_way.append(begin_one(one))
        if len(under_way) >= 2 * workers:
            yield wait_for(under_way.popleft())
    while under_way:
        yield wait_for(under_way.popleft())


# one process


def _run_here(job: Job, watch: Watch | None) -> Training:
    training = _standing(job, _device(0), job.checkpoint)
    save = None if job.checkpoint is None else _saver(job.checkpoint)
    train(training, job.corpora, watch=watch, save=save)
    return training


def _standing(job: Job, device: str, path: Path | None) -> Training:
    """The training as it stands in a file, or at its beginning."""
    if path is not None and path.exists():
        return resume(job.config, job.vocabulary, path, device)
    model = fresh(job.config, job.vocabulary)
    if job.start is not None:
        model.load_state_dict(job.start.state_dict())
    return begin(model.to(device))


def _saver(path: Path) -> Callable[[Training], None]:
    return lambda training: save_training(training, path)


def _device(worker: int) -> str:
    """This machine's accelerator of a worker, or the CPU."""
    return f"cuda:{worker}" if worker < torch.cuda.device_count() else "cpu"


def _moved(training: Training) -> Training:
    training.model.cpu()
    return training


# several processes of this machine


def _run_in_processes(job: Job, workers: int, watch: Watch | None) -> Training:
    with tempfile.TemporaryDirectory() as folder:
        job = replace(job, checkpoint=job.checkpoint or Path(folder) / STANDING)
        assert job.checkpoint is not None, "just chosen"
        for attempt in range(RESTARTS + 1):
            lost = _attempt(job, workers, Path(folder) / f"meet-{attempt}", watch)
            if lost is None:
                return resume(job.config, job.vocabulary, job.checkpoint)
            log.warning("lost worker=%d exit=%s attempt=%d", lost.worker, lost.code, attempt)
    assert lost is not None, "there was at least one attempt"
    raise _lost(f"worker {lost.worker} ended with exit code {lost.code}")


def _lost(what: str) -> WorkersLost:
    return WorkersLost(
        f"workers were lost {RESTARTS + 1} times; the last time {what}\n"
        "hint: the lines above say why; train again, and it goes on from the last checkpoint"
    )


@dataclass(frozen=True, slots=True)
class _Loss:
    worker: int
    code: int                              # of its exit; below zero: the signal that ended it


def _attempt(job: Job, workers: int, meeting: Path, watch: Watch | None) -> _Loss | None:
    """Run all workers to the end; or tell which was lost first, when all have ended."""
    context = multiprocessing.get_context("spawn")
    heard, told = context.Pipe(duplex=False)
    processes = []
    for worker in range(workers):
        place = (worker, workers, told if worker == 0 else None)
        told_of = (job.of(worker, workers), meeting, *place)
        name = f"{WORKER}{worker}"
        processes.append(
            context.Process(target=_work_in_process, args=told_of, name=name, daemon=True)
        )
    try:
        for process in processes:
            process.start()
        told.close()                       # so that the pipe ends where worker 0 does
        return _watched(processes, heard, watch)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _watched(
    processes: list[SpawnProcess], heard: Connection, watch: Watch | None
) -> _Loss | None:
    """Pass steps on until every process has ended, or one of them badly."""
    running: dict[Any, int] = {p.sentinel: worker for worker, p in enumerate(processes)}
    listening = True
    while running or listening:
        for ready in wait([*running, heard] if listening else [*running]):
            if ready is heard:
                listening = _passed_on(heard, watch)
                continue
            worker = running.pop(ready)
            processes[worker].join()
            if code := processes[worker].exitcode:
                return _Loss(worker, code)
    return None


def _passed_on(heard: Connection, watch: Watch | None) -> bool:
    """Hand the next step on; False where there will be no more."""
    try:
        step = heard.recv()
    except EOFError:
        return False
    if watch:
        watch(step)
    return True


def _work_in_process(
    job: Job, meeting: Path, worker: int, workers: int, told: Connection | None
) -> None:
    """One of several workers, from the meeting to the end; the first one saves and tells."""
    device = _device(worker)
    distributed.init_process_group(
        "gloo" if device == "cpu" else "nccl",
        init_method=f"file://{meeting}",
        rank=worker,
        world_size=workers,
        timeout=PATIENCE,
    )
    assert job.checkpoint is not None, "workers end in a file"
    training = _standing(job, device, job.checkpoint)
    save = _saver(job.checkpoint) if worker == 0 else None
    watch = None if told is None else told.send
    train(training, job.corpora, watch=watch, save=save, add=_adder(device))
    if worker == 0:
        save_training(training, job.checkpoint)
    distributed.barrier()
    distributed.destroy_process_group()


def _adder(device: str) -> Callable[[Tensor], None]:
    """Sums over all workers, wherever the tensor is: accelerators add up their own memory only."""

    def add(total: Tensor) -> None:
        moved = total.to(device)
        distributed.all_reduce(moved)
        if moved is not total:
            total.copy_(moved)

    return add


# a Ray cluster


def _connected(launch: Launch) -> Any:
    """Ray, connected to the cluster that RAY_ADDRESS names, or to one made on this machine."""
    NotInstalled.unless("ray", package="ray", extra="ray")
    prepare_ray()
    import ray

    address = ray_address()
    if not ray.is_initialized():
        ray.init(
            address or "local",
            # one processor beside the workers' is for whoever watches over them
            num_cpus=None if address else launch.workers + 1,
            include_dashboard=None if address else False,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    return ray


def _run_on_ray(job: Job, launch: Launch, watch: Watch | None) -> Training:
    ray = _connected(launch)
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.util.queue import Queue

    workers = launch.workers
    with tempfile.TemporaryDirectory() as folder, _listening(Queue, watch) as queue:
        place = job.checkpoint or Path(folder) / STANDING
        trainer = TorchTrainer(
            _work_on_ray,
            # each worker fetches its own part: no folder needs to be seen by all machines
            train_loop_config={
                "jobs": [ray.put(job.of(worker, workers)) for worker in range(workers)],
                "queue": queue,
            },
            scaling_config=ScalingConfig(
                num_workers=workers, use_gpu=ray.cluster_resources().get("GPU", 0) >= workers
            ),
            run_config=RunConfig(
                name=f"{place.parent.name}-{place.stem}",
                storage_path=launch.storage or str(place.parent.absolute() / "ray"),
                failure_config=FailureConfig(max_failures=RESTARTS),
                checkpoint_config=CheckpointConfig(num_to_keep=2),
            ),
        )
        try:
            ended = trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise _lost(str(error).splitlines()[0]) from error
        place.write_bytes(ended.return_value)
        return resume(job.config, job.vocabulary, place)


@contextmanager
def _listening(queue_type: Any, watch: Watch | None) -> Iterator[Any]:
    """A queue for steps, read by a thread of ours: Ray Train tells a driver nothing on the way."""
    queue = queue_type(actor_options={"num_cpus": 0})
    done = threading.Event()

    def listen() -> None:
        while not done.is_set() or not queue.empty():
            for step in queue.get_nowait_batch(queue.qsize()):
                if watch:
                    watch(step)
            done.wait(0.5)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield queue
    finally:
        done.set()
        thread.join(timeout=10)
        queue.shutdown(force=True)


def _work_on_ray(told: dict[str, Any]) -> bytes:
    """One of several workers of a cluster; what it returns is the training at its end, in a file.

    Ray Train keeps metrics only beside a checkpoint, and its report waits for every worker: so all
    report where one saves, and nothing is read from the metrics.
    """
    import ray
    from ray.train import Checkpoint, get_checkpoint, get_context, report
    from ray.train.torch import get_device

    worker, device = get_context().get_world_rank(), str(get_device())
    job: Job = ray.get(told["jobs"][worker])

    def save(training: Training) -> None:
        with tempfile.TemporaryDirectory() as folder:
            save_training(training, Path(folder) / STANDING)
            here = Checkpoint.from_directory(folder) if worker == 0 else None
            report({"step": training.step}, checkpoint=here)

    latest = get_checkpoint()
    with latest.as_directory() if latest else tempfile.TemporaryDirectory() as folder:
        training = _standing(job, device, Path(folder) / STANDING)
    watch = told["queue"].put if worker == 0 else None
    train(training, job.corpora, watch=watch, save=save, add=_adder(device))
    with tempfile.TemporaryDirectory() as folder:
        save_training(training, Path(folder) / STANDING)
        return (Path(folder) / STANDING).read_bytes()
