from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.errors import BadLake, BadQuery, NoSuchShop
from habitue.events import Money
from habitue.ingest.gate import Batch, Gate, Settings
from habitue.lake.keys import profile_id
from habitue.lake.query import NAMES, opened, read
from habitue.lake.tables import Lake
from tests.lake.people import (
    ADA,
    APP,
    BOB,
    TEL,
    WEB,
    A,
    B,
    change,
    consent,
    identifier,
    item,
    link,
    told,
)
from tests.lake.small import day, event, filled, line


@pytest.fixture(scope="module")
def two_shops(tmp_path_factory):
    """A lake in which shop acme has one order, and shop rival one that must stay unseen."""
    lake = filled(
        Lake(tmp_path_factory.mktemp("lake")),
        event("a1", 0),
        event("secret", 1, shop="rival", customer="secret", lines=(line("secret", 1),)),
    )
    rival = {"shop": "rival", "source": "secret"}
    return told(
        lake,
        item("secret", 1, **rival),
        link("secret", "anonymous:secret", 1, **rival),
        link("secret", "secret_too", 1, **rival),
        change("secret", 1, '{"secret": true}', **rival),
        consent("secret", 1, "subscribed", **rival),
        identifier("secret", "secret@example.com", 1, shop="rival"),
        # the shops share a key, and it is somebody else in each
        link("secret", "c1", 1, **rival),
        link("anonymous:x", "c1", 1),
    )


def test_a_shop_that_is_not_there_is_named_with_those_that_are(two_shops):
    with pytest.raises(NoSuchShop, match="no shop named 'acne'; the workspace holds: acme, rival"):
        read(two_shops, "SELECT * FROM events", shop="acne")


@pytest.mark.parametrize("content", [None, b"", b"no Parquet" * 100])
def test_a_lake_that_is_broken_says_what_to_do(tmp_path, content):
    lake = filled(Lake(tmp_path), event("a1", 0))
    broken = Path(lake.files("events")[0])
    broken.unlink() if content is None else broken.write_bytes(content)
    with pytest.raises(BadLake, match=r"cannot be read.*\nhint: `habitue doctor`"):
        read(lake, "SELECT count(*) FROM events", shop="acme")


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
        "SELECT json_serialize_plan('SELECT getvariable(''links_files'')', optimize := true)",
        "SELECT json_serialize_sql('SELECT 1')",
        "SELECT json_deserialize_sql('{{}}')",
        "SELECT * FROM json_execute_serialized_sql('{{}}')",
        "SELECT * FROM sql_auto_complete('a')",
        "SELECT main.getvariable('events_files')",
        "SELECT GetVariable('events_files')",
        "SELECT getvariable('events_files') OVER ()",
        "SELECT list_transform([1], lambda x: getvariable('events_files'))",
        "SELECT write_log('x')",
        "SELECT parse_duckdb_log_message('FileSystem', 'x')",
        "SELECT current_query()",
        "SELECT current_database()",
        "SELECT current_schemas(true)",
        "SELECT in_search_path('memory', 'stored')",
        "SELECT pg_get_viewdef(1)",
        "SELECT obj_description(1, 'x')",
        "SELECT nextval('x')",
        "SELECT sleep_ms(1)",
        "SELECT pg_sleep(1)",
        "SELECT version()",
        "SELECT __internal_barrier(1)",
        "SELECT customer_of('x') FROM events",
        "SELECT no_such_function(1)",
        "WITH a AS (WITH tellings AS (SELECT 1) SELECT 1) SELECT * FROM tellings",
        "SELECT * FROM (WITH believed AS (SELECT 1) SELECT 1), believed, orders",
        "SELECT * FROM hidden.believed",
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


def test_functions_of_values_are_usable(two_shops):
    sql = """
        SELECT count(*) FILTER (WHERE name LIKE 'order%') AS n, upper(any_value(customer)) AS who,
            quantile_cont(value_minor, 0.5) AS middle, string_agg(name, ',' ORDER BY id) AS names,
            list_transform([1, 2], lambda x: x ** 2) AS squares, {'a': 1}.a AS a, [5, 6][2] AS six,
            date_trunc('month', max("time")) AS month, extract(year FROM max("time")) AS year,
            max("time") + INTERVAL 1 DAY > now() AS later, sum(count(*)) OVER () AS running,
            row_number() OVER (ORDER BY 1) AS place, trim(' a ') || coalesce(NULL, 'b') AS text,
            regexp_extract('a1', '[0-9]') AS digit, '{"k": 1}'::JSON ->> '$.k' AS told,
            list_sum([1, 2]) AS added, split_part('a-b', '-', 2) AS part, 7 // 2 AS whole,
            map {'x': 1}['x'] AS mapped, DATE '2026-01-01' AS day, nullif(1, 1) AS none
        FROM events
    """
    (row,) = read(two_shops, sql, shop="acme").to_pylist()
    assert (row["n"], row["who"], row["squares"], row["six"]) == (1, "C1", [1.0, 4.0], 6)
    assert (row["running"], row["place"], row["text"], row["told"]) == (1, 1, "ab", "1")


def test_a_cte_may_have_the_name_of_a_hidden_view(two_shops):
    sql = "WITH tellings AS (SELECT 1 AS one) SELECT one FROM tellings, orders"
    assert read(two_shops, sql, shop="acme").to_pylist() == [{"one": 1}]


def test_a_query_that_is_no_select_is_told_so_in_plain_words(two_shops):
    with pytest.raises(BadQuery, match="one SELECT was wanted: this is a statement of another"):
        read(two_shops, "DROP VIEW events", shop="acme")


def test_no_statement_may_fetch_an_extension(two_shops):
    with opened(two_shops, {"events"}, shop="acme") as (connection, _):
        sql = "SELECT value FROM duckdb_settings() WHERE name LIKE 'auto%known_extensions'"
        assert connection.execute(sql).fetchall() == [("false",), ("false",)]


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


moments = st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans())


@settings(max_examples=20)
@given(
    moments=st.lists(moments, min_size=1, max_size=8),
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


def rows(lake: Lake, sql: str, **bounds) -> list[dict]:
    return read(lake, sql, shop="acme", **bounds).to_pylist()


def browsing(key: str, at: float, **changes: object):
    told = {"customer": key, "name": "item_viewed", "value": None, "order": None, "lines": ()}
    return event(f"{key}{at}", at, **(told | changes))


def test_without_links_a_customer_is_the_key_as_it_was_sent(two_shops, tmp_path):
    lake = filled(Lake(tmp_path), event("a", 1), event("b", 1, customer=None))
    assert rows(lake, "SELECT customer, key FROM events ORDER BY id") == [
        {"customer": "c1", "key": "c1"}, {"customer": None, "key": None},
    ]  # fmt: skip


def test_what_was_browsed_anonymously_is_the_later_buyers(tmp_path):
    lake = filled(Lake(tmp_path), browsing(WEB, 1), event("o1", 2, customer=A))
    told(lake, link(A, WEB, 2))
    sql = "SELECT customer, key FROM events ORDER BY time"
    assert rows(lake, sql) == [{"customer": A, "key": WEB}, {"customer": A, "key": A}]
    assert rows(lake, sql, cutoff=day(1)) == [{"customer": WEB, "key": WEB}]


@pytest.mark.parametrize("view", sorted(NAMES))
def test_a_later_merge_changes_no_past_answer(tmp_path, view):
    lake = filled(Lake(tmp_path), browsing(WEB, 1), event("o1", 2, customer=A), event("o2", 2))
    told(lake, link(A, WEB, 2), change(WEB, 1, '{"n": 1}'), consent(BOB, 1, "subscribed"))
    late = {"backfilled": True, "received": day(9)}
    then = [
        {"cutoff": day(3), "known_at": day(8)},
        {"cutoff": day(3)},                # what is backfilled was known when it happened
        {"known_at": day(3)},
    ]
    order = "ORDER BY ALL"
    before = [read(lake, f"SELECT * FROM {view} {order}", shop="acme", **at) for at in then]
    told(
        lake, link(BOB, A, 4), link(WEB, A, 5, undo=True), link("c1", TEL, 4, **late),
        browsing(BOB, 5), change(BOB, 6, '{"n": 2}'), consent(A, 7, "unsubscribed"),
    )  # fmt: skip
    after = [read(lake, f"SELECT * FROM {view} {order}", shop="acme", **at) for at in then]
    assert all(one.equals(other) for one, other in zip(before, after, strict=True))


def test_a_backfilled_link_was_known_when_it_happened_and_a_late_one_when_it_came(tmp_path):
    lake = filled(Lake(tmp_path), browsing(WEB, 1), browsing(APP, 1))
    late = {"received": day(9)}
    told(lake, link(A, WEB, 2, backfilled=True, **late), link(A, APP, 2, **late))
    sql = "SELECT key, customer FROM events ORDER BY key"
    assert [row["customer"] for row in rows(lake, sql, known_at=day(8))] == [APP, A]
    assert [row["customer"] for row in rows(lake, sql, known_at=day(9))] == [A, A]


def test_all_events_of_one_customer_have_one_bucket(tmp_path):
    keys = [f"anonymous:{n}" for n in range(12)]
    lake = told(Lake(tmp_path), *(browsing(key, 1) for key in keys), browsing(A, 1))
    count = "count(DISTINCT bucket) AS stored, count(DISTINCT customer_bucket) AS n"
    sql = f"SELECT {count} FROM events"
    (before,) = rows(lake, sql)
    assert before["n"] == before["stored"] > 1
    told(lake, *(link(A, key, 2) for key in keys))
    assert rows(lake, sql) == [{"stored": before["stored"], "n": 1}]
    apart = "SELECT 1 AS one FROM events WHERE key = customer AND bucket <> customer_bucket"
    assert rows(lake, apart) == []


def test_an_undo_parts_customers_from_then_on(tmp_path):
    lake = filled(Lake(tmp_path), browsing(WEB, 1))
    told(lake, link(A, WEB, 2), link(A, WEB, 4, undo=True))
    sql = "SELECT customer FROM events"
    assert rows(lake, sql, cutoff=day(3)) == [{"customer": A}]
    assert rows(lake, sql) == [{"customer": WEB}]


def test_two_external_ids_that_were_linked_are_a_conflict_and_two_customers(tmp_path):
    lake = told(Lake(tmp_path), link(A, ADA, 1), link(B, ADA, 2))
    (row,) = rows(lake, "SELECT * FROM conflicts")
    assert (row["key"], row["other"], row["why"]) == (B, ADA, "two_external_ids")
    assert rows(lake, "SELECT * FROM conflicts", cutoff=day(1)) == []


def test_a_profile_id_stands_for_a_key_that_only_events_name(tmp_path):
    shown = f"profile:{profile_id('acme', WEB)}"
    lake = told(Lake(tmp_path), browsing(WEB, 1), consent(shown, 2, "subscribed"))
    assert rows(lake, "SELECT customer FROM consents") == [{"customer": WEB}]
    assert rows(lake, "SELECT customer FROM events") == [{"customer": WEB}]


def test_an_order_that_two_sources_tell_under_two_keys_is_one_once_they_are_linked(tmp_path):
    first = event("a", 1, order="o1", source="web", customer=ADA, value=Money(300, "GBP"))
    lake = filled(Lake(tmp_path), first, event("b", 2, order="o1", source="till", customer=A))
    assert len(orders(lake)) == 2
    (order,) = orders(told(lake, link(A, ADA, 3)))
    assert (order["customer"], order["value_minor"]) == (A, 300)


def test_the_source_that_a_shop_puts_first_tells_of_its_orders(tmp_path):
    first = event("a", 1, order="o1", source="web", value=Money(300, "GBP"))
    lake = filled(Lake(tmp_path), first, event("b", 2, order="o1", source="till"))
    believed = Settings(order_sources=("till", "web"))
    Gate(lake).settle(
        Batch(shop="acme", source="till", origin="x", received=day(1), rows=0, settings=believed)
    )
    (order,) = orders(lake)
    assert (order["source"], order["value_minor"]) == ("till", 250)
    (line,) = rows(lake, "SELECT * FROM lines")
    assert line["time"] == day(2)
    assert rows(lake, "SELECT order_sources FROM shop_settings") == [
        {"order_sources": ["till", "web"]}
    ]


def test_lines_told_apart_join_their_order_where_it_has_none(tmp_path):
    apart = {"name": "item_ordered", "value": None}
    lake = filled(
        Lake(tmp_path),
        event("o1", 1, lines=()),
        event("o1/1", 1, order="o1", lines=(line("cup", 100),), **apart),
        event("o1/2", 2, order="o1", lines=(line("mug", 150),), **apart),
        event("o2", 1),
        event("o2/1", 1, order="o2", lines=(line("mug", 250),), **apart),
        event("lost", 1, order="never", **apart),
        event("o1/3", 1, order="o1", source="web", **apart),
    )
    found = rows(lake, "SELECT \"order\", value_minor, lines FROM orders ORDER BY ALL")
    told_lines = [(row["order"], row["value_minor"], [x["item"] for x in row["lines"]])
                  for row in found]  # fmt: skip
    assert told_lines == [("o1", 250, ["cup", "mug"]), ("o2", 250, ["mug"])]
    lines = rows(lake, 'SELECT "order", item, "time" FROM lines ORDER BY ALL')
    assert [tuple(row.values()) for row in lines] == [
        ("o1", "cup", day(1)), ("o1", "mug", day(2)), ("o2", "mug", day(1)),
    ]  # fmt: skip
    early = rows(lake, "SELECT item FROM lines ORDER BY item", cutoff=day(1))
    assert [row["item"] for row in early] == ["cup", "mug"]


def test_an_item_is_what_was_last_told_of_each_column(tmp_path):
    lake = told(
        Lake(tmp_path), item("mug", 1, title="Mug", stock=5, published=True),
        item("mug", 2, stock=0, image="https://x.example/mug.png"),
        item("mug", 3, published=False, price=Money(250, "GBP")),
    )  # fmt: skip
    sql = "SELECT title, stock, image, published, price_minor FROM items"
    (late,), (early,) = rows(lake, sql), rows(lake, sql, cutoff=day(1))
    assert tuple(late.values()) == ("Mug", 0, "https://x.example/mug.png", False, 250)
    assert tuple(early.values()) == ("Mug", 5, None, True, None)


def test_consent_is_in_force_since_its_status_last_changed(tmp_path):
    lake = told(
        Lake(tmp_path), consent(ADA, 1, "unsubscribed"), consent(ADA, 2, "subscribed"),
        consent(A, 4, "subscribed", method="form"), consent(A, 5, "unsubscribed", channel="sms"),
        link(A, ADA, 3),
    )  # fmt: skip
    sql = "SELECT customer, channel, status, since, method FROM consents ORDER BY channel"
    assert [tuple(row.values()) for row in rows(lake, sql)] == [
        (A, "email", "subscribed", day(2), "form"), (A, "sms", "unsubscribed", day(5), None),
    ]  # fmt: skip
    assert [tuple(row.values()) for row in rows(lake, sql, cutoff=day(1))] == [
        (ADA, "email", "unsubscribed", day(1), None),
    ]  # fmt: skip
    history = rows(lake, "SELECT customer, key FROM consent_history ORDER BY time")
    assert [tuple(row.values()) for row in history] == [(A, ADA), (A, ADA), (A, A), (A, A)]


def test_properties_are_what_all_changes_make_of_them_as_of_the_cutoff(tmp_path):
    lake = told(
        Lake(tmp_path),
        change(WEB, 1, '{"plan": "free", "tags": "a", "big": 123456789012345678901}'),
        change(A, 3, '{"plan": "gold"}', append='{"tags": ["b", "a"]}'),
        change(A, 4, clear=("plan",), unappend='{"tags": "a"}'), link(A, WEB, 2),
    )  # fmt: skip
    sql = "SELECT customer, properties, since, time, changes FROM profiles"
    big = '"big":123456789012345678901'
    assert [tuple(row.values()) for row in rows(lake, sql)] == [
        (A, f'{{"tags":["b"],{big}}}', day(1), day(4), 3),
    ]  # fmt: skip
    assert rows(lake, sql, cutoff=day(3))[0]["properties"] == (
        f'{{"plan":"gold","tags":["a","b"],{big}}}'
    )
    assert rows(lake, sql, cutoff=day(1))[0]["customer"] == WEB


def test_raw_identifiers_are_told_beside_their_customer(tmp_path):
    lake = told(Lake(tmp_path), identifier(ADA, "ada@example.com", 1), link(A, ADA, 2))
    assert rows(lake, "SELECT customer, key, value FROM identifiers") == [
        {"customer": A, "key": ADA, "value": "ada@example.com"}
    ]


def test_files_from_before_a_column_was_added_read_as_null(tmp_path):
    lake = told(Lake(tmp_path), item("mug", 1, title="Mug"))
    (file,) = lake.files("items")
    old = pq.read_table(file, partitioning=None).drop_columns(["stock", "image", "published"])
    pq.write_table(old, file)
    assert rows(lake, "SELECT title, stock, published FROM items") == [
        {"title": "Mug", "stock": None, "published": None}
    ]
    assert read(lake, "SELECT stock FROM catalogue", shop="acme").schema.field(0).type == pa.int64()
    told(lake, item("cup", 1, stock=3))
    found = rows(lake, "SELECT item, stock FROM items ORDER BY item")
    assert [tuple(row.values()) for row in found] == [("cup", 3), ("mug", None)]
