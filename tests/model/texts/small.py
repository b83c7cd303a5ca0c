"""A sentence encoder of two layers with random weights, in a folder as on a model hub."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

WORDS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
    "red", "blue", "mug", "cup", "lamp", "##s", "##ware", "glass", ",",
]  # fmt: skip
WIDTH, LAYERS, HEADS, HIDDEN, LONGEST = 16, 2, 4, 32, 12


def encoder_folder(folder: Path, *, seed: int = 0, **changed: object) -> Path:
    """An encoder that knows a few words; `changed` are lines of its config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "bert", "hidden_act": "gelu", "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": HIDDEN,
        "layer_norm_eps": 1e-12, "max_position_embeddings": LONGEST, "vocab_size": len(WORDS),
        "type_vocab_size": 2,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config | changed))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    save_file(weights(seed), folder / "model.safetensors")
    return folder


def weights(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "embeddings.word_embeddings.weight": (len(WORDS), WIDTH),
        "embeddings.position_embeddings.weight": (LONGEST, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        **_norm("embeddings.LayerNorm"),
    }
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            shapes |= _dense(f"{name}.attention.self.{part}", WIDTH, WIDTH)
        shapes |= _dense(f"{name}.attention.output.dense", WIDTH, WIDTH)
        shapes |= _norm(f"{name}.attention.output.LayerNorm")
        shapes |= _dense(f"{name}.intermediate.dense", WIDTH, HIDDEN)
        shapes |= _dense(f"{name}.output.dense", HIDDEN, WIDTH)
        shapes |= _norm(f"{name}.output.LayerNorm")
    drawn = {n: 0.5 * torch.randn(*shape, generator=generator) for n, shape in shapes.items()}
    return drawn | {"embeddings.position_ids": torch.arange(LONGEST)[None]}


def _dense(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}
