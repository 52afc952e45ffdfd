"""A pretrained decoder as the sequence Transformer: its weights, its words before a history, what is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from decoders import WORDS, save_decoder
from hub_repository import Commit, File, Repository
from huggingface_hub.errors import StrictDataclassError
from local_hub import LocalHub
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel

import hfrec
from hfrec.data.histories import Histories
from hfrec.data.schema import DataError
from hfrec.items.table import ItemTable
from hfrec.models.weights import CONFIG_FILE

PROMPT = "a user's history:"
DECODERS = ("llama", "qwen2", "qwen3", "gemma3", "gpt2")


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_decoder(tmp_path_factory.mktemp("decoders") / "tiny-llama")


@pytest.fixture(scope="module")
def items(shop: Any) -> ItemTable:
    return ItemTable.of_ids(hfrec.Catalog.from_frame(shop.items))


@pytest.fixture(scope="module")
def histories() -> Histories:
    return Histories.from_rows([[1, 2, 3, 4, 5], [7], [], [8, 9]])


def started(items: ItemTable, decoder: Path, **settings: Any) -> hfrec.RecModel:
    """A fresh model from `decoder`, with ids that are told apart."""
    torch.manual_seed(0)
    settings = {"backbone": str(decoder), "max_history": 20} | settings
    model = hfrec.RecModel.for_items(items, **settings)
    return model.attach(items).grow_item_ids(items.catalog.item_ids).eval()


@pytest.mark.parametrize("kind", DECODERS)
def test_the_weights_are_the_decoders(kind: str, items: ItemTable, tmp_path: Path) -> None:
    theirs = AutoModel.from_pretrained(save_decoder(tmp_path, kind), dtype=torch.float32).eval()
    ours = started(items, tmp_path).backbone
    inputs = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(theirs(inputs_embeds=inputs).last_hidden_state, ours(inputs_embeds=inputs).last_hidden_state)
    table = theirs.get_input_embeddings()
    differing = [name for name, value in ours.state_dict().items() if not torch.equal(value, theirs.state_dict()[name])]
    assert [ours.state_dict()[name].shape for name in differing] == [(1, 32)], "words that nothing reads"
    assert started(items, tmp_path).input_norm.weight[0].item() == pytest.approx(
        table(torch.arange(len(WORDS))).pow(2).mean().sqrt().item()
    )


@pytest.mark.parametrize("kind", DECODERS)
def test_a_saved_model_needs_neither_decoder_nor_tokenizer(
    kind: str, items: ItemTable, histories: Histories, tmp_path: Path
) -> None:
    place = save_decoder(tmp_path / "tiny", kind)
    model = started(items, place, prompt=PROMPT)
    scores = model.score(histories)
    model.save_pretrained(tmp_path / "saved")
    shutil.rmtree(place)
    again = hfrec.RecModel.from_pretrained(tmp_path / "saved")
    assert torch.equal(again.score(histories), scores)
    assert (again.config.backbone, again.config.prompt, again.config.backbone_revision) == ("tiny", PROMPT, None)
    assert str(tmp_path) not in (tmp_path / "saved" / CONFIG_FILE).read_text(encoding="utf-8"), "a folder of ours"
    learning = [name for name, weight in again.named_parameters() if weight.requires_grad]
    assert any(name.startswith("backbone.") for name in learning)
    words = again.backbone.get_input_embeddings()
    assert len(words.weight) == len(set(again.config.prompt_ids)) > 1 and not words.weight.requires_grad


def test_the_prompt_is_read_as_the_decoders_own_words(items: ItemTable, histories: Histories, decoder: Path) -> None:
    theirs = AutoModel.from_pretrained(decoder, dtype=torch.float32).get_input_embeddings().weight
    model = started(items, decoder, prompt=PROMPT)
    ids = [WORDS.index(word) for word in ("a", "user", "'", "s", "history", ":")]
    words = model.backbone.get_input_embeddings()(torch.tensor(model.config.prompt_ids))
    assert torch.equal(words, theirs[ids])

    seen: list[dict[str, Any]] = []
    model.backbone.register_forward_pre_hook(lambda _, args, given: seen.append(given), with_kwargs=True)
    states = model._states_of(histories)
    padding, attended = histories.lengths.max() - histories.lengths, histories.lengths + 7
    assert states.shape == (4, 6, 32)
    for row, (left, right) in enumerate(zip(padding, attended, strict=True)):
        assert seen[0]["attention_mask"][row].tolist() == [0] * left + [1] * right
        assert seen[0]["position_ids"][row].tolist() == [0] * left + list(range(right))
        assert torch.equal(seen[0]["inputs_embeds"][row, left : left + 6], words)

    plain = started(items, decoder)
    assert torch.equal(plain.start, model.start)
    assert (plain.score(histories) - model.score(histories)).abs().max() > 1e-3
    other = started(items, decoder, prompt="w1 w2 w2")
    assert len(other.backbone.get_input_embeddings().weight) == 2 and other.config.prompt_ids == [0, 1, 1]


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("prompt", [None, PROMPT])
def test_left_padding_changes_nothing(kind: str, prompt: str | None, items: ItemTable, tmp_path: Path) -> None:
    model = started(items, save_decoder(tmp_path, kind), prompt=prompt)
    alone = model.score(Histories.from_rows([[3, 5]]))
    beside = model.score(Histories.from_rows([[3, 5], list(range(1, 15))]))[:1]
    assert alone.std() > 1e-3 and (alone - beside).abs().max() < 1e-5
    empty = model.score(Histories.from_rows([[]]))
    assert (empty - model.score(Histories.from_rows([[], [1, 2, 3]]))[:1]).abs().max() < 1e-5


def test_targets_of_one_pass_are_those_of_many(items: ItemTable, decoder: Path) -> None:
    """The prompt moves no state to another place."""
    model = started(items, decoder, prompt=PROMPT, max_history=4)
    sequences = Histories.from_rows([[1, 2, 3, 4, 5, 6], [7, 8, 9, 1, 2, 3]])
    users, positions = np.array([0, 0, 1, 1]), np.array([0, 3, 2, 5])
    targets = hfrec.Targets(sequences, users, positions, np.arange(1, 121))
    shared = model.score_targets(targets, np.arange(4))
    assert torch.allclose(shared, model.score(targets.histories(np.arange(4))), atol=1e-5)


def test_a_decoder_in_shards_is_the_same(items: ItemTable, histories: Histories, decoder: Path, tmp_path: Path) -> None:
    sharded = save_decoder(tmp_path, max_shard_size="20KB")
    assert len(list(sharded.glob("model-*.safetensors"))) > 1
    assert torch.equal(started(items, sharded).score(histories), started(items, decoder).score(histories))


def _settings(**values: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / CONFIG_FILE
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return spoil


def _to_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _without_one(folder: Path) -> None:
    from safetensors.torch import save_file

    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _half_of_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    os.truncate(path, path.stat().st_size // 2)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no configuration": (lambda folder: (folder / CONFIG_FILE).unlink(), "must have a config.json"),
    "a configuration cut short": (lambda folder: os.truncate(folder / CONFIG_FILE, 99), "config.json cannot be read"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "as safetensors; .* has no model.safetens"),
    "pickled weights": (_to_pickle, "as safetensors; .*pickled ones, pytorch_model.bin, are never read"),
    "half of the weights": (_half_of_weights, "model.safetensors cannot be read"),
    "a weight less": (_without_one, "lacks 1 of its weights, such as `norm.weight`"),
    "weights of another width": (_settings(hidden_size=64), "of 'tiny|cannot be used: "),
    "an adapter": (lambda folder: (folder / "adapter_config.json").write_text("{}"), "is an adapter. Merge it"),
    "a type that nobody knows": (_settings(model_type="evil"), "is of the type 'evil'"),
    "a recommender": (_settings(model_type="hfrec"), "is of the type 'hfrec'"),
    "an encoder and a decoder": (_settings(is_encoder_decoder=True), "must be a causal decoder"),
    "weights that were quantised": (_settings(quantization_config={"quant_method": "gptq"}), "were quantised"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_decoder_is_named(name: str, items: ItemTable, tmp_path: Path) -> None:
    spoil, said = REFUSED[name]
    spoil(save_decoder(tmp_path))
    with pytest.raises(DataError, match=said) as raised:
        started(items, tmp_path)
    assert "\n" not in str(raised.value)


def test_other_models_are_named(items: ItemTable, decoder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must be a causal decoder .* is of the type 'bert'"):
        started(items, save_decoder(tmp_path / "bert", "bert"))
    with pytest.raises(DataError, match="neither a folder nor a repository"):
        started(items, tmp_path / "nothing")
    shutil.copytree(decoder, tmp_path / "mute")
    (tmp_path / "mute/tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"tokenizer of .* cannot be used"):
        started(items, tmp_path / "mute", prompt=PROMPT)
    assert started(items, tmp_path / "mute").config.prompt_ids == []


def test_a_state_that_knows_what_comes_later_is_no_decoders(items: ItemTable, tmp_path: Path) -> None:
    """Encoders for search are made of decoders, and say so in a field of their own."""
    started(items, save_decoder(tmp_path / "decoder", "gemma3"))
    with pytest.raises(DataError, match="must not depend on what is padding or comes later"):
        started(items, save_decoder(tmp_path / "encoder", "gemma3", use_bidirectional_attention=True))


def test_settings_that_do_not_go_together_are_named(items: ItemTable, decoder: Path) -> None:
    with pytest.raises(ValueError, match="`prompt` needs a pretrained decoder, named by `backbone`; got 'a user'"):
        hfrec.RecConfig.for_items(items, prompt="a user")
    with pytest.raises(ValueError, match="`lora_rank` needs a pretrained decoder"):
        hfrec.RecConfig.for_items(items, lora_rank=4)
    with pytest.raises(ValueError, match="is both"):
        hfrec.RecConfig.for_items(items, backbone=str(decoder), backbone_config={"model_type": "gpt2"})
    with pytest.raises(StrictDataclassError, match=r"`hidden_size` must be the backbone's \(32\), got 64"):
        hfrec.RecConfig.for_items(items, backbone=str(decoder), hidden_size=64)
    with pytest.raises(
        StrictDataclassError, match=r"positions \(64\), got 60: the start token takes one, the prompt 6\."
    ):
        hfrec.RecConfig.for_items(items, backbone=str(decoder), prompt=PROMPT, max_history=60)
    hfrec.RecConfig.for_items(items, backbone=str(decoder), max_history=60)
    with pytest.raises(StrictDataclassError, match="`prompt_ids` must be at most 1,024 rows of the backbone's 1 words"):
        hfrec.RecConfig(prompt_ids=[3], backbone_config={"model_type": "llama", "vocab_size": 1})


def test_a_configuration_that_names_a_decoder_sends_for_nothing(
    items: ItemTable, decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever loads a folder loads that folder: the name in it is read by nobody, be it of a decoder that is there."""
    with pytest.raises(ValueError, match="alone reads nothing"):
        hfrec.RecConfig(backbone=str(decoder))
    model = started(items, decoder)
    model.save_pretrained(tmp_path)
    monkeypatch.setattr("hfrec.models.backbone.Decoder.find", lambda *_: pytest.fail("it was looked for"))
    path = tmp_path / CONFIG_FILE
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"backbone": str(decoder), "lora_rank": 4, "load_in_4bit": True}))
    (tmp_path / "manifest.json").write_text(json.dumps(_listed(tmp_path)))
    again = hfrec.RecModel.from_pretrained(tmp_path)
    assert not hasattr(again, "peft_config") and again.config.backbone == str(decoder)
    del config["backbone_config"]
    path.write_text(json.dumps(config | {"backbone": str(decoder)}))
    (tmp_path / "manifest.json").write_text(json.dumps(_listed(tmp_path)))
    with pytest.raises(DataError, match=r"`backbone_config` in .* must name a decoder"):
        hfrec.RecModel.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="alone reads nothing"):
        AutoConfig.from_pretrained(tmp_path)


def _listed(folder: Path) -> Any:
    from hfrec.data.manifest import listed

    return listed(folder)


START = """
    import json, sys, polars, hfrec
    frame = polars.DataFrame({"item_id": ["a", "b"], "title": ["x", "y"]})
    items = hfrec.ItemTable.of_ids(hfrec.Catalog.from_frame(frame))
    settings = {"backbone": "lab/tiny", "backbone_revision": "v1", "max_history": 20} | json.loads(sys.argv[2])
    model = hfrec.RecModel.for_items(items, **settings)
    model.attach(items).save_pretrained(sys.argv[1])
    config = model.config
    print(json.dumps([config.backbone, config.backbone_revision, config.prompt_ids]))
"""
LOAD = """
    import json, sys, hfrec
    model = hfrec.RecModel.from_pretrained(sys.argv[1])
    print(json.dumps(model.score(hfrec.Histories.from_rows([[1, 2]])).tolist()))
"""


def test_of_a_repository_no_more_is_fetched_than_is_read(
    hub: LocalHub, client: Callable[..., Any], decoder: Path, tmp_path: Path
) -> None:
    repository = hub.repositories["models", "lab/tiny"] = Repository(private=False)
    content = {path.name: path.read_bytes() for path in decoder.iterdir()}
    more = {"pytorch_model.bin": b"pickle", "modeling_tiny.py": b"raise SystemExit", "original/model.safetensors": b"x"}
    files = {name: File(one) for name, one in (content | more).items()}
    commit = repository.add("v1", Commit(files, "tiny", None))
    repository.add("main", Commit({"config.json": File(b"{}")}, "another", None))

    hub.requests.clear()
    found = client(START, tmp_path / "plain", "{}")
    assert found == ["lab/tiny", commit, []]
    assert sorted(set(hub.downloads())) == ["config.json", "model.safetensors"]
    hub.requests.clear()
    assert client(START, tmp_path / "prompted", json.dumps({"prompt": "w2 w1 w2"}))[2] == [1, 0, 1]
    fetched = {*content} - {"README.md"}
    assert "tokenizer.json" in fetched and set(hub.downloads()) == fetched

    del hub.repositories["models", "lab/tiny"]
    hub.requests.clear()
    scores = client(LOAD, tmp_path / "prompted")
    assert np.isfinite(scores).all() and hub.requests == []
