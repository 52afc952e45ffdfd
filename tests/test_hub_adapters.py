"""A base and two adapters go by the Hub, together and alone, to a process that knows nothing but their names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from local_hub import LocalHub

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
