"""What a card says of a run beside its figures."""

from __future__ import annotations

import pytest

from hfrec.training.facts import command_line


@pytest.mark.parametrize(
    ("argv", "noted"),
    [
        (["somewhere/train/train.py", "--config", "a.yaml"], "accelerate launch train/train.py --config a.yaml"),
        (["somewhere/bin/hfrec", "train", "--config", "a.yaml"], "hfrec train --config a.yaml"),
        (
            ["train/train.py", "--config", "a.yaml", "--data.cache", "my/cache", "--training.loss", "bce"],
            "accelerate launch train/train.py --config a.yaml --training.loss bce",
        ),
        (
            ["train/train.py", "--training.output_dir=my/runs", "--model.memories", "[]", "--data.cache=my/cache"],
            "accelerate launch train/train.py --model.memories '[]'",
        ),
    ],
)
def test_a_command_is_noted_without_places_of_this_machine(argv: list[str], noted: str) -> None:
    assert command_line(argv) == noted
