"""The command line, as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from hfrec import cli
from hfrec.data.catalog import Catalog
from hfrec.data.histories import Histories
from hfrec.data.interactions import load_interactions
from hfrec.data.synthetic import Shop
from hfrec.items.table import ItemTable
from hfrec.models.artifact import load_catalog, write_documents
from hfrec.models.neighbours import VectorNeighbours
from hfrec.models.popularity import Popularity
from hfrec.recommend.recommender import Recommender


def hfrec_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from hfrec.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)


def test_recommend_for_users_of_a_log_with_a_sheet(trained_folder: Path, shop: Shop, tmp_path: Path) -> None:
    shop.interactions.write_parquet(tmp_path / "log.parquet")
    sheet = tmp_path / "sheet.png"
    log = str(tmp_path / "log.parquet")
    ran = hfrec_command(
        "recommend", "--model", str(trained_folder), "--sample-users", "2", "--interactions", log, "--sheet", str(sheet)
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("\nuser ") == 2 and ran.stdout.count("  1. ") == 2 and sheet.stat().st_size > 1000


def test_recommend_many_into_parquet(trained_folder: Path, shop: Shop, tmp_path: Path) -> None:
    item_id = shop.items["item_id"][0]
    (tmp_path / "h.jsonl").write_text(f'{{"user_id": 7, "item_ids": ["{item_id}"]}}\n', encoding="utf-8")
    out = str(tmp_path / "lists.parquet")
    ran = hfrec_command(
        "recommend", "--model", str(trained_folder), "--histories", str(tmp_path / "h.jsonl"), "--out", out, "--k", "4"
    )
    assert ran.returncode == 0, ran.stderr
    assert pl.read_parquet(out)["rank"].to_list() == [1, 2, 3, 4]


def test_similar_items(trained_folder: Path, shop: Shop) -> None:
    ran = hfrec_command("similar", "--model", str(trained_folder), "--item", shop.items["item_id"][3], "--k", "3")
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.strip().splitlines()) == 3


def test_an_error_is_one_line_and_status_2(tmp_path: Path) -> None:
    ran = hfrec_command("recommend", "--model", str(tmp_path), "--history", "a")
    assert ran.returncode == 2 and "manifest.json is missing" in ran.stderr and "Traceback" not in ran.stderr


@pytest.fixture(scope="module")
def folder(shop_items: ItemTable, train: Histories, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recommender")
    VectorNeighbours.fit(train, shop_items).save_pretrained(path)
    return path


@pytest.fixture
def hfrec(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs the command; gives exit status, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["hfrec", *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_recommend_for_one_history(hfrec, folder: Path) -> None:
    recommender = Recommender.from_pretrained(folder)
    status, printed, errors = hfrec("recommend", "--model", folder, "--history", "sku-0003,sku-0007", "--k", 4)
    assert (status, errors) == (0, "")
    lines = printed.split("\n")
    found = recommender.recommend(["sku-0003", "sku-0007"], k=4)
    assert [one.item_id for one in found] == [line.split()[1] for line in lines if line.strip()[:1].isdigit()]
    assert all(one.title in printed for one in found if one.title)
    assert [line.split()[1] for line in lines if "took" in line] == ["sku-0003", "sku-0007"]


@pytest.mark.filterwarnings("default")
def test_recommend_says_what_it_dropped(hfrec, folder: Path) -> None:
    status, _, errors = hfrec("recommend", "--model", folder, "--history", "nowhere,sku-0007", "--k", 2)
    assert status == 0
    assert errors.startswith("hfrec: warning: 1 items") and errors.count("\n") == 1


def test_recommend_by_filter(hfrec, folder: Path) -> None:
    kitchen = load_catalog(folder / "catalog").frame.filter(pl.col("category") == "kitchen")["item_id"].to_list()
    command = ("recommend", "--model", folder, "--history", "sku-0003", "--k", 3, "--filter")
    status, printed, _ = hfrec(*command, "category = 'kitchen'")
    found = [line.split()[1] for line in printed.split("\n") if line.strip()[:1].isdigit()]
    assert status == 0 and len(found) == 3 and set(found) <= set(kitchen)
    for condition, named in (("category =", "`--filter`"), ("colour = 'red'", "'category'")):
        status, _, errors = hfrec(*command, condition)
        assert status == 2 and named in errors and errors.count("\n") == 1


def test_recommend_for_many(hfrec, folder: Path, tmp_path: Path) -> None:
    rows = [{"user_id": user, "item_ids": ["sku-0003"][:user]} for user in range(3)]
    (tmp_path / "h.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    command = ("recommend", "--model", folder, "--histories", tmp_path / "h.jsonl", "--k", 2)
    status, printed, _ = hfrec(*command, "--out", tmp_path / "lists.parquet")
    assert status == 0 and "users 3, empty 1" in printed
    lists = pl.read_parquet(tmp_path / "lists.parquet")
    assert lists["user_id"].to_list() == [0, 0, 1, 1, 2, 2]
    status, _, errors = hfrec(*command)
    assert status == 2 and "needs `--out`" in errors


def test_recommend_for_sampled_users_with_a_sheet(hfrec, folder: Path, shop_folder: Path, tmp_path: Path) -> None:
    log = shop_folder / "interactions.parquet"
    command = ("recommend", "--model", folder, "--interactions", log, "--images", shop_folder, "--k", 5)
    sheet = tmp_path / "sheet.png"
    status, printed, errors = hfrec(*command, "--sample-users", 2, "--sheet", sheet)
    assert (status, errors) == (0, "")
    assert str(sheet) in printed
    with Image.open(sheet) as drawn:
        assert drawn.height > 4 * 128
    events = load_interactions(log)
    users = [line.removeprefix("user ") for line in printed.split("\n") if line.startswith("user ")]
    assert len(users) == 2
    assert all(events.filter(pl.col("user_id") == user).height >= 5 for user in users)
    assert hfrec(*command, "--sample-users", 2)[1].split("\n")[1] == printed.split("\n")[1], "the seed decides"
    status, _, errors = hfrec(*command, "--sample-users", 100_000)
    assert status == 2 and "got 100000" in errors


def test_integer_ids_are_read_as_integers(hfrec, tmp_path: Path) -> None:
    catalog = Catalog.from_frame([{"item_id": number, "title": f"Item {number}"} for number in range(1, 9)])
    items = ItemTable(catalog, {}, {}, {}, {}, {})
    Popularity.fit(Histories.from_rows([[1, 1, 2, 3]]), items).save_pretrained(tmp_path)
    status, printed, errors = hfrec("recommend", "--model", tmp_path, "--history", "2,5", "--k", 1)
    assert (status, errors) == (0, "") and "1.  1  Item 1" in printed


def test_similar(hfrec, folder: Path, shop_folder: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "similar.png"
    status, printed, _ = hfrec(
        "similar", "--model", folder, "--item", "sku-0005", "--k", 3, "--images", shop_folder, "--sheet", sheet
    )
    found = Recommender.from_pretrained(folder).similar_items("sku-0005", k=3)
    assert status == 0 and sheet.exists()
    assert [line.split()[1] for line in printed.split("\n") if line.strip()[:1].isdigit()] == [
        one.item_id for one in found
    ]


def test_encode_writes_catalogue_and_vectors(hfrec, shop_folder: Path, shop_items: ItemTable, tmp_path: Path) -> None:
    out, cache = tmp_path / "out", tmp_path / "cache"
    command = ("encode", "--items", shop_folder / "items.parquet", "--image-encoder", shop_items.made_by.names["image"])
    status, printed, _ = hfrec(*command, "--cache", cache, "--out", out)
    assert status == 0 and "encoded" in printed
    table = ItemTable.load(out, load_catalog(out))
    assert table.modalities == ("image",)
    assert (table.vectors["image"] - shop_items.vectors["image"]).abs().max() < 1e-2
    assert "image: 0 encoded" in hfrec(*command, "--cache", cache, "--out", out)[1]
    status, _, errors = hfrec("encode", "--items", shop_folder / "items.parquet", "--out", out)
    assert status == 2 and "needs an encoder" in errors


def test_evaluate_judges_a_saved_baseline(hfrec, folder: Path, shop_folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        f"""
data:
  name: shop
  interactions: {shop_folder}/interactions.parquet
  items: {shop_folder}/items.parquet
  split: leave_last
training:
  output_dir: {tmp_path}/out
""",
        encoding="utf-8",
    )
    status, printed, errors = hfrec("evaluate", "--model", folder, "--config", config, "--data.duplicates", "first")
    assert status == 0, errors
    assert "all" in printed and str(folder) in printed
    status, _, errors = hfrec("evaluate", "--model", folder, "--config", config, "--data.dublicates", "first")
    assert status == 2 and "dublicates" in errors


RESULTS = {
    "dataset": "shop",
    "split": "by_time",
    "protocol": {},
    "candidates": 120,
    "test": {"all": {"hr@10": 0.2, "ndcg@10": 0.1, "users": 7}},
    "baselines": {"popularity": {"all": {"hr@10": 0.1, "ndcg@10": 0.05, "users": 7}}},
    "intervals": {},
    "seconds": {"encode": 1.0, "train": 2.0, "evaluate": 1.0},
    "environment": {"python": "3.12"},
    "chosen": {},
    "model": {
        "model_type": "hfrec", "backbone": "gpt2", "parameters": 10, "modalities": {"text": 4},
        "encoders": {}, "languages": ["en"], "loss": "x", "seed": 0, "epochs": 1.0,
    },
}  # fmt: skip


def test_card_is_written_from_the_results_and_checked(hfrec, train, shop_items, tmp_path: Path) -> None:
    Popularity.fit(train, shop_items).save_pretrained(tmp_path)
    status, _, errors = hfrec("card", "--model", tmp_path)
    assert status == 2 and "results.json" in errors
    write_documents(tmp_path, {"results.json": json.dumps(RESULTS)})
    assert hfrec("card", "--model", tmp_path, "--check")[0] == 2, "there is no card yet"
    assert not (tmp_path / "README.md").exists()
    status, printed, errors = hfrec("card", "--model", tmp_path)
    assert status == 0, errors
    assert str(tmp_path / "README.md") in printed and "0.1" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert hfrec("card", "--model", tmp_path, "--check")[0] == 0
    Recommender.from_pretrained(tmp_path)


def test_an_error_is_one_line_and_debug_shows_it_all(hfrec, folder: Path, tmp_path: Path) -> None:
    command = ("recommend", "--model", tmp_path, "--history", "a")
    status, printed, errors = hfrec(*command)
    assert (status, printed) == (2, "")
    assert errors.startswith("hfrec: error: ") and errors.count("\n") == 1 and "manifest.json" in errors
    with pytest.raises(ValueError, match=r"manifest\.json"):
        hfrec("--debug", *command)
    status, _, errors = hfrec("recommend", "--model", folder, "--history", "sku-0003", "--k", 900)
    assert status == 2 and "got 900" in errors


@pytest.mark.parametrize("arguments", [[], ["recomend"], ["recommend", "--history", "a"], ["similar", "--model", "x"]])
def test_a_command_that_is_none_exits_with_2(hfrec, arguments: list[str]) -> None:
    status, _, errors = hfrec(*arguments)
    assert status == 2 and "usage: hfrec" in errors
