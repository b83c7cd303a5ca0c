"""What one machine's work costs, and what it becomes among several workers.

    python benchmarks/scale.py

A simulated shop is built, trained on and scored in one process, by processor seconds. Then the same
training and the same scoring are done here, in two processes and on a Ray cluster of two workers,
one after the other in one run: their seconds, and how far losses, weights and answers lie apart.
At last a worker is killed in mid-run. The load of the machine stands beside all of it.
"""

import argparse
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from benchmarks.memory import simulated
from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, in_a_process, peak_mb
from habitue.config import Launch, limit_threads, nano

if TYPE_CHECKING:
    import numpy as np

    from habitue.model.launch import Job
    from habitue.model.train import Step, Training
    from habitue.predictions.learn import Trained
    from habitue.sequences.build import Sequences

OURS = (
    "habitue/config.py", "habitue/model", "habitue/predictions", "habitue/publishing.py",
    "habitue/sequences", "habitue/simulation.py", "benchmarks/memory.py", "benchmarks/scale.py",
)  # fmt: skip
CELLS = ("costs", "training", "wider", "killed", "scoring")
HORIZON_DAYS = 90.0
WARM_UP = 5                                # steps that are not timed
TIMEOUT_SECONDS = 1_500.0
PLACES = (Launch(), Launch(place="processes", workers=2), Launch(place="ray", workers=2))
PROTOCOL = (
    "simulated, 2 years, 1000 items, orders and refunds, {customers} customers; one thread a "
    "process; nano, one epoch, two shares where it is trained among workers; two cores shared with "
    "other work: `load` is how many processes wanted them when the cell began"
)
Figures = dict[str, dict[str, float]]      # method -> metric -> value
T = TypeVar("T")


def main() -> None:
    """Run every cell that is not in the results yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, default=50_000, help="of the shop for the costs")
    parser.add_argument("--trained", type=int, default=6_000, help="of the one that is trained on")
    parser.add_argument("--cells", nargs="*", choices=CELLS, default=CELLS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--results", type=Path, default=RESULTS / "scale.csv")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    options = parser.parse_args()
    limit_threads(1)
    if options.cell:
        print(json.dumps(cell(options)))
        return
    ledger = Ledger(options.results, harness_commit(*OURS), hardware())
    for name in options.cells:
        data = f"simulated_{size_of(name, options)}_{name}"
        if not any(ledger.has(data, method_of(one), options.seed) for one in PLACES):
            ledger.put(measured(name, data, options, ledger))
    if options.json:
        ledger.write_json(options.json)
    for row in ledger.rows:
        print(f"{row.data:26} {row.method:12} {row.metric:40} {row.value:14,.4g}")


def size_of(name: str, options: argparse.Namespace) -> int:
    """Customers of a cell's shop."""
    of_training = name in ("training", "wider", "killed")
    size: int = options.trained if of_training else options.customers
    return size


def method_of(launch: Launch) -> str:
    """What a row calls where something ran."""
    return "here" if launch.place == "here" else f"{launch.place}_{launch.workers}"


def measured(name: str, data: str, options: argparse.Namespace, ledger: Ledger) -> list[Row]:
    """The rows of one cell."""
    told = ["--customers", str(options.customers), "--trained", str(options.trained)]
    found = in_a_process(
        __file__, ["--cell", name, *told, "--seed", str(options.seed)], TIMEOUT_SECONDS
    )
    figures: Figures = found.get("figures", {"here": {"finished": 0.0}})
    protocol = PROTOCOL.format(customers=size_of(name, options))
    return [
        Row(
            data=data, protocol=protocol, method=method, metric=metric, value=value,
            seed=options.seed, seconds=found.get("seconds"), peak_mb=found.get("peak_mb"),
            commit=ledger.commit, hardware=ledger.machine,
        )
        for method, metrics in figures.items()
        for metric, value in metrics.items()
    ]  # fmt: skip


def cell(options: argparse.Namespace) -> dict[str, object]:
    """Figures of one cell, in this process and those that it starts."""
    work = {
        "costs": costs, "training": training, "wider": wider, "killed": killed, "scoring": scoring
    }  # fmt: skip
    started, load = time.perf_counter(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        simulated(Path(folder), size_of(options.cell, options), options.seed)
        figures = work[options.cell](Path(folder), options.seed)
    figures["here"]["load"] = load
    return {
        "figures": figures,
        "seconds": time.perf_counter() - started,
        "peak_mb": peak_mb(),
    }


def built(folder: Path, launch: Launch = PLACES[0]) -> "Sequences":
    """The shop of a lake, as of its last event."""
    from benchmarks.shops import ALWAYS
    from habitue.lake.tables import Lake
    from habitue.model.launch import over
    from habitue.sequences.build import build_sequences

    among = partial(over, launch=launch)
    found = build_sequences(Lake(folder), "simulated", cutoff=ALWAYS, over=among)
    return replace(found, cutoff=int(found.time.max()))


def timed(work: Callable[[], T]) -> tuple[T, float, float]:
    """What came out, seconds by the wall, and by this process's processor."""
    wall, processor = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - wall, time.process_time() - processor


def costs(folder: Path, seed: int) -> Figures:
    """Processor seconds per million events built, tokens trained on, customers answered."""
    from benchmarks.memory import everyone
    from benchmarks.training_speed import some_steps
    from habitue.lake.tables import Lake

    sequences, _, build = timed(lambda: built(folder))
    events, customers = len(sequences.time), len(sequences.customers)
    config = replace(nano(), epochs=1, seed=seed)
    (trained, _), _, before = timed(lambda: some_steps(sequences, config, 1))
    (trained, seen), _, train = timed(lambda: some_steps(sequences, config, 101))
    _, _, score = timed(lambda: everyone(trained))
    size = sum(file.size for file in Lake(folder).written("events"))
    return {
        "here": {
            "events": events,
            "customers": customers,
            "lake_bytes_per_event": size / events,
            "build_cpu_seconds_per_million_events": build / events * 1e6,
            "prepare_cpu_seconds_per_million_events": before / events * 1e6,
            "train_cpu_seconds_per_million_tokens": (train - before) / tokens_after(seen) * 1e6,
            "tokens_per_event_and_epoch": seen[-1].tokens / seen[-1].step * seen[-1].steps / events,
            "answer_cpu_seconds_per_million_customers": score / customers * 1e6,
        }
    }


def tokens_after(seen: list["Step"]) -> int:
    """Of all steps but the first."""
    return seen[-1].tokens - seen[0].tokens


def job_of(
    sequences: "Sequences", seed: int, checkpoint: Path, *, shares: int = 2, times: int = 1
) -> "Job":
    """One epoch of nano, with so many times the tokens in a step."""
    from habitue.model.inputs import make_vocabulary, query_quantiles
    from habitue.model.launch import Job, shares_of
    from habitue.sequences.batch import Corpus
    from habitue.sequences.snapshots import take_snapshots

    config = replace(nano(), epochs=1, seed=seed, shares=shares, checkpoint_every=10)
    config = replace(config, batch_tokens=times * config.batch_tokens)
    snapshots = take_snapshots(sequences)
    edges = query_quantiles(sequences, snapshots, seed=seed)
    words = make_vocabulary(sequences, text_buckets=config.text_buckets, query_edges=edges)
    corpus = Corpus(sequences, snapshots, max_events=config.max_events)
    return Job(
        config=config,
        vocabulary=words,
        corpora=shares_of(corpus, shares),
        checkpoint=checkpoint,
    )


def ran(
    job: "Job", launch: Launch, at: Callable[["Step"], None] = lambda step: None
) -> tuple["Training", list["Step"], float]:
    """A training at its end, its steps, and seconds in all."""
    from habitue.model.launch import run

    steps: list[Step] = []

    def watch(step: "Step") -> None:
        steps.append(step)
        at(step)

    ended, seconds, _ = timed(lambda: run(job, launch, watch))
    return ended, steps, seconds


def apart(one: "Training", other: "Training") -> float:
    """The largest difference between two trainings' weights."""
    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    return max(float((mine - theirs).abs().max()) for mine, theirs in pairs)


def training(folder: Path, seed: int) -> Figures:
    """The same training in every place, compared with the first; and in one share, here."""
    sequences = built(folder)
    figures: Figures = {}
    runs = []
    for launch in PLACES:
        found, ended, steps = trained_there(sequences, seed, launch)
        runs.append((ended, [step.loss for step in steps]))
        losses = zip(runs[-1][1], runs[0][1], strict=True)
        figures[method_of(launch)] = {
            **found,
            "loss_apart": max(abs(a - b) / abs(b) for a, b in losses),
            "weights_apart": apart(ended, runs[0][0]),
        }
    weights = sum(p.numel() for p in runs[0][0].model.parameters())
    figures["here"]["message_bytes_per_step"] = 4.0 * weights
    figures["here_1_share"], _, _ = trained_there(sequences, seed, PLACES[0], shares=1)
    return figures


def wider(folder: Path, seed: int) -> Figures:
    """As many tokens a worker as one alone has: twice as many in a step of two."""
    sequences = built(folder)
    alone, _, _ = trained_there(sequences, seed, PLACES[0], shares=1)
    there, _, _ = trained_there(sequences, seed, PLACES[1], shares=2, times=2)
    return {"here": alone, method_of(PLACES[1]): there}


def trained_there(
    sequences: "Sequences", seed: int, launch: Launch, *, shares: int = 2, times: int = 1
) -> tuple[dict[str, float], "Training", list["Step"]]:
    """Figures of one training, the training, and its steps.

    What the steps cost the processors is told by doing it again when it has already ended: all but
    the steps. Of Ray's workers only the kernel knows.
    """
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "training.pt"
        job = job_of(sequences, seed, path, shares=shares, times=times)
        before = processor_seconds()
        ended, steps, seconds = ran(job, launch)
        middle = processor_seconds()
        warm = steps[WARM_UP]
        loop = steps[-1].seconds - warm.seconds
        figures = {
            "steps": len(steps),
            "tokens": steps[-1].tokens,
            "tokens_per_second": (steps[-1].tokens - warm.tokens) / loop,
            "seconds": seconds,
            "seconds_beside_the_steps": seconds - steps[-1].seconds,
            "last_loss": steps[-1].loss,
        }
        if launch.place != "ray":
            if launch.place == "here":
                from habitue.model.checkpoint import save_training

                assert job.checkpoint is not None, "just made"
                save_training(ended, job.checkpoint)
            again = processor_seconds()
            ran(job, launch)
            rest = processor_seconds() - again
            figures["cpu_seconds_of_the_steps"] = middle - before - rest
    return figures, ended, steps


def processor_seconds() -> float:
    """Of this process and of those that it has waited for."""
    told = os.times()
    return told.user + told.system + told.children_user + told.children_system


def killed(folder: Path, seed: int) -> Figures:
    """A worker is killed at the 15th step or soon after; what then comes out."""
    sequences = built(folder)
    figures: Figures = {}
    whole: Training | None = None          # by one process, which nobody kills
    for launch in PLACES:
        victims: list[int] = []

        def kill(step: "Step", victims: list[int] = victims) -> None:
            if step.step >= 15 and not victims and (found := training_workers()):
                victims.append(found[-1])
                os.kill(victims[0], signal.SIGKILL)

        with tempfile.TemporaryDirectory() as place:
            job = job_of(sequences, seed, Path(place) / "training.pt")
            ended, steps, seconds = ran(job, launch, kill)
        whole = whole or ended
        figures[method_of(launch)] = {
            "killed": len(victims),
            "steps": steps[-1].steps,
            "steps_taken": len(steps),
            "seconds": seconds,
            "weights_apart": apart(ended, whole),
        }
    return figures


def training_workers() -> list[int]:
    """Processes below this one that train: spawned by us, or by a Ray cluster of ours."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            told = (folder / "stat").read_text().rpartition(")")[2].split()
            title = (folder / "cmdline").read_text()
        except OSError:
            continue                       # it has ended since
        parents[int(folder.name)] = (int(told[1]), title)

    def is_ours(process: int) -> bool:
        while process in parents:
            process = parents[process][0]
            if process == os.getpid():
                return True
        return False

    return sorted(
        process
        for process, (_, title) in parents.items()
        if ("RayTrainWorker" in title or "spawn_main" in title) and is_ours(process)
    )


def scoring(folder: Path, seed: int) -> Figures:
    """Everyone is built and answered in every place, compared with the first."""
    import numpy as np

    from benchmarks.training_speed import some_steps

    sequences = built(folder)
    trained, _ = some_steps(sequences, replace(nano(), epochs=1, seed=seed), 20)
    figures: Figures = {}
    first = None
    for launch in PLACES:
        if launch.place == "ray":          # joining a cluster is no part of the work
            from habitue.model.launch import over

            list(over(str, [1, 2], launch))
        again, build, _ = timed(partial(built, folder, launch))
        _, cold, _ = timed(partial(answers_of, trained, launch))
        answered, score, _ = timed(partial(answers_of, trained, launch))
        first = answered if first is None else first
        figures[method_of(launch)] = {
            "build_seconds": build,
            "answer_seconds_at_first": cold,
            "answer_seconds": score,
            "sequences_equal": float(np.array_equal(again.time, sequences.time)),
            "answers_apart": float(np.max(np.abs(answered - first) / np.maximum(first, 1e-3))),
        }
    return figures


def answers_of(trained: "Trained", launch: Launch) -> "np.ndarray":
    """The value of every answer, in order."""
    import numpy as np

    from habitue.predictions.calibrate import Calibration
    from habitue.predictions.score import score
    from habitue.publishing import answers

    scores = score(
        trained.model,
        trained.corpus,
        Calibration(),
        cutoff=trained.cutoff,
        horizons_days=(HORIZON_DAYS,),
        launch=launch,
    )
    table = answers(scores, trained.corpus.sequences, "simulated-1", None, launch)
    return np.nan_to_num(table["value"].to_numpy())


if __name__ == "__main__":
    main()
