"""A training whose loss or weights are no longer finite is stopped, and nothing of it is saved."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from hfrec.training.checkpoints import checkpoints

_NEVER = torch.iinfo(torch.int64).max


class LossWatch:
    """Knows the first step whose loss was not finite.

    The step is noted on the loss's device: to look at every loss from Python would make a GPU wait at every step.
    """

    def __init__(self) -> None:
        self._first: Tensor | None = None

    def see(self, loss: Tensor, step: int) -> None:
        """Note whether the loss of `step` is finite, without waiting for it."""
        if self._first is None:
            self._first = torch.full((), _NEVER, device=loss.device)
        self._first = torch.where(torch.isfinite(loss).all(), self._first, self._first.clamp(max=step))

    @property
    def first_step(self) -> int | None:
        """The first step whose loss was not finite; waits for the device."""
        first = _NEVER if self._first is None else int(self._first)
        return None if first == _NEVER else first


def nonfinite_weight(model: nn.Module) -> str | None:
    """The name of a weight of `model` with a value that is not finite."""
    weights = [(name, weight) for name, weight in model.named_parameters() if weight.is_floating_point()]
    # One answer for all of them: a device is waited for once, not once a weight.
    if not weights or bool(torch.stack([torch.isfinite(weight).all() for _, weight in weights]).all()):
        return None
    return next(name for name, weight in weights if not bool(torch.isfinite(weight).all()))


def divergence(what: str, output_dir: str | Path, learning_rate: float) -> FloatingPointError:
    """The error that says `what` happened, which checkpoint is the last good one, and what to do."""
    good = [str(path) for path in checkpoints(output_dir)][-1:]
    lower = f"`--training.learning_rate {learning_rate / 3:.1g}`"
    then = (
        f"The last good checkpoint is {good[0]}: go on from it with a lower learning rate, {lower} "
        f"`--training.resume_from_checkpoint {good[0]}`, or start over with one."
        if good
        else f"No checkpoint had been written: start over with a lower learning rate, {lower}."
    )
    return FloatingPointError(f"{what} at a learning rate of {learning_rate:g}; training stopped. {then}")
