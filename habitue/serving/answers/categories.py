"""Categories by what a shop calls them, and those that no item is in yet.

Which category an item is in stands with the item. What only Klaviyo's clients say of a category,
its name, stands among the shop's jobs.
"""

import hmac
from dataclasses import dataclass
from datetime import datetime

from habitue.directory import Directory, Job, ShopEntry
from habitue.lake.keys import spelt

CATEGORY = "category"
_KEPT, _GONE = "active", "complete"


@dataclass(frozen=True, slots=True)
class Category:
    """A category that a shop told of."""

    external: str                          # as items name it
    name: str
    created: datetime
    updated: datetime


def told_of(directory: Directory, shop: ShopEntry) -> dict[str, Category]:
    """The categories that a shop told of, by how items name them."""
    jobs = [one for one in directory.jobs(shop.name) if one.kind == CATEGORY]
    found = [
        Category(str(one.detail["external"]), str(one.detail["name"]), one.created, one.updated)
        for one in jobs
        if one.status == _KEPT
    ]
    return {one.external: one for one in found}


def put(directory: Directory, shop: ShopEntry, one: Category) -> None:
    """Keep what a shop calls a category."""
    directory.put_job(_job(shop, one, _KEPT))


def drop(directory: Directory, shop: ShopEntry, one: Category) -> None:
    """Forget what a shop calls a category."""
    directory.put_job(_job(shop, one, _GONE))


def _job(shop: ShopEntry, one: Category, status: str) -> Job:
    digest = hmac.digest(shop.secret, f"category\0{one.external}".encode(), "sha256")
    return Job(
        id=spelt(digest[:16], 24), shop=shop.name, kind=CATEGORY, status=status,
        created=one.created, updated=one.updated,
        detail={"external": one.external, "name": one.name},
    )  # fmt: skip
