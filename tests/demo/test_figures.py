"""The figures travel as JSON, and take evaluate's rows as they are."""

import math

import msgspec
import pytest

from habitue.demo.figures import Comparison, Estimate, Figures


def test_figures_come_back_from_json_as_they_were(figures: Figures):
    text = msgspec.json.encode(figures)
    assert msgspec.json.decode(text, type=Figures) == figures


def test_a_row_of_evaluate_is_a_comparison_as_it_stands():
    row = {"shop": "a", "cutoff": "2011-06-12T12:00:00+00:00", "horizon_days": 180.0,
           "question": "order", "method": "habitue", "metric": "auc", "value": 0.81, "low": 0.8,
           "high": 0.82, "customers": 5_026}
    (comparison,) = msgspec.convert([row], tuple[Comparison, ...])
    assert comparison == Comparison(question="order", metric="auc", method="habitue", value=0.81,
                                    low=0.8, high=0.82, customers=5_026)


def test_a_number_that_could_not_be_computed_is_null_in_json():
    assert msgspec.json.encode(Estimate(math.nan)) == b'{"value":null,"low":null,"high":null}'


def test_figures_cannot_be_changed(figures: Figures):
    with pytest.raises(AttributeError):
        figures.shop = "another"  # type: ignore[misc]  # that it is refused is the point
