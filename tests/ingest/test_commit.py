"""Commits from the log into the lake: every input once, whatever dies, repeats or rivals."""

import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing import get_context
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue import faults
from habitue.errors import LogUnavailable
from habitue.events import (
    Consent,
    Event,
    Identifier,
    Item,
    Link,
    Money,
    ProfileChange,
)
from habitue.ingest.commit import Committer, Settlement, settlement
from habitue.ingest.gate import Gate
from habitue.lake.eventlog.records import encode
from habitue.lake.maintenance import housekeeping
from habitue.lake.query import read
from habitue.lake.schema import TABLES
from habitue.lake.tables import Lake
from tests.ingest.parts import MemoryLog, logged, orders, part, rejection
from tests.lake.small import day, event

NOUNS = (
    Item(shop="acme", source="till", item="mug", time=day(0), received=day(0), stock=3,
         price=Money(250, "GBP"), published=True),
    Identifier(shop="acme", key="email:1", kind="email", value="a@b.c", time=day(0),
               received=day(0)),
    Link(shop="acme", source="till", key="c1", other="email:1", time=day(0), received=day(0),
         cause="identify"),
    ProfileChange(shop="acme", source="till", customer="c1", time=day(0), received=day(0),
                  put=msgspec.Raw(b'{"city": "Oslo"}'), clear=("town",)),
    Consent(shop="acme", source="till", customer="c1", channel="email", status="subscribed",
            time=day(0), received=day(0)),
)
FAULTS = (
    "commit.before_files", "commit.before_journal", "commit.after_journal",
    "commit.between_tables", "commit.between_tables:3", "commit.before_index",
)


@contextmanager
def committer(folder: Path, log: MemoryLog, **named) -> Iterator[Committer]:
    one = Committer(Lake(folder / "lake", buckets=4), log, 0, **named)
    try:
        yield one
    finally:
        one.close()


def drained(folder: Path, log: MemoryLog, **named) -> Lake:
    """The lake once all of the log is in it."""
    with committer(folder, log) as one:
        while one.step(**named):
            pass
        return one.lake


def contents(lake: Lake) -> dict[str, list[dict]]:
    """Every row of every table, sorted."""
    held = {}
    for name in TABLES:
        rows = []
        for file in lake.files(name):
            rows += pq.read_table(file, partitioning=None).to_pylist()
        held[name] = sorted(rows, key=repr)
    return held


def ids(lake: Lake) -> list[str]:
    return sorted(read(lake, "SELECT id FROM events", shop="acme")["id"].to_pylist())


def test_a_shop_first_heard_of_through_the_log_can_be_read(tmp_path):
    with committer(tmp_path, logged(part("r", *orders(1, 2)))) as one:
        settled = one.step()
        assert (settled.rows, settled.appended, settled.cursor) == (2, 2, 1)
        assert one.step() is None
        assert one.lake.shops() == ["acme"]
        assert ids(one.lake) == ["1", "2"]


def test_a_shop_that_declared_its_settings_keeps_them(tmp_path):
    lake = Lake(tmp_path / "lake", buckets=4)
    Gate(lake).append(orders(1), shop="acme", source="till", received=day(0))
    before = read(lake, "SELECT * FROM shop_settings", shop="acme")
    drained(tmp_path, logged(part("r", *orders(2))))
    assert read(lake, "SELECT * FROM shop_settings", shop="acme").equals(before)


def test_every_input_is_counted_once_in_its_receipt(tmp_path):
    first = part("r1", *orders(1, 2, 1), rejections=(rejection(3),))
    second = part("r2", *orders(2, 3))
    with committer(tmp_path, logged(first, second)) as one:
        assert settlement(one.lake, "acme", "r1") is None
        one.step()
        lake = one.lake
    assert settlement(lake, "acme", "r1") == Settlement(
        rows=4, appended=2, duplicate=1, rejected=1
    )
    assert settlement(lake, "acme", "r2") == Settlement(
        rows=2, appended=1, duplicate=1, rejected=0
    )
    assert settlement(lake, "other", "r1") is None


def test_a_receipt_is_the_sum_over_its_shards(tmp_path):
    log = logged(part("r", *orders(1, 2)), part("r", *orders(3)))
    assert settlement(drained(tmp_path, log), "acme", "r").rows == 3


def test_every_kind_of_noun_lands_in_its_table_as_it_was(tmp_path):
    told = event("1", 0, properties=msgspec.Raw(b'{"a": [1, "\xc3\xa9"]}'))
    lake = drained(tmp_path, logged(part("r", (told, *NOUNS))))
    held = {name: rows[0] for name, rows in contents(lake).items() if rows}
    assert held["events"]["properties"] == '{"a": [1, "é"]}'
    assert held["events"]["lines"][0]["amount_minor"] == 250
    assert (held["items"]["price_minor"], held["items"]["stock"]) == (250, 3)
    assert held["identifiers"]["value"] == "a@b.c"
    assert (held["links"]["key"], held["links"]["undo"]) == ("c1", False)
    assert (held["profiles"]["put"], held["profiles"]["clear"]) == ('{"city": "Oslo"}', ["town"])
    assert held["consents"]["status"] == "subscribed"
    for name, noun in zip(
        ("events", "items", "identifiers", "links", "profiles", "consents"), (told, *NOUNS),
        strict=True,
    ):
        assert held[name]["digest"] == noun.digest
        assert held[name]["receipt"] == "r"
        assert held[name]["received"] == noun.received


def test_an_input_is_what_its_first_noun_is_and_keeps_what_else_is_new(tmp_path):
    first, again = event("1", 0), event("2", 0)
    log = logged(part("r1", first), part("r2", (first, *NOUNS)), part("r3", (again, *NOUNS)))
    lake = drained(tmp_path, log)
    assert settlement(lake, "acme", "r2").duplicate == 1
    assert settlement(lake, "acme", "r3").appended == 1
    held = contents(lake)
    assert [len(held[name]) for name in ("events", "items", "links", "consents")] == [2, 1, 1, 1]


def test_of_equal_identities_the_first_in_the_log_stands(tmp_path):
    first, later = event("1", 0, name="a"), event("1", 5, name="b")
    lake = drained(tmp_path, logged(part("r1", first), part("r2", later)), most_rows=1)
    assert read(lake, "SELECT name FROM events", shop="acme")["name"].to_pylist() == ["a"]


def test_what_a_file_brought_is_a_duplicate_in_the_stream(tmp_path):
    log = logged(part("r1", *orders(1)))
    with committer(tmp_path, log) as one:
        one.step()
        Gate(one.lake).append(orders(2), shop="acme", source="till", received=day(1))
        log.append(0, [encode(part("r2", *orders(2, 3)))])
        settled = one.step()
    assert (settled.appended, settled.duplicate) == (1, 1)


def test_what_an_erased_customer_does_is_refused_without_a_trace(tmp_path):
    log = logged(part("r", event("1", 0, customer="gone"), event("2", 0)))
    with committer(
        tmp_path, log, refuses=lambda noun: isinstance(noun, Event) and noun.customer == "gone"
    ) as one:
        settled = one.step()
        assert settled.reasons == {"erased": 1}
        assert ids(one.lake) == ["2"]
        (row,) = contents(one.lake)["rejected"]
    assert (row["position"], row["reason"], row["payload"]) == (0, "erased", "")


def test_a_number_too_large_for_its_column_is_rejected_and_holds_up_nobody(tmp_path):
    huge = event("1", 0, value=Money(1 << 70, "GBP"))
    log = logged(part("r", huge, event("2", 0)))
    with committer(tmp_path, log) as one:
        settled = one.step()
        assert (settled.appended, settled.reasons) == (1, {"out_of_range": 1})
        assert settlement(one.lake, "acme", "r") == Settlement(
            rows=2, appended=1, duplicate=0, rejected=1
        )
        (row,) = contents(one.lake)["rejected"]
        assert msgspec.json.decode(row["payload"], type=Event).value.minor == 1 << 70
        assert huge.digest not in one.index.known([huge.digest])


def test_a_request_of_rejections_alone_is_settled(tmp_path):
    lake = drained(tmp_path, logged(part("r", rejections=(rejection(0),))))
    assert settlement(lake, "acme", "r").rejected == 1
    (row,) = contents(lake)["rejected"]
    assert row["origin"] == "/v1/events"


def test_a_step_takes_no_more_rows_than_it_is_told_but_always_one_request(tmp_path):
    log = logged(*(part(f"r{n}", *orders(*range(3 * n, 3 * n + 3))) for n in range(4)))
    with committer(tmp_path, log) as one:
        assert [one.step(most_rows=6).rows, one.step(most_rows=1).rows] == [6, 3]
        assert one.step(most_rows=1000).cursor == 4


def test_a_lost_index_is_filled_again_whether_or_not_somebody_keeps_house(tmp_path):
    log = logged(part("r1", *orders(1, 2)))
    drained(tmp_path, log)
    for receipt, lock in (("r2", nullcontext), ("r3", housekeeping)):
        shutil.rmtree(tmp_path / "index")
        log.append(0, [encode(part(receipt, *orders(1, 2)))])
        with lock(Lake(tmp_path / "lake")), committer(tmp_path, log) as one:
            assert one.step().duplicate == 2


def test_a_row_that_is_no_request_is_told_and_never_passed_over(tmp_path):
    log = logged(part("r1", *orders(1)))
    log.append(0, [b'["r2"]'])
    with committer(tmp_path, log) as one:
        with pytest.raises(LogUnavailable, match="row 1 of log-0"):
            one.step()
        assert one.lake.cursor("log-0") == -1


def test_two_rivals_on_one_log_store_nothing_twice(tmp_path, monkeypatch):
    log = logged(*(part(f"r{n}", *orders(n, n + 1)) for n in range(6)))
    with committer(tmp_path, log) as one, committer(tmp_path, log) as rival:
        read_on = one._read

        def overtaken(*told):
            answer = read_on(*told)
            rival.step(most_rows=2)        # between the reading of one and its commit
            return answer

        monkeypatch.setattr(one, "_read", overtaken)
        while one.step(most_rows=2):
            pass
        assert ids(one.lake) == [str(n) for n in range(7)]
        assert len(contents(one.lake)["receipts"]) == 6


@pytest.mark.parametrize("fault", FAULTS)
def test_a_kill_at_any_fault_point_loses_nothing_and_stores_nothing_twice(tmp_path, fault):
    parts = [
        part("r1", *orders(1, 2), *NOUNS),
        part("r2", *orders(2, 3), rejections=(rejection(2),)),
        part("r3", *orders(3, 4), *NOUNS),
    ]
    log = logged(*parts)
    clean = contents(drained(tmp_path / "clean", log, most_rows=1))
    with committer(tmp_path / "killed", logged(parts[0])) as one:
        one.step()
    deaths = 0
    while killed(tmp_path / "killed", log.rows, fault):
        deaths += 1
        with committer(tmp_path / "killed", log) as one:
            one.step(most_rows=1)
    assert deaths
    assert contents(Lake(tmp_path / "killed" / "lake")) == clean


class Killed(BaseException):
    """Stands for a kill where a real one would take too long."""


@settings(max_examples=20)
@given(
    requests=st.lists(st.lists(st.integers(0, 6), max_size=4), min_size=1, max_size=5),
    steps=st.lists(
        st.tuples(st.integers(1, 6), st.sampled_from((None, *FAULTS))), max_size=6
    ),
)
def test_any_steps_with_kills_between_leave_what_one_clean_run_leaves(
    tmp_path_factory, requests, steps
):
    folder = tmp_path_factory.mktemp("lakes")
    log = logged(*(part(f"r{n}", *orders(*held)) for n, held in enumerate(requests)))
    clean = contents(drained(folder / "clean", log))

    def kill(process, number):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faults.os, "kill", kill)
        for most_rows, fault in steps:
            faults.arm(fault or "")
            with suppress(Killed), committer(folder / "killed", log) as one:
                one.step(most_rows=most_rows)
        faults.arm("")
    assert contents(drained(folder / "killed", log)) == clean


def killed(folder: Path, rows: Sequence[bytes], fault: str) -> bool:
    """Commit the log in a child that dies at the fault point; false if it never came there."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    child = context.Process(target=_die, args=(folder, rows, fault))
    child.start()
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def _die(folder: Path, rows: Sequence[bytes], fault: str) -> None:
    faults.arm(fault)
    log = MemoryLog()
    log.append(0, rows)
    with committer(folder, log) as one:
        while one.step(most_rows=1):
            pass


PASSING = st.builds(
    lambda number, pair, at, late, cause, undo: (
        event(str(number), at, customer=pair[0], received=day(at + late)),
        Link(shop="acme", source="till", key=pair[0], other=pair[1], time=day(at),
             received=day(at + late), cause=cause, undo=undo),
    ),
    st.integers(0, 10**6), st.sampled_from([("c1", "anonymous:a"), ("c2", "anonymous:a"),
                                            ("c1", "email:1"), ("email:1", "anonymous:a")]),
    st.integers(0, 6), st.integers(0, 2), st.sampled_from(["event", "identify", "alias"]),
    st.integers(0, 5).map(lambda one: one == 0),
)  # fmt: skip


@settings(max_examples=15)
@given(told=st.lists(PASSING, min_size=1, max_size=12), splits=st.lists(st.integers(1, 4)))
def test_links_that_say_nothing_new_are_not_stored_and_change_no_answer(
    tmp_path_factory, told, splits
):
    folder = tmp_path_factory.mktemp("links")
    every = Lake(folder / "every" / "lake", buckets=4)
    nouns = [noun for pair in told for noun in pair]
    Gate(every).tell(nouns, shop="acme", source="till", received=day(9), origin="all")
    log = logged(*(part(f"r{number}", pair) for number, pair in enumerate(told)))
    with committer(folder / "some", log) as one:
        for most in [*splits, 100]:
            one.step(most_rows=most)
        while one.step() is not None:
            pass
        lake = one.lake
    held = [read(one, "SELECT key FROM links", shop="acme").num_rows for one in (lake, every)]
    assert held[0] <= held[1]
    sql = "SELECT DISTINCT key, customer FROM events ORDER BY ALL"
    for at in range(8):
        for known in (None, day(at)):
            asked = {"shop": "acme", "cutoff": day(at), "known_at": known}
            assert read(lake, sql, **asked) == read(every, sql, **asked)


def browsing(at: int) -> tuple:
    """An event that names two keys, and the link that it makes."""
    return (
        event(str(at), at, customer="c1"),
        Link(shop="acme", source="till", key="c1", other="anonymous:a", time=day(at),
             received=day(at), cause="event"),
    )  # fmt: skip


def test_a_pair_that_every_event_names_is_one_link(tmp_path):
    lake = drained(tmp_path, logged(*(part(f"r{at}", browsing(at)) for at in range(20))))
    links = read(lake, 'SELECT "time" FROM links', shop="acme")["time"].to_pylist()
    assert links == [day(0)]


def test_a_link_that_an_erasure_took_is_stored_when_it_is_told_again(tmp_path):
    log = logged(part("r1", browsing(1)))
    erased = [False]
    with committer(tmp_path, log, refuses=lambda noun: erased[0] and noun.time <= day(2)) as one:
        one.step()
        erased[0] = True                   # and the rows are taken out of the lake
        log.append(0, [encode(part("r2", browsing(3)))])
        one.step()
        links = read(one.lake, 'SELECT "time" FROM links', shop="acme")["time"].to_pylist()
    assert day(3) in links
