"""Item factors: the ridge regression that they stand for, and what content tells of those of new items."""

from __future__ import annotations

import numpy as np
import pytest

from hfrec.data.factors import Factorization, ItemFactors, fit_content, fit_factors
from hfrec.data.histories import Histories

NUM_ROWS = 13


def histories(num_users: int = 40, seed: int = 0) -> Histories:
    """Users who choose among the even items or among the odd ones."""
    rng = np.random.default_rng(seed)
    return Histories.from_rows(
        [rng.permutation(np.arange(1 + user % 2, NUM_ROWS, 2))[: rng.integers(2, 6)] for user in range(num_users)]
    )


def chosen(train: Histories) -> np.ndarray:
    matrix = np.zeros((len(train), NUM_ROWS))
    np.add.at(matrix, (train.owners, train.rows), 1)
    return matrix


def test_they_are_a_ridge_regression_of_histories_on_themselves() -> None:
    train = histories()
    matrix = chosen(train)
    factors = fit_factors(train, NUM_ROWS, num_factors=4)
    vectors = np.linalg.svd(matrix)[2][:4].T
    within = matrix @ vectors @ vectors.T
    ridge = 2 * np.linalg.svd(matrix)[1][3] ** 2
    expected = np.linalg.solve(matrix.T @ matrix + ridge * np.eye(NUM_ROWS), matrix.T @ within)
    np.testing.assert_allclose(factors @ factors.T, vectors @ vectors.T @ expected, atol=1e-5)


def test_who_chose_even_items_is_expected_to_go_on_so() -> None:
    factors = fit_factors(histories(), NUM_ROWS, num_factors=2)
    amount = (factors @ factors.T)[2]
    assert amount[4::2].min() > 0.01
    assert np.abs(amount[1::2]).max() < 1e-3


@pytest.mark.parametrize("rows", [[], [[1, 2, 3]]])
def test_too_little_to_factorize_gives_zeros_of_the_width_asked_for(rows: list[list[int]]) -> None:
    factors = fit_factors(Histories.from_rows(rows), NUM_ROWS, num_factors=3)
    assert factors.shape == (NUM_ROWS, 3)
    assert not factors.any()


def test_an_item_is_expected_to_be_what_the_others_tell() -> None:
    train = histories()
    rng = np.random.default_rng(1)
    content = np.column_stack([rng.normal(size=(NUM_ROWS, 3)), np.ones(NUM_ROWS)])
    popularity = np.bincount(train.rows, minlength=NUM_ROWS)
    popularity[12] = 0
    factors = fit_factors(train, NUM_ROWS, num_factors=2)
    mapped, expected = fit_content(factors, popularity, content)
    np.testing.assert_allclose(expected[12], content[12] @ mapped, atol=1e-6)

    known = np.flatnonzero(popularity)
    aims = factors[known] / ((popularity[known] / popularity[known].mean()) ** 0.75)[:, None]
    gram = content[known].T @ content[known]
    # Which ridge it was is read off the map; then every item is left out in turn.
    ridge = np.linalg.eigvalsh(gram).mean() * 10.0 ** np.arange(-3, 3.5, 0.5)
    fits = [np.linalg.solve(gram + one * np.eye(4), content[known].T @ aims) for one in ridge]
    ridge = ridge[np.argmin([np.abs(fit - mapped).max() for fit in fits])]
    for left_out, row in enumerate(known):
        kept = np.delete(np.arange(len(known)), left_out)
        features = content[known][kept]
        fit = np.linalg.solve(features.T @ features + ridge * np.eye(4), features.T @ aims[kept])
        np.testing.assert_allclose(expected[row], content[row] @ fit, atol=1e-5)


def test_content_that_tells_the_taste_finds_the_factors_of_a_new_item() -> None:
    train = histories(200)
    rows = np.arange(NUM_ROWS)
    content = np.column_stack([rows % 2, 1 - rows % 2]).astype(np.float32)
    content[0] = 0
    train = Histories.from_rows([history[history != 12] for history in (train[user] for user in range(len(train)))])
    factors = fit_factors(train, NUM_ROWS, num_factors=2)
    _, expected = fit_content(factors, np.bincount(train.rows, minlength=NUM_ROWS), content)
    assert not factors[12].any()
    assert (factors[2] @ expected[12]) > 10 * abs(factors[1] @ expected[12])


def test_without_content_nothing_is_expected() -> None:
    factors = fit_factors(histories(), NUM_ROWS, num_factors=2)
    mapped, expected = fit_content(factors, np.ones(NUM_ROWS), None)
    assert mapped.shape == (0, 2)
    assert not expected.any()


def test_what_is_not_known_is_expected() -> None:
    factors = ItemFactors(np.ones((3, 1), np.float32), np.zeros((3, 1), np.float32))
    np.testing.assert_array_equal(factors.where(np.array([0, 1, 0]))[:, 0], [0, 1, 0])


def test_what_is_expected_right_after_the_fit_is_told_by_the_other_items() -> None:
    """And of a catalogue that came later by the map, which such an item has a part in."""
    train = histories()
    content = np.column_stack([np.random.default_rng(1).normal(size=(NUM_ROWS, 3)), np.ones(NUM_ROWS)])
    fitted = Factorization.fit(train, NUM_ROWS, 2, content)
    _, alone = fit_content(fitted.factors, np.bincount(train.rows, minlength=NUM_ROWS), content)
    np.testing.assert_array_equal(fitted.of(content).expected, alone)
    loaded = Factorization.from_arrays(fitted.to_arrays(), NUM_ROWS)
    np.testing.assert_allclose(loaded.of(content).expected, content @ fitted.content_map, atol=1e-6)
    assert np.abs(alone[1:] - loaded.of(content).expected[1:]).max() > 1e-3
