"""The audiences of a shop: those that have a name, and what came after one.

Names are kept in the lake's table `audiences`. Saving under a name that is taken changes what it
means from then on; removing is a row too, so that what it meant at an earlier time can still be
told.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from habitue import lm
from habitue.audiences import lookalike
from habitue.audiences.aftermath.figures import Aftermath, aftermath, setting
from habitue.audiences.aftermath.happened import last_event, window
from habitue.audiences.aftermath.likeness import Likeness, groups
from habitue.audiences.changes import reading
from habitue.audiences.changes.delivering import PLACES_FILE, Delivery, sink_of
from habitue.audiences.compile import asked
from habitue.audiences.language.limits import refuse_text
from habitue.audiences.language.nodes import Compared, Consent, Member, Similar, every
from habitue.audiences.language.writing import written
from habitue.audiences.live.alike.places import count_places, refused
from habitue.audiences.live.evaluate import prepared
from habitue.audiences.live.scored.recorded import Opens, Recorded
from habitue.audiences.members import (
    AsOf,
    Audience,
    Said,
    expanded,
    find,
    find_all,
    saved_in,
    understood,
)
from habitue.audiences.suggest import Suggestion, hint, suggest, vocabulary
from habitue.audiences.templates import held_by, listed
from habitue.audiences.unheard import unheard
from habitue.config import load_settings
from habitue.errors import BadAudience, BadSetting, NoSuchAudience
from habitue.lake.live.bell import DEFINE_BELL, ring
from habitue.lake.query import read
from habitue.lake.schema import AUDIENCES
from habitue.lake.tables import Lake
from habitue.lm import Chat, endpoint

# one row per audience, by name
LISTED = "SELECT name, condition, since FROM audiences ORDER BY name"

_NAME = "the name of an audience"
NO_MODEL = (
    "no language model is configured: lm_url and lm_model in habitue.toml, or HABITUE_LM_URL and"
    " HABITUE_LM_MODEL in the environment, name one (OpenAI-compatible)"
)

# a cutoff and horizons -> what would have been predicted then, in the columns of `predictions`
Recall: TypeAlias = Callable[[datetime, Collection[float]], pa.Table]


@dataclass(frozen=True, slots=True)
class Saved:
    """The audiences of one shop."""

    lake: Lake
    shop: str
    clock: Callable[[], datetime]
    recall: Recall | None = None
    live: Path | None = None               # the file of the live state
    opens: Opens | None = None             # how scores that it keeps are read

    def table(self, *, known_at: datetime | None = None) -> pa.Table:
        """One row per audience: name, condition, since."""
        return read(self.lake, LISTED, shop=self.shop, known_at=known_at)

    def sentences(self) -> dict[str, str]:
        """What each name means."""
        if self.shop not in self.lake.shops():
            return {}
        held = saved_in(self.lake).get(self.shop, {})
        return {name: condition for name, (condition, _) in sorted(held.items())}

    def save(self, name: str, said: Said) -> str:
        """Give a condition a name, from now on; returns the condition as it was understood.

        Raises:
            BadAudience: the condition cannot be read, or would name itself.
            NoSuchAudience: it names an audience that is not there.
        """
        told = written(understood(said))
        expanded(Member(name), {**self.sentences(), name: told})
        self._append(name, told)
        return told

    def not_live(self, name: str) -> str:
        """Why a named audience cannot be kept live, and what to do; an empty text: it can.

        Raises:
            NoSuchAudience: there is none of that name.
        """
        condition = expanded(Member(name), self.sentences())
        try:
            prepared(condition)
        except BadAudience as error:
            return str(error)
        if any(isinstance(one, Similar) for one in every(condition)):
            return refused(count_places(self.lake, self.shop, self.clock()))
        return ""

    def remove(self, name: str) -> None:
        """Take a name back, from now on; audiences that name it can no longer be asked for.

        Raises:
            NoSuchAudience: there is none of that name.
        """
        if name not in (known := self.sentences()):
            raise NoSuchAudience(name, known)
        self._append(name, None)

    def find(self, said: Said, as_of: AsOf) -> Audience:
        """Who meets a condition, by the scores that answered then, else by published predictions.

        Raises:
            BadAudience, NoSuchAudience: the condition cannot be read or answered.
        """
        return find(self.lake, self.shop, said, as_of, self.sentences(), self._recorded())

    def unheard(self, said: Said, as_of: AsOf) -> list[str]:
        """What a condition names that nobody was told of: why it may have found nobody."""
        whole = expanded(understood(said), self.sentences())
        return unheard(self.lake, self.shop, whole, as_of)

    def then(
        self,
        said: Said,
        *,
        cutoff: datetime | None = None,
        days: int = 30,
        known_at: datetime | None = None,
        recompute: bool = False,
    ) -> Aftermath:
        """Who met a condition at a cutoff, and what they did in the days after it.

        Beside the same of everyone outside, and of a matched comparison. Who is told by what was
        known at the cutoff; without one it is the last whose days are over. Predictions are those
        that were recorded by then, or with `recompute` those of the newest version that has seen
        nothing after it.

        Raises:
            BadAudience, NoSuchAudience: the condition cannot be read or answered.
            NotEnoughHistory: the days after the cutoff are not over.
            SawTheFuture: it is to be recomputed, and every version has seen further.
        """
        ahead = window(self.lake, self.shop, cutoff, days)
        as_of = AsOf(ahead.cutoff, known_at or ahead.cutoff)
        if as_of.known_at is not None and as_of.known_at > as_of.cutoff:
            raise BadSetting(
                "who is in it is told by what was known at the cutoff: known at a later instant"
                " they would be chosen with hindsight\nhint: leave --known-at out"
            )
        named = self.sentences()
        wanted = {float(horizon) for _, horizon in asked(expanded(understood(said), named))}
        made = None
        if recompute:
            assert self.recall is not None, "a shop of a workspace can recompute"
            made = self.recall(as_of.cutoff, wanted | {float(days)})
        instead = self._recorded() if made is None else made
        audience = find(self.lake, self.shop, said, as_of, named, instead)
        return aftermath(audience, setting(self.lake, self.shop, ahead, as_of, made))

    def lookalike(
        self,
        said: Said,
        *,
        cutoff: datetime,
        size: int = 500,
        without: Said | None = None,
        channel: str | None = None,
        known_at: datetime | None = None,
    ) -> pa.Table:
        """The customers nearest to those of a condition: customer, similarity, version.

        Nobody is among them who meets the condition itself or `without`; of a `channel` only who
        has subscribed to it.

        Raises:
            BadAudience, NoSuchAudience: a condition cannot be read or answered, nobody of the seed
                has an embedding, or no embeddings were kept by then.
        """
        _refuse_none(size)
        wanted: list[Said] = [said]
        wanted += [] if without is None else [without]
        wanted += [] if channel is None else [Compared(Consent(channel), "=", "subscribed")]
        as_of = AsOf(cutoff, known_at)
        found = find_all(
            self.lake, self.shop, wanted, as_of, self.sentences(), self._recorded()
        )
        held = lookalike.space(self.lake, self.shop, cutoff=cutoff, known_at=known_at)
        if held is None:
            raise BadAudience(lookalike.NOTHING_KEPT)
        seed, *others = [one.members["customer"].to_pylist() for one in found]
        return lookalike.table(
            held,
            seed,
            size,
            excluded=() if without is None else others[0],
            allowed=None if channel is None else others[-1],
        )

    def likeness(
        self,
        said: Said,
        *,
        cutoff: datetime | None = None,
        days: int = 30,
        size: int = 500,
    ) -> Likeness:
        """What those most like the customers of a condition did in the days after a cutoff.

        Beside these, as many neighbours by recency, frequency and value, and everyone else; without
        a cutoff it is the last whose days are over.

        Raises:
            BadAudience, NoSuchAudience: the condition cannot be read or answered, nobody of the
                seed has an embedding, or no embeddings were kept by then.
            NotEnoughHistory: the days after the cutoff are not over.
        """
        _refuse_none(size)
        ahead = window(self.lake, self.shop, cutoff, days)
        as_of = AsOf(ahead.cutoff, ahead.cutoff)
        seed = self.find(said, as_of)
        held = lookalike.space(self.lake, self.shop, cutoff=ahead.cutoff)
        if held is None:
            raise BadAudience(lookalike.NOTHING_KEPT)
        who = seed.members["customer"].combine_chunks()
        alike = lookalike.table(held, who.to_pylist(), size)["customer"].combine_chunks()
        after = setting(self.lake, self.shop, ahead, as_of)
        return Likeness(
            shop=self.shop,
            condition=seed.sentence,
            cutoff=ahead.cutoff,
            days=days,
            until=ahead.end,
            currency=after.done.currency,
            version=held.version,
            groups=groups(after, held.customers, who, alike),
        )

    def templates(self) -> pa.Table:
        """Ready conditions, one row each: whether the shop has what it needs, or what it lacks."""
        return listed(held_by(self.lake, self.shop))

    def members(self, name: str) -> pa.Table:
        """Who is in an audience now, and since when: customer, joined_at.

        Raises:
            NoSuchAudience: there is none of that name.
            NotFollowed: no live state follows it.
        """
        refuse_text(_NAME, name)
        try:
            return reading.members(self._live(), self.shop, name)
        except reading.NotFollowed:
            self._refuse_unknown(name)
            raise

    def changes(self, name: str | None = None, *, after: int = 0) -> pa.Table:
        """Who entered and left, of one audience or of all, after a sequence number.

        Raises:
            NoSuchAudience: there is none of that name, and nobody was ever in one.
            NotFollowed: there is no live state yet.
        """
        if name is not None:
            refuse_text(_NAME, name)
        found = reading.changes(self._live(), self.shop, audience=name, after=after)
        if name is not None and not len(found):
            self._refuse_strange(name)
        return found

    def followed(self) -> pa.Table:
        """The audiences that are followed: name, members, since, applied, problem.

        Raises:
            NotFollowed: there is no live state yet.
        """
        return reading.followed(self._live(), self.shop)

    def delivery(
        self, target: str, *, secret: bytes | None = None, audience: str | None = None
    ) -> Delivery:
        """What tells changes to a file, a topic, or an address by a secret: `step` tells some more.

        Raises:
            NotFollowed: there is no live state yet.
            NoSuchAudience: there is none of that name, and nobody was ever in one.
            BadSetting: the address cannot be called.
        """
        live = self._live()
        if audience is not None:
            self._refuse_strange(audience)
        sink, named = sink_of(target, secret)
        named = f"{named} {audience or ''}".strip()
        return Delivery(
            live, live.with_name(PLACES_FILE), self.shop, named, sink, audience=audience
        )

    def _recorded(self) -> Recorded | None:
        """The scores that the live state keeps, where there is one."""
        if self.live is None or self.opens is None:
            return None
        return Recorded(self.live, self.opens)

    def _refuse_strange(self, name: str) -> None:
        """Raise where a name is that of no audience, now or before."""
        refuse_text(_NAME, name)
        if not len(reading.changes(self._live(), self.shop, audience=name, most=1)):
            self._refuse_unknown(name)

    def _refuse_unknown(self, name: str) -> None:
        if name not in (known := self.sentences()):
            raise NoSuchAudience(name, known) from None

    def _live(self) -> Path:
        if self.live is None:
            raise reading.NotFollowed
        return self.live

    def suggest(
        self,
        sentence: str,
        *,
        chat: Chat | None = None,
        cutoff: datetime | None = None,
        known_at: datetime | None = None,
    ) -> Suggestion:
        """The condition that a language model gives for somebody's words, and who meets it.

        Nothing is saved. Without a `chat` it is the model of the settings (`lm_url`, `lm_model`).

        Raises:
            BadSetting: there is none; the message names the nearest ready conditions.
            NoSuggestion: it gives no condition that can be read.
            NoAnswer: its server does not answer.
        """
        if chat is None:
            found = endpoint(load_settings())
            if found is None:
                raise BadSetting(f"{NO_MODEL}{hint(sentence)}")
            chat = partial(lm.chat, found, pause=time.sleep)
        named = self.sentences()
        as_of = AsOf(cutoff or last_event(self.lake, self.shop), known_at)
        told = vocabulary(self.lake, self.shop, list(named), as_of.cutoff)
        return suggest(sentence, chat, told, lambda said: self.find(said, as_of))

    def _append(self, name: str, condition: str | None) -> None:
        row = {
            "shop": self.shop,
            "name": name,
            "condition": condition,
            "received": self.clock(),
        }
        schema = pa.schema([one for one in AUDIENCES if one.name != "bucket"])
        self.lake.append({"audiences": pa.Table.from_pylist([row], schema=schema)})
        if self.live is not None:
            ring(self.live.with_name(DEFINE_BELL))


def _refuse_none(size: int) -> None:
    if size < 1:
        raise BadSetting(f"{size} customers are none\nhint: --size 500")
