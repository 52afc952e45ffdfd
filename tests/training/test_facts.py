"""What a card says of a run beside its figures."""

from __future__ import annotations

import pytest

from hfrec.training.facts import command_line


@pytest.mark.parametrize(
    ("argv", "noted"),
    [
        (["/home/me/train/train.py", "--config", "a.yaml"], "accelerate launch train/train.py --config a.yaml"),
        (["/usr/bin/hfrec", "train", "--config", "a.yaml"], "hfrec train --config a.yaml"),
        (
            ["train/train.py", "--config", "a.yaml", "--data.cache", "/home/me/cache", "--training.loss", "bce"],
            "accelerate launch train/train.py --config a.yaml --training.loss bce",
        ),
        (
            ["train/train.py", "--training.output_dir=/home/me/x", "--model.memories", "[]", "--data.cache=/home/me"],
            "accelerate launch train/train.py --model.memories '[]'",
        ),
    ],
)
def test_a_command_is_noted_without_places_of_this_machine(argv: list[str], noted: str) -> None:
    assert command_line(argv) == noted
