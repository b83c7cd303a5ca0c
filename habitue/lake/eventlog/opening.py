"""`open_log`: the log of a workspace, in its folder or wherever its setting says.

Which topic a workspace's log is in is written down in its folder with the offsets at which it
begins, so that readers' cursors keep their meaning, and no other log is taken for it by mistake.
"""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from habitue.errors import LogUnavailable, NotInstalled
from habitue.lake.eventlog.records import EventLog
from habitue.lake.eventlog.segmentfile import flush
from habitue.lake.eventlog.segments import SHARDS_FILE, SqliteLog

if TYPE_CHECKING:
    from habitue.lake.eventlog.brokers import Place

TOPIC_FILE = "kafka.json"


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """Which topic holds the log of a workspace; in its folder `log`."""

    cluster: str                           # as the brokers call themselves
    topic: str
    begins: tuple[int, ...]                # by shard: added to the topic's offsets


def open_log(folder: Path, place: str | None, cursor: Callable[[int], int]) -> EventLog:
    """The log that the setting names, in files where it names none; close it when done.

    `cursor` tells how far the lake has read a shard. A log that moves to Kafka goes on from there.

    Raises:
        BadSetting: the setting names no log.
        LogUnavailable: it is not the workspace's log, or another one still holds what the lake
            lacks.
        NotInstalled: the setting names a broker, and its client is not there.
    """
    bound = _bound(folder)
    if place is not None:
        NotInstalled.unless("confluent_kafka", package="confluent-kafka", extra="kafka")
        from habitue.lake.eventlog.brokers import Place

        return _in_kafka(folder, Place.of(place), bound, cursor)
    if bound is not None:
        raise LogUnavailable(
            f"the log of this workspace is in Kafka's topic {bound.topic!r}\n"
            f'hint: say so in habitue.toml: log = "kafka://HOST:9092/{bound.topic}"'
        )
    return SqliteLog(folder)


def _in_kafka(
    folder: Path, place: "Place", bound: Bound | None, cursor: Callable[[int], int]
) -> EventLog:
    from habitue.lake.eventlog.kafka import KafkaLog

    log = KafkaLog(place, begins=() if bound is None else bound.begins)
    try:
        if bound is None:
            _refuse_unsettled(folder, cursor)
            # so that the oldest row there gets the offset that is read next
            begins = [max(cursor(n), 0) - log.begin(n) for n in range(log.shards)]
            bound = _bind(folder, Bound(cluster=log.cluster, topic=place.topic, begins=(*begins,)))
            log.begins = [*bound.begins]
        _refuse_another(folder, bound, (log.cluster, place.topic))
    except BaseException:
        log.close()
        raise
    return log


def _refuse_another(folder: Path, bound: Bound, found: tuple[str, str]) -> None:
    if found != (bound.cluster, bound.topic):
        raise LogUnavailable(
            f"the log of this workspace is in the topic {bound.topic!r} of the cluster"
            f" {bound.cluster!r}, not in {found[1]!r} of {found[0]!r}\n"
            "hint: let `habitue follow` settle the one; then delete"
            f" {folder / TOPIC_FILE} to begin with the other"
        )


def _refuse_unsettled(folder: Path, cursor: Callable[[int], int]) -> None:
    """A log in files must be in the lake before another one goes on from it."""
    if not (folder / SHARDS_FILE).exists():
        return
    with closing(SqliteLog(folder)) as former:
        left = sum(max(former.end(n) - max(cursor(n), 0), 0) for n in range(former.shards))
    if left:
        raise LogUnavailable(
            f"the log in {folder} still holds {left} requests that the lake lacks\n"
            "hint: stop `habitue serve`, run `habitue follow` without the setting `log`, try again"
        )


def _bound(folder: Path) -> Bound | None:
    try:
        return msgspec.json.decode((folder / TOPIC_FILE).read_bytes(), type=Bound)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise LogUnavailable(f"{folder / TOPIC_FILE} cannot be read: {error}") from error


def _bind(folder: Path, bound: Bound) -> Bound:
    """Write it down, durably, unless another process was first; what is written down now."""
    folder.mkdir(parents=True, exist_ok=True)
    file, draft = folder / TOPIC_FILE, folder / f".{TOPIC_FILE}.{os.getpid()}"
    draft.write_bytes(msgspec.json.encode(bound))
    flush(draft)
    try:
        os.link(draft, file)               # unlike a rename, never over another's
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    flush(folder)
    found = _bound(folder)
    assert found is not None, "it was just linked"
    return found
