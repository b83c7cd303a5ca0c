"""What was shown and not minded makes room: each time counts a little, for some days.

An item that somebody was shown and did nothing about counts less the next time: after every
`HALVED_AFTER` such showings within `DAYS` it is taken for half as likely. Whatever they do with
the item (a view, a cart, an order) wipes the showings before it out.
"""

import math
from collections.abc import Iterable, Mapping

DAYS = 14.0
HALVED_AFTER = 3


def ignored(
    shown: Iterable[tuple[str, int]], done: Iterable[tuple[str, int]]
) -> dict[str, int]:
    """How often each item was shown since its customer last did something with it.

    `shown` and `done` are items with their times, of the last `DAYS` only.

    >>> ignored([("cup", 1), ("cup", 5), ("pot", 1)], [("cup", 2)])
    {'cup': 1, 'pot': 1}
    """
    last: dict[str, int] = {}
    for item, time in done:
        last[item] = max(last.get(item, time), time)
    counts: dict[str, int] = {}
    for item, time in shown:
        if item not in last or time > last[item]:
            counts[item] = counts.get(item, 0) + 1
    return counts


def discounts(counts: Mapping[str, int]) -> dict[str, float]:
    """What each item's score loses, in logarithms.

    >>> discounts({"cup": 3})["cup"] == math.log(2)
    True
    """
    return {item: math.log(2) * count / HALVED_AFTER for item, count in counts.items()}
