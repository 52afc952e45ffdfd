"""Small pretrained decoders as others save them: weights in half precision, a tokenizer, their own configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

WORDS = ["<pad>", "<s>", "</s>", "[UNK]", "a", "user", "'", "s", "history", ":"]
WORDS += [f"w{one}" for one in range(54)]
_SIZES = {"vocab_size": len(WORDS), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_LLAMA = {**_SIZES, "intermediate_size": 64, "num_key_value_heads": 2, "max_position_embeddings": 64}
KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, _LLAMA),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {**_LLAMA, "tie_word_embeddings": True}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {**_LLAMA, "head_dim": 16}),
    "gemma3": (Gemma3TextConfig, Gemma3ForCausalLM, {**_LLAMA, "head_dim": 8}),
    "gpt2": (
        GPT2Config,
        GPT2LMHeadModel,
        {"vocab_size": len(WORDS), "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    ),
    "bert": (BertConfig, BertForMaskedLM, {**_SIZES, "intermediate_size": 64, "max_position_embeddings": 64}),
}


def save_decoder(folder: Path, kind: str = "llama", max_shard_size: str = "1GB", **more: Any) -> Path:
    """A decoder of `kind` with its tokenizer in `folder`, its words of any size, as if it had been trained."""
    config_class, model_class, settings = KINDS[kind]
    torch.manual_seed(7)
    model = model_class(config_class(**settings, **more, pad_token_id=0, bos_token_id=1, eos_token_id=2))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size=max_shard_size)
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="<pad>").save_pretrained(folder)
    if kind == "llama":
        # As configurations were written before transformers 5, and with what other programs leave in them.
        path = folder / "config.json"
        given = json.loads(path.read_text(encoding="utf-8"))
        given |= {"rope_theta": 500.0, "rope_scaling": None, "transformers.js_config": {"dtype": "q4"}}
        given.pop("rope_parameters", None)
        path.write_text(json.dumps(given), encoding="utf-8")
    return folder
