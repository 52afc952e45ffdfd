"""Sounds: what a WAV holds, at the rate that an encoder hears; and transformers' own encoders of sound."""

from __future__ import annotations

import importlib.util
import io
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from hfrec.items.encoder import ItemEncoder
from hfrec.items.pictures import PictureError
from hfrec.items.sounds import MAX_SECONDS, open_sound


def wav(frequency: float, rate: int = 16_000, seconds: float = 0.5, width: int = 2, channels: int = 1) -> bytes:
    wave_form = np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate) * 0.5
    kind = {1: np.uint8, 2: "<i2", 4: "<i4"}[width]
    samples = (wave_form * 127 + 128 if width == 1 else wave_form * (2 ** (8 * width - 1) - 1)).astype(kind)
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.repeat(samples, channels).tobytes())
    return stream.getvalue()


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_is_one_channel_of_its_samples(width: int, channels: int) -> None:
    found = open_sound(wav(440, width=width, channels=channels), None, 16_000)
    expected = np.sin(2 * np.pi * 440 * np.arange(8000) / 16_000) * 0.5
    assert found.dtype == np.float32 and found.shape == (8000,)
    assert np.abs(found - expected).max() < (0.02 if width == 1 else 1e-3)


def test_another_rate_is_heard_at_the_encoders() -> None:
    found = open_sound(wav(440, rate=44_100), None, 16_000)
    strongest = np.fft.rfftfreq(len(found), 1 / 16_000)[np.abs(np.fft.rfft(found)).argmax()]
    assert abs(len(found) - 8000) <= 1 and abs(strongest - 440) < 3


def test_what_comes_after_the_limit_is_not_heard() -> None:
    assert len(open_sound(wav(10, rate=1000, seconds=MAX_SECONDS + 5), None, 1000)) == MAX_SECONDS * 1000
    array = {"array": np.ones((7, 2)), "sampling_rate": 1000}
    assert open_sound(array, None, 1000).tolist() == [1] * 7, "several channels are one"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (b"", "empty"),
        (wav(1)[:30], "cannot be decoded"),
        ({"array": np.array([np.nan]), "sampling_rate": 8000}, "finite"),
        ({"array": np.zeros(0), "sampling_rate": 8000}, "must have samples"),
        ({"array": np.zeros(9), "sampling_rate": "high"}, "got .* at 'high'"),
    ],
)
def test_what_is_no_sound_is_named(cell: object, message: str) -> None:
    with pytest.raises(PictureError, match=message):
        open_sound(cell, None, 8000)


def test_another_kind_needs_soundfile() -> None:
    if importlib.util.find_spec("soundfile"):
        with pytest.raises(PictureError, match="cannot be decoded"):
            open_sound(b"fLaC and nothing more", None, 8000)
    else:
        with pytest.raises(ImportError, match="pip install soundfile"):
            open_sound(b"fLaC and nothing more", None, 8000)


def save_whisper(folder: Path) -> Path:
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    torch.manual_seed(0)
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_layers": 1, "decoder_layers": 1}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = WhisperConfig(vocab_size=50, d_model=16, encoder_ffn_dim=32, decoder_ffn_dim=32, **heads, **tokens)
    WhisperModel(config).save_pretrained(folder)
    WhisperFeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return folder


def save_clap(folder: Path) -> Path:
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    sound = {"patch_embeds_hidden_size": 16, "hidden_size": 32, "depths": [1, 1], "num_attention_heads": [2, 2]}
    config = ClapConfig(
        text_config={**small, "vocab_size": 50},
        audio_config={**sound, "num_hidden_layers": 2, "num_mel_bins": 64, "enable_fusion": False},
        projection_dim=12,
    )
    ClapModel(config).save_pretrained(folder)
    ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("save", "width"), [(save_whisper, 16), (save_clap, 12)])
def test_transformers_encoders_hear_by_their_own_weights(save, width: int, tmp_path: Path) -> None:
    """Each load hears the same: no weight is made anew, which no error would tell of."""
    folder = save(tmp_path / "encoder")
    for name, frequency in (("low.wav", 200), ("high.wav", 2000)):
        (tmp_path / name).write_bytes(wav(frequency, seconds=1))
    columns = {"audio": ["low.wav", "high.wav", None, "none.wav"], "root": tmp_path}
    first, second = (ItemEncoder(audio=folder).encode_rows(**columns) for _ in range(2))
    assert first[1]["audio"].tolist() == [True, True, False, False]
    assert first[0]["audio"].shape == (4, width)
    assert torch.equal(first[0]["audio"], second[0]["audio"])
    assert (first[0]["audio"][0] - first[0]["audio"][1]).abs().max() > 1e-3


def test_an_encoder_of_text_hears_nothing(tiny_bert: Path) -> None:
    sound = {"array": np.zeros(100, np.float32), "sampling_rate": 16_000}
    with pytest.raises(ValueError, match="must read sound, got BertModel"):
        ItemEncoder(audio=tiny_bert).encode_rows(audio=[sound])


def test_a_shop_of_sounds_from_files_to_new_items(tmp_path: Path, tiny_bert: Path) -> None:
    """Encoded, trained on, recommended, and a new sound is rankable at once, also after a save."""
    import hfrec

    encoder = save_whisper(tmp_path / "encoder")
    for number in range(12):
        (tmp_path / f"{number}.wav").write_bytes(wav(200 + 300 * number, seconds=1))
    (tmp_path / "new.wav").write_bytes(wav(3500, seconds=1))
    items = [{"item_id": f"s{number}", "title": "red shoe", "audio": f"{number}.wav"} for number in range(12)]
    items[3]["audio"] = None
    catalog = hfrec.Catalog.from_frame(items, root=tmp_path)
    reader = hfrec.ItemEncoder(text=tiny_bert, audio=encoder)
    table = reader.encode(catalog, progress=False)
    assert table.sizes == {"text": 16, "audio": 16} and round(12 * table.coverage["audio"]) == 11
    log = [{"user_id": user, "item_id": f"s{(user + step) % 12}"} for user in range(8) for step in range(5)]
    splits = hfrec.split_leave_last(hfrec.load_interactions(log, catalog=catalog))
    model = hfrec.RecModel.for_items(table, hidden_size=16, num_layers=1, max_history=8, word_size=0, memories=[])
    model.item_encoder, model.projector = reader, hfrec.fit_projector(table, epochs=2)
    arguments = hfrec.RecTrainingArguments(
        str(tmp_path / "out"), max_steps=4, save_strategy="no", load_best_model_at_end=False, disable_tqdm=True
    )
    before = model.item_tower.projections["audio"].weight.clone()
    trainer = hfrec.RecTrainer(model, arguments, splits=splits, items=table)
    trainer.train()
    assert not torch.equal(model.item_tower.projections["audio"].weight, before), "it learns from what is heard"
    trainer.save_model()
    shop = hfrec.Recommender.from_pretrained(tmp_path / "out", images=tmp_path)
    shop.add_items([{"item_id": "new", "audio": "new.wav"}])
    row = shop.catalog.rows(["new"])[0]
    assert {name: bool(mask[row]) for name, mask in shop.model.items.present.items()} == {"text": False, "audio": True}
    found = shop.recommend(["s0", "s1"], k=11)
    assert "new" in [one.item_id for one in found] and all(np.isfinite(one.score) for one in found)
    assert "new" in [one.item_id for one in shop.search("red shoe", k=13)], "by words, through the projector"
    shop.save_pretrained(tmp_path / "again")
    again = hfrec.Recommender.from_pretrained(tmp_path / "again", images=tmp_path)
    assert np.allclose(
        [one.score for one in again.recommend(["s0", "s1"], k=11)], [one.score for one in found], atol=1e-5
    )
