"""A small CLIP: it learns, it is reproducible, and its folder loads like one of the Hub."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, CLIPModel

from hfrec.data.catalog import Catalog
from hfrec.data.schema import DataError
from hfrec.data.synthetic import make_captions, make_shop
from hfrec.training.contrastive import contrastive_loss, train_clip, train_tokenizer

SHORT = {"steps": 160, "batch_size": 32, "hidden_size": 32, "num_layers": 1, "image_size": 32, "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def shop():
    return make_shop(seed=5, num_items=80, num_users=0)


@pytest.fixture(scope="module")
def catalog(shop):
    return Catalog.from_frame(make_captions(shop))


@pytest.fixture(scope="module")
def folder(catalog, tmp_path_factory):
    return train_clip(catalog, tmp_path_factory.mktemp("clip") / "model", **SHORT)


def _pictures(shop, count=8):
    return [Image.open(io.BytesIO(data)) for data in shop.items["image"].drop_nulls()[:count]]


def _picture_vectors(folder, pictures):
    model, processor = CLIPModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    with torch.no_grad():
        return model.get_image_features(**processor(images=pictures, return_tensors="pt")).pooler_output


def test_the_loss_falls(folder):
    loss = json.loads((folder / "training_log.json").read_text())["loss"]
    assert len(loss) == SHORT["steps"]
    assert np.mean(loss[-8:]) < np.mean(loss[:8]) - 0.5


def test_the_folder_holds_no_pickle_and_loads_by_name(folder, shop):
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".txt", ".jinja"}
    processor = AutoProcessor.from_pretrained(folder)
    pictures = _pictures(shop)
    assert processor(images=pictures, return_tensors="pt")["pixel_values"].shape == (8, 3, 32, 32)
    alone = AutoImageProcessor.from_pretrained(folder)(images=pictures, return_tensors="pt")
    assert torch.equal(alone["pixel_values"], processor(images=pictures, return_tensors="pt")["pixel_values"])
    text = "Кружка, в полоску"
    assert AutoTokenizer.from_pretrained(folder)(text)["input_ids"] == processor.tokenizer(text)["input_ids"]


def test_sentence_transformers_gives_the_same_vectors(folder, shop):
    from sentence_transformers import SentenceTransformer

    pictures = _pictures(shop)
    encoder = SentenceTransformer(str(folder), device="cpu")
    expected = _picture_vectors(folder, pictures)
    torch.testing.assert_close(torch.tensor(encoder.encode(pictures)), expected, rtol=1e-4, atol=1e-5)
    texts = ["Elegant hat in pink, with stripes", "Носок в игривом стиле, цвет синий"]
    model, tokenizer = CLIPModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        read = model.get_text_features(**tokenizer(texts, padding=True, return_tensors="pt")).pooler_output
    torch.testing.assert_close(torch.tensor(encoder.encode(texts)), read, rtol=1e-4, atol=1e-5)


def test_same_seed_gives_the_same_model_and_leaves_the_random_state(catalog, folder, shop, tmp_path):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    again = train_clip(catalog, tmp_path / "again", **SHORT)
    assert torch.equal(torch.rand(3), expected)
    pictures = _pictures(shop)
    assert torch.equal(_picture_vectors(again, pictures), _picture_vectors(folder, pictures))
    other = train_clip(catalog, tmp_path / "other", **{**SHORT, "steps": 2}, seed=1)
    assert not torch.equal(_picture_vectors(other, pictures), _picture_vectors(folder, pictures))


def test_pictures_may_be_paths(shop, tmp_path):
    shop.save(tmp_path / "shop")
    options = {**SHORT, "steps": 2}
    from_paths = train_clip(Catalog.from_file(tmp_path / "shop" / "items.parquet"), tmp_path / "a", **options)
    from_bytes = train_clip(Catalog.from_frame(shop.items), tmp_path / "b", **options)
    pictures = _pictures(shop)
    assert torch.equal(_picture_vectors(from_paths, pictures), _picture_vectors(from_bytes, pictures))


def test_a_second_training_replaces_the_first(catalog, tmp_path):
    options = {**SHORT, "steps": 1}
    train_clip(catalog, tmp_path / "model", **options, seed=0)
    before = sorted(path.name for path in (tmp_path / "model").iterdir())
    train_clip(catalog, tmp_path / "model", **options, seed=1)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == before
    assert json.loads((tmp_path / "model" / "training_log.json").read_text())["seed"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_tokenizer_reads_every_script_without_an_unknown_token():
    tokenizer = train_tokenizer(["Rustic mug in red", "Кружка в полоску"], vocab_size=600)
    texts = ["Rustic mug", "Кружка", "茶碗 ☕", "ملعقة"]
    for text, ids in zip(texts, tokenizer(texts)["input_ids"], strict=True):
        assert ids[0] == tokenizer.bos_token_id
        assert ids.index(tokenizer.eos_token_id) == len(ids) - 1, text
        assert tokenizer.pad_token_id not in ids
    assert len(tokenizer(["mug " * 500], truncation=True)["input_ids"][0]) == 64


def test_loss_counts_equal_texts_as_right_answers():
    logits = torch.tensor([[4.0, 4.0, 0.0], [4.0, 4.0, 0.0], [0.0, 0.0, 4.0]])
    same = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    # Rows 1 and 2: -log(e^4 / (2 e^4 + 1)); row 3: -log(e^4 / (e^4 + 2)).
    by_hand = (2 * np.log(2 + np.exp(-4.0)) + np.log(1 + 2 * np.exp(-4.0))) / 3
    assert contrastive_loss(logits, same).item() == pytest.approx(by_hand, abs=1e-5)
    assert contrastive_loss(10 * logits, torch.eye(3)).item() > contrastive_loss(10 * logits, same).item() - 1e-6


def test_a_catalogue_without_pairs_is_refused(shop, tmp_path):
    with pytest.raises(DataError, match=r"both a picture and a text, got 0 of 80 \(pictures: 0, texts: 80\)"):
        train_clip(Catalog.from_frame(shop.items.drop("image")), tmp_path / "model", **SHORT)
    silent = Catalog.from_frame(shop.items.select("item_id", "image"))
    with pytest.raises(DataError, match=r"both a picture and a text, got 0 of 80 .*texts: 0\)"):
        train_clip(silent, tmp_path / "model", **SHORT)
    assert not (tmp_path / "model").exists()


def test_a_broken_picture_is_named(shop, tmp_path):
    import polars as pl

    broken = shop.items.head(3).with_columns(pl.lit(b"no picture").alias("image"))
    with pytest.raises(DataError, match=r"picture of item 'sku-0001' cannot be opened"):
        train_clip(Catalog.from_frame(broken), tmp_path / "model", **SHORT)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"image_size": 60}, r"`image_size` must be a multiple of `patch_size` \(8\), got 60"),
        ({"hidden_size": 40}, r"`hidden_size` must be a multiple of 32, got 40"),
        ({"steps": 0}, r"`steps` must be at least 1"),
    ],
)
def test_impossible_sizes_are_refused(catalog, tmp_path, sizes, message):
    with pytest.raises(ValueError, match=message):
        train_clip(catalog, tmp_path / "model", **sizes)
