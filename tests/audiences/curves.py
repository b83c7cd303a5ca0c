"""Curves made up for a few customers: what a scorer would have kept of them."""

import random

import msgspec
import numpy as np

from habitue.predictions.calendar import PERIOD_EDGES, flat_level
from habitue.predictions.calibrate import Calibration
from habitue.predictions.scores.kept import Whole
from habitue.sequences.tokens import BIN_EDGES

HORIZONS_DAYS = (7.0, 30.0, 90.0, 365.0)
ORDER_HORIZONS_DAYS = tuple(sorted({*HORIZONS_DAYS, *PERIOD_EDGES[1:]}))
COMPONENTS = 2


def whole(version: str = "v1", drift: float = 0.2) -> Whole:
    """What is of the whole shop."""
    level = flat_level()
    return Whole(
        version=version,
        status="full",
        missing=None,
        cutoff=0,
        horizons_days=HORIZONS_DAYS,
        order_horizons_days=ORDER_HORIZONS_DAYS,
        components=COMPONENTS,
        has_value=False,
        expected_orders=tuple(range(1, len(ORDER_HORIZONS_DAYS) + 1)),
        calibration=Calibration(drift=drift),
        level_edges=tuple(level.edges.tolist()),
        level_orders=tuple(level.orders.tolist()),
        level_value=tuple(level.value.tolist()),
        level_known=level.known,
        spend_shift=(),
    )


def told(one: Whole) -> bytes:
    """The same as it is kept."""
    return msgspec.json.encode(one)


def row(draw: random.Random) -> bytes:
    """One customer's numbers: a hazard that falls and rises, orders and spend."""
    rng = np.random.default_rng(draw.randrange(10**9))
    bins, orders, spend = len(BIN_EDGES), len(ORDER_HORIZONS_DAYS), len(HORIZONS_DAYS)
    rate = rng.uniform(-7.0, -1.0) + np.cumsum(rng.normal(0.0, 0.7, bins))
    weight = rng.dirichlet(np.ones(COMPONENTS), spend)
    parts = (
        np.clip(rate, -12.0, 1.0), np.sort(rng.normal(-0.5, 1.0, orders)), np.zeros(1),
        np.clip(rate + rng.normal(0, 0.1), -12.0, 1.0), np.sort(rng.normal(-0.5, 1.0, orders)),
        rng.normal(0.5, 0.3, spend), np.log(weight).ravel(),
        rng.normal(3.0, 0.5, spend * COMPONENTS), rng.uniform(0.2, 0.8, spend * COMPONENTS),
    )  # fmt: skip
    return np.concatenate(parts).astype("<f4").tobytes()
