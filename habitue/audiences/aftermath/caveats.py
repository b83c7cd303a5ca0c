"""What has to be said beside the figures of an audience and of what came after it."""

from habitue.audiences.aftermath.figures import CHANCE, COMPARED, Aftermath
from habitue.audiences.aftermath.matching import CALIPER, FEWEST, MOST

FAR_APART = 0.1                            # standard deviations that matched means may differ
MOSTLY = 0.5                               # of the members, for the matched to speak for all


def caveats(found: Aftermath) -> tuple[str, ...]:
    """Sentences, the gravest first."""
    return (*_selection(found), *_matching(found), *_knowledge(found))


def _selection(found: Aftermath) -> list[str]:
    told = [
        "This is no experiment: nobody was drawn by lot. What members did differently from those"
        " outside is what the condition selects, not what a message to them would do.",
        "It is one window of one calendar: other months may differ. Whoever tries many conditions"
        " on the same window and keeps the best will find it flattered.",
    ]
    if any(found.inside.messages.values()) or any(found.outside.messages.values()):
        told.append(
            "Messages were sent in these days, and not to everyone alike: what happened may be"
            " what they did."
        )
    return told


def _matching(found: Aftermath) -> list[str]:
    held = found.comparison
    if not held.members or not found.outside.customers:
        return ["With nobody on one side there is nothing to compare."]
    alone = held.members - held.with_match
    told = []
    if not held.with_match:
        return [
            f"None of the {held.members:,} members has a match: nobody outside is like them in"
            " what is compared. The condition itself decides it; there is no matched comparison."
        ]
    if alone:
        told.append(
            f"{alone:,} of {held.members:,} members found no match: nobody outside is like them."
            " The matched figures are of the others alone."
        )
    if held.with_match < MOSTLY * held.members:
        told.append(
            "The matched are a minority, those at the edge of the condition: their difference"
            " says little about the rest."
        )
    if held.with_match < FEWEST:
        told.append(f"Fewer than {FEWEST} members have a match: too few for an interval.")
    far = [one.name for one in held.balance if one.after and abs(one.after) > FAR_APART]
    if far:
        told.append(
            f"The matched still differ by more than {FAR_APART:g} standard deviations in"
            f" {', '.join(far)}."
        )
    names = COMPARED if found.chance is None else (*COMPARED, CHANCE)
    told.append(
        f"Matched on {', '.join(names)}, as known at the cutoff, within {CALIPER:g} standard"
        f" deviations of each, up to {MOST} each. What else sets members apart is not matched: the"
        " difference that is left shows what the condition tells beyond these, and no effect."
    )
    return told


def _knowledge(found: Aftermath) -> list[str]:
    told = [
        "Intervals are the 5th and 95th percentile, customers taken as independent.",
    ]
    if found.backfilled:
        told.append(
            f"{_share(found.backfilled)} of the events up to the cutoff were imported later and"
            " are taken as known when they happened."
        )
    if found.is_recomputed:
        told.append(
            "Predictions were made now, by a version that has seen nothing after the cutoff; its"
            " making was decided with hindsight."
        )
    if found.joined:
        told.append(
            f"{found.joined:,} keys of the cutoff have turned out since to be customers who were"
            " known by another: counted once, as members where one of them was."
        )
    if found.other_currency:
        told.append(
            f"{found.other_currency:,} orders are in another currency than {found.currency}:"
            " counted, but their amounts are in no figure."
        )
    return told


def _share(share: float) -> str:
    return "All" if share == 1 else f"{share:.0%}" if share >= 0.01 else "Less than 1%"
