"""`Readings`: what a model says at queries, as numbers that need no model to be read."""

# Q queries · H hazard bins · G horizons · N horizons of orders · M spend components · D width
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What the model says at each query, uncalibrated; float32, the horizons apart."""

    log_rate: np.ndarray                   # (Q, H) hazard of the next order, per day
    order_horizons_days: np.ndarray        # (N,) the horizons below, and others
    log_orders: np.ndarray                 # (Q, N) expected orders
    horizons_days: np.ndarray              # (G,)
    log_dispersion: np.ndarray             # (Q, G) size of the negative binomial
    spend_log_weight: np.ndarray           # (Q, G, M) of positive spend, a lognormal mixture
    spend_location: np.ndarray             # (Q, G, M) log of major units
    spend_scale: np.ndarray                # (Q, G, M)
    states: np.ndarray | None = None       # (Q, D) of the queries, where they were kept

    def orders_within(self, horizon_days: float) -> np.ndarray:
        """(Q,) log of the orders expected in one of the horizons."""
        return self.log_orders[:, place_of(horizon_days, self.order_horizons_days)]

    def take(self, rows: slice | np.ndarray) -> "Readings":
        """Those of some queries, or in another order."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _of_queries(self)})


def place_of(horizon_days: float, horizons_days: np.ndarray) -> int:
    """Where a horizon stands among those that were read."""
    near = 1e-8 + 1e-5 * abs(horizon_days)
    for place, one in enumerate(horizons_days.tolist()):
        if abs(one - horizon_days) <= near:
            return place
    raise AssertionError(f"{horizon_days} days were not read; name them when scoring")


def _of_queries(one: Readings) -> list[str]:
    names = [f.name for f in fields(Readings) if not f.name.endswith("horizons_days")]
    return [name for name in names if getattr(one, name) is not None]


def joined(parts: Sequence[Readings]) -> Readings:
    """Readings of the same horizons, one after the other."""
    columns = {n: np.concatenate([getattr(one, n) for one in parts]) for n in _of_queries(parts[0])}
    return replace(parts[0], **columns)
