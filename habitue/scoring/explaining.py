"""Beside scoring: why customers are predicted what they are, and a process that answers questions.

Who asks why waits, so that is answered between two batches, in its time and no more of it. A
question of everyone takes minutes, so a process of its own answers it, which runs while one waits.
"""

import contextlib
import logging
import os
import subprocess
import time
from collections.abc import Sequence

import msgspec
import pyarrow as pa

from habitue.errors import HabitueError
from habitue.lake.live import fresh
from habitue.lake.live.told import instant
from habitue.predictions.explain import again
from habitue.predictions.explain.again import with_past_of
from habitue.predictions.explain.why import Ask, Explanation, explain
from habitue.scoring.basis import Basis
from habitue.scoring.desk import Desk, Told, Waits
from habitue.scoring.scorer import Scorer
from habitue.sequences.batch import Corpus
from habitue.sequences.build import Sequences, sequences_among

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0                         # between looks whether a question waits
MOST_HORIZONS = 50                         # of which a typical new customer is remembered
AGAIN_SECONDS = 30.0                       # after the process that answers ended in the middle


class Explaining:
    """Answers what lies on the desk; `answer` is the command that answers questions and ends."""

    def __init__(self, scorer: Scorer, desk: Desk, answer: Sequence[str]) -> None:
        self.scorer, self.desk = scorer, desk
        self._answer = tuple(answer)
        self._process: subprocess.Popen[bytes] | None = None
        self._looked = 0.0
        # shop -> the basis that was looked at, and typical first orders by horizon
        self._newcomers: dict[str, tuple[Basis, dict[float, int]]] = {}

    def close(self) -> None:
        """End what answers questions; what it was at waits for the next one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.desk.close()

    def step(self) -> bool:
        """Tell one who waits why, if anybody does; whether to go on at once."""
        now = time.monotonic()
        if now >= self._looked:
            self._looked = now + LOOK_SECONDS
            self.desk.tidy(self.scorer.now())
            self._look()
        waits = self.desk.wondering(self.scorer.now())
        if waits is None:
            return False
        try:
            told = self._told(waits)
        except HabitueError as error:
            told = Told(detail=str(error).replace("\nhint:", ";"))
        except Exception as error:         # noqa: BLE001 (who asked gets an answer; others go on)
            log.warning("cannot explain kind=%s", type(error).__name__)
            told = Told(detail="it cannot be worked out; the log of the scorer says more")
        self.desk.tell(waits.id, msgspec.json.encode(told))
        return True

    def _told(self, waits: Waits) -> Told:
        basis = self.scorer.basis(waits.shop)
        if basis is None:
            detail = "the shop is being scored as a whole; ask again in some seconds"
            return Told(detail=detail, passes=True)
        why, profiles = waits.why, self.scorer.profiles
        with profiles.writing() as connection:
            ids = fresh.customer_of(connection, waits.shop, why.customer)
            events = fresh.events_of(connection, waits.shop, ids)
            now = self.scorer.now()
        ask = Ask(
            question=why.question, horizon_days=why.horizon_days, budget_seconds=why.budget_seconds
        )
        explained = self._explained(waits.shop, basis, _among(basis, events, now), ask)
        if explained is None:
            return Told(detail="no order of theirs stands, so nothing is predicted of them")
        told = msgspec.Raw(msgspec.json.encode(explained))
        return Told(version=basis.held.version, at=instant(now), explanation=told)

    def _explained(
        self, shop: str, basis: Basis, some: Sequences, ask: Ask
    ) -> Explanation | None:
        """Why the one customer of `some` is predicted what they are; none: no order stands."""
        scores = basis.score(some) if len(some.time) else None
        if scores is None or not len(scores.names):
            return None
        model, whole = basis.held.learnt.trained.model, basis.held.learnt.trained.corpus
        typical = self._typical(shop, basis, ask.horizon_days)
        beside = with_past_of(some, whole.sequences, typical)
        corpus = Corpus(
            beside, whole.snapshots, max_events=whole.max_events, kinds=model.kinds
        )
        last = len(beside.time) - 1
        return explain(again.Scorer(model, corpus, scores, newcomer=last), 0, ask)

    def _typical(self, shop: str, basis: Basis, horizon_days: float) -> int:
        """The row of a typical first order of a shop, looked for once for a basis and horizon."""
        held = self._newcomers.get(shop)
        if held is None or held[0] is not basis:
            held = self._newcomers[shop] = (basis, {})
        if horizon_days not in held[1]:
            trained = basis.held.learnt.trained
            whole = again.Scorer(trained.model, trained.corpus, basis.scores, newcomer=-1)
            if len(held[1]) >= MOST_HORIZONS:
                held[1].clear()
            held[1][horizon_days] = whole.newcomer_of(horizon_days)
        return held[1][horizon_days]

    def _look(self) -> None:
        """Start the process that answers where a question waits and none runs."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            if code != 0:
                log.warning("what answers questions ended in the middle code=%s", code)
                self._looked += AGAIN_SECONDS
            self._process = None
            return
        if self._answer and self.desk.waits():
            with contextlib.suppress(OSError):
                command = (*self._answer, "--parent", str(os.getpid()))
                self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _among(basis: Basis, events: pa.Table, now: int) -> Sequences:
    """Some customers up to now, in the items of their shop."""
    return sequences_among(
        events, basis.held.sequences, basis.rules, cutoff=now, connection=basis.connection
    )
