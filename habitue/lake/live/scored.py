"""What was worked out of customers and items last, ready to be read in a millisecond.

One process writes, any number read. What is kept is bytes: whoever puts them in knows what they
say. It is derived, and made anew from the lake and the live state when in doubt.
"""

import sqlite3
import threading
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

SCORES_FILE = "scores.sqlite"
_WAIT_SECONDS = 30.0
_FORMAT = 4
_AT_ONCE = 1_000                           # rows of one transaction

_TABLES = """
-- one row per shop that was scored as a whole, and the number under which its rows below stand;
-- those of the next number are put beside them, and count when they are complete
CREATE TABLE IF NOT EXISTS shops (
    shop TEXT PRIMARY KEY, number INTEGER NOT NULL, told BLOB NOT NULL) WITHOUT ROWID;

-- one row per customer with a score, by the key that names them
CREATE TABLE IF NOT EXISTS customers (
    shop TEXT, customer TEXT, number INTEGER NOT NULL, anchor INTEGER NOT NULL,
    scored INTEGER NOT NULL, curve BLOB NOT NULL, listed BLOB NOT NULL,
    PRIMARY KEY (shop, customer, number)) WITHOUT ROWID;

-- one row per item
CREATE TABLE IF NOT EXISTS items (
    shop TEXT, item TEXT, number INTEGER NOT NULL, title TEXT NOT NULL, category TEXT NOT NULL,
    sold REAL NOT NULL, again INTEGER NOT NULL, reads_like TEXT NOT NULL,
    similar BLOB NOT NULL,
    PRIMARY KEY (shop, item, number)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS items_by_sold ON items (shop, number, sold);
CREATE INDEX IF NOT EXISTS items_by_category ON items (shop, number, category, sold);

-- one row per customer whose score is another one, or none any more, than whoever follows was told;
-- turn 0: of one customer, 1: of a whole shop, 2: set aside
CREATE TABLE IF NOT EXISTS news (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, shop TEXT NOT NULL, customer TEXT NOT NULL,
    turn INTEGER NOT NULL, UNIQUE (shop, customer));
CREATE INDEX IF NOT EXISTS news_in_turn ON news (turn, sequence);
"""
_TABLE_NAMES = ("shops", "customers", "items", "news")
_SINGLE, _WHOLE, _ASIDE = 0, 1, 2          # turns

_CUSTOMERS = """
-- one row per customer of some with a score
SELECT shops.told, customer, anchor, scored, curve, listed
FROM shops JOIN customers USING (shop, number)
WHERE shop = ? AND customer IN (SELECT value FROM json_each(?))
"""
_ITEMS = """
-- one row per item of some that are known
SELECT item, title, category, sold, again, reads_like, {similar}
FROM shops JOIN items USING (shop, number)
WHERE shop = ? AND item IN (SELECT value FROM json_each(?))
"""
_BEST = """
-- one row per item of a shop, perhaps of one category, what sold most first
SELECT item, title, category, sold, again, reads_like, x''
FROM shops JOIN items USING (shop, number)
WHERE shop = ?{more} ORDER BY sold DESC LIMIT ? OFFSET ?
"""
_NEWS = """
-- one row per customer of whom something is told, with the score that is in force
SELECT sequence, news.shop, news.customer, customers.number, anchor, curve
FROM news LEFT JOIN shops ON shops.shop = news.shop
LEFT JOIN customers ON customers.shop = news.shop AND customers.customer = news.customer
    AND customers.number = shops.number
WHERE turn < 2 ORDER BY turn, sequence LIMIT ?
"""
# what is put beside the scores in force is no news before it counts
_TELL = f"""
INSERT OR REPLACE INTO news (shop, customer, turn)
SELECT shop, ?, {_SINGLE} FROM shops WHERE shop = ? AND number = ?
"""
_TELL_GONE = f"INSERT OR REPLACE INTO news (shop, customer, turn) VALUES (?, ?, {_SINGLE})"
_TELL_ALL = f"""
INSERT OR REPLACE INTO news (shop, customer, turn)
SELECT DISTINCT customers.shop, customers.customer, min(coalesce(news.turn, {_WHOLE}), {_WHOLE})
FROM customers LEFT JOIN news USING (shop, customer) WHERE customers.shop = ? AND number <= ?
"""
_DROP = "DELETE FROM {table} WHERE shop = ? AND customer = ?"
_COUNT = "SELECT count(*) FROM shops JOIN customers USING (shop, number) WHERE shop = ?"


class ScoredCustomer(NamedTuple):
    """One customer's numbers: the curve read at `anchor`, and the items listed, best first."""

    customer: str
    anchor: int                            # µs
    scored: int                            # µs, when
    curve: bytes
    listed: bytes


class ScoredItem(NamedTuple):
    """One item as it was when the shop was scored as a whole."""

    item: str
    title: str                             # "" where unknown
    category: str
    sold: float                            # orders within 28 days; of a new one what it borrows
    again: bool                            # whether who bought it buys it again
    reads_like: str                        # of a new one, what of all that sold; "": it has sold
    similar: bytes                         # what is bought by who buys it; see `told`


class News(NamedTuple):
    """What is told of one customer: the score in force, and none where there is none any more."""

    sequence: int
    shop: str
    customer: str
    number: int | None                     # of the scoring of the whole shop that it rests on
    anchor: int | None                     # µs
    curve: bytes | None


def _item(*row: Any) -> ScoredItem:
    item, title, category, sold, again, like, similar = row
    return ScoredItem(item, title, category, sold, bool(again), like, similar)


class Scored:
    """The file. Every call is its own transaction, and from any thread."""

    def __init__(self, path: Path) -> None:
        """Open it, made where it is missing, emptied where it is of another format."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(
            path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
        )
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "secure_delete = ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        if self._read("PRAGMA user_version") != [(_FORMAT,)]:
            self._make()

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            self._connection.close()

    def whole(self, shop: str) -> tuple[int, bytes] | None:
        """The number of the shop's last scoring as a whole, and what it told; none: never."""
        rows = self._read("SELECT number, told FROM shops WHERE shop = ?", shop)
        return rows[0] if rows else None

    def customers(self, shop: str, names: Sequence[str]) -> tuple[bytes, list[ScoredCustomer]]:
        """What is of the whole shop, and the numbers of those of some customers who have any."""
        rows = self._read(_CUSTOMERS, shop, msgspec.json.encode(list(names)).decode())
        return (rows[0][0] if rows else b""), [ScoredCustomer(*row[1:]) for row in rows]

    def items(self, shop: str, items: Collection[str]) -> list[ScoredItem]:
        """Those of some items that are known."""
        return self._items(shop, items, "similar")

    def named(self, shop: str, items: Collection[str]) -> list[ScoredItem]:
        """The same without what is bought beside them, which takes longer to read."""
        return self._items(shop, items, "x''")

    def _items(self, shop: str, items: Collection[str], similar: str) -> list[ScoredItem]:
        asked = msgspec.json.encode(list(items)).decode()
        return [_item(*row) for row in self._read(_ITEMS.format(similar=similar), shop, asked)]

    def best(
        self, shop: str, most: int, *, category: str | None = None, after: int = 0
    ) -> list[ScoredItem]:
        """What sold most lately, perhaps of one category, after the first so many."""
        more, values = ("", []) if category is None else (" AND category = ?", [category])
        rows = self._read(_BEST.format(more=more), shop, *values, most, after)
        return [_item(*row) for row in rows]

    def count(self, shop: str) -> int:
        """Customers of a shop of whom something can be told."""
        return int(self._read(_COUNT, shop)[0][0])

    def put(self, shop: str, number: int, customers: Iterable[ScoredCustomer]) -> None:
        """Put what was worked out anew of some customers."""
        rows = [(shop, one[0], number, *one[1:]) for one in customers]
        self._write(
            ("INSERT OR REPLACE INTO customers VALUES (?, ?, ?, ?, ?, ?, ?)", rows),
            (_TELL, [(row[1], shop, number) for row in rows]),
        )

    def put_items(self, shop: str, number: int, items: Iterable[ScoredItem]) -> None:
        """Put what was worked out of some items."""
        self._write(
            (
                "INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(shop, one[0], number, *one[1:]) for one in items],
            )
        )

    def begin(self, shop: str, number: int, told: bytes) -> None:
        """From now on what is of the whole shop is this, and rows of an earlier number are gone."""
        with self._lock, self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(
                "INSERT OR REPLACE INTO shops VALUES (?, ?, ?)", [shop, number, told]
            )
            self._connection.execute(_TELL_ALL, [shop, number])
            for table in ("customers", "items"):
                self._connection.execute(
                    f"DELETE FROM {table} WHERE shop = ? AND number < ?", [shop, number]
                )

    def drop(self, shop: str, customers: Collection[str]) -> None:
        """Forget some customers."""
        rows = [(shop, customer) for customer in customers]
        self._write((_DROP.format(table="customers"), rows), (_TELL_GONE, rows))

    def erase(self, shop: str, customers: Collection[str]) -> None:
        """Forget some customers, and leave nothing of them in the files."""
        rows = [(shop, customer) for customer in customers]
        self._write((_DROP.format(table="customers"), rows), (_DROP.format(table="news"), rows))
        with self._lock:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    # -- for whoever follows

    def news(self, most: int) -> list[News]:
        """What was not told yet of some customers; those scored alone come before whole shops."""
        return [News(*row) for row in self._read(_NEWS, most)]

    def settle(self, told: Iterable[News], aside: Iterable[News] = ()) -> None:
        """These were told, or set aside; what came since of the same customers is news still."""
        self._write(("DELETE FROM news WHERE sequence = ?", [(one.sequence,) for one in told]))
        self._write(
            (
                f"UPDATE news SET turn = {_ASIDE} WHERE sequence = ?",
                [(one.sequence,) for one in aside],
            )
        )

    def again(self) -> None:
        """Tell again what was set aside."""
        self._write((f"UPDATE news SET turn = {_WHOLE} WHERE turn = {_ASIDE}", [()]))

    def untold(self) -> int:
        """Of how many customers there is news."""
        return int(self._read("SELECT count(*) FROM news WHERE turn < 2")[0][0])

    def _write(self, *steps: tuple[str, Sequence[tuple[object, ...]]]) -> None:
        """Do several things with the same rows, some rows at a time."""
        for begin in range(0, len(steps[0][1]), _AT_ONCE):
            with self._lock, self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                for sql, rows in steps:
                    self._connection.executemany(sql, rows[begin : begin + _AT_ONCE])

    def _read(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def _make(self) -> None:
        with self._lock, self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            if self._connection.execute("PRAGMA user_version").fetchone() == (_FORMAT,):
                return
            for table in _TABLE_NAMES:
                self._connection.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in _TABLES.split(";\n"):
                self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version = {_FORMAT}")
