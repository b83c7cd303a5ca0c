"""`KeptScores`: what every store of scores promises; tests/contracts holds each to it."""

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from habitue.lake.live.scored import News, ScoredCustomer, ScoredItem


class KeptScores(Protocol):
    """One process writes, any number read. Every call is a step of its own, from any thread."""

    def close(self) -> None:
        """Give what is open back."""
        ...

    def whole(self, shop: str) -> tuple[int, bytes] | None:
        """The number of the shop's last scoring as a whole, and what it told; none: never."""
        ...

    def customers(self, shop: str, names: Sequence[str]) -> tuple[bytes, list[ScoredCustomer]]:
        """What is of the whole shop, and the numbers of those of some customers who have any."""
        ...

    def items(self, shop: str, items: Collection[str]) -> list[ScoredItem]:
        """Those of some items that are known."""
        ...

    def named(self, shop: str, items: Collection[str]) -> list[ScoredItem]:
        """The same without what is bought beside them, which takes longer to read."""
        ...

    def best(
        self, shop: str, most: int, *, category: str | None = None, after: int = 0
    ) -> list[ScoredItem]:
        """What sold most lately, perhaps of one category, after the first so many."""
        ...

    def count(self, shop: str) -> int:
        """Customers of a shop of whom something can be told."""
        ...

    def put(self, shop: str, number: int, customers: Iterable[ScoredCustomer]) -> None:
        """Put what was worked out anew of some customers."""
        ...

    def put_items(self, shop: str, number: int, items: Iterable[ScoredItem]) -> None:
        """Put what was worked out of some items."""
        ...

    def begin(self, shop: str, number: int, told: bytes) -> None:
        """From now on what is of the whole shop is this, and rows of an earlier number are gone."""
        ...

    def drop(self, shop: str, customers: Collection[str]) -> None:
        """Forget some customers."""
        ...

    def erase(self, shop: str, customers: Collection[str]) -> None:
        """Forget some customers, and leave nothing of them behind."""
        ...

    def news(self, most: int) -> list[News]:
        """What was not told yet of some customers; those scored alone come before whole shops."""
        ...

    def settle(self, told: Iterable[News], aside: Iterable[News] = ()) -> None:
        """These were told, or set aside; what came since of the same customers is news still."""
        ...

    def again(self) -> None:
        """Tell again what was set aside."""
        ...

    def untold(self) -> int:
        """Of how many customers there is news."""
        ...
