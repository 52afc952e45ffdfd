"""A side network: it learns to read an encoder's layers, and the encoder stays as it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SideNetwork(nn.Module):
    """What is of use in the layers of an encoder, lowest first: each is weighed against what those below it gave.

    The decoupled side network of IISAN (Fu et al. 2024): a gate for each layer, and behind it a bottleneck with a way
    around it. Layers may be of different widths.

    Args:
        widths: of the layers, which a vector has one after the other.
        size: width of what comes out.
    """

    def __init__(self, widths: Sequence[int], size: int) -> None:
        super().__init__()
        self.widths = list(widths)
        self.read = nn.ModuleList(nn.Linear(width, size) for width in widths)
        self.keep = nn.Parameter(torch.zeros(len(self.widths)))
        narrow = max(1, size // 4)
        self.bottlenecks = nn.ModuleList(
            nn.Sequential(nn.Linear(size, narrow), nn.GELU(), nn.Linear(narrow, size)) for _ in widths
        )
        self.norm = nn.LayerNorm(size)

    def forward(self, layers: Tensor) -> Tensor:
        """Vectors `(…, size)` of stacked layers `(…, F)`."""
        state: Tensor | None = None
        share = torch.sigmoid(self.keep)
        parts = layers.split(self.widths, dim=-1)
        for place, (part, read, mix) in enumerate(zip(parts, self.read, self.bottlenecks, strict=True)):
            seen = read(part)
            state = seen if state is None else share[place] * state + (1 - share[place]) * seen
            state = state + mix(state)
        return self.norm(state)
