"""The cards in `model_cards/`: one for each run that README shows, and nothing in them but what that run measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from hfrec.model_card import judged_part
from hfrec.training.card import check_card

ROOT = Path(__file__).parents[1]
CARDS = sorted((ROOT / "model_cards").glob("*.md"))
RUN = re.compile(r"# command: accelerate launch train/(train|update)\.py --config configs/(\w+)\.yaml")
OF_THE_USER = {"own_data"}
"""Its tables are the user's: there is no card of it before there are tables."""


def test_each_run_that_readme_shows_has_its_card() -> None:
    shown = set(re.findall(r"configs/(\w+)\.yaml", (ROOT / "README.md").read_text(encoding="utf-8")))
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "configs").glob("*.yaml")]
    runs = {found[2] for text in texts if (found := RUN.search(text))}
    assert {path.stem for path in CARDS} == (shown & runs) - OF_THE_USER


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_a_card_gives_back_every_result(path: Path) -> None:
    assert check_card(path) == path
    results = json.loads(path.with_name(f"{path.stem}.results.json").read_text(encoding="utf-8"))
    part = judged_part(results)
    found: dict[str, dict[str, float]] = {}
    for one in ModelCard.load(path).data.eval_results:
        assert one.dataset_type == results["dataset"]
        if one.dataset_split == part:
            found.setdefault(one.dataset_config, {})[one.metric_type] = one.metric_value
    measured, counts = results[part], ("users", "targets", "candidates")
    assert found == {
        slice: {name: value for name, value in figures.items() if name not in counts}
        for slice, figures in measured.items()
    }
    assert results["command"].endswith(f"configs/{path.stem}.yaml"), "a run of the file as it is"


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_the_pictures_of_a_card_are_there(path: Path) -> None:
    names = re.findall(r"!\[[^]]*\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    assert names and all((path.parent / name).is_file() for name in names)
