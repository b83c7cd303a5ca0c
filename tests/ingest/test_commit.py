from contextlib import contextmanager

from habitue.ingest.commit import Committer, Settlement, settlement
from habitue.lake.query import read
from habitue.lake.tables import Lake
from tests.ingest.parts import logged, orders, part, rejection


@contextmanager
def committer(folder, log, **named):
    one = Committer(Lake(folder / "lake", buckets=4), log, 0, **named)
    try:
        yield one
    finally:
        one.close()


def ids(lake: Lake) -> list[str]:
    return read(lake, "SELECT id FROM events ORDER BY digest", shop="acme")["id"].to_pylist()


def test_a_shop_first_heard_of_through_the_log_can_be_read(tmp_path):
    with committer(tmp_path, logged(part("r", *orders(1, 2)))) as one:
        settled = one.step()
        assert (settled.rows, settled.appended, settled.cursor) == (2, 2, 1)
        assert one.step() is None
        assert one.lake.shops() == ["acme"]
        assert sorted(ids(one.lake)) == ["1", "2"]


def test_every_input_is_counted_once_in_its_receipt(tmp_path):
    first = part("r1", *orders(1, 2, 1), rejections=(rejection(3),))
    second = part("r2", *orders(2, 3))
    with committer(tmp_path, logged(first, second)) as one:
        assert settlement(one.lake, "acme", "r1") is None
        one.step()
        assert settlement(one.lake, "acme", "r1") == Settlement(
            rows=4, appended=2, duplicate=1, rejected=1
        )
        assert settlement(one.lake, "acme", "r2") == Settlement(
            rows=2, appended=1, duplicate=1, rejected=0
        )
        assert settlement(one.lake, "other", "r1") is None
