"""Work that goes to another process and back, as far as pickles can tell."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from habitue.config import Launch

AWAY = Launch(place="processes", workers=2)


def over(
    function: Callable[[Any], Any], parts: Iterable[Any], launch: Launch = AWAY
) -> Iterator[Any]:
    """Shaped like `habitue.model.launch.over`."""
    for one in parts:
        work, part = pickle.loads(pickle.dumps((function, one)))
        yield pickle.loads(pickle.dumps(work(part)))
