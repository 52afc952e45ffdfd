"""The memory: counts without one's own, new items as a trained case, and a logit that ranks like the counters do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from hfrec.data.factors import FOLDS, ItemFactors
from hfrec.data.histories import Histories
from hfrec.data.statistics import Statistics
from hfrec.models.memory import Memory, Own, Pairs, Recall

NUM_ROWS = 8


def memory(*sources: str) -> Memory:
    torch.manual_seed(0)
    return Memory(sources, width=4, decay=0.7, window=10)


def recall(memory: Memory, histories: Histories, statistics: Statistics, words: Any = None, **own: Any) -> Recall:
    pairs = {"transitions": Pairs(statistics.transitions)} | ({} if words is None else {"words": Pairs(words)})
    return memory.recall(histories, statistics, pairs, **own)


def whose(events: Histories, *owners: int) -> Own:
    """Users in the order of `events`, whose each history is."""
    return Own(events, np.arange(len(events)) % FOLDS, np.array(owners))


def amounts(recalled: Recall, source: str, num: int) -> np.ndarray:
    found = recalled.of(source, torch.arange(num), torch.arange(NUM_ROWS))
    assert found is not None
    return np.broadcast_to(found.numpy(), (num, NUM_ROWS))


def logits(memory: Memory, recalled: Recall, num: int) -> np.ndarray:
    with torch.no_grad():
        return memory(torch.zeros(num, 4), recalled, torch.arange(num), torch.arange(NUM_ROWS)).numpy()


@pytest.fixture
def train() -> Histories:
    return Histories.from_rows([[1, 2, 3], [1, 2], [4, 5], [4, 6], [4, 6]])


def test_a_pair_that_occurs_once_has_a_zero_logit_in_training(train: Histories) -> None:
    """4 → 5 is known from one user alone: the model must not see it in that user's own history."""
    statistics = Statistics.count(train, NUM_ROWS)
    counted = memory("transitions")
    prefix = Histories.from_rows([[4]])
    own = recall(counted, prefix, statistics, own=whose(train.take([2]), 0))
    assert logits(counted, own, 1)[0, 5] == 0
    assert logits(counted, own, 1)[0, 6] > 0
    assert logits(counted, recall(counted, prefix, statistics), 1)[0, 5] > 0


def test_own_counts_taken_away_are_counts_over_the_other_users() -> None:
    rng = np.random.default_rng(0)
    train = Histories.from_rows([rng.integers(1, NUM_ROWS, 9) for _ in range(4)])
    counted = memory("transitions", "popularity")
    statistics = Statistics.count(train, NUM_ROWS)
    owners = np.array([2, 0, 2])
    histories = train.spans(owners, np.zeros(3, np.int64), np.array([3, 9, 6]))
    own = recall(counted, histories, statistics, own=whose(train, *owners))
    mean = statistics.popularity[1:].mean()
    for position, owner in enumerate(owners):
        others = Statistics.count(train.take([user for user in range(4) if user != owner]), NUM_ROWS)
        plain = recall(counted, histories.take([position]), others)
        np.testing.assert_allclose(
            amounts(own, "transitions", 3)[position], amounts(plain, "transitions", 1)[0], atol=1e-5
        )
        np.testing.assert_allclose(amounts(own, "popularity", 3)[position], others.popularity / mean, atol=1e-5)


def test_a_hidden_item_is_counted_nowhere(train: Histories) -> None:
    statistics = Statistics.count(train, NUM_ROWS)
    counted = memory("transitions", "popularity")
    hidden = np.zeros(NUM_ROWS, bool)
    hidden[2] = True
    recalled = recall(counted, Histories.from_rows([[1], [2]]), statistics, hidden=hidden)
    followed, popular = amounts(recalled, "transitions", 2), amounts(recalled, "popularity", 2)
    assert followed[0, 2] == 0 and followed[0, 3] > 0
    assert not followed[1].any()
    assert popular[0, 2] == 0 and popular[0, 1] > 0


def test_alone_it_ranks_like_counting_with_words() -> None:
    rng = np.random.default_rng(1)
    train = Histories.from_rows([rng.integers(1, NUM_ROWS, 6) for _ in range(5)])
    words = sparse.csr_array(rng.random((NUM_ROWS, NUM_ROWS)).astype(np.float32))
    statistics = Statistics.count(train, NUM_ROWS)
    counted = memory("transitions", "words")
    histories = train.last(4)
    recalled = recall(counted, histories, statistics, words)
    weights = sparse.csr_array(
        [
            [sum(0.7**k for k, one in enumerate(history[::-1]) if one == row) for row in range(NUM_ROWS)]
            for history in (histories[index] for index in range(5))
        ]
    )
    plain = (weights @ statistics.transitions + weights @ words).toarray()
    known = np.flatnonzero(statistics.popularity)
    found = logits(counted, recalled, 5)[:, known]
    np.testing.assert_array_equal(np.argsort(found), np.argsort(plain[:, known]))


def test_without_counts_all_items_are_alike() -> None:
    counted = memory("transitions", "popularity", "words")
    recalled = recall(counted, Histories.from_rows([[1, 2], []]), Statistics.empty(NUM_ROWS))
    assert len(np.unique(logits(counted, recalled, 2))) == 1


def test_some_positions_and_rows_are_a_part_of_all(train: Histories) -> None:
    statistics = Statistics.count(train, NUM_ROWS)
    counted = memory("transitions", "popularity")
    recalled = recall(counted, train, statistics, own=whose(train, *range(5)))
    states = torch.randn(5, 4)
    with torch.no_grad():
        whole = counted(states, recalled, torch.arange(5), torch.arange(NUM_ROWS))
        part = counted(states[[3, 1]], recalled, torch.tensor([3, 1]), torch.tensor([6, 2, 4]))
    assert torch.equal(part, whole[[3, 1]][:, [6, 2, 4]])


def test_a_dense_matrix_recalls_what_a_sparse_one_does(monkeypatch: pytest.MonkeyPatch, train: Histories) -> None:
    statistics = Statistics.count(train, NUM_ROWS)
    counted = memory("transitions")
    found = []
    for full in (0.0, 2.0):
        monkeypatch.setattr("hfrec.models.memory._FULL", full)
        own = recall(counted, train, statistics, own=whose(train, 4, 3, 2, 1, 0))
        found.append(amounts(own, "transitions", 5))
    assert found[0].any()
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_gates_learn(train: Histories) -> None:
    counted = memory("transitions", "popularity")
    states = torch.randn(5, 4, requires_grad=True)
    recalled = recall(counted, train, Statistics.count(train, NUM_ROWS))
    counted(states, recalled, torch.arange(5), torch.arange(NUM_ROWS)).sum().backward()
    for weight in (*counted.parameters(), states):
        assert weight.grad is not None and bool((weight.grad != 0).any())


def test_factors_recall_what_the_users_of_a_history_choose_else() -> None:
    """Items 1 to 3 go together, and 4 to 6: never one right after the other, so that transitions know nothing."""
    factors = np.zeros((1, NUM_ROWS, 2), np.float32)
    factors[0, 1:4, 0] = factors[0, 4:7, 1] = 0.5
    counted = memory("factors")
    known = Statistics(np.ones(NUM_ROWS, np.float32), Statistics.empty(NUM_ROWS).transitions)
    recalled = recall(counted, Histories.from_rows([[1, 2], [5]]), known, factors=ItemFactors(factors, factors * 0))
    np.testing.assert_allclose(amounts(recalled, "factors", 2)[:, [3, 6]], [[0.5, 0], [0, 0.25]])


def test_in_training_a_history_reads_the_factors_of_its_own_fold() -> None:
    factors = np.zeros((FOLDS, NUM_ROWS, 1), np.float32)
    factors[:, 1:, 0] = np.sqrt(np.arange(1, FOLDS + 1))[:, None]
    counted = memory("factors")
    train = Histories.from_rows([[1]] * 7)
    known = Statistics.count(train, NUM_ROWS)
    own = whose(train, 6, 0, 3)
    recalled = recall(counted, train.take(own.owners), known, factors=ItemFactors(factors, factors), own=own)
    np.testing.assert_allclose(amounts(recalled, "factors", 3)[:, 2], [2, 1, 4], rtol=1e-6)


def test_of_a_hidden_item_only_what_its_content_lets_expect_is_read() -> None:
    counted, expected = np.ones((1, NUM_ROWS, 1), np.float32), np.full((1, NUM_ROWS, 1), 3, np.float32)
    hidden = np.arange(NUM_ROWS) == 2
    known = Statistics(np.ones(NUM_ROWS, np.float32), Statistics.empty(NUM_ROWS).transitions)
    one = memory("factors")
    recalled = recall(
        one, Histories.from_rows([[1], [2]]), known, factors=ItemFactors(counted, expected), hidden=hidden
    )
    np.testing.assert_array_equal(amounts(recalled, "factors", 2)[:, [1, 2]], [[1, 3], [3, 9]])
