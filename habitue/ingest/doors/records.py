"""The records of our own protocol: what each kind may hold, and the nouns that it becomes.

docs/guides/events.md describes them for whoever sends them.
"""

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeAlias

import msgspec

from habitue.events import (
    EMPTY,
    Consent,
    Event,
    Instant,
    Item,
    Line,
    Money,
    Noun,
    ProfileChange,
)
from habitue.ingest.doors import fields
from habitue.ingest.doors.commerce import MOST_LINES, Bought, settled
from habitue.ingest.doors.faults import Fault
from habitue.ingest.doors.fields import Told, Window
from habitue.ingest.doors.intake import Door, check_public
from habitue.ingest.doors.keys import (
    ID_CHARACTERS,
    Names,
    Said,
    Who,
    identify,
    linked,
    readable_id,
    stitched,
)
from habitue.ingest.doors.names import canonical

NAME_CHARACTERS = 128
TEXT_CHARACTERS = 2_000                    # of a title, category, brand or address
MOST_WITHOUT_ID = 1_000_000                # records of one request; their digests are remembered

Id: TypeAlias = str | int | None
Time: TypeAlias = str | int | float | None
_POINTERS = {"external": "/customer", "email": "/email", "phone": "/phone",
             "anonymous": "/anonymous_id"}  # fmt: skip


class Minor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An amount that is in minor units already."""

    minor: int
    currency: str | None = None


class SentLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A line of an order."""

    item: str | int
    quantity: Decimal | None = None
    unit_price: Decimal | None = None      # major units
    amount: Decimal | None = None          # major units; quantity * unit price if not told


class SentKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a record names its customer."""

    customer: Id = None                    # the shop's own id
    email: str | None = None
    phone: str | None = None               # E.164
    anonymous_id: Id = None


class SentEvent(SentKeys, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Something that a customer did, or that was done to them."""

    kind: Literal["event"] = "event"
    id: Id = None
    name: str | None = None
    type: str | None = None                # another word for name
    time: Time = None
    value: Decimal | Minor | None = None   # major units, or {"minor": …}
    currency: str | None = None
    order: Id = None
    item: Id = None                        # a line of one item, in short
    lines: list[SentLine] | None = None
    properties: msgspec.Raw = EMPTY
    backfill: bool = False


class SentItem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of an item from `time` on."""

    kind: Literal["item"]
    item: str | int
    time: Time = None
    title: str | None = None
    category: str | None = None
    brand: str | None = None
    price: Decimal | Minor | None = None
    currency: str | None = None
    stock: int | None = None
    image: str | None = None
    published: bool | None = None
    backfill: bool = False


class SentProfile(SentKeys, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Properties of a customer that were set, cleared or extended."""

    kind: Literal["profile"]
    time: Time = None
    set: msgspec.Raw = EMPTY
    clear: list[str] = []
    append: msgspec.Raw = EMPTY
    unappend: msgspec.Raw = EMPTY
    backfill: bool = False


class SentConsent(SentKeys, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether a customer may be written to through a channel."""

    kind: Literal["consent"]
    channel: Literal["email", "sms", "push", "whatsapp"]
    status: Literal["subscribed", "unsubscribed", "never_subscribed"]
    time: Time = None
    method: str | None = None
    backfill: bool = False


class SentLink(SentKeys, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That keys are one customer, or (undo) no longer are."""

    kind: Literal["link"]
    other: SentKeys | None = None          # further keys, also of the same kind
    time: Time = None
    undo: bool = False
    backfill: bool = False


Sent: TypeAlias = SentEvent | SentItem | SentProfile | SentConsent | SentLink


class Occurrences:
    """How often each content came without an id, over all portions of one request."""

    def __init__(self) -> None:
        """Nothing came yet."""
        self._counts: dict[bytes, int] = {}

    def next_of(self, content: bytes) -> int | None:
        """The number of this occurrence, from 1; None if too many came to remember them."""
        known = self._counts.get(content, 0)
        if not known and len(self._counts) >= MOST_WITHOUT_ID:
            return None
        self._counts[content] = known + 1
        return known + 1


@dataclass(frozen=True, slots=True)
class Request:
    """What all records of one request share."""

    door: Door
    window: Window
    seen: Occurrences


def nouns(sent: Sent, request: Request, faults: list[Fault]) -> tuple[Noun, ...]:
    """What a record becomes; faults say what is wrong with it, and then nothing else counts."""
    if request.door.public and (sent.backfill or not isinstance(sent, (SentEvent, SentProfile))):
        _check_public(sent, faults)
    found = _nouns(sent, request, faults)
    check_public(found, request.door, faults)
    return found


def _nouns(sent: Sent, request: Request, faults: list[Fault]) -> tuple[Noun, ...]:
    match sent:
        case SentEvent():
            return _event(sent, request, faults)
        case SentItem():
            return _item(sent, request, faults)
        case SentProfile():
            return _profile(sent, request, faults)
        case SentConsent():
            return _consent(sent, request, faults)
        case SentLink():
            return _link(sent, request, faults)


def _check_public(sent: Sent, faults: list[Fault]) -> None:
    """A key that anyone can read may tell what happens, and nothing of what the shop decides."""
    detail = "this needs a secret key"
    if sent.backfill:
        faults.append(Fault("/backfill", "forbidden_with_public_key", detail))
    match sent:
        case SentItem() | SentConsent():
            faults.append(Fault("/kind", "forbidden_with_public_key", detail))
        case SentLink(undo=True):
            faults.append(Fault("/undo", "forbidden_with_public_key", detail))


def _event(sent: SentEvent, request: Request, faults: list[Fault]) -> tuple[Noun, ...]:
    door = request.door
    name = _name(sent, faults)
    who = _who(sent, door, faults)
    time = door.received if sent.time is None else _time(sent.time, request, faults)
    of = fields.currency(sent.currency, "/currency", faults) or door.currency
    called = canonical(door.source, name, door.names) if name else ""
    lines = _lines(sent, of, faults) if sent.lines is not None or sent.item is not None else ()
    value = None if sent.value is None else _money(sent.value, of, "/value", faults)
    properties = sent.properties
    if properties is not EMPTY:
        properties = fields.properties(properties, "/properties", faults)
    order = None if sent.order is None else _id(sent.order, "/order", faults)
    own = None if sent.id is None else _id(sent.id, "/id", faults)
    if faults or name is None or time is None:
        return ()
    key = None if who is None else who.key
    if own is None:
        content = (name, key, time, value, order, lines, _sorted(properties))
        own = derived_id(content, request.seen, faults)
    bought = settled(Bought(called, order, value, lines), "/lines", faults)
    if faults or own is None:
        return ()
    event = Event(
        shop=door.shop, source=door.source, id=own, customer=key, name=bought.name, time=time,
        received=door.received, backfilled=sent.backfill, value=bought.value, order=bought.order,
        lines=bought.lines, properties=properties,
    )  # fmt: skip
    if who is None or not (who.others or who.raw):
        return (event,)
    said = Said(time=time, cause="event", backfilled=sent.backfill)
    return (event, *stitched(who, said, door))


def _item(sent: SentItem, request: Request, faults: list[Fault]) -> tuple[Noun, ...]:
    door = request.door
    item = _id(sent.item, "/item", faults)
    time = _time(sent.time, request, faults)
    of = fields.currency(sent.currency, "/currency", faults) or door.currency
    price = _money(sent.price, of, "/price", faults)
    told = {
        name: fields.text(getattr(sent, name), TEXT_CHARACTERS, f"/{name}", faults)
        for name in ("title", "category", "brand", "image")
    }
    if sent.stock is not None and not abs(sent.stock) < 1 << 63:
        faults.append(Fault("/stock", "bad_number", "a whole number below 2^63 was wanted"))
    if faults or item is None or time is None:
        return ()
    return (
        Item(
            shop=door.shop, source=door.source, item=item, time=time, received=door.received,
            backfilled=sent.backfill, title=told["title"], category=told["category"],
            brand=told["brand"], image=told["image"], price=price, stock=sent.stock,
            published=sent.published,
        ),
    )  # fmt: skip


def _profile(sent: SentProfile, request: Request, faults: list[Fault]) -> tuple[Noun, ...]:
    door = request.door
    who = _someone(sent, door, faults)
    time = _time(sent.time, request, faults)
    put, append, unappend = (
        fields.properties(getattr(sent, name), f"/{name}", faults)
        for name in ("set", "append", "unappend")
    )
    for place, name in enumerate(sent.clear):
        fields.text(name, NAME_CHARACTERS, f"/clear/{place}", faults)
    if faults or who is None or time is None:
        return ()
    change = ProfileChange(
        shop=door.shop, source=door.source, customer=who.key, time=time, received=door.received,
        backfilled=sent.backfill, put=put, clear=tuple(sent.clear), append=append,
        unappend=unappend,
    )  # fmt: skip
    said = Said(time=time, cause="identify", backfilled=sent.backfill)
    return (change, *stitched(who, said, door))


def _consent(sent: SentConsent, request: Request, faults: list[Fault]) -> tuple[Noun, ...]:
    door = request.door
    who = _someone(sent, door, faults)
    time = _time(sent.time, request, faults)
    method = fields.text(sent.method, TEXT_CHARACTERS, "/method", faults)
    if faults or who is None or time is None:
        return ()
    consent = Consent(
        shop=door.shop, source=door.source, customer=who.key, channel=sent.channel,
        status=sent.status, time=time, received=door.received, backfilled=sent.backfill,
        method=method,
    )  # fmt: skip
    said = Said(time=time, cause="identify", backfilled=sent.backfill)
    return (consent, *stitched(who, said, door))


def _link(sent: SentLink, request: Request, faults: list[Fault]) -> tuple[Noun, ...]:
    door = request.door
    who = _someone(sent, door, faults)
    more = None if sent.other is None else _who(sent.other, door, faults, "/other")
    time = _time(sent.time, request, faults)
    if faults or who is None or time is None:
        return ()
    further = () if more is None else (more.key, *more.others)
    others = [key for key in (*who.others, *further) if key != who.key]
    if not others:
        faults.append(Fault("", "no_customer", "a link names two keys of a customer"))
        return ()
    said = Said(time=time, cause="alias", backfilled=sent.backfill)
    links = [linked(who.key, other, said, door, undo=sent.undo) for other in others]
    raw = who.raw if more is None else (*who.raw, *more.raw)
    return (*links, *stitched(Who(who.key, (), raw), said, door))


def _name(sent: SentEvent, faults: list[Fault]) -> str | None:
    name = sent.type if sent.name is None else sent.name
    if not name or (sent.type is not None and sent.name is not None):
        faults.append(Fault("/name", "no_name", "an event has a name, or a type, not both"))
        return None
    return fields.text(name, NAME_CHARACTERS, "/name", faults)


def _who(sent: SentKeys, door: Door, faults: list[Fault], under: str = "") -> Who | None:
    own = sent.customer
    if sent.email is None and sent.phone is None and sent.anonymous_id is None:
        if own is None:
            return None
        if type(own) is str and 0 < len(own) < ID_CHARACTERS and own.isalnum():
            return Who(own)                   # nothing but letters and digits: has no prefix
    names = Names(external=own, email=sent.email, phone=sent.phone, anonymous=sent.anonymous_id)
    pointers = {kind: under + at for kind, at in _POINTERS.items()} if under else _POINTERS
    return identify(names, door, pointers, faults)


def _someone(sent: SentKeys, door: Door, faults: list[Fault]) -> Who | None:
    known = len(faults)
    who = _who(sent, door, faults)
    if who is None and len(faults) == known:
        faults.append(Fault("", "no_customer", "name a customer, email, phone or anonymous_id"))
    return who


def _time(value: Time, request: Request, faults: list[Fault]) -> Instant | None:
    if value is None:
        return request.door.received
    return fields.time(value, request.window, "/time", faults)


def _id(value: Id, pointer: str, faults: list[Fault]) -> str | None:
    found = readable_id(value)
    if found is None:
        detail = f"an id is text of 1 to {ID_CHARACTERS} characters, or a whole number"
        faults.append(Fault(pointer, "bad_identifier", detail))
    return found


def _money(
    value: Decimal | Minor | None, of: str | None, pointer: str, faults: list[Fault]
) -> Money | None:
    if not isinstance(value, Minor):
        return fields.money(value, of, pointer, faults)
    own = fields.currency(value.currency, f"{pointer}/currency", faults)
    return fields.minor(value.minor, own or of, f"{pointer}/minor", faults)


def _lines(sent: SentEvent, of: str | None, faults: list[Fault]) -> tuple[Line, ...]:
    told = sent.lines or []
    if sent.item is not None:
        told = [SentLine(sent.item), *told]
    if len(told) > MOST_LINES:
        faults.append(Fault("/lines", "too_many", f"at most {MOST_LINES} lines"))
        return ()
    read = [
        fields.line(
            Told(item=one.item, quantity=one.quantity, unit_price=one.unit_price,
                 amount=one.amount),
            of, f"/lines/{place}", faults,
        )
        for place, one in enumerate(told)
    ]  # fmt: skip
    return tuple(line for line in read if line is not None)


def derived_id(content: tuple[object, ...], seen: Occurrences, faults: list[Fault]) -> str | None:
    """The id of an event that has none: its whole content, and its occurrence in the request."""
    digest = hashlib.blake2b(msgspec.msgpack.encode(content), digest_size=16).digest()
    occurrence = seen.next_of(digest)
    if occurrence is None:
        detail = f"at most {MOST_WITHOUT_ID} events without an id in one request"
        faults.append(Fault("/id", "too_many", detail))
        return None
    return f"{digest.hex()}-{occurrence}"


def _sorted(properties: msgspec.Raw) -> bytes:
    """The same for objects that differ in order and spaces only."""
    if properties is EMPTY:
        return b"{}"
    return msgspec.json.encode(msgspec.json.decode(properties), order="sorted")
