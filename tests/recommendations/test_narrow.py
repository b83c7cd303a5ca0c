"""A part of a large catalogue, scored for some customers, lists what the whole does."""

import numpy as np
import pytest

from habitue.recommendations import recommend as room
from habitue.recommendations.recommend import fit_recommender, recommend
from habitue.recommendations.rules import Rules
from habitue.simulation import ShopConfig
from tests.recommendations.test_newcomers import never_ordered
from tests.shops import sequences_of


@pytest.fixture(scope="module")
def shop():
    return sequences_of(ShopConfig(customers=120, items=900, lines=3.0), 1)


def likely(count: int):
    """A model that has an opinion of everything."""
    rng = np.random.default_rng(5)
    table = rng.normal(size=(200, count)).astype(np.float32) * 3
    table -= np.log(np.exp(table).sum(axis=1, keepdims=True))
    return lambda customers: table[customers]


@pytest.mark.parametrize("with_model", [False, True])
@pytest.mark.parametrize(
    "rules", [Rules(), Rules(skip_bought=True, per_category=3), Rules(skip_spent=True)]
)
def test_a_part_of_the_catalogue_lists_what_the_whole_does(
    shop, rules: Rules, with_model: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = likely(len(shop.items)) if with_model else None
    fitted = fit_recommender(shop, cutoff=shop.cutoff, rules=rules, model_scores=model)
    whole = recommend(fitted, shop, k=10).to_pylist()
    monkeypatch.setattr(room, "NARROW_FROM", 0)
    part = recommend(fitted, shop, k=10).to_pylist()
    assert len(part) == len(whole) > 1_000
    same = [one["item"] == other["item"] for one, other in zip(whole, part, strict=True)]
    assert np.mean(same) > 0.98
    told = {(one["customer"], one["item"]): one for one in whole}
    for one in part:
        other = told.get((one["customer"], one["item"]))
        if other is not None:              # whatever is listed by both is scored alike
            assert one["score"] == pytest.approx(other["score"], abs=1e-4)
            assert (one["reason"], one["evidence"]) == (other["reason"], other["evidence"])


def test_a_new_item_is_still_told_to_read_like_another(monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = never_ordered("i000001")
    fitted = fit_recommender(sequences, cutoff=sequences.cutoff)
    told = []
    for most in (10**9, 0):
        monkeypatch.setattr(room, "NARROW_FROM", most)
        rows = recommend(fitted, sequences, k=30).to_pylist()
        told.append(
            {(row["customer"], row["evidence"]) for row in rows if row["reason"] == "reads_like"}
        )
    assert told[0] == told[1] != set()


def test_a_list_does_not_depend_on_who_is_asked_with_whom(
    shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "NARROW_FROM", 0)
    fitted = fit_recommender(shop, cutoff=shop.cutoff, model_scores=likely(len(shop.items)))
    together = recommend(fitted, shop, k=50).to_pylist()
    alone = [
        row
        for one in range(0, 40)
        for row in recommend(fitted, shop, k=50, customers=np.array([one])).to_pylist()
    ]
    assert len(alone) == 40 * 50
    for told, other in zip(together, alone, strict=False):
        for name in ("customer", "rank", "item", "reason", "evidence"):
            assert told[name] == other[name]
