"""The report's sentences: the headline, the figures in plain words, the terminal's lines."""

from collections.abc import Sequence

from habitue.demo.charts import nearest
from habitue.demo.figures import (
    Audiences,
    Bin,
    Estimate,
    Figures,
    Holdout,
    Lift,
    Outlook,
    Reliability,
    Verdict,
)
from habitue.demo.words import (
    DASH,
    OURS,
    OUTCOMES,
    QUESTIONS,
    about,
    above_or_below,
    counted,
    day,
    known,
    measure,
    method_name,
    money,
    next_in_words,
    number,
    off_by,
    percent,
    signed,
    span,
)

MARKS = {"win": "▲ better", "tie": "= tie", "loss": "▼ worse"}
WHAT = "what happened"
_SHOWN_LOSSES = 3                        # in the terminal; the report shows all
_SHOWN_CUSTOMERS = 3


def headline(figures: Figures) -> str:
    """The one sentence on top of the page."""
    outlook = figures.outlook
    customers = counted(outlook.customers, "customer", "customers")
    if not known(outlook.orderers.value):
        return f"Too little has happened yet to say what {customers} will do."
    sentence = (f"Of {customers}, about {number(about(outlook.orderers.value))} will order in the "
                f"{number(outlook.horizon_days)} days after {day(outlook.as_of)} and spend about "
                f"{money(about(outlook.revenue.value), figures.currency)}")
    if not outlook.slipping_customers:
        return f"{sentence}; nobody who used to order is slipping away."
    who = counted(outlook.slipping_customers, "good one is", "good ones are")
    return (f"{sentence}; {who} slipping away, with "
            f"{money(about(outlook.value_at_risk), figures.currency)} at risk.")


def tested(holdout: Holdout) -> str:
    """The test of the headline's model, in one breath."""
    unseen = f"on {counted(round(holdout.horizon_days), 'day', 'days')} it had never seen"
    share = off_by(holdout.orders.value, holdout.orders_actual)
    if share is None:
        return f"What it would have said {unseen} cannot be compared with what happened."
    return f"Tested {unseen}, the forecast of all orders was {above_or_below(share, WHAT)}."


def held_out(holdout: Holdout, currency: str) -> str:
    """How the totals forecast at the cutoff compare with what happened."""
    asked = (f"Asked on {day(holdout.cutoff)} about the "
             f"{counted(round(holdout.horizon_days), 'day', 'days')} to come")
    if not known(holdout.orders.value):
        return f"{asked}, it had seen too little to answer."
    return (f"{asked}, it forecast {number(holdout.orders.value)} orders; "
            f"{number(holdout.orders_actual)} came{_miss(holdout.orders, holdout.orders_actual)}. "
            f"It forecast {money(holdout.revenue.value, currency)} of revenue; "
            f"{money(holdout.revenue_actual, currency)} came"
            f"{_miss(holdout.revenue, holdout.revenue_actual)}.")


def _miss(forecast: Estimate, actual: float) -> str:
    share = off_by(forecast.value, actual)
    return "" if share is None else f", so it was {above_or_below(share, WHAT)}"


def standing(verdicts: Sequence[Verdict]) -> str:
    """Wins, ties and losses against the best alternative, counted."""
    if not verdicts:
        return "There is nothing to compare with: no baseline could be measured on this data."
    won, tied, lost = (sum(verdict.verdict == outcome for verdict in verdicts)
                       for outcome in ("win", "tie", "loss"))
    return (f"Beside the best alternative in each measure: better in {won} of {len(verdicts)}, "
            f"tied in {tied}, worse in {lost}.")


def loss(verdict: Verdict, currency: str) -> str:
    """One measure that was lost, in words."""
    question, metric = verdict.question, verdict.metric
    difference = signed(verdict.difference, question, metric, currency)
    return (f"{QUESTIONS.get(question, (question, ''))[0]} {measure(metric).label}: {difference} "
            f"against {method_name(verdict.best_baseline)}")


def ours(curves: Sequence[Reliability]) -> Reliability | None:
    """Our reliability curve among those given."""
    return next((curve for curve in curves if curve.method == OURS), None)


def reliability_words(curve: Reliability | None) -> str:
    """One group of customers, in natural frequencies."""
    if curve is None or not curve.bins:
        return "There were too few customers to group by probability."
    group = telling_bin(curve.bins)
    return (f"Of 100 customers we gave about {percent(group.predicted)}, "
            f"{number(100 * group.observed)} ordered.")


def telling_bin(bins: Sequence[Bin]) -> Bin:
    """The group nearest to 70%: far enough from both ends to say something."""
    return min(bins, key=lambda group: abs(group.predicted - 0.7))


def calibration_words(curve: Reliability | None) -> str:
    """The calibration error beside what chance alone would leave."""
    if curve is None or not known(curve.ece):
        return "The calibration error could not be measured."
    error = f"The calibration error (ECE) is {number(curve.ece, 3)}."
    if not known(curve.perfect_p95):
        return error
    chance = (f"A perfect forecast of the same probabilities would show "
              f"{number(curve.perfect_mean, 3)} on average and up to "
              f"{number(curve.perfect_p95, 3)} by chance")
    if curve.ece <= curve.perfect_p95:
        return f"{error} {chance}: ours lies inside, and cannot be told from perfect."
    return f"{error} {chance}: ours lies outside, so some of it is real."


def points(difference: Estimate | None) -> tuple[str, str]:
    """A difference of shares in points of a hundred, and its interval; none without one."""
    if difference is None or not (known(difference.low) and known(difference.high)):
        return DASH, "too few"
    low, high = _point(difference.low), _point(difference.high)
    return _point(difference.value or 0.0), f"{low} to {high}"


def _point(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def ready_words(held: Audiences) -> str:
    """What the audience did whose members ordered most."""
    told = [one for one in held.shown if known(one.ordered.inside) and one.members]
    if not told:
        return "None of the ready audiences had anybody in it."
    best = max(told, key=lambda one: one.ordered.inside or 0.0)
    return (f"Of {len(held.shown)} ready audiences as of {day(held.cutoff)}, {best.name} ordered "
            f"most: {percent(best.ordered.inside)} of its "
            f"{counted(best.members, 'member', 'members')} within "
            f"{counted(held.days, 'day', 'days')}, against {percent(best.ordered.outside)} of all "
            "others.")


def lift_words(curves: Sequence[Lift], share: float = 0.2) -> str:
    """What contacting the best customers would have reached."""
    reached = [f"{percent(nearest(curve, share).captured)} of {OUTCOMES[curve.outcome]}"
               for curve in curves if curve.method == OURS and curve.points]
    if not reached:
        return "Too little was ordered after the cutoff to draw a lift curve."
    return f"Contact the best {percent(share)} and you reach {' and '.join(reached)}."


def summary_lines(figures: Figures) -> list[str]:
    """What the terminal shows: at most 15 lines of plain text."""
    ingest, holdout, outlook = figures.ingest, figures.holdout, figures.outlook
    losses = [verdict for verdict in figures.verdicts if verdict.verdict == "loss"]
    hidden = len(losses) - _SHOWN_LOSSES
    lines = [
        f"{figures.shop}: {counted(ingest.rows, 'row', 'rows')} read "
        f"({number(ingest.appended)} appended, "
        f"{number(ingest.duplicate)} duplicate, {number(ingest.rejected)} rejected); "
        f"{number(ingest.customers)} customers, {number(ingest.orders)} orders, "
        f"{number(ingest.items)} items",
        headline(figures),
        held_out(holdout, figures.currency),
        calibration_words(ours(figures.reliability)),
        standing(figures.verdicts),
        *(f"  worse  {loss(verdict, figures.currency)}" for verdict in losses[:_SHOWN_LOSSES]),
        *([f"  and {hidden} more, in the report"] if hidden > 0 else []),
        *([ready_words(figures.audiences)] if figures.audiences else []),
    ]
    if outlook.slipping:
        lines += ["Slipping away, most at risk first:", *_customer_lines(outlook, figures.currency)]
    lines.append(f"Judged: {figures.versions.evaluated.id}, trained to "
                 f"{day(figures.versions.evaluated.cutoff)}. Scored everyone: "
                 f"{figures.versions.final.id}, trained to {day(figures.versions.final.cutoff)}.")
    return lines


def _customer_lines(outlook: Outlook, currency: str) -> list[str]:
    lines = []
    for customer in outlook.slipping[:_SHOWN_CUSTOMERS]:
        likely = span(customer.probability, percent)
        likely = f" ({likely})" if likely else ""
        lines.append(f"  {customer.customer}: {money(customer.past_value, currency)} so far, "
                     f"{percent(customer.probability.value)}{likely} to order, "
                     f"next {next_in_words(customer.next_order)}; {customer.why}")
    return lines
