"""A sentence encoder: BERT (Devlin et al. 2018) from a folder, one vector of unit length a text.

Read only, in float32. MiniLM, BGE, E5, GTE and their like have this layout; whichever tokenizer the
folder brings is used. The vectors agree with those of sentence-transformers to rounding.
"""

# N texts · B of them in a batch · T tokens · D width · H heads · L longest text
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from habitue.errors import BadSetting, NotInstalled
from habitue.model.texts.folder import CONFIG, LENGTH, POOLING, TOKENIZER, WEIGHTS, WORDS

BATCH_TOKENS = 4_096                       # read at once, padding included
Done = Callable[[int, int], None]          # told how many texts of how many are read


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Weights that are read, never trained, and the tokenizer that goes with them."""

    tensors: dict[str, Tensor]
    tokenizer: Any
    layers: int
    heads: int
    epsilon: float                         # of the layer norms
    first_token: bool                      # a text is its first token; else the mean of all

    @property
    def width(self) -> int:
        """D, of the vectors."""
        return self.tensors["embeddings.word_embeddings.weight"].shape[1]

    def read(self, texts: Sequence[str], done: Done | None = None) -> np.ndarray:
        """(N, D) float32 vectors of unit length; texts of like length are read together."""
        found = np.zeros((len(texts), self.width), np.float32)
        tokens = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        read = 0
        for rows in _groups([len(ids) for ids in tokens]):
            longest = max(len(tokens[row]) for row in rows)
            ids = torch.zeros(len(rows), longest, dtype=torch.long)        # (B, T)
            real = torch.zeros(len(rows), longest, dtype=torch.bool)
            for place, row in enumerate(rows):
                ids[place, : len(tokens[row])] = torch.tensor(tokens[row])
                real[place, : len(tokens[row])] = True
            found[rows] = encode(self, ids, real).numpy()
            read += len(rows)
            if done:
                done(read, len(texts))
        return found


@torch.no_grad()
def encode(
    encoder: Encoder, ids: Int[Tensor, "b t"], real: Bool[Tensor, "b t"]
) -> Float[Tensor, "b d"]:
    """The vectors of texts given as tokens; what is not `real` is padding."""
    tensors = encoder.tensors
    x = tensors["embeddings.word_embeddings.weight"][ids]                  # (B, T, D)
    x = x + tensors["embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = x + tensors["embeddings.token_type_embeddings.weight"][0]
    x = _norm(encoder, x, "embeddings")
    for layer in range(encoder.layers):
        x = _layer(encoder, x, real, f"encoder.layer.{layer}")
    if encoder.first_token:
        pooled = x[:, 0]
    else:
        pooled = (x * real[..., None]).sum(dim=1) / real.sum(dim=1, keepdim=True)
    return functional.normalize(pooled, dim=-1)


def load_encoder(folder: Path) -> Encoder:
    """The encoder of a folder that holds one.

    Raises:
        BadSetting: it is of another kind than we can read.
        NotInstalled: the package `tokenizers` is not there.
    """
    told = json.loads((folder / CONFIG).read_text())
    wanted = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
    for name, value in wanted.items():
        if told.get(name, value) != value:
            raise BadSetting(
                f"the text encoder in {folder} has {name} {told[name]!r}, and only {value!r} can be"
                " read\nhint: MiniLM, BGE, E5 and GTE are encoders of that kind"
            )
    pooling = _json(folder / POOLING)
    tensors = load_file(folder / WEIGHTS)
    most = told["max_position_embeddings"]
    return Encoder(
        tensors={
            name.removeprefix("bert."): tensor.float()
            for name, tensor in tensors.items()
            if tensor.is_floating_point()
        },
        tokenizer=_tokenizer(folder, _json(folder / LENGTH).get("max_seq_length") or most),
        layers=told["num_hidden_layers"],
        heads=told["num_attention_heads"],
        epsilon=told["layer_norm_eps"],
        first_token=bool(pooling.get("pooling_mode_cls_token", False)),
    )


def _layer(encoder: Encoder, x: Tensor, real: Tensor, name: str) -> Tensor:
    """Attention, then two dense maps; a norm after each (post-norm)."""
    batch, tokens, width = x.shape
    query, key, value = (
        _dense(encoder, x, f"{name}.attention.self.{part}")
        .view(batch, tokens, encoder.heads, width // encoder.heads)
        .transpose(1, 2)                                                   # (B, H, T, D / H)
        for part in ("query", "key", "value")
    )
    mixed = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=real[:, None, None, :]
    )
    mixed = mixed.transpose(1, 2).reshape(batch, tokens, width)
    x = x + _dense(encoder, mixed, f"{name}.attention.output.dense")
    x = _norm(encoder, x, f"{name}.attention.output")
    hidden = functional.gelu(_dense(encoder, x, f"{name}.intermediate.dense"))
    return _norm(encoder, x + _dense(encoder, hidden, f"{name}.output.dense"), f"{name}.output")


def _dense(encoder: Encoder, x: Tensor, name: str) -> Tensor:
    return functional.linear(x, encoder.tensors[f"{name}.weight"], encoder.tensors[f"{name}.bias"])


def _norm(encoder: Encoder, x: Tensor, name: str) -> Tensor:
    weight, bias = (encoder.tensors[f"{name}.LayerNorm.{part}"] for part in ("weight", "bias"))
    return functional.layer_norm(x, x.shape[-1:], weight, bias, encoder.epsilon)


def _tokenizer(folder: Path, longest: int) -> Any:
    NotInstalled.unless("tokenizers", package="tokenizers", extra="text")
    from tokenizers import BertWordPieceTokenizer, Tokenizer

    tokenizer: Any
    if (folder / TOKENIZER).is_file():
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    else:
        lower = _json(folder / "tokenizer_config.json").get("do_lower_case", True)
        tokenizer = BertWordPieceTokenizer(str(folder / WORDS), lowercase=lower)
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    return tokenizer


def _json(path: Path) -> dict[str, Any]:
    """What a file says that need not be there."""
    told: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return told


def _groups(sizes: Sequence[int]) -> list[list[int]]:
    """Rows of like size together, at most BATCH_TOKENS with padding in each group."""
    groups: list[list[int]] = []
    for row in sorted(range(len(sizes)), key=sizes.__getitem__):
        # sizes ascend, so that the row that comes would pad all the others
        if not groups or (len(groups[-1]) + 1) * sizes[row] > BATCH_TOKENS:
            groups.append([])
        groups[-1].append(row)
    return groups
