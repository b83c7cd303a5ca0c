"""`Storage`: what the lake asks of the place that its files are in, and `Place`, a file there."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from habitue.lake.storage.bucket import ObjectPlace

Place: TypeAlias = "Path | ObjectPlace"    # of a file or folder


@dataclass(frozen=True, slots=True)
class Held:
    """A file that is there."""

    path: str                              # relative to the folder that was listed
    size: int                              # bytes
    modified: float                        # seconds since 1970, by the storage's clock


class Lease(Protocol):
    """The right to be the only one, until it is given back or its holder dies."""

    pause_seconds: float                   # after which asking again makes sense

    def take(self) -> bool:
        """Whether it was to be had."""

    def confirm(self) -> None:
        """Make sure that it still is ours; raises `Busy` where another has it."""

    def release(self) -> None:
        """Give it back, or what was begun of taking it."""


class Storage(Protocol):
    """Files that are written once, durable and whole as soon as a method returns.

    Every method raises `OSError` where the storage cannot be reached, is full or refuses.
    """

    options: dict[str, str] | None         # with which others open its tables
    is_shared: bool                        # by machines that no lock of the kernel holds apart

    def read(self, place: Any) -> bytes | None:
        """A file's content; None where there is none."""

    def put_new(self, place: Any, content: bytes) -> None:
        """Make a file; raises `FileExistsError` where there is one.

        Whoever makes files of one name at the same time in a folder holds a lease there.
        """

    def replace(self, place: Any, content: bytes) -> None:
        """Make a file, or put it in the place of the one that is there."""

    def delete(self, place: Any) -> None:
        """Remove a file, if it is there."""

    def list(self, place: Any, *, after: str = "") -> list[Held]:
        """The files directly in a folder, sorted by name; only those that follow `after`."""

    def save(self, place: Any, fill: Callable[[Path], None]) -> int:
        """Make a file out of what `fill` writes to a path; returns its bytes.

        It is there for sure only after this thread's `settle`; in a local folder it is durable only
        when the lake has flushed it, which it does by itself.
        """

    def settle(self) -> None:
        """Wait until everything that this thread saved is there."""

    def source(self, place: Any) -> Any:
        """What `pyarrow.parquet` opens to read a file."""

    def own(self, name: str) -> str:
        """A file's name, made so that no other writer uses it at the same time."""

    def moment(self, place: Any) -> int:
        """Milliseconds since 1970: when a file was changed, as far as the storage tells."""

    def lease(self, place: Any) -> Lease:
        """A lease by name, not taken yet."""

    def begun(self, root: Any) -> bytes | None:
        """The intention of a commit that is not laid aside."""

    def done(self, root: Any) -> bytes | None:
        """The intention that was laid aside last."""

    def begin(self, root: Any, intention: bytes) -> None:
        """Promise a commit; from then on it happens. The lake's lease is held."""

    def lay_aside(self, root: Any) -> None:
        """The promise is kept."""

    def attach(self, connection: Any) -> None:
        """Let a connection to DuckDB read the files."""
