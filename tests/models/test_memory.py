"""The memory: looks at counts, new items as a trained case, and a score that ranks like the counters do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from hfrec.data.factors import ItemFactors
from hfrec.data.histories import Histories
from hfrec.data.statistics import Statistics
from hfrec.models.memory import CONTEXTS, Memory, Pairs, Recall

NUM_ROWS = 8


def memory(*sources: str) -> Memory:
    torch.manual_seed(0)
    return Memory(sources, decay=0.7, window=10)


def recall(memory: Memory, histories: Histories, statistics: Statistics, words: Any = None, **seen: Any) -> Recall:
    back = statistics.transitions.T.tocsr()
    pairs = {"transitions": Pairs(statistics.transitions), "transitions backward": Pairs(back)}
    pairs |= {"transitions newest": pairs["transitions"]} | ({} if words is None else {"words": Pairs(words)})
    return memory.recall(histories, statistics, pairs, **seen)


def amounts(recalled: Recall, source: str) -> np.ndarray:
    found = recalled.of(source, torch.arange(NUM_ROWS))
    assert found is not None
    return np.broadcast_to(found.numpy(), (len(recalled), NUM_ROWS))


def scores(memory: Memory, recalled: Recall, said: torch.Tensor | None = None) -> np.ndarray:
    said = torch.zeros(len(recalled), NUM_ROWS) if said is None else said
    with torch.no_grad():
        return memory(said, recalled, torch.arange(NUM_ROWS)).numpy()


@pytest.fixture
def train() -> Histories:
    return Histories.from_rows([[1, 2, 3], [1, 2], [4, 5], [4, 6], [4, 6]])


def test_looks_at_transitions(train: Histories) -> None:
    statistics = Statistics.count(train, NUM_ROWS)
    recalled = recall(memory("transitions"), Histories.from_rows([[4, 2]]), statistics)
    np.testing.assert_allclose(amounts(recalled, "transitions")[0], [0, 0, 0, 1, 0, 0.7, 1.4, 0])
    np.testing.assert_allclose(amounts(recalled, "transitions newest")[0], [0, 0, 0, 1, 0, 0, 0, 0])
    np.testing.assert_allclose(amounts(recalled, "transitions backward")[0], [0, 2, 0, 0, 0, 0, 0, 0])


def test_contexts_are_the_length_and_what_is_known_of_the_newest_item(train: Histories) -> None:
    statistics = Statistics.count(train, NUM_ROWS)
    recalled = recall(memory("transitions"), Histories.from_rows([[1, 4], [], [7]]), statistics)
    mean = statistics.popularity[1:7].mean()
    assert recalled.contexts.shape == (3, CONTEXTS)
    np.testing.assert_allclose(recalled.contexts[0], np.log1p([2, 3 / mean, 3]), rtol=1e-6)
    np.testing.assert_allclose(recalled.contexts[1:], np.log1p([[0, 0, 0], [1, 0, 0]]), rtol=1e-6)


def test_a_hidden_item_is_counted_nowhere(train: Histories) -> None:
    statistics = Statistics.count(train, NUM_ROWS)
    counted = memory("transitions", "popularity")
    hidden = np.zeros(NUM_ROWS, bool)
    hidden[2] = True
    recalled = recall(counted, Histories.from_rows([[1], [2]]), statistics, hidden=hidden)
    followed, popular = amounts(recalled, "transitions"), amounts(recalled, "popularity")
    assert followed[0, 2] == 0 and followed[0, 3] > 0
    assert not followed[1].any() and not recalled.contexts[1, 1:].any()
    assert popular[0, 2] == 0 and popular[0, 1] > 0


def test_alone_it_ranks_like_counting_with_words() -> None:
    """Before any learning, its network being 0; the newest item and the way back are left out."""
    rng = np.random.default_rng(1)
    train = Histories.from_rows([rng.integers(1, NUM_ROWS, 6) for _ in range(5)])
    words = sparse.csr_array(rng.random((NUM_ROWS, NUM_ROWS)).astype(np.float32))
    statistics = Statistics.count(train, NUM_ROWS)
    counted = memory("transitions", "words")
    pairs = {"transitions": Pairs(statistics.transitions), "words": Pairs(words)}
    histories = train.last(4)
    recalled = counted.recall(histories, statistics, pairs)
    weights = sparse.csr_array(
        [
            [sum(0.7**k for k, one in enumerate(history[::-1]) if one == row) for row in range(NUM_ROWS)]
            for history in (histories[index] for index in range(5))
        ]
    )
    plain = (weights @ statistics.transitions + weights @ words).toarray()
    known = np.flatnonzero(statistics.popularity)
    found = scores(counted, recalled)[:, known]
    np.testing.assert_array_equal(np.argsort(found), np.argsort(plain[:, known]))


def test_without_counts_all_items_are_alike() -> None:
    counted = memory("transitions", "popularity", "words")
    recalled = recall(counted, Histories.from_rows([[1, 2], []]), Statistics.empty(NUM_ROWS))
    assert len(np.unique(scores(counted, recalled))) == 1


def test_what_the_transformer_says_is_trusted_by_the_context_and_the_amounts(train: Histories) -> None:
    counted = memory("transitions", "popularity")
    with torch.no_grad():
        counted.doubts.uniform_(-1, 1)
    recalled = recall(counted, train, Statistics.count(train, NUM_ROWS))
    said = torch.randn(5, NUM_ROWS)
    trust = scores(counted, recalled, said + 1) - scores(counted, recalled, said)
    assert len(np.unique(trust.round(4))) > 5
    rows = torch.arange(NUM_ROWS)
    units = torch.relu(
        counted.amounts(torch.log1p(counted.gather(recalled, rows)))
        + counted.contexts(torch.from_numpy(recalled.contexts))[:, None]
    )
    np.testing.assert_allclose(trust, 0.5 + (units @ counted.doubts).detach().numpy(), atol=1e-4)


def test_some_rows_are_a_part_of_all(train: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is all the same how many are read at once."""
    counted = memory("transitions", "popularity")
    recalled = recall(counted, train, Statistics.count(train, NUM_ROWS))
    said = torch.randn(5, NUM_ROWS)
    whole = scores(counted, recalled, said)
    rows = torch.tensor([6, 2, 4])
    with torch.no_grad():
        np.testing.assert_allclose(counted(said[:, rows], recalled, rows).numpy(), whole[:, rows], atol=1e-6)
    monkeypatch.setattr("hfrec.models.memory._CELLS_AT_ONCE", 10)
    np.testing.assert_allclose(scores(counted, recalled, said), whole, atol=1e-6)


def test_a_dense_matrix_recalls_what_a_sparse_one_does(monkeypatch: pytest.MonkeyPatch, train: Histories) -> None:
    statistics = Statistics.count(train, NUM_ROWS)
    counted = memory("transitions")
    found = []
    for full in (0.0, 2.0):
        monkeypatch.setattr("hfrec.models.memory._FULL", full)
        found.append(amounts(recall(counted, train, statistics), "transitions"))
    assert found[0].any()
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_factors_recall_what_the_users_of_a_history_choose_else() -> None:
    """Items 1 to 3 go together, and 4 to 6: never one right after the other, so that transitions know nothing."""
    factors = np.zeros((NUM_ROWS, 2), np.float32)
    factors[1:4, 0] = factors[4:7, 1] = 0.5
    counted = memory("factors")
    known = Statistics(np.ones(NUM_ROWS, np.float32), Statistics.empty(NUM_ROWS).transitions)
    recalled = recall(counted, Histories.from_rows([[1, 2], [5]]), known, factors=ItemFactors(factors, factors * 0))
    np.testing.assert_allclose(amounts(recalled, "factors")[:, [3, 6]], [[0.5, 0], [0, 0.25]])


def test_of_a_hidden_item_only_what_its_content_lets_expect_is_read() -> None:
    counted, expected = np.ones((NUM_ROWS, 1), np.float32), np.full((NUM_ROWS, 1), 3, np.float32)
    hidden = np.arange(NUM_ROWS) == 2
    known = Statistics(np.ones(NUM_ROWS, np.float32), Statistics.empty(NUM_ROWS).transitions)
    histories = Histories.from_rows([[1], [2]])
    recalled = recall(memory("factors"), histories, known, factors=ItemFactors(counted, expected), hidden=hidden)
    np.testing.assert_array_equal(amounts(recalled, "factors")[:, [1, 2]], [[1, 3], [3, 9]])


def test_of_new_items_less_of_what_the_transformer_says_counts(train: Histories) -> None:
    counted = memory("transitions", "popularity")
    with torch.no_grad():
        counted.doubts.uniform_(-1, 1)
    recalled = recall(counted, train, Statistics.count(train, NUM_ROWS))
    is_new = recalled.known == 0
    said, silence = torch.randn(5, NUM_ROWS), torch.zeros(5, NUM_ROWS)
    trusted = scores(counted, recalled, said) - scores(counted, recalled, silence)
    counted.new_item_trust = 0.25
    found = scores(counted, recalled, said) - scores(counted, recalled, silence)
    assert is_new.any() and (~is_new).any()
    np.testing.assert_allclose(found[:, is_new], trusted[:, is_new] / 4, atol=1e-5)
    np.testing.assert_array_equal(found[:, ~is_new], trusted[:, ~is_new])


def test_half_the_trust_is_half_of_what_the_transformer_says(train: Histories) -> None:
    counted = memory("transitions", "popularity")
    with torch.no_grad():
        counted.doubts.uniform_(-1, 1)
    recalled = recall(counted, train, Statistics.count(train, NUM_ROWS))
    said, silence = torch.randn(5, NUM_ROWS), torch.zeros(5, NUM_ROWS)
    before = scores(counted, recalled, said) - scores(counted, recalled, silence)
    counted.trust_less(0.5)
    after = scores(counted, recalled, said) - scores(counted, recalled, silence)
    np.testing.assert_allclose(after, before / 2, atol=1e-5)


def test_what_was_learned_is_forgotten() -> None:
    counted = memory("transitions")
    with torch.no_grad():
        for weight in counted.parameters():
            weight.add_(1)
    counted.forget()
    assert counted.trust.bias.tolist() == [0.5] and counted.gate.tolist() == 0 and not counted.values.any()
