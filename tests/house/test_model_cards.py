"""Every run that the README names has its card in `model_cards/`, rendered by the command from figures beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from foundations import save_shop_and_foundation
from huggingface_hub import ModelCard

from hfrec.data.synthetic import Shop
from hfrec.model_card import FOLDER
from hfrec.training.card import check_card

ROOT = Path(__file__).parents[2]
CARDS = sorted((ROOT / "model_cards").glob("*.md"))
FOUNDATIONS = [path for path in CARDS if path.stem.startswith("foundation_")]
RUNS = [path for path in CARDS if path not in FOUNDATIONS]
COUNTS = {"users", "targets", "candidates"}
# What the README names for its readers to fill in: whoever runs it has other data.
TO_FILL_IN = {"own_data"}


def named_runs(readme: str) -> set[str]:
    """The configs that a README gives to a script that leaves a model, and that of `make demo`."""
    commands = re.sub(r"\\\n\s*", " ", readme)
    named = re.findall(r"train/(?:train|pretrain|adapt)\.py [^\n`]*?--config configs/(\w+)\.yaml", commands)
    return set(named) | ({"demo"} if "make demo" in readme else set())


def command_of(config: Path) -> str:
    """What the header of a config says that it is run by."""
    [command] = re.findall(r"^# command: (.*)$", config.read_text(encoding="utf-8"), re.MULTILINE)
    return str(command)


def missing_cards(readme: str, cards: set[str]) -> tuple[set[str], set[str]]:
    """Runs that a README names and that have no card; and cards of which it names no run."""
    named = named_runs(readme) - TO_FILL_IN
    return named - cards, cards - named


def test_each_named_run_has_a_card_and_each_card_a_run() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert named_runs(readme) > TO_FILL_IN, "no run was found in the README"
    assert missing_cards(readme, {path.stem for path in CARDS}) == (set(), set())


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_card_is_what_its_figures_give(path: Path) -> None:
    assert check_card(path) == path
    results = json.loads(path.with_name(f"{path.stem}.results.json").read_text(encoding="utf-8"))
    config = yaml.safe_load((ROOT / f"configs/{path.stem}.yaml").read_text(encoding="utf-8"))
    assert results["dataset"] == config["data"]["name"]
    command = command_of(ROOT / f"configs/{path.stem}.yaml")
    assert results["command"] == command, "it must be the run of the config, as it is"
    card = ModelCard.load(path)
    found = {
        (one.dataset_split, one.dataset_config, one.metric_type): one.metric_value for one in card.data.eval_results
    }
    for slice, of in results["test"].items():
        expected = {metric: value for metric, value in of.items() if metric not in COUNTS}
        assert {
            metric: value for (split, one, metric), value in found.items() if (split, one) == ("test", slice)
        } == expected
    assert found["validation", "all", "ndcg@10"] == results["chosen"]["validation ndcg@10"]
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", card.text)
    assert pictures and all((path.parent / name).is_file() for name in pictures)
    for said in ("## Data", "licence of the data", "## What it cost", "## Limits"):
        assert said in card.text
    assert card.data.license, "`training.licence` of the config says it"


@pytest.mark.parametrize("path", FOUNDATIONS, ids=lambda path: path.stem)
def test_the_card_of_a_foundation_is_what_its_figures_give(path: Path) -> None:
    assert check_card(path) == path
    results = json.loads(path.with_name(f"{path.stem}.results.json").read_text(encoding="utf-8"))
    config = yaml.safe_load((ROOT / f"configs/{path.stem}.yaml").read_text(encoding="utf-8"))
    assert list(results["test"]) == list(config["sources"])
    assert results["command"] == command_of(ROOT / f"configs/{path.stem}.yaml"), "it must be the run of the config"
    card = ModelCard.load(path)
    found = {
        (one.dataset_type, one.dataset_config, one.metric_type): one.metric_value for one in card.data.eval_results
    }
    assert found == {
        (source, way, metric): figures[metric]
        for source, ways in results["test"].items()
        for way, figures in ways.items()
        for metric in ("hr@10", "ndcg@10")
    }
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", card.text)
    assert pictures and all((path.parent / name).is_file() for name in pictures)
    assert card.data.license and card.text.count("licence of the data") == len(config["sources"])


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_the_readme_says_what_the_card_says(path: Path) -> None:
    results = json.loads(path.with_name(f"{path.stem}.results.json").read_text(encoding="utf-8"))
    ours = results["test"]["all"]
    row = f"| hfrec | {ours['hr@10']:.4f} / {ours['ndcg@10']:.4f} |"
    assert row in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_snippets_run_on_a_hub_of_our_own(client: Callable[..., Any], trained_folder: Path) -> None:
    code = {block for path in RUNS for block in re.findall(r"```python\n(.*?)```", path.read_text("utf-8"), re.DOTALL)}
    assert code and all(FOLDER in block for block in code)
    client('import sys, hfrec; hfrec.push_folder(sys.argv[1], "me/of-a-card"); print("{}")', trained_folder)
    for block in sorted(code):
        client(f'{block.replace(FOLDER, "me/of-a-card")}\nprint("{{}}")')


def test_the_snippet_of_foundations_reads_any_items(client: Callable[..., Any], shop: Shop, tmp_path: Path) -> None:
    save_shop_and_foundation(shop, tmp_path)
    name = "me/foundation"
    client('import sys, hfrec; hfrec.push_folder(sys.argv[1], sys.argv[2]); print("{}")', tmp_path / "foundation", name)
    texts = [path.read_text("utf-8") for path in FOUNDATIONS]
    [code] = {block for text in texts for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)}
    assert "items.parquet" in code and FOLDER in code
    code = code.replace(FOLDER, name).replace("items.parquet", str(tmp_path / "items.parquet"))
    *before, last = code.strip().splitlines()
    asked = f"print(json.dumps([one.item_id for one in {last.partition('  #')[0]}]))"
    said = client("\n".join([*before, "import json", asked]))
    assert len(set(said)) == 10


SAMPLE = """
`accelerate launch train/train.py --config configs/one.yaml` and
```sh
accelerate launch --config_file configs/accelerate/ddp.yaml \\
    train/train.py --config configs/two.yaml --training.use_cpu true
accelerate launch train/train.py --config configs/own_data.yaml --data.items x
accelerate launch train/update.py --config configs/update_demo.yaml
```
"""


def test_runs_are_found_in_a_readme() -> None:
    assert named_runs(SAMPLE) == {"one", "two", "own_data"}
    assert missing_cards(SAMPLE, {"two", "three"}) == ({"one"}, {"three"})
    assert named_runs("make demo") == {"demo"}
