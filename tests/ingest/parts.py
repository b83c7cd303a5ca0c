"""Requests as the event log holds them, and a log in memory."""

from collections.abc import Iterable, Sequence

from habitue.events import Event, Noun, Rejection
from habitue.lake.eventlog.records import Entry, Part, Record, encode
from tests.lake.small import day, event


class MemoryLog:
    """An event log of one shard that is gone with its process."""

    shards = 1

    def __init__(self) -> None:
        self.rows: list[bytes] = []

    def append(self, shard: int, bodies: Sequence[bytes]) -> range:
        start = len(self.rows)
        self.rows += bodies
        return range(start, len(self.rows))

    def read(self, shard: int, offset: int, *, most_bytes: int = 16_000_000) -> list[Record]:
        records, size = [], 0
        for place in range(offset, len(self.rows)):
            size += len(self.rows[place])
            if records and size > most_bytes:
                break
            records.append(Record(place, self.rows[place]))
        return records

    def end(self, shard: int) -> int:
        return len(self.rows)

    def trim(self, shard: int, below: int) -> int:
        return 0

    def close(self) -> None:
        pass


def part(receipt: str, *inputs: Noun | Iterable[Noun], **changes: object) -> Part:
    """A request of one input for each noun, or for each group of nouns."""
    groups = [one if isinstance(one, tuple | list) else (one,) for one in inputs]
    told: dict[str, object] = {
        "receipt": receipt,
        "shop": "acme",
        "source": "till",
        "origin": "/v1/events",
        "received": day(0),
        "entries": tuple(Entry(place, tuple(group)) for place, group in enumerate(groups)),
    }
    return Part(**(told | changes))


def rejection(position: int, reason: str = "bad_time") -> Rejection:
    return Rejection(position=position, pointer="/time", reason=reason, payload='{"time": "?"}')


def orders(*numbers: int, **changes: object) -> list[Event]:
    """Orders of customers c0 to c4."""
    return [event(str(n), n / 10, customer=f"c{n % 5}", **changes) for n in numbers]


def logged(*parts: Part) -> MemoryLog:
    log = MemoryLog()
    log.append(0, [encode(one) for one in parts])
    return log
