"""What whoever keeps audiences live reads of the lake, and how seldom."""

from datetime import timedelta

from habitue.audiences.live import definitions
from habitue.audiences.saved import Saved
from habitue.ingest.gate import Gate, Settings
from habitue.lake.live.told import microseconds
from habitue.lake.query import read
from habitue.lake.tables import Lake
from habitue.serving.beside.following import Following
from tests.lake.small import day, event, filled
from tests.serving.small import ListLog


def test_what_is_followed_is_what_the_view_says(tmp_path):
    lake = filled(Lake(tmp_path / "lake"), event("a", 1))
    now = [day(2)]
    saved = Saved(lake, "acme", lambda: now[0], live=tmp_path / "profiles.sqlite")
    for name, said in (("a", "did a"), ("b", "did b"), ("a", "did c"), ("b", None), ("c", "did d")):
        now[0] += timedelta(microseconds=1)
        if said is None:
            saved.remove(name)
        else:
            saved.save(name, said)
    (told,) = definitions.defined(lake, day(3))
    rows = read(lake, "SELECT * FROM audiences", shop="acme").to_pylist()
    assert told.sentences == {row["name"]: row["condition"] for row in rows} != {}
    assert told.since == {row["name"]: microseconds(row["since"]) for row in rows}


def test_settings_that_are_kept_are_not_changed_by_who_uses_them(tmp_path):
    lake = filled(Lake(tmp_path / "lake"), event("a", 1))
    Saved(lake, "acme", lambda: day(2), live=tmp_path / "profiles.sqlite").save("a", "did b")
    kept = definitions.Kept()
    (one,) = definitions.defined(lake, day(3), None, kept)
    one.settings.currency = "JPY"
    (other,) = definitions.defined(lake, day(3), None, kept)
    assert other.settings.currency is None
    assert other.meanings is one.meanings


def test_settings_that_are_declared_anew_are_followed(tmp_path):
    lake = filled(Lake(tmp_path / "lake"), event("a", 1))
    saved = Saved(lake, "acme", lambda: day(2), live=tmp_path / "profiles.sqlite")
    saved.save("a", "did order_placed today")
    following = Following(
        tmp_path / "profiles.sqlite", ListLog(), lake, refuses=lambda _: False,
        clock=lambda: microseconds(day(3)),
    )  # fmt: skip
    assert following.keeper.shops["acme"].shop.zone == "UTC"
    Gate(lake).declare("acme", Settings(currency="GBP", timezone="Asia/Kolkata"), now=day(3))
    for _ in range(2):                     # it is applied as it was, and then as it is
        following.define()
    assert following.keeper.shops["acme"].shop.zone == "Asia/Kolkata"
    following.close()
