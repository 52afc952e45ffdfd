"""The item encoder of a saved recommender: fetched and read when it is first wanted, if the recommender names it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfrec.data.schema import DataError
from hfrec.items.encoder import ItemEncoder

if TYPE_CHECKING:
    from hfrec.models.artifact import Artifact

ITEM_ENCODER = "item_encoder"


@dataclass(frozen=True)
class LateEncoder:
    """An item encoder that is not read yet.

    Attributes:
        allowed: encoders that may be loaded though `config.json` does not name them.
    """

    artifact: Artifact
    allowed: frozenset[str] = frozenset()

    def read(self) -> ItemEncoder:
        """The encoder; its weights are loaded when it first encodes.

        Raises:
            DataError: it names an encoder that neither `config.json` nor the caller does.
        """
        folder = self.artifact.require(ITEM_ENCODER) / ITEM_ENCODER
        encoder = ItemEncoder.from_pretrained(folder)
        named = self.artifact.config().get("encoders") or {}
        for modality, name in encoder.labels.items():
            if name not in self.allowed and name != named.get(modality):
                raise DataError(
                    f"{folder} names the {modality} encoder {name!r}, {self.artifact.folder / 'config.json'} names "
                    f"{named.get(modality)!r}. If you trust it, allow it: `from_pretrained(…, encoders=[{name!r}])`."
                )
        return encoder

    def save_pretrained(self, folder: Path) -> None:
        """Write what the recommender was saved with, as it is."""
        shutil.copytree(self.artifact.require(ITEM_ENCODER) / ITEM_ENCODER, folder, symlinks=False)


class EncoderSlot:
    """The attribute `item_encoder` of a recommender: an `ItemEncoder`, `None`, or one that is read when wanted."""

    def __get__(self, model: Any, owner: type | None = None) -> Any:
        if model is None:
            return self
        held = self.held(model)
        if isinstance(held, LateEncoder):
            held = model.__dict__["_item_encoder"] = held.read()
        return held

    def __set__(self, model: Any, value: ItemEncoder | LateEncoder | None) -> None:
        model.__dict__["_item_encoder"] = value
        if isinstance(value, ItemEncoder):
            model.named_encoders = value.labels

    @staticmethod
    def held(model: Any) -> ItemEncoder | LateEncoder | None:
        """What is held, read or not."""
        return model.__dict__.get("_item_encoder")
