"""Rejected inputs once more, as they came: after a name table, a limit or a release was mended.

What is taken now is settled like anything else, and marked as replayed; what is refused again stays
as it is. An input whose payload was cut, or emptied by an erasure, cannot be read again.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import msgspec
import pyarrow as pa

from habitue.directory import ShopEntry
from habitue.events import PAYLOAD_BYTES, Noun
from habitue.ingest.doors import native, posthog, segment
from habitue.ingest.doors.intake import Door, Intake, Malformed, Translator
from habitue.ingest.doors.klaviyo import routes
from habitue.ingest.gate import Gate
from habitue.lake.query import read
from habitue.lake.schema import REPLAYED
from habitue.lake.tables import Lake

_AT_ONCE = 5_000                           # inputs in one commit

# one row per input that was not taken yet
_OPEN = """
SELECT receipt, position, source, origin, reason, payload, received FROM rejected
WHERE replayed IS NULL
ORDER BY received, receipt, position
"""

_KLAVIYO: Mapping[str, Translator] = {route.path: route.translate for route in routes.ROUTES}
_CALLS = {
    f"/v1/{type}": partial(segment.translate_call, type=type) for type in segment.TYPES
}

Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What became of inputs that were tried again. tried = appended + duplicate + refused."""

    tried: int
    appended: int
    duplicate: int
    refused: int
    reasons: dict[str, int]                # of the refused, by reason
    unreadable: int                        # not tried: cut, or emptied by an erasure
    of_files: int                          # not tried: rows of files, to be imported again


def replay(
    lake: Lake,
    shop: ShopEntry,
    *,
    now: datetime,
    reasons: Sequence[str] = (),
    refuses: Callable[[Noun], bool] | None = None,
    progress: Progress | None = None,
) -> Replayed:
    """Try a shop's rejected inputs again, those of some reasons or all of them."""
    waiting = [
        row
        for row in read(lake, _OPEN, shop=shop.name).to_pylist()
        if not reasons or row["reason"] in reasons
    ]
    by_doors = [row for row in waiting if row["origin"] and _translator(row) is not None]
    rows = [row for row in by_doors if _is_whole(row["payload"])]
    trial = _Trial(lake, shop, now, refuses)
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        for source in sorted({row["source"] for row in some}):
            trial.again(source, [row for row in some if row["source"] == source])
        if progress is not None:
            progress("replaying", start + len(some), len(rows))
    return Replayed(
        tried=len(rows),
        appended=trial.counts["appended"],
        duplicate=trial.counts["duplicate"],
        refused=sum(trial.refused.values()),
        reasons=dict(sorted(trial.refused.items())),
        unreadable=len(by_doors) - len(rows),
        of_files=len(waiting) - len(by_doors),
    )


@dataclass(slots=True)
class _Trial:
    """Inputs being tried again, and what has become of them so far."""

    lake: Lake
    shop: ShopEntry
    now: datetime
    refuses: Callable[[Noun], bool] | None
    counts: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)     # by reason

    def again(self, source: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Try inputs of one source."""
        taken = [(row, nouns) for row in rows if (nouns := self._nouns(source, row))]
        if not taken:
            return
        receipt, new = Gate(self.lake).tell_new(
            [noun for _, nouns in taken for noun in nouns],
            shop=self.shop.name, source=source, received=self.now, origin="replay",
        )  # fmt: skip
        known = {id(noun) for noun in new}
        appended = sum(id(nouns[0]) in known for _, nouns in taken)
        # marked last: after a crash in between they are tried again, and are duplicates
        marks = _marks(self.shop.name, [row for row, _ in taken], receipt.id, self.now)
        self.lake.append({"replayed": marks})
        self.counts += Counter(appended=appended, duplicate=len(taken) - appended)

    def _nouns(self, source: str, row: Mapping[str, object]) -> list[Noun]:
        """What an input becomes now; nothing where it is refused again, which is counted."""
        intake = _translated(self.shop, source, row)
        if intake is None or intake.rejections or not intake.entries:
            told = intake.rejections if intake is not None else ()
            self.refused[told[0].reason if told else "bad_json"] += 1
            return []
        nouns = [noun for entry in intake.entries for noun in entry.nouns]
        if self.refuses is not None and any(map(self.refuses, nouns)):
            self.refused["erased"] += 1
            return []
        return nouns


def _is_whole(payload: str) -> bool:
    """Whether a payload is what came; one that was cut has about PAYLOAD_BYTES and is no JSON."""
    raw = payload.encode()
    if len(raw) <= PAYLOAD_BYTES - 4:      # as many as the last character may have had
        return bool(raw)
    try:
        msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def _translated(shop: ShopEntry, source: str, row: Mapping[str, object]) -> Intake | None:
    """What a payload becomes today; None where it cannot be read."""
    translate = _translator(row)
    received = row["received"]
    assert translate is not None
    assert isinstance(received, datetime)
    door = Door(
        shop=shop.name,
        source=source,
        received=received,                 # so that what is told from it stays the same
        secret=shop.secret,
        names=shop.names.get(source, {}),
        currency=shop.currency,
    )
    try:
        return translate(str(row["payload"]).encode(), door)
    except Malformed:
        return None


def _translator(row: Mapping[str, object]) -> Translator | None:
    """Who reads such a payload; None for files, whose rows are imported again instead."""
    origin = str(row["origin"])
    match row["source"]:
        case "native":
            return native.translate
        case "klaviyo":
            return _KLAVIYO.get(origin, routes.translate)
        case "segment":
            return _CALLS.get(origin, segment.translate_any)
        case "posthog":
            return posthog.translate
    return None


def _marks(
    shop: str, rows: Sequence[Mapping[str, object]], receipt: str, now: datetime
) -> pa.Table:
    """Rows that say which inputs were replayed."""
    columns = {
        "shop": [shop] * len(rows),
        "receipt": [row["receipt"] for row in rows],
        "position": [row["position"] for row in rows],
        "taken": [receipt] * len(rows),
        "received": [now] * len(rows),
    }
    schema = pa.schema([one for one in REPLAYED if one.name != "bucket"])
    return pa.Table.from_pydict(columns, schema=schema)
