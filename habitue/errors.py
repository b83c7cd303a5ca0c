"""Everything a user can cause, as one tree.

    HabitueError
    ├── BadMapping          the mapping file says something we cannot follow
    ├── BadFile             a file to import is missing, empty, truncated or of the wrong shape
    ├── BadQuery            SQL over the lake is no single SELECT over its views
    ├── BadLake             a file of the lake is gone, or cannot be read
    ├── BadTarget           a question about the future cannot be read, or is none
    ├── BadAudience         a condition on customers cannot be read, or makes no sense
    │   └── NoSuggestion    a language model gave no condition that can be read
    ├── NoSuchAudience      the shop has no audience of that name
    ├── BadSetting          habitue.toml, the environment or a flag holds an impossible value
    ├── NoSuchShop          the workspace holds no shop of that name
    ├── NoSuchCustomer      nothing is predicted of a customer of that name
    ├── NoSuchKey           the shop has no key of that id, or it was revoked before
    ├── NoSuchModel         the registry holds no model of that name, version or alias
    ├── BadModel            weights cannot be read, or are of another version of habitue
    ├── NotEnoughHistory    too little happened before the cutoff to answer the question
    ├── SawTheFuture        the weights were trained on this shop after the cutoff
    ├── Busy                another process holds the lease of a table or a run
    ├── Overtaken           another writer stored the same rows first
    ├── LogUnavailable      the event log cannot be written or read; nothing was appended
    │   └── Dropped         the log no longer holds rows that were asked for
    ├── NotInstalled        what was asked for needs a package that is not there
    ├── WorkersLost         workers of a training died again and again
    ├── NoAnswer            a server that is read from refuses the question, or does not answer
    └── BadWorkspace        the folder is no workspace, or of a newer format

A message says what was wanted, what was found, and what to do.
"""

import re
from collections.abc import Collection
from difflib import get_close_matches
from importlib.util import find_spec

_MOST_LISTED = 20                          # names in a message


class HabitueError(Exception):
    """Something a user can cause and mend."""


# characters that no terminal shows as one: controls, and those that turn or join what is near
_UNSEEN = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")


def plain(text: str) -> str:
    """A text that moves no terminal; every character that is not seen is a space.

    >>> plain("red\x1b[31m")
    'red [31m'
    """
    return _UNSEEN.sub(" ", text)


def pointed(text: str, place: int, message: str, hint: str = "") -> str:
    """A message that shows a text and points at one of its characters."""
    shown = plain(text)
    start = max(place - 60, 0)
    lines = [message, f"  {shown[start : place + 60]}", f"  {' ' * (place - start)}^"]
    return "\n".join([*lines, *([f"hint: {hint}"] if hint else [])])


class BadMapping(HabitueError, ValueError):
    """The mapping file says something that cannot be followed."""


class BadFile(HabitueError, ValueError):
    """A file to import is missing, empty, truncated or of the wrong shape."""


class BadQuery(HabitueError, ValueError):
    """SQL over the lake is no single SELECT over its views, or cannot be answered."""


class BadLake(HabitueError, RuntimeError):
    """A file that the lake needs is gone, or cannot be read."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the lake cannot be read: {why}\n"
            "hint: `habitue doctor` names the files that are broken; `habitue restore` a copy"
        )


class BadTarget(HabitueError, ValueError):
    """A question about the future cannot be read, or asks for what there is not."""


class BadAudience(HabitueError, ValueError):
    """A condition on customers cannot be read, or makes no sense."""


class NoSuggestion(BadAudience):
    """A language model gave no condition that can be read, in so many tries."""

    def __init__(self, message: str, *, tries: int) -> None:
        super().__init__(message)
        self.tries = tries


class NoSuchAudience(HabitueError, LookupError):
    """The shop has no audience of that name; a text that names it is pointed at."""

    def __init__(self, name: str, known: Collection[str], text: str = "") -> None:
        self.name, self.known = name, known
        held = ", ".join(sorted(known)[:_MOST_LISTED]) or "none yet"
        held += ", …" * (len(known) > _MOST_LISTED)
        message = f"no audience named {name!r}; the shop has: {held}"
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else (
            f"`habitue audience 'CONDITION' --save {name}` makes one"
        )
        place = text.find(name)
        told = f"{message}\nhint: {hint}"
        super().__init__(told if place < 0 or not text else pointed(text, place, message, hint))


class BadSetting(HabitueError, ValueError):
    """A setting holds an impossible value."""


class NoSuchShop(HabitueError, LookupError):
    """The workspace holds no shop of that name."""

    def __init__(self, shop: str, known: Collection[str]) -> None:
        held = ", ".join(sorted(known)) or "none yet"
        super().__init__(
            f"no shop named {shop!r}; the workspace holds: {held}\n"
            "hint: its first event makes it: send one to `habitue serve`, or"
            f" `habitue import FILE --shop {shop} --mapping MAPPING.toml`"
        )


class NoSuchCustomer(HabitueError, LookupError):
    """Nothing is predicted of a customer of that name."""


class NoSuchKey(HabitueError, LookupError):
    """The shop has no key of that id that is still in force."""

    def __init__(self, key_id: str, shop: str) -> None:
        super().__init__(
            f"shop {shop!r} has no key {key_id!r} in force\nhint: `habitue keys --shop {shop}`"
        )


class NoSuchModel(HabitueError, LookupError):
    """The registry holds no model of that name, version or alias."""

    def __init__(self, name: str, known: Collection[str]) -> None:
        held = ", ".join(sorted(known)) or "none yet"
        super().__init__(
            f"no model {name!r}; the registry holds: {held}\nhint: `habitue train` makes one"
        )


class BadModel(HabitueError, ValueError):
    """Weights that cannot be read, contradict themselves, or are of another version of habitue."""

    def __init__(self, where: object, why: str) -> None:
        super().__init__(
            f"the model in {where} cannot be used: {why}\n"
            "hint: `habitue train` makes one that fits; an older habitue may still open this one"
        )


class NotEnoughHistory(HabitueError, ValueError):
    """Too little happened before the cutoff to answer the question."""


class SawTheFuture(HabitueError, ValueError):
    """The weights were trained on this shop after the cutoff."""


class Busy(HabitueError, RuntimeError):
    """Another process holds the lease of a table or a run."""


class LogUnavailable(HabitueError, RuntimeError):
    """The event log's storage is full, read-only, broken, or another process writes to it."""


class Dropped(LogUnavailable):
    """The log holds rows that were asked for no longer: they were trimmed, or too old."""


class Overtaken(HabitueError, RuntimeError):
    """Another writer has moved a cursor as far, or further: its rows are in the lake already."""

    def __init__(self, application: str, *, wanted: int, held: int) -> None:
        super().__init__(
            f"{application} was to move to {wanted} and is at {held}: another writer was first\n"
            "hint: read the cursor again and go on from there"
        )


class BadWorkspace(HabitueError, ValueError):
    """The folder is no workspace, or one of a newer format."""


class NotInstalled(HabitueError, ImportError):
    """What was asked for needs a package that is installed only on demand."""

    def __init__(self, package: str, *, extra: str) -> None:
        super().__init__(
            f"this needs the package {package}, which is not installed\n"
            f"hint: pip install 'habitue[{extra}]'"
        )

    @classmethod
    def unless(cls, module: str, *, package: str, extra: str) -> None:
        """Raise it, unless the module can be imported."""
        if find_spec(module) is None:
            raise cls(package, extra=extra)


class WorkersLost(HabitueError, RuntimeError):
    """Workers of a training died again and again."""


class NoAnswer(HabitueError):
    """A server that is read from refuses the question, or does not answer it."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status               # of its answer, where that is why
