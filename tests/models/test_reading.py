"""What a memory learns from: evidence that is what the model says, and a fit that finds out what to trust."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import hfrec
from hfrec.data.histories import Targets
from hfrec.data.splits import Splits
from hfrec.data.statistics import Statistics
from hfrec.items.table import ItemTable
from hfrec.models import reading
from hfrec.models.reading import Evidence, collect, evidence_of, fit


def learn(model: hfrec.RecModel, targets: Targets, seed: int = 0, q: float = 0.0, pull: float = 0.0) -> int:
    random = np.random.default_rng(seed)
    evidence = evidence_of(model, targets, random, seed)
    assert evidence is not None
    fit(model, evidence, random, seed, q, pull)
    return len(evidence)


@pytest.fixture
def newest(splits: Splits, shop_items: ItemTable) -> Targets:
    return splits.without_newest().targets("validation", shop_items.catalog)


@pytest.fixture
def model(splits: Splits, shop_items: ItemTable) -> hfrec.RecModel:
    """Its Transformer knows nothing, and its counts nothing of the newest events."""
    torch.manual_seed(0)
    config = hfrec.RecConfig.for_items(
        shop_items,
        hidden_size=16,
        max_history=20,
        word_size=0,
        memories=["transitions", "popularity"],
    )
    train = splits.without_newest().train_histories(shop_items.catalog)
    return hfrec.RecModel(config).attach(shop_items, Statistics.count(train, shop_items.catalog.num_rows))


def test_evidence_is_what_the_transformer_and_the_counts_say(model: hfrec.RecModel, newest: Targets) -> None:
    known = model.statistics.popularity[newest.rows] > 0
    indices = np.flatnonzero(known)[:20]
    evidence = collect(model, newest, indices, new_items=0.0)
    histories, labels = newest.histories(indices), newest.rows[indices]
    asked = [place for place in range(20) if labels[place] not in histories[place]]
    assert len(evidence) == len(asked) > 10
    scores = model.score(histories)
    recalled = model.recall(histories)
    amounts = model.memory.gather(recalled, torch.from_numpy(labels))
    for question, place in enumerate(asked):
        assert float(evidence.logits[question, 0]) == pytest.approx(float(scores[place, labels[place] - 1]), abs=1e-4)
        torch.testing.assert_close(evidence.amounts[question, 0].float(), amounts[place, place], rtol=1e-3, atol=1e-3)
        others = np.setdiff1d(model.known_rows, [*histories[place], labels[place]])
        found = evidence.logits[question, 1 : 1 + len(others)].sort().values
        torch.testing.assert_close(found, scores[place, others - 1].sort().values, rtol=1e-4, atol=1e-4)
        assert bool((evidence.corrections[question, 1 + len(others) :] < -1e3).all()), "seen items do not compete"
    np.testing.assert_allclose(evidence.contexts.numpy(), recalled.contexts[asked])


def test_items_that_are_drawn_stand_for_all(
    model: hfrec.RecModel, newest: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum over a softmax's items is, in the mean, that over all of them."""
    indices = np.flatnonzero(model.statistics.popularity[newest.rows] > 0)
    whole = collect(model, newest, indices)
    monkeypatch.setattr(reading, "_LIKELY", 10)
    monkeypatch.setattr(reading, "_CANDIDATES", 50)
    some = [collect(model, newest, indices, seed) for seed in range(5)]
    assert some[0].logits.shape[1] == 50 and bool((some[0].logits[:, 0] == whole.logits[:, 0]).all())
    totals = torch.stack([(one.logits.exp() * one.corrections.exp()).sum(1) for one in some]).mean()
    assert float(totals / (whole.logits.exp() * whole.corrections.exp()).sum(1).mean()) == pytest.approx(1, abs=0.02)


def test_a_transformer_that_knows_nothing_is_trusted_less(model: hfrec.RecModel, newest: Targets) -> None:
    evidence = collect(model, newest, np.flatnonzero(model.statistics.popularity[newest.rows] > 0))
    every = torch.arange(len(evidence))
    with torch.no_grad():
        before = float(evidence.loss(model.memory, every))
    assert learn(model, newest) == len(evidence) and model.config.memory_learned
    with torch.no_grad():
        after = float(evidence.loss(model.memory, every))
    plain = float(torch.nn.functional.cross_entropy(evidence.corrections, torch.zeros(len(every), dtype=torch.long)))
    assert after < before - 0.05 and after < plain - 0.1
    assert not any(weight.requires_grad for weight in model.memory.parameters())


def test_labels_that_cannot_be_found_count_less_the_larger_q_is(model: hfrec.RecModel, newest: Targets) -> None:
    """The loss lies between -log p at 0 and 1 - p at 1; its gradient is that of -log p times p^q."""
    evidence = collect(model, newest, np.flatnonzero(model.statistics.popularity[newest.rows] > 0)[:20])
    one, gate = torch.arange(1), model.memory.gate.requires_grad_(True)
    found = {q: evidence.loss(model.memory, one, q) for q in (0.0, 0.5, 1.0)}
    slopes = {q: torch.autograd.grad(loss, gate)[0] for q, loss in found.items()}
    found = {q: loss.detach() for q, loss in found.items()}
    likelihood = torch.exp(-found[0.0])
    assert float(found[1.0]) == pytest.approx(float(1 - likelihood), abs=1e-6)
    assert float(found[0.5]) == pytest.approx(float(2 * (1 - likelihood.sqrt())), abs=1e-6)
    for q in (0.5, 1.0):
        assert float(slopes[q]) == pytest.approx(float(slopes[0.0] * likelihood**q), rel=1e-4)
    learned = []
    for q in (0.0, 0.5):
        assert learn(model, newest, q=q)
        learned.append(torch.cat([weight.flatten() for weight in model.memory.parameters()]).clone())
    assert not torch.equal(*learned)


def test_what_is_learned_is_a_function_of_the_seed(model: hfrec.RecModel, newest: Targets) -> None:
    found = []
    for seed in (0, 0, 1):
        torch.rand(7)
        learn(model, newest, seed)
        found.append(torch.cat([weight.flatten() for weight in model.memory.parameters()]).clone())
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_of_few_events_little_is_learned(model: hfrec.RecModel, newest: Targets) -> None:
    def moved(pull: float, events: int) -> float:
        some = Targets(newest.sequences, newest.users[:events], newest.positions[:events], newest.candidates)
        assert learn(model, some, pull=pull)
        now = model.memory.state_dict()
        return float(sum((now[name] - begins[name]).square().sum() for name in begins) ** 0.5)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.memory.forget()
    begins = {name: weight.clone() for name, weight in model.memory.state_dict().items()}
    freely, some, held = (moved(pull, 20) for pull in (0.0, 3.0, 1e6))
    assert freely > 2 * some > 4 * held
    assert moved(3.0, len(newest)) > 1.2 * some, "many events outweigh it"


def test_what_was_kept_is_where_learning_starts(model: hfrec.RecModel, newest: Targets) -> None:
    learn(model, newest)
    kept = {name: weight.clone() for name, weight in model.memory.state_dict().items()}
    model.memory.keep()
    learn(model, newest, seed=1, pull=1e6)
    now = model.memory.state_dict()
    assert all(torch.allclose(now[name], kept[name], atol=2e-2) for name in kept)
    learn(model, newest, seed=0)
    again = model.memory.state_dict()
    assert all(torch.equal(again[name], kept[name]) for name in kept), "without a pull it learns from its beginning"


def test_a_hidden_item_is_shown_as_a_new_one(model: hfrec.RecModel, newest: Targets) -> None:
    indices = np.flatnonzero(model.statistics.popularity[newest.rows] > 0)
    evidence = collect(model, newest, indices, new_items=0.5)
    new = model.memory.sources.index("new")
    is_new = evidence.amounts[..., new] > 0
    assert 0.3 < float(is_new[:, 0].float().mean()) < 0.7
    counted = [model.memory.sources.index(name) for name in ("transitions", "popularity")]
    assert not evidence.amounts[..., counted][is_new].any() and evidence.amounts[..., counted][~is_new].any()


def test_an_item_without_events_that_competes_is_new_whatever_its_id_says(
    model: hfrec.RecModel, newest: Targets
) -> None:
    model.grow_item_ids(model.catalog.item_ids)
    known = model.known_rows
    model.statistics.popularity[known[::3]] = 0
    indices = np.flatnonzero(np.isin(newest.rows, known))
    assert not np.isin(known[::3], model.known_rows).any()

    def found() -> tuple[torch.Tensor, torch.Tensor]:
        evidence = collect(model.attach(model.items, model.statistics), newest, indices, among=known, new_items=0.0)
        return evidence.amounts[..., model.memory.sources.index("new")], evidence.logits

    is_new, logits = found()
    assert 0.2 < float(is_new[:, 0].float().mean()) < 0.5
    with torch.no_grad():
        model.item_tower.ids.weight[known[::3] - 1] += 10
    torch.testing.assert_close(found()[1], logits)
    with torch.no_grad():
        model.item_tower.ids.weight[known[1::3] - 1] += 10
    assert not torch.allclose(found()[1], logits)


def test_no_more_events_than_asked_for_are_learned_from(model: hfrec.RecModel, newest: Targets) -> None:
    whole, few = (evidence_of(model, newest, np.random.default_rng(0), most=most) for most in (10_000, 10))
    assert whole is not None and few is not None and 0 < len(few) <= 10 < len(whole)


def test_with_no_known_item_there_is_nothing_to_learn_from(model: hfrec.RecModel, newest: Targets) -> None:
    nobody = Targets(newest.sequences, newest.users[:0], newest.positions[:0], newest.candidates)
    assert evidence_of(model, nobody, np.random.default_rng(0)) is None


def test_evidence_of_several_is_that_of_each(model: hfrec.RecModel, newest: Targets) -> None:
    """Where one has fewer items, what fills the places is worth nothing to it."""
    indices = np.flatnonzero(model.statistics.popularity[newest.rows] > 0)
    few = model.known_rows[::2].copy()
    among_few = indices[np.isin(newest.rows[indices], few)]
    parts = [collect(model, newest, indices), collect(model, newest, among_few, among=few)]
    assert parts[0].logits.shape[1] > parts[1].logits.shape[1]
    joined = Evidence.joined(parts)
    assert len(joined) == len(parts[0]) + len(parts[1]) and Evidence.joined(parts[:1]) is parts[0]
    with torch.no_grad():
        losses = [part.loss(model.memory, torch.arange(len(part))) for part in parts]
        places = torch.arange(len(parts[0]), len(joined))
        assert torch.allclose(joined.loss(model.memory, places), losses[1], atol=1e-5)
        assert torch.allclose(joined.loss(model.memory, torch.arange(len(parts[0]))), losses[0], atol=1e-5)
