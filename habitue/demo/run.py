"""The demo: a real shop's two years become a model, a judgement of it, and a report."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from habitue import publishing
from habitue.config import TrainConfig, nano
from habitue.config import demo as demo_preset
from habitue.demo import gather
from habitue.demo.audiences import audiences
from habitue.demo.figures import Figures, Timing, Version, Versions
from habitue.demo.report import render
from habitue.evaluation import (
    Backtest,
    Progress,
    backtest,
    known_and_future,
    learn_recommender,
    step_progress,
    verdicts,
)
from habitue.ingest.importing import import_file
from habitue.ingest.mapping import read_mapping
from habitue.predictions.learn import Learnt
from habitue.recommendations.recommend import FittedRecommender
from habitue.registry import CHAMPION
from habitue.sequences.build import build_sequences, microseconds
from habitue.transfer.adapt import Adapted, adapt, again
from habitue.transfer.levels import Training
from habitue.workspace import Shop, open_workspace

SHOP = "gift-wholesaler"
HOLDOUT_DAYS = 180.0
OUTLOOK_DAYS = 90.0
DATA = Path(__file__).parent / "data"
REPORT = "report.html"


@dataclass(slots=True)
class Stopwatch:
    """How long each step took, in the order in which they began."""

    clock: Callable[[], float]
    steps: list[Timing] = field(default_factory=list)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Time what is done inside."""
        begun = self.clock()
        yield
        self.steps.append(Timing(step=step, seconds=self.clock() - begun))


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """The evaluated configuration trained on everything, and its published version."""

    learnt: Learnt
    recommender: FittedRecommender
    version: Version


def run_demo(
    out: Path,
    *,
    fast: bool,
    now: datetime,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Figures, Path]:
    """Import, evaluate, refit, score, report; returns the figures and the report's path.

    The workspace stays in `out`, and a second run imports nothing twice.
    """
    timed = Stopwatch(clock)
    # what two years of a shop's own teach; weights that ship are for shops that have less
    config = replace(fast_config() if fast else demo_preset(), from_nothing=True)
    shop = open_workspace(out / "work", lake="").shop(SHOP)
    with timed("import"):
        receipt = import_file(
            DATA / "online_retail_ii.parquet",
            lake=shop.workspace.lake,
            shop=SHOP,
            mapping=read_mapping(DATA / "online_retail_ii.toml"),
            now=now,
            progress=None
            if progress is None
            else (lambda share: progress("importing", round(100 * share), 100)),
        )
    last = shop.last_event()
    with timed("train and judge on the holdout"):
        test, adapted = _evaluated(shop, last, config, progress)
    with timed("compare"):
        judged = verdicts(test, np.random.default_rng(config.seed))
    with timed("refit on everything"):
        training = Training(config=config, progress=step_progress(progress, "refit"))
        evaluated, final = _refitted(shop, (test, adapted), last, training, now)
    with timed("score everyone"):
        outlook = gather.outlook(
            final.learnt, final.recommender, horizon_days=OUTLOOK_DAYS, version=final.version.id
        )
        publishing.keep(shop.source, outlook.answers, now)
    with timed("ask for ten audiences"):
        ready = audiences(shop, test, evaluated.id, outlook.answers)
    figures = Figures(
        shop=SHOP,
        currency=test.known.currency,
        created=now,
        versions=Versions(evaluated=evaluated, final=final.version),
        ingest=gather.ingest(shop, receipt),
        holdout=gather.holdout(test),
        outlook=outlook.figures,
        weekly_orders=gather.weekly_orders(test, final.learnt.trained.corpus.sequences),
        reliability=gather.reliability(test),
        lift=gather.lift(test),
        comparison=gather.comparison(test),
        verdicts=gather.verdict_figures(judged),
        audiences=ready,
        timings=tuple(timed.steps),
        protocol=gather.protocol(test, config),
        attribution=gather.ATTRIBUTION,
    )
    out.mkdir(parents=True, exist_ok=True)
    path = out / REPORT
    draft = path.with_suffix(".draft")
    draft.write_text(render(figures), encoding="utf-8")
    draft.replace(path)
    return figures, path


def fast_config() -> TrainConfig:
    """Small enough for every change's tests: the same steps, a weaker model."""
    return replace(nano(), width=32, layers=1, epochs=1)


def _evaluated(
    shop: Shop, last: datetime, config: TrainConfig, progress: Progress | None
) -> tuple[Backtest, Adapted]:
    midnight = last.replace(hour=0, minute=0, second=0, microsecond=0)
    cutoff = midnight - timedelta(days=HOLDOUT_DAYS)
    known, future = known_and_future(shop.workspace.lake, SHOP, cutoff, HOLDOUT_DAYS)
    adapted = adapt(known, Training(config=config, progress=step_progress(progress)))
    if progress is not None:
        progress("judging", 0, None)
    test = backtest(
        known,
        future,
        horizon_days=HOLDOUT_DAYS,
        learnt=adapted.learnt,
        seed=config.seed,
    )
    return test, adapted


def _refitted(
    shop: Shop,
    judged_by: tuple[Backtest, Adapted],
    last: datetime,
    training: Training,
    now: datetime,
) -> tuple[Version, Final]:
    """Both versions published; the final one, calibrated on the holdout, becomes the champion."""
    workspace, (test, adapted) = shop.workspace, judged_by
    judged = publishing.publish(workspace.registry, adapted, test.recommender, now=now)
    everything = build_sequences(workspace.lake, SHOP, cutoff=microseconds(last))
    whole = again(adapted, everything, training)
    recommender = learn_recommender(whole.learnt, everything)
    version = publishing.publish(workspace.registry, whole, recommender, now=now)
    workspace.registry.promote(
        version,
        shop=SHOP,
        alias=CHAMPION,
        now=now,
        reason=f"the configuration that was judged as {judged}, trained on everything",
    )
    evaluated = Version(id=judged, cutoff=gather.at(test.known.cutoff))
    final = Final(
        learnt=whole.learnt, recommender=recommender, version=Version(id=version, cutoff=last)
    )
    return evaluated, final
