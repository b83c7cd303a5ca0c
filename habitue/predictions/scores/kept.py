"""Scores as bytes: what is of the whole shop once, and a row of numbers per customer.

What is asked of them later goes through `Scores` as everything does, after the silence since.
"""

# C customers · B hazard bins · G horizons · N horizons of orders · M spend components
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import prod

import msgspec
import numpy as np

from habitue.model.readings import Readings
from habitue.predictions.calendar import Level
from habitue.predictions.calibrate import Calibration
from habitue.predictions.scores.answers import Bent, Scores
from habitue.sequences.build import DAY
from habitue.sequences.tokens import BIN_EDGES

_FLOAT = np.dtype("<f4")


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """What all customers of a shop share, as of the instant at which it was scored as a whole."""

    version: str
    status: str                            # full, transfer, insufficient
    missing: str | None                    # for a better status; none: nothing
    cutoff: int                            # µs
    horizons_days: tuple[float, ...]       # (G,)
    order_horizons_days: tuple[float, ...]     # (N,)
    components: int                        # M
    has_value: bool                        # whether Gamma-Gamma expects an order's value
    expected_orders: tuple[float, ...]     # (N,)
    calibration: Calibration
    level_edges: tuple[float, ...]         # (P + 1,)
    level_orders: tuple[float, ...]        # (P,)
    level_value: tuple[float, ...]         # (P,)
    level_known: bool
    spend_shift: tuple[float, ...]


def whole_of(scores: Scores, *, version: str, status: str, missing: str | None, cutoff: int) -> (
    Whole
):
    """What of the scores is of the whole shop."""
    readings, level = scores.readings, scores.level
    return Whole(
        version=version,
        status=status,
        missing=missing,
        cutoff=cutoff,
        horizons_days=_floats(readings.horizons_days),
        order_horizons_days=_floats(readings.order_horizons_days),
        components=readings.spend_scale.shape[2],
        has_value=scores.bent.log_value is not None,
        expected_orders=_floats(scores.expected_orders),
        calibration=scores.calibration,
        level_edges=_floats(level.edges),
        level_orders=_floats(level.orders),
        level_value=_floats(level.value),
        level_known=level.known,
        spend_shift=_floats(np.array(scores.spend_shift)),
    )


def rows_of(scores: Scores) -> list[bytes]:
    """(C,) each customer's numbers."""
    readings, bent, count = scores.readings, scores.bent, len(scores.names)
    if not count:                          # an array without rows has no number of columns
        return []
    value = np.zeros(count) if bent.log_value is None else bent.log_value
    parts = (
        scores.log_rate, bent.log_orders, value, readings.log_rate, readings.log_orders,
        readings.log_dispersion, readings.spend_log_weight, readings.spend_location,
        readings.spend_scale,
    )  # fmt: skip
    table = np.concatenate([part.reshape(count, -1).astype(_FLOAT) for part in parts], axis=1)
    return [row.tobytes() for row in table]


def scores_of_rows(
    whole: Whole,
    names: Sequence[str],
    anchor: np.ndarray,
    rows: Sequence[bytes],
    *,
    time: int | np.ndarray,
) -> Scores:
    """The scores of some customers (C,), read at `anchor` (C,) µs, as of a later `time` (µs).

    `time` may be another one (C,) for each.
    """
    count, shared = len(rows), _shared(whole)
    table = np.frombuffer(b"".join(rows), _FLOAT).reshape(count, -1)
    parts = [table[:, low:high].reshape(count, *shape) for low, high, shape in shared.columns]
    curve, bent_orders, value, log_rate, log_orders, dispersion, *spends = parts
    return Scores(
        names=np.array(names, dtype=object),
        customer=np.arange(count),
        anchor=anchor,
        silent_days=(time - anchor) / DAY,
        log_rate=curve,
        horizons_days=whole.horizons_days,
        readings=Readings(
            log_rate=log_rate,
            order_horizons_days=shared.order_horizons_days,
            log_orders=log_orders,
            horizons_days=shared.horizons_days,
            log_dispersion=dispersion,
            spend_log_weight=spends[0],
            spend_location=spends[1],
            spend_scale=spends[2],
        ),
        bent=Bent(
            log_rate=log_rate,             # what it was bent from is not kept: nothing asks for it
            log_orders=bent_orders,
            log_value=value if whole.has_value else None,
            factors=None,
        ),
        expected_orders=shared.expected_orders,
        calibration=whole.calibration,
        level=shared.level,
        spend_shift=whole.spend_shift,
        factors=shared.factors,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What is of a whole shop, as arrays, and how a row of one customer is cut."""

    horizons_days: np.ndarray              # (G,)
    order_horizons_days: np.ndarray        # (N,)
    expected_orders: np.ndarray            # (N,)
    level: Level
    columns: tuple[tuple[int, int, tuple[int, ...]], ...]      # from, to, and shape of each part
    factors: dict[float, tuple[float, float]]


@lru_cache(maxsize=100)
def _shared(whole: Whole) -> _Shared:
    spend = (len(whole.horizons_days), whole.components)
    shapes: list[tuple[int, ...]] = [
        (len(BIN_EDGES),), (len(whole.order_horizons_days),), (), (len(BIN_EDGES),),
        (len(whole.order_horizons_days),), (len(whole.horizons_days),), spend, spend, spend,
    ]  # fmt: skip
    ends = list(accumulate(prod(shape) for shape in shapes))
    level = Level(
        np.array(whole.level_edges), np.array(whole.level_orders), np.array(whole.level_value),
        known=whole.level_known,
    )  # fmt: skip
    return _Shared(
        horizons_days=np.array(whole.horizons_days),
        order_horizons_days=np.array(whole.order_horizons_days),
        expected_orders=np.array(whole.expected_orders),
        level=level,
        columns=tuple(zip([0, *ends], ends, shapes, strict=False)),
        factors={},
    )


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
