"""The catalogue as Klaviyo's clients write it: items, their variants, one or many at once.

Each write is a change of what is known from when it came; what it leaves out stays as it was. An
item that is deleted is no longer published. A variant is an item of its own.
"""

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from habitue.events import NO_CURRENCY, Item, Money
from habitue.ingest.doors.fields import money
from habitue.ingest.doors.intake import Door, Intake
from habitue.ingest.doors.keys import readable_id
from habitue.ingest.doors.klaviyo.problems import Refused
from habitue.ingest.doors.klaviyo.reading import (
    MOST_ITEMS,
    MOST_METADATA_BYTES,
    At,
    document,
    whole,
)
from habitue.lake.eventlog.records import Entry

Reads: TypeAlias = Callable[[At, Door], Item | None]

MOST_CATEGORIES = 1_000                    # that one item is put in
ID_PREFIX = "$custom:::$default:::"        # of every id that the API shows
_IMAGES = ("image_full_url", "image_thumbnail_url")
_BRANDS = ("brand", "Brand", "vendor", "Vendor")


def item_id(external: str) -> str:
    """The id by which the API shows an item.

    >>> item_id("SKU1")
    '$custom:::$default:::SKU1'
    """
    return f"{ID_PREFIX}{external}"


def external_of(shown: str) -> str | None:
    """The item behind an id that the API shows; None if it is no such id.

    >>> external_of("$custom:::$default:::SKU1"), external_of("SKU1")
    ('SKU1', None)
    """
    parts = shown.split(":::", 2)
    return readable_id(parts[2]) if len(parts) == 3 else None


def create_item(body: bytes, door: Door) -> Intake:
    """POST /api/catalog-items and /api/catalog-variants.

    Raises:
        Refused: nothing was taken; it holds every problem.
    """
    return _one(body, door, _created)


def update_item(body: bytes, door: Door) -> Intake:
    """PATCH /api/catalog-items/{id} and /api/catalog-variants/{id}; the body holds the id, too.

    Raises:
        Refused: nothing was taken; it holds every problem.
    """
    return _one(body, door, item_of)


def delete_item(shown: str, door: Door) -> Intake:
    """DELETE /api/catalog-items/{id} and /api/catalog-variants/{id}, which have no body.

    Raises:
        Refused: the id is none that the API shows.
    """
    at = At({"id": shown})
    item = _deleted(at, door)
    if item is None:
        raise Refused(at.faults, status=404)
    return _intake([item], at)


def create_items(body: bytes, door: Door) -> Intake:
    """POST /api/catalog-item-bulk-create-jobs and /api/catalog-variant-bulk-create-jobs.

    Raises:
        Refused: nothing was taken; it holds every problem.
    """
    return _many(body, door, "create", _created)


def update_items(body: bytes, door: Door) -> Intake:
    """POST /api/catalog-item-bulk-update-jobs and /api/catalog-variant-bulk-update-jobs.

    Raises:
        Refused: nothing was taken; it holds every problem.
    """
    return _many(body, door, "update", item_of)


def delete_items(body: bytes, door: Door) -> Intake:
    """POST /api/catalog-item-bulk-delete-jobs and /api/catalog-variant-bulk-delete-jobs.

    Raises:
        Refused: nothing was taken; it holds every problem.
    """
    return _many(body, door, "delete", _deleted)


def item_of(resource: At, door: Door, *, backfilled: bool = False) -> Item | None:
    """The change that a catalogue resource tells; None where it has a fault."""
    before = len(resource.faults)
    attributes = resource["attributes"]
    item = _external(resource)
    # the read API says when; a client's change is of now
    time = attributes["updated"].instant(door.received) if backfilled else None
    metadata = attributes["custom_metadata"]
    if metadata.object() and len(msgspec.json.encode(metadata.value)) > MOST_METADATA_BYTES:
        metadata.fault("too_large", f"It may have at most {MOST_METADATA_BYTES:,} bytes.")
    brands = (metadata[name].value for name in _BRANDS)
    change = Item(
        shop=door.shop,
        source=door.source,
        item=item or "",
        time=time or door.received,
        received=door.received,
        backfilled=backfilled,
        title=attributes["title"].text(),
        category=_category(resource),
        brand=next((one for one in brands if isinstance(one, str) and one), None),
        price=_price(attributes["price"], door),
        stock=_stock(attributes["inventory_quantity"]),
        image=_image(attributes),
        published=attributes["published"].flag(),
    )
    return change if len(resource.faults) == before else None


def _created(resource: At, door: Door) -> Item | None:
    """As any change; but some attributes are needed, and it is published unless told otherwise."""
    attributes = resource["attributes"]
    attributes.object(needed=True)
    for name in ("external_id", "title", "url"):
        attributes[name].text(needed=True)
    item = item_of(resource, door)
    if item is not None and item.published is None:
        return msgspec.structs.replace(item, published=True)
    return item


def _deleted(resource: At, door: Door) -> Item | None:
    item = _external(resource)
    if item is None:
        return None
    return Item(
        shop=door.shop, source=door.source, item=item, time=door.received,
        received=door.received, published=False,
    )


def _external(resource: At) -> str | None:
    """The item that a resource is about: by its id, or where it has none by its external id."""
    place = resource["id"] if resource["id"].is_told else resource / "attributes/external_id"
    found = place.value
    if resource["id"].is_told:
        found = external_of(found) if isinstance(found, str) else None
    found = readable_id(found) if isinstance(found, str) else None
    if found is None:
        wanted = item_id("<external id>") if resource["id"].is_told else "a string, and not empty"
        place.fault("no_item", f"An item's id must be {wanted}.")
    return found


def _category(resource: At) -> str | None:
    """The first category that the item is put in."""
    place = resource / "relationships/categories/data"
    for category in place.elements(MOST_CATEGORIES, needed=False):
        shown = category["id"].text(needed=True)
        return None if shown is None else external_of(shown) or shown
    return None


def _price(at: At, door: Door) -> Money | None:
    if isinstance(at.value, str | bool):
        at.fault("bad_amount", "'price' must be a number.")
        return None
    return money(at.value, door.currency or NO_CURRENCY, at.pointer, at.faults)


def _stock(at: At) -> int | None:
    if not at.is_told:
        return None
    value = at.value
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) >= 1 << 53:
        at.fault("bad_amount", "'inventory_quantity' must be a number.")
        return None
    return int(value)


def _image(attributes: At) -> str | None:
    told = [attributes[name].text() for name in _IMAGES]
    further = attributes["images"].value
    told += [one for one in further if isinstance(one, str)] if isinstance(further, list) else []
    return next((one for one in told if one), None)


def _one(body: bytes, door: Door, read: Reads) -> Intake:
    data = document(body)
    if data["type"].value not in ("catalog-item", "catalog-variant"):
        data["type"].fault("unknown_kind", "'type' must be 'catalog-item' or 'catalog-variant'.")
    return _intake([read(data, door)], data)


def _many(body: bytes, door: Door, verb: str, read: Reads) -> Intake:
    data = document(body)
    kind = "variant" if data["type"].value == f"catalog-variant-bulk-{verb}-job" else "item"
    attributes = data.resource(f"catalog-{kind}-bulk-{verb}-job")
    items: list[Item | None] = []
    for resource in (attributes / f"{kind}s/data").elements(MOST_ITEMS):
        resource.resource(f"catalog-{kind}")
        items.append(read(resource, door))
    return _intake(items, data)


def _intake(items: list[Item | None], data: At) -> Intake:
    return whole(
        [None if item is None else Entry(place, (item,)) for place, item in enumerate(items)], data
    )
