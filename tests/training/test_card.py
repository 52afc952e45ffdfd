"""A run's card: every figure of its results, a snippet that runs, and the same card written elsewhere."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from hfrec.model_card import FOLDER, metadata_problems
from hfrec.training.card import check_card, write_card

CONFIG = """
data: {{name: shop, interactions: {folder}/interactions.parquet, items: {folder}/items.parquet, duplicates: first,
  split: by_time, about: A made-up shop., licence: apache-2.0}}
model: {{hidden_size: 16, max_history: 10, num_layers: 1}}
training: {{output_dir: {out}, max_steps: 3, disable_tqdm: true, use_cpu: true, licence: my-own}}
"""


@pytest.fixture(scope="module")
def run(python: Callable, shop_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run of `train.py`."""
    place = tmp_path_factory.mktemp("run")
    (place / "run.yaml").write_text(CONFIG.format(folder=shop_folder, out=place / "out"), encoding="utf-8")
    ran = python("train/train.py", "--config", place / "run.yaml", ACCELERATE_USE_CPU="true")
    assert ran.returncode == 0, ran.stderr[-3000:]
    return place / "out"


def snippet(card: ModelCard) -> str:
    """The Python of a card."""
    (block,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    return block


def test_a_card_gives_back_every_figure_of_its_results(run: Path) -> None:
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    card = ModelCard.load(run / "README.md")
    found = {
        (one.dataset_split, one.dataset_config, one.metric_type): one.metric_value for one in card.data.eval_results
    }
    expected = {
        ("test", slice, metric): value
        for slice, of in results["test"].items()
        for metric, value in of.items()
        if metric not in ("users", "targets", "candidates")
    }
    expected["validation", "all", "ndcg@10"] = results["chosen"]["validation ndcg@10"]
    assert found == expected and len(found) == len(card.data.eval_results) > 30
    assert {(one.dataset_type, one.task_type) for one in card.data.eval_results} == {("shop", "recommendation")}
    assert metadata_problems((run / "README.md").read_text(encoding="utf-8")) == []


def test_it_says_where_the_data_are_from_what_it_cost_and_how_to_do_it_again(run: Path) -> None:
    card = ModelCard.load(run / "README.md")
    assert card.data.license == "other" and card.data.license_name == "my-own" and "ru" in card.data.language
    for said in (
        "* A made-up shop.\n",
        "* licence of the data: apache-2.0",
        f"* `accelerate launch train/train.py --config {run.parent}/run.yaml`",
        "## Limits",
        "It knows items by id alone",
        "seconds | peak memory, MiB",
        "| item kNN |",
    ):
        assert said in card.text, said
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", card.text)
    assert len(pictures) == 2 and all((run / name).is_file() for name in pictures)


def test_elsewhere_a_card_takes_its_pictures_and_figures_along(run: Path, tmp_path: Path) -> None:
    out = write_card(run, tmp_path / "cards" / "shop.md")
    assert {path.name for path in out.parent.iterdir()} == {
        "shop.md",
        "shop.results.json",
        "shop.slices.png",
        "shop.training_curve.png",
    }
    text = out.read_text(encoding="utf-8")
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert len(pictures) == 2 and all((out.parent / name).is_file() for name in pictures)
    assert check_card(out) == out
    out.write_text(text.replace("## Limits", "## No limits"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"shop\.md is not the card of shop\.results\.json\. Write it: hfrec card"):
        check_card(out)
    with pytest.raises(ValueError, match=r"must be a file that ends in \.md, got .*cards"):
        write_card(run, tmp_path / "cards")


PUSH = """
    import sys, hfrec
    commit = hfrec.push_folder(sys.argv[1], "me/carded")
    print("{}")
"""
FOLLOW = """
    import json, sys
    from huggingface_hub import ModelCard
    code = sys.argv[1] or ModelCard.load("me/carded").text.split("```python")[1].split("```")[0]
    lines = code.strip().splitlines()
    exec("\\n".join([*lines[:-1], "found = " + lines[-1]]))
    print(json.dumps(found))
"""


def test_its_snippet_runs_where_it_was_pushed(run: Path, client: Callable[..., Any], tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    client(PUSH, folder)
    pushed = client(FOLLOW, "")
    assert len(pushed) == 10 and all(len(one) == 3 for one in pushed)
    local = snippet(ModelCard.load(run / "README.md"))
    assert FOLDER in local, "a card that was not pushed says that its folder is to be filled in"
    assert client(FOLLOW, local.replace(FOLDER, "me/carded")) == pushed


CHANGE = """
    import json, sys, hfrec
    shop = hfrec.Recommender.from_pretrained("me/carded")
    shop.push_to_hub("me/the-same")
    shop.model.push_to_hub("me/the-same-in-shards", max_shard_size="20KB")
    shop.model.start.data += 1
    shop.push_to_hub("me/another")
    print("{}")
"""


def test_a_model_that_was_changed_does_not_go_under_the_card_of_the_one_before(
    run: Path, client: Callable[..., Any], hub: Any
) -> None:
    client(PUSH, run)
    client(CHANGE)
    cards = {
        name: hub.repositories["models", f"me/{name}"].files()["README.md"].content.decode()
        for name in ("the-same", "the-same-in-shards", "another")
    }
    for name in ("the-same", "the-same-in-shards"):
        assert "model-index" in cards[name] and f'from_pretrained("me/{name}")' in cards[name]
    assert "No measurements came with it" in cards["another"] and 'from_pretrained("me/another")' in cards["another"]
    assert "results.json" not in hub.repositories["models", "me/another"].files()
