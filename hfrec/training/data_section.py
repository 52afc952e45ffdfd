"""The `data` section of a run, and what it names: a catalogue, a cut log, an encoder and its vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from hfrec.data.catalog import Catalog
from hfrec.data.interactions import load_interactions
from hfrec.data.read import expand_path
from hfrec.data.splits import Splits, split_by_time, split_cold_items, split_leave_last
from hfrec.items.augmentation import with_variants
from hfrec.items.encoder import ItemEncoder
from hfrec.items.table import ItemTable
from hfrec.training.arguments import RecTrainingArguments

if TYPE_CHECKING:
    import polars as pl

_SPLITS = {"leave_last": split_leave_last, "by_time": split_by_time, "cold_items": split_cold_items}


@dataclass
class DataConfig:
    """The `data` section. `${VARIABLES}` in paths and encoder names are expanded.

    Attributes:
        name: what the data set is called in tables and cards.
        about: where the data come from and who is in them, for the card.
        licence: under which they may be used, for the card.
        interactions: the log: Parquet, CSV or JSON lines.
        items: the items table.
        images: a folder of `<item_id>.jpg`, or a column of the items table.
        text_columns: columns that make up an item's text, in order; by default those that hfrec knows.
        interaction_columns: new names of columns of the log, `{yours: hfrec's}`.
        item_columns: new names of columns of the items table.
        unknown_items: `error` or `drop` events of items that the items table lacks.
        min_rating: keep only events with at least this rating.
        duplicates: of several events of a user with an item keep `keep` (all), `first` or `last`.
        user_core: drop users with fewer events.
        item_core: drop items with fewer events.
        split: `leave_last`, `by_time` or `cold_items`.
        user_share: learn from so many of the users, such as 0.1: training, validation and counts know no other; the
            test part is of all users.
        candidates: rank the items of the log (`interactions`) or `all` of the items table.
        text_encoder: an encoder's Hub id, folder or `package:` name; `null` for none.
        image_encoder: the same for pictures.
        audio_encoder: the same for sounds, which the column `audio` of the items table names.
        max_text_tokens: longer texts are cut.
        encoder_batch_size: inputs that are encoded at once.
        encoder_processes: processes that encode.
        variants: how often each item is encoded once more, its text and picture augmented; training draws one of them.
        cache: folder in which vectors are kept, by content.
    """

    name: str
    interactions: str
    items: str
    images: str | None = None
    text_columns: list[str] | None = None
    interaction_columns: dict[str, str] = field(default_factory=dict)
    item_columns: dict[str, str] = field(default_factory=dict)
    unknown_items: Literal["error", "drop"] = "error"
    min_rating: float | None = None
    duplicates: Literal["keep", "first", "last"] = "keep"
    user_core: int = 0
    item_core: int = 0
    split: Literal["leave_last", "by_time", "cold_items"] = "leave_last"
    user_share: float = 1.0
    candidates: Literal["interactions", "all"] = "interactions"
    text_encoder: str | None = None
    image_encoder: str | None = None
    audio_encoder: str | None = None
    max_text_tokens: int = 128
    encoder_batch_size: int = 64
    encoder_processes: int = 1
    variants: int = 0
    cache: str | None = None
    about: str | None = None
    licence: str | None = None


def load_data(data: DataConfig) -> tuple[Catalog, Splits]:
    """The catalogue and the cut log that the `data` section names."""
    catalog = load_items(data)
    return catalog, _SPLITS[data.split](load_events(data, catalog)).of_users(data.user_share)


def load_items(data: DataConfig) -> Catalog:
    """The items table that the `data` section names."""
    images = data.images
    if images is not None and ("/" in images or "$" in images):
        images = str(expand_path(images))
    return Catalog.from_file(data.items, images=images, text_columns=data.text_columns, columns=data.item_columns)


def load_events(data: DataConfig, catalog: Catalog) -> pl.DataFrame:
    """The log that the `data` section names, of items of `catalog`."""
    return load_interactions(
        data.interactions,
        columns=data.interaction_columns,
        catalog=catalog,
        unknown_items=data.unknown_items,
        min_rating=data.min_rating,
        duplicates=data.duplicates,
        user_core=data.user_core,
        item_core=data.item_core,
    )


def make_encoder(data: DataConfig) -> ItemEncoder | None:
    """The encoder that the `data` section names, or `None` for ids alone."""
    if data.text_encoder is None and data.image_encoder is None and data.audio_encoder is None:
        return None
    text, image, audio, cache = (
        value and str(expand_path(value))
        for value in (data.text_encoder, data.image_encoder, data.audio_encoder, data.cache)
    )
    encoder = ItemEncoder(
        text=text,
        image=image,
        audio=audio,
        max_text_tokens=data.max_text_tokens,
        batch_size=data.encoder_batch_size,
        processes=data.encoder_processes,
        cache_dir=cache,
    )
    # Reading what tells encoders apart finds one that is missing now, not after an hour of encoding with the other.
    _ = encoder.fingerprint
    return encoder


def encode_items(
    catalog: Catalog, encoder: ItemEncoder | None, arguments: RecTrainingArguments, variants: int = 0
) -> ItemTable:
    """The catalogue's vectors, and so many `variants` of them, or its ids alone; one process encodes, the others read
    what it cached.

    Raises:
        ValueError: variants without an encoder.
    """
    if encoder is None:
        if variants:
            raise ValueError(f"`variants` are of what an encoder reads, and none is named; got {variants}.")
        return ItemTable.of_ids(catalog)
    with arguments.main_process_first(desc="encode"):
        items = encoder.encode(catalog)
        return with_variants(items, encoder, variants) if variants else items
