"""What a trained model learns from when its log has grown, and what is said where the log is not the grown one."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hfrec
from hfrec.data.histories import Histories
from hfrec.data.splits import Splits
from hfrec.data.statistics import Statistics
from hfrec.items.table import ItemTable
from hfrec.training.replay import differences, first_labels, warn_of_differences

NUM_ROWS = 21


def log_of(num_users: int = 50, seed: int = 0) -> Histories:
    rng = np.random.default_rng(seed)
    rows = [rng.integers(1, NUM_ROWS, rng.integers(1, 12)) for _ in range(num_users)]
    log = Histories.from_rows(rows)
    return replace(log, times=np.concatenate([np.sort(rng.uniform(0, 100, len(one))) for one in rows]))


def earlier_part(log: Histories, until: float) -> Histories:
    kept = log.times <= until
    lengths = np.bincount(log.owners[kept], minlength=len(log))
    return Histories(log.rows[kept], np.concatenate([[0], np.cumsum(lengths)]), log.times[kept])


def test_new_events_are_labels_and_of_some_users_all() -> None:
    log = log_of()
    counted = Statistics.count(earlier_part(log, 60), NUM_ROWS)
    earlier = np.array([(log.times[log.owners == user] <= 60).sum() for user in range(len(log))])
    assert np.array_equal(first_labels(counted, log, 0.0, seed=0), earlier)
    assert not first_labels(counted, log, 1.0, seed=0).any()
    firsts = first_labels(counted, log, 0.25, seed=0)
    replayed = firsts != earlier
    assert replayed.sum() == round(0.25 * (earlier > 0).sum()) and not firsts[replayed].any()
    assert np.array_equal(firsts, first_labels(counted, log, 0.25, seed=0))
    assert not np.array_equal(firsts, first_labels(counted, log, 0.25, seed=1))
    with pytest.raises(ValueError, match=r"`replay` must be a share of the users, 0 … 1, got 1\.5"):
        first_labels(counted, log, 1.5, seed=0)


def test_the_grown_log_is_silent_and_others_are_counted_and_named() -> None:
    log = log_of()
    counted = Statistics.count(earlier_part(log, 60), NUM_ROWS)
    assert differences(counted, log) == (0, 0)
    warn_of_differences(counted, log)

    late = replace(counted, popularity=counted.popularity - np.eye(NUM_ROWS)[5].astype(np.float32) * 2)
    with pytest.warns(UserWarning, match=r"^2 events up to \d+.*are not among its counts: they came late"):
        warn_of_differences(late, log)

    new_alone = log.spans(np.arange(len(log)), first_labels(counted, log, 0.0, seed=0), log.lengths)
    num_counted = int(counted.popularity.sum())
    assert differences(counted, new_alone) == (0, num_counted)
    with pytest.warns(UserWarning, match=f"The log lacks {num_counted} of the {num_counted} events .* whole log"):
        warn_of_differences(counted, new_alone)


def test_a_trainer_goes_on_with_replay_and_starts_over_without(
    trained_folder: Path, shop_items: ItemTable, splits: Splits, tmp_path: Path
) -> None:
    arguments = hfrec.RecTrainingArguments(str(tmp_path), disable_tqdm=True, use_cpu=True)
    until = hfrec.RecModel.from_pretrained(trained_folder).statistics.until
    grown = hfrec.split_new_events(splits.events.drop("part"), until)
    labels = {}
    for replay in (None, 0.0, 0.5):
        model = hfrec.RecModel.from_pretrained(trained_folder)
        axes = model.text_index.axes
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            trainer = hfrec.RecTrainer(model, arguments, splits=grown, items=shop_items, replay=replay)
        assert model.text_index.axes is axes, "it has learned to read words along these"
        windows = trainer.train_dataset
        labels[replay] = int((windows.stops - windows.first_labels).sum())
        counts = Statistics.count(trainer.train_histories, shop_items.catalog.num_rows)
        np.testing.assert_allclose(model.statistics.popularity, counts.popularity)
        np.testing.assert_allclose(model.statistics.transitions.toarray(), counts.transitions.toarray(), rtol=1e-5)
        assert model.statistics.until == counts.until > until
    new = grown.part("train").filter(grown.part("train")["timestamp"] > until)
    assert labels[None] == len(grown.part("train"))
    assert labels[0.0] == len(new) < labels[0.5] < labels[None]
