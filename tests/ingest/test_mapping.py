import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitue.errors import BadMapping
from habitue.ingest.mapping import FIELDS, columns_of, parse_mapping, read_mapping
from tests.ingest.small import LINES


def test_a_mapping_says_what_columns_mean():
    mapping = parse_mapping(
        LINES + '[not_items]\ncodes = ["POST"]\npatterns = ["^gift_"]\n', name="m.toml"
    )
    assert mapping.kind == "order_lines"
    assert mapping.cancellation.order_prefix == "C"
    assert mapping.not_items.codes == ("POST",)
    assert columns_of(mapping)["unit_price"] == "price"
    assert "currency" not in columns_of(mapping)


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ('kind = "order_lines"', 'kind = "order_line"', 'no kind .*\n.*did you mean "order_lines"'),
        ('kind = "order_lines"', "", '"kind" is missing'),
        ("customer =", "custmer =", "unknown key 'fields.custmer'\n.*did you mean \"customer\""),
        ("order_prefix =", "prefix =", "unknown key 'cancellation.prefix'"),
        ("shop_timezone =", "timezone =", "unknown key 'timezone'\n.*\"shop_timezone\""),
        ("Europe/London", "Europe/Lodnon", "is no time zone\n.*Europe/London"),
        ('time = "time"', "", "needs 'time' under"),
        ('order = "order"', "", "needs 'order' under"),
        ("=GBP", "=pounds", "three capital letters"),
        ('item = "item"', "item = 7", "Expected `str"),
        ('item = "item"', 'item = ""', "fields.item is empty"),
        ('order_prefix = "C"', 'order_prefix = ""', "order_prefix is empty"),
        ("[fields]", "[fields", "is not valid TOML"),
        ('title = "title"', 'value = "worth"', "has no use for 'value'"),
        ("[cancellation]", '[not_items]\npatterns = ["(?=x)"]\n[cancellation]', "patterns"),
        ("kind =", 'encoding = "utf-9"\nkind =', "unknown encoding"),
        ("kind =", 'delimiter = ";;"\nkind =', "one character"),
    ],
)
def test_a_mistake_in_a_mapping_is_named_with_its_file_and_a_way_out(was, becomes, message):
    assert was in LINES
    with pytest.raises(BadMapping, match=f"m.toml(?s:.*){message}"):
        parse_mapping(LINES.replace(was, becomes, 1), name="m.toml")


def test_a_mapping_that_is_not_there_is_an_error_that_names_it(tmp_path):
    with pytest.raises(BadMapping, match=r"cannot read the mapping .*none\.toml"):
        read_mapping(tmp_path / "none.toml")


@given(st.text(max_size=60) | st.sampled_from(LINES.splitlines()).map(lambda one: one + one))
def test_any_text_is_a_mapping_or_a_bad_mapping(text):
    try:
        mapping = parse_mapping(text)
    except BadMapping:
        return
    assert mapping.kind


@given(
    st.dictionaries(
        st.sampled_from(FIELDS), st.sampled_from(["a column", "=constant", "x", "=GBP"])
    )
)
def test_every_field_is_a_column_a_constant_or_absent(fields):
    text = 'kind = "events"\n[fields]\n' + "".join(f'{k} = "{v}"\n' for k, v in fields.items())
    try:
        mapping = parse_mapping(text)
    except BadMapping:
        return
    columns = columns_of(mapping)
    assert columns == {field: value for field, value in fields.items() if value[0] != "="}
