"""Several catalogues, each with its log, as one to be trained on: what is ranked and counted stays within its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl
import torch
from torch import Tensor

from hfrec.data.catalog import Catalog
from hfrec.data.collator import HistoryCollator
from hfrec.data.histories import Targets
from hfrec.data.schema import ITEM_ID, USER_ID, DataError
from hfrec.data.splits import Splits
from hfrec.items.table import ItemTable
from hfrec.training.resuming import EpochSampler


@dataclass(frozen=True, eq=False)
class Source:
    """One catalogue and its log.

    Attributes:
        name: what it is called; its ids begin with it in a mixture.
        items: encoded by the encoder of the others.
        splits: its log, cut.
    """

    name: str
    items: ItemTable
    splits: Splits


class Mixture:
    """Sources laid end to end.

    Attributes:
        sources: what it is made of.
        items: all items; a real id is `name/id`.
        splits: all logs; a user is `name/id`.
        starts: `(S + 1,)`, the items of source s are the rows `starts[s] + 1 … starts[s + 1]`.

    Raises:
        DataError: two sources of one name, none at all, or of different encoders.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        names = [source.name for source in sources]
        if not sources or len(set(names)) < len(names) or any("/" in name for name in names):
            raise DataError(f"A mixture needs sources of different names, without a slash, got {names}.")
        first = sources[0].items
        for source in sources:
            if source.items.fingerprint != first.fingerprint:
                raise DataError(
                    f"All sources must be encoded by one encoder; {source.name!r} is by {source.items.fingerprint}, "
                    f"{names[0]!r} by {first.fingerprint}."
                )
        self.sources = tuple(sources)
        self.starts = np.concatenate([[0], np.cumsum([len(source.items) for source in sources])])
        self.items, self.splits = _joined_items(sources), _joined_splits(sources)

    def __repr__(self) -> str:
        return f"Mixture({', '.join(f'{source.name}: {len(source.items):,} items' for source in self.sources)})"

    def sources_of(self, rows: np.ndarray) -> np.ndarray:
        """Which source each of the rows `(E,)`, 1 … N, is of."""
        found: np.ndarray = np.searchsorted(self.starts, rows, side="left") - 1
        return found

    @cached_property
    def known_rows(self) -> list[np.ndarray]:
        """For each source its rows with a training event, ascending."""
        rows = np.unique(self.splits.train_histories(self.items.catalog).rows)
        return [rows[self.sources_of(rows) == source] for source in range(len(self.sources))]

    def apart(self, targets: Targets) -> dict[str, Targets]:
        """`targets` by the name of their source, each among the candidates of that."""
        of_target, of_candidate = self.sources_of(targets.rows), self.sources_of(targets.candidates)
        return {
            source.name: Targets(
                targets.sequences,
                targets.users[of_target == place],
                targets.positions[of_target == place],
                targets.candidates[of_candidate == place],
            )
            for place, source in enumerate(self.sources)
            if (of_target == place).any()
        }


def shares(sizes: Sequence[int], temperature: float) -> np.ndarray:
    """The share of each source `(S,)` in training: by size^(1 / temperature). At 1 each event counts alike, at infinity
    each source.

    >>> shares([900, 100], 2.0).round(2).tolist()
    [0.75, 0.25]
    """
    powers = np.asarray(sizes, np.float64) ** (1 / temperature)
    found: np.ndarray = powers / powers.sum()
    return found


class MixtureSampler(EpochSampler):
    """Batches of one source each, of like lengths, as many of a source as its share says; by seed and epoch alone.

    A source whose share is above its size is gone through more than once an epoch, and one below it in part, with other
    windows the next time.

    Args:
        batch_size: windows of one step, over all processes.
        lengths: tokens of each window.
        owners: the source of each window `(W,)`.
        temperature: see `shares`.
    """

    def __init__(
        self,
        batch_size: int,
        lengths: list[int],
        owners: np.ndarray,
        temperature: float,
        seed: int,
        epoch: Callable[[], int],
    ) -> None:
        super().__init__(batch_size, lengths, seed, epoch)
        self.windows = [np.flatnonzero(owners == source) for source in range(int(owners.max(initial=0)) + 1)]
        sizes = [len(windows) for windows in self.windows]
        steps = max(len(lengths) // batch_size, 1)
        self.steps = np.maximum(np.round(shares(sizes, temperature) * steps), np.array(sizes) > 0).astype(int)

    def __len__(self) -> int:
        return int(self.steps.sum()) * self.batch_size

    def __iter__(self) -> Iterator[int]:
        epoch, lengths = self.epoch(), np.asarray(self.lengths)
        batches = []
        for windows, steps in zip(self.windows, self.steps, strict=True):
            # One long row of shuffles, of which each epoch takes the next piece.
            wanted = np.arange(epoch * steps * self.batch_size, (epoch + 1) * steps * self.batch_size)
            rounds, places = np.divmod(wanted, max(len(windows), 1))
            drawn = np.empty(len(wanted), np.int64)
            for one in np.unique(rounds):
                order = np.random.default_rng([self.seed, int(one)]).permutation(windows)
                drawn[rounds == one] = order[places[rounds == one]]
            chance = np.random.default_rng([self.seed, epoch]).random(len(drawn))
            # Like lengths together, yet other neighbours in each epoch.
            grouped = drawn[np.argsort(lengths[drawn] + chance * 2, kind="stable")]
            batches.extend(np.split(grouped, steps) if steps else [])
        for place in np.random.default_rng([self.seed, epoch, 1]).permutation(len(batches)):
            yield from batches[place].tolist()


@dataclass(frozen=True)
class MixtureCollator:
    """Batches of a `Mixture`: what `HistoryCollator` gives, and `candidates` `(C,)`, the known rows of their source.

    Attributes:
        inner: makes the batch.
        owners: the source of each window.
        known: the rows that compete, by source.
    """

    inner: HistoryCollator
    owners: np.ndarray
    known: Sequence[np.ndarray] = field(repr=False)

    def __call__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        [source] = set(self.owners[np.asarray(indices)].tolist())
        return {**self.inner(indices), "candidates": torch.from_numpy(self.known[source])}


def _joined_items(sources: Sequence[Source]) -> ItemTable:
    tables = [source.items for source in sources]
    ids = [f"{source.name}/{item_id}" for source in sources for item_id in source.items.catalog.item_ids]
    catalog = Catalog.from_frame(pl.DataFrame({ITEM_ID: ids}))

    def end_to_end(arrays: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.cat([arrays[0][name][:1], *(one[name][1:] for one in arrays)]) for name in arrays[0]}

    vectors, present = (end_to_end([getattr(one, part) for one in tables]) for part in ("vectors", "present"))
    # Each source is whitened by itself: centre and whitening of the first stand here for none.
    return ItemTable(catalog, vectors, present, tables[0].center, tables[0].whitening, tables[0].fingerprint)


def _joined_splits(sources: Sequence[Source]) -> Splits:
    frames = []
    for source in sources:
        named = ((pl.lit(f"{source.name}/") + pl.col(name).cast(pl.String)).alias(name) for name in (USER_ID, ITEM_ID))
        frames.append(source.splits.events.with_columns(*named))
    events = pl.concat(frames, how="diagonal_relaxed")
    protocol = "; ".join(f"{source.name}: {source.splits.protocol}" for source in sources)
    return Splits(events, protocol, {source.name: source.splits.report for source in sources})
