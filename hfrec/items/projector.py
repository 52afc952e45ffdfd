"""A space that modalities share: where a text lies near the picture of the same item."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from hfrec.data.files import array_header, read_arrays
from hfrec.data.schema import DataError
from hfrec.items.table import ItemTable
from hfrec.items.whitening import unwhitening, whitening_hash

PROJECTOR_FILE = "projector.safetensors"
logger = logging.getLogger(__name__)
_MOST = 4096
"""Numbers of a shared space, at most."""


@dataclass(frozen=True, eq=False)
class Projector:
    """One linear map for each modality, from its whitened vectors into one space of S numbers.

    Attributes:
        maps: for each modality (F, S) float32.
        whitenings: for each modality the hash of the centre and the whitening that its vectors must have.
    """

    maps: dict[str, Tensor]
    whitenings: dict[str, str]

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(one)}" for name, one in self.maps.items())
        return f"Projector({sizes} → {next(iter(self.maps.values())).shape[1]})"

    @classmethod
    def of_table(cls, items: ItemTable, maps: dict[str, Tensor]) -> Projector:
        """The projector of these `maps`, for the vectors of `items`."""
        return cls(maps, _whitenings(items, tuple(maps)))

    @classmethod
    def untrained(cls, items: ItemTable, size: int = 128, seed: int = 0) -> Projector:
        """Random maps: what training starts from, and what it must be better than."""
        random = torch.Generator().manual_seed(seed)
        maps = {name: torch.randn(width, size, generator=random) * width**-0.5 for name, width in items.sizes.items()}
        return cls.of_table(items, maps)

    @classmethod
    def of_encoder(cls, items: ItemTable) -> Projector | None:
        """The space of an encoder that reads several modalities into one, such as a CLIP: each centred, its whitening
        undone; `None` where no two modalities of `items` are of one encoder."""
        made_by: dict[tuple[object, ...], list[str]] = {}
        for name, one in items.fingerprint.items():
            made_by.setdefault((one.get("content"), one.get("adapter"), items.sizes[name]), []).append(name)
        names = max(made_by.values(), key=len, default=[])
        if len(names) < 2:
            return None
        maps = {name: unwhitening(items.whitening[name]) for name in names}
        return cls.of_table(items, maps)

    def embed(self, modality: str, vectors: Tensor) -> Tensor:
        """Unit vectors (…, S) float32 of whitened ones (…, F); 0 stays 0."""
        return torch.nn.functional.normalize(vectors.float().cpu() @ self.maps[modality], dim=-1)

    def fits(self, items: ItemTable) -> bool:
        """Whether the vectors of `items` are whitened as those that this projector was fitted to."""
        return set(self.maps) <= set(items.modalities) and self.whitenings == _whitenings(items, tuple(self.maps))

    def check(self, items: ItemTable) -> None:
        """Raise `DataError` where it does not fit `items`."""
        if not self.fits(items):
            raise DataError(
                f"The projector must be fitted to the vectors of the catalogue; it is of other ones ({self!r}; the "
                f"catalogue has {items.sizes}). Fit it anew: `hfrec align`, or `hfrec.fit_projector(items)`."
            )

    def arrays(self) -> dict[str, Tensor]:
        """What `save` writes, by name."""
        hashes = {f"{name}.whitening": bytearray.fromhex(one) for name, one in self.whitenings.items()}
        return {f"{name}.map": one.contiguous() for name, one in self.maps.items()} | {
            name: torch.frombuffer(one, dtype=torch.uint8) for name, one in hashes.items()
        }

    def save(self, folder: str | Path) -> None:
        """Write `projector.safetensors` into `folder`."""
        save_file(self.arrays(), Path(folder) / PROJECTOR_FILE)

    @classmethod
    def load(cls, folder: str | Path, items: ItemTable) -> Projector:
        """The projector that `save` wrote, for the vectors of `items`; shapes are read from the header first.

        Raises:
            DataError: the file cannot be read, is no projector, or is one of other vectors.
        """
        path = Path(folder) / PROJECTOR_FILE
        names = sorted({name.rpartition(".")[0] for name in array_header(path)})
        if len(names) < 2 or not set(names) <= set(items.modalities):
            raise DataError(
                f"The projector in {path} must map two or more of the modalities {list(items.modalities)}, got {names}."
            )
        shapes = {f"{name}.map": (items.sizes[name], None) for name in names}
        arrays = read_arrays(path, shapes | {f"{name}.whitening": (32,) for name in names})
        maps = {name: arrays[f"{name}.map"] for name in names}
        if set(arrays) != {f"{name}.{kind}" for name in names for kind in ("map", "whitening")}:
            raise DataError(
                f"The projector in {path} must hold a map and a hash for each modality, got {sorted(arrays)}."
            )
        sizes = {one.shape[1] for one in maps.values()}
        if len(sizes) > 1 or not 1 <= min(sizes) <= _MOST or any(one.dtype != np.float32 for one in maps.values()):
            raise DataError(
                f"The maps in {path} must lead into one space of 1 to {_MOST} float32 numbers, got "
                f"{ {name: (one.shape[1], str(one.dtype)) for name, one in maps.items()} }."
            )
        hashes = {name: arrays[f"{name}.whitening"].astype(np.uint8).tobytes().hex() for name in names}
        projector = cls({name: torch.from_numpy(one) for name, one in maps.items()}, hashes)
        projector.check(items)
        return projector


def fitting(projector: Projector | None, items: ItemTable) -> Projector | None:
    """`projector`, or `None` where it does not fit `items`, which is logged."""
    if projector is None or projector.fits(items):
        return projector
    logger.warning("%r is of other vectors and is left out: fit one to this catalogue", projector)
    return None


def _whitenings(items: ItemTable, names: tuple[str, ...]) -> dict[str, str]:
    return {name: whitening_hash(items.center[name], items.whitening[name]) for name in names}
