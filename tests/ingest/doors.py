"""A door to translate through, and what every translation must hold."""

from datetime import UTC, datetime
from typing import Any

from habitue.events import Noun
from habitue.ingest.doors.intake import Door, Intake

SECRET = b"only the shop's"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def door(source: str = "native", **changes: Any) -> Door:
    told: dict[str, Any] = {"shop": "acme", "source": source, "received": NOW, "secret": SECRET}
    return Door(**(told | changes))


def nouns(intake: Intake) -> list[Noun]:
    return [noun for entry in intake.entries for noun in entry.nouns]


def first(intake: Intake) -> Any:
    """The noun that decides whether the only input is new."""
    assert reasons(intake) == []
    (entry,) = intake.entries
    return entry.nouns[0]


def reasons(intake: Intake) -> list[tuple[int, str, str]]:
    return [(one.position, one.pointer, one.reason) for one in intake.rejections]


def assert_counted(intake: Intake) -> None:
    """Every input is an entry or a rejection, once, and each entry became something."""
    positions = [one.position for one in (*intake.entries, *intake.rejections)]
    assert sorted(positions) == list(range(intake.rows))
    assert all(entry.nouns for entry in intake.entries)
