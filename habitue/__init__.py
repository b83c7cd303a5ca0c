"""Who will buy, when, how much and what: a foundation model of a shop's event streams.

The public names below are imported when they are first used, so that `import habitue` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:                          # type checkers see what `__getattr__` finds
    from habitue.config import TrainConfig as TrainConfig
    from habitue.errors import HabitueError as HabitueError
    from habitue.events import Event as Event
    from habitue.events import Item as Item
    from habitue.events import Line as Line
    from habitue.events import Money as Money
    from habitue.events import Receipt as Receipt
    from habitue.events import Rejection as Rejection
    from habitue.predictions.probes.language import Target as Target
    from habitue.workspace import Shop as Shop
    from habitue.workspace import Workspace as Workspace
    from habitue.workspace import open_workspace

    open = open_workspace

__version__ = "0.1.0"

_HOMES = {
    "open": ("habitue.workspace", "open_workspace"),
    "Workspace": ("habitue.workspace", "Workspace"),
    "Shop": ("habitue.workspace", "Shop"),
    "Event": ("habitue.events", "Event"),
    "Line": ("habitue.events", "Line"),
    "Item": ("habitue.events", "Item"),
    "Money": ("habitue.events", "Money"),
    "Receipt": ("habitue.events", "Receipt"),
    "Rejection": ("habitue.events", "Rejection"),
    "HabitueError": ("habitue.errors", "HabitueError"),
    "Target": ("habitue.predictions.probes.language", "Target"),
    "TrainConfig": ("habitue.config", "TrainConfig"),
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'habitue' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return __all__
