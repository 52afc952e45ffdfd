"""An encoder read in several depths: which layers, how they are pooled, and what is kept of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hfrec.data.catalog import Catalog
from hfrec.data.schema import DataError
from hfrec.items.encoder import ItemEncoder
from hfrec.items.sources import EncoderSource
from hfrec.items.table import ItemTable
from hfrec.items.towers import Tower, TowerSpec, load_tower

TEXTS = ["a red shoe", "a blue lamp of wood", "steel desk", "old boot"]


@pytest.fixture(scope="module")
def deep_bert(make_bert: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bert(tmp_path_factory.mktemp("deep") / "bert", layers=5)


@pytest.fixture
def catalog() -> Catalog:
    return Catalog.from_frame([{"item_id": name, "title": text} for name, text in zip("abcd", TEXTS, strict=True)])


def tower_of(name: str | Path, modality: str, step: int) -> Tower:
    return load_tower(TowerSpec(EncoderSource.find(str(name)), modality, layer_step=step), {})


def test_a_text_is_the_mean_of_every_second_layer_over_its_mask(deep_bert: Path) -> None:
    tower = tower_of(deep_bert, "text", 2)
    together = tower.encode(TEXTS)
    assert not any(layer._forward_hooks for layer in tower.model.encoder.layer), "what listened must be gone"
    ids = tower.tower.tokenizer(TEXTS[0], return_tensors="pt")
    with torch.inference_mode():
        states = tower.model(**ids, output_hidden_states=True).hidden_states
    expected = torch.cat([states[number][0].mean(0) for number in (1, 3, 5)])
    np.testing.assert_allclose(together[0], expected.numpy(), atol=1e-6)
    assert together.shape == (4, 48)


def test_a_picture_is_the_mean_of_each_layer_over_its_places(make_vit: Any, tmp_path: Path) -> None:
    tower = tower_of(make_vit(tmp_path / "vit", layers=3), "image", 1)
    picture = Image.new("RGB", (16, 16), "red")
    features = tower.preprocess([picture])
    with torch.inference_mode():
        output = tower.model(**features, output_hidden_states=True)
    expected = [output.hidden_states[1].mean(1), output.hidden_states[2].mean(1), output.pooler_output]
    np.testing.assert_allclose(tower.encode([picture]), torch.cat(expected, 1).numpy(), atol=1e-6)


def test_a_real_picture_encoder_has_layers_of_many_widths(models: Path) -> None:
    encoder = ItemEncoder(image=models / "efficientnet-lite0", layer_step=4)
    assert encoder.fingerprint["image"]["layers"] == {"step": 4, "widths": [40, 80, 192, 1280]}


def test_more_layers_than_there_are_is_refused(deep_bert: Path) -> None:
    with pytest.raises(DataError, match=r"`layer_step` must be below the number of layers of the text .* \(5\), got 5"):
        tower_of(deep_bert, "text", 5)
    with pytest.raises(ValueError, match="`layer_step` must be at least 0, and 0 for audio and video, got 2"):
        ItemEncoder(audio=deep_bert, layer_step=2)


def test_the_table_whitens_each_layer_by_itself_and_knows_them(
    deep_bert: Path, catalog: Catalog, tmp_path: Path
) -> None:
    encoder = ItemEncoder(text=deep_bert, layer_step=2, dtype="float32", cache_dir=tmp_path / "cache")
    items = encoder.encode(catalog, progress=False)
    assert items.layers == {"text": [16, 16, 16]} and items.sizes == {"text": 48}
    raw = torch.from_numpy(encoder.tower("text").encode(TEXTS))
    for part, white in zip(raw.split(16, 1), items.vectors["text"][1:].split(16, 1), strict=True):
        alone = torch.cat([torch.zeros(1, 16), part])
        present = {"text": items.present["text"]}
        expected = ItemTable.from_arrays(catalog, {"text": alone}, present, {}).vectors["text"][1:]
        torch.testing.assert_close(white, expected, atol=1e-4, rtol=1e-3)
    items.save(tmp_path / "table")
    assert ItemTable.load(tmp_path / "table", catalog, encoder.fingerprint).layers == items.layers
    # What is read of an encoder's layers is never taken for its own vectors.
    plain = ItemEncoder(text=deep_bert, cache_dir=tmp_path / "cache")
    assert "layers" not in plain.fingerprint["text"] and plain.encode(catalog).layers == {}


def test_saved_and_loaded_it_reads_the_same_layers(deep_bert: Path, tmp_path: Path) -> None:
    encoder = ItemEncoder(text=deep_bert, layer_step=2)
    expected = encoder.encode_rows(texts=TEXTS)[0]["text"]
    encoder.save_pretrained(tmp_path)
    again = ItemEncoder.from_pretrained(tmp_path)
    assert again.layer_step == 2 and again.fingerprint == encoder.fingerprint
    assert torch.equal(again.encode_rows(texts=TEXTS)[0]["text"], expected)
