"""Likeness by vectors, against the plain definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import hfrec
from hfrec.data.histories import Histories
from hfrec.items.table import ItemTable
from hfrec.models.neighbours import unit_vectors


def test_an_item_without_a_picture_is_compared_by_its_text(train: Histories, shop_items: ItemTable) -> None:
    vectors, image = unit_vectors(shop_items), shop_items.present["image"].numpy()
    lacking = np.flatnonzero(~image)[1:]
    assert len(lacking) > 2
    scores = hfrec.VectorNeighbours.fit(train, shop_items).score(Histories.from_rows([[int(image.argmax())]]))[0]
    for row in lacking:
        plain = float(vectors["text"][image.argmax()] @ vectors["text"][row])
        assert float(scores[row - 1]) == pytest.approx(plain, abs=1e-5)


def test_a_history_is_weighted_over_all_that_can_be_compared(train: Histories, shop_items: ItemTable) -> None:
    history = [5, 9, 40]
    scores = hfrec.VectorNeighbours.fit(train, shop_items, decay=0.5).score(Histories.from_rows([history]))[0]
    weights = [0.25, 0.5, 1.0]
    for row in (1, 2, 3, 77):
        total = compared = 0.0
        for name, vectors in unit_vectors(shop_items).items():
            for weight, item in zip(weights, history, strict=True):
                if shop_items.present[name][item] and shop_items.present[name][row]:
                    total += weight * float(vectors[item] @ vectors[row])
                    compared += weight
        assert float(scores[row - 1]) == pytest.approx(total / compared * sum(weights), abs=1e-5)
    assert bool(torch.isfinite(scores).all())
