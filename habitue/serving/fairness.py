"""Turns by shop: a queue that no shop can fill for the others, and a thread that serves it.

One huge shop and many tiny ones wait in lines of their own; a batch takes one from each line in
turn until it is full. So what a tiny shop sends waits for one batch, however long the huge one's
line is.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

Waiting = TypeVar("Waiting")


class Full(Exception):
    """There is no room; by whom it was taken decides what a client is told."""

    def __init__(self, shop: bool) -> None:
        super().__init__("this shop's line is full" if shop else "the queue is full")
        self.shop = shop                   # whether the shop itself has taken its share


class FairQueue(Generic[Waiting]):
    """Lines of things that wait, one per shop, bounded by bytes. Not safe between threads."""

    def __init__(self, *, most_bytes: int, shop_bytes: int) -> None:
        self.bytes = 0                     # of all that waits
        self._most_bytes, self._shop_bytes = most_bytes, shop_bytes
        self._lines: OrderedDict[str, deque[tuple[int, Waiting]]] = OrderedDict()
        self._taken: dict[str, int] = {}   # bytes that wait, by shop

    def __len__(self) -> int:
        return sum(len(line) for line in self._lines.values())

    def put(self, shop: str, size: int, waiting: Waiting) -> None:
        """Join the shop's line; one thing may always wait, however large.

        Raises:
            Full: the shop has its share of bytes waiting, or all shops together have theirs.
        """
        taken = self._taken.get(shop, 0)
        if taken and taken + size > self._shop_bytes:
            raise Full(shop=True)
        if self.bytes and self.bytes + size > self._most_bytes:
            raise Full(shop=False)
        self._lines.setdefault(shop, deque()).append((size, waiting))
        self._taken[shop] = taken + size
        self.bytes += size

    def take(self, most_bytes: int) -> list[Waiting]:
        """At least one, if any waits: one of each line in turn, until they fill `most_bytes`."""
        batch: list[Waiting] = []
        size = 0
        while self._lines:
            shop, line = next(iter(self._lines.items()))
            if batch and size + line[0][0] > most_bytes:
                break
            taken, waiting = line.popleft()
            batch.append(waiting)
            size += taken
            self._leave(shop, line, taken)
        return batch

    def _leave(self, shop: str, line: deque[tuple[int, Waiting]], size: int) -> None:
        self.bytes -= size
        self._taken[shop] -= size
        if line:
            self._lines.move_to_end(shop)
        else:
            del self._lines[shop], self._taken[shop]


class FairThread(Generic[Waiting]):
    """A thread that takes fair batches from a queue and hands each to a function."""

    def __init__(
        self,
        name: str,
        serve: Callable[[list[Waiting]], None],
        queue: FairQueue[Waiting],
        *,
        batch_bytes: int,
    ) -> None:
        """Start it; `serve` must not raise."""
        self._serve, self._queue, self._batch_bytes = serve, queue, batch_bytes
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait for their turn."""
        return self._queue.bytes

    def put(self, shop: str, size: int, waiting: Waiting) -> None:
        """Let one thing wait for its turn; raises `Full`."""
        with self._changed:
            self._queue.put(shop, size, waiting)
            self._changed.notify()

    def close(self) -> None:
        """Serve all that waits, then end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            self._serve(batch)

    def _next(self) -> list[Waiting]:
        with self._changed:
            while not self._queue.bytes and not self._closing:
                self._changed.wait()
            return self._queue.take(self._batch_bytes)
