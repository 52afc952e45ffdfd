"""The card says what was measured, in words and in the Hub's metadata."""

from __future__ import annotations

import copy

import pytest
from huggingface_hub import ModelCard

from hfrec.model_card import render_card


def figures(hr: float, ndcg: float) -> dict[str, float]:
    return {"hr@10": hr, "ndcg@10": ndcg, "hr@5": 0.0, "users": 7}


RESULTS = {
    "dataset": "Bücher: alt & neu",
    "split": "global time 80%/10%/10%",
    "candidates": 12_345,
    "test": {"all": figures(0.25, 0.125), "language=de": figures(0.5, 0.25), "cold": figures(0.0, 0.0)},
    "baselines": {"popularity": {"all": figures(0.1, 0.05), "language=de": figures(0, 0), "cold": figures(0, 0)}},
    "seconds": {"encode": 1.5, "train": 2.0},
    "environment": {"python": "3.12", "torch": "2.14"},
    "model": {
        "backbone": "gpt2",
        "parameters": 1_234_567,
        "modalities": {"text": 384, "image": 96},
        "languages": ["de", "en"],
        "loss": "FullSoftmax()",
        "seed": 3,
        "epochs": 4.5,
    },
}


def test_metadata_holds_every_slice_with_its_figures() -> None:
    data = ModelCard(render_card(RESULTS)).data
    assert data.model_name == "hfrec on Bücher: alt & neu"
    assert (
        data.library_name == "hfrec"
        and data.tags == ["recommendation", "hfrec", "multimodal"]
        and data.language == ["de", "en"]
    )
    measured = {(one.dataset_config, one.metric_type): one.metric_value for one in data.eval_results}
    assert measured == {
        (slice, metric): value
        for slice, of in RESULTS["test"].items()
        for metric, value in of.items()
        if metric != "users"
    }
    assert {one.dataset_split for one in data.eval_results} == {"test"}


def test_text_says_what_it_is_and_how_it_was_made() -> None:
    text = ModelCard(render_card(RESULTS)).text
    assert "items are read as text and image" in text
    assert "a gpt2 decoder models the history (1,234,567 parameters)" in text
    assert "12,345 candidates" in text and "`FullSoftmax()`, seed 3, 4.5 epochs" in text
    assert "| | seconds |\n|---|---:|\n| encode | 1.5 |\n| train | 2.0 |\n" in text
    assert "Measured with python 3.12, torch 2.14." in text
    # The table has the slices that all runs share, in one order; languages are in the metadata.
    assert "| HR@10 / NDCG@10 | all (7 users: too few) | cold (7 users: too few) |\n|---|---|---|\n" in text
    assert "| hfrec | 0.2500 / 0.1250 | 0.0000 / 0.0000 |\n| popularity | 0.1000 / 0.0500 |" in text


def test_a_model_of_ids_alone_and_of_no_known_language() -> None:
    results = copy.deepcopy(RESULTS)
    results["model"] |= {"modalities": {}, "languages": []}
    card = ModelCard(render_card(results))
    assert "items are read as ids" in card.text and card.data.language is None


def test_a_baseline_that_is_better_is_named() -> None:
    assert "no baseline surpasses it" in render_card(RESULTS)
    other = copy.deepcopy(RESULTS)
    other["baselines"]["popularity"]["cold"] = figures(0.1, 0.01)
    other["chosen"] = {"new_item_boost": 1.5, "popularity_discount": 0.2}
    text = render_card(other)
    assert "it is surpassed on `cold` by popularity." in text and "boosted by 1.5, and 0.2 · ln(1 + its events)" in text


def test_an_update_has_a_validation_part_and_says_what_was_new() -> None:
    results = copy.deepcopy(RESULTS)
    results["validation"] = results.pop("test")
    results["update"] = {"said": "goes on from runs/shop: 9 new events"}
    card = ModelCard(render_card(results))
    assert {one.dataset_split for one in card.data.eval_results} == {"validation"}
    assert "* goes on from runs/shop: 9 new events\n" in card.text
    assert "| hfrec | 0.2500 / 0.1250 | 0.0000 / 0.0000 |" in card.text


def test_the_same_results_give_the_same_card() -> None:
    assert render_card(RESULTS) == render_card(copy.deepcopy(RESULTS))
    with pytest.raises(KeyError, match="baselines"):
        render_card({name: value for name, value in RESULTS.items() if name != "baselines"})
