"""What the scorer and the server tell each other: structures that need no model to be read."""

from pathlib import Path

import msgspec

from habitue.predictions.scores.kept import Whole
from habitue.recommendations.shelf.listed import Listed

SCORING_FILE = "scoring.json"


Similar = list[tuple[str, float]]          # items bought by who buys an item, the likest first


class WholeShop(msgspec.Struct, frozen=True):
    """What is of a whole shop: of its scores, and what to show to whom nothing is known of."""

    whole: Whole
    popular: list[Listed]


class ShopTold(msgspec.Struct, frozen=True, kw_only=True):
    """How far the scoring of a shop is."""

    version: str
    cutoff: int                            # µs at which it was scored as a whole
    waiting: int                           # keys of which no score knows all
    since: int | None                      # µs at which the first of that was received
    seconds: float                         # that scoring the whole shop took


class ScoringTold(msgspec.Struct, frozen=True, kw_only=True):
    """How far the scoring is."""

    time: float                            # seconds since 1970, when this was written
    scored: int                            # customers scored again since it started
    shops: dict[str, ShopTold]
    not_yet: dict[str, str]                # shops that could not be scored, and why


def read_told(path: Path) -> ScoringTold | None:
    """What the scorer last wrote down; none: it never ran here."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ScoringTold)
    except (FileNotFoundError, msgspec.DecodeError, msgspec.ValidationError):
        return None
