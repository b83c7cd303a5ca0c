"""Audiences that have a name, kept in the lake's table `audiences`.

Saving under a name that is taken changes what it means from then on; removing is a row too, so
that what it meant at an earlier time can still be told.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from habitue.audiences.language.nodes import Member
from habitue.audiences.language.writing import written
from habitue.audiences.members import Said, expanded, understood
from habitue.errors import NoSuchAudience
from habitue.lake.query import read
from habitue.lake.schema import AUDIENCES
from habitue.lake.tables import Lake

# one row per audience, by name
LISTED = "SELECT name, condition, since FROM audiences ORDER BY name"


@dataclass(frozen=True, slots=True)
class Saved:
    """The audiences of one shop that have a name."""

    lake: Lake
    shop: str
    clock: Callable[[], datetime]

    def table(self, *, known_at: datetime | None = None) -> pa.Table:
        """One row per audience: name, condition, since."""
        return read(self.lake, LISTED, shop=self.shop, known_at=known_at)

    def sentences(self) -> dict[str, str]:
        """What each name means."""
        if self.shop not in self.lake.shops():
            return {}
        return {row["name"]: row["condition"] for row in self.table().to_pylist()}

    def save(self, name: str, said: Said) -> str:
        """Give a condition a name, from now on; returns the condition as it was understood.

        Raises:
            BadAudience: the condition cannot be read, or would name itself.
            NoSuchAudience: it names an audience that is not there.
        """
        told = written(understood(said))
        expanded(Member(name), {**self.sentences(), name: told})
        self._append(name, told)
        return told

    def remove(self, name: str) -> None:
        """Take a name back, from now on; audiences that name it can no longer be asked for.

        Raises:
            NoSuchAudience: there is none of that name.
        """
        if name not in (known := self.sentences()):
            raise NoSuchAudience(name, known)
        self._append(name, None)

    def _append(self, name: str, condition: str | None) -> None:
        row = {
            "shop": self.shop,
            "name": name,
            "condition": condition,
            "received": self.clock(),
        }
        schema = pa.schema([one for one in AUDIENCES if one.name != "bucket"])
        self.lake.append({"audiences": pa.Table.from_pylist([row], schema=schema)})
