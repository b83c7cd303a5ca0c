"""From orders to answers: import a made-up shop, train a small model, and ask it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import habitue
from habitue.config import nano


def main(folder: Path) -> None:
    """Leave a workspace with a trained model in `folder`."""
    orders = folder / "orders.parquet"
    simulate = [sys.executable, "-m", "habitue.cli.app", "simulate", "--customers", "200"]
    subprocess.run([*simulate, "--out", orders], check=True)
    shop = habitue.open(folder / "work").shop("acme")
    shop.ingest(orders, orders.with_suffix(".toml"))

    version = shop.train(replace(nano(), epochs=1))       # one pass: quick, and not good
    print(f"published {version}")
    churn = shop.predict("churn", horizons=[90.0], version=version)
    print(f"{churn.num_rows} customers, columns: {', '.join(churn.column_names)}")
    print(shop.recommend(k=3, version=version).slice(0, 3).to_pylist())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
