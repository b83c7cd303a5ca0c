import re
from pathlib import Path

import pytest

from habitue.ingest import files
from habitue.ingest.mapping import Mapping, parse_mapping

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "import.md").read_text()
EXAMPLES = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_mapping_in_the_guide_can_be_followed(example):
    assert parse_mapping(example).kind in example


def test_the_guide_has_a_mapping_of_every_kind():
    assert sorted(parse_mapping(one).kind for one in EXAMPLES) == [
        "events", "items", "order_lines", "orders",
    ]


def test_every_reason_for_a_rejection_is_in_the_guide():
    reasons = set(re.findall(r"'([a-z]+_[a-z_]+)'", "".join(files.REASONS.values())))
    reasons -= {"id_mapped", "order_mapped"}
    reasons |= {"bad_row", "bad_json"}
    assert len(reasons) > 10
    assert {reason for reason in reasons if f"`{reason}`" not in GUIDE} == set()


def test_every_key_of_a_mapping_is_in_the_guide():
    keys = set(Mapping.__struct_fields__) - {"kind", "fields", "cancellation", "not_items"}
    keys |= {"cancellation.order_prefix", "cancellation.order", "not_items.codes"}
    assert {key for key in keys if f"`{key}`" not in GUIDE} == set()
