"""How fast and how exactly the classical purchase models are fitted, beside `lifetimes`.

    python benchmarks/classical.py --data cdnow_sample.parquet

On CDNOW (customer_id, date, amount_usd): the published protocol, parameters and log-likelihoods.
On a simulated shop of a million customers at daily resolution: seconds to merge equal customers,
fit and score them all, and peak memory. Every cell runs in a process of its own.
"""

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, in_a_process, peak_mb
from habitue.sequences.classical import BgNbd
from habitue.sequences.classical_fit import (
    Fitted,
    fit_bg_nbd,
    fit_gamma_gamma,
    fit_mbg_nbd,
    fit_pareto_nbd,
)

CDNOW = "same-day purchases merged, weeks, calibration 1997-01-01 to 1997-09-30"
MILLION = "simulated BG/NBD (.243, 4.414 weeks, .793, 2.426), days, observed 90 to 365 days"
TRUTH = BgNbd(r=0.243, alpha=30.9, a=0.793, b=2.426)
HORIZON_DAYS = 90.0
FITS: dict[str, Callable[..., Any]] = {
    "bg_nbd": fit_bg_nbd,
    "mbg_nbd": fit_mbg_nbd,
    "pareto_nbd": fit_pareto_nbd,
}
PEERS = {
    "bg_nbd": "BetaGeoFitter",
    "mbg_nbd": "ModifiedBetaGeoFitter",
    "pareto_nbd": "ParetoNBDFitter",
}
OURS = ("habitue/sequences/classical.py", "habitue/sequences/classical_fit.py")
TIMED = {"alpha", "beta"}                  # parameters in days; published in weeks
PEER_SECONDS = 300.0


class Shop(NamedTuple):
    """Customers of one shop, in days and major units; all columns (C,)."""

    repeats: np.ndarray
    last: np.ndarray
    age: np.ndarray
    mean_value: np.ndarray


@dataclass(frozen=True, slots=True)
class Fit:
    """What one method found; parameters in days."""

    parameters: Mapping[str, float]
    log_likelihood: float | None           # in weeks; None where the peer leaves constants out
    score: Callable[[], object]            # predict every customer


def main() -> None:
    """Run what is not in the results yet, and print all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a Parquet file shaped as cdnow_sample")
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--results", type=Path, default=RESULTS / "classical.csv")
    parser.add_argument("--cell", nargs=2, metavar=("METHOD", "COLUMNS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(cell(options.cell[0], Path(options.cell[1]))))
        return
    commit = harness_commit("benchmarks/classical.py", *OURS)
    ledger = Ledger(options.results, commit, hardware())
    with tempfile.TemporaryDirectory() as folder:
        million = Path(folder) / "million.npy"
        shop = simulated(options.customers, np.random.default_rng(options.seed))
        np.save(million, np.stack(shop))
        del shop
        name = f"simulated_{options.customers}"
        run(ledger, name, MILLION, million, options.seed)
        if options.data:
            small = Path(folder) / "cdnow.npy"
            np.save(small, np.stack(cdnow(options.data)))
            run(ledger, options.data.stem, CDNOW, small, options.seed)
    for row in ledger.rows:
        print(f"{row.data:20} {row.method:22} {row.metric:18} {row.value:12.4f}")
    if options.json:
        ledger.write_json(options.json)


def run(ledger: Ledger, data: str, protocol: str, columns: Path, seed: int) -> None:
    """Every method on one data set."""
    methods = [*FITS, "gamma_gamma", *(f"lifetimes:{name}" for name in (*PEERS, "gamma_gamma"))]
    for method in methods:
        if ledger.has(data, method, seed):
            continue
        figures = in_a_process(__file__, ["--cell", method, str(columns)], PEER_SECONDS)
        seconds, megabytes = figures.pop("seconds", None), figures.pop("peak_mb", None)
        ledger.put(
            Row(
                data=data, protocol=protocol, method=method, metric=metric, value=value, seed=seed,
                seconds=seconds, peak_mb=megabytes, commit=ledger.commit, hardware=ledger.machine,
            )
            for metric, value in (figures or {"finished": 0.0}).items()
        )  # fmt: skip


def cell(method: str, path: Path) -> dict[str, float]:
    """Fit one method and score every customer; parameters, seconds and memory."""
    shop = Shop(*np.load(path))
    peer, _, name = method.rpartition(":")
    before_mb, start = peak_mb(), time.perf_counter()
    fit = peer_fit(name, shop) if peer else own_fit(name, shop)
    fitted = time.perf_counter()
    fit.score()
    scored = time.perf_counter()
    figures = {
        field: value / 7 if field in TIMED else value for field, value in fit.parameters.items()
    }
    if fit.log_likelihood is not None:
        figures["log_likelihood"] = fit.log_likelihood
    return {
        **figures,
        "fit_seconds": fitted - start,
        "score_seconds": scored - fitted,
        "added_peak_mb": peak_mb() - before_mb,
        "seconds": scored - start,
        "peak_mb": peak_mb(),
    }


def own_fit(name: str, shop: Shop) -> Fit:
    """One of our models."""
    x, t_x, T, mean = shop
    if name == "gamma_gamma":
        spend = fit_gamma_gamma(x, mean).model
        parameters = {field: getattr(spend, field) for field in spend.__slots__}
        return Fit(parameters, None, lambda: spend.expected_value(x, mean))
    fitted: Fitted[Any] = FITS[name](x, t_x, T)
    model = fitted.model

    def score() -> object:
        chance = model.probability_of_order(x, t_x, T, HORIZON_DAYS)
        return chance, model.expected_orders(x, t_x, T, HORIZON_DAYS)

    parameters = {field: getattr(model, field) for field in model.__slots__}
    return Fit(parameters, fitted.log_likelihood + float(x.sum() * np.log(7)), score)


def peer_fit(name: str, shop: Shop) -> Fit:
    """The same model by `lifetimes`, with its defaults; times in weeks, as it likes them small."""
    warnings.simplefilter("ignore")
    import lifetimes

    x, t_x, T, mean = shop.repeats, shop.last / 7, shop.age / 7, shop.mean_value
    if name == "gamma_gamma":
        spend = lifetimes.GammaGammaFitter()
        kept = (x > 0) & (mean > 0)
        spend.fit(x[kept], mean[kept])
        expected = spend.conditional_expected_average_profit
        return Fit(dict(spend.params_), None, lambda: expected(x, mean))
    fitter = getattr(lifetimes, PEERS[name])()
    fitter.fit(x, t_x, T)
    ask = fitter.conditional_expected_number_of_purchases_up_to_time
    found = dict(fitter.params_)
    days = {field: value * 7 if field in TIMED else value for field, value in found.items()}
    return Fit(days, None, lambda: ask(HORIZON_DAYS / 7, x, t_x, T))


def cdnow(path: Path) -> Shop:
    """The published calibration sample, in days."""
    import duckdb

    with duckdb.connect() as connection:
        found = connection.execute(
            """
            -- one row per customer
            WITH days AS (
                SELECT customer_id, date, sum(amount_usd) AS value FROM read_parquet($path)
                WHERE date <= DATE '1997-09-30' GROUP BY ALL
            ), firsts AS (SELECT customer_id, min(date) AS first FROM days GROUP BY ALL)
            SELECT count(*) - 1 AS repeats, max(date) - min(first) AS last,
                   DATE '1997-09-30' - min(first) AS age,
                   coalesce(avg(value) FILTER (date > first), 0) AS mean_value
            FROM days JOIN firsts USING (customer_id) GROUP BY customer_id ORDER BY customer_id
            """,
            {"path": str(path)},
        ).fetchnumpy()
    return Shop(*(np.asarray(column, dtype=np.float64) for column in found.values()))


def simulated(count: int, rng: np.random.Generator) -> Shop:
    """A shop that is BG/NBD, with values that are Gamma-Gamma."""
    age = rng.integers(90, 366, count).astype(np.float64)
    with np.errstate(divide="ignore"):
        gap = np.minimum(1 / rng.gamma(TRUTH.r, 1 / TRUTH.alpha, count), 1e9)
    chance_to_leave = rng.beta(TRUTH.a, TRUTH.b, count)
    now, last, repeats = np.zeros(count), np.zeros(count), np.zeros(count)
    active = np.arange(count)
    while len(active):
        now[active] += rng.exponential(gap[active])
        active = active[now[active] <= age[active]]
        last[active], repeats[active] = np.ceil(now[active]), repeats[active] + 1
        active = active[rng.random(len(active)) >= chance_to_leave[active]]
    scale = rng.gamma(3.744, 1 / 15.443, count)
    mean_value = rng.gamma(6.25 * np.maximum(repeats, 1)) / scale / np.maximum(repeats, 1)
    mean_value[repeats == 0] = 0.0
    return Shop(repeats, last, age, mean_value)


if __name__ == "__main__":
    main()
