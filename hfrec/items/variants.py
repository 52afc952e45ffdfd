"""What an item may be read as beside its own text or picture: other languages, other words, another crop."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from hfrec.items.tensors import read_tensors

AUGMENTED = ""
"""The name of a variant that was made for training and is not kept."""


@dataclass(frozen=True, eq=False)
class Variants:
    """V more vectors of each item in one modality; an item need not have all of them.

    Attributes:
        names: of each variant (V,), a language or another source of texts, or `AUGMENTED`.
        vectors: (V, N+1, F), whitened as the item's own are; 0 where missing.
        present: (V, N+1) bool; `None` if every item that has the modality has every variant.
        offsets: (V, F) float32, what was taken from the vectors of each variant after whitening.
        drawn: whether training reads each of them (V,).
        own: whether a draw may be the item's own vector although it has a variant.
    """

    names: tuple[str, ...]
    vectors: Tensor
    present: Tensor | None
    offsets: Tensor
    drawn: tuple[bool, ...]
    own: bool = True

    @classmethod
    def augmented(cls, vectors: Tensor) -> Variants:
        """Variants (V, N+1, F) for training, which every item has."""
        offsets = torch.zeros(len(vectors), vectors.shape[-1], device=vectors.device)
        return cls((AUGMENTED,) * len(vectors), vectors, None, offsets, (True,) * len(vectors))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def named_ones(self) -> tuple[str, ...]:
        """The names of those that were not made for training alone."""
        return tuple(name for name in self.names if name != AUGMENTED)

    @property
    def taught_ones(self) -> tuple[str, ...]:
        """The names of those, not made for training alone, that training reads."""
        drawn = zip(self.names, self.drawn, strict=True)
        return tuple(name for name, is_drawn in drawn if is_drawn and name != AUGMENTED)

    def any_drawn(self, index: Tensor) -> Tensor:
        """Whether each row of `index` (…) has a variant that training reads."""
        drawn = torch.tensor(self.drawn, device=index.device)
        if self.present is None:
            return drawn.any().expand(index.shape)
        return self.present.to(index.device)[:, index][drawn].any(0)

    def draw(self, index: Tensor, own: Tensor) -> Tensor:
        """For each row of `index` (…) its `own` vector (…, F) or one of its variants, each as likely."""
        if self.present is None and all(self.drawn) and self.own:
            number = torch.randint(len(self) + 1, index.shape, device=index.device)
            return torch.where((number > 0).unsqueeze(-1), self.vectors[(number - 1).clamp(min=0), index], own)
        places = torch.tensor(self.drawn, device=index.device).nonzero().squeeze(1)
        if not len(places):
            return own
        there = (
            torch.ones(len(self), 1, dtype=torch.bool, device=index.device) if self.present is None else self.present
        )
        counts = there.expand(len(self), self.vectors.shape[1])[places][:, index].cumsum(0)
        # Of an item's c variants number 1 … c, or 0 for its own vector.
        chance = torch.rand(index.shape, device=index.device)
        number = (chance * (counts[-1] + 1)).long() if self.own else (chance * counts[-1]).long() + (counts[-1] > 0)
        place = places[(counts < number).sum(0).clamp(max=len(places) - 1)]
        return torch.where((number > 0).unsqueeze(-1), self.vectors[place, index], own)

    def instead(self, name: str, own: Tensor) -> Tensor:
        """The vectors (N+1, F) of the variant `name`, `own` where an item has none."""
        place = self.names.index(name)
        return own if self.present is None else torch.where(self.present[place][:, None], self.vectors[place], own)

    def mean(self, own: Tensor) -> Tensor:
        """The mean (N+1, F) of each item's `own` vector and of the variants that it has."""
        there = torch.ones_like(self.vectors[..., 0], dtype=torch.bool) if self.present is None else self.present
        total = own.float() + torch.einsum("vn,vnf->nf", there.float(), self.vectors.float())
        return (total / (1 + there.sum(0))[:, None]).to(own.dtype)

    def drawing(self, names: Collection[str]) -> Variants:
        """The same, of which training reads those called so."""
        return replace(self, drawn=tuple(name in names for name in self.names))

    def with_present(self, present: Tensor) -> Variants:
        """The same with a mask (V, N+1): that of the items (N+1,) for all, where there was none."""
        return self if self.present is not None else replace(self, present=present.expand(len(self), -1))

    def joined(self, other: Variants, present: Tensor) -> Variants:
        """These, and the `other` ones that are called otherwise.

        Args:
            present: (N+1,) bool, the items that have the modality.
        """
        old, new = self.with_present(present), other.with_present(present)
        assert old.present is not None and new.present is not None
        kept = [place for place, name in enumerate(old.names) if name == AUGMENTED or name not in new.names]
        return Variants(
            (*(old.names[place] for place in kept), *new.names),
            torch.cat([old.vectors[kept], new.vectors]),
            torch.cat([old.present[kept], new.present]),
            torch.cat([old.offsets[kept], new.offsets]),
            (*(old.drawn[place] for place in kept), *new.drawn),
        )

    def named(self) -> Variants | None:
        """Those that are kept with a table, or `None`: all but the augmented ones."""
        kept = [place for place, name in enumerate(self.names) if name != AUGMENTED]
        if not kept or self.present is None:
            return None
        names, drawn = (tuple(of[place] for place in kept) for of in (self.names, self.drawn))
        if len(kept) == len(self):
            return self
        return Variants(names, self.vectors[kept], self.present[kept], self.offsets[kept], drawn)

    def lengthened(self, num_rows: int) -> Variants:
        """The same for a table of so many rows; the new ones have no variant."""
        assert self.present is not None
        more = num_rows - self.vectors.shape[1]
        vectors = torch.cat([self.vectors, self.vectors.new_zeros(len(self), more, self.vectors.shape[2])], 1)
        return replace(
            self, vectors=vectors, present=torch.cat([self.present, self.present.new_zeros(len(self), more)], 1)
        )

    def changed(self, rows: Tensor, read: Mapping[int, tuple[Tensor, Tensor]]) -> Variants:
        """The same with other whitened vectors (A, F) and masks (A,) in `rows`, of some of the variants by their
        place."""
        assert self.present is not None
        all_vectors, all_present = self.vectors.clone(), self.present.clone()
        for place, (vectors, present) in read.items():
            moved = torch.where(present[:, None], vectors - self.offsets[place], 0.0)
            all_vectors[place, rows], all_present[place, rows] = moved.to(all_vectors.dtype), present
        return replace(self, vectors=all_vectors, present=all_present)

    def to(self, device: torch.device | str) -> Variants:
        """The same on `device`."""
        present = None if self.present is None else self.present.to(device)
        return replace(self, vectors=self.vectors.to(device), present=present, offsets=self.offsets.to(device))

    def arrays(self) -> dict[str, Tensor]:
        """What a file holds of named variants."""
        assert self.present is not None
        found = {"vectors": self.vectors, "present": self.present, "offsets": self.offsets}
        return {name: value.cpu().contiguous() for name, value in found.items()}


def read_variants(file: Path, names: Sequence[str], drawn: Sequence[bool], num_rows: int, width: int) -> Variants:
    """The variants that `Variants.arrays` are of.

    Raises:
        DataError: the file is missing or cut short, or holds something else.
    """
    number = len(names)
    shapes = {"vectors": (number, num_rows, width), "present": (number, num_rows), "offsets": (number, width)}
    return Variants(names=tuple(names), drawn=tuple(drawn), **read_tensors(file, shapes, f"the variants {list(names)}"))
