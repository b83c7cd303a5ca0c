"""`RemoteScores`: scores in Redis, so that processes on several machines read them.

What is kept can be made anew, so Redis need not write it down; where it forgets, shops are scored
as a whole again.
"""

import contextlib
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from habitue.errors import BadSetting, Busy, NotInstalled
from habitue.lake.live.kept import scripts
from habitue.lake.live.scored import News, ScoredCustomer, ScoredItem

OWNER_FILE = "scores.owner"                # in the workspace's folder `online`
# a database of other fields, or of another layout, is emptied
FORMAT = " ".join(("1", *ScoredCustomer._fields, *ScoredItem._fields))
_PREFIX = "habitue:"
_AT_ONCE = 500                             # rows of one step
_WAIT_SECONDS = 10.0


class _Customer(msgspec.Struct, frozen=True, array_like=True):
    """One customer's numbers as they are packed."""

    anchor: int
    scored: int
    curve: bytes
    listed: bytes


_customer = msgspec.msgpack.Decoder(_Customer)
_item = msgspec.msgpack.Decoder(ScoredItem)
_pack = msgspec.msgpack.encode


class RemoteScores:
    """Scores in one database of Redis, which is one workspace's own; see `KeptScores`.

    Raises:
        Busy: it cannot be reached; try again.
        BadSetting: the database is another workspace's.
        NotInstalled: Redis' client is not installed.
    """

    def __init__(self, address: str, online: Path) -> None:
        """Connect, and claim the database if it is nobody's."""
        NotInstalled.unless("redis", package="redis", extra="redis")
        import redis

        told = urlsplit(address)           # without its password
        self._redis, self._shown = redis, f"{told.hostname or ''}{told.path}"
        self._client: Any = redis.Redis.from_url(
            address, socket_timeout=_WAIT_SECONDS, socket_connect_timeout=_WAIT_SECONDS
        )
        self._scripts: dict[str, Callable[..., Any]] = {}
        try:
            self._claim(online)
        except BaseException:
            self._client.close()
            raise

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def whole(self, shop: str) -> tuple[int, bytes] | None:
        """See `KeptScores`."""
        with self._told():
            number, told = self._client.hmget(_key("shop", shop), "number", "told")
        return None if number is None else (int(number), told)

    def customers(self, shop: str, names: Sequence[str]) -> tuple[bytes, list[ScoredCustomer]]:
        """See `KeptScores`."""
        wanted = list(dict.fromkeys(names))
        rows = self._run(scripts.CUSTOMERS, shop, *wanted)
        found = [
            ScoredCustomer(name, *msgspec.structs.astuple(_customer.decode(row)))
            for name, row in zip(wanted, rows[1:], strict=False)
            if row is not None
        ]
        return (rows[0] if found else b""), found

    def items(self, shop: str, items: Collection[str]) -> list[ScoredItem]:
        """See `KeptScores`."""
        return _items(self._run(scripts.ITEMS, shop, *dict.fromkeys(items)))

    def named(self, shop: str, items: Collection[str]) -> list[ScoredItem]:
        """The same without what is bought beside them."""
        return [one._replace(similar=b"") for one in self.items(shop, items)]

    def best(
        self, shop: str, most: int, *, category: str | None = None, after: int = 0
    ) -> list[ScoredItem]:
        """See `KeptScores`."""
        only = [] if category is None else [category]
        found = _items(self._run(scripts.BEST, shop, after, most, *only))
        return [one._replace(similar=b"") for one in found]

    def count(self, shop: str) -> int:
        """See `KeptScores`."""
        return int(self._run(scripts.COUNT, shop))

    def put(self, shop: str, number: int, customers: Iterable[ScoredCustomer]) -> None:
        """See `KeptScores`."""
        rows = [(one.customer, _pack(_Customer(*one[1:]))) for one in customers]
        self._run_over(rows, scripts.PUT, shop, number)

    def put_items(self, shop: str, number: int, items: Iterable[ScoredItem]) -> None:
        """See `KeptScores`."""
        rows = [(one.item, one.sold, one.category, _pack(tuple(one))) for one in items]
        self._run_over(rows, scripts.PUT_ITEMS, shop, number)

    def begin(self, shop: str, number: int, told: bytes) -> None:
        """See `KeptScores`; what is told and what goes follows at once, some at a time.

        Where that is cut short, the next one does it.
        """
        self._run(scripts.BEGIN, shop, number, told)
        while self._run(scripts.SWEEP, shop, number, _AT_ONCE):
            pass

    def drop(self, shop: str, customers: Collection[str]) -> None:
        """See `KeptScores`."""
        self._run_over([(one,) for one in customers], scripts.DROP, shop)

    def erase(self, shop: str, customers: Collection[str]) -> None:
        """See `KeptScores`; where Redis writes down what it holds, it is told to do so anew."""
        self._run_over([(one,) for one in customers], scripts.ERASE, shop)
        with self._told():
            persistence = self._client.info("persistence")
            with contextlib.suppress(self._redis.ResponseError):   # it is doing so already
                if persistence.get("aof_enabled"):
                    self._client.bgrewriteaof()
                if self._client.config_get("save").get("save"):
                    self._client.bgsave()

    def news(self, most: int) -> list[News]:
        """See `KeptScores`."""
        found = []
        for sequence, shop, customer, number, row in self._run(scripts.NEWS, most):
            held = _customer.decode(row) if row else None
            found.append(
                News(
                    int(sequence), shop.decode(), customer.decode(), int(number) if held else None,
                    held.anchor if held else None, held.curve if held else None,
                )
            )  # fmt: skip
        return found

    def settle(self, told: Iterable[News], aside: Iterable[News] = ()) -> None:
        """See `KeptScores`."""
        for turn, some in (("", told), (2, aside)):
            self._run_over([(one.sequence,) for one in some], scripts.SETTLE, turn)

    def again(self) -> None:
        """See `KeptScores`."""
        self._run(scripts.AGAIN)

    def untold(self) -> int:
        """See `KeptScores`."""
        with self._told():
            return sum(int(self._client.zcard(_key(f"news:{turn}"))) for turn in (0, 1))

    def _run(self, script: str, *arguments: object) -> Any:
        if script not in self._scripts:
            self._scripts[script] = self._client.register_script(script)
        with self._told():
            return self._scripts[script](args=[_PREFIX, *arguments])

    def _run_over(
        self, rows: Sequence[tuple[object, ...]], script: str, *arguments: object
    ) -> None:
        """Do something with some rows at a time."""
        for begin in range(0, len(rows), _AT_ONCE):
            flat = [value for row in rows[begin : begin + _AT_ONCE] for value in row]
            self._run(script, *arguments, *flat)

    def _claim(self, online: Path) -> None:
        """Make the database this workspace's, or see that it is; of another format it is emptied.

        The workspace's id lies in a file, which whoever comes first makes.
        """
        online.mkdir(mode=0o700, exist_ok=True)
        file = online / OWNER_FILE
        with contextlib.suppress(FileExistsError), file.open("x") as made:
            made.write(secrets.token_hex(16))
        mine = file.read_text()
        with self._told():
            self._client.hsetnx(_key("workspace"), "id", mine)
            self._client.hsetnx(_key("workspace"), "format", FORMAT)
            held = {name.decode(): value.decode()
                    for name, value in self._client.hgetall(_key("workspace")).items()}  # fmt: skip
        if held["id"] != mine:
            raise BadSetting(
                f"the scores at {self._shown} are another workspace's\n"
                "hint: name another database (the number after the last /), or empty this one"
            )
        if held["format"] != FORMAT:
            with self._told():
                self._client.flushdb()
            self._claim(online)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (self._redis.ConnectionError, self._redis.TimeoutError) as error:
            raise Busy(
                f"the scores at {self._shown} cannot be reached: {error}\n"
                "hint: is Redis running there? It is asked again with the next request"
            ) from error


def _key(kind: str, *parts: str) -> str:
    """A key as the scripts name it: lengths are counted in bytes."""
    return _PREFIX + kind + "".join(f":{len(part.encode())}:{part}" for part in parts)


def _items(rows: Iterable[bytes | None]) -> list[ScoredItem]:
    return [_item.decode(row) for row in rows if row is not None]
