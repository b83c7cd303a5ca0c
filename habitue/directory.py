"""The shops of a workspace: their keys, name tables, and who was erased.

One SQLite file, readable by its owner alone, since it holds each shop's secret. Of a key it holds
only the SHA-256; the key itself is shown once, when it is made. Every write is durable on return.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

from habitue.audit import ACTS, Act, insert, read
from habitue.errors import BadSetting, Busy, NoSuchKey, NoSuchShop
from habitue.scopes import SCOPES

DIRECTORY_FILE = "directory.sqlite"
PREFIXES: dict[str, str] = {"public": "hp_", "secret": "hs_"}
ERASURE = "erasure"                        # the kind of a job that erases a customer
_SECRET_BYTES = 32
_MOST_NAME_LENGTH = 200
_WAIT_SECONDS = 30.0
LOOK_SECONDS = 0.5                         # between looks at whether somebody was erased

KeyKind: TypeAlias = Literal["public", "secret"]

_TABLES = """
CREATE TABLE IF NOT EXISTS shops (
    shop TEXT PRIMARY KEY, secret BLOB NOT NULL, currency TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY, shop TEXT NOT NULL REFERENCES shops, kind TEXT NOT NULL,
    hash BLOB NOT NULL UNIQUE, label TEXT NOT NULL, per_second INTEGER, per_minute INTEGER,
    created TEXT NOT NULL, revoked TEXT, scopes TEXT, expires TEXT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS keys_of_shop ON keys (shop);
CREATE TABLE IF NOT EXISTS names (
    shop TEXT NOT NULL REFERENCES shops, source TEXT NOT NULL, theirs TEXT NOT NULL,
    canonical TEXT NOT NULL, PRIMARY KEY (shop, source, theirs)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS erasures (
    id TEXT PRIMARY KEY, shop TEXT NOT NULL REFERENCES shops, requested TEXT NOT NULL,
    erased_at TEXT NOT NULL, completed TEXT, proof TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tombstones (
    shop TEXT NOT NULL, key TEXT NOT NULL, erased_at TEXT NOT NULL,
    erasure TEXT NOT NULL REFERENCES erasures, PRIMARY KEY (shop, key, erasure)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, shop TEXT NOT NULL, kind TEXT NOT NULL, status TEXT NOT NULL,
    created TEXT NOT NULL, updated TEXT NOT NULL, detail TEXT NOT NULL) WITHOUT ROWID;
""" + ACTS
_GROWN = ("scopes", "expires")             # columns of keys that earlier releases did not have

_KEY_COLUMNS = "id, shop, kind, label, per_second, per_minute, created, revoked, scopes, expires"
_PUT_KEY = f"INSERT INTO keys (hash, {_KEY_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_EXPIRE = """
UPDATE keys SET expires = min(coalesce(expires, ?), ?)
WHERE id = ? AND shop = ? AND revoked IS NULL AND coalesce(expires, '9') > ?
"""
_KEY_BY_HASH = f"SELECT hash, {_KEY_COLUMNS} FROM keys WHERE hash = ? AND revoked IS NULL"

# one row per key of a shop, oldest first
_KEYS_OF_SHOP = f"SELECT {_KEY_COLUMNS} FROM keys WHERE shop = ? ORDER BY created, id"

# one row per erased key of a shop: refused up to the latest of its erasures
_ERASED = "SELECT key, max(erased_at) FROM tombstones WHERE shop = ? GROUP BY key"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopEntry:
    """What the service needs to know of a shop."""

    name: str
    secret: bytes = field(repr=False)      # the key of the surrogates of emails and phones
    currency: str | None = None            # of amounts that name none
    names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # source -> its event name -> ours


@dataclass(frozen=True, slots=True)
class Limit:
    """How many requests a key may make; None: as many as it likes."""

    per_second: int | None = None
    per_minute: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a key may do, how often, and until when."""

    limit: Limit = field(default_factory=Limit)
    scopes: frozenset[str] | None = None   # of SCOPES; none: all that its kind may
    expires: datetime | None = None        # refused from then on


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key as it is known after it was made: everything but the key itself."""

    id: str                                # names the key where it must not be told
    shop: str
    kind: KeyKind                          # public: may send and never read
    label: str
    grant: Grant
    created: datetime
    revoked: datetime | None = None

    @property
    def limit(self) -> Limit:
        """How many requests it may make."""
        return self.grant.limit

    def may(self, scope: str | None) -> bool:
        """Whether it has a scope; none: one that only a key without bounds has."""
        return self.grant.scopes is None or scope in self.grant.scopes

    def is_over(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.grant.expires is not None and now >= self.grant.expires


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """That some keys of a shop were erased: refused from the request on, gone when completed."""

    id: str
    shop: str
    tombstones: tuple[str, ...]            # surrogates of the keys, see `tombstone`
    erased_at: datetime
    requested: datetime
    completed: datetime | None = None
    proof: str | None = None               # JSON: what was removed from where


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A long piece of work that a shop asked for."""

    id: str
    shop: str
    kind: str                              # "export", "import", …
    status: str                            # queued, processing, complete, failed
    created: datetime
    updated: datetime
    detail: Mapping[str, Any] = field(default_factory=dict)


ANYTHING = Grant()                         # all that the kind of key may, as often as it likes


class Directory:
    """The shops, keys, name tables, erasures and jobs of one workspace."""

    def __init__(self, path: Path | str) -> None:
        """Name the file; it is made with the first write."""
        self.path = Path(path)
        self._is_grown = False             # whether it has what this release adds to it

    def shops(self) -> list[str]:
        """Every shop's name, sorted."""
        return [name for (name,) in self._read("SELECT shop FROM shops ORDER BY shop")]

    def shop(self, name: str, *, create: bool = False) -> ShopEntry:
        """A shop; with `create` it begins to exist, with a secret of its own.

        Raises:
            NoSuchShop: there is none of that name, and none was to be made.
            BadSetting: the name is empty, too long, or holds characters that cannot be seen.
        """
        found = self._read("SELECT secret, currency FROM shops WHERE shop = ?", name)
        if not found and not create:
            raise NoSuchShop(name, self.shops())
        if not found:
            _check_name(name)
            with self._writing() as connection:
                connection.execute(
                    "INSERT OR IGNORE INTO shops (shop, secret) VALUES (?, ?)",
                    (name, secrets.token_bytes(_SECRET_BYTES)),
                )
            found = self._read("SELECT secret, currency FROM shops WHERE shop = ?", name)
        secret, currency = found[0]
        return ShopEntry(name=name, secret=secret, currency=currency, names=self.names(name))

    def set_currency(self, shop: str, currency: str | None) -> None:
        """The currency of amounts that name none."""
        self.shop(shop)
        with self._writing() as connection:
            connection.execute("UPDATE shops SET currency = ? WHERE shop = ?", (currency, shop))

    def names(self, shop: str) -> dict[str, dict[str, str]]:
        """The shop's own name tables: source -> its event name -> ours."""
        rows = self._read("SELECT source, theirs, canonical FROM names WHERE shop = ?", shop)
        tables: dict[str, dict[str, str]] = {}
        for source, theirs, canonical in rows:
            tables.setdefault(source, {})[theirs] = canonical
        return tables

    def set_name(self, shop: str, source: str, theirs: str, canonical: str | None) -> None:
        """From now on a source's event name means a canonical one; None: as by default."""
        self.shop(shop)
        with self._writing() as connection:
            connection.execute(
                "DELETE FROM names WHERE shop = ? AND source = ? AND theirs = ?",
                (shop, source, theirs),
            )
            if canonical is not None:
                connection.execute(
                    "INSERT INTO names VALUES (?, ?, ?, ?)", (shop, source, theirs, canonical)
                )

    def issue_key(
        self, shop: str, kind: KeyKind, *, now: datetime, label: str = "", grant: Grant = ANYTHING
    ) -> tuple[Key, str]:
        """A new key of a shop, and the key itself, which is never told again.

        Raises:
            NoSuchShop: there is no such shop.
            BadSetting: a scope is unknown, a public key is given any, or its time is over already.
        """
        self.shop(shop)
        _check_grant(kind, grant, now)
        key, plain = _new_key(shop, kind, label, grant, now)
        with self._writing() as connection:
            connection.execute(_PUT_KEY, (_hash(plain), *_row(key)))
            insert(connection, Act(shop=shop, time=now, act="key.create", about=key.id))
        return key, plain

    def rotate_key(
        self, key_id: str, *, shop: str, now: datetime, overlap: timedelta
    ) -> tuple[Key, str]:
        """A new key that may do what another may; that one is refused after the overlap.

        Raises:
            NoSuchKey: the shop has no such key in force.
        """
        held = [one for one in self.keys(shop) if one.id == key_id]
        if not held or held[0].revoked is not None or held[0].is_over(now):
            raise NoSuchKey(key_id, shop)
        former, until = held[0], _text(now + overlap)
        key, plain = _new_key(shop, former.kind, former.label, former.grant, now)
        with self._writing() as connection:
            changed = connection.execute(
                _EXPIRE, (until, until, key_id, shop, _text(now))
            ).rowcount
            if not changed:                # it was revoked in between
                raise NoSuchKey(key_id, shop)
            connection.execute(_PUT_KEY, (_hash(plain), *_row(key)))
            insert(connection, Act(
                shop=shop, time=now, act="key.rotate", about=key_id, detail=f"by {key.id}",
            ))  # fmt: skip
        return key, plain

    def key_for(self, plain: str) -> Key | None:
        """The key that was issued as this text and not revoked; None where there is none."""
        hashed = _hash(plain)
        found = self._read(_KEY_BY_HASH, hashed)
        # the index already found it; this keeps the decision independent of how it compares
        if not found or not hmac.compare_digest(found[0][0], hashed):
            return None
        return _key(found[0][1:])

    def keys(self, shop: str) -> list[Key]:
        """A shop's keys, revoked ones included, oldest first."""
        return [_key(row) for row in self._read(_KEYS_OF_SHOP, shop)]

    def revoke(self, key_id: str, *, shop: str, now: datetime) -> None:
        """Refuse a key from now on.

        Raises:
            NoSuchKey: the shop has no such key, or it was revoked before.
        """
        act = Act(shop=shop, time=now, act="key.revoke", about=key_id)
        self._change(act, "revoked = ?", _text(now))

    def limit_key(self, key_id: str, *, shop: str, now: datetime, limit: Limit) -> None:
        """From now on let a key make so many requests; raises `NoSuchKey`."""
        act = Act(shop=shop, time=now, act="key.limit", about=key_id)
        self._change(act, "per_second = ?, per_minute = ?", limit.per_second, limit.per_minute)

    def note(self, act: Act) -> None:
        """Write down what somebody did."""
        with self._writing() as connection:
            insert(connection, act)

    def acts(self, shop: str) -> list[Act]:
        """What was done with a shop's keys and customers' rights, oldest first."""
        if not self.path.exists():
            return []
        with self._connection() as connection:
            return read(connection, shop)

    def erase(
        self, shop: str, keys: Collection[str], erased_at: datetime, requested: datetime
    ) -> Erasure:
        """Refuse what these keys did up to `erased_at`, from now on and for ever.

        What is kept of a key is a surrogate of it, which tells nobody whom it stands for.
        """
        secret = self.shop(shop).secret
        erasure = Erasure(
            id=_base32(secrets.token_bytes(10)), shop=shop,
            tombstones=tuple(sorted(tombstone(secret, key) for key in keys)),
            erased_at=erased_at, requested=requested,
        )  # fmt: skip
        at = _text(erased_at)
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO erasures VALUES (?, ?, ?, ?, NULL, NULL)",
                (erasure.id, shop, _text(requested), at),
            )
            connection.executemany(
                "INSERT INTO tombstones VALUES (?, ?, ?, ?)",
                [(shop, one, at, erasure.id) for one in erasure.tombstones],
            )
        return erasure

    def entomb(self, erasure: Erasure, keys: Collection[str]) -> None:
        """Refuse further keys of the same customer, found while the erasure was under way."""
        secret, at = self.shop(erasure.shop).secret, _text(erasure.erased_at)
        with self._writing() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO tombstones VALUES (?, ?, ?, ?)",
                [(erasure.shop, tombstone(secret, key), at, erasure.id) for key in sorted(keys)],
            )

    def complete_erasure(self, erasure: str, *, completed: datetime, proof: str) -> None:
        """Write down that nothing of it is left anywhere, and what was removed (JSON)."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE erasures SET completed = ?, proof = ? WHERE id = ?",
                (_text(completed), proof, erasure),
            )

    def erasures(self, shop: str) -> list[Erasure]:
        """A shop's erasures, oldest first."""
        rows = self._read("SELECT * FROM erasures WHERE shop = ? ORDER BY requested, id", shop)
        return [
            Erasure(
                id=one,
                shop=shop,
                tombstones=tuple(
                    key
                    for (key,) in self._read(
                        "SELECT key FROM tombstones WHERE erasure = ? ORDER BY key", one
                    )
                ),
                erased_at=_time(erased_at),
                requested=_time(requested),
                completed=_time(completed) if completed else None,
                proof=proof,
            )
            for one, _, requested, erased_at, completed, proof in rows
        ]

    def erased_shops(self) -> list[str]:
        """The shops that erased somebody, sorted."""
        return [shop for (shop,) in self._read("SELECT DISTINCT shop FROM tombstones ORDER BY 1")]

    def erased(self, shop: str) -> dict[str, datetime]:
        """The tombstones of a shop and the instant up to which each refuses."""
        return {key: _time(erased_at) for key, erased_at in self._read(_ERASED, shop)}

    def adopt_erasures(self, other: "Directory") -> None:
        """Refuse whom another directory refuses, as after this one was put back from a copy.

        Shops that are not the same ones (they have another secret) are left alone.
        """
        for shop in other.erased_shops():
            theirs = other.shop(shop)
            if theirs.secret != self.shop(shop, create=True).secret:
                continue
            with self._writing() as connection:
                for one in other.erasures(shop):
                    connection.execute(
                        "INSERT OR IGNORE INTO erasures VALUES (?, ?, ?, ?, ?, ?)",
                        (
                            one.id, shop, _text(one.requested), _text(one.erased_at),
                            _text(one.completed) if one.completed else None, one.proof,
                        ),
                    )  # fmt: skip
                    connection.executemany(
                        "INSERT OR IGNORE INTO tombstones VALUES (?, ?, ?, ?)",
                        [(shop, key, _text(one.erased_at), one.id) for key in one.tombstones],
                    )

    def put_job(self, job: Job) -> None:
        """Write down a job, or how far it has come."""
        row = (
            job.id, job.shop, job.kind, job.status, _text(job.created), _text(job.updated),
            json.dumps(dict(job.detail)),
        )  # fmt: skip
        with self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def jobs(self, shop: str) -> list[Job]:
        """A shop's jobs, oldest first."""
        rows = self._read("SELECT * FROM jobs WHERE shop = ? ORDER BY created, id", shop)
        return [
            Job(
                id=one, shop=name, kind=kind, status=status, created=_time(created),
                updated=_time(updated), detail=json.loads(detail),
            )
            for one, name, kind, status, created, updated, detail in rows
        ]  # fmt: skip

    def open_jobs(self, kind: str) -> list[Job]:
        """Every shop's jobs of one kind that are not complete, oldest first."""
        sql = "SELECT DISTINCT shop FROM jobs WHERE kind = ? AND status <> 'complete'"
        jobs = [job for (shop,) in self._read(sql, kind) for job in self.jobs(shop)]
        still = [job for job in jobs if job.kind == kind and job.status != "complete"]
        return sorted(still, key=lambda job: (job.created, job.id))

    def watch(self) -> "Watch":
        """Tells whether anything was changed, by whatever process."""
        with self._writing():
            pass
        return Watch(_connect(self.path))

    def _change(self, act: Act, what: str, *values: object) -> None:
        """Change a key that was not revoked, and write the act down with it."""
        sql = f"UPDATE keys SET {what} WHERE id = ? AND shop = ? AND revoked IS NULL"
        with self._writing() as connection:
            if not connection.execute(sql, (*values, act.about, act.shop)).rowcount:
                raise NoSuchKey(act.about, act.shop)
            insert(connection, act)

    def _read(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        if not self.path.exists():
            return []
        with self._connection() as connection:
            return connection.execute(sql, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: durable at the end, or rolled back."""
        if not self.path.exists():
            _make(self.path)
        with self._connection() as connection, connection:
            yield connection

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = _connect(self.path)
        try:
            if not self._is_grown:
                _grow(connection)
                self._is_grown = True
            yield connection
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            raise Busy(
                f"{self.path.name} is locked by another process\nhint: try again"
            ) from error
        finally:
            connection.close()


class Watch:
    """Whether the directory changed since the last question; one for each thread that asks."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._version = self._read()

    def changed(self) -> bool:
        """Whether any process committed a change since this was last asked; microseconds."""
        version, self._version = self._version, self._read()
        return version != self._version

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()

    def _read(self) -> int:
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)


def tombstone(secret: bytes, key: str) -> str:
    """What is kept of an erased key: a surrogate that only the same key of the same shop has."""
    return hmac.digest(secret, f"tombstone\0{key}".encode(), "sha256")[:16].hex()


def _make(path: Path) -> None:
    """The empty file, whole from the instant it has its name; whoever is second leaves it be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    # made before SQLite opens it, so that it is private from its first instant
    os.close(os.open(draft, os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o600))
    try:
        connection = _connect(draft)
        try:
            connection.executescript(f"PRAGMA journal_mode=WAL; {_TABLES}")
        finally:
            connection.close()
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_WAIT_SECONDS, check_same_thread=False)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def _grow(connection: sqlite3.Connection) -> None:
    """Give a file of an earlier release what this one adds; nothing happens to any other."""
    if not _missing(connection):
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for name in _missing(connection):  # somebody else may have been first
            connection.execute(f"ALTER TABLE keys ADD COLUMN {name} TEXT")
        connection.execute(ACTS)


def _missing(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT name FROM pragma_table_info('keys')").fetchall()
    return [name for name in _GROWN if (name,) not in rows]


def _check_name(name: str) -> None:
    if not (0 < len(name) <= _MOST_NAME_LENGTH and name.isprintable() and name == name.strip()):
        raise BadSetting(
            f"{name[:_MOST_NAME_LENGTH]!r} cannot name a shop\n"
            f"hint: 1 to {_MOST_NAME_LENGTH} characters that can be seen, no space at either end"
        )


def _hash(plain: str) -> bytes:
    """A key has 256 random bits, so a plain hash cannot be guessed backwards."""
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).digest()


def _base32(value: bytes) -> str:
    return base64.b32encode(value).decode().rstrip("=").lower()


def _key(row: tuple[Any, ...]) -> Key:
    one, shop, kind, label, per_second, per_minute, created, revoked, scopes, expires = row
    grant = Grant(
        limit=Limit(per_second, per_minute),
        scopes=None if scopes is None else frozenset(scopes.split()),
        expires=_time(expires) if expires else None,
    )
    return Key(
        id=one, shop=shop, kind=kind, label=label, grant=grant,
        created=_time(created), revoked=_time(revoked) if revoked else None,
    )  # fmt: skip


def _row(key: Key) -> tuple[object, ...]:
    """A key's columns, in the order of _KEY_COLUMNS."""
    scopes, expires = key.grant.scopes, key.grant.expires
    return (
        key.id, key.shop, key.kind, key.label, key.limit.per_second, key.limit.per_minute,
        _text(key.created), None, None if scopes is None else " ".join(sorted(scopes)),
        None if expires is None else _text(expires),
    )  # fmt: skip


def _new_key(
    shop: str, kind: KeyKind, label: str, grant: Grant, now: datetime
) -> tuple[Key, str]:
    plain = PREFIXES[kind] + _base32(secrets.token_bytes(_SECRET_BYTES))
    id = _base32(secrets.token_bytes(5))
    return Key(id=id, shop=shop, kind=kind, label=label, grant=grant, created=now), plain


def _check_grant(kind: KeyKind, grant: Grant, now: datetime) -> None:
    if grant.scopes is not None and kind == "public":
        raise BadSetting("a public key may send and nothing else: it takes no scopes")
    unknown = sorted((grant.scopes or frozenset()) - SCOPES.keys())
    if unknown:
        raise BadSetting(f"no scope {unknown[0]!r}\nhint: one of {', '.join(SCOPES)}")
    if grant.expires is not None and grant.expires <= now:
        raise BadSetting(f"{grant.expires:%Y-%m-%d %H:%M} is over already\nhint: a later instant")


def _text(time: datetime) -> str:
    """Whole microseconds always, so that text sorts as time does."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
