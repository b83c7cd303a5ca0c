"""Shops with known truth: customers who buy, tire and leave, and a catalogue they choose from.

`simulate` streams a shop's events, `catalogue` its items, `truth` what really drives them, so
that a forecast can be held against the process that made the events and not only against what
happened. For tests and benchmarks; no claim about a real shop rests on it.

A customer arrives with a first order and orders again as a Poisson process, whose rate is gamma
distributed over customers and follows the shop's season. She leaves either after a repeat order,
with a probability that is beta distributed over customers (BG/NBD: Fader, Hardie and Lee 2005),
or after an exponential lifetime (Pareto/NBD: Schmittlein, Morrison and Colombo 1987). `flat`
makes a shop that is exactly one of the two.
"""

# C customers · V items · K categories · P periods of popularity · N orders · L lines · E events
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import assert_never

import numpy as np
import pyarrow as pa

from habitue import events as nouns
from habitue.lake import schema

DAY = 86_400_000_000                       # microseconds
SECOND = 1_000_000
NEVER = np.iinfo(np.int64).max
BLOCK = 512                                # customers whose randomness is drawn together
_PERIOD_DAYS = 28                          # popularity holds still for four weeks
_BEYOND_DAYS = 800                         # how far past its end a shop's season is known
_STYLES = "red blue ivory rustic vintage striped spotted plain small large classic painted floral"
_VOCABULARY = {                            # category: materials, things
    "kitchen": ("enamel ceramic glass copper", "mug bowl jug teapot tray jar spoon plate whisk"),
    "garden": ("zinc willow terracotta slate", "planter trowel lantern birdhouse trellis bench"),
    "stationery": ("paper card leather linen", "notebook pencil envelope calendar ribbon folder"),
    "toys": ("felt knitted rubber plush", "rabbit rocket puzzle kite drum robot train doll"),
}


@dataclass(frozen=True, slots=True)
class PerOrder:
    """Leaving after a repeat order, with a probability that is Beta(a, b) over customers."""

    a: float = 0.8
    b: float = 5.0


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Leaving after an exponential time, whose daily rate is Gamma(shape, 1 / days)."""

    shape: float = 1.0
    days: float = 200.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ShopConfig:
    """Everything that decides a simulated shop, except its seed."""

    shop: str = "simulated"
    source: str = "simulation"
    currency: str = "GBP"
    customers: int = 500
    items: int = 120
    start: datetime = datetime(2023, 1, 2, tzinfo=UTC)
    days: int = 730
    arrival_days: int = 540              # customers place their first order within these
    rate_shape: float = 0.8              # orders per day while here: Gamma(shape, 1 / days)
    rate_days: float = 30.0
    dropout: PerOrder | Lifetime = PerOrder()
    yearly_amplitude: float = 0.3        # of the order rate around its mean, 0 to 1
    peak_day: int = 335                  # of the year
    weekly_amplitude: float = 0.3
    value_median: float = 40.0           # of an order, major units
    value_spread: float = 0.5            # standard deviation of log value between customers
    value_noise: float = 0.4             # and between one customer's orders
    categories: int = 3                  # at most four, the vocabularies there are
    loyalty: float = 0.7                 # how far a customer keeps to few categories, 0 to 1
    lines: float = 2.5                   # mean lines of an order, at least 1
    repeat: float = 0.35                 # mean share of lines that are something bought before
    popularity_drift: float = 0.8        # amplitude of an item's log popularity
    launched: float = 0.2                # share of items that arrive after the start
    anonymous: float = 0.1               # share of all orders that name no customer, below 1
    refunds: float = 0.03                # share of orders followed by a refund
    views: float = 1.0                   # items viewed per order
    carts: float = 0.3                   # share of orders preceded by a cart


def flat(config: ShopConfig) -> ShopConfig:
    """The same shop without seasons: exactly BG/NBD or Pareto/NBD in days."""
    return replace(config, yearly_amplitude=0.0, weekly_amplitude=0.0)


def simulate(config: ShopConfig, seed: int, *, chunk: int = 8192) -> Iterator[pa.Table]:
    """The shop's events, as tables in the EVENTS schema of at most `chunk` customers each.

    No customer spans two tables, and a customer's rows are in time order. Memory is bounded by
    the chunk. What a customer does depends on the seed and the shop's settings, never on how many
    others there are or how they are cut into chunks.
    """
    shelf = _shelf(config, seed)
    for low in range(0, config.customers, chunk):
        high = min(low + chunk, config.customers)
        blocks = range(low // BLOCK, math.ceil(high / BLOCK))
        drawn = [_block(config, shelf, seed, number) for number in blocks]
        yield pa.concat_tables([_table(config, shelf, b, range(low, high)) for b in drawn])


def catalogue(config: ShopConfig, seed: int) -> pa.Table:
    """The shop's items, one row each from the day it was launched, in the ITEMS schema."""
    shelf = _shelf(config, seed)
    times = pa.array(_start(config) + shelf.launched_day * DAY, schema.TIME)
    digests = [nouns.identity(config.shop, config.source, None, f"item {i}") for i in shelf.items]
    columns = {
        "bucket": [_bucket(config, None, digest) for digest in digests],
        "digest": digests,
        "item": shelf.items,
        "time": times,
        "received": times,
        "title": shelf.titles,
        "category": [tuple(_VOCABULARY)[k] for k in shelf.category],
        "price_minor": shelf.price_minor,
        "currency": pa.repeat(config.currency, len(digests)),
        **_constants(config, len(digests)),
    }
    untold = {name: pa.nulls(len(digests)) for name in schema.ITEMS.names if name not in columns}
    return pa.table(columns | untold).select(schema.ITEMS.names).cast(schema.ITEMS)


def customer_keys(first: int, count: int) -> list[str]:
    """The keys of `count` customers from the `first` on; sorted as strings they keep their order.

    >>> customer_keys(7, 2)
    ['c0000007', 'c0000008']
    """
    return [f"c{number:07d}" for number in range(first, first + count)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Customers:
    """What drives each customer."""

    arrived: np.ndarray                  # (C,) int64 µs, the first order
    rate: np.ndarray                     # (C,) orders per day while here, over the year
    leaving: np.ndarray                  # (C,) chance per repeat order or rate per day
    alive_until: np.ndarray              # (C,) int64 µs, NEVER if she outstays the simulation
    log_value: np.ndarray                # (C,) mean log value of an order, major units
    repeat: np.ndarray                   # (C,) share of lines that are something bought before
    preference: np.ndarray               # (C, K) of categories, rows sum to one


@dataclass(frozen=True, slots=True)
class Season:
    """How much ordering time has passed: days on which the rate was its yearly mean."""

    start: int                           # µs
    passed: np.ndarray                   # at every full hour from the start, in days

    def at(self, times: np.ndarray | int) -> np.ndarray:
        """Ordering days from the start to each time (µs)."""
        hours = (np.asarray(times) - self.start) / (DAY / 24)
        return np.interp(hours, np.arange(len(self.passed)), self.passed)

    def when(self, passed: np.ndarray) -> np.ndarray:
        """The times (µs, whole seconds) at which so many ordering days have passed."""
        hours = np.interp(passed, self.passed, np.arange(len(self.passed)))
        return self.start + (hours * 3600).astype(np.int64) * SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """What the shop sells, and when it sells."""

    season: Season
    items: np.ndarray                    # (V,) str objects, sorted
    titles: list[str]                    # (V,)
    category: np.ndarray                 # (V,) int64
    price_minor: np.ndarray              # (V,) int64
    launched_day: np.ndarray             # (V,) int64, from the start
    popularity: np.ndarray               # (P, V) share of the category's lines, by four weeks

    def period(self, times: np.ndarray | int) -> np.ndarray:
        """The row of `popularity` in force at each time (µs)."""
        days = (np.asarray(times) - self.season.start) // DAY
        return np.clip(days // _PERIOD_DAYS, 0, len(self.popularity) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What drives a simulated shop, and what follows from it.

    Expectations at an instant know whether the customer is still here then, her rate and her way
    of leaving, but not what she will do; before she arrives they are nan.
    """

    config: ShopConfig
    keys: np.ndarray                     # (C,) str objects, sorted
    customers: Customers
    shelf: Shelf

    def alive(self, at: int) -> np.ndarray:
        """(C,) bool: she has arrived and not left at `at` (µs)."""
        return (self.customers.arrived <= at) & (at < self.customers.alive_until)

    def probability_of_order(self, at: int, horizon_days: float) -> np.ndarray:
        """(C,) the probability of at least one order in (at, at + horizon]."""
        return self._known(at, self._orders(at, horizon_days, first_only=True))

    def expected_orders(self, at: int, horizon_days: float) -> np.ndarray:
        """(C,) the expected number of orders in (at, at + horizon]."""
        return self._known(at, self._orders(at, horizon_days, first_only=False))

    def expected_revenue(self, at: int, horizon_days: float) -> np.ndarray:
        """(C,) the expected value of the orders in (at, at + horizon], major units."""
        order_value = np.exp(self.customers.log_value + self.config.value_noise**2 / 2)
        return self.expected_orders(at, horizon_days) * order_value

    def item_preference(self, customers: np.ndarray, at: int) -> np.ndarray:
        """(B, V) the distribution of a line at `at` that is no repeat; rows sum to one."""
        shelf = self.shelf
        popularity = shelf.popularity[shelf.period(at)]
        return self.customers.preference[customers][:, shelf.category] * popularity

    def _orders(self, at: int, horizon_days: float, *, first_only: bool) -> np.ndarray:
        rate, leaving = self.customers.rate, self.customers.leaving
        steps = np.linspace(0.0, horizon_days, max(2, math.ceil(horizon_days) + 1))
        exposure = self.shelf.season.at(at + np.round(steps * DAY)) - self.shelf.season.at(at)
        match self.config.dropout:
            case PerOrder() if first_only:
                return -np.expm1(-rate * exposure[-1])
            case PerOrder():            # still here with exp(-rate × leaving × exposure)
                return -np.expm1(-rate * leaving * exposure[-1]) / leaving
            case Lifetime():            # by the day: exact in the rate, midpoint in the leaving
                total = np.zeros(len(rate))
                for day in range(len(steps) - 1):
                    low, high = exposure[day], exposure[day + 1]
                    first = np.exp(-rate * low) - np.exp(-rate * high)
                    stays = np.exp(-leaving * (steps[day] + steps[day + 1]) / 2)
                    total += (first if first_only else rate * (high - low)) * stays
                return total
            case _:
                assert_never(self.config.dropout)

    def _known(self, at: int, expected: np.ndarray) -> np.ndarray:
        here = np.where(self.alive(at), expected, 0.0)
        return np.where(self.customers.arrived <= at, here, np.nan)


def truth(config: ShopConfig, seed: int) -> Truth:
    """What drives the shop that `simulate(config, seed)` streams."""
    shelf = _shelf(config, seed)
    numbers = range(math.ceil(config.customers / BLOCK))
    blocks = [_block(config, shelf, seed, number).customers for number in numbers]
    columns = {
        field.name: np.concatenate([getattr(b, field.name) for b in blocks])[: config.customers]
        for field in fields(Customers)
    }
    keys = np.array(customer_keys(0, config.customers), dtype=object)
    return Truth(config=config, keys=keys, customers=Customers(**columns), shelf=shelf)


def _start(config: ShopConfig) -> int:
    return (config.start - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _end(config: ShopConfig) -> int:
    return _start(config) + config.days * DAY


def _season(config: ShopConfig) -> Season:
    """By day of the year, by weekday, and asleep at night unless flat."""
    hours = np.arange((config.days + _BEYOND_DAYS) * 24)
    day = hours // 24
    of_year = config.start.timetuple().tm_yday + day
    yearly = config.yearly_amplitude * np.cos(2 * np.pi * (of_year - config.peak_day) / 365.25)
    weekday = config.start.weekday() + day                          # Wednesday is best
    weekly = config.weekly_amplitude * np.cos(2 * np.pi * (weekday - 2) / 7)
    awake = 0.9 if config.yearly_amplitude or config.weekly_amplitude else 0.0
    nightly = awake * np.cos(2 * np.pi * (hours % 24 - 14) / 24)
    pace = (1 + yearly) * (1 + weekly) * (1 + nightly) / 24
    return Season(_start(config), np.concatenate([[0.0], np.cumsum(pace)]))


def _shelf(config: ShopConfig, seed: int) -> Shelf:
    rng = np.random.default_rng([seed, 1])
    count = config.items
    category = rng.permutation(np.arange(count) % min(config.categories, len(_VOCABULARY)))
    launched_day = rng.integers(1, max(config.days, 2), count)
    launched_day[rng.uniform(size=count) >= config.launched] = 0
    launched_day[np.unique(category, return_index=True)[1]] = 0     # no category opens empty
    return Shelf(
        season=_season(config),
        items=np.array([f"i{number:06d}" for number in range(count)], dtype=object),
        titles=[_title(rng, k) for k in category],
        category=category,
        price_minor=np.maximum(rng.lognormal(np.log(800), 0.8, count), 50).astype(np.int64),
        launched_day=launched_day,
        popularity=_popularity(config, rng, category, launched_day),
    )


def _popularity(
    config: ShopConfig, rng: np.random.Generator, category: np.ndarray, launched_day: np.ndarray
) -> np.ndarray:
    """(P, V) Zipf-like within the category, each item drifting along a wave of its own."""
    count = len(category)
    periods = math.ceil((config.days + _BEYOND_DAYS) / _PERIOD_DAYS)
    day = (np.arange(periods) * _PERIOD_DAYS)[:, None]
    wave = 2 * np.pi * (day / rng.uniform(300, 800, count) + rng.uniform(size=count))
    weight = np.exp(config.popularity_drift * np.sin(wave)) / (1 + rng.permutation(count)) ** 0.8
    weight = np.where(day >= launched_day, weight, 0.0)
    for k in np.unique(category):
        weight[:, category == k] /= weight[:, category == k].sum(axis=1, keepdims=True)
    return weight


def _title(rng: np.random.Generator, category: int) -> str:
    materials, things = tuple(_VOCABULARY.values())[category]
    words = (_STYLES.split(), materials.split(), things.split())
    return " ".join(choices[rng.integers(len(choices))] for choices in words)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """BLOCK customers and every order they place, by customer and time."""

    number: int
    rng: np.random.Generator             # continues where the orders left it
    customers: Customers
    order_customer: np.ndarray           # (N,) within the block
    order_time: np.ndarray               # (N,) int64 µs


def _block(config: ShopConfig, shelf: Shelf, seed: int, number: int) -> _Block:
    rng = np.random.default_rng([seed, 2, number])
    season = shelf.season
    came = rng.uniform(size=BLOCK) * season.at(_start(config) + config.arrival_days * DAY)
    rate = rng.gamma(config.rate_shape, 1 / config.rate_days, BLOCK)
    repeats = rng.poisson(rate * np.maximum(season.at(_end(config)) - came, 0))
    customer = np.repeat(np.arange(BLOCK), repeats)
    passed = rng.uniform(came[customer], season.at(_end(config)))
    customer = np.concatenate([np.arange(BLOCK), customer])
    passed = np.concatenate([came, passed])
    order = np.lexsort((passed, customer))
    customer, time = customer[order], season.when(passed[order])
    leaving, alive_until = _departures(config, rng, customer, time)
    stays = time <= alive_until[customer]
    evenness = np.full(int(shelf.category.max()) + 1, 0.15 + 3 * (1 - config.loyalty))
    spread = min(config.repeat, 1 - config.repeat)
    customers = Customers(
        arrived=season.when(came),
        rate=rate,
        leaving=leaving,
        alive_until=np.where(alive_until <= _end(config), alive_until, NEVER),
        log_value=np.log(config.value_median) + config.value_spread * rng.standard_normal(BLOCK),
        repeat=config.repeat + spread * rng.uniform(-1, 1, BLOCK),
        preference=rng.dirichlet(evenness, BLOCK),
    )
    placed = {"order_customer": customer[stays], "order_time": time[stays]}
    return _Block(number=number, rng=rng, customers=customers, **placed)


def _departures(
    config: ShopConfig, rng: np.random.Generator, customer: np.ndarray, time: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How each customer tends to leave, and when she does, given the orders she would place."""
    match config.dropout:
        case PerOrder(a, b):
            leaving = np.clip(rng.beta(a, b, BLOCK), 1e-9, 1.0)
            is_last = _rank(customer) == rng.geometric(leaving)[customer]
            alive_until = np.full(BLOCK, NEVER)
            alive_until[customer[is_last]] = time[is_last]
        case Lifetime(shape, days):
            leaving = np.maximum(rng.gamma(shape, 1 / days, BLOCK), 1e-9)
            stay = np.minimum(rng.standard_exponential(BLOCK) / leaving, 1e6)
            alive_until = time[_rank(customer) == 0] + (stay * DAY).astype(np.int64)
        case _:
            assert_never(config.dropout)
    return leaving, alive_until


@dataclass(frozen=True, slots=True, kw_only=True)
class _Events:
    """Events of one name before they become rows; `host` is the customer within the block."""

    name: str
    host: np.ndarray                     # (E,)
    time: np.ndarray                     # (E,) int64 µs
    item: np.ndarray | None = None       # (E,) what was viewed or put in the cart
    value_minor: np.ndarray | None = None
    anonymous: bool = False              # the host lends its taste, and is not named


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lines:
    """The lines of a block's orders, flat."""

    sizes: np.ndarray                    # (N,) lines of each order
    starts: np.ndarray                   # (N,)
    item: np.ndarray                     # (L,)
    quantity: np.ndarray                 # (L,) int64
    minor: np.ndarray                    # (L,) int64


def _table(config: ShopConfig, shelf: Shelf, block: _Block, wanted: range) -> pa.Table:
    """The rows of those of the block's customers whose numbers are wanted."""
    named = _Events(name=nouns.ORDER_PLACED, host=block.order_customer, time=block.order_time)
    visitors = _visitors(config, shelf, block)
    lines = _lines(config, shelf, block, (named, visitors))
    value = np.add.reduceat(lines.minor, lines.starts)
    known = len(named.host)
    parts = [
        replace(named, value_minor=value[:known]),
        replace(visitors, value_minor=value[known:]),
        _refunds(config, block, value[:known]),
        *_browsing(config, block, lines.item[lines.starts[:known]]),
    ]
    host = np.concatenate([part.host for part in parts]) + block.number * BLOCK
    time = np.concatenate([part.time for part in parts])
    received = time + block.rng.integers(1, 5_000, len(time)) * 1000
    rows = np.lexsort((time, host))
    rows = rows[(host[rows] >= wanted.start) & (host[rows] < wanted.stop)]
    table = pa.concat_tables([_described(config, shelf, part, block.number) for part in parts])
    table = table.append_column("time", pa.array(time, schema.TIME))
    table = table.append_column("received", pa.array(received, schema.TIME))
    table = table.append_column("lines", _line_column(config, shelf, lines, len(time)))
    return table.take(pa.array(rows)).select(schema.EVENTS.names).cast(schema.EVENTS)


def _visitors(config: ShopConfig, shelf: Shelf, block: _Block) -> _Events:
    """Orders that name no customer."""
    per_order = config.anonymous / (1 - config.anonymous)
    host = np.repeat(block.order_customer, block.rng.poisson(per_order, len(block.order_customer)))
    time = shelf.season.when(block.rng.uniform(0, shelf.season.at(_end(config)), len(host)))
    return _Events(name=nouns.ORDER_PLACED, host=host, time=time, anonymous=True)


def _lines(
    config: ShopConfig, shelf: Shelf, block: _Block, orders: tuple[_Events, _Events]
) -> _Lines:
    """What every order holds; a customer's order values are lognormal around her own mean."""
    rng, latent = block.rng, block.customers
    customer = np.concatenate([part.host for part in orders])
    sizes = 1 + rng.poisson(max(config.lines - 1, 0), len(customer))
    starts = np.cumsum(sizes) - sizes
    item = _fresh_items(shelf, block, orders, sizes)

    # a repeat points at one of the customer's lines in earlier orders, which may point further
    opening = np.maximum.accumulate(np.where(_rank(customer) == 0, starts, 0))
    earlier = np.repeat(starts - opening, sizes)
    again = rng.uniform(size=len(item)) < np.repeat(latent.repeat[customer], sizes)
    again &= (earlier > 0) & np.repeat(np.arange(len(customer)) < len(orders[0].host), sizes)
    back = np.repeat(opening, sizes) + (rng.uniform(size=len(item)) * earlier).astype(np.int64)
    origin = np.where(again, back, np.arange(len(item)))
    while not np.array_equal(origin, origin[origin]):
        origin = origin[origin]
    item = item[origin]

    noise = config.value_noise * rng.standard_normal(len(customer))
    scale = 10 ** nouns.currency_exponent(config.currency)
    value = np.exp(latent.log_value[customer] + noise) * scale
    price = shelf.price_minor[item]
    weight = price * rng.uniform(0.5, 1.5, len(item))
    share = weight / np.repeat(np.add.reduceat(weight, starts), sizes)
    minor = np.maximum(np.round(share * np.repeat(value, sizes)), 1).astype(np.int64)
    quantity = np.maximum(np.round(minor / price), 1).astype(np.int64)
    return _Lines(sizes=sizes, starts=starts, item=item, quantity=quantity, minor=minor)


def _fresh_items(
    shelf: Shelf, block: _Block, orders: tuple[_Events, _Events], sizes: np.ndarray
) -> np.ndarray:
    """(L,) a category of the customer's preference, and in it an item by popularity then."""
    who = np.repeat(np.concatenate([part.host for part in orders]), sizes)
    period = np.repeat(shelf.period(np.concatenate([part.time for part in orders])), sizes)
    edges = np.cumsum(block.customers.preference, axis=1)[:, :-1]
    category = (block.rng.uniform(size=len(who))[:, None] > edges[who]).sum(axis=1)
    by_category = np.argsort(shelf.category, kind="stable")
    ends = np.cumsum(np.bincount(shelf.category))
    chance = block.rng.uniform(size=len(who))
    item = np.empty(len(who), dtype=np.int64)
    for k, end in enumerate(ends):
        shelved = by_category[ends[k - 1] if k else 0 : end]
        reach = np.cumsum(shelf.popularity[:, shelved], axis=1)
        reach = reach / reach[:, -1:] + np.arange(len(reach))[:, None]      # ascending throughout
        mine = category == k
        place = np.searchsorted(reach.ravel(), period[mine] + chance[mine], side="right")
        item[mine] = shelved[np.minimum(place - period[mine] * len(shelved), len(shelved) - 1)]
    return item


def _refunds(config: ShopConfig, block: _Block, value_minor: np.ndarray) -> _Events:
    """Part of some orders' value, taken back ten days later in the mean, naming no order."""
    rng = block.rng
    chosen = np.flatnonzero(rng.uniform(size=len(value_minor)) < config.refunds)
    delay = 1 + rng.exponential(10 * DAY / SECOND, len(chosen)).astype(np.int64)
    time = block.order_time[chosen] + delay * SECOND
    taken = -np.maximum((value_minor[chosen] * rng.uniform(0.3, 1, len(chosen))).astype(int), 1)
    kept = time <= _end(config)
    host = block.order_customer[chosen][kept]
    what = nouns.ORDER_REFUNDED
    return _Events(name=what, host=host, time=time[kept], value_minor=taken[kept])


def _browsing(config: ShopConfig, block: _Block, first_item: np.ndarray) -> list[_Events]:
    """Views in the days before an order, as many visits that lead to none, and carts."""
    rng, latent = block.rng, block.customers
    order = np.repeat(np.arange(len(first_item)), rng.poisson(config.views, len(first_item)))
    host = block.order_customer[order]
    lead = 1 + rng.exponential(DAY / SECOND, len(order)).astype(np.int64)
    stay = np.minimum(latent.alive_until[host], _end(config)) - latent.arrived[host]
    visit = latent.arrived[host] + (rng.uniform(size=len(order)) * stay).astype(np.int64)
    is_lone = rng.uniform(size=len(order)) < 0.5
    visit = np.where(is_lone, visit // SECOND * SECOND, block.order_time[order] - lead * SECOND)
    visit = np.maximum(visit, _start(config))
    carted = np.flatnonzero(rng.uniform(size=len(first_item)) < config.carts)
    put = block.order_time[carted] - rng.integers(60, 3600, len(carted)) * SECOND
    put = np.maximum(put, _start(config))
    who = block.order_customer[carted]
    return [
        _Events(name=nouns.ITEM_VIEWED, host=host, time=visit, item=first_item[order]),
        _Events(name=nouns.CART_ADDED, host=who, time=put, item=first_item[carted]),
    ]


def _described(config: ShopConfig, shelf: Shelf, part: _Events, number: int) -> pa.Table:
    """Every column of the events but their times and lines."""
    by_host = np.argsort(part.host, kind="stable")
    rank = np.empty(len(by_host), dtype=np.int64)
    rank[by_host] = _rank(part.host[by_host])
    hosts = customer_keys(number * BLOCK, BLOCK)
    names = [hosts[h] for h in part.host.tolist()]
    kind = "visitor" if part.anonymous else part.name
    ids = [f"{kind}-{name}-{n}" for name, n in zip(names, rank.tolist(), strict=True)]
    keys: list[str | None] = [None if part.anonymous else name for name in names]
    who = (config.shop, config.source)
    digests = [nouns.identity(*who, key, id) for key, id in zip(keys, ids, strict=True)]
    count = len(ids)
    nothing = pa.nulls(count)
    viewed = [] if part.item is None else shelf.items[part.item].tolist()
    properties = [json.dumps({"item": code}) for code in viewed] or ["{}"] * count
    has_value = part.value_minor is not None
    columns = {
        "bucket": [_bucket(config, *pair) for pair in zip(keys, digests, strict=True)],
        "digest": digests,
        "id": ids,
        "customer": pa.array(keys, pa.string()),
        "name": pa.repeat(part.name, count),
        "value_minor": pa.array(part.value_minor if has_value else nothing, pa.int64()),
        "currency": pa.array([config.currency] * count if has_value else nothing, pa.string()),
        "order": pa.array(ids if part.name == nouns.ORDER_PLACED else nothing, pa.string()),
        "properties": properties,
        **_constants(config, count),
    }
    return pa.table(columns, schema=pa.schema([schema.EVENTS.field(name) for name in columns]))


def _constants(config: ShopConfig, rows: int) -> dict[str, pa.Array]:
    held = {"shop": config.shop, "source": config.source, "receipt": "simulation"}
    return {name: pa.repeat(value, rows) for name, value in {**held, "backfilled": False}.items()}


def _bucket(config: ShopConfig, key: str | None, digest: bytes) -> int:
    return nouns.bucket_of(config.shop, key, digest, schema.DEFAULT_BUCKETS)


def _line_column(config: ShopConfig, shelf: Shelf, lines: _Lines, rows: int) -> pa.Array:
    """(rows,) lists of lines: the first rows are the orders, the others have none."""
    scale = 10 ** nouns.currency_exponent(config.currency)
    place = np.arange(len(lines.item)) - np.repeat(lines.starts, lines.sizes)
    content = ((lines.item << 40) ^ (lines.minor << 8) ^ place).astype(np.uint64)
    columns = [
        pa.array(shelf.items, pa.string()).take(pa.array(lines.item)),
        pa.array(lines.quantity.astype(np.float64)).cast(schema.PRICE),
        pa.array(lines.minor / scale / lines.quantity).cast(schema.PRICE),
        pa.array(lines.minor),
        pa.array((content * np.uint64(0x9E3779B97F4A7C15)).view(np.int64)),
    ]
    offsets = np.full(rows + 1, len(lines.item), dtype=np.int32)
    offsets[: len(lines.sizes)] = lines.starts
    is_none = pa.array(np.arange(rows) >= len(lines.sizes))
    struct = pa.StructArray.from_arrays(columns, fields=list(schema.LINE))
    return pa.ListArray.from_arrays(pa.array(offsets), struct, mask=is_none)


def _rank(keys: np.ndarray) -> np.ndarray:
    """How many equal keys stand before each, in runs of equal keys.

    >>> _rank(np.array([4, 4, 7, 7, 7])).tolist()
    [0, 1, 0, 1, 2]
    """
    place = np.arange(len(keys))
    opens = np.ones(len(keys), dtype=bool)
    opens[1:] = keys[1:] != keys[:-1]
    return place - np.maximum.accumulate(np.where(opens, place, 0))
