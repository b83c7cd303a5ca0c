"""`Readings`: what a model says at queries, as numbers that need no model to be read."""

# Q queries · H hazard bins · G horizons · N horizons of orders · M spend components
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

    def orders_within(self, horizon_days: float) -> np.ndarray:
        """(Q,) log of the orders expected in one of the horizons."""
        found = np.flatnonzero(np.isclose(self.order_horizons_days, horizon_days))
        return self.log_orders[:, int(found[0])]

    def take(self, rows: slice | np.ndarray) -> "Readings":
        """Those of some queries, or in another order."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _of_queries()})


def _of_queries() -> list[str]:
    return [f.name for f in fields(Readings) if not f.name.endswith("horizons_days")]


def joined(parts: Sequence[Readings]) -> Readings:
    """Readings of the same horizons, one after the other."""
    columns = {n: np.concatenate([getattr(one, n) for one in parts]) for n in _of_queries()}
    return replace(parts[0], **columns)
