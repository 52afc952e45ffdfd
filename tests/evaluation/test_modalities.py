"""What was known of targets and of lists: shares counted by hand."""

from __future__ import annotations

import numpy as np
import torch

from hfrec.data.catalog import Catalog
from hfrec.evaluation.evaluator import Evaluation
from hfrec.evaluation.modalities import modality_shares
from hfrec.items.table import ItemTable


def test_shares_are_counted_by_what_an_item_has() -> None:
    catalog = Catalog.from_frame([{"item_id": number, "title": "x"} for number in range(1, 5)])
    # Item 1 has both, 2 a text, 3 a picture, 4 nothing.
    present = {"text": torch.tensor([0, 1, 1, 0, 0]).bool(), "image": torch.tensor([0, 1, 0, 1, 0]).bool()}
    vectors = {name: torch.eye(5, 3) for name in present}
    items = ItemTable.from_arrays(catalog, vectors, present, {})
    judged = Evaluation(
        ranks=np.zeros(5, np.int64),
        lists=np.array([[1, 2, 4], [3, 0, 0], [1, 1, 1], [2, 3, 1], [4, 4, 4]]),
        users=np.arange(5),
        target_rows=np.array([1, 1, 2, 3, 4]),
        candidates=np.arange(1, 5),
        slices={"all": np.ones(5, bool)},
        ks=(2,),
        repeated_targets=0,
    )
    shares = modality_shares(judged, items, k=2)
    assert shares["targets"] == {"nothing": 0.2, "image": 0.2, "text": 0.2, "text + image": 0.4}
    # Of the first two places one is empty: 1 2, 3, 1 1, 2 3, 4 4.
    assert shares["lists"] == {"nothing": 2 / 9, "image": 2 / 9, "text": 2 / 9, "text + image": 3 / 9}
    assert modality_shares(judged, items, k=3)["lists"]["nothing"] == 4 / 13
