"""The registry: runs, the versions they published, and the aliases that point at versions.

Enters: a run's configuration, what it saw, and a writer of its files. Leaves: folders with
`config.json`, `model.safetensors` and `card.md`, and an SQLite file that says which exist. A
version exists from the instant its row does, and its folder is complete and on disk before that.
Knows folders, not torch.
"""

import fcntl
import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from habitue.config import TrainConfig
from habitue.errors import Busy, NoSuchModel, SawTheFuture

log = logging.getLogger(__name__)

CHAMPION = "champion"                      # the alias that answers when no version is named
REQUIRED_FILES = ("config.json", "model.safetensors")
CARD = "card.md"
_WAIT_SECONDS = 30.0

# promotions: one row per move of an alias; the latest is where it points. Never changed.
_TABLES = """
CREATE TABLE IF NOT EXISTS runs (
    run INTEGER PRIMARY KEY AUTOINCREMENT, shop TEXT NOT NULL, cutoff TEXT NOT NULL,
    config TEXT NOT NULL, started TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS versions (
    version TEXT PRIMARY KEY, run INTEGER NOT NULL UNIQUE REFERENCES runs, created TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS saw (
    version TEXT NOT NULL REFERENCES versions, shop TEXT NOT NULL, fingerprint TEXT NOT NULL,
    last_event TEXT NOT NULL, PRIMARY KEY (version, shop));
CREATE TABLE IF NOT EXISTS promotions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, shop TEXT NOT NULL, alias TEXT NOT NULL,
    version TEXT NOT NULL REFERENCES versions, time TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS promotions_stand BEFORE UPDATE ON promotions
    BEGIN SELECT RAISE(ABORT, 'promotions are never changed'); END;
CREATE TRIGGER IF NOT EXISTS promotions_stay BEFORE DELETE ON promotions
    BEGIN SELECT RAISE(ABORT, 'promotions are never deleted'); END;
"""

# one row per version
_VERSIONS = """
SELECT v.version, r.shop, r.cutoff, v.created FROM versions v JOIN runs r USING (run) ORDER BY run
"""

# one row per shop that a version saw
_SAW = "SELECT shop, fingerprint, last_event FROM saw WHERE version = ? ORDER BY shop"

# one row per alias of a shop: its latest promotion
_ALIASES = """
SELECT alias, version FROM promotions
WHERE id IN (SELECT max(id) FROM promotions WHERE shop = ? GROUP BY alias) ORDER BY alias
"""

# one row per promotion, in the order in which they were made
_PROMOTIONS = "SELECT shop, alias, version, time, reason FROM promotions ORDER BY id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Saw:
    """That weights were trained on a shop's events, and how far."""

    shop: str
    fingerprint: str                       # of the events, whatever the shop is called
    last_event: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One published model."""

    version: str
    shop: str                              # that it was trained for
    cutoff: datetime
    created: datetime
    folder: Path
    saw: tuple[Saw, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """One move of an alias."""

    shop: str
    alias: str
    version: str
    time: datetime
    reason: str


class Registry:
    """The runs, versions and aliases of one workspace."""

    def __init__(self, workspace: Path | str) -> None:
        self.workspace = Path(workspace)

    def start_run(self, config: TrainConfig, *, shop: str, cutoff: datetime, now: datetime) -> int:
        """A new run's number; numbers are never used twice."""
        row = (shop, _text(cutoff), json.dumps(asdict(config), sort_keys=True), _text(now))
        with self._connection() as connection:
            cursor = connection.execute(
                "INSERT INTO runs (shop, cutoff, config, started) VALUES (?, ?, ?, ?)", row
            )
            assert cursor.lastrowid is not None, "SQLite numbers every inserted row"
            return cursor.lastrowid

    @property
    def texts(self) -> Path:
        """Where the vectors of item texts are kept."""
        return self.workspace / "texts"

    def run_folder(self, run: int) -> Path:
        """Where a run keeps its checkpoints; made when first asked for."""
        folder = self.workspace / "runs" / str(run)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def publish(
        self, run: int, write: Callable[[Path], None], *, saw: Sequence[Saw], now: datetime
    ) -> str:
        """The new version's name; `write` puts its files into the folder it is given.

        All or nothing: a crash at any instruction leaves no version, or the whole of it.
        """
        version = f"v{run}"
        folder = self._folder(version)
        draft = folder.with_name(f".{version}")
        with self._publishing():
            self._sweep()
            draft.mkdir()
            write(draft)
            missing = [name for name in REQUIRED_FILES if not (draft / name).is_file()]
            assert not missing, f"a version needs {missing}"
            _flush(draft)
            draft.rename(folder)
            _flush(folder.parent)
            self._enter(version, run, saw, now)
        log.info("published version=%s run=%d", version, run)
        return version

    def versions(self) -> list[Version]:
        """Every published version, oldest first."""
        with self._connection() as connection:
            return [
                Version(
                    version=version,
                    shop=shop,
                    cutoff=_time(cutoff),
                    created=_time(created),
                    folder=self._folder(version),
                    saw=tuple(
                        Saw(shop=shop, fingerprint=fingerprint, last_event=_time(last_event))
                        for shop, fingerprint, last_event in connection.execute(_SAW, [version])
                    ),
                )
                for version, shop, cutoff, created in connection.execute(_VERSIONS).fetchall()
            ]

    def version(self, shop: str, name: str | None = None) -> Version:
        """The version that a name means for a shop: an alias or a version; none: the champion.

        Raises:
            NoSuchModel: nothing of that name was published.
        """
        aliases, versions = self.aliases(shop), {one.version: one for one in self.versions()}
        wanted = aliases.get(name or CHAMPION, name or CHAMPION)
        if wanted not in versions:
            raise NoSuchModel(wanted, [*aliases, *versions])
        return versions[wanted]

    def promote(
        self, version: str, *, shop: str, alias: str = CHAMPION, now: datetime, reason: str
    ) -> None:
        """Point a shop's alias at a version, and write down when and why."""
        found = self.version(shop, version).version
        with self._connection() as connection:
            connection.execute(
                "INSERT INTO promotions (shop, alias, version, time, reason)"
                " VALUES (?, ?, ?, ?, ?)",
                (shop, alias, found, _text(now), reason),
            )
        log.info("promoted shop=%s alias=%s version=%s", shop, alias, found)

    def aliases(self, shop: str) -> dict[str, str]:
        """Where each of a shop's aliases points."""
        with self._connection() as connection:
            return dict(connection.execute(_ALIASES, [shop]).fetchall())

    def promotions(self) -> list[Promotion]:
        """Every move of every alias, oldest first."""
        with self._connection() as connection:
            return [
                Promotion(shop=shop, alias=alias, version=version, time=_time(time), reason=reason)
                for shop, alias, version, time, reason in connection.execute(_PROMOTIONS)
            ]

    def refuse_future(
        self, version: str, shop: str, cutoff: datetime, *, fingerprint: str | None = None
    ) -> None:
        """Raise `SawTheFuture` where a version saw the shop after the cutoff.

        The shop is known by its name or, under another name, by the fingerprint of its events.
        """
        for seen in self.version(shop, version).saw:
            same = seen.shop == shop or seen.fingerprint == fingerprint
            if same and seen.last_event > cutoff:
                other = self.unseeing(shop, cutoff)
                hint = f"--version {other} had not seen so far" if other else (
                    f"`habitue train --shop {shop} --cutoff {_text(cutoff)}` makes one that has not"
                )
                raise SawTheFuture(
                    f"model {version!r} has seen {shop!r} up to {_text(seen.last_event)}, which is"
                    f" after the cutoff {_text(cutoff)}: its answers would be remembered, not"
                    f" predicted\nhint: {hint}"
                )

    def unseeing(self, shop: str, cutoff: datetime) -> str | None:
        """The newest version of a shop that has seen nothing of it after a cutoff, if any."""
        blind = [
            one
            for one in self.versions()
            if one.shop == shop
            and one.cutoff <= cutoff
            and all(seen.last_event <= cutoff for seen in one.saw if seen.shop == shop)
        ]
        newest = max(blind, key=lambda one: (one.cutoff, one.created), default=None)
        return None if newest is None else newest.version

    def write_card(self, version: str, text: str) -> None:
        """Replace a version's card in one step; no other file of a version ever changes."""
        draft = self._folder(version) / f".{CARD}"
        draft.write_text(text)
        draft.replace(self._folder(version) / CARD)

    def derive(self, version: str, name: str, write: Callable[[Path], None]) -> Path:
        """A file of a version that is made when it is first asked for, and never again."""
        path = self._folder(version) / name
        if not path.exists():
            draft = path.with_name(f".{name}")
            write(draft)
            draft.replace(path)
        return path

    def _folder(self, version: str) -> Path:
        return self.workspace / "models" / version

    def _enter(self, version: str, run: int, saw: Sequence[Saw], now: datetime) -> None:
        rows = [(version, one.shop, one.fingerprint, _text(one.last_event)) for one in saw]
        with self._connection() as connection:
            connection.execute("INSERT INTO versions VALUES (?, ?, ?)", (version, run, _text(now)))
            connection.executemany("INSERT INTO saw VALUES (?, ?, ?, ?)", rows)

    def _sweep(self) -> None:
        """Remove what a crash left between the first file of a version and its row."""
        published = {one.version for one in self.versions()}
        for folder in (self.workspace / "models").iterdir():
            if folder.name not in published:
                log.warning("removed an unfinished version folder=%s", folder.name)
                shutil.rmtree(folder)

    @contextmanager
    def _publishing(self) -> Iterator[None]:
        """Publish one version at a time; the lock ends with the process that holds it."""
        models = self.workspace / "models"
        models.mkdir(parents=True, exist_ok=True)
        handle = os.open(models, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed at the end, or rolled back."""
        self.workspace.mkdir(parents=True, exist_ok=True)
        path = self.workspace / "registry.sqlite"
        connection = sqlite3.connect(path, timeout=_WAIT_SECONDS)
        try:
            connection.executescript(f"PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; {_TABLES}")
            with connection:
                yield connection
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            raise Busy(f"{path.name} is locked by another process\nhint: try again") from error
        finally:
            connection.close()


def _flush(folder: Path) -> None:
    """Force a folder's files, and the folder itself, onto the disk."""
    for path in [*folder.iterdir(), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat()


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
