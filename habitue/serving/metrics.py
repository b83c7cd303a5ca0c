"""Counters and histograms of the service, and their text for Prometheus.

Labels are shops' names, reasons and doors, never what a shop sent.
"""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from habitue.events import Rejection

# upper bounds in seconds; the last bucket has none
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(slots=True)
class Histogram:
    """How often a duration fell between two bounds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(_BOUNDS) + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(_BOUNDS, seconds)] += 1
        self.seconds += seconds

    def lines(self, name: str) -> Iterator[str]:
        """The histogram as Prometheus reads it."""
        total = 0
        for bound, count in zip([*map(str, _BOUNDS), "+Inf"], self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self.seconds:.6f}"
        yield f"{name}_count {total}"


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What one process counted, as it is written down for others."""

    pid: int
    accepted: dict[str, int] = {}                    # by shop
    rejected: dict[str, dict[str, int]] = {}         # by shop and reason
    answers: dict[int, int] = {}                     # by status
    durations: dict[str, tuple[list[int], float]] = {}
    flush_failures: int = 0
    waiting_bytes: int = 0


class Metrics:
    """What the service counted since it began. Threads may share it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self.accepted: Counter[str] = Counter()                  # by shop
        self.rejected: Counter[tuple[str, str]] = Counter()      # by shop and reason
        self.answers: Counter[int] = Counter()                   # by status
        self.flush, self.ack, self.read = Histogram(), Histogram(), Histogram()
        self.flush_failures = 0

    def took(self, shop: str, accepted: int, rejections: Iterable[Rejection]) -> None:
        """Count what one request brought."""
        with self._guard:
            self.accepted[shop] += accepted
            for one in rejections:
                self.rejected[shop, one.reason] += 1

    @property
    def inputs(self) -> int:
        """How many inputs came, accepted and rejected."""
        with self._guard:
            return self.accepted.total() + self.rejected.total()

    def reasons(self) -> dict[str, dict[str, int]]:
        """Rejected inputs by shop and reason."""
        with self._guard:
            return _by_shop(self.rejected)

    def answered(self, status: int, seconds: float, *, is_read: bool) -> None:
        """Count one answer, to who reads or who sends, and how long it took from the first byte."""
        with self._guard:
            self.answers[status] += 1
            (self.read if is_read else self.ack).add(seconds)

    def flushed(self, seconds: float) -> None:
        """Count one flush."""
        with self._guard:
            self.flush.add(seconds)

    def flush_failed(self) -> None:
        """Count a flush that the storage refused."""
        with self._guard:
            self.flush_failures += 1

    def told(self, pid: int, waiting_bytes: int) -> Counted:
        """All of it, to be written down."""
        with self._guard:
            durations = {
                name: (list(one.counts), one.seconds) for name, one in self._durations().items()
            }
            return Counted(
                pid=pid, accepted=dict(self.accepted), answers=dict(self.answers),
                rejected=_by_shop(self.rejected), durations=durations,
                flush_failures=self.flush_failures, waiting_bytes=waiting_bytes,
            )  # fmt: skip

    def add(self, told: Counted) -> None:
        """Count what another process has counted."""
        with self._guard:
            self.accepted.update(told.accepted)
            self.answers.update(told.answers)
            self.flush_failures += told.flush_failures
            for shop, reasons in told.rejected.items():
                for reason, count in reasons.items():
                    self.rejected[shop, reason] += count
            for name, one in self._durations().items():
                counts, seconds = told.durations.get(name, ([], 0.0))
                for place, count in enumerate(counts[: len(one.counts)]):
                    one.counts[place] += count
                one.seconds += seconds

    def text(
        self,
        gauges: Mapping[str, float],
        settled: Mapping[str, int],
        versions: Mapping[str, str],
    ) -> str:
        """All of it for Prometheus; `settled` counts what the worker appended, and repeats.

        `versions` says which model answers for a shop.
        """
        with self._guard:
            lines = [*self._counters(settled), *_gauges(gauges), *_versions(versions)]
            for name, histogram in self._durations().items():
                lines.append(f"# TYPE habitue_{name}_seconds histogram")
                lines += histogram.lines(f"habitue_{name}_seconds")
        return "\n".join(lines) + "\n"

    def _durations(self) -> dict[str, Histogram]:
        return {"flush": self.flush, "ack": self.ack, "read": self.read}

    def _counters(self, settled: Mapping[str, int]) -> Iterator[str]:
        yield "# TYPE habitue_accepted_total counter"
        for shop, count in sorted(self.accepted.items()):
            yield f"habitue_accepted_total{{shop={_quoted(shop)}}} {count}"
        yield "# TYPE habitue_rejected_total counter"
        for (shop, reason), count in sorted(self.rejected.items()):
            labels = f"shop={_quoted(shop)},reason={_quoted(reason)}"
            yield f"habitue_rejected_total{{{labels}}} {count}"
        for name in ("appended", "duplicate"):
            yield f"# TYPE habitue_{name}_total counter"
            yield f"habitue_{name}_total {settled.get(name, 0)}"
        yield "# TYPE habitue_answers_total counter"
        for status, count in sorted(self.answers.items()):
            yield f'habitue_answers_total{{status="{status}"}} {count}'
        yield "# TYPE habitue_flush_failures_total counter"
        yield f"habitue_flush_failures_total {self.flush_failures}"


def _by_shop(rejected: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    told: dict[str, dict[str, int]] = {}
    for (shop, reason), count in rejected.items():
        told.setdefault(shop, {})[reason] = count
    return told


def _gauges(gauges: Mapping[str, float]) -> Iterator[str]:
    for name, value in gauges.items():
        yield f"# TYPE habitue_{name} gauge"
        yield f"habitue_{name} {value:g}"


def _versions(versions: Mapping[str, str]) -> Iterator[str]:
    yield "# TYPE habitue_model_info gauge"
    for shop, version in sorted(versions.items()):
        yield f"habitue_model_info{{shop={_quoted(shop)},version={_quoted(version)}}} 1"


def _quoted(label: str) -> str:
    escaped = label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
