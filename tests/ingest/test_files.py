import gzip
import json
import random
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.errors import BadFile, BadMapping
from habitue.events import Money
from habitue.ingest.importing import import_file
from habitue.ingest.mapping import columns_of, parse_mapping
from habitue.lake.query import read
from habitue.lake.tables import Lake
from tests.ingest.small import (
    COLUMNS,
    LINES,
    NOW,
    counts,
    events,
    imported,
    lines,
    row,
    written,
)


def rejected(lake: Lake) -> list[dict]:
    sql = "SELECT position, pointer, reason, payload FROM rejected ORDER BY position"
    return read(lake, sql, shop="acme").to_pylist()


@pytest.mark.parametrize(
    ("changes", "pointer", "reason"),
    [
        ({"order": ""}, "order", "no_order"),
        ({"item": "  "}, "item", "no_item"),
        ({"time": "yesterday"}, "time", "bad_time"),
        ({"time": ""}, "time", "bad_time"),
        ({"time": "infinity"}, "time", "bad_time"),
        ({"time": "0001-01-01"}, "time", "bad_time"),
        ({"time": "2025-02-30"}, "time", "bad_time"),
        ({"time": "294247-01-10 04:00:00"}, "time", "future_time"),
        ({"time": "2025-06-02 00:30:00"}, "time", None),
        ({"time": "2025-06-02 02:00:00"}, "time", "future_time"),
        ({"quantity": "some"}, "quantity", "bad_quantity"),
        ({"quantity": "inf"}, "quantity", "bad_quantity"),
        ({"price": "nan"}, "price", "non_finite_price"),
        ({"price": "-Infinity"}, "price", "non_finite_price"),
        ({"price": ""}, "price", "bad_price"),
        ({"price": "£2.50"}, "price", "bad_price"),
        ({"price": "1e15"}, "price", "bad_price"),
        ({"price": "9e11", "quantity": "9e11"}, "price", "amount_out_of_range"),
        ({"price": "-2.50"}, "price", None),
        ({"quantity": "0"}, "quantity", None),
        ({"customer": ""}, "customer", None),
    ],
)
def test_a_row_is_taken_or_rejected_with_a_reason(tmp_path, changes, pointer, reason):
    lake = Lake(tmp_path / "lake")
    receipt = imported(lake, written(tmp_path / "a.csv", [row(), row(**changes)]))
    if reason is None:
        assert counts(receipt) == (2, 0, 0)
        return
    assert counts(receipt) == (1, 0, 1)
    assert receipt.reasons == {reason: 1}
    (found,) = rejected(lake)
    assert (found["position"], found["pointer"], found["reason"]) == (1, pointer, reason)
    assert json.loads(found["payload"]) == dict(zip(COLUMNS, row(**changes), strict=True))


def test_ragged_rows_are_rejected_in_their_place(tmp_path):
    path = tmp_path / "a.csv"
    good = ",".join(row())
    path.write_text("\n".join([",".join(COLUMNS), good, "too,few", good, good + ",many", good, ""]))
    lake = Lake(tmp_path / "lake")
    receipt = imported(lake, path)
    assert counts(receipt) == (3, 0, 2)
    assert [(one["position"], one["reason"]) for one in rejected(lake)] == [
        (1, "bad_row"), (3, "bad_row"),
    ]
    assert rejected(lake)[0]["payload"] == "too,few"


def test_the_payload_of_a_rejected_row_is_cut_at_four_kibibytes(tmp_path):
    lake = Lake(tmp_path / "lake")
    imported(lake, written(tmp_path / "a.csv", [row(), row(order="", title="é" * 5000)]))
    assert 4000 < len(rejected(lake)[0]["payload"].encode()) <= 4096


def test_a_line_of_ndjson_that_is_no_object_is_rejected(tmp_path):
    path = tmp_path / "a.ndjson"
    good = json.dumps(dict(zip(COLUMNS, row(), strict=True)))
    path.write_text(f'{good}\n[1]\n{{"order": \n\n{good}\n')
    lake = Lake(tmp_path / "lake")
    assert counts(imported(lake, path)) == (2, 0, 2)
    assert {one["reason"] for one in rejected(lake)} == {"bad_json"}


def parquet(path, **changes):
    columns = {
        "customer": pa.array([1, 2]),
        "order": pa.array(["o1", "o2"]),
        "time": pa.array([1_735_776_000] * 2, pa.timestamp("s")),
        "item": pa.array(["mug", "jar"]),
        "quantity": pa.array([1, 2], pa.int32()),
        "price": pa.array([0.1, 2.675]),
        "title": pa.array(["A mug", None]),
    }
    pq.write_table(pa.table(columns | changes), path)
    return path


def test_four_formats_of_the_same_rows_are_the_same_events(tmp_path):
    rows = [row(), row(order="o2", customer="", price="0.005", title='A "jar", red\nand blue')]
    plain = written(tmp_path / "a.csv", rows)
    zipped = tmp_path / "b.csv.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    objects = [dict(zip(COLUMNS, one, strict=True)) for one in rows]
    json_lines = tmp_path / "c.ndjson.gz"
    text = "\n".join(json.dumps(one | {"price": float(one["price"])}) for one in objects)
    json_lines.write_bytes(gzip.compress(text.encode()))
    columnar = tmp_path / "d.parquet"
    pq.write_table(pa.Table.from_pylist(objects), columnar)

    lake = Lake(tmp_path / "lake")
    assert counts(imported(lake, plain)) == (2, 0, 0)
    for path in (zipped, json_lines, columnar):
        assert counts(imported(lake, path)) == (0, 2, 0), path.name
    assert len(events(lake)) == 2


def test_prices_are_read_by_their_shortest_text_and_rounded_half_even(tmp_path):
    lake = Lake(tmp_path / "lake")
    imported(lake, parquet(tmp_path / "a.parquet", price=pa.array([2.675, 0.125])))
    sql = "SELECT unit_price, amount_minor FROM lines ORDER BY item DESC"
    assert read(lake, sql, shop="acme").to_pylist() == [
        {"unit_price": Decimal("2.675000"), "amount_minor": 268},
        {"unit_price": Decimal("0.125000"), "amount_minor": 25},
    ]


amounts = st.decimals(-10_000, 10_000, places=4)


@settings(max_examples=15)
@given(
    told=st.lists(
        st.tuples(amounts, amounts, st.sampled_from(["GBP", "JPY", "KWD"])), min_size=1, max_size=20
    )
)
def test_every_amount_agrees_with_exact_decimal_arithmetic(tmp_path_factory, told):
    folder = tmp_path_factory.mktemp("amounts")
    mapping = parse_mapping(
        'kind = "order_lines"\n[fields]\n'
        + "".join(f'{name} = "{name}"\n' for name in ("order", "time", "item", "quantity"))
        + 'unit_price = "price"\ncurrency = "title"\n'
    )
    rows = [
        row(order=str(n), quantity=str(quantity), price=str(price), title=currency)
        for n, (quantity, price, currency) in enumerate(told)
    ]
    lake = Lake(folder / "lake")
    imported(lake, written(folder / "a.csv", rows), mapping)
    found = {one["id"]: one["value_minor"] for one in events(lake)}
    assert found == {
        str(n): Money.of(quantity * price, currency).minor
        for n, (quantity, price, currency) in enumerate(told)
    }


@pytest.mark.parametrize(
    ("told", "zone", "expected"),
    [
        ("2025-01-02 10:00:00", "Europe/London", datetime(2025, 1, 2, 10, tzinfo=UTC)),
        ("2025-05-02 10:00", "Europe/London", datetime(2025, 5, 2, 9, tzinfo=UTC)),
        ("2025-05-02", "Europe/London", datetime(2025, 5, 1, 23, tzinfo=UTC)),
        ("2025-05-02T10:00:00Z", "Europe/London", datetime(2025, 5, 2, 10, tzinfo=UTC)),
        ("2025-05-02T10:00:00.0+02:00", "Europe/London", datetime(2025, 5, 2, 8, tzinfo=UTC)),
        ("2025-05-02 10:00:00-0330", "Europe/London", datetime(2025, 5, 2, 13, 30, tzinfo=UTC)),
        # the clock skipped 01:00 to 02:00, and showed 01:00 to 02:00 twice
        ("2025-03-30 01:30:00", "Europe/London", datetime(2025, 3, 30, 1, 30, tzinfo=UTC)),
        ("2024-10-27 01:30:00", "Europe/London", datetime(2024, 10, 27, 1, 30, tzinfo=UTC)),
        ("2024-11-03 01:30:00", "America/New_York", datetime(2024, 11, 3, 6, 30, tzinfo=UTC)),
        ("2024-11-03 01:30:00", "Asia/Kolkata", datetime(2024, 11, 2, 20, tzinfo=UTC)),
    ],
)
def test_times_without_a_zone_are_the_shops(tmp_path, told, zone, expected):
    lake = Lake(tmp_path / "lake")
    zoned = parse_mapping(LINES.replace("Europe/London", zone))
    imported(lake, written(tmp_path / "a.csv", [row(time=told)]), zoned)
    assert [one["time"] for one in events(lake)] == [expected]


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("%d/%m/%Y %H:%M", "02/05/2025 10:30"),
        ("%Y%m%dT%H%M%S%z", "20250502T113000+0200"),
        ("epoch_seconds", "1746178200"),
        ("epoch_milliseconds", "1746178200000"),
    ],
)
def test_a_time_format_says_how_times_are_written(tmp_path, form, told):
    mapping = parse_mapping(f'time_format = "{form}"\n{LINES}')
    lake = Lake(tmp_path / "lake")
    imported(lake, written(tmp_path / "a.csv", [row(time=told)]), mapping)
    assert [one["time"] for one in events(lake)] == [datetime(2025, 5, 2, 9, 30, tzinfo=UTC)]


def test_aware_and_naive_parquet_times_are_read_as_they_are(tmp_path):
    lake = Lake(tmp_path / "lake")
    instant = datetime(2025, 5, 2, 10, tzinfo=UTC)
    aware = pa.array([instant] * 2, pa.timestamp("ms", tz="America/New_York"))
    naive = pa.array([instant.replace(tzinfo=None)] * 2, pa.timestamp("s"))
    imported(lake, parquet(tmp_path / "a.parquet", time=aware))
    imported(lake, parquet(tmp_path / "b.parquet", time=naive, order=pa.array(["o3", "o4"])))
    assert sorted({one["time"].hour for one in events(lake)}) == [9, 10]


def test_other_encodings_and_delimiters_are_read_where_the_mapping_says_so(tmp_path):
    path = tmp_path / "a.csv"
    text = ";".join(COLUMNS) + "\n" + ";".join(row(title="Tasse für 2 £"))
    path.write_bytes(text.encode("latin-1"))
    lake = Lake(tmp_path / "lake")
    mapping = parse_mapping('encoding = "latin-1"\ndelimiter = ";"\n' + LINES)
    imported(lake, path, mapping)
    found = read(lake, "SELECT title FROM items", shop="acme")
    assert found["title"].to_pylist() == ["Tasse für 2 £"]


def _empty(path):
    path.write_bytes(b"")


def _header_only(path):
    written(path, [])


def _no_column(path):
    written(path, [row()], ("custmer", *COLUMNS[1:]))


def _semicolons(path):
    path.write_text(";".join(COLUMNS) + "\n" + ";".join(row()))


def _column_twice(path):
    written(path, [row()], ("order", *COLUMNS[1:]))


def _short_and_not_utf8(path):
    path.write_bytes((",".join(COLUMNS) + "\n" + "c1,£\n").encode("latin-1"))


def _not_utf8(path):
    path.write_bytes((",".join(COLUMNS) + "\n" + ",".join(row(title="£"))).encode("latin-1"))


def _cut_gzip(path):
    noise = [row(title=str(random.Random(n).random())) for n in range(2000)]
    whole = gzip.compress(written(path.with_suffix(".plain"), noise).read_bytes())
    path.write_bytes(whole[: len(whole) // 2])


def _no_gzip(path):
    written(path, [row()])


def _cut_parquet(path):
    whole = parquet(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _empty_parquet(path):
    pq.write_table(pq.read_table(parquet(path)).slice(0, 0), path)


def _wrong_type(path):
    parquet(path, price=pa.array([True, False]))


def _whole_number_time(path):
    parquet(path, time=pa.array([1, 2]))


def _nested(path):
    parquet(path, item=pa.array([["mug"], ["jar"]]))


def _wrong_everywhere(path):
    written(path, [row(price="cheap")] * 200)


def _no_key(path):
    path.write_text('{"order": "o1"}\n')


def _text(path):
    path.write_text("hello")


@pytest.mark.parametrize(
    ("name", "make", "error", "message"),
    [
        ("a.csv", _empty, BadFile, "a.csv is empty"),
        ("a.csv", _header_only, BadFile, "a.csv has columns but no rows"),
        ("a.csv", _no_column, BadMapping, 'a.csv has no column \'customer\'.*\n.*"custmer"'),
        ("a.csv", _semicolons, BadMapping, "no column .*\n.*set delimiter"),
        ("a.csv", _column_twice, BadFile, "more than one column 'order'"),
        ("a.csv", _not_utf8, BadFile, "cannot read a.csv.*\n.*encoding"),
        ("a.csv", _short_and_not_utf8, BadFile, "cannot read a.csv.*\n.*encoding"),
        ("a.csv", _wrong_everywhere, BadFile, "not one of 200 rows .*'price'(?s:.*)hint"),
        ("a.csv.gz", _cut_gzip, BadFile, "cannot read a.csv.gz.*\n.*cut short"),
        ("a.csv.gz", _no_gzip, BadFile, "cannot read a.csv.gz"),
        ("a.parquet", _cut_parquet, BadFile, "cannot read a.parquet.*\n.*cut short"),
        ("a.parquet", _empty_parquet, BadFile, "no rows"),
        ("a.parquet", _wrong_type, BadFile, "column 'price' .* is bool; a number .*\nhint"),
        ("a.parquet", _whole_number_time, BadFile, "column 'time' .*\n.*epoch_seconds"),
        ("a.parquet", _nested, BadFile, "column 'item' .* is list"),
        ("a.parquet", _text, BadFile, "cannot read a.parquet"),
        ("a.ndjson", _no_key, BadMapping, "a.ndjson has no column 'customer'"),
        ("a.ndjson", _empty, BadFile, "a.ndjson is empty"),
        ("a.xlsx", _text, BadFile, "files end in .parquet"),
        ("none.csv", lambda path: None, BadFile, "is no file"),
    ],
)
def test_a_bad_file_is_one_clear_error_and_nothing_is_half_imported(
    tmp_path, name, make, error, message
):
    make(tmp_path / name)
    lake = Lake(tmp_path / "lake")
    with pytest.raises(error, match=message):
        imported(lake, tmp_path / name)
    assert lake.shops() == []
    assert lake.files("events") == []


@pytest.mark.parametrize("suffix", ["csv", "ndjson", "parquet"])
def test_columns_may_have_any_name(tmp_path, suffix):
    names = {"order": "a.b", "time": "when, really", "item": 'the "item"', "quantity": "select"}
    names |= {"customer": "back\\slash", "price": "$", "title": "é; drop"}
    told = dict(zip(COLUMNS, row(), strict=True))
    path = tmp_path / f"a.{suffix}"
    match suffix:
        case "csv":
            written(path, [row()], tuple(names[column] for column in COLUMNS))
        case "ndjson":
            path.write_text(json.dumps({names[column]: told[column] for column in COLUMNS}))
        case "parquet":
            pq.write_table(pa.table({names[column]: [told[column]] for column in COLUMNS}), path)
    mapping = lines()
    fields = {name: names[column] for name, column in columns_of(mapping).items()}
    lake = Lake(tmp_path / "lake")
    renamed = msgspec.structs.replace(
        mapping, fields=msgspec.structs.replace(mapping.fields, **fields)
    )
    assert counts(imported(lake, path, renamed)) == (1, 0, 0)
    (event,) = events(lake)
    assert (event["id"], event["customer"], event["value_minor"]) == ("o1", "c1", 250)


def test_progress_ends_at_one_and_never_goes_back(tmp_path):
    shares: list[float] = []
    import_file(
        written(tmp_path / "a.csv", [row()]),
        lake=Lake(tmp_path / "lake"), shop="acme", mapping=lines(), now=NOW,
        progress=shares.append,
    )
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
