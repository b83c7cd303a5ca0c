"""Which store a workspace's scores are in: as the setting `scores` says, else a file."""

from pathlib import Path

from habitue.config import load_settings
from habitue.errors import BadSetting
from habitue.lake.live.kept.interface import KeptScores
from habitue.lake.live.scored import SCORES_FILE, Scored

_SCHEMES = ("redis://", "rediss://", "unix://")


def held_scores(online: Path) -> KeptScores | None:
    """The scores of a workspace as `open_scores`; none: nothing was ever scored."""
    if load_settings().scores is None and not (online / SCORES_FILE).exists():
        return None
    return open_scores(online)


def open_scores(online: Path) -> KeptScores:
    """The scores of a workspace whose folder `online` this is; close them when done.

    Raises:
        BadSetting: the place is no address of Redis, or another workspace's.
        Busy: it cannot be reached.
    """
    place = load_settings().scores
    if place is None:
        return Scored(online / SCORES_FILE)
    if not place.startswith(_SCHEMES):
        raise BadSetting(
            f"scores cannot be kept at {place!r}\nhint: redis://host:6379/0, or leave it out"
        )
    from habitue.lake.live.kept.remote import RemoteScores

    return RemoteScores(place, online)
