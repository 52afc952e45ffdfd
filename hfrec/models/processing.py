"""RecProcessor: histories become what RecModel reads; saved with every checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from transformers import BatchFeature, FeatureExtractionMixin

from hfrec.data.augmentation import Augmentation
from hfrec.data.collator import HistoryCollator, HistoryWindows, history_tokens
from hfrec.data.histories import Histories


class RecProcessor(FeatureExtractionMixin):
    """Cuts, pads and names the inputs of a `RecModel`.

    Attributes:
        max_history: newest events of a history that are read.
        event_types: names of event types, in the order of the model's table.
        item_ids: the items that have a row in the model's id table, in the order of its rows.
    """

    model_input_names: ClassVar[list[str]] = ["rows", "attention_mask", "gaps", "event_types"]

    def __init__(
        self,
        max_history: int = 50,
        event_types: Sequence[str] = (),
        item_ids: Sequence[Any] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.max_history = max_history
        self.event_types = list(event_types)
        self.item_ids = list(item_ids)

    def __call__(self, histories: Histories) -> BatchFeature:
        """Inputs `(B, L + 1)`: `rows`, `attention_mask`, `gaps` and `event_types`, padded on the left."""
        return BatchFeature(history_tokens(histories, self.max_history, ("", *self.event_types)))

    def collator(
        self, windows: HistoryWindows, augmentation: Augmentation | None = None, seed: int = 0
    ) -> HistoryCollator:
        """The collator that makes training batches of `windows` for this model."""
        return HistoryCollator(windows, ("", *self.event_types), augmentation, seed)
