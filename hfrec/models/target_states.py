"""What a causal model knows before each of a user's targets, from as few passes as there can be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from hfrec.data.histories import Histories, Targets


def target_states(
    states_of: Callable[[Histories], Tensor], targets: Targets, indices: np.ndarray, max_history: int
) -> Tensor:
    """States `(B, D)` from which the targets at `indices` are predicted.

    A state knows no event after its own: one pass over a user's events gives what every one of them is predicted from.
    That holds as long as nothing is cut off. A target with more than `max_history` events before it is predicted from
    the newest of them, which are read as the model has learned to: from the first of them on, without a start token. It
    has a pass of its own.

    Args:
        states_of: the states `(B, L + 1, D)` after each token of histories, padded on the left.
    """
    users, positions = targets.users[indices], targets.positions[indices]
    whole = positions <= max_history
    shared, place = np.unique(users[whole], return_inverse=True)
    longest = np.zeros(len(shared), dtype=np.int64)
    np.maximum.at(longest, place, positions[whole])
    parts = []
    if len(shared):
        states = states_of(targets.sequences.spans(shared, np.zeros_like(longest), longest))
        # The last token has seen all of a user's events, the one before it one less.
        columns = states.shape[1] - 1 - (longest[place] - positions[whole])
        parts.append(states[torch.from_numpy(place), torch.from_numpy(columns)])
    if not whole.all():
        parts.append(states_of(targets.histories(indices[~whole]))[:, -1])
    order = np.argsort(np.concatenate([np.flatnonzero(whole), np.flatnonzero(~whole)]))
    return torch.cat(parts)[torch.from_numpy(order)]
