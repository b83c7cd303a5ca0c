"""Wide features are learnt from in another way, with the same result."""

import numpy as np
import pytest

from habitue.predictions.probes import methods
from habitue.predictions.probes.language import Aggregation
from habitue.predictions.probes.lessons import Lessons
from habitue.predictions.probes.methods import Method, fit

NAMES = ("exists", "count", "sum")


def lessons(aggregation: Aggregation) -> Lessons:
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (400, 6)).astype(np.float32)
    expected = np.exp(features @ np.array([0.6, -0.4, 0.2, 0.0, 0.0, 0.3]))
    count = rng.poisson(expected).astype(np.float64)
    label = {"exists": np.minimum(count, 1), "count": count, "sum": count * 12.5}[aggregation]
    return Lessons(
        customer=np.arange(400), at=np.zeros(400, np.int64), aggregates=features,
        recent=np.zeros(400), embedding=np.zeros((400, 0), np.float32), label=label,
    )  # fmt: skip


@pytest.mark.parametrize("aggregation", NAMES)
def test_many_features_are_weighed_as_few_are(
    aggregation: Aggregation, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, method = lessons(aggregation), Method("linear", aggregates=True)
    few = fit(method, aggregation, known, 0.03, 0)(known)
    monkeypatch.setattr(methods, "WIDE", 1)
    many = fit(method, aggregation, known, 0.03, 0)(known)
    assert not np.array_equal(few, many), "the other way was not taken"
    np.testing.assert_allclose(many, few, rtol=0.01, atol=1e-3)
