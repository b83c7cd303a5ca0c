"""The facade: one folder with many shops, and a dozen one-line methods.

Rooms are imported inside the methods, so that opening a workspace is quick.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from habitue.config import HERE, Launch, TrainConfig, load_settings, nano, utc_now
from habitue.directory import DIRECTORY_FILE, Directory
from habitue.errors import BadSetting, BadWorkspace, NotEnoughHistory
from habitue.marker import (
    FORMAT,
    FORMAT_FILE,
    check_format,
    lake_place,
    write_format,
    write_lake,
)
from habitue.refusals import Refusals
from habitue.registry import Registry

if TYPE_CHECKING:
    import pyarrow as pa

    from habitue.asking import Reply
    from habitue.audiences.members import Audience, Said
    from habitue.audiences.saved import Saved
    from habitue.events import Receipt
    from habitue.ingest.commit import Settled
    from habitue.ingest.folders import Import
    from habitue.ingest.kafka import Topic
    from habitue.ingest.replay import Replayed
    from habitue.lake.eventlog.records import EventLog
    from habitue.lake.tables import Lake
    from habitue.lake.views.customer import Customer
    from habitue.predictions.explain.why import Explanation
    from habitue.predictions.probes.language import Target
    from habitue.predictions.rows import Row
    from habitue.privacy import Places
    from habitue.publishing import Source
    from habitue.recommendations.shelf.rulebook import Rulebook

DEFAULT_HORIZONS = (30.0, 90.0, 180.0)     # days

Share = Callable[[float], None]            # told which share is done, 0 to 1
Progress = Callable[[str, int, int | None], None]    # what is being done, steps done, of how many

# one row: the shop's last event
_LAST_EVENT = 'SELECT max("time") AS last FROM events'


def open_workspace(
    path: Path | str | None = None, *, create: bool = True, lake: str | None = None
) -> "Workspace":
    """The workspace in a folder, made there if the folder is empty; none: the one of the settings.

    A new one puts its lake into `lake`, s3://bucket/prefix; none: as the settings say; empty: into
    its folder. Everything else is always in the folder.

    Raises:
        BadWorkspace: the folder holds something else, or a newer format, or is missing while
            `create` is false; or the lake belongs to another workspace.
        BadSetting: the workspace's lake is elsewhere than it should be.
    """
    settings = load_settings()
    folder = settings.workspace if path is None else _local(path)
    marker = folder / FORMAT_FILE
    if marker.is_file():
        check_format(folder)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadWorkspace(f"{folder} is no workspace, and not empty\nhint: name a new folder")
    elif not create:
        raise BadWorkspace(
            f"no workspace at {folder}\nhint: `habitue import FILE --workspace {folder} --shop"
            f" NAME --mapping MAPPING.toml` makes one, and so does `habitue serve --workspace"
            f" {folder} --shop NAME`"
        )
    else:
        write_format(folder, FORMAT)
    if wanted := settings.lake if lake is None else lake:
        _settle_lake(folder, wanted)
    return Workspace(folder)


def _local(path: Path | str) -> Path:
    if str(path).startswith("s3:"):
        raise BadWorkspace(
            f"{path}: a workspace is a local folder, only its lake may be in a bucket\n"
            f"hint: habitue.open(FOLDER, lake={str(path)!r}), or `lake` in habitue.toml"
        )
    return Path(path)


def _settle_lake(folder: Path, address: str) -> None:
    """Put the lake of a new workspace into a bucket; of one that has a lake, check where it is."""
    from habitue.lake.storage.owner import claim

    held = lake_place(folder)
    if held == address:
        return
    if isinstance(held, str) or held.exists():
        raise BadSetting(
            f"the lake of {folder} is at {held}, not at {address}\n"
            "hint: a lake is not moved by a setting; name a new folder, or take the setting back"
        )
    id = secrets.token_hex(16)
    claim(address, id)
    write_lake(folder, address, id)


@dataclass(frozen=True, slots=True)
class Workspace:
    """One deployment: a folder with many shops. Made by `habitue.open`."""

    path: Path

    @property
    def lake(self) -> "Lake":
        """The tables of every shop."""
        from habitue.lake.tables import Lake

        return Lake(lake_place(self.path), beside=self.path)

    @property
    def registry(self) -> Registry:
        """The runs, versions and aliases."""
        return Registry(self.path)

    @property
    def log(self) -> "EventLog":
        """What came in and is not in the lake yet, where the settings say; close it when done."""
        from habitue.lake.eventlog.opening import open_log

        place = load_settings().log
        return open_log(self.path / "log", place, lambda shard: self.lake.cursor(f"log-{shard}"))

    @property
    def directory(self) -> Directory:
        """The shops' keys, name tables and erasures."""
        return Directory(self.path / DIRECTORY_FILE)

    @property
    def places(self) -> "Places":
        """Where what is kept of a customer is, for erasure and export."""
        from habitue.privacy import Places

        log = load_settings().log
        return Places(lake=self.lake, directory=self.directory, folder=self.path, log_place=log)

    def shops(self) -> list[str]:
        """The names of the shops, sorted."""
        return sorted({*self.lake.shops(), *self.directory.shops()})

    def shop(self, name: str) -> "Shop":
        """A shop by name; it begins to exist with its first import."""
        return Shop(self, name)

    def compact(self) -> int:
        """Merge the small files of every table; returns how many were merged away."""
        return self.lake.compact()


@dataclass(frozen=True, slots=True)
class Shop:
    """One merchant in a workspace, whose data no other shop sees."""

    workspace: Workspace
    name: str

    @property
    def source(self) -> "Source":
        """The shop with where its events and its models are."""
        from habitue.publishing import Source

        return Source(self.workspace.lake, self.workspace.registry, self.name)

    def ingest(
        self,
        path: Path | str,
        mapping: Path | str,
        *,
        now: datetime | None = None,
        progress: Share | None = None,
    ) -> "Receipt":
        """Import a Parquet, CSV or NDJSON file as its mapping says; a second time adds nothing."""
        from habitue.ingest.importing import import_file
        from habitue.ingest.mapping import read_mapping

        return import_file(
            Path(path), lake=self.workspace.lake, shop=self.name, mapping=read_mapping(mapping),
            now=now or utc_now(), progress=progress,
        )  # fmt: skip

    def ingest_klaviyo(
        self,
        api_key: str,
        *,
        url: str = "https://a.klaviyo.com",
        since: datetime | None = None,
        now: datetime | None = None,
        progress: Progress | None = None,
    ) -> "Receipt":
        """Import the shop's past out of Klaviyo, or what is new since; goes on where it was cut."""
        from habitue.ingest.history import klaviyo
        from habitue.ingest.history.api import Api

        api = Api(url, api_key, pause=time.sleep, clock=time.monotonic)
        directory, folder = self.workspace.directory, self.workspace.path / "imports"
        shop, refuses = directory.shop(self.name, create=True), Refusals(directory)
        lake = self.workspace.lake
        home = klaviyo.home(lake, shop, folder, refuses=refuses, now=now or utc_now())
        return klaviyo.import_history(api, home, since=since, progress=progress)

    def consume(
        self, topic: "Topic", *, follows: bool = False, told: "Callable[[Settled], None]"
    ) -> None:
        """Take a topic of Kafka into the lake, to where it ends now or for ever."""
        from habitue.ingest.kafka import consume_topic

        lake, directory = self.workspace.lake, self.workspace.directory
        consume_topic(topic, lake, directory, follows=follows, now=utc_now, told=told)

    def watch(
        self,
        address: str,
        mapping: Path | str,
        *,
        told: "Callable[[Import], None]",
        once: bool = False,
    ) -> list[str]:
        """Import every complete new file of a folder or s3:// prefix, once or for ever.

        Returns the files that still change.
        """
        from habitue.ingest.folders import Target, watch_address

        lake, memory = self.workspace.lake, self.workspace.path / "imports"
        target = Target(lake=lake, shop=self.name, mapping=Path(mapping), memory=memory)
        return watch_address(address, target, told, once=once, now=utc_now)

    def query(
        self,
        sql: str,
        parameters: Sequence[object] = (),
        *,
        cutoff: datetime | None = None,
        known_at: datetime | None = None,
    ) -> "pa.Table":
        """The answer to one SELECT over this shop's views, as of the cutoff."""
        from habitue.lake.query import read

        return read(
            self.workspace.lake, sql, parameters, shop=self.name, cutoff=cutoff, known_at=known_at
        )

    def rejected(self, *, known_at: datetime | None = None) -> "pa.Table":
        """Every input that was not taken, and why."""
        from habitue.lake.views import lists

        return self.query(lists.REJECTED, known_at=known_at)

    def customer(
        self,
        key: str | None = None,
        *,
        email: str | None = None,
        phone: str | None = None,
        events: int = 10,
        cutoff: datetime | None = None,
        known_at: datetime | None = None,
    ) -> "Customer":
        """One customer, named by a key, an email or a phone: keys, properties, last events."""
        from habitue.lake.views.customer import customer

        return customer(
            self.workspace.lake, self.key_of(key, email=email, phone=phone), shop=self.name,
            events=events, cutoff=cutoff, known_at=known_at,
        )  # fmt: skip

    def link(
        self,
        key: str,
        other: str,
        *,
        reason: str = "",
        undo: bool = False,
        now: datetime | None = None,
    ) -> "Receipt":
        """Say that two keys are one customer from now on; with `undo`, that no link makes them so.

        Earlier cutoffs answer as before.
        """
        from habitue.ingest.gate import Gate, linked_by_hand

        return Gate(self.workspace.lake).tell(
            [linked_by_hand(self.name, key, other, reason=reason, undo=undo, now=now or utc_now())],
            shop=self.name, source="person", received=now or utc_now(),
            origin="unlink" if undo else "link",
        )  # fmt: skip

    def conflicts(
        self, *, cutoff: datetime | None = None, known_at: datetime | None = None
    ) -> "pa.Table":
        """Every pair of keys that was linked and is still two customers, and why."""
        from habitue.lake.views import lists

        return self.query(lists.CONFLICTS, cutoff=cutoff, known_at=known_at)

    def sources(self, *, known_at: datetime | None = None) -> "pa.Table":
        """Who told of orders, how many of them, and whom the shop believes first."""
        from habitue.lake.views import lists

        return self.query(lists.SOURCES, known_at=known_at)

    def believe(self, sources: Sequence[str], *, now: datetime | None = None) -> "Receipt":
        """From now on, of an order told by several sources, believe the first of these."""
        from habitue.ingest.gate import Gate, Settings

        settings = Settings(order_sources=tuple(sources))
        return Gate(self.workspace.lake).declare(self.name, settings, now=now or utc_now())

    def key_of(
        self, key: str | None = None, *, email: str | None = None, phone: str | None = None
    ) -> str:
        """The key by which tables name a customer: as told, or of an email or phone."""
        return key or self._surrogate(email, phone)

    def _surrogate(self, email: str | None, phone: str | None) -> str:
        from habitue.ingest.doors.keys import surrogate

        return surrogate(
            self.workspace.directory.shop(self.name, create=True).secret, email=email, phone=phone
        )

    def replay(
        self,
        reasons: Sequence[str] = (),
        *,
        now: datetime | None = None,
        progress: Progress | None = None,
    ) -> "Replayed":
        """Try rejected inputs again, those of some reasons or all of them."""
        from habitue.ingest.replay import replay

        directory = self.workspace.directory
        return replay(
            self.workspace.lake, directory.shop(self.name, create=True), now=now or utc_now(),
            reasons=reasons, refuses=Refusals(directory), progress=progress,
        )  # fmt: skip

    def last_event(self) -> datetime:
        """When the shop's last event happened: the cutoff where none is named.

        Raises:
            NotEnoughHistory: the shop has no events yet.
        """
        last = self.query(_LAST_EVENT)["last"][0].as_py()
        if last is None:
            raise NotEnoughHistory(
                f"shop {self.name!r} has no events yet\nhint: import its orders first"
            )
        return last

    def train(
        self,
        config: TrainConfig | None = None,
        *,
        cutoff: datetime | None = None,
        now: datetime | None = None,
        progress: Progress | None = None,
        launch: Launch = HERE,
    ) -> str:
        """Train on everything up to the cutoff and publish; returns the version's name."""
        from habitue import publishing

        return publishing.train(
            self.source, config=config or nano(), cutoff=cutoff or self.last_event(),
            now=now or utc_now(), progress=progress, launch=launch,
        )  # fmt: skip

    def predict(
        self,
        question: "str | Target | None" = None,
        *,
        horizons: Sequence[float] = DEFAULT_HORIZONS,
        cutoff: datetime | None = None,
        version: str | None = None,
        known_at: datetime | None = None,
        launch: Launch = HERE,
    ) -> "pa.Table":
        """One row per customer, question and horizon: value, low, high, status.

        Questions are `order`, `churn`, `orders`, `revenue` and `next_order`; none asks all. A
        `Target` asks anything else, and brings its own horizon: see `ask`.
        """
        if question is not None and not isinstance(question, str):
            return self.ask(question, cutoff=cutoff, version=version, known_at=known_at).table
        self._refuse_unpublished(version)
        from habitue import publishing

        return publishing.predict(
            self.source,
            publishing.AsOf(cutoff or self.last_event(), version, known_at),
            horizons=tuple(horizons),
            question=question,
            now=utc_now(),
            launch=launch,
        )

    def ask(
        self,
        target: "Target | str",
        *,
        cutoff: datetime | None = None,
        version: str | None = None,
        known_at: datetime | None = None,
        progress: Progress | None = None,
    ) -> "Reply":
        """Any question, such as "count of order_placed in 60 days", and how the answer did before.

        The reply's `table` is what `predict` returns, its `judged` the comparison on the last
        window, its `method` what was chosen, and `missing` what an answer would need.
        """
        from habitue.predictions.probes.language import Target

        asked = Target.parse(target) if isinstance(target, str) else target
        self._refuse_unpublished(version, own=True)
        from habitue import asking, publishing

        return asking.ask(
            self.source,
            publishing.AsOf(cutoff or self.last_event(), version, known_at),
            asked,
            now=utc_now(),
            progress=progress,
        )

    def audience(
        self,
        said: "Said",
        *,
        cutoff: datetime | None = None,
        known_at: datetime | None = None,
    ) -> "Audience":
        """Who meets a condition, such as "did order_placed >= 2 times in 90 days and churn > 0.7".

        The answer has a `size` and a table of `members`; earlier cutoffs tell who it was then.
        """
        from habitue.audiences import members

        return self.audiences.find(said, members.AsOf(cutoff or self.last_event(), known_at))

    @property
    def audiences(self) -> "Saved":
        """The shop's audiences: those that have a name, and what came after one."""
        from habitue.audiences.saved import Saved
        from habitue.recalling import opened, recalls

        live = self.workspace.places.profiles
        return Saved(self.workspace.lake, self.name, utc_now, recalls(self), live, opened)

    def embeddings(
        self,
        width: int = 256,
        *,
        of: str = "customer",
        cutoff: datetime | None = None,
        version: str | None = None,
        known_at: datetime | None = None,
    ) -> "pa.Table":
        """What a version knows of every customer (or `of="item"`): 64, 256 or 2048 numbers each."""
        self._refuse_unpublished(version, own=True)
        from habitue import asking, publishing

        return asking.embeddings(
            self.source,
            publishing.AsOf(cutoff or self.last_event(), version, known_at),
            width=width,
            of=of,
            now=utc_now(),
        )

    def why(  # noqa: PLR0913 - whom, what, and as of when, as every verb that asks a model
        self,
        customer: str,
        question: str = "churn",
        *,
        horizon_days: float = 90.0,
        budget_ms: float = 500.0,
        cutoff: datetime | None = None,
        version: str | None = None,
        known_at: datetime | None = None,
    ) -> "Explanation":
        """Why a customer is predicted what they are: factors that add up to the prediction.

        Questions are `order`, `churn`, `orders` and `revenue`. Everyone is scored first, as by
        `predict`; the budget is for dividing one prediction among its factors.
        """
        self._refuse_unpublished(version)
        from habitue import publishing

        return publishing.why(
            self.source,
            publishing.AsOf(cutoff or self.last_event(), version, known_at),
            customer,
            publishing.Ask(
                question=question, horizon_days=horizon_days, budget_seconds=budget_ms / 1_000
            ),
        )

    def recommend(  # noqa: PLR0913 - for whom, on which page, and as of when
        self,
        customer: str | None = None,
        *,
        k: int = 10,
        page: Sequence[str] = (),
        per_category: int | None = None,
        exclude_bought: bool = False,
        not_sold_days: float | None = None,
        cutoff: datetime | None = None,
        version: str | None = None,
        known_at: datetime | None = None,
    ) -> "pa.Table":
        """The k best items for a customer, or for everyone, within the shop's rules.

        `page` names what is on the page or in the cart: what goes with it moves up.
        """
        self._refuse_unpublished(version)
        from habitue import publishing

        now = cutoff or utc_now()          # of what can be sold and what the shop says
        return publishing.recommend(
            self.source,
            publishing.AsOf(cutoff or self.last_event(), version, known_at),
            k=k,
            exclude_bought=exclude_bought,
            not_sold_days=not_sold_days,
            page=publishing.Page(customer, tuple(page), per_category, self.rules.at(now), now),
        )

    @property
    def rules(self) -> "Rulebook":
        """What the shop says of its lists: pin, boost, bury, only these, hide."""
        from habitue.recommendations.shelf.rulebook import Rulebook

        return Rulebook(self.workspace.directory, self.name, utc_now)

    def items(
        self,
        *,
        cutoff: datetime | None = None,
        version: str | None = None,
        known_at: datetime | None = None,
    ) -> "pa.Table":
        """The catalogue, one row per item: sales, popularity, trend and expected demand."""
        self._refuse_unpublished(version)
        from habitue import publishing

        as_of = publishing.AsOf(cutoff or self.last_event(), version, known_at)
        return publishing.items(self.source, as_of)

    def _refuse_unpublished(self, version: str | None, *, own: bool = False) -> None:
        """Raise `NoSuchModel` at once, unless what ships can answer: what comes next is slow."""
        from habitue.transfer.shelf import is_starter

        if own or not (version is None or is_starter(version)):
            self.workspace.registry.version(self.name, version)

    def evaluate(
        self,
        config: TrainConfig | None = None,
        *,
        cutoffs: Sequence[datetime],
        horizon_days: float = 90.0,
        progress: Progress | None = None,
    ) -> "list[Row]":
        """The model beside its baselines on what followed each cutoff: flat rows."""
        from habitue import evaluation
        from habitue.transfer.adapt import learn_best

        learner = evaluation.Learner(config or nano(), learn_best)
        return evaluation.evaluate(
            self.workspace.lake, self.name, cutoffs=tuple(cutoffs), horizon_days=horizon_days,
            learner=learner, progress=progress,
        )  # fmt: skip
