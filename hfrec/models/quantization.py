"""A decoder held in 4 or 8 bits while an adapter on it is trained; what is saved are the numbers they stand for."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

_EXTRA = "pip install 'hfrec[quantization]'"


def quantization(load_in_4bit: bool = False, load_in_8bit: bool = False, **_: Any) -> dict[str, Any]:
    """What transformers' `from_pretrained` is given to load the linear layers in 4 bits (NF4) or in 8.

    Raises:
        ImportError: bitsandbytes is not installed.
        ValueError: both are asked for.
    """
    if load_in_4bit and load_in_8bit:
        raise ValueError("A decoder is held in 4 bits or in 8: set `load_in_4bit` or `load_in_8bit`, not both.")
    if find_spec("bitsandbytes") is None:
        name = "load_in_4bit" if load_in_4bit else "load_in_8bit"
        raise ImportError(f"`{name}` needs bitsandbytes, which is not installed. Install it: {_EXTRA}")
    from accelerate import PartialState
    from transformers import BitsAndBytesConfig

    device = PartialState().device
    config = BitsAndBytesConfig(
        load_in_4bit=load_in_4bit,
        load_in_8bit=load_in_8bit,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.float32 if device.type == "cpu" else torch.bfloat16,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def bits_of(model: nn.Module) -> int:
    """In how many bits layers of `model` are held: 4, 8, or 0 where they are plain."""
    return max(map(_bits_of, model.modules()))


def check_learns(model: Any) -> None:
    """Refuse a model whose decoder is held in 4 or 8 bits, and has no adapter by which to learn.

    Raises:
        ValueError: it is such a one.
    """
    if (bits := bits_of(model)) and not getattr(model, "peft_config", None):
        raise ValueError(
            f"A decoder that is held in {bits} bits learns through an adapter alone, and this one has none: set "
            "`lora_rank`, such as 16, or `model.add_adapter(LoraConfig(target_modules=hfrec.lora_targets(model)))`."
        )


def with_plain_weights(model: nn.Module) -> None:
    """Let `state_dict` of `model` give the numbers that its quantised weights stand for, under the names of plain ones.

    What is saved is then a plain model, which loads where there is no bitsandbytes. Nothing is loaded into a quantised
    layer: it does not learn, so that what was saved of it is what it has.
    """
    for part in model.modules():
        if _bits_of(part):
            # What some processors do to be faster rounds the weights again, in place.
            part.support_avx512bf16_for_cpu = False
            part._register_state_dict_hook(_dequantized)
            part.register_load_state_dict_pre_hook(_as_it_is)


def _bits_of(part: nn.Module) -> int:
    """4 or 8 for a layer of bitsandbytes, else 0."""
    return {"Params4bit": 4, "Int8Params": 8}.get(type(getattr(part, "weight", None)).__name__, 0)


def _dequantized(part: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for key in [key for key in state if key.startswith(prefix) and key != f"{prefix}bias"]:
        del state[key]
    state[f"{prefix}weight"] = _plain(part)


@torch.no_grad()
def _plain(part: Any) -> Tensor:
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    return dequantize_bnb_weight(part.weight, part.state if _bits_of(part) == 8 else None).float().cpu()


def _as_it_is(part: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    state.pop(f"{prefix}weight", None)
