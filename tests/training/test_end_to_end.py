"""Encoders that learn through the loss: the gradient, the table, what is saved, going on, and two processes.

The file is its own script: `accelerate launch … test_end_to_end.py ENCODER FOLDER` trains and leaves what is compared.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

import hfrec
from hfrec.data.schema import DataError
from hfrec.items.adapter import adapter_weights
from hfrec.items.table import ItemTable
from hfrec.training.cost import Cost
from hfrec.training.data_section import DataConfig
from hfrec.training.end_to_end import EndToEndTrainer
from hfrec.training.run import fresh_models, model_facts, train_model

ROOT = Path(__file__).parents[2]
STEPS, GLOBAL_BATCH = 4, 8


def world(name: str | Path, **settings: Any) -> tuple[hfrec.ItemEncoder, ItemTable, hfrec.Splits]:
    """A shop read by an encoder of the folder `name`, in float32."""
    shop = hfrec.make_shop(seed=0, num_items=60, num_users=80)
    catalog = hfrec.Catalog.from_frame(shop.items)
    events = hfrec.load_interactions(shop.interactions, catalog=catalog, duplicates="first")
    encoder = hfrec.ItemEncoder(text=name, dtype="float32", max_text_tokens=16, **settings)
    return encoder, encoder.encode(catalog, progress=False), hfrec.split_by_time(events)


def trainer_of(
    name: str | Path, folder: str | Path, callbacks: Any = (), memories: Any = (), **settings: Any
) -> EndToEndTrainer:
    """A trainer of a model without chance, whose adapter has something to say already."""
    encoder, items, splits = world(name)
    torch.manual_seed(0)
    chance = {"dropout": 0.0, "item_id_dropout": 0.0, "modality_dropout": 0.0}
    sizes = {"hidden_size": 16, "max_history": 10, "num_layers": 1, "word_size": 0}
    model = hfrec.RecModel(hfrec.RecConfig.for_items(items, **sizes, **chance, memories=list(memories)))
    model.item_encoder = encoder
    defaults = {
        "max_steps": STEPS,
        "per_device_train_batch_size": GLOBAL_BATCH,
        "learning_rate": 1e-2,
        "encoder_learning_rate": 8e-3,
        "warmup_steps": 0,
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": False,
    }
    arguments = hfrec.RecTrainingArguments(
        str(folder), encoders="lora", disable_tqdm=True, use_cpu=True, **(defaults | settings)
    )
    trainer = EndToEndTrainer(model, arguments, splits=splits, items=items, callbacks=[*callbacks])
    torch.manual_seed(1)
    for name, weight in trainer.table.towers["text"].model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.1)
    trainer.table.refresh()
    return trainer


def adapter_of(trainer: EndToEndTrainer) -> dict[str, torch.Tensor]:
    return adapter_weights(trainer.table.towers["text"].model, "default")


def gradients(trainer: EndToEndTrainer) -> list[torch.Tensor]:
    found = [weight.grad.clone() for weight in trainer.learned_weights() if weight.grad is not None]
    for weight in trainer.learned_weights():
        weight.grad = None
    return found


def read_directly(trainer: EndToEndTrainer) -> torch.Tensor:
    """Vectors `(N + 1, F)` of all items, by one forward pass, with gradient."""
    table, tower = trainer.table, trainer.table.towers["text"]
    tower.model.eval()
    texts = table.catalog.texts()
    rows = [row for row, there in enumerate(table.present["text"].tolist()) if there]
    values = tower.forward(tower.preprocess([texts[row - 1] for row in rows]))
    white = (values - table.center["text"]) @ table.whitening["text"]
    return torch.zeros(len(table) + 1, white.shape[1]).index_put((torch.tensor(rows),), white)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder that knows the shop's words."""
    from encoders import save_bert

    texts = hfrec.Catalog.from_frame(hfrec.make_shop(seed=0, num_items=60, num_users=80).items).texts()
    known = sorted({word for text in texts if text for word in text.split()})
    return save_bert(tmp_path_factory.mktemp("encoders") / "tiny", layers=2, known=known)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_gradient_is_that_of_encoding_every_item_directly(tiny: Path, tmp_path: Path, checkpointing: bool) -> None:
    trainer = trainer_of(tiny, tmp_path, encoder_checkpointing=checkpointing)
    trainer.table.encoder.batch_size = 7
    model, inputs = trainer.model.train(), next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(model, inputs)
    loss.backward()
    ours = gradients(trainer)
    table = trainer.table
    plain = ItemTable(
        table.catalog, {"text": read_directly(trainer)}, table.present, table.center, table.whitening, table.fingerprint
    )
    expected = model.reread(plain)(**inputs, loss=trainer.loss).loss
    expected.backward()
    torch.testing.assert_close(loss, expected)
    theirs = gradients(trainer)
    assert len(ours) == len(theirs) == len(trainer.learned_weights())
    assert all(float(one.abs().max()) > 0 for one in ours[-len(trainer.adapter_weights) :])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_no_more_items_are_read_than_allowed_and_the_others_are_looked_up(tiny: Path, tmp_path: Path) -> None:
    trainer = trainer_of(tiny, tmp_path, encoder_items=5)
    model, inputs = trainer.model.train(), next(iter(trainer.get_train_dataloader()))
    chosen = trainer.chosen_rows(inputs)
    batch = set(inputs["rows"].flatten().tolist()) | set(inputs["labels"].flatten().tolist())
    assert len(set(chosen.tolist())) == 5 and set(chosen.tolist()) <= batch
    with trainer.table.reading(chosen):
        values = trainer.table.gather(torch.arange(61))["text"][0]
    for row in range(61):
        (reached,) = torch.autograd.grad(values[row].sum(), trainer.adapter_weights[-1:], retain_graph=True)
        assert bool(reached.any()) == (row in chosen.tolist())
    torch.testing.assert_close(values, trainer.table.gather(torch.arange(61))["text"][0], atol=1e-5, rtol=1e-4)
    # Read at the same state, the loss of five is that of all.
    few = trainer.compute_loss(model, inputs)
    trainer.args.encoder_items = 10_000
    torch.testing.assert_close(few, trainer.compute_loss(model, inputs))
    known = set(trainer.model.known_rows.tolist())
    assert set(trainer.chosen_rows(inputs).tolist()) == known | (batch - {-100, 0})


class Staleness(TrainerCallback):
    """How far the table is from what the encoder says, after each step."""

    def __init__(self) -> None:
        self.trainer: Any = None
        self.found: list[float] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        with torch.no_grad():
            table = self.trainer.table
            self.found.append(float((read_directly(self.trainer) - table.vectors["text"]).abs().max()))


def test_the_table_is_read_anew_on_its_schedule(tiny: Path, tmp_path: Path) -> None:
    watch = Staleness()
    trainer = watch.trainer = trainer_of(tiny, tmp_path, [watch], encoder_refresh=2)
    trainer.train()
    assert max(watch.found[1::2]) < 1e-4 < 1e-2 < min(watch.found[::2])
    # At the end it is a plain one, by the encoder as it is then.
    assert type(trainer.items) is ItemTable and trainer.model.items is trainer.items
    assert trainer.items.fingerprint == trainer.model.item_encoder.fingerprint
    torch.testing.assert_close(trainer.items.vectors["text"], read_directly(trainer).detach(), atol=1e-4, rtol=1e-3)


def test_saved_it_scores_the_same_elsewhere_and_reads_new_items_as_it_learned_to(
    tiny: Path, python: Callable, tmp_path: Path
) -> None:
    trainer = trainer_of(tiny, tmp_path / "out", memories=["transitions", "factors", "vectors"])
    trainer.train()
    trainer.save_model()
    model, catalog = trainer.model, trainer.catalog
    assert model.config.memory_learned
    histories = [catalog.item_ids[:4], catalog.item_ids[7:9]]
    np.save(tmp_path / "scores.npy", model.score(hfrec.Histories.from_ids(histories, catalog)).numpy())
    # The other process has vectors of the plain encoder to hold against.
    text, plain = catalog.texts()[3], hfrec.ItemEncoder(text=tiny, dtype="float32", max_text_tokens=16)
    white = model.items.center["text"], model.items.whitening["text"]
    frozen = (plain.encode_rows(texts=[text])[0]["text"] - white[0]) @ white[1]
    learned = trainer.model.item_encoder.encode_rows(texts=[text])[0]["text"]
    save_file({"frozen": frozen, "learned": (learned - white[0]) @ white[1]}, tmp_path / "expected.safetensors")
    code = """
import json, sys
import numpy as np, torch, hfrec
from pathlib import Path
from safetensors.torch import load_file
folder = Path(sys.argv[1])
shop = hfrec.Recommender.from_pretrained(folder / "out")
histories = hfrec.Histories.from_ids(json.loads(sys.argv[2]), shop.catalog)
assert np.array_equal(shop.model.score(histories).numpy(), np.load(folder / "scores.npy"))
shop.add_items([{"item_id": "new", "title": sys.argv[3], "description": None}])
vector, expected = shop.model.items.vectors["text"][-1], load_file(folder / "expected.safetensors")
torch.testing.assert_close(vector, expected["learned"][0], atol=1e-5, rtol=1e-4)
torch.testing.assert_close(vector, shop.model.items.vectors["text"][4], atol=1e-4, rtol=1e-3)
assert float((vector - expected["frozen"][0]).abs().max()) > 1e-2
"""
    ran = python("-c", code, tmp_path, json.dumps(histories), text)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert (tmp_path / "out/item_encoder/text/adapter_model.safetensors").is_file()
    shop = hfrec.Recommender.from_pretrained(tmp_path / "out")
    shop.model.item_encoder = plain
    with pytest.raises(DataError, match="text vectors of the catalogue must be of the item encoder"):
        shop.add_items([{"item_id": "new", "title": "mug", "description": None}])


class StopAt(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2:
            control.should_save = control.should_training_stop = True


def test_a_run_that_goes_on_ends_as_one_never_interrupted(tiny: Path, tmp_path: Path) -> None:
    every = {"save_strategy": "steps", "save_steps": 2, "encoder_items": 10}
    whole = trainer_of(tiny, tmp_path / "whole", **every)
    whole.train()
    cut = trainer_of(tiny, tmp_path / "cut", [StopAt()], **every)
    cut.train()
    assert not torch.equal(cut.items.vectors["text"], whole.items.vectors["text"])
    again = trainer_of(tiny, tmp_path / "cut", **every)
    again.train(resume_from_checkpoint=True)
    for name, weight in adapter_of(whole).items():
        torch.testing.assert_close(adapter_of(again)[name], weight, rtol=0, atol=1e-6)
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], weight, rtol=0, atol=1e-6)
    torch.testing.assert_close(again.items.vectors["text"], whole.items.vectors["text"], rtol=0, atol=1e-5)
    other = trainer_of(tiny, tmp_path / "cut", encoder_rank=4, **every)
    with pytest.raises(DataError, match="has another adapter of the text encoder: lora_alpha, r"):
        other.train(resume_from_checkpoint=True)


def test_the_best_checkpoint_brings_its_adapter_back(tiny: Path, tmp_path: Path) -> None:
    each = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    trainer = trainer_of(tiny, tmp_path, load_best_model_at_end=True, greater_is_better=False, patience=0, **each)
    trainer.train()
    assert trainer.state.best_global_step < trainer.state.global_step
    saved = load_file(Path(trainer.state.best_model_checkpoint) / "item_encoder/text/adapter_model.safetensors")
    for name, weight in adapter_of(trainer).items():
        torch.testing.assert_close(weight, saved[name], rtol=0, atol=0)
    torch.testing.assert_close(trainer.items.vectors["text"], read_directly(trainer).detach(), atol=1e-4, rtol=1e-3)


def test_texts_and_pictures_of_one_encoder_learn_together(tmp_path: Path) -> None:
    shop = hfrec.make_shop(seed=0, num_items=40, num_users=60)
    catalog = hfrec.Catalog.from_frame(shop.items)
    hfrec.train_clip(hfrec.Catalog.from_frame(hfrec.make_captions(shop)), tmp_path / "clip", steps=1, batch_size=8)
    encoder = hfrec.ItemEncoder(text=tmp_path / "clip", image=tmp_path / "clip", dtype="float32")
    items = encoder.encode(catalog, progress=False)
    splits = hfrec.split_by_time(hfrec.load_interactions(shop.interactions, catalog=catalog, duplicates="first"))
    torch.manual_seed(0)
    model = hfrec.RecModel(hfrec.RecConfig.for_items(items, hidden_size=16, max_history=10, word_size=0, memories=[]))
    model.item_encoder = encoder
    both = {"encoders": "lora", "encoder_modalities": ["text", "image"], "encoder_items": 6}
    never = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    arguments = hfrec.RecTrainingArguments(
        str(tmp_path / "out"),
        max_steps=2,
        warmup_steps=0,
        encoder_learning_rate=1e-2,
        disable_tqdm=True,
        use_cpu=True,
        **both,
        **never,
    )
    trainer = EndToEndTrainer(model, arguments, splits=splits, items=items)
    trainer.train()
    again = model.item_encoder.encode(catalog, progress=False)
    for name in ("text", "image"):
        # The plain encoder stays as it was, and the table is of the one that has learned, by the old whitening.
        assert again.fingerprint[name] == trainer.items.fingerprint[name] != encoder.fingerprint[name]
        there = trainer.items.present[name]
        assert not torch.allclose(trainer.items.vectors[name], items.vectors[name], atol=1e-3)
        raw = torch.from_numpy(np.asarray(model.item_encoder.encode_items(catalog, np.flatnonzero(there))[0][name]))
        white = (raw - items.center[name]) @ items.whitening[name]
        torch.testing.assert_close(trainer.items.vectors[name][there], white, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("encoders", ["side", "lora"])
def test_a_run_says_how_its_encoders_learn(tiny: Path, tmp_path: Path, encoders: str) -> None:
    hfrec.make_shop(seed=0, num_items=60, num_users=80).save(tmp_path)
    log, items = (str(tmp_path / f"{name}.parquet") for name in ("interactions", "items"))
    data = DataConfig("shop", log, items, duplicates="first", split="by_time", text_encoder=str(tiny))
    models = fresh_models({"hidden_size": 16, "max_history": 10, "memories": []})
    arguments = hfrec.RecTrainingArguments(
        str(tmp_path / "out"), num_train_epochs=1, encoders=encoders, encoder_layers=1, refit=True, disable_tqdm=True
    )
    trainer, chooser = train_model(data, models, arguments, Cost())
    made_by, facts = trainer.items.fingerprint["text"], model_facts(trainer)
    assert facts["encoder_learning"] == encoders and trainer is not chooser
    assert made_by == trainer.model.item_encoder.fingerprint["text"]
    if encoders == "side":
        assert trainer.model.config.layers == {"text": made_by["layers"]["widths"]} == {"text": [16, 16]}
    else:
        # A refit begins with an encoder that has learned nothing, and ends with an adapter of its own.
        assert None is not made_by["adapter"] != chooser.items.fingerprint["text"]["adapter"] is not None
        trainer.save_model(arguments.output_dir)
        assert hfrec.RecModel.from_pretrained(tmp_path / "out").item_encoder.fingerprint["text"] == made_by


def save_resnet(folder: Path) -> Path:
    """An encoder of convolutions alone."""
    from transformers import ConvNextImageProcessor, ResNetConfig, ResNetModel

    ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])).save_pretrained(folder)
    ConvNextImageProcessor(size={"shortest_edge": 32}).save_pretrained(folder)
    return folder


def test_what_cannot_be_is_said(tiny: Path, tmp_path: Path) -> None:
    encoder, items, splits = world(tiny)
    arguments = hfrec.RecTrainingArguments(str(tmp_path), encoders="lora", use_cpu=True)

    def build(of: Any = encoder, table: ItemTable = items, kind: Any = EndToEndTrainer, **settings: Any) -> Any:
        model = hfrec.RecModel(hfrec.RecConfig.for_items(table, hidden_size=8, max_history=10))
        model.item_encoder = of
        return kind(model, replace(arguments, **settings), splits=splits, items=table)

    with pytest.raises(ValueError, match=r"needs `model.item_encoder`, .*; it is None"):
        build(None)
    with pytest.raises(ValueError, match=r"some of those that the items have, \['text'\], got \['audio'\]"):
        build(encoder_modalities=["audio"])
    with pytest.raises(ValueError, match="`encoder_items` must be at least 1, got 0"):
        build(encoder_items=0)
    with pytest.raises(ValueError, match=r"`encoders` must be one of .*, got 'full'"):
        build(encoders="full")
    with pytest.raises(ValueError, match="`encoders` 'lora' is for `EndToEndTrainer`, not for RecTrainer"):
        build(kind=hfrec.RecTrainer)
    with pytest.raises(ValueError, match="`encoders` of an EndToEndTrainer must be 'lora', got 'frozen'"):
        build(encoders="frozen")
    layered, table, _ = world(tiny, layer_step=1)
    with pytest.raises(ValueError, match=r"these items were read in layers, for 'side' \(`layer_step` 1\)"):
        build(layered, table)
    with pytest.raises(DataError, match=r"The text vectors must be of `model.item_encoder`"):
        build(hfrec.ItemEncoder(text=tiny, max_text_tokens=15))
    varied = items.varied({"text": items.vectors["text"][None]})
    with pytest.raises(ValueError, match=r"Variants are of an encoder that does not learn, and \['text'\]"):
        build(table=varied)
    conv = hfrec.ItemEncoder(image=save_resnet(tmp_path / "resnet"))
    pictures = conv.encode(items.catalog, progress=False)
    with pytest.raises(ValueError, match=r"The image encoder .* must have linear layers that an adapter can be on"):
        build(conv, pictures, encoder_modalities=["image"])


def train(name: str, folder: Path, batch: int) -> None:
    """A few steps in which every process reads all items; leaves the weights and the curve."""
    trainer = trainer_of(
        name, folder, per_device_train_batch_size=batch, logging_strategy="steps", logging_steps=1, encoder_items=1000
    )
    trainer.train()
    if trainer.is_world_process_zero():
        folder.mkdir(parents=True, exist_ok=True)
        curve = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        facts = {"processes": trainer.accelerator.num_processes, "curve": curve}
        (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
        weights = adapter_of(trainer) | dict(trainer.accelerator.unwrap_model(trainer.model).state_dict())
        save_file(weights | {"table": trainer.items.vectors["text"]}, folder / "weights.safetensors")


def test_two_processes_train_as_one(tiny: Path, python: Callable, tmp_path: Path) -> None:
    train(str(tiny), tmp_path / "one", GLOBAL_BATCH)
    config = ROOT / "configs/accelerate/two_cpu_processes.yaml"
    launch = ("-m", "accelerate.commands.launch", "--config_file", config)
    ran = python(*launch, __file__, tiny, tmp_path / "two", PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
    assert ran.returncode == 0, ran.stderr[-3000:]
    one, two = (json.loads((tmp_path / name / "facts.json").read_text("utf-8")) for name in ("one", "two"))
    assert (one["processes"], two["processes"]) == (1, 2)
    assert two["curve"] == pytest.approx(one["curve"], abs=1e-4) and len(one["curve"]) == STEPS
    theirs = load_file(tmp_path / "two/weights.safetensors")
    for name, weight in load_file(tmp_path / "one/weights.safetensors").items():
        torch.testing.assert_close(
            theirs[name], weight, rtol=0, atol=2e-3, msg=lambda text, name=name: f"{name}: {text}"
        )


if __name__ == "__main__":
    train(sys.argv[1], Path(sys.argv[2]), GLOBAL_BATCH // 2)
    PartialState().wait_for_everyone()
    # torch's threads for gloo abort a process that ends with them now and then, after all is written and compared.
    os._exit(0)
