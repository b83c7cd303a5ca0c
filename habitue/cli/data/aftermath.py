"""How the figures of an audience and of what came after it are shown."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from habitue.cli.output import Output, cell, print_grid, print_json, say, write

if TYPE_CHECKING:
    import pyarrow as pa

    from habitue.audiences.aftermath.figures import Aftermath, Group
    from habitue.audiences.aftermath.likeness import Likeness
    from habitue.audiences.aftermath.matching import Estimate

_GROUPS = {
    "seed": "the seed itself",
    "lookalikes": "nearest by embedding",
    "rfm_neighbours": "nearest by recency, frequency and value",
    "others": "everyone else",
}
_SHARES = ("ordered",)                     # measures that are shares of customers


class DaysAhead(click.ParamType):
    """A whole number of days, such as 30d or 30."""

    name = "DAYS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """The number that the text says."""
        found = re.fullmatch(r"(\d{1,4}) ?(?:d|days?)?", str(value))
        if found is None:
            self.fail(f"{value!r} is no number of days, such as 30d", param, ctx)
        return int(found[1])


def show(found: "Aftermath", output: Output) -> None:
    """Print the figures and what has to be said beside them; a file holds those per customer."""
    import msgspec

    from habitue.audiences.aftermath.caveats import caveats

    told = caveats(found)
    if output.out is not None:
        write(_rows(found), output.out)
        say(f"wrote {len(found.measures)} rows to {output.out}")
    if output.as_json:
        print_json(msgspec.to_builtins(found, builtin_types=()) | {"caveats": told})
    elif output.for_people:
        _print(found, told)
    for name, version in found.versions.items():
        say(f"{name}: {version}")


def show_likeness(found: "Likeness", output: Output) -> None:
    """Print what a seed, those most like it, its neighbours by ranks and everyone else did."""
    import msgspec

    if output.out is not None:
        write(_groups(found), output.out)
        say(f"wrote {len(found.groups)} rows to {output.out}")
    if output.as_json:
        print_json(msgspec.to_builtins(found, builtin_types=()))
    elif output.for_people:
        print_grid(
            ["", "customers", "ordered", "orders", f"revenue ({found.currency})"],
            [
                [_GROUPS[one.name], f"{one.customers:,}", _level("ordered", one.ordered),
                 _level("orders", one.orders), _level("revenue", one.revenue)]
                for one in found.groups
            ],
            numeric=range(1, 5),
            title=f"{found.condition} · as of {cell(found.cutoff)} UTC, and {found.days}"
            f" day{'s' * (found.days != 1)} after, per customer",
        )  # fmt: skip
        say(f"alike by {found.version}; intervals are the 5th and 95th percentile of the mean")


def _groups(found: "Likeness") -> "pa.Table":
    """One row per group."""
    import pyarrow as pa

    return pa.Table.from_pylist(
        [
            {"group": one.name, "customers": one.customers}
            | {
                f"{name}{ending}": None if told is None else getattr(told, field)
                for name, told in (
                    ("ordered", one.ordered), ("orders", one.orders), ("revenue", one.revenue)
                )
                for ending, field in (("", "value"), ("_low", "low"), ("_high", "high"))
            }
            for one in found.groups
        ]
    )  # fmt: skip


def _level(name: str, told: "Estimate | None") -> str:
    """A figure and its interval, where it has one."""
    if told is None:
        return ""
    value = _figure(name, told.value)
    if told.low is None or told.high is None:
        return value
    return f"{value} ({_figure(name, told.low)} to {_figure(name, told.high)})"


def _print(found: "Aftermath", told: Sequence[str]) -> None:
    print_grid(
        ["", "customers", "ordered", "orders", f"revenue ({found.currency})", "refunded",
         *(one.replace("_", " ") for one in found.inside.messages)],
        [_totals("in the audience", found.inside), _totals("outside", found.outside)],
        numeric=range(1, 20),
        title=f"{found.condition} · as of {cell(found.cutoff)} UTC, and {found.days}"
        f" day{'s' * (found.days != 1)} after",
    )  # fmt: skip
    print_grid(
        ["per customer", "in it", "outside", "difference", "with a match", "their matches",
         "difference"],
        [
            [
                one.name.replace("_", " "),
                *(_figure(one.name, value) for value in (one.inside, one.outside)),
                _estimate(one.name, one.difference),
                *(_figure(one.name, value) for value in (one.with_match, one.matches)),
                _estimate(one.name, one.matched_difference),
            ]
            for one in found.measures
        ],
        numeric=range(1, 7),
        title=f"{found.comparison.with_match:,} of {found.comparison.members:,} members have a"
        f" match; matches are {found.comparison.matches:,} customers outside",
    )  # fmt: skip
    for sentence in told:
        click.echo(f"- {sentence}")


def _rows(found: "Aftermath") -> "pa.Table":
    """One row per measure, each figure and both ends of each difference."""
    import pyarrow as pa

    def spread(name: str, estimate: "Estimate | None") -> dict[str, float | None]:
        ends = (None,) * 3 if estimate is None else (estimate.value, estimate.low, estimate.high)
        return dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))

    return pa.Table.from_pylist(
        [
            {
                "measure": one.name,
                "inside": one.inside,
                "outside": one.outside,
                **spread("difference", one.difference),
                "with_match": one.with_match,
                "matches": one.matches,
                **spread("matched_difference", one.matched_difference),
            }
            for one in found.measures
        ]
    )


def _totals(name: str, group: "Group") -> list[str]:
    return [
        name,
        f"{group.customers:,}",
        f"{group.orderers:,}",
        f"{group.orders:,}",
        f"{group.revenue:,}",
        f"{group.refunded:,}",
        *(f"{number:,}" for number in group.messages.values()),
    ]


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1%}" if name in _SHARES else f"{value:,.2f}"


def _estimate(name: str, found: "Estimate | None") -> str:
    if found is None:
        return "–"
    told = _signed(name, found.value)
    if found.low is None or found.high is None:
        return told
    return f"{told} ({_signed(name, found.low)} to {_signed(name, found.high)})"


def _signed(name: str, value: float) -> str:
    """A difference; of shares, in points of a hundred."""
    text = f"{100 * value:+.1f}" if name in _SHARES else f"{value:+,.2f}"
    return text.replace("-", "−")
