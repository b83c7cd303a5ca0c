"""Why: effects add up to what `predict` says, come from scoring again, and know no future."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from habitue.errors import BadSetting
from habitue.predictions.calendar import PERIOD_EDGES, Level
from habitue.predictions.calibrate import Calibration
from habitue.predictions.explain import factors
from habitue.predictions.explain.again import Past, Scorer, peopled
from habitue.predictions.explain.factors import first_orders, parts_of
from habitue.predictions.explain.shares import Value, shares
from habitue.predictions.explain.why import TOLERANCE, Ask, Explanation, explain
from habitue.predictions.explain.words import words_of
from habitue.predictions.learn import Trained, corpus_of, train_model
from habitue.predictions.score import score
from habitue.predictions.scores.questions import EXPLAINED
from habitue.sequences.build import DAY, NEVER, Sequences
from tests.model.small import TINY, stirred
from tests.sequences.small import CONFIG, another_future, sequences_at, tangled
from tests.shops import end_of, events_of

AT = end_of(CONFIG) - 60 * DAY
BENT = Calibration(
    window_days=60.0, centre=-1.0, log_level=0.2, power=0.9, order_level=-0.1, order_power=1.1,
    spend_level=0.1, drift=0.1,
)  # fmt: skip


def model_of(shop: Sequences) -> Trained:
    found = train_model(shop, TINY, "training")
    stirred(found.model)
    return found


def scorer_of(trained: Trained, shop: Sequences | None = None, *, season: bool = False) -> Scorer:
    """Everyone scored for 90 days, with a calibration; of another shop if one is given."""
    corpus = trained.corpus if shop is None else corpus_of(shop, trained.model)
    scores = score(
        trained.model, corpus, BENT, cutoff=corpus.sequences.cutoff, horizons_days=(90.0,)
    )
    if season:
        ramp = np.linspace(0.7, 1.5, len(PERIOD_EDGES) - 1)
        scores = replace(scores, level=Level(np.array(PERIOD_EDGES), ramp, ramp, known=True))
    return Scorer(trained.model, corpus, scores)


def without_seconds(why: Explanation) -> tuple[object, ...]:
    return [(one.words, one.effect) for one in why.factors], why.value, why.reference


class Ticking:
    """A clock that goes on by a fixed step whenever it is looked at."""

    def __init__(self, step_seconds: float) -> None:
        self.now, self.step = 0.0, step_seconds

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture(scope="module")
def trained() -> Trained:
    return model_of(sequences_at(events_of(CONFIG, seed=13), AT))


@pytest.fixture(scope="module")
def scorer(trained: Trained) -> Scorer:
    return scorer_of(trained)


@pytest.fixture(scope="module")
def entangled() -> Scorer:
    """A shop with views, refunds, cancellations, and events at the same instants."""
    return scorer_of(model_of(tangled(3, customers=12)))


def patient(question: str = "churn") -> Ask:
    return Ask(question=question, horizon_days=90.0, budget_seconds=1e6)


@pytest.mark.parametrize("question", EXPLAINED)
def test_effects_add_up_to_exactly_what_is_predicted(scorer: Scorer, question: str) -> None:
    predicted = getattr(scorer.scores, question)(90.0).value
    for row in (0, 5, len(predicted) - 1):
        why = explain(scorer, row, patient(question))
        assert why.value == predicted[row]
        assert why.exact
        assert abs(why.unshared_effect) < TOLERANCE
        total = why.reference + sum(one.points for one in why.factors) + why.unshared
        assert total == pytest.approx(why.value, abs=1e-9)


@given(row=some.integers(0, 10), question=some.sampled_from(EXPLAINED))
def test_effects_add_up_whatever_happened(entangled: Scorer, row: int, question: str) -> None:
    row %= len(entangled.scores.names)
    why = explain(entangled, row, replace(patient(question), budget_seconds=0.02))
    total = why.reference + sum(one.points for one in why.factors) + why.unshared
    assert total == pytest.approx(why.value, abs=1e-9)
    if why.exact:
        assert abs(why.unshared_effect) < TOLERANCE


def test_every_event_of_a_customer_is_in_exactly_one_factor(entangled: Scorer) -> None:
    shop = entangled.corpus.sequences
    for customer in entangled.scores.customer:
        held = [row for part in parts_of(shop, int(customer), season=False) for row in part.rows]
        assert sorted(held) == list(range(*shop.offsets[customer : customer + 2]))


def test_nothing_left_out_is_the_customer_as_they_were_scored(entangled: Scorer) -> None:
    shop, scores = entangled.corpus.sequences, entangled.scores
    for row, customer in enumerate(scores.customer):
        parts = parts_of(shop, int(customer), season=False)
        past = entangled.past(int(customer), parts, np.ones(len(parts), bool))
        again = entangled.score([past], scores.level)
        np.testing.assert_allclose(again.log_rate[0], scores.log_rate[row], atol=1e-4)
        assert again.silent_days[0] == scores.silent_days[row]


def test_a_past_without_an_order_holds_every_other_event_as_it_was(scorer: Scorer) -> None:
    """Rows and lines are those of the shop with the order cut out by hand."""
    shop = scorer.corpus.sequences
    customer = int(scorer.scores.customer[np.argmax(np.diff(shop.offsets)[scorer.scores.customer])])
    parts = parts_of(shop, customer, season=False)
    last = next(i for i, part in enumerate(parts) if part.kind == factors.LAST)
    kept = np.arange(len(parts)) != last
    rows = np.setdiff1d(
        np.arange(shop.offsets[customer], shop.offsets[customer + 1]), parts[last].rows
    )
    past = scorer.past(customer, parts, kept)
    np.testing.assert_array_equal(past.rows, rows)
    np.testing.assert_array_equal(past.time, shop.time[rows])
    cut = peopled(shop, [past])
    assert len(cut.time) == len(rows)
    assert cut.line_amount.sum() == pytest.approx(
        sum(shop.line_amount[shop.line_offsets[r] : shop.line_offsets[r + 1]].sum() for r in rows)
    )


def test_without_silence_the_last_order_is_now_and_nothing_is_later(entangled: Scorer) -> None:
    shop = entangled.corpus.sequences
    for customer in entangled.scores.customer:
        parts = parts_of(shop, int(customer), season=False)
        kept = np.array([part.kind != factors.SILENCE for part in parts])
        past = entangled.past(int(customer), parts, kept)
        assert np.all(np.diff(past.time) >= 0)
        assert past.time[-1] == shop.cutoff


def test_the_season_is_a_factor_where_last_year_is_known(trained: Trained) -> None:
    scorer = scorer_of(trained, season=True)
    why = explain(scorer, 0, patient("orders"))
    (season,) = [one for one in why.factors if one.kind == factors.SEASON]
    assert season.effect != 0
    assert why.exact


def test_who_ordered_once_and_just_now_has_one_reason() -> None:
    shop = tangled(3, customers=12)
    alone = replace(
        shop,
        customers=shop.customers[:1],
        offsets=np.array([0, 1]),
        time=np.array([shop.cutoff]),
        kind=np.zeros(1, np.int16),
        value=np.array([40.0]),
        cancelled_at=np.array([NEVER]),
        line_offsets=np.array([0, 0]),
        line_item=shop.line_item[:0],
        line_quantity=shop.line_quantity[:0],
        line_amount=shop.line_amount[:0],
    )
    (part,) = parts_of(alone, 0, season=False)
    assert part.kind == factors.FIRST
    assert words_of(alone, 0, part).startswith("the only order: £40.00 on ")


def test_words_hold_the_days_of_silence_and_the_usual_gap(scorer: Scorer) -> None:
    shop = scorer.corpus.sequences
    for customer in scorer.scores.customer:
        rows = np.arange(shop.offsets[customer], shop.offsets[customer + 1])
        days = np.unique(shop.time[rows[shop.is_order[rows]]] // DAY)
        if len(days) < 3 or shop.cutoff - shop.time[rows[-1]] < 2 * DAY:
            continue
        silence = parts_of(shop, int(customer), season=False)[0]
        told = words_of(shop, int(customer), silence)
        ago = (shop.cutoff - shop.time[rows[shop.is_order[rows]]].max()) / DAY
        usual = np.diff(days).mean()
        assert told == f"no order for {ago:.0f} days; usually every {usual:.0f}"
        return
    pytest.fail("nobody ordered often")


def test_nothing_after_the_cutoff_changes_an_explanation(trained: Trained, scorer: Scorer) -> None:
    events = events_of(CONFIG, seed=13)
    other = scorer_of(trained, sequences_at(another_future(events, AT), AT))
    for row in (0, 3):
        then, now = explain(scorer, row, patient()), explain(other, row, patient())
        assert without_seconds(then) == without_seconds(now)


def game(seed: int, players: int) -> tuple[np.ndarray, Value]:
    """Any values of all coalitions."""
    table = np.random.default_rng(seed).normal(size=1 << players)
    return table, lambda kept: table[kept @ (1 << np.arange(players))]


@given(seed=some.integers(0, 10_000), players=some.integers(1, 5))
def test_exact_shares_are_the_mean_over_all_orders_of_coming(seed: int, players: int) -> None:
    table, value = game(seed, players)
    means = np.zeros(players)
    orders = list(permutations(range(players)))
    for order in orders:
        coalition = 0
        for player in order:
            means[player] += table[coalition | 1 << player] - table[coalition]
            coalition |= 1 << player
    found = shares(
        value, players, budget_seconds=1e9, clock=Ticking(0.0), rng=np.random.default_rng(0)
    )
    assert found.exact
    np.testing.assert_allclose(found.effects, means / len(orders), atol=1e-12)


@given(seed=some.integers(0, 1_000), budget=some.floats(0, 60), players=some.integers(1, 9))
def test_shares_add_up_however_little_time_there_is(seed: int, budget: float, players: int) -> None:
    _, value = game(seed, players)
    found = shares(
        value, players, budget_seconds=budget, clock=Ticking(1.0), rng=np.random.default_rng(seed)
    )
    total = found.reference + found.effects.sum() + found.unshared
    assert total == pytest.approx(found.whole, abs=1e-9)
    divided = found.exact or bool(found.effects.any())
    assert divided == (abs(found.unshared) < 1e-9)


def test_without_time_nothing_is_divided_and_it_is_said() -> None:
    _, value = game(1, 6)
    found = shares(
        value, 6, budget_seconds=0.0, clock=Ticking(1.0), rng=np.random.default_rng(0)
    )
    assert not found.exact
    assert found.coalitions == 2
    assert found.unshared == found.whole - found.reference
    assert np.isnan(found.errors).all()


def test_drawn_orders_come_within_their_errors_of_the_exact_shares() -> None:
    _, value = game(7, 8)
    exact = shares(value, 8, budget_seconds=1e9, clock=Ticking(0), rng=np.random.default_rng(0))
    clock = Ticking(0.0)

    def slowly(kept: np.ndarray) -> np.ndarray:
        clock.now += len(kept)             # a second each: the budget ends before all 256
        return value(kept)

    drawn = shares(slowly, 8, budget_seconds=150.0, clock=clock, rng=np.random.default_rng(0))
    assert not drawn.exact
    assert 2 < drawn.coalitions <= 150
    assert clock.now <= 150
    # eight players within five standard errors of few pairs
    assert np.all(np.abs(drawn.effects - exact.effects) < 5 * drawn.errors + 0.05)


def test_a_thousand_events_are_explained_within_the_budget(trained: Trained) -> None:
    shop = trained.corpus.sequences
    row = int(first_orders(shop)[-1])
    day = shop.time[row]
    step = (shop.cutoff - day) // 1_000
    rows = np.full(1_000, row)
    often = Past(rows, day + step * np.arange(1_000))
    busy = peopled(shop, [often, Past(rows[:1], np.array([day]))])
    scorer = scorer_of(trained, busy)
    why = explain(scorer, 0, replace(patient(), budget_seconds=30.0))
    assert abs(why.unshared_effect) < TOLERANCE
    assert "orders from" in " ".join(one.words for one in why.factors)
    assert explain(scorer, 1, patient()).factors[0].kind in (factors.SILENCE, factors.FIRST)


def test_what_is_not_explained_is_refused() -> None:
    with pytest.raises(BadSetting, match="'next_order' is not explained\nhint: ask order"):
        Ask(question="next_order", horizon_days=90.0)
    with pytest.raises(BadSetting, match="a budget of -1 ms is none"):
        Ask(question="churn", horizon_days=90.0, budget_seconds=-0.001)
