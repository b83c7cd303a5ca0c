"""Scores that were kept as bytes answer as those do that were not."""

import msgspec
import numpy as np
import pytest

from habitue.predictions.calibrate import Calibration
from habitue.predictions.scores.answers import Scores
from habitue.predictions.scores.kept import Whole, rows_of, scores_of_rows, whole_of
from habitue.sequences.build import DAY
from tests.predictions.test_score import HORIZONS, scored, shop, trained  # noqa: F401


@pytest.fixture(scope="module")
def scores(trained) -> Scores:  # noqa: F811
    return scored(trained, Calibration(drift=0.2, log_level=0.1))


def kept(scores: Scores, time: int) -> Scores:
    whole = whole_of(scores, version="v1", status="full", missing=None, cutoff=time)
    whole = msgspec.json.decode(msgspec.json.encode(whole), type=Whole)
    return scores_of_rows(whole, scores.names.tolist(), scores.anchor, rows_of(scores), time=time)


def cutoff_of(scores: Scores) -> int:
    return int(scores.anchor[0] + round(scores.silent_days[0] * DAY))


@pytest.mark.parametrize("days", HORIZONS)
def test_what_is_kept_answers_alike(scores: Scores, days: float) -> None:
    again = kept(scores, cutoff_of(scores))
    for question in ("order", "churn", "orders", "revenue"):
        one, other = getattr(scores, question)(days), getattr(again, question)(days)
        for part in ("value", "low", "high"):
            assert np.allclose(getattr(one, part), getattr(other, part), rtol=1e-6, atol=1e-9)
    assert np.allclose(scores.next_order(), again.next_order(), rtol=1e-6)


def test_silence_moves_what_is_kept(scores: Scores) -> None:
    now, later = (kept(scores, cutoff_of(scores) + days * DAY) for days in (0, 20))
    assert np.allclose(later.silent_days, now.silent_days + 20)
    assert not np.allclose(later.order(30.0).value, now.order(30.0).value)
    # P(order in (t, t + H]) is what the curve read at the anchor says: 1 - S(t + H) / S(t)
    within = 1 - (1 - now.order(20.0).value) * (1 - later.order(30.0).value)
    assert within == pytest.approx(now.order(50.0).value, rel=1e-9)


def test_a_row_is_a_few_hundred_bytes(scores: Scores) -> None:
    assert {len(row) for row in rows_of(scores)} == {len(rows_of(scores)[0])}
    assert len(rows_of(scores)[0]) < 1_000


def test_of_nobody_nothing_is_kept(scores: Scores) -> None:
    assert rows_of(scores.take(slice(0, 0))) == []
