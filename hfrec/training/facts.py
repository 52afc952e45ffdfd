"""What a card says of a run beside its figures: the command, the data, the licences."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hfrec.items.table import ItemTable
from hfrec.model_card.fields import LICENCES

_SETTINGS = (
    "min_rating", "duplicates", "user_core", "item_core", "user_share", "candidates", "unknown_items",
    "max_text_tokens", "variants", "language", "language_columns", "texts", "detect_languages", "train_languages",
    "centre_languages",
)  # fmt: skip

MOVE_NO_FIGURE = frozenset(
    {
        "data.cache",
        "training.disable_tqdm",
        "training.output_dir",
        "training.resume_from_checkpoint",
    }
)
"""Fields that say where files of this machine lie and what is shown: nobody needs them to repeat a figure."""


def run_facts(data: Any, items: ItemTable, licence: str | None) -> dict[str, Any]:
    """What `results.json` says of the run, of its data and of the licences.

    Args:
        data: the `data` section.
        licence: of the trained weights.
    """
    settings = {name: getattr(data, name) for name in _SETTINGS}
    about = {
        "about": data.about,
        "licence": data.licence,
        "settings": {name: value for name, value in settings.items() if value and (name, value) != ("user_share", 1)},
        "coverage": items.coverage,
    }
    facts = {"command": command_line(sys.argv), "data": {name: value for name, value in about.items() if value}}
    return facts | ({"licence": licence_fields(licence)} if licence else {})


def licence_fields(licence: str) -> dict[str, str]:
    """How the Hub's metadata names a licence: by its own name for it, else as `other`."""
    return {"model": licence} if licence in LICENCES else {"model": "other", "name": licence}


def command_line(argv: Sequence[str], launcher: Sequence[str] = ("accelerate", "launch")) -> str:
    """The command of this process, as it is typed in the repository; `MOVE_NO_FIGURE` is left out.

    Args:
        launcher: what starts a script of `train/`.
    """
    script = Path(argv[0])
    given, left_out = [], False
    for argument in argv[1:]:
        if argument.startswith("--"):
            left_out = argument.split("=")[0].removeprefix("--") in MOVE_NO_FIGURE
        if not left_out:
            given.append(argument)
    if script.parent.name == "train" and script.suffix == ".py":
        return shlex.join([*launcher, f"train/{script.name}", *given])
    return shlex.join([script.stem if script.suffix in (".py", ".exe") else script.name, *given])
