"""Peers of serving.py, run by the python of an environment of their own.

    python -m venv peers && peers/bin/pip install feast==0.67.0 mlflow-skinny==3.17.2 \\
        lightgbm==4.7.0 fastapi uvicorn
    python serving_hosts.py feast|mlflow FEATURES.parquet FOLDER PORT

It knows nothing of habitue: a table of customers comes in, and a server answers until it is ended.
"""

import os
import sys
from datetime import timedelta
from pathlib import Path

import pandas as pd

ID, TIME, ANSWER = "customer", "told", "orders_again"    # the other columns are numbers


def main() -> None:
    """Make what a peer serves, and become its server."""
    peer, features, folder, port = sys.argv[1:]
    table = pd.read_parquet(features)
    inputs = [name for name in table if name not in (ID, TIME, ANSWER)]
    command = HOSTS[peer](table, inputs, Path(folder), port)
    os.chdir(folder)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"    # for their uvicorn
    os.execve(command[0], command, {**os.environ, "PATH": path})


def feast(table: pd.DataFrame, inputs: list[str], folder: Path, port: str) -> list[str]:
    """The numbers in an online store, one SQLite file, and the server that reads them."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource
    from feast.types import Float64

    (folder / "feature_store.yaml").write_text(
        "project: shop\nprovider: local\nregistry: registry.db\n"
        "entity_key_serialization_version: 3\n"
        "online_store:\n  type: sqlite\n  path: online.db\noffline_store:\n  type: dask\n"
    )
    table = table.drop(columns=ANSWER)
    table.to_parquet(folder / "told.parquet")
    store = FeatureStore(repo_path=str(folder))
    customer = Entity(name=ID, join_keys=[ID])
    view = FeatureView(
        name="shop", entities=[customer], ttl=timedelta(days=36_500),
        schema=[Field(name=name, dtype=Float64) for name in inputs],
        source=FileSource(path=str(folder / "told.parquet"), timestamp_field=TIME),
    )  # fmt: skip
    store.apply([customer, view])
    store.write_to_online_store("shop", df=table)
    return [_beside("feast"), "serve", "--port", port, "--workers", "1", "--no-access-log",
            "--max-requests", "1000000000"]  # fmt: skip


def mlflow(table: pd.DataFrame, inputs: list[str], folder: Path, port: str) -> list[str]:
    """A boosted tree of whether a customer orders again, and the server of saved models."""
    import lightgbm
    import mlflow.lightgbm

    settings = {"objective": "binary", "num_leaves": 15, "num_threads": 1, "verbose": -1}
    told = lightgbm.Dataset(table[inputs], table[ANSWER])
    model = lightgbm.train(settings, told, num_boost_round=200)
    mlflow.lightgbm.save_model(model, str(folder / "model"), pip_requirements=[])
    return [_beside("mlflow"), "models", "serve", "--model-uri", str(folder / "model"),
            "--env-manager", "local", "--port", port, "--workers", "1"]  # fmt: skip


def _beside(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


HOSTS = {"feast": feast, "mlflow": mlflow}


if __name__ == "__main__":
    main()
