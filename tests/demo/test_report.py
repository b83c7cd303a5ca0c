"""The page stands alone, says what the figures say, and is looked at by machines here."""

import math
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from habitue.demo.figures import Comparison, Estimate, Figures, Ingest, NextOrder, Verdict
from habitue.demo.report import render
from habitue.demo.summary import summary_lines

GOLDEN = Path(__file__).parent.parent / "golden"
VOID = {"meta", "input", "br", "link", "img", "hr"}
INERT = {"style", "script"}
AS_OF = datetime(2011, 12, 9, 12, 50, tzinfo=UTC)
replace = msgspec.structs.replace


class Page(HTMLParser):
    """What a browser would see: nesting, names, links and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.tags: Counter[str] = Counter()
        self.text: list[str] = []
        self.prose: list[str] = []                     # the text outside drawings
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if data.strip() and not INERT.intersection(self.open):
            self.text.append(" ".join(data.split()))
            if "svg" not in self.open:
                self.prose.append(self.text[-1])

    def values(self, name: str) -> list[str]:
        return [value for attribute, value in self.attributes if attribute == name]


@pytest.fixture(scope="module")
def html(figures: Figures) -> str:
    return render(figures)


def small(figures: Figures) -> Figures:
    """A shop of three customers, with all that can be missing missing."""
    nothing = Estimate(None)
    return replace(
        figures, shop="corner", weekly_orders=(), weekly_revenue=(), reliability=(), lift=(),
        comparison=(), verdicts=(), timings=(), protocol=(), attribution="", audiences=None,
        ingest=Ingest(rows=3, appended=3, duplicate=0, rejected=0, events=0, orders=0, refunds=0,
                      customers=3, items=0, anonymous_share=None, first=None, last=None),
        holdout=replace(figures.holdout, customers=3, orderers=nothing, orderers_actual=0,
                        orders=nothing, orders_actual=0, revenue=nothing, revenue_actual=0),
        outlook=replace(figures.outlook, customers=3, orderers=nothing, orders=nothing,
                        revenue=nothing, deciles=(), slipping=(), slipping_customers=0,
                        value_at_risk=0.0, slipping_rule=""),
    )


def test_every_element_is_closed_where_it_was_opened(html: str):
    page = Page(html)
    assert page.faults == []
    assert page.open == []


def test_names_are_unique_and_every_link_and_label_finds_its_own(html: str):
    page = Page(html)
    names = page.values("id")
    assert len(names) == len(set(names))
    links = [link.removeprefix("#") for link in page.values("href")]
    labels = [name for value in page.values("aria-labelledby") for name in value.split()]
    assert set(links) | set(labels) <= set(names)
    assert links
    assert labels


def test_the_page_asks_the_network_for_nothing(html: str):
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<link|<img|<iframe| src=", html)


def test_the_page_weighs_less_than_a_photograph(html: str, figures: Figures):
    assert len(figures.outlook.slipping) == 40
    assert len(html.encode()) < 1_500_000


def test_the_same_figures_give_the_same_page(html: str, figures: Figures):
    assert render(figures) == html


def test_the_sections_stand_in_the_order_that_a_reader_asks(html: str):
    order = ["slipping", "audiences", "weekly", "trust", "comparison", "ingested", "how"]
    assert re.findall(r'<section id="(\w+)">', html) == order


def test_text_of_a_shop_is_never_markup(figures: Figures):
    evil = '"><script>alert(1)</script>'
    first = figures.outlook.slipping[0]
    item = replace(first.recommendations[0], title=evil, item=evil, reason=evil)
    customer = replace(first, customer=evil, why=evil, recommendations=(item,))
    html = render(replace(
        figures, shop=evil, protocol=(evil,), attribution=evil,
        outlook=replace(figures.outlook, slipping=(customer,), slipping_rule=evil),
        ingest=replace(figures.ingest, reasons={evil: 6_187}),
        comparison=(Comparison(question=evil, metric=evil, method=evil, value=1.0),),
        verdicts=(Verdict(question=evil, metric=evil, verdict="loss", best_baseline=evil,
                          difference=1.0),),
    ))
    page = Page(html)
    assert page.tags["script"] == 1
    assert page.faults == []
    assert not any(name.startswith("on") for name, _ in page.attributes)


def test_losses_are_marked_as_plainly_as_wins(html: str, figures: Figures):
    counts = Counter(verdict.verdict for verdict in figures.verdicts)
    page = Page(html)
    assert page.text.count("▲ better") == counts["win"]
    assert page.text.count("= tie") == counts["tie"]
    assert page.text.count("▼ worse") == counts["loss"]
    assert "Where it is worse" in page.text
    assert f"▼ worse in {counts['loss']}" in page.text


def test_a_shop_that_loses_nowhere_has_no_paragraph_of_losses(figures: Figures):
    won = tuple(verdict for verdict in figures.verdicts if verdict.verdict == "win")
    assert "Where it is worse" not in render(replace(figures, verdicts=won))


def test_both_versions_are_named_with_what_they_saw(html: str):
    text = " ".join(Page(html).text)
    assert "By version demo-0001 , which saw nothing after 12 Jun 2011." in text
    assert "By version demo-0002 , which saw nothing after 9 Dec 2011." in text


def test_items_are_shown_by_title_and_by_code_where_they_have_none(figures: Figures):
    first = figures.outlook.slipping[0]
    titled = replace(first.recommendations[0], title="Tea cosy", item="T1")
    bare = replace(titled, title=None, item="T2")
    slipping = (replace(first, recommendations=(titled, bare)),)
    text = Page(render(replace(figures, outlook=replace(figures.outlook, slipping=slipping)))).text
    assert "Tea cosy" in text
    assert text.count("T2") == 2                       # as its name, and as its code


def test_rows_that_do_not_add_up_are_admitted(figures: Figures):
    short = replace(figures, ingest=replace(figures.ingest, appended=figures.ingest.appended - 2))
    assert "2 rows are not accounted for." in render(short)
    assert "Every row is accounted for." in render(figures)


def test_a_shop_of_three_customers_and_no_orders_has_a_page(figures: Figures):
    page = Page(render(small(figures)))
    assert page.faults == []
    text = " ".join(page.text)
    assert "Nobody who used to order has gone quiet." in text
    assert "No row was rejected." in text
    assert "No measure could be computed on this data." in text
    assert not re.search(r"\b(nan|None|inf)\b", text)


def test_what_could_not_be_computed_is_a_dash(figures: Figures):
    rows = tuple(replace(row, value=math.nan, low=math.nan) for row in figures.comparison)
    first = figures.outlook.slipping[0]
    lost = Estimate(math.nan, math.nan, math.nan)
    unknown = replace(first, past_value=math.nan, expected_value=lost, probability=lost, churn=None,
                      usual_gap_days=None, timeline=())
    html = render(replace(
        figures, comparison=rows,
        verdicts=tuple(replace(verdict, difference=math.nan) for verdict in figures.verdicts),
        outlook=replace(figures.outlook, slipping=(unknown,))))
    text = " ".join(Page(html).text)
    assert not re.search(r"\b(nan|None|inf)\b", text)
    assert "–" in text


def test_a_method_that_is_not_installed_leaves_no_hole(figures: Figures):
    rows = tuple(row for row in figures.comparison if row.method != "lightgbm")
    page = Page(render(replace(figures, comparison=rows)))
    assert page.faults == []
    assert "Pareto/NBD" in page.text


def test_money_follows_the_currency_of_the_shop(figures: Figures):
    text = " ".join(Page(render(replace(figures, currency="EUR"))).text)
    assert "€" in text
    assert "£" not in text


def test_the_terminal_needs_neither_colour_nor_width(figures: Figures):
    many = replace(figures, verdicts=tuple(
        replace(verdict, verdict="loss") for verdict in figures.verdicts))
    for shown in (figures, small(figures), many):
        lines = summary_lines(shown)
        assert 0 < len(lines) <= 15
        assert all(line.isprintable() for line in lines)
    assert "  and 10 more, in the report" in summary_lines(many)


def test_an_overconfident_forecast_is_called_so(figures: Figures):
    ours = replace(figures.reliability[0], ece=0.08)
    text = " ".join(summary_lines(replace(figures, reliability=(ours,))))
    assert "ours lies outside" in text
    assert "cannot be told from perfect" in " ".join(summary_lines(figures))


def test_the_summary_and_the_words_of_a_small_page_read_as_agreed(figures: Figures, tmp_path: Path):
    first = figures.outlook.slipping[0]
    customer = replace(
        first, customer="12346", past_value=8_192.4, orders=11,
        probability=Estimate(0.78, 0.67, 0.9),
        expected_value=Estimate(2_098.0, 0.0, 7_134.0), value_at_risk=4_056.0, timeline=(),
        why="no order for 46 days; usually every 30", recommendations=first.recommendations[:0],
        next_order=NextOrder(p10=AS_OF, p50=AS_OF + timedelta(days=30), p90=None))
    shown = replace(
        small(figures), verdicts=figures.verdicts[:1], comparison=figures.comparison[:5],
        outlook=replace(figures.outlook, slipping=(customer,), slipping_customers=1, deciles=()))
    actual = "\n".join([*summary_lines(shown), "", *Page(render(shown)).prose, ""])
    written = tmp_path / "demo_report.txt"
    written.write_text(actual, encoding="utf-8")
    agreed = (GOLDEN / "demo_report.txt").read_text(encoding="utf-8")
    assert actual == agreed, f"if this is meant, copy {written} over {GOLDEN / 'demo_report.txt'}"


def test_ready_audiences_are_told_beside_all_others_and_their_matches(figures, html):
    page = Page(html)
    told = " ".join(page.text)
    assert "3 ready audiences, and what their members did next" in told
    assert "+9.4 +2.8 to +16.1" in told
    assert "– too few" in told               # one match makes no interval
    assert "This is no experiment." in told
    assert "size-0-t size-0-d" in page.values("aria-labelledby")
    assert "replenishment-due ordered most: 100% of its 10 members" in " ".join(
        summary_lines(figures)
    )
    assert "ready audiences" not in render(replace(figures, audiences=None))
