"""What a decoder reads before a history: words of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def prompted(words: nn.Module, ids: Sequence[int], inputs: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs `(B, P + L, D)` and their mask, the P words between padding and history.

    Args:
        words: the decoder's word table.
        ids: P of its rows; of none, all stays as it is.
        inputs: vectors `(B, L, D)`, padded on the left.
        attention_mask: `(B, L)`, 0 for padding.
    """
    if not ids:
        return inputs, attention_mask
    before = words(torch.tensor(ids, device=inputs.device)).to(inputs.dtype)
    inputs = torch.cat([before.expand(len(inputs), -1, -1), inputs], dim=1)
    mask = nn.functional.pad(attention_mask, (len(ids), 0), value=1)
    order = mask.argsort(dim=1, stable=True)
    return inputs.gather(1, order.unsqueeze(-1).expand_as(inputs)), mask.gather(1, order)
