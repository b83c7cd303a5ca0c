"""`Rulebook`: the rules of one shop, kept in the workspace's directory, also those removed since.

So a list as of an earlier instant obeys the rules that were in force then.
"""

import secrets
from collections.abc import Callable

import msgspec

from habitue.directory import Directory, Job
from habitue.errors import BadSetting
from habitue.events import Instant
from habitue.recommendations.shelf.rules import Rule, checked, in_force

KIND = "rule"                              # of the jobs that hold them
MOST_RULES = 1_000                         # of a shop, in force or to come
_ON, _GONE = "on", "gone"


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that a shop has, under the id by which it is removed."""

    id: str
    created: Instant
    rule: Rule


class Rulebook:
    """Reads and changes the rules of one shop."""

    def __init__(self, directory: Directory, shop: str, clock: Callable[[], Instant]) -> None:
        self._directory, self._shop, self._clock = directory, shop, clock

    def all(self) -> list[Kept]:
        """The rules that were not removed, the oldest first."""
        return [_kept(job) for job in self._jobs() if job.status == _ON]

    def add(self, rule: Rule) -> Kept:
        """Let a rule be in force from its `since` on, or from now on.

        Raises:
            BadSetting: it means nothing, or the shop has too many.
        """
        told = checked(rule)
        if len(self.all()) >= MOST_RULES:
            raise BadSetting(f"a shop has at most {MOST_RULES:,} rules\nhint: remove some")
        self._directory.shop(self._shop, create=True)
        now = self._clock()
        job = Job(
            id=secrets.token_hex(6), shop=self._shop, kind=KIND, status=_ON, created=now,
            updated=now, detail=msgspec.to_builtins(told),
        )  # fmt: skip
        self._directory.put_job(job)
        return _kept(job)

    def remove(self, id: str) -> Kept:
        """Let a rule be in force no more.

        Raises:
            BadSetting: the shop has none of that id.
        """
        for job in self._jobs():
            if job.id == id and job.status == _ON:
                self._directory.put_job(
                    Job(
                        id=job.id, shop=job.shop, kind=KIND, status=_GONE, created=job.created,
                        updated=self._clock(), detail=job.detail,
                    )
                )  # fmt: skip
                return _kept(job)
        raise BadSetting(f"{self._shop!r} has no rule {id!r}\nhint: `habitue rules` lists them")

    def at(self, instant: Instant) -> list[Rule]:
        """The rules that are in force at an instant, the oldest first."""
        return in_force(self.lasting(), instant)

    def lasting(self) -> list[Rule]:
        """All rules that ever were, each with the time for which it is in force."""
        return [_lasting(job) for job in self._jobs()]

    def _jobs(self) -> list[Job]:
        return [job for job in self._directory.jobs(self._shop) if job.kind == KIND]


def _kept(job: Job) -> Kept:
    rule = msgspec.convert(job.detail, Rule)
    return Kept(id=job.id, created=job.created, rule=rule)


def _lasting(job: Job) -> Rule:
    """A rule whose times say when it was made and removed, where it names none."""
    rule = _kept(job).rule
    since = rule.since or job.created
    until = [one for one in (rule.until, job.updated if job.status == _GONE else None) if one]
    return msgspec.structs.replace(rule, since=since, until=min(until) if until else None)
