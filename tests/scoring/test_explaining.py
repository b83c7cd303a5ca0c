"""Why, from the scorer: what batch says at the same instant, and as of now where time went on."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from habitue import publishing
from habitue.predictions.explain.why import Ask, Explanation
from habitue.publishing import AsOf, Source
from habitue.scoring.desk import Desk, Told, Why
from habitue.scoring.explaining import Explaining
from habitue.scoring.scorer import Scorer
from habitue.scoring.told import WholeShop
from habitue.sequences.build import DAY, instant
from habitue.serving.answers.predictions import predictions_of
from tests.scoring.small import CUTOFF, SHOP, between, receive, source_of
from tests.scoring.test_scorer import Clock, everyone, scorer_of, steps

BUDGET = 30.0                              # seconds: every coalition is scored


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return source_of(tmp_path_factory.mktemp("explaining"))


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock(CUTOFF)


@pytest.fixture(scope="module")
def scorer(source: Source, clock: Clock, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    opened = scorer_of(source, clock, tmp_path_factory.mktemp("online"))
    opened.catch_up(source.lake)
    steps(opened)
    yield opened
    opened.close()


@pytest.fixture
def explaining(scorer: Scorer, tmp_path: Path) -> Iterator[Explaining]:
    opened = Explaining(scorer, Desk(tmp_path / "asked.sqlite"), ())
    yield opened
    opened.close()


def somebody(scorer: Scorer) -> str:
    """A customer with some orders."""
    _, scored = scorer.scored.customers(SHOP.shop, sorted(everyone()))
    return scored[len(scored) // 2].customer


def why(explaining: Explaining, customer: str, question: str) -> Told:
    asked = Why(
        customer=customer, question=question, horizon_days=90.0, budget_seconds=BUDGET
    )
    explaining.desk.wonder(SHOP.shop, asked, id="a", now=explaining.scorer.now())
    assert explaining.step()
    assert not explaining.step()
    told = msgspec.json.decode(explaining.desk.told("a"), type=Told)
    explaining.desk.drop("a")
    return told


def explained(told: Told) -> Explanation:
    assert not told.detail
    return msgspec.json.decode(told.explanation, type=Explanation)


@pytest.mark.parametrize("question", ["churn", "revenue"])
def test_it_says_what_batch_says_of_the_same_instant(
    explaining: Explaining, source: Source, question: str
) -> None:
    customer = somebody(explaining.scorer)
    live = explained(why(explaining, customer, question))
    batch = publishing.why(
        source, AsOf(instant(CUTOFF)), customer,
        Ask(question=question, horizon_days=90.0, budget_seconds=BUDGET),
    )  # fmt: skip
    assert live.exact and batch.exact
    assert live.value == pytest.approx(batch.value, rel=1e-4)
    assert live.reference == pytest.approx(batch.reference, rel=1e-4)
    assert {one.words: pytest.approx(one.effect, abs=1e-3) for one in batch.factors} == {
        one.words: one.effect for one in live.factors
    }


def test_it_explains_what_is_predicted_now(
    explaining: Explaining, source: Source, clock: Clock
) -> None:
    later = CUTOFF + 5 * DAY
    receive(source, between(CUTOFF, later))
    clock.now = later
    scorer = explaining.scorer
    scorer.catch_up(source.lake)
    steps(scorer)
    did = set(between(CUTOFF, later)["customer"].to_pylist()) - {None}
    customer = scorer.scored.customers(SHOP.shop, sorted(did))[1][0].customer
    told = explained(why(explaining, customer, "churn"))
    whole, scored = scorer.scored.customers(SHOP.shop, [customer])
    (predicted,) = predictions_of(
        msgspec.json.decode(whole, type=WholeShop), scored[0], at=later, questions=["churn"],
        horizons_days=[90.0],
    )  # fmt: skip
    assert told.value == pytest.approx(predicted.value, rel=1e-4)
    total = told.reference + sum(one.points for one in told.factors) + told.unshared
    assert total == pytest.approx(told.value, abs=1e-6)


def test_what_cannot_be_explained_is_told(explaining: Explaining) -> None:
    assert "no order" in why(explaining, "nobody", "churn").detail
    explaining.desk.wonder(
        "other", Why(customer="c", question="churn", horizon_days=1.0, budget_seconds=1.0),
        id="b", now=explaining.scorer.now(),
    )  # fmt: skip
    assert explaining.step()
    assert b"scored as a whole" in explaining.desk.told("b")
