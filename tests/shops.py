"""Simulated shops for tests: a few lines from a `ShopConfig` to events, catalogue and sequences."""

from datetime import datetime

import pyarrow as pa

from habitue.sequences.build import Sequences, microseconds, sequences_from_events
from habitue.simulation import DAY, ShopConfig, catalogue, simulate


def events_of(config: ShopConfig, seed: int) -> pa.Table:
    """All of a simulated shop's events, in the EVENTS schema."""
    return pa.concat_tables(list(simulate(config, seed))).combine_chunks()


def end_of(config: ShopConfig) -> int:
    """The instant (µs) at which the simulation stops."""
    return microseconds(config.start) + config.days * DAY


def sequences_of(
    config: ShopConfig, seed: int, *, cutoff: int | datetime | None = None
) -> Sequences:
    """A simulated shop's `Sequences` as of a cutoff, by default its last instant."""
    at = microseconds(cutoff) if isinstance(cutoff, datetime) else cutoff
    return sequences_from_events(
        events_of(config, seed),
        catalogue(config, seed),
        shop=config.shop,
        cutoff=end_of(config) if at is None else at,
    )
