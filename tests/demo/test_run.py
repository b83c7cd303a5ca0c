"""The demo itself, in its fast form, on the real shop that ships with the package."""

from datetime import UTC, datetime

from habitue.demo.run import OUTLOOK_DAYS, SHOP, run_demo
from habitue.workspace import open_workspace

NOW = datetime(2026, 1, 5, tzinfo=UTC)


def test_the_fast_demo_imports_judges_refits_scores_and_reports(tmp_path):
    figures, report = run_demo(tmp_path, fast=True, now=NOW)

    came = figures.ingest
    assert (came.rows, came.appended, came.duplicate, came.rejected) == (1_044_847, 1_044_847, 0, 0)
    assert came.customers == 5_942
    assert figures.holdout.horizon_days == 180
    assert abs(figures.holdout.orders.value / figures.holdout.orders_actual - 1) < 0.25
    methods = {row.method for row in figures.comparison if row.question == "order"}
    assert methods == {"habitue", "bg_nbd", "mbg_nbd", "pareto_nbd", "lightgbm"}
    items = {row.method for row in figures.comparison if row.question == "items"}
    assert items == {"habitue", "popular_90d", "top_frequency", "item_neighbours"}
    assert figures.versions.evaluated.id != figures.versions.final.id
    assert figures.outlook.slipping and all(one.recommendations for one in figures.outlook.slipping)
    ready = {one.name: one for one in figures.audiences.shown}
    assert len(ready) == 10 and all(one.sizes for one in ready.values())
    loyal, once = ready["repeat-buyers"], ready["one-time-buyers"]
    then = {size.at: size.customers for size in loyal.sizes}
    assert loyal.members == then[figures.audiences.cutoff] == 1_440
    assert loyal.ordered.inside > 2 * loyal.ordered.outside
    assert once.ordered.inside < once.ordered.outside
    assert len(ready["likely-to-buy"].sizes) == 2
    page = report.read_text(encoding="utf-8")
    assert figures.versions.evaluated.id in page and "Online Retail II" in page

    shop = open_workspace(tmp_path / "work").shop(SHOP)
    kept = shop.query("SELECT count(DISTINCT customer) AS n FROM predictions")["n"][0].as_py()
    assert kept == figures.outlook.customers and figures.outlook.horizon_days == OUTLOOK_DAYS
