"""A shop's past out of Klaviyo: whole, resumable, at the pace allowed, and never twice."""

import json
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from habitue.cli.app import main
from habitue.directory import Directory
from habitue.errors import NoAnswer
from habitue.events import Receipt
from habitue.ingest.commit import Committer
from habitue.ingest.doors.intake import Door, Intake
from habitue.ingest.doors.keys import email_key
from habitue.ingest.doors.klaviyo.events import create_event
from habitue.ingest.history import klaviyo as history
from habitue.ingest.history.api import Api, pace_seconds
from habitue.lake.eventlog.records import Part, encode
from habitue.lake.eventlog.segments import SqliteLog
from habitue.lake.maintenance import housekeeping, tidy
from habitue.lake.query import read
from habitue.lake.tables import Lake
from habitue.refusals import Refusals
from tests.ingest.klaviyo_server import API_KEY, Klaviyo, application, served
from tests.ingest.klaviyo_small import encoded, metric, profile

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DOOR = Door(shop="acme", source="klaviyo", received=NOW, secret=b"the shop's", currency="EUR")
ORDER = {"OrderId": "1001", "Items": [{"ProductID": "SKU1", "Quantity": 2, "ItemPrice": 12.5}]}


class Clock:
    """Seconds that pass only when somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def pause(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def account() -> Klaviyo:
    held = Klaviyo()
    held.profile("P1", email="ada@example.com", external_id="cust-42", first_name="Ada")
    held.profile("P2", email="bob@example.com")
    held.profile("P3")
    held.item("SKU1", title="Enamel mug", price=12.5, published=True)
    for day in range(1, 9):
        when = f"2026-11-0{day}T10:15:00+00:00"
        held.event("Viewed Product", "P2", when, **{"$event_id": f"v-{day}", "ProductID": "SKU1"})
    order = {**ORDER, "$event_id": "order-1001", "$value": 25.0, "$value_currency": "USD"}
    held.event("Placed Order", "P1", "2026-11-22T10:15:00+00:00", **order)
    held.event("Opened Email", "P3", "2026-11-22T11:00:00+00:00", **{"$event_id": "1795345200"})
    return held


@pytest.fixture
def url(account: Klaviyo) -> Iterator[str]:
    with served(application(account)) as address:
        yield address


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def imported(url: str, lake: Lake, *, clock: Clock | None = None, **options: Any) -> Receipt:
    clock = clock or Clock()
    door = options.pop("door", DOOR)
    folder, refuses = lake.path.parent / "imports", options.pop("refuses", None)
    home = history.Home(lake=lake, door=door, folder=folder, refuses=refuses)
    return history.import_history(
        Api(url, API_KEY, pause=clock.pause, clock=clock), home, **options
    )


def live(lake: Lake, intake: Intake, tmp_path: Path, receipt: str = "live") -> None:
    """What the service does with a request."""
    part = Part(receipt, "acme", "klaviyo", "/api/events", NOW, intake.entries)
    log = SqliteLog(tmp_path / "log")
    log.append(0, [encode(part)])
    committer = Committer(lake, log, 0)
    committer.step()
    committer.close()
    log.close()


def digests(lake: Lake) -> set[bytes]:
    table = read(lake, "SELECT digest FROM events", shop="acme")
    assert len(table) == len(set(table["digest"].to_pylist()))
    return set(table["digest"].to_pylist())


def counts(receipt: Receipt) -> tuple[int, int, int]:
    return receipt.appended, receipt.duplicate, receipt.rejected


def test_everything_is_imported_and_counted_once(url, lake):
    receipt = imported(url, lake)

    assert counts(receipt) == (14, 0, 0)
    assert (receipt.rows, receipt.events, receipt.items) == (14, 10, 1)
    rows = read(lake, "SELECT * FROM events ORDER BY time", shop="acme").to_pylist()
    assert all(row["backfilled"] for row in rows)
    assert [row["name"] for row in rows[-2:]] == ["order_placed", "message_opened"]
    order, opened = rows[-2:]
    assert (order["key"], order["order"], order["value_minor"]) == ("cust-42", "1001", 2500)
    assert opened["key"] == "profile:P3"
    items = read(lake, "SELECT title FROM items", shop="acme").to_pylist()
    assert items == [{"title": "Enamel mug"}]


def test_a_second_import_appends_nothing_and_reads_only_what_may_be_new(account, url, lake):
    imported(url, lake)
    account.event("Opened Email", "P2", "2026-11-23T12:30:00+00:00", **{"$event_id": "late"})
    account.asked.clear()

    later = Door(
        shop="acme", source="klaviyo", received=NOW + timedelta(hours=1), secret=DOOR.secret
    )
    again = imported(url, lake, door=later)

    assert again.events == 1
    assert any("greater-or-equal%28datetime%2C2026-11-22T11%3A55" in one for one in account.asked)


def test_the_same_events_through_the_live_door_have_the_same_digests(account, url, tmp_path):
    history_lake, live_lake = Lake(tmp_path / "a" / "lake"), Lake(tmp_path / "b" / "lake")
    imported(url, history_lake)
    people = {
        "P1": profile(email="ada@example.com", external_id="cust-42"),
        "P2": profile(email="bob@example.com"),
        "P3": {"data": {"type": "profile", "id": "P3", "attributes": {}}},
    }

    for place, event in enumerate(account.events):
        told = dict(event["attributes"]["event_properties"])
        unique_id = told.pop("$event_id")
        name = account.metrics[event["relationships"]["metric"]["data"]["id"]]
        attributes = {
            "metric": metric(name),
            "profile": people[event["relationships"]["profile"]["data"]["id"]],
            "properties": told,
            "time": event["attributes"]["datetime"],
        }
        if name != "Opened Email":         # that one was sent without an id
            attributes["unique_id"] = unique_id
        body = encoded({"type": "event", "attributes": attributes})
        live(live_lake, create_event(body, DOOR), tmp_path / "b", f"live-{place}")

    assert digests(history_lake) == digests(live_lake)


def test_an_event_that_was_sent_under_a_weaker_key_is_known_again(url, lake, tmp_path):
    body = encoded({
        "type": "event",
        "attributes": {
            "metric": metric("Placed Order"), "profile": profile(email="ada@example.com"),
            "properties": ORDER, "time": "2026-11-22T10:15:00Z", "unique_id": "order-1001",
        },
    })  # fmt: skip
    live(lake, create_event(body, DOOR), tmp_path)

    receipt = imported(url, lake)

    assert (receipt.events, receipt.duplicate) == (9, 1)
    orders = read(lake, "SELECT * FROM orders", shop="acme").to_pylist()
    assert [(one["order"], one["customer"]) for one in orders] == [("1001", "cust-42")]


def test_an_event_whose_unique_id_is_not_shown_is_known_by_its_second(account, url, lake, tmp_path):
    del account.events[8]["attributes"]["event_properties"]["$event_id"]
    body = encoded({
        "type": "event",
        "attributes": {
            "metric": metric("Placed Order"),
            "profile": profile(email="ada@example.com", external_id="cust-42"),
            "properties": ORDER, "time": "2026-11-22T10:15:00Z", "unique_id": "order-1001",
        },
    })  # fmt: skip
    live(lake, create_event(body, DOOR), tmp_path)

    receipt = imported(url, lake)

    assert (receipt.events, receipt.duplicate) == (9, 1)


def test_the_server_may_throttle_fail_and_die_in_the_middle(account, url, lake):
    account.failures = [429, 503, 500]
    account.dies_at = "=6"
    clock = Clock()

    receipt = imported(url, lake, clock=clock)

    assert counts(receipt) == (14, 0, 0)
    assert account.dies_at is None
    assert clock.waits[0] == 2             # as Retry-After says
    assert clock.waits[-1] == pytest.approx(60 / 3500)     # between pages, the steady pace


@pytest.mark.parametrize("page", [0, 3, 5])
@pytest.mark.parametrize("place", ["history.before_state", "commit.before_index"])
def test_cut_short_anywhere_it_goes_on_after_the_last_complete_page(
    account, url, lake, monkeypatch, page, place
):
    class Killed(BaseException):
        pass

    reached = 0

    def dies(name: str) -> None:
        nonlocal reached
        reached += name == place
        if name == place and reached == page + 1:
            raise Killed

    monkeypatch.setattr(history, "reach", dies)
    monkeypatch.setattr("habitue.ingest.commit.reach", dies)
    with pytest.raises(Killed):
        imported(url, lake)
    asked = len(account.asked)
    receipt = imported(url, lake)

    assert counts(receipt) == (14, 0, 0)
    assert (receipt.events, receipt.items) == (10, 1)
    # metrics, then a page of items, one of profiles and four of events; only the cut one again
    assert len(account.asked) - asked <= 1 + 6 - page


def test_where_the_link_of_a_page_is_no_more_reading_goes_on_by_time(account, url, lake):
    account.stale = {"bmV4dDo6/+=6"}

    receipt = imported(url, lake)

    assert counts(receipt) == (14, 1, 0)   # the last event before it is read again


def test_a_first_page_that_is_refused_is_an_error(account, url, lake):
    account.failures = [400]

    with pytest.raises(NoAnswer, match="answered 400: Later"):
        imported(url, lake)


def test_a_key_that_is_refused_says_so_and_is_not_told(url, lake):
    clock = Clock()
    home = history.Home(lake=lake, door=DOOR, folder=lake.path.parent / "i")

    with pytest.raises(NoAnswer, match="refuses this API key") as refused:
        history.import_history(Api(url, "pk_wrong", pause=clock.pause, clock=clock), home)

    assert "pk_wrong" not in str(refused.value)


def test_a_server_that_never_answers_is_given_up(account, url, lake):
    account.failures = [503] * 20

    with pytest.raises(NoAnswer, match="goes on where it stopped"):
        imported(url, lake)


def test_each_failed_try_is_told_with_the_next_wait(account, url, lake, caplog):
    account.failures = [503, 503]
    imported(url, lake)
    tries = [one.getMessage() for one in caplog.records if "no answer" in one.getMessage()]
    assert len(tries) == 2
    assert "told='status 503' try=1 of=8 wait_seconds=0.5" in tries[0]


def test_a_host_that_nobody_answers_at_is_given_up_soon(lake, caplog):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    clock = Clock()
    with pytest.raises(NoAnswer, match=r"after 3 tries: .*refused"):
        imported(f"http://127.0.0.1:{port}", lake, clock=clock)
    assert len(caplog.records) == 2


def test_what_cannot_be_read_is_rejected_and_kept(account, url, lake):
    account.event("", "P1", "2026-11-22T12:00:00+00:00", **{"$event_id": "x"})
    account.event("Opened Email", "P1", "1985-11-22T12:00:00+00:00", **{"$event_id": "y"})

    receipt = imported(url, lake)

    assert receipt.reasons == {"bad_time": 1, "no_name": 1}
    kept = read(lake, "SELECT payload FROM rejected", shop="acme").to_pylist()
    assert {json.loads(row["payload"])["id"] for row in kept} == {"E10", "E11"}


def test_events_of_the_last_minutes_are_left_to_the_live_door(account, url, lake):
    account.event("Opened Email", "P1", "2026-11-23T11:58:00+00:00", **{"$event_id": "fresh"})

    assert imported(url, lake).events == 10


def test_an_erased_customer_stays_erased_also_under_a_key_that_was_not_known_then(
    url, lake, tmp_path
):
    directory = Directory(tmp_path / "directory.sqlite")
    directory.shop("acme", create=True)
    email = email_key(DOOR.secret, "ada@example.com")
    directory.erase("acme", [email], erased_at=NOW, requested=NOW)

    receipt = imported(url, lake, refuses=Refusals(directory))

    assert receipt.reasons == {"erased": 2}                 # the profile and the order
    bob = email_key(DOOR.secret, "bob@example.com")
    rows = read(lake, "SELECT DISTINCT key FROM events", shop="acme").to_pylist()
    assert {row["key"] for row in rows} == {bob, "profile:P3"}
    rows = read(lake, "SELECT * FROM profiles", shop="acme").to_pylist()
    assert "Ada" not in str(rows)


@pytest.mark.parametrize("is_kept_by_another", [False, True])
def test_an_import_that_tidies_as_it_goes_holds_the_same(
    url, lake, monkeypatch, is_kept_by_another
):
    monkeypatch.setattr(history, "TIDY_EVERY", 1)
    tidied: list[Lake] = []

    def counted(lake: Lake, *, now: datetime) -> None:
        tidied.append(lake)
        tidy(lake, now=now)

    monkeypatch.setattr("habitue.ingest.history.settling.tidy", counted)
    with housekeeping(lake) if is_kept_by_another else nullcontext():
        receipt = imported(url, lake)

    assert counts(receipt) == (14, 0, 0)
    assert len(tidied) == 6                # after each page
    assert len(digests(lake)) == 10


def test_since_leaves_out_what_was_before(url, lake):
    receipt = imported(url, lake, since=datetime(2026, 11, 20, tzinfo=UTC))

    assert receipt.events == 2


def test_the_command_imports_and_prints_the_receipt(account, url, tmp_path, capsys):
    key, work = tmp_path / "klaviyo.key", tmp_path / "work"
    key.write_text(f"{API_KEY}\n")
    command = ["import", "--from", "klaviyo", "--api-key-file", str(key), "--url", url, "--json"]

    with pytest.raises(SystemExit) as left:
        main([*command, "--workspace", str(work), "--shop", "acme"])

    assert left.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["appended"], told["events"]) == (14, 14, 10)
    assert API_KEY not in "".join(path.read_text() for path in (work / "imports").iterdir())


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--from", "klaviyo"],
        ["orders.csv", "--from", "klaviyo", "--api-key-file", "k"],
        ["orders.csv", "--since", "2025-01-01", "--mapping", "m.toml"],
    ],
)
def test_a_command_that_says_too_little_or_too_much_makes_no_workspace(options, tmp_path):
    work = tmp_path / "work"

    with pytest.raises(SystemExit) as left:
        main(["import", *options, "--workspace", str(work), "--shop", "acme"])

    assert left.value.code == 2
    assert not work.exists()


@pytest.mark.parametrize(
    ("header", "seconds"), [("75, 75;w=1, 750;w=60", 0.08), ("", 0.0), ("x;w=0", 0.0)]
)
def test_the_pace_is_that_of_the_longest_window(header, seconds):
    assert pace_seconds(header) == pytest.approx(seconds)
