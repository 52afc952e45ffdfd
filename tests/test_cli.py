"""The command line, as a user types it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from huggingface_hub import ModelCard
from PIL import Image

from hfrec import cli
from hfrec.data.catalog import Catalog
from hfrec.data.histories import Histories
from hfrec.data.interactions import load_interactions
from hfrec.items.table import ItemTable
from hfrec.models.artifact import load_catalog, write_documents
from hfrec.models.neighbours import VectorNeighbours
from hfrec.models.popularity import Popularity
from hfrec.recommend.recommender import Recommender

ROOT = Path(__file__).parents[1]
Run = Callable[..., tuple[int, str, str]]
FRENCH = pl.col("language") == "fr"


@pytest.fixture(scope="module")
def folder(shop_items: ItemTable, train: Histories, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recommender")
    VectorNeighbours.fit(train, shop_items).save_pretrained(path)
    return path


@pytest.fixture
def hfrec(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command; gives exit status, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            cli.main([str(argument) for argument in arguments])
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_recommend_for_one_history(hfrec: Run, folder: Path) -> None:
    recommender = Recommender.from_pretrained(folder)
    status, printed, errors = hfrec("recommend", "--model", folder, "--history", "sku-0003,sku-0007", "--k", 4)
    assert (status, errors) == (0, "")
    lines = printed.split("\n")
    found = recommender.recommend(["sku-0003", "sku-0007"], k=4)
    assert [one.item_id for one in found] == [line.split()[1] for line in lines if line.strip()[:1].isdigit()]
    assert all(one.title in printed for one in found if one.title)
    assert [line.split()[1] for line in lines if "took" in line] == ["sku-0003", "sku-0007"]


@pytest.mark.filterwarnings("default")
def test_recommend_says_what_it_dropped(hfrec: Run, folder: Path) -> None:
    status, _, errors = hfrec("recommend", "--model", folder, "--history", "nowhere,sku-0007", "--k", 2)
    assert status == 0
    assert errors.startswith("hfrec: warning: 1 items") and errors.count("\n") == 1


def test_recommend_by_filter(hfrec: Run, folder: Path) -> None:
    kitchen = load_catalog(folder / "catalog").frame.filter(pl.col("category") == "kitchen")["item_id"].to_list()
    command = ("recommend", "--model", folder, "--history", "sku-0003", "--k", 3, "--filter")
    status, printed, _ = hfrec(*command, "category = 'kitchen'")
    found = [line.split()[1] for line in printed.split("\n") if line.strip()[:1].isdigit()]
    assert status == 0 and len(found) == 3 and set(found) <= set(kitchen)
    for condition, named in (("category =", "`--filter`"), ("colour = 'red'", "'category'")):
        status, _, errors = hfrec(*command, condition)
        assert status == 2 and named in errors and errors.count("\n") == 1


def test_recommend_from_candidates(hfrec: Run, folder: Path) -> None:
    command = ("recommend", "--model", folder, "--history", "sku-0003", "--k", 2, "--candidates")
    status, printed, errors = hfrec(*command, "sku-0009,sku-0010,sku-0003")
    assert (status, errors) == (0, "")
    assert sorted(line.split()[1] for line in printed.split("\n") if line.strip()[:1].isdigit()) == [
        "sku-0009",
        "sku-0010",
    ]


def test_impressions_are_no_history(hfrec: Run, folder: Path, tmp_path: Path) -> None:
    clicked = [f"sku-{number:04d}" for number in range(1, 7)]
    log = [{"user_id": 1, "item_id": item_id, "event_type": "click"} for item_id in clicked]
    log.insert(3, {"user_id": 1, "item_id": "sku-0050", "event_type": "impression"})
    pl.DataFrame(log).write_parquet(tmp_path / "log.parquet")
    command = ("--sample-users", 1, "--interactions", tmp_path / "log.parquet", "--k", 20)
    status, printed, errors = hfrec("recommend", "--model", folder, *command)
    assert (status, errors) == (0, "")
    assert [line.split()[1] for line in printed.split("\n") if "took" in line] == clicked


def test_recommend_for_many(hfrec: Run, folder: Path, tmp_path: Path) -> None:
    rows = [{"user_id": user, "item_ids": ["sku-0003"][:user]} for user in range(3)]
    (tmp_path / "h.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    command = ("recommend", "--model", folder, "--histories", tmp_path / "h.jsonl", "--k", 2)
    status, printed, _ = hfrec(*command, "--out", tmp_path / "lists.parquet")
    assert status == 0 and "users 3, empty 1" in printed
    lists = pl.read_parquet(tmp_path / "lists.parquet")
    assert lists["user_id"].to_list() == [0, 0, 1, 1, 2, 2]
    status, _, errors = hfrec(*command)
    assert status == 2 and "needs `--out`" in errors


def test_recommend_for_sampled_users_with_a_sheet(hfrec: Run, folder: Path, shop_folder: Path, tmp_path: Path) -> None:
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
    # The whole history is read and hidden, though no more of it is shown than of the list.
    recommender = Recommender.from_pretrained(folder)
    for user, part in zip(users, printed.split("\nuser ")[1:], strict=True):
        history = events.filter(pl.col("user_id") == user).unique("item_id", keep="first", maintain_order=True)
        found = [line.split()[1] for line in part.split("\n") if line.strip()[:1].isdigit()]
        assert found == [one.item_id for one in recommender.recommend(history["item_id"].to_list(), k=5)]
        assert part.count("took") == 5
    assert all(events.filter(pl.col("user_id") == user).height >= 5 for user in users)
    assert hfrec(*command, "--sample-users", 2)[1].split("\n")[1] == printed.split("\n")[1], "the seed decides"
    status, _, errors = hfrec(*command, "--sample-users", 100_000)
    assert status == 2 and "got 100000" in errors


def test_integer_ids_are_read_as_integers(hfrec: Run, tmp_path: Path) -> None:
    catalog = Catalog.from_frame([{"item_id": number, "title": f"Item {number}"} for number in range(1, 9)])
    items = ItemTable.of_ids(catalog)
    Popularity.fit(Histories.from_rows([[1, 1, 2, 3]]), items).save_pretrained(tmp_path)
    status, printed, errors = hfrec("recommend", "--model", tmp_path, "--history", "2,5", "--k", 1)
    assert (status, errors) == (0, "") and "1.  1  Item 1" in printed


def test_similar(hfrec: Run, folder: Path, shop_folder: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "similar.png"
    status, printed, _ = hfrec(
        "similar", "--model", folder, "--item", "sku-0005", "--k", 3, "--images", shop_folder, "--sheet", sheet
    )
    found = Recommender.from_pretrained(folder).similar_items("sku-0005", k=3)
    assert status == 0 and sheet.exists()
    assert [line.split()[1] for line in printed.split("\n") if line.strip()[:1].isdigit()] == [
        one.item_id for one in found
    ]


def test_search_by_words_and_by_picture(hfrec: Run, trained_folder: Path, shop_folder: Path, tmp_path: Path) -> None:
    recommender, sheet = Recommender.from_pretrained(trained_folder), tmp_path / "found.png"
    command = ("search", "--model", trained_folder, "--k", 3, "--sheet", sheet, "--images", shop_folder)
    picture = sorted((shop_folder / "images").iterdir())[0]
    for asked, expected in (
        (("--text", "a red mug"), recommender.search("a red mug", k=3)),
        (("--image", picture), recommender.search(image=picture, k=3)),
        (("--text", "a mug", "--filter", "language = 'fr'"), recommender.search("a mug", k=3, filter=FRENCH)),
    ):
        status, printed, _ = hfrec(*command, *asked)
        found = [line.split()[1] for line in printed.split("\n") if line.strip()[:1].isdigit()]
        assert status == 0 and found == [one.item_id for one in expected]
        with Image.open(sheet) as drawn:
            assert str(sheet) in printed and drawn.width > 3 * 128
        sheet.unlink()


def test_a_query_steers_what_is_recommended(hfrec: Run, trained_folder: Path) -> None:
    recommender = Recommender.from_pretrained(trained_folder)
    command = ("recommend", "--model", trained_folder, "--history", "sku-0003,sku-0007", "--k", 4)
    status, printed, _ = hfrec(*command, "--query", "a red mug", "--query-weight", 5)
    expected = recommender.recommend(["sku-0003", "sku-0007"], k=4, query="a red mug", query_weight=5)
    assert status == 0 and [one.item_id for one in expected] == [
        line.split()[1] for line in printed.split("\n") if line.strip()[:1].isdigit()
    ]
    assert [one.item_id for one in expected] != [one.item_id for one in recommender.recommend(["sku-0003"], k=4)]


def test_encode_writes_catalogue_and_vectors(
    hfrec: Run, shop_folder: Path, shop_items: ItemTable, tmp_path: Path
) -> None:
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


CONFIG = """
data:
  name: shop
  interactions: {shop}/interactions.parquet
  items: {shop}/items.parquet
  duplicates: first
  split: by_time
  text_encoder: {encoder}
  image_encoder: {encoder}
model: {{hidden_size: 16, max_history: 10, num_layers: 1}}
training: {{output_dir: {out}, max_steps: 3, disable_tqdm: true, use_cpu: true, align: true}}
"""


@pytest.fixture(scope="module")
def config(shop_folder: Path, shop_items: ItemTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run.yaml"
    encoder = shop_items.made_by.names["image"]
    path.write_text(CONFIG.format(shop=shop_folder, encoder=encoder, out=path.parent / "out"), encoding="utf-8")
    return path


def row_of(name: object, figures: dict[str, dict[str, float]]) -> str:
    cells = [f"{of['hr@10']:.4f} / {of['ndcg@10']:.4f}" for of in figures.values()]
    return f"| {name} | {' | '.join(cells)} |"


def test_a_run_is_judged_again_with_equal_figures(
    hfrec: Run, config: Path, train: Histories, shop_items: ItemTable, tmp_path: Path
) -> None:
    status, printed, errors = hfrec("train", "--config", config)
    assert status == 0, errors
    out = config.parent / "out"
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert row_of("hfrec", results["test"]) in printed.replace("**", "")
    for shares in results["modalities"].values():
        assert abs(sum(shares.values()) - 1) < 1e-9 and shares["text + image"] > 0.3
    assert Recommender.from_pretrained(out).model.projector is not None, "`training.align` asked for it"

    command = ("--config", config, "--model")
    status, printed, errors = hfrec("evaluate", *command, out)
    assert status == 0, errors
    assert row_of(out, results["test"]) in printed
    Popularity.fit(train, shop_items).save_pretrained(tmp_path)
    assert row_of(tmp_path, results["baselines"]["popularity"]) in hfrec("evaluate", *command, tmp_path)[1]

    card = (out / "README.md").read_text(encoding="utf-8")
    assert "known of the items that were to be found: text + image" in card
    assert hfrec("card", "--model", out, "--check")[0] == 0
    (out / "README.md").write_text(card.replace("hfrec on shop", "my own words"), encoding="utf-8")
    status, _, errors = hfrec("card", "--model", out, "--check")
    assert status == 2 and "is not the card of results.json" in errors and errors.count("\n") == 1
    assert hfrec("card", "--model", out)[:2] == (0, f"{out / 'README.md'}\n")
    data = ModelCard.load(out / "README.md").data
    assert data.library_name == "hfrec" and data.language == results["model"]["languages"]
    assert {one.dataset_config for one in data.eval_results} == set(results["test"])


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


def test_card_is_written_from_the_results_and_checked(hfrec: Run, train, shop_items, tmp_path: Path) -> None:
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
    (tmp_path / "manifest.json").unlink()
    status, _, errors = hfrec("card", "--model", tmp_path)
    assert status == 2 and "no complete hfrec folder" in errors and not (tmp_path / "manifest.json").exists()


def test_an_error_is_one_line_and_debug_shows_it_all(hfrec: Run, folder: Path, tmp_path: Path) -> None:
    command = ("recommend", "--model", tmp_path, "--history", "a")
    status, printed, errors = hfrec(*command)
    assert (status, printed) == (2, "")
    assert errors.startswith("hfrec: error: ") and errors.count("\n") == 1 and "manifest.json" in errors
    with pytest.raises(ValueError, match=r"manifest\.json"):
        hfrec("--debug", *command)
    status, _, errors = hfrec("recommend", "--model", folder, "--history", "sku-0003", "--k", 900)
    assert status == 2 and "got 900" in errors


MISTAKES = {
    "no model": ("recommend --model {tmp}/none --history a", "none' is neither a folder nor a repository"),
    "half a model": ("recommend --model {shop} --history a", "no complete hfrec folder: manifest.json is missing"),
    "no such item": ("similar --model {model} --item nope", "'nope' must be in the catalogue of 120 items"),
    "no such candidate": ("recommend --model {model} --history a --candidates sku-0001,b", "'b' is not"),
    "k": ("recommend --model {model} --history sku-0001 --k 121", r"candidates \(120\), got 121"),
    "k of similar": ("similar --model {model} --item sku-0001 --k 120", r"other items \(119\), got 120"),
    "k of many": ("recommend --model {model} --histories {good} --out {tmp}/o.parquet --k 121", "got 121"),
    "no histories": ("recommend --model {model} --histories {tmp}/none --out {tmp}/o.parquet", "not there: .*none"),
    "no item_ids": ("recommend --model {model} --histories {column} --out {tmp}/o.parquet", "Line 1 .* `item_ids`"),
    "broken line": ("recommend --model {model} --histories {broken} --out {tmp}/o.parquet", "Line 2 of .*broken"),
    "out in a file": ("recommend --model {model} --histories {good} --out {good}/o.parquet", "good.jsonl: "),
    "out is a folder": ("recommend --model {model} --histories {good} --out {tmp}", ": Is a directory"),
    "sheet in a file": ("similar --model {model} --item sku-0001 --sheet {good}/o.png", "good.jsonl: "),
    "sheet of no kind": ("similar --model {model} --item sku-0001 --sheet {tmp}/o.x", r"such as \.png, got 'o\.x'"),
    "no pictures": ("similar --model {model} --item sku-0001 --images {tmp}/none", "`images` must be the folder"),
    "filter of no kind": ("recommend --model {model} --history sku-0001 --filter price", "a boolean for each"),
    "filter keeps none": ("recommend --model {model} --history sku-0001 --filter price<0", r"\(0\), got 10"),
    "many by filter": ("recommend --model {model} --histories {good} --out o --filter price>0", "not with `--hist"),
    "no encoder to search by": ("search --model {model} --text mug", "saved without an item encoder"),
    "no words": ("search --model {asked} --text {blank}", "search text must have a word"),
    "no query picture": ("search --model {asked} --image {tmp}/none.png", r"none\.png' to search by cannot"),
    "no picture at all": ("search --model {asked} --image {good}", r"good\.jsonl' to search by cannot"),
    "k of a search": ("search --model {asked} --text mug --k 121", r"candidates \(120\), got 121"),
    "weight": ("recommend --model {asked} --history a --query mug --query-weight -1", "at least 0, got -1"),
    "many by query": ("recommend --model {model} --histories {good} --out o --query mug", "not with `--hist"),
    "nothing to align": ("align --model {ids}", r"joins two modalities.*got \[\]"),
    "no folder to align": ("align --model {shop}", "no complete hfrec folder"),
    "no log": ("recommend --model {model} --sample-users 2", "needs `--interactions`"),
    "no encoder": ("encode --items {shop}/items.parquet --out {tmp}/e", "needs an encoder"),
    "no such encoder": ("encode --items {shop}/items.parquet --out {tmp}/e --text-encoder {tmp}/none", "no folder '"),
    "no weights": ("encode --items {shop}/items.parquet --out {tmp}/e --text-encoder {shop}", "as safetensors"),
    "no items": ("encode --items {tmp}/none.csv --out {tmp}/e --text-encoder a", "items table is not there: .*none"),
    "no text column": ("encode --items {shop}/items.parquet --out e --text-encoder a --text-columns titel", "`titel`"),
    "no results": ("card --model {model}", "results.json is missing"),
    "other results": ("card --model {results}", "is not what a run writes: KeyError 'validation'"),
    "no config": ("train --config {tmp}/none.yaml", "File does not exist: .*none.yaml"),
    "no data": ("train", "data.name, data.interactions, data.items"),
    "typo": ("train --config {typo}", "hiden_size"),
    "typo of a flag": ("train --config {config} --data.dublicates first", "dublicates"),
    "typo to evaluate": ("evaluate --model {model} --config {config} --data.dublicates first", "dublicates"),
    "value": ("train --config {config} --data.split random", "leave_last.*Got value: random"),
    "heads": ("train --config {config} --model.num_heads 3", r"`hidden_size` .* `num_heads` \(3\), got 16"),
    "size": ("train --config {config} --model.max_history 0", "error: `max_history` must be at least 1, got 0"),
    "loss": ("train --config {config} --training.loss mse", "`loss` must be one of .*got 'mse'"),
    "output in a file": ("train --config {config} --training.output_dir {good}", "good.jsonl: File exists"),
    "short users": (
        "train --config {config} --data.split leave_last --data.interactions {short}",
        r"validation part of the split \(leave-last\) must not be empty; the 4 events of 2 users",
    ),
    "one second": (
        "train --config {config} --data.interactions {second}",
        "train part of the split .* must not be empty; the 6 events of 2 users",
    ),
    "ratings": (
        "train --config {config} --data.interactions {second} --data.min_rating 6",
        r"no event has a rating of at least `min_rating` \(6\.0\)",
    ),
    "item_core": ("train --config {config} --data.item_core 99999", "nothing is left after .*`item_core`=99999"),
    "text column": ("train --config {config} --data.text_columns [titel]", "needs the column `titel`"),
    "taken name": ("train --config {config} --data.item_columns {{\"category\":\"title\"}}", r"got \['title'\] twice"),
    "images": ("train --config {config} --data.images {tmp}/none", "a folder, got '.*none'"),
    "encoder": ("train --config {config} --data.text_encoder {tmp}/none", "no folder '.*none' is there"),
    "unknown item": ("train --config {config} --data.interactions {foreign}", "items that the catalogue lacks: .'x'"),
}  # fmt: skip


@pytest.fixture(scope="module")
def places(
    folder: Path,
    shop_items: ItemTable,
    config: Path,
    shop_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str | Path]:
    """What the mistakes name: files that are right, and files that are wrong in one way each."""
    tmp = tmp_path_factory.mktemp("mistakes")
    good = '{"user_id": 1, "item_ids": ["sku-0001"]}\n'
    written = {
        "good": ("good.jsonl", good),
        "column": ("column.jsonl", '{"user_id": 1, "items": ["sku-0001"]}\n'),
        "broken": ("broken.jsonl", good + '{"user_id": 2, "item_'),
        "typo": ("typo.yaml", config.read_text(encoding="utf-8").replace("hidden_size", "hiden_size")),
        "short": ("short.csv", "user_id,item_id\n1,sku-0001\n1,sku-0002\n2,sku-0001\n2,sku-0003\n"),
        "second": (
            "second.csv",
            "user_id,item_id,timestamp,rating\n" + "".join(f"{n % 2},sku-000{n + 1},7,5\n" for n in range(6)),
        ),
        "foreign": ("foreign.csv", "user_id,item_id\n1,x\n"),
        "results": ("run/results.json", "{}"),
    }
    (tmp / "run").mkdir()
    for name, text in written.values():
        (tmp / name).write_text(text, encoding="utf-8")
    named = {key: tmp / name for key, (name, _) in written.items()}
    ids = ItemTable.of_ids(shop_items.catalog)
    Popularity.fit(Histories.from_rows([[1, 2]]), ids).save_pretrained(tmp / "ids")
    made = {"results": tmp / "run", "tmp": tmp, "model": folder, "shop": shop_folder, "config": config}
    asked = Recommender.from_pretrained(folder)
    asked.model.item_encoder = shop_items.made_by  # type: ignore[attr-defined]
    asked.save_pretrained(tmp / "asked")
    return {**named, **made, "asked": tmp / "asked", "ids": tmp / "ids", "blank": " "}


@pytest.mark.parametrize(("command", "message"), MISTAKES.values(), ids=MISTAKES)
@pytest.mark.filterwarnings("default")
def test_a_mistake_is_one_line(hfrec: Run, places: dict[str, str | Path], command: str, message: str) -> None:
    status, _, errors = hfrec(*(word.format(**places) for word in command.split()))
    assert status == 2
    *before, error = errors.splitlines()
    assert all(line.startswith("hfrec: warning: ") for line in before), errors
    assert error.startswith("hfrec: error: ") and re.search(message, error), errors


def test_scripts_and_the_console_command_end_as_briefly(
    python: Callable, places: dict[str, str | Path], folder: Path
) -> None:
    train = ["train/train.py", "--config", places["config"], "--data.interactions", places["second"]]
    command = ["-c", "from hfrec.cli import main; main()", "similar", "--model", folder, "--item", "nope"]
    for words, message in ((train, "must not be empty"), (command, "'nope' must be in the catalogue")):
        ran = python(*words)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert ran.stderr.startswith("hfrec: error: ") and ran.stderr.count("\n") == 1 and message in ran.stderr


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(KeyError), cli.one_line_errors():
        {}["us"]


@pytest.mark.parametrize("arguments", [[], ["recomend"], ["recommend", "--history", "a"], ["similar", "--model", "x"]])
def test_a_command_that_is_none_exits_with_2(hfrec: Run, arguments: list[str]) -> None:
    status, _, errors = hfrec(*arguments)
    assert status == 2 and "usage: hfrec" in errors
