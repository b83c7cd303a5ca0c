"""What is known of a customer at an instant, as numbers: recency, frequency, value, counts.

Every column at (customer, t) is a function of that customer's events up to and including t, and of
nothing else, so a query can be asked at any instant without looking ahead.
"""

# C customers · E events · Q queries · A aggregates
import numpy as np

from habitue.sequences.build import DAY, Sequences

WINDOW_DAYS = (7, 30, 60, 90, 180, 365)
_MINUTE = 60_000_000                       # µs
_MOST = 2.0**62                            # of one number that is summed
LONG_AGO_DAYS = 3_650.0                    # stands for "never" in a recency
AGGREGATE_NAMES = (
    "days_since_order",
    "days_since_event",
    "days_since_first_order",
    "days_since_first_event",
    "orders",
    "order_days",
    "events",
    "value",
    "mean_value",
    "last_value",
    "value_deviation",
    "mean_gap_days",
    "gap_deviation_days",
    "last_gap_days",
    "recency_over_gap",
    "refunds",
    "refunded_value",
    "lines_per_order",
    *(f"orders_{days}d" for days in WINDOW_DAYS),
    *(f"value_{days}d" for days in WINDOW_DAYS),
    *(f"other_events_{days}d" for days in WINDOW_DAYS),
)


def past_end(sequences: Sequences, customer: np.ndarray, time: np.ndarray) -> np.ndarray:
    """(Q,) row after the last event of each customer (Q,) at or before each instant (Q,) µs."""
    return rows_upto(sequences.offsets, sequences.time, customer, time)


def rows_upto(
    offsets: np.ndarray, times: np.ndarray, owner: np.ndarray, time: np.ndarray
) -> np.ndarray:
    """(Q,) row after the last one of each owner (Q,) whose time is at or before `time` (Q,).

    Owner i's rows are offsets[i]:offsets[i + 1], in time order. Halving each owner's own rows needs
    nothing beside them, however many owners there are.
    """
    low, high = offsets[owner], offsets[owner + 1]
    for _ in range(int((high - low).max(initial=0)).bit_length()):
        middle = (low + high) // 2
        searching = low < high
        # a search that is over may stand behind the last row
        past = searching & (times[np.where(searching, middle, 0)] <= time)
        low, high = np.where(past, middle + 1, low), np.where(past, high, middle)
    return low


def distinct(values: np.ndarray) -> np.ndarray:
    """The distinct values, ascending; by sorting, which for times is far faster than hashing."""
    ordered = np.sort(values)
    fresh = np.ones(len(ordered), dtype=bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    return ordered[fresh]


def aggregates(sequences: Sequences, customer: np.ndarray, time: np.ndarray) -> np.ndarray:
    """(Q, A) float32: the columns of AGGREGATE_NAMES for each customer (Q,) at `time` (Q,) µs.

    Customers are indices, days are of 24 hours, values in major units. Recencies of what never
    happened are LONG_AGO_DAYS; means and deviations of nothing are 0.
    """
    return aggregates_of(Running(sequences), customer, time)


def aggregates_of(running: "Running", customer: np.ndarray, time: np.ndarray) -> np.ndarray:
    """The same from sums that were made before, for whoever asks a shop more than once."""
    sequences = running.sequences
    start = sequences.offsets[customer]
    end = past_end(sequences, customer, time)
    windows = [past_end(sequences, customer, time - days * DAY) for days in WINDOW_DAYS]
    orders = running.between("orders", start, end)
    value = running.value(start, end)
    since_order = running.days_since("order", start, end, time)
    mean_gap, gap_deviation, last_gap = running.gaps(start, end)
    mean_value = value / np.maximum(orders, 1)
    squares = running.between("squares", start, end) / np.maximum(orders, 1)
    columns = [
        since_order,
        running.days_since("event", start, end, time),
        running.days_since_first("order", start, end, time),
        running.days_since_first("event", start, end, time),
        orders,
        running.between("order_days", start, end),
        end - start,
        value,
        mean_value,
        running.last_value(start, end),
        np.sqrt(np.maximum(squares - mean_value**2, 0.0)),
        mean_gap,
        gap_deviation,
        last_gap,
        np.where(mean_gap > 0, since_order / np.maximum(mean_gap, 0.5), 0.0),
        running.between("refunds", start, end),
        running.between("refunded_cents", start, end) / 100,
        running.between("lines", start, end) / np.maximum(orders, 1),
        *(running.between("orders", window, end) for window in windows),
        *(running.value(window, end) for window in windows),
        *(running.between("others", window, end) for window in windows),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def purchase_summaries(
    sequences: Sequences, customer: np.ndarray, time: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(x, t_x, T, mean_value) of each customer at each instant, as buy-till-you-die models want it.

    x counts repeat purchase days, t_x and T are days from the first order to the last and to
    `time`; mean_value is the mean over repeat purchase days (0 without any). A customer with no
    order by then has T = 0.
    """
    return summaries_of(Running(sequences), customer, time)


def summaries_of(
    running: "Running", customer: np.ndarray, time: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The same from sums that were made before, for whoever asks a shop more than once."""
    sequences = running.sequences
    start, end = sequences.offsets[customer], past_end(sequences, customer, time)
    order_days = running.between("order_days", start, end)
    tenure = running.days_since_first("order", start, end, time)
    recency = running.days_since("order", start, end, time)
    bought = order_days > 0
    repeats = np.where(bought, order_days - 1, 0.0)
    total = np.where(bought, tenure, 0.0)
    last = np.where(repeats > 0, np.clip(tenure - recency, 0.0, None), 0.0)
    value = running.value(start, end) - running.first_day_value(start, end)
    return repeats, last, total, np.where(repeats > 0, value / np.maximum(repeats, 1), 0.0)


def _whole(values: np.ndarray) -> np.ndarray:
    """The nearest whole numbers, int64; in the place of larger ones the largest that fits."""
    return np.rint(np.clip(values, -_MOST, _MOST)).astype(np.int64)


def _running_sum(values: np.ndarray) -> np.ndarray:
    """(E + 1,) int64; wraps around silently, and differences are exact all the same."""
    return np.concatenate([[0], np.cumsum(values, dtype=np.int64)])


class Running:
    """Cumulative sums over all events, so that any interval is one subtraction. (E + 1,) each."""

    def __init__(self, sequences: Sequences) -> None:
        self.sequences = sequences
        kinds = np.array(sequences.kinds)[sequences.kind]
        order = sequences.is_order
        cancelled = kinds == "order_cancelled"
        taken_back = cancelled | (kinds == "order_refunded")
        money = order | cancelled | (kinds == "order_updated")
        lines = np.diff(sequences.line_offsets)
        self._order = order
        self._first_on_day = self._first_orders_of_days(order)
        # integers throughout: a difference of two sums is exact whatever stands before it
        cents = _whole(sequences.value * 100)
        self._sums = {
            name: _running_sum(values)
            for name, values in {
                "orders": order.astype(np.int64) - cancelled,
                "order_days": self._first_on_day,
                "cents": np.where(money, cents, 0),
                "squares": np.where(order, _whole(sequences.value**2), 0),
                "refunds": taken_back,
                "refunded_cents": np.where(taken_back, -cents, 0),
                "lines": np.where(order, lines, 0),
                "others": ~(order | taken_back),
            }.items()
        }
        # row of the latest order at or before each row, and of the next at or after
        rows = np.arange(len(order))
        self._latest = np.maximum.accumulate(np.where(order, rows, -1)) if len(rows) else rows
        following = np.where(order, rows, len(rows))
        self._next = np.minimum.accumulate(following[::-1])[::-1] if len(rows) else rows
        day = self._first_on_day.astype(bool)
        latest_day = np.maximum.accumulate(np.where(day, rows, -1)) if len(rows) else rows
        earlier = np.concatenate([[-1], latest_day[:-1]]) if len(rows) else rows
        gap = np.zeros(len(rows), dtype=np.int64)    # µs since the order day before
        same = day & (earlier >= 0)
        owner = sequences.customer_of_event
        same[same] = owner[rows[same]] == owner[earlier[same]]
        gap[same] = sequences.time[rows[same]] - sequences.time[earlier[same]]
        self._gap = gap
        self._latest_day = latest_day
        self._sums["gaps"] = _running_sum(gap)
        self._sums["gap_squares"] = _running_sum((gap // _MINUTE) ** 2)
        self._sums["gap_count"] = _running_sum(same)

    def _first_orders_of_days(self, order: np.ndarray) -> np.ndarray:
        rows = np.flatnonzero(order)
        day = self.sequences.time[rows] // DAY
        owner = self.sequences.customer_of_event[rows]
        first = np.ones(len(rows), dtype=bool)
        first[1:] = (day[1:] != day[:-1]) | (owner[1:] != owner[:-1])
        flags = np.zeros(len(order), dtype=np.int64)
        flags[rows[first]] = 1
        return flags

    def between(self, name: str, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """(Q,) float64 sum of a column over rows start:end."""
        return (self._sums[name][end] - self._sums[name][start]).astype(np.float64)

    def value(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """(Q,) value of orders, updates and cancellations in rows start:end, in major units."""
        return self.between("cents", start, end) / 100

    def days_since(
        self, what: str, start: np.ndarray, end: np.ndarray, time: np.ndarray
    ) -> np.ndarray:
        """(Q,) days from the last "order" or "event" of rows start:end to `time`."""
        last = end - 1
        if what == "order":
            last = np.where(end > 0, self._latest[np.maximum(end - 1, 0)], -1)
        return self._days(last, last >= start, time)

    def days_since_first(
        self, what: str, start: np.ndarray, end: np.ndarray, time: np.ndarray
    ) -> np.ndarray:
        """(Q,) days from the first "order" or "event" of rows start:end to `time`."""
        first = start
        if what == "order":
            first = self._next[np.minimum(start, max(len(self._next) - 1, 0))]
        return self._days(first, first < end, time)

    def _days(self, row: np.ndarray, exists: np.ndarray, time: np.ndarray) -> np.ndarray:
        days = np.full(len(row), LONG_AGO_DAYS)
        days[exists] = (time[exists] - self.sequences.time[row[exists]]) / DAY
        return days

    def last_value(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """(Q,) value of the last order in rows start:end; 0 without any."""
        last = np.where(end > 0, self._latest[np.maximum(end - 1, 0)], -1)
        values = np.zeros(len(end))
        exists = last >= start
        values[exists] = self.sequences.value[last[exists]]
        return values

    def first_day_value(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """(Q,) value of all orders on a customer's first order day."""
        values = np.zeros(len(start))
        first = self._next[np.minimum(start, max(len(self._next) - 1, 0))]
        exists = first < end
        first, stop = first[exists], end[exists]
        # the day ends where the second order day begins, or the past does
        later = np.searchsorted(self._sums["order_days"], self._sums["order_days"][first] + 2) - 1
        values[exists] = self.value(first, np.minimum(later, stop))
        return values

    def gaps(
        self, start: np.ndarray, end: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(Q,) mean, standard deviation and latest of days between order days; 0 without any."""
        count = np.maximum(self.between("gap_count", start, end), 1)
        mean = self.between("gaps", start, end) / DAY / count
        squares = self.between("gap_squares", start, end) / (24 * 60) ** 2 / count
        latest = np.where(end > 0, self._latest_day[np.maximum(end - 1, 0)], -1)
        last = np.where(latest >= start, self._gap[np.maximum(latest, 0)] / DAY, 0.0)
        return mean, np.sqrt(np.maximum(squares - mean**2, 0.0)), last
