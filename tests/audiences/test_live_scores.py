"""Scores move audiences: when they are told, and at the instant at which silence moves them."""

import random
from datetime import datetime, timedelta

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from habitue.audiences.live import tables
from habitue.audiences.live.facts import Predictions
from habitue.audiences.live.scored import curves
from habitue.audiences.live.scored.curves import Rescored
from habitue.lake.live.scored import ScoredCustomer
from habitue.lake.live.told import instant, microseconds
from habitue.scoring.told import WholeShop
from habitue.serving.answers.predictions import predictions_of
from tests.audiences.conditions import TICK
from tests.audiences.curves import row, told, whole
from tests.audiences.living import Living
from tests.lake.people import WEB, link
from tests.lake.small import day, event

CUSTOMERS = ("c0", "c1", "c2", "c3")
DAY = 86_400_000_000
# each with what it says of the answers over HTTP: their values by question and horizon, the date
# of the next order, and the instant
SAID = {
    "churn_90d > 0.3": lambda value, date, now: value["churn", 90] > 0.3,
    "churn_30d <= 0.5": lambda value, date, now: value["churn", 30] <= 0.5,
    "not order_7d >= 0.2": lambda value, date, now: not value["order", 7] >= 0.2,
    "order_45d > 0.4 and churn_7d > 0.5": lambda value, date, now:
        value["order", 45] > 0.4 and value["churn", 7] > 0.5,
    "expected_orders_90d >= 1": lambda value, date, now: value["orders", 90] >= 1,
    "expected_spend_30d >= 20": lambda value, date, now: value["revenue", 30] >= 20,
    "not expected_spend_365d > 60": lambda value, date, now: not value["revenue", 365] > 60,
    "next_order_date in the next 7 days": lambda value, date, now:
        date is not None and now < date <= now + timedelta(days=7),
    "next_order_date before 2025-03-20": lambda value, date, now:
        date is not None and date < datetime.fromisoformat("2025-03-20T00:00:00+00:00"),
    "next_order_date this week": lambda value, date, now:
        date is not None and date.isocalendar()[:2] == now.isocalendar()[:2],
    "next_order_date tomorrow": lambda value, date, now:
        date is not None and date.date() == (now + timedelta(days=1)).date(),
    "next_order_date is set": lambda value, date, now: date is not None,
}  # fmt: skip
ASKED = {"churn": (7, 30, 90), "order": (7, 45), "orders": (90,), "revenue": (30, 365)}


class Rescoring(Living):
    """A shop that is told scores, too."""

    def __init__(self, path) -> None:
        self.curves = []                   # since when, customer, number, anchor, row
        self.wholes, self.called = {}, {}
        self.told = {}                     # by customer and instant, as long as no score is told
        super().__init__(path)

    def score(self, one, number=1, *, dropped=False, draw=None):
        """Tell a customer's score, or that there is none any more."""
        rescored = Rescored(one, None, None, None) if dropped else Rescored(
            one, self.called[number], self.now - draw.randrange(3 * DAY), row(draw)
        )  # fmt: skip
        with self.profiles.writing() as connection:
            unknown = self.keeper.scored(connection, [("acme", rescored)], self.now)
            at = tables.frontier(connection)
        self.told.clear()
        if not unknown:
            self.curves.append((at, *rescored))
        self.now = max(self.now, at)

    def value(self, customer, now):
        """What the answers over HTTP are at an instant: values, and the next order's date."""
        if (customer, now) not in self.told:
            self.told[customer, now] = self._value(customer, now)
        return self.told[customer, now]

    def _value(self, customer, now):
        known = [one for one in self.curves if one[1] == customer and one[0] <= now]
        if not known or known[-1][4] is None:
            return None
        _, _, whole, anchor, held = known[-1]
        shop = WholeShop(whole=self.wholes[whole], popular=[])
        scored = ScoredCustomer(customer, anchor, now, held, b"")
        values = {}
        for question, horizons in ASKED.items():
            for one in predictions_of(
                shop, scored, at=now, questions=[question], horizons_days=list(map(float, horizons))
            ):
                values[question, int(one.horizon_days)] = one.value
        (date,) = predictions_of(
            shop, scored, at=now, questions=["next_order"], horizons_days=[]
        )
        return values, date.date

    def wanted(self, sentence, now):
        """Who is in it by the answers over HTTP at an instant, of all that was ever scored."""
        found = []
        for one in CUSTOMERS:
            told_of = self.value(one, now)
            if told_of is None:
                holds = sentence.startswith("not ")
            else:
                holds = SAID[sentence](*told_of, instant(now))
            if holds:
                found.append(one)
        return found


def begun(path, draw):
    """A shop of a few customers with an event each, all of them scored."""
    live = Rescoring(path)
    for place, one in enumerate(CUSTOMERS):
        live.tell([event(f"e{place}", 0.1, name="cart_added", customer=one)])
    scored_whole(live, 1, draw)
    return live


def scored_whole(live, number, draw):
    made = whole(f"v{number}", drift=0.1 * number)
    with live.profiles.writing() as connection:
        called = curves.put_whole(connection, "acme", told(made))
        live.wholes[called], live.called[number] = made, called
        live.keeper.readings.look(connection)
    for one in CUSTOMERS:
        live.score(one, number, draw=draw)
    with live.profiles.writing() as connection:
        curves.complete(connection, live.now)
    live.define()


def agree(live, at=None):
    """Hold what is kept, or what the changes up to an instant make, to the answers over HTTP."""
    for name, sentence in live.sentences.items():
        now = live.now if at is None else at
        wanted = live.wanted(sentence, now)
        assert live.folded(name, instant(now)) == wanted, (sentence, instant(now))
        if at is None:
            assert live.members(name) == wanted, (sentence, instant(now))


@given(seed=st.integers(1, 10**6))
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck),
          phases=[Phase.generate])  # fmt: skip
def test_membership_is_what_the_stored_curves_say_at_any_instant(tmp_path_factory, seed):
    draw = random.Random(seed)
    live = begun(tmp_path_factory.mktemp("scored") / "profiles.sqlite", draw)
    began = live.now
    live.define(**{f"a{place}": one for place, one in enumerate(SAID)})
    number = 1
    for _ in range(10):
        match draw.randrange(6):
            case 0 | 1:
                live.score(draw.choice(CUSTOMERS), number, draw=draw)
            case 2:
                live.score(draw.choice(CUSTOMERS), dropped=True)
            case 3:
                live.restart()
            case 4 if number < 3:
                number += 1
                scored_whole(live, number, draw)
        live.wait(instant(live.now) + timedelta(days=draw.choice([0, 0.01, 1, 9, 40])))
        agree(live)
    for _ in range(8):
        agree(live, draw.randrange(began, live.now + 1))
    causes = {cause for *_, cause in live.changes()}
    assert causes <= {"score", "time", "definition"}
    live.profiles.close()


def test_silence_moves_a_membership_at_the_microsecond_at_which_the_answer_is_another(tmp_path):
    draw = random.Random(7)
    live = begun(tmp_path / "profiles.sqlite", draw)
    live.define(**{f"a{place}": one for place, one in enumerate(SAID)})
    live.wait(day(400))
    by_time = [one for one in live.changes() if one[-1] == "time"]
    assert len({name for name, *_ in by_time}) > 5
    for name, customer, change, at, _, _ in by_time:
        then, before = microseconds(at), microseconds(at - TICK)
        assert (customer in live.wanted(live.sentences[name], then)) is (change == "entered")
        assert (customer in live.wanted(live.sentences[name], before)) is (change == "left")


def test_a_change_by_a_score_has_its_cause_and_one_told_twice_changes_nothing(tmp_path):
    draw = random.Random(3)
    live = begun(tmp_path / "profiles.sqlite", draw)
    live.define(quiet="churn_90d > 0.3")
    for _ in range(8):
        live.score("c1", draw=draw)
    changes = live.changes()
    assert {"score"} == {cause for _, who, *_, cause in changes if who == "c1"} - {"definition"}
    with live.profiles.writing() as connection:
        live.keeper.scored(connection, [("acme", Rescored("c1", *live.curves[-1][2:]))], live.now)
        kept = connection.execute("SELECT count(*) FROM curves WHERE customer = 'c1'").fetchone()
    assert live.changes() == changes
    assert kept[0] <= 9
    live.wait(day(3))
    live.score("c1", draw=draw)
    with live.profiles.writing() as connection:    # the one before counts still for what is late
        kept = connection.execute("SELECT count(*) FROM curves WHERE customer = 'c1'").fetchone()
    assert kept == (2,)


def test_of_whom_nothing_is_known_no_curve_is_kept_and_of_an_erased_one_none_is_left(tmp_path):
    draw = random.Random(3)
    live = begun(tmp_path / "profiles.sqlite", draw)
    told_of = Rescored("stranger", live.called[1], 0, row(draw))
    with live.profiles.writing() as connection:
        assert live.keeper.scored(connection, [("acme", told_of)], live.now) == {
            ("acme", "stranger")
        }
        tables.forget(connection, "acme", ["c1"])
        kept = connection.execute("SELECT DISTINCT customer FROM curves ORDER BY 1").fetchall()
    assert kept == [("c0",), ("c2",), ("c3",)]


def test_audiences_go_from_what_was_published_to_scores_and_say_so(tmp_path):
    draw = random.Random(3)
    live = Rescoring(tmp_path / "profiles.sqlite")
    for place, one in enumerate(CUSTOMERS):
        live.tell([event(f"e{place}", 0.1, name="cart_added", customer=one)])
    live.predictions = {
        ("churn", 90): Predictions(cutoff=live.now, visible=live.now, values={"c0": 0.9, "c1": 0.1})
    }
    live.versions = {("churn", 90): "v0"}
    live.define(quiet="churn_90d > 0.3")
    assert live.members("quiet") == ["c0"]
    live.wait(day(1))
    scored_whole(live, 1, draw)
    agree(live)
    assert {cause for *_, at, _, cause in live.changes() if at >= day(1)} == {"score"}


def test_who_becomes_another_customer_is_compared_by_that_ones_score_as_answers_are(tmp_path):
    live = begun(tmp_path / "profiles.sqlite", random.Random(3))
    live.tell([event("anonymous", 2, name="cart_added", customer=WEB)])
    live.score(WEB, draw=random.Random(5))
    live.define(scored="churn_90d >= 0")
    assert live.members("scored") == [WEB, *CUSTOMERS]
    live.tell([link("c9", WEB, 3)])        # c9 is the stronger key, and has no score yet
    live.wait(day(3))
    assert live.members("scored") == list(CUSTOMERS)
    live.score("c9", draw=random.Random(6))
    assert live.members("scored") == [*CUSTOMERS, "c9"]
    live.score(WEB, dropped=True)          # what is told of a name that is no more changes nothing
    assert live.members("scored") == [*CUSTOMERS, "c9"]
