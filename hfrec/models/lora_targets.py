"""Which layers a LoRA on the sequence Transformer is for, whatever decoder it is; and such a LoRA."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from peft import LoraConfig

BACKBONE_ADAPTER = "backbone"
"""What the adapter of `lora_rank` is called."""
_OF_ITEMS = r"item_tower\.((projections|gates)\.\w+|units\.\w+\.[02])"
_ROUTERS = {"gate", "router", "shared_expert_gate"}
"""Linear layers that choose an expert: what an adapter learns there is undone by the next choice."""


def lora_targets(model: Any) -> str:
    """The linear layers of attention and MLP in each layer of `model.backbone`, as a pattern for `LoraConfig`.

    Full paths of the backbone: no layer of ours is meant, nor one of another name that ends alike. Layers that an
    adapter is on already count as what they were.

    Example:
        >>> from hfrec import RecConfig, RecModel
        >>> lora_targets(RecModel(RecConfig(hidden_size=8, num_heads=1)))
        'backbone\\\\.h\\\\.\\\\d+\\\\.(attn\\\\.(c_attn|c_proj)|mlp\\\\.(c_fc|c_proj))'

    Raises:
        ValueError: the backbone has none.
    """
    return linear_targets(model.backbone, "backbone", "A backbone")


def linear_targets(module: nn.Module, prefix: str, called: str) -> str:
    """The linear layers in the numbered parts of `module`, as a pattern of full paths that begin with `prefix`.

    Raises:
        ValueError: it, which is `called` so, has none.
    """
    from transformers.pytorch_utils import Conv1D

    found: dict[str, dict[str, set[str]]] = {}
    wrapped: tuple[str, ...] = ()
    for name, part in module.named_modules(prefix=prefix):
        if name.startswith(wrapped or ("\0",)):
            continue
        if hasattr(part, "get_base_layer"):
            wrapped, part = (*wrapped, f"{name}."), part.get_base_layer()
        *way, last = name.split(".")
        numbers = [place for place, one in enumerate(way) if one.isdigit()]
        if not isinstance(part, nn.Linear | Conv1D) or not numbers or last in _ROUTERS:
            continue
        # The number of an expert, further in, stands for all of them, too.
        layer, inside = way[: numbers[0] + 1], way[numbers[0] + 1 :]
        found.setdefault(_pattern(layer), {}).setdefault(_pattern(inside), set()).add(re.escape(last))
    if not found:
        raise ValueError(
            f"{called} must have linear layers that an adapter can be on, this {type(module).__name__} has none."
        )
    return _any_of(
        f"{layer}\\.{_any_of(_joined(part, _any_of(names)) for part, names in parts.items())}"
        for layer, parts in found.items()
    )


def lora_of(model: Any, rank: int, alpha: float, dropout: float = 0.0, item_rank: int = 0) -> LoraConfig:
    """A LoRA on the `lora_targets` of `model`, to be given to `add_adapter`.

    Args:
        alpha: what it adds is multiplied by `alpha / rank`, everywhere.
        dropout: of what it reads.
        item_rank: above 0, it is on the projections and gates of items, too, with this rank.
    """
    from peft import LoraConfig

    targets, ranks = lora_targets(model), {}
    if item_rank:
        targets, ranks = f"({targets}|{_OF_ITEMS})", {_OF_ITEMS: item_rank}
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets,
        rank_pattern=ranks,
        alpha_pattern={name: alpha * one / rank for name, one in ranks.items()},
    )


def learn_by_lora(model: Any, rank: int) -> None:
    """Let the backbone learn through a LoRA of `rank` alone; what is not of the backbone learns as before."""
    learning = [
        weight for name, weight in model.named_parameters() if weight.requires_grad and not name.startswith("backbone.")
    ]
    model.add_adapter(lora_of(model, rank, 2 * rank), BACKBONE_ADAPTER)
    for weight in learning:
        weight.requires_grad_(True)
    model.config.active_adapters = [BACKBONE_ADAPTER]


def _pattern(parts: list[str]) -> str:
    return r"\.".join(r"\d+" if one.isdigit() else re.escape(one) for one in parts)


def _joined(part: str, name: str) -> str:
    return f"{part}\\.{name}" if part else name


def _any_of(patterns: Any) -> str:
    one, *more = sorted(set(patterns))
    return f"({'|'.join([one, *more])})" if more else one
