"""`Finding`: one line of an examination, and how a number becomes one."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

State: TypeAlias = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    state: State
    told: str                              # what was found, in words
    hint: str = ""                         # what to do about it, where something is to be done


def worst(*states: State) -> State:
    """The most serious of some states.

    >>> worst("ok", "problem", "warning")
    'problem'
    """
    order: tuple[State, ...] = ("ok", "warning", "problem")
    return max(states, key=order.index)


def above(value: float, *, warning: float, problem: float) -> State:
    """How serious a value is that should be small.

    >>> above(5, warning=5, problem=60), above(61, warning=5, problem=60)
    ('ok', 'problem')
    """
    if value > problem:
        return "problem"
    return "warning" if value > warning else "ok"


def found(check: str, state: State, told: str, hint: str) -> Finding:
    """A finding; the hint stands only where something is to be done."""
    return Finding(check, state, told, hint if state != "ok" else "")
