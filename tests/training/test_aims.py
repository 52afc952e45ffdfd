"""What is learned beside the next item: each aim falls when it is trained on, and says nothing where it cannot."""

from __future__ import annotations

import pytest
import torch

import hfrec
from hfrec.data.statistics import Statistics
from hfrec.training.aims import AIMS, Alignment, LanguageConsistency, MaskedItem, ViewContrast, contrast


@pytest.fixture
def model(shop_items, train):
    torch.manual_seed(0)
    config = hfrec.RecConfig.for_items(
        shop_items, hidden_size=16, max_history=20, use_item_ids=False, word_size=0, memories=[], dropout=0.0
    )
    model = hfrec.RecModel(config)
    return model.attach(shop_items, Statistics.count(train, shop_items.catalog.num_rows)).train()


@pytest.fixture
def batch(model, train):
    tokens = dict(model.processor(train.take(range(24))))
    return {**tokens, "candidates": torch.from_numpy(model.known_rows)}


@pytest.mark.parametrize("name", AIMS)
def test_an_aim_is_learned(name, model, batch):
    aim = AIMS[name]()
    optimizer = torch.optim.Adam((one for one in model.parameters() if one.requires_grad), 3e-3)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        value = aim(model, batch)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert sum(values[-10:]) < 0.9 * sum(values[:10])


def test_a_hidden_item_is_told_by_both_sides(model, batch):
    model.eval()
    mask, rows = batch["attention_mask"], batch["rows"]
    changed = rows.clone()
    changed[:, -1] = 1
    at = [model._states(one, mask, both_ways=both)[:, -3] for both in (True, False) for one in (rows, changed)]
    assert not torch.allclose(at[0], at[1], atol=1e-5), "what comes after is not seen"
    assert torch.allclose(at[2], at[3], atol=1e-5), "what comes after is seen where it must not be"


def test_padding_changes_no_state_that_sees_both_sides(model, batch):
    model.eval()
    rows, mask = batch["rows"][:2], batch["attention_mask"][:2]
    padded = [torch.nn.functional.pad(one, (3, 0)) for one in (rows, mask)]
    states, wider = model._states(rows, mask, both_ways=True), model._states(*padded, both_ways=True)
    there = mask > 0
    assert torch.allclose(states[there], wider[:, 3:][there], atol=1e-5)


def test_a_view_is_a_part_of_its_history(batch):
    mask = batch["attention_mask"]
    torch.manual_seed(0)
    for _ in range(20):
        seen = ViewContrast()._seen(mask)
        assert (seen <= mask).all() and (seen.sum(-1) >= 1).all()
    assert (seen.sum(-1) < mask.sum(-1)).any()


def test_contrast_of_views_that_are_alike_is_small():
    views = torch.eye(5)
    assert contrast(views, views, 0.1) < 1e-3 < contrast(views, views.roll(1, 0), 0.1)


def test_where_there_is_nothing_to_tell_an_aim_is_0(model, batch):
    alone = {name: value[:1] for name, value in batch.items() if name != "candidates"}
    assert ViewContrast()(model, alone) == 0
    assert MaskedItem(rate=0.0)(model, batch) == 0
    nothing = {**batch, "rows": torch.zeros_like(batch["rows"])}
    assert Alignment()(model, nothing) == 0


def test_a_model_learns_aims_in_its_forward_pass(model, batch):
    labels = torch.where(batch["rows"] > 0, batch["rows"], -100)
    given = {**{name: batch[name] for name in ("rows", "attention_mask")}, "labels": labels}
    plain = model(**given, loss=hfrec.losses.FullSoftmax()).loss
    torch.manual_seed(1)
    both = model(**given, loss=hfrec.losses.FullSoftmax(), aims=[Alignment(weight=2.0)]).loss
    torch.manual_seed(1)
    assert (both - plain).item() == pytest.approx(Alignment(weight=2.0)(model, given | {"gaps": None}).item(), abs=0.2)
    unlabelled = model(
        **{**given, "labels": torch.full_like(labels, -100)}, loss=hfrec.losses.FullSoftmax(), aims=[ViewContrast()]
    )
    assert unlabelled.loss > 0, "a history without labels teaches by its views"


@pytest.fixture
def translated(model, german_items):
    """The model with a second language of every other item."""
    return model.attach(german_items, model.statistics)


def test_languages_of_an_item_are_pulled_together(translated, batch):
    aim = LanguageConsistency(weight=1.0)
    optimizer = torch.optim.Adam((one for one in translated.parameters() if one.requires_grad), 3e-3)

    def alike():
        """Mean cosine of an item's two vectors less that of two items' vectors."""
        translated.eval()
        rows = translated.items.variants["text"].present[0].nonzero().squeeze(1)
        with torch.no_grad():
            one, other = (
                torch.nn.functional.normalize(translated.item_tower(rows, of, translated._id_rows, only="text"), dim=-1)
                for of in (translated.items, translated.items.in_language("de"))
            )
        translated.train()
        return float((one * other).sum(-1).mean() - (one @ other.T).mean())

    before = alike()
    for _ in range(60):
        optimizer.zero_grad()
        aim(translated, batch).backward()
        optimizer.step()
    assert alike() > before + 0.2


def test_without_another_language_consistency_is_0(model, batch, translated):
    assert LanguageConsistency()(translated, batch) > 0
    untaught = translated.items.drawing([])
    assert LanguageConsistency()(translated.attach(untaught, translated.statistics), batch) == 0


def test_a_run_may_ask_for_consistency(shop_items, splits, translated, tmp_path):
    losses = []
    for weight in (0.0, 5.0):
        arguments = hfrec.RecTrainingArguments(
            str(tmp_path), max_steps=3, language_consistency=weight, disable_tqdm=True, use_cpu=True,
            eval_strategy="no", save_strategy="no", load_best_model_at_end=False, logging_steps=3,
        )  # fmt: skip
        torch.manual_seed(0)
        config = hfrec.RecConfig.for_items(
            shop_items, hidden_size=16, max_history=20, use_item_ids=False, word_size=0, memories=[]
        )
        trainer = hfrec.RecTrainer(hfrec.RecModel(config), arguments, splits=splits, items=translated.items)
        trainer.train()
        losses.append(trainer.state.log_history[0]["loss"])
    assert losses[1] > losses[0] + 1
    with pytest.raises(ValueError, match="`language_consistency` must be a weight of at least 0, got -1"):
        hfrec.RecTrainingArguments(str(tmp_path), language_consistency=-1)
