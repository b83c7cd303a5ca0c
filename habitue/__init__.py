"""Who will buy, when, how much and what: a foundation model of a shop's event streams.

The public names below are imported when they are first used, so that `import habitue` is quick.
"""

from importlib import import_module

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
