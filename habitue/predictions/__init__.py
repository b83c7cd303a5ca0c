"""Predictions: what every customer will do within a horizon, and how well that was foretold.

Enters: `Sequences` (from sequences/) and, where there is one, a trained model. Leaves: for every
customer the probability of an order, expected orders, expected revenue and the next order's date,
and the rows that `habitue evaluate` prints.

Reading order: `metrics` (what is measured), `rows` (how it is told), `baselines` (the `Predictor`
protocol and the classical predictors), `trees` (boosted trees on aggregates).
"""
