"""The README's walk through "your own data": its commands, as they stand there, on tables that a user may have."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import datasets
import polars as pl
import pytest

import hfrec
from hfrec.data.synthetic import Shop

ROOT = Path(__file__).parents[2]
SECTION = re.compile(r"^## Your own data$.*?^```sh$\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = {
    "accelerate": [sys.executable, "-m", "accelerate.commands.accelerate_cli"],
    "hfrec": [sys.executable, "-c", "from hfrec.cli import main; main()"],
}


def commands() -> list[list[str]]:
    """The section's commands, each as its words."""
    found = SECTION.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert found, "the README has no commands under `## Your own data`"
    return [shlex.split(line) for line in found[1].replace("\\\n", " ").splitlines()]


FORMATS: dict[str, tuple[str, Callable[[pl.DataFrame, Path], object]]] = {
    "Parquet": (".parquet", pl.DataFrame.write_parquet),
    "CSV": (".csv", pl.DataFrame.write_csv),
    "JSON lines": (".jsonl", pl.DataFrame.write_ndjson),
    "datasets": ("", lambda frame, path: datasets.Dataset.from_polars(frame).save_to_disk(path)),
}


@pytest.fixture(scope="module")
def small_shop() -> Shop:
    return hfrec.make_shop(seed=2, num_items=60, num_users=80)


@pytest.fixture
def tables(small_shop: Shop) -> dict[str, pl.DataFrame]:
    """What a user has: columns under names of their own, ids that are strings, datetimes."""
    at = pl.from_epoch("timestamp").dt.replace_time_zone("UTC")
    events = small_shop.interactions.unique(["user_id", "item_id"], keep="first", maintain_order=True)
    return {
        "events.csv": events.select(pl.col("user_id").alias("visitor"), pl.col("item_id").alias("sku"), at.alias("at")),
        "items.jsonl": small_shop.items.select(
            pl.col("item_id").alias("sku"), pl.col("title").alias("name"), "description", "language"
        ),
    }


@pytest.mark.parametrize("kind", FORMATS)
def test_two_files_of_a_user_become_a_recommender(
    kind: str, tables: dict[str, pl.DataFrame], small_shop: Shop, tmp_path: Path
) -> None:
    suffix, write = FORMATS[kind]
    places = {"runs/my-shop": str(tmp_path / "my-shop")}
    for name, frame in tables.items():
        path = tmp_path / (name.partition(".")[0] + suffix)
        write(frame, path)
        places[name] = str(path)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copytree(ROOT / "train", tmp_path / "train")

    train, recommend = commands()
    assert set(places) <= {*train, *recommend}, "the walk names the two files and the folder"
    if kind != "CSV":
        # One kind trains to the end; of the others it is the reading that differs.
        train = [*train, "--training.max_steps", "3"]
    printed = ""
    for program, *words in (train, recommend):
        ran = subprocess.run(
            [*PROGRAMS[program], *(places.get(word, word) for word in words)],
            cwd=tmp_path,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=250,
        )
        assert ran.returncode == 0, ran.stderr[-3000:]
        printed = ran.stdout

    found = re.findall(r"^ +\d\.  (\S+)  (.*)  \(", printed, re.MULTILINE)
    names = dict(small_shop.items.select("item_id", "title").rows())
    assert len(found) == 5 and all(names[item_id] == name for item_id, name in found)
    assert (tmp_path / "my-shop/README.md").is_file() and "sku-0001" not in dict(found)
