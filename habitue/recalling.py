"""What was predicted at an earlier instant by scores that are kept, or could have been.

The latter by a version that saw no further.
"""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import TYPE_CHECKING

from habitue.errors import SawTheFuture
from habitue.registry import Registry

if TYPE_CHECKING:
    import pyarrow as pa

    from habitue.audiences.live.scored.curves import Reading
    from habitue.workspace import Shop


def opened(told: bytes) -> "Reading":
    """What a whole shop's scores were kept as, ready to be asked."""
    from habitue.predictions.scores import drift

    return drift.opened(told)


def recalls(shop: "Shop") -> "Callable[[datetime, Collection[float]], pa.Table]":
    """A function of a cutoff and horizons that gives what would have been predicted then."""

    def recall(cutoff: datetime, horizons: Collection[float]) -> "pa.Table":
        return recalled(shop, cutoff, horizons)

    return recall


def recalled(shop: "Shop", cutoff: datetime, horizons: Collection[float]) -> "pa.Table":
    """What the newest version that has seen nothing after a cutoff predicts as of it.

    By what was known then; the rows of `predict` with the column `received`.

    Raises:
        SawTheFuture: every version of the shop has seen further, or there is none.
    """
    version = unseeing(shop.workspace.registry, shop.name, cutoff)
    table = shop.predict(
        horizons=sorted(horizons), cutoff=cutoff, version=version, known_at=cutoff
    )
    return table.append_column("received", table["cutoff"])


def unseeing(registry: Registry, shop: str, cutoff: datetime) -> str:
    """The newest version of a shop that has seen nothing of it after a cutoff.

    Raises:
        SawTheFuture: every version has seen further, or there is none.
    """
    found = registry.unseeing(shop, cutoff)
    if found is None:
        held = [one for one in registry.versions() if one.shop == shop]
        told = ", ".join(f"{one.version} up to {one.cutoff.isoformat()}" for one in held)
        raise SawTheFuture(
            f"no version of {shop!r} has seen nothing after {cutoff.isoformat()}; there are:"
            f" {told or 'none yet'}\n"
            f"hint: `habitue train --shop {shop} --cutoff {cutoff.isoformat()}` makes one"
        )
    return found
