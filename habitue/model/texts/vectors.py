"""The vectors of item texts: read once, then kept by what is written.

In memory while this process runs, and in a folder where one is given: a file for each encoder, in
which a text's digest leads to its vector. A catalogue of 100,000 items takes minutes the first time
and none after that; an item whose title changes is read again.
"""

# N texts · V items · W width of the encoder's vectors
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import lmdb
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from habitue.errors import BadSetting
from habitue.model.texts.encoder import load_encoder
from habitue.model.texts.folder import digest_of, encoder_folder
from habitue.sequences.build import Sequences

log = logging.getLogger(__name__)
Told = Callable[[str, int, int | None], None]   # what is done, how far, of how much
AT_ONCE = 2_048                            # texts read between two savings
LARGEST = 1 << 36                          # bytes that a file of vectors may grow to


class Reader:
    """One encoder, its weights loaded when they are first needed, and what it has read so far."""

    def __init__(self, name: str) -> None:
        self.folder = encoder_folder(name)
        self.digest = digest_of(self.folder)
        self.known: dict[bytes, np.ndarray] = {}
        self._load = lru_cache(lambda: load_encoder(self.folder))

    def vectors(
        self, texts: Sequence[str], *, kept: Path | None = None, told: Told | None = None
    ) -> np.ndarray:
        """(N, W) float32, of unit length; zeros where there is no text."""
        keys = [_key(text) for text in texts]
        wanted = {key: text for key, text in zip(keys, texts, strict=True) if text}
        held = {} if kept is None else _kept(kept / f"{self.digest}.lmdb", wanted)
        self.known |= held
        self._read({k: text for k, text in wanted.items() if k not in self.known}, kept, told)
        unkept = {key: self.known[key] for key in wanted if key not in held}
        if kept is not None and unkept:
            _keep(kept / f"{self.digest}.lmdb", unkept)
        width = len(next(iter(self.known.values()))) if self.known else self._load().width
        nothing = np.zeros(width, np.float32)
        found = [self.known.get(key, nothing) for key in keys]
        return np.stack(found) if found else np.zeros((0, width), np.float32)

    def _read(self, missing: dict[bytes, str], kept: Path | None, told: Told | None) -> None:
        begun, texts = time.perf_counter(), list(missing.values())
        for place in range(0, len(texts), AT_ONCE):
            part = list(missing.items())[place : place + AT_ONCE]

            def done(count: int, _: int, before: int = place) -> None:
                speed = (before + count) / (time.perf_counter() - begun)
                if told:
                    told(f"texts: {speed:,.0f} texts/s", before + count, len(texts))

            read = self._load().read([text for _, text in part], done)
            fresh = dict(zip([key for key, _ in part], read, strict=True))
            self.known |= fresh
            if kept is not None:
                _keep(kept / f"{self.digest}.lmdb", fresh)
        if texts:
            seconds = time.perf_counter() - begun
            log.info("read texts=%d texts_per_second=%.0f", len(texts), len(texts) / seconds)


def item_vectors(
    encoder: str, sequences: Sequences, *, kept: Path | None = None, told: Told | None = None
) -> Float[Tensor, "v w"] | None:
    """(V + 1, W) the vectors of a shop's items, an unknown one first; none where no encoder is.

    Raises:
        BadSetting: the encoder is not there, or not the one that the name is pinned to.
        NotInstalled: there are texts to read, and the package `tokenizers` is not there.
    """
    if not encoder:
        return None
    titled = zip(sequences.titles, sequences.categories, strict=True)
    texts = [", ".join(filter(None, both)) for both in titled]
    found = reader(encoder).vectors(texts, kept=kept, told=told)
    return torch.from_numpy(np.concatenate([np.zeros((1, found.shape[1]), np.float32), found]))


def reader(encoder: str) -> Reader:
    """The reader of an encoder, the same while its files are."""
    return _reader(encoder, digest_of(encoder_folder(encoder)))


@lru_cache(maxsize=2)
def _reader(encoder: str, digest: str) -> Reader:
    return Reader(encoder)


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _kept(path: Path, wanted: dict[bytes, str]) -> dict[bytes, np.ndarray]:
    """Those of the wanted vectors that a file holds."""
    if not path.exists():
        return {}
    with _open(path) as environment, environment.begin() as transaction:
        found = {key: transaction.get(key) for key in wanted}
        return {key: np.frombuffer(v, np.float32).copy() for key, v in found.items() if v}


def _keep(path: Path, vectors: dict[bytes, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _open(path) as environment, environment.begin(write=True) as transaction:
        for key, vector in vectors.items():
            transaction.put(key, vector.tobytes())


def _open(path: Path) -> lmdb.Environment:
    try:
        return lmdb.open(str(path), subdir=False, map_size=LARGEST)
    except lmdb.Error as error:
        raise BadSetting(
            f"{path} cannot be opened: {error}\nhint: it holds nothing that cannot be read again;"
            " delete it"
        ) from error
