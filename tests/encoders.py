"""Tiny text encoders with random weights, saved as the folders that real ones come in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

WORDS = [
    "a",
    "red",
    "green",
    "blue",
    "shoe",
    "boot",
    "lamp",
    "desk",
    "of",
    "wood",
    "and",
    "steel",
    "new",
    "old",
]


def save_tokenizer(folder: Path, known: Sequence[str] = WORDS) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: place for place, word in enumerate(["[PAD]", "[UNK]", *known])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", model_max_length=64
    ).save_pretrained(folder)


def save_bert(folder: Path, seed: int = 0, layers: int = 1, known: Sequence[str] = WORDS) -> Path:
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(known) + 2,
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    save_tokenizer(folder, known)
    return folder
