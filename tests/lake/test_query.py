import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.errors import BadQuery, NoSuchShop
from habitue.events import Money
from habitue.ingest.gate import Batch, Gate, Settings
from habitue.lake.query import NAMES, read
from habitue.lake.tables import Lake
from tests.lake.small import day, event, filled, line


@pytest.fixture(scope="module")
def two_shops(tmp_path_factory):
    """A lake in which shop acme has one order, and shop rival one that must stay unseen."""
    return filled(
        Lake(tmp_path_factory.mktemp("lake")),
        event("a1", 0),
        event("secret", 1, shop="rival", customer="secret", lines=(line("secret", 1),)),
    )


def test_a_shop_that_is_not_there_is_named_with_those_that_are(two_shops):
    with pytest.raises(NoSuchShop, match="no shop named 'acne'; the workspace holds: acme, rival"):
        read(two_shops, "SELECT * FROM events", shop="acne")


@pytest.mark.parametrize("view", sorted(NAMES))
def test_no_view_shows_another_shops_rows(two_shops, view):
    assert "secret" not in str(read(two_shops, f"SELECT * FROM {view}", shop="acme").to_pylist())


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM stored.events",
        "SELECT * FROM memory.stored.events",
        "SELECT (SELECT max(id) FROM stored.events)",
        "SELECT * FROM events WHERE id IN (SELECT id FROM stored.events)",
        "WITH stored AS (SELECT 1) SELECT * FROM stored.events",
        "WITH x AS MATERIALIZED (SELECT * FROM stored.events) SELECT * FROM x",
        "SELECT 1 UNION ALL SELECT id FROM stored.events",
        "SELECT * FROM events JOIN stored.events AS other ON true",
        "SELECT * FROM events, LATERAL (SELECT * FROM stored.events)",
        "SELECT * FROM read_parquet('{file}')",
        "SELECT * FROM parquet_scan('{file}')",
        "SELECT * FROM read_blob('{file}')",
        "SELECT * FROM '{file}'",
        'SELECT * FROM "{file}"',
        'SELECT * FROM (WITH "{file}" AS (SELECT 1) SELECT 1) a, "{file}" b',
        "SELECT * FROM query('SELECT * FROM stored.events')",
        "SELECT * FROM query_table('stored.events')",
        "SELECT * FROM glob('{file}')",
        "SELECT * FROM duckdb_variables()",
        "SELECT * FROM duckdb_views",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM tellings",
        "SELECT getvariable('events_files')",
        "SELECT getenv('HOME')",
        "SELECT current_setting('temp_directory')",
        "DESCRIBE stored.events",
        "SUMMARIZE stored.events",
        "SELECT * FROM (SHOW TABLES)",
        "SELECT 1; SELECT * FROM stored.events",
        "SET VARIABLE shop = 'rival'",
        "DROP VIEW events",
        "COPY events TO '/tmp/never'",
        "ATTACH ':memory:' AS other",
        "PRAGMA database_list",
        "CREATE TABLE t AS SELECT 1",
        "not sql",
        "",
    ],
)
def test_sql_that_reaches_past_the_views_is_refused(two_shops, sql):
    (file, *_) = two_shops.files("events")
    with pytest.raises(BadQuery):
        read(two_shops, sql.format(file=file), shop="acme")


def test_ordinary_sql_passes(two_shops):
    sql = """
        WITH spent AS (SELECT customer, sum(value_minor) AS total FROM orders GROUP BY ALL)
        SELECT spent.customer, total, n
        FROM spent JOIN lines USING (customer), range(2) AS numbers(n), (VALUES (1)) AS one(x)
        WHERE EXISTS (SELECT 1 FROM events WHERE events.customer = spent.customer)
        ORDER BY n
    """
    found = read(two_shops, sql, shop="acme").to_pylist()
    assert [(row["customer"], int(row["total"]), row["n"]) for row in found] == [
        ("c1", 250, 0), ("c1", 250, 1),
    ]


def test_values_are_bound_and_never_read_as_sql(two_shops):
    hostile = "c1' OR '1'='1"
    sql = "SELECT count(*) AS n FROM events WHERE customer = ?"
    assert read(two_shops, sql, [hostile], shop="acme")["n"].to_pylist() == [0]
    assert read(two_shops, sql, ["c1"], shop="acme")["n"].to_pylist() == [1]


def test_a_shop_whose_name_is_sql_sees_its_own_rows_only(tmp_path):
    hostile = "x' OR '1'='1"
    lake = filled(Lake(tmp_path), event("a", 0), event("b", 0, shop=hostile))
    assert read(lake, "SELECT id FROM events", shop=hostile)["id"].to_pylist() == ["b"]


def test_a_cutoff_without_a_time_zone_is_refused(two_shops):
    with pytest.raises(BadQuery, match="must say its time zone"):
        read(two_shops, "SELECT 1", shop="acme", cutoff=day(1).replace(tzinfo=None))


told = st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans())


@settings(max_examples=20)
@given(
    moments=st.lists(told, min_size=1, max_size=8),
    cutoff=st.integers(0, 6),
    known_at=st.none() | st.integers(0, 6),
)
def test_a_read_sees_what_had_happened_and_was_known(tmp_path_factory, moments, cutoff, known_at):
    lake = Lake(tmp_path_factory.mktemp("lake"), buckets=2)
    filled(
        lake,
        *(
            event(str(n), time, received=day(received), backfilled=backfilled)
            for n, (time, received, backfilled) in enumerate(moments)
        ),
    )
    found = read(
        lake,
        "SELECT id FROM events",
        shop="acme",
        cutoff=day(cutoff),
        known_at=None if known_at is None else day(known_at),
    )
    expected = {
        str(n)
        for n, (time, received, backfilled) in enumerate(moments)
        if time <= cutoff
        and (known_at is None or (time if backfilled else received) <= known_at)
    }
    assert set(found["id"].to_pylist()) == expected


def orders(lake: Lake, **bounds) -> list[dict]:
    sql = 'SELECT * EXCLUDE (lines), len(lines) AS n FROM orders ORDER BY "order", customer'
    return read(lake, sql, shop="acme", **bounds).to_pylist()


def test_an_order_counts_its_later_lines_from_their_own_time_on(tmp_path):
    more = event("o1+1", 2, name="order_updated", order="o1", value=Money(100, "GBP"))
    lake = filled(Lake(tmp_path), event("o1", 1), more)
    (early,), (late,) = orders(lake, cutoff=day(1)), orders(lake)
    assert (early["value_minor"], early["n"]) == (250, 1)
    assert (late["value_minor"], late["n"], late["time"]) == (350, 2, day(1))
    times = read(lake, "SELECT time FROM lines ORDER BY time", shop="acme")["time"].to_pylist()
    assert times == [day(1), day(2)]


def test_an_order_told_by_two_sources_is_one_and_the_first_counts(tmp_path):
    first = event("a", 1, order="o1", source="web", value=Money(300, "GBP"))
    second = event("b", 2, order="o1", source="till")
    lake = filled(Lake(tmp_path), first, second)
    (order,) = orders(lake)
    assert (order["source"], order["value_minor"], order["n"]) == ("web", 300, 1)
    assert len(read(lake, "SELECT * FROM lines", shop="acme")) == 1


def test_a_cancelled_order_is_cancelled_from_then_on_and_never_before(tmp_path):
    gone = event("x", 3, name="order_cancelled", order="o1", lines=())
    lake = filled(Lake(tmp_path), event("o1", 1), event("o2", 1), gone)
    assert [order["cancelled_at"] for order in orders(lake)] == [day(3), None]
    assert [order["cancelled_at"] for order in orders(lake, cutoff=day(2))] == [None, None]


def test_a_cancellation_leaves_another_customers_order_of_the_same_number(tmp_path):
    gone = event("x", 3, name="order_cancelled", order="o1", lines=())
    lake = filled(Lake(tmp_path), event("o1", 1), event("o1", 1, customer="c2"), gone)
    assert [(o["customer"], o["cancelled_at"]) for o in orders(lake)] == [
        ("c1", day(3)), ("c2", None),
    ]


def test_a_cancellation_without_a_customer_cancels_the_order_it_names(tmp_path):
    gone = event("x", 3, name="order_cancelled", order="o1", lines=(), customer=None)
    (order,) = orders(filled(Lake(tmp_path), event("o1", 1), gone))
    assert order["cancelled_at"] == day(3)


def test_an_order_without_a_number_is_named_by_its_event(tmp_path):
    lake = filled(Lake(tmp_path), event("e1", 1, order=None), event("e2", 1, order=None))
    assert [order["order"] for order in orders(lake)] == ["e1", "e2"]


def test_what_a_shop_declares_is_no_item(tmp_path):
    sold = tuple(line(item, 100) for item in ("mug", "POST", "gift_20", "POSTCARD"))
    lake = filled(Lake(tmp_path), event("o1", 1, lines=sold))
    declared = Settings(not_item_codes=("POST",), not_item_patterns=("^gift_", "^nothing$"))
    Gate(lake).settle(
        Batch(shop="acme", source="till", origin="x", received=day(1), rows=0, settings=declared)
    )
    found = read(lake, "SELECT item FROM lines WHERE is_item ORDER BY item", shop="acme")
    assert found["item"].to_pylist() == ["POSTCARD", "mug"]


def test_settings_declared_at_the_same_instant_still_have_a_latest(tmp_path):
    lake = filled(Lake(tmp_path), event("o1", 1))
    for zone in ("Europe/London", "Europe/Paris"):
        Gate(lake).settle(
            Batch(
                shop="acme", source="till", origin="x", received=day(1), rows=0,
                settings=Settings(timezone=zone),
            )
        )
    found = read(lake, "SELECT timezone FROM shop_settings", shop="acme")
    assert found["timezone"].to_pylist() == ["Europe/Paris"]
