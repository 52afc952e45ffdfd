"""Word vectors of items: the information by hand, and likeness where there is some."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

import hfrec
from hfrec.data.histories import Histories
from hfrec.items.table import ItemTable
from hfrec.models.item2vec import shifted_information


def test_shifted_information_by_hand() -> None:
    together = np.array([[0, 0, 0], [0, 0, 4.0], [0, 4.0, 2.0]])
    drawn = np.array([0, 4**0.75, 6**0.75]) / (4**0.75 + 6**0.75)
    of_one, of_two = np.log(1 / drawn[2]), np.log(4 / (6 * drawn[1]))
    expected = [[0, 0, 0], [0, 0, of_one], [0, of_two, 0]]  # 2 with itself is less than chance: log(2 / (6 · .575)) < 0
    np.testing.assert_allclose(shifted_information(sparse.csr_array(together), 1).toarray(), expected, rtol=1e-6)
    assert shifted_information(sparse.csr_array(together), 2).nnz == 0, "log 2 is more than either"
    with pytest.raises(ValueError, match="`num_negatives` must be at least 1, got 0"):
        shifted_information(sparse.csr_array(together), 0)


def test_items_of_one_kind_of_history_are_alike_and_unknown_ones_are_nothing(shop_items: ItemTable) -> None:
    generator = np.random.default_rng(0)
    halves = [np.arange(1, 31), np.arange(31, 61)]
    train = Histories.from_rows([generator.permutation(halves[user % 2])[:8] for user in range(100)])
    vectors = hfrec.Item2Vec.fit(train, shop_items, vector_size=4).arrays["vectors"]
    assert vectors.shape == (121, 4) and vectors.dtype == np.float32
    lengths = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(lengths[1:61], 1, rtol=1e-5)
    np.testing.assert_array_equal(lengths[[0, *range(61, 121)]], 0)
    within = vectors[1:31] @ vectors[1:31].T
    across = vectors[1:31] @ vectors[31:61].T
    assert within.mean() > across.mean() + 0.2
