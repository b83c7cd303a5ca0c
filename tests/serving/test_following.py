"""An audience that is saved again while it is applied: nobody misses what it was in between."""

from habitue.audiences.live.keeping import FILLED_ALONE
from habitue.audiences.saved import Saved
from habitue.lake.live.told import instant, microseconds
from habitue.lake.tables import Lake
from habitue.serving.beside.following import Following
from tests.lake.small import day, event, filled
from tests.serving.small import ListLog

MANY = 2 * FILLED_ALONE                    # customers, of whom half are looked at in one go


def test_an_audience_that_is_another_one_is_first_applied_to_everybody_as_it_was(tmp_path):
    now = [microseconds(day(5))]
    orders = [event(f"e{n}", 1, customer=f"c{n:03}") for n in range(MANY)]
    lake = filled(Lake(tmp_path / "lake"), *orders)
    saved = Saved(lake, "acme", lambda: instant(now[0]), live=tmp_path / "profiles.sqlite")
    following = Following(
        tmp_path / "profiles.sqlite", ListLog(), lake, refuses=lambda _: False,
        clock=lambda: now[0],
    )  # fmt: skip
    following.catch_up()
    saved.save("buyers", "did order_placed")
    assert following.define()              # half are reached
    now[0] += 1_000_000
    saved.save("buyers", "did cart_added")
    for _ in range(2):                     # to apply it as it was, and as it is
        while following.define():
            pass
    rows = saved.changes().to_pylist()
    following.close()
    at = {"entered": day(5), "left": instant(now[0])}
    assert len(rows) == 2 * MANY
    assert {(row["change"], row["at"]) for row in rows} == set(at.items())
