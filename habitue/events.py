"""The nouns every room shares: Event, Line, Item, Money, Receipt, Rejection, and canonical names.

What comes in beside events (items, links between keys, changes of profiles, consent) is a noun of
its own. Nothing here does I/O. All are frozen; a noun may do arithmetic on itself and nothing else.
"""

import hashlib
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal, TypeAlias

import msgspec

Instant = datetime                       # aware, in UTC
EMPTY = msgspec.Raw(b"{}")
NO_CURRENCY = "XXX"                        # ISO 4217: no currency involved

ITEM_VIEWED = "item_viewed"
ITEMS_SEARCHED = "items_searched"
CART_ADDED = "cart_added"
CHECKOUT_STARTED = "checkout_started"
ORDER_PLACED = "order_placed"
ORDER_UPDATED = "order_updated"          # more lines of an order that is already known
ORDER_REFUNDED = "order_refunded"        # value taken back at its own time, naming no order
ORDER_CANCELLED = "order_cancelled"      # names an order and removes it from then on
ITEM_ORDERED = "item_ordered"            # one line of an order, told apart; joins its order
MESSAGE_SENT = "message_sent"
MESSAGE_DELIVERED = "message_delivered"
MESSAGE_OPENED = "message_opened"
MESSAGE_CLICKED = "message_clicked"
UNSUBSCRIBED = "unsubscribed"
RECOMMENDATIONS_SHOWN = "recommendations_shown"    # told of a list of items, done by nobody

CANONICAL_NAMES = (
    ITEM_VIEWED, ITEMS_SEARCHED, CART_ADDED, CHECKOUT_STARTED, ORDER_PLACED, ORDER_UPDATED,
    ORDER_REFUNDED, ORDER_CANCELLED, ITEM_ORDERED, MESSAGE_SENT, MESSAGE_DELIVERED, MESSAGE_OPENED,
    MESSAGE_CLICKED, UNSUBSCRIBED, RECOMMENDATIONS_SHOWN,
)

# ISO 4217 currencies whose minor unit is not a hundredth
_WITHOUT = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THOUSANDTHS = "BHD IQD JOD KWD LYD OMR TND"
_EXPONENTS = {**dict.fromkeys(_WITHOUT.split(), 0), **dict.fromkeys(_THOUSANDTHS.split(), 3)}


def currency_exponent(currency: str) -> int:
    """Decimal places of a currency's minor unit (ISO 4217): 2 for GBP, 0 for JPY, 3 for KWD."""
    return _EXPONENTS.get(currency, 2)


class Money(msgspec.Struct, frozen=True, gc=False):
    """An amount in integer minor units of a currency.

    >>> Money.of(Decimal("2.345"), "GBP")
    Money(minor=234, currency='GBP')
    >>> Money(150, "GBP") + Money(50, "GBP")
    Money(minor=200, currency='GBP')
    """

    minor: int
    currency: str                        # ISO 4217, upper case

    @classmethod
    def of(cls, major: Decimal, currency: str) -> "Money":
        """Major units, rounded half-even to the currency's exponent."""
        scaled = major.scaleb(currency_exponent(currency))
        return cls(int(scaled.to_integral_value(ROUND_HALF_EVEN)), currency)

    def __add__(self, other: "Money") -> "Money":
        if self.currency != other.currency:
            raise ValueError(f"cannot add {other.currency} to {self.currency}")
        return Money(self.minor + other.minor, self.currency)


class Line(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line of an order."""

    item: str
    quantity: Decimal
    unit_price: Decimal                  # major units, at most six decimals
    amount: Money                        # quantity * unit_price, rounded half-even


class Event(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="event"
):
    """One thing one customer did, or that was done to them. Appended once, never changed."""

    shop: str
    source: str
    id: str                              # unique within its source and customer
    customer: str | None                 # the key as the source sent it, before identity resolution
    name: str                            # canonical, past tense: "order_placed"
    time: Instant                        # when it happened, by the source's clock
    received: Instant                    # when it reached us, by ours
    backfilled: bool = False
    value: Money | None = None
    order: str | None = None
    lines: tuple[Line, ...] = ()
    properties: msgspec.Raw = EMPTY      # free-form JSON, as it came

    @property
    def digest(self) -> bytes:
        """This event's identity, for ever: 16 bytes."""
        return identity(self.shop, self.source, self.customer, self.id)


class Item(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="item"
):
    """What is known of an item from `time` on; None is not told, and leaves what was known."""

    shop: str
    source: str
    item: str
    time: Instant
    received: Instant
    backfilled: bool = False
    title: str | None = None
    category: str | None = None
    brand: str | None = None
    price: Money | None = None
    stock: int | None = None
    image: str | None = None             # its address
    published: bool | None = None

    @property
    def digest(self) -> bytes:
        """This change's identity: all of its content except when it reached us."""
        price = None if self.price is None else (self.price.minor, self.price.currency)
        told = (self.title, self.category, self.brand, price, self.stock, self.image)
        return _content("item", self.shop, self.source, self.item, self.time, told, self.published)


class Identifier(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="identifier"
):
    """The raw email or phone behind a surrogate key; kept nowhere else."""

    shop: str
    key: str                             # "email:…" or "phone:…", as in Event.customer
    kind: Literal["email", "phone"]
    value: str                           # normalised
    time: Instant
    received: Instant

    @property
    def digest(self) -> bytes:
        """One per key: telling it again changes nothing."""
        return _content("identifier", self.shop, self.key)


class Link(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="link"
):
    """Two keys belong to one customer from `time` on, or no longer do."""

    shop: str
    source: str
    key: str
    other: str
    time: Instant
    received: Instant
    cause: str                           # "event", "identify", "alias", "import", "person"
    undo: bool = False                   # from `time` on, what linked these two keys is void
    public: bool = False                 # said with a public key, which may do less
    backfilled: bool = False

    @property
    def digest(self) -> bytes:
        """This link's identity: all of its content except when it reached us."""
        pair = (min(self.key, self.other), max(self.key, self.other))
        said = (self.cause, self.undo, self.public)
        return _content("link", self.shop, self.source, pair, self.time, said)

    @property
    def deliberate(self) -> bool:
        """Said by a person or by an alias call, not in passing by an event or an identify call.

        Only such a link makes two keys one again after an undo.
        """
        return self.cause == "alias" or self.cause.startswith("person")


class ProfileChange(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="profile"
):
    """Properties of a customer that were set, cleared or extended at `time`."""

    shop: str
    source: str
    customer: str
    time: Instant
    received: Instant
    backfilled: bool = False
    put: msgspec.Raw = EMPTY             # JSON object: property -> its new value
    clear: tuple[str, ...] = ()          # properties that are no more
    append: msgspec.Raw = EMPTY          # JSON object: property -> value or values to add to a list
    unappend: msgspec.Raw = EMPTY        # … and to take out of one

    @property
    def digest(self) -> bytes:
        """This change's identity: all of its content except when it reached us."""
        told = [bytes(raw).decode() for raw in (self.put, self.append, self.unappend)]
        return _content(
            "profile", self.shop, self.source, self.customer, self.time, told, self.clear
        )


CHANNELS = ("email", "sms", "push", "whatsapp")


class Consent(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="consent"
):
    """Whether a customer may be written to through a channel, from `time` on."""

    shop: str
    source: str
    customer: str
    channel: Literal["email", "sms", "push", "whatsapp"]
    status: Literal["subscribed", "unsubscribed", "never_subscribed"]
    time: Instant
    received: Instant
    backfilled: bool = False
    method: str | None = None            # how it was given, as the source tells it

    @property
    def digest(self) -> bytes:
        """This consent's identity: all of its content except when it reached us."""
        said = (self.channel, self.status, self.method)
        return _content("consent", self.shop, self.source, self.customer, self.time, said)


Noun: TypeAlias = Event | Item | Identifier | Link | ProfileChange | Consent


PAYLOAD_BYTES = 65_536


class Rejection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One input that was not taken, and why."""

    position: int                        # row of the file or place in the batch, from 0
    pointer: str                         # the column or JSON pointer at fault
    reason: str                          # from a small vocabulary: "bad_time", "no_order", …
    payload: str                         # the input as it came, cut at PAYLOAD_BYTES
    detail: str = ""                     # a sentence for whoever sent it; not in the lake


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one batch. appended + duplicate + rejected = rows, always."""

    id: str
    shop: str
    source: str
    rows: int
    appended: int
    duplicate: int
    rejected: int
    reasons: dict[str, int] = {}         # of the rejected, by reason
    events: int = 0                      # events that the appended rows became
    items: int = 0                       # catalogue rows appended


def identity(shop: str, source: str, customer: str | None, event_id: str) -> bytes:
    """The 16-byte digest that names an event (DESIGN: shop, source, customer key as sent, id).

    Parts are length-prefixed, so no two different tuples share an encoding; no customer differs
    from the empty key.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in (shop, source, customer, event_id):
        encoded = b"\xff" if part is None else part.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return digest.digest()


def bucket_of(shop: str, customer: str | None, digest: bytes, buckets: int) -> int:
    """The lake's bucket: hash(shop, customer key as sent), or of the digest without a customer."""
    if customer is None:
        return int.from_bytes(digest[:8], "big") % buckets
    key = hashlib.blake2b(f"{len(shop)}:{shop}{customer}".encode(), digest_size=8).digest()
    return int.from_bytes(key, "big") % buckets


def _content(kind: str, *parts: object) -> bytes:
    """16 bytes that name what is known by its content alone."""
    encoded = msgspec.msgpack.encode((kind, *parts))
    return hashlib.blake2b(encoded, digest_size=16).digest()
