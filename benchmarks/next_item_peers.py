"""Peers of next_item.py, run by the python of an environment of their own.

    python -m venv peers && peers/bin/pip install "rectools[torch]==0.19.0" "implicit==0.7.3"
    python next_item_peers.py METHOD GIVEN.npz TOLD.npz SEED EPOCHS

It knows nothing of habitue: rows of items come in, lists of items go out.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

# items with those seen left out, and with all; settings; seconds of fitting
Lists = tuple[np.ndarray, np.ndarray, str, float]


def main() -> None:
    """Fit one method, and write its lists."""
    method, given, told, seed, epochs = sys.argv[1:]
    data = dict(np.load(Path(given)))
    seen_out, everything, note, seconds = METHODS[method](data, int(seed), int(epochs))
    np.savez(told, seen_out=seen_out, all=everything, note=note, fit_cpu_seconds=seconds)


def implicit_item_knn(data: dict[str, Any], seed: int, epochs: int) -> Lists:
    """Cosine neighbours of items, as in implicit."""
    from implicit.nearest_neighbours import CosineRecommender

    model = CosineRecommender(K=100, num_threads=1)
    return _implicit(data, model, "cosine, 100 neighbours")


def implicit_als(data: dict[str, Any], seed: int, epochs: int) -> Lists:
    """Alternating least squares, as in implicit."""
    from implicit.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(
        factors=128, regularization=0.01, iterations=15, random_state=seed, num_threads=1
    )
    return _implicit(data, model, "128 factors, 15 iterations")


def _implicit(data: dict[str, Any], model: Any, note: str) -> Lists:
    begun = time.process_time()
    model.fit(_matrix(data, "train"), show_progress=False)
    seconds = time.process_time() - begun
    asked, places = _matrix(data, "test"), int(data["places"])
    lists = []
    for skip in (True, False):
        found, _ = model.recommend(
            np.arange(asked.shape[0]), asked, N=places, filter_already_liked_items=skip,
            **({"recalculate_user": True} if hasattr(model, "user_factors") else {}),
        )  # fmt: skip
        lists.append(found.astype(np.int32))
    return lists[0], lists[1], note, seconds


def rectools_sasrec(data: dict[str, Any], seed: int, epochs: int) -> Lists:
    """RecTools' SASRec: 64 wide, 2 blocks, 256 shared negatives, length 50, batches of 128."""
    import pandas as pd
    import torch
    from pytorch_lightning import Trainer
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    model = SASRecModel(
        n_factors=64, n_blocks=2, n_heads=1, dropout_rate=0.3, loss="sampled_softmax",
        n_negatives=256, session_max_len=50, batch_size=128, lr=1e-3, epochs=epochs,
        get_trainer_func=lambda: Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        ),
    )  # fmt: skip

    def interactions(part: str) -> Any:
        sizes = np.diff(data[f"{part}_offsets"])
        user = np.repeat(np.arange(len(sizes)), sizes)
        when = pd.to_datetime(np.arange(len(user)), unit="s")
        columns = {Columns.User: user, Columns.Item: data[f"{part}_values"]}
        return Dataset.construct(
            pd.DataFrame(columns | {Columns.Weight: 1.0, Columns.Datetime: when})
        )

    begun = time.process_time()
    model.fit(interactions("train"))
    seconds = time.process_time() - begun
    asked, count = interactions("test"), len(data["test_offsets"]) - 1
    lists = [_recommended(model, asked, count, int(data["places"]), skip) for skip in (True, False)]
    note = f"64 wide, 2 blocks, 256 sampled negatives, {epochs} passes"
    return lists[0], lists[1], note, seconds


def _recommended(model: Any, asked: Any, count: int, places: int, skip: bool) -> np.ndarray:
    """(count, places) items by user; -1 where there is none."""
    told = model.recommend(
        users=np.arange(count), dataset=asked, k=places, filter_viewed=skip,
        on_unsupported_targets="ignore",
    )  # fmt: skip
    lists = np.full((count, places), -1, np.int32)
    lists[told["user_id"], told["rank"] - 1] = told["item_id"]
    return lists


METHODS = {
    "implicit_item_knn": implicit_item_knn,
    "implicit_als": implicit_als,
    "rectools_sasrec": rectools_sasrec,
}


def _matrix(data: dict[str, Any], part: str) -> sp.csr_matrix:
    sizes = np.diff(data[f"{part}_offsets"])
    rows = np.repeat(np.arange(len(sizes)), sizes)
    ones = np.ones(len(rows), np.float32)
    shape = (len(sizes), int(data["items"]))
    matrix = sp.csr_matrix((ones, (rows, data[f"{part}_values"])), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


if __name__ == "__main__":
    main()
